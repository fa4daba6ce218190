"""``list`` shows the oldest channel first: by the journals, and within one second by the file of names."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.protocol import make_terms

from mpchan.bitcoin.network import REGTEST
from mpchan.channel import payee
from mpchan.wallet import batch, channel_files, names, past
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet.create(tmp_path / "wallet", REGTEST, ChainConfig())


def begun(wallet: Wallet, monkeypatch: pytest.MonkeyPatch, salt: int, time: float) -> str:
    """A channel whose first line was written at a time."""
    record = PayeeRecord(None, payee.Active(make_terms(salt=salt)))
    with monkeypatch.context() as patch:
        patch.setattr(batch.time, "time", lambda: time)  # type: ignore[attr-defined]
        wallet.channels.save(record, "refund-signed")
    return record.terms.name


@pytest.mark.parametrize("names", ["kept", "lost"])
def test_by_the_time_of_the_first_line(wallet: Wallet, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    times = (1_700_000_300, 1_700_000_100, 1_700_000_400, 1_700_000_200)
    made = {time: begun(wallet, monkeypatch, salt, time) for salt, time in enumerate(times)}
    for name in made.values():  # what happens later is of no account
        wallet.channels.save(wallet.channels.load(name), "again")
    if names == "lost":
        (wallet.directory / "channels" / "names").unlink()
    assert wallet.channels.oldest_first() == [made[time] for time in sorted(times)]


def test_in_one_second_by_the_file_of_names(wallet: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [begun(wallet, monkeypatch, salt, 1_700_000_000) for salt in range(12)]
    assert made != sorted(made)
    assert wallet.channels.oldest_first() == made


def test_a_journal_that_went_on_in_new_files(wallet: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest file counts, or what is left of it; its first line may be longer than one look."""
    young = begun(wallet, monkeypatch, 1, 1_600_000_500)
    old = begun(wallet, monkeypatch, 2, 1_600_000_000)
    monkeypatch.setattr(channel_files, "CLOSE_BYTES", 10)
    monkeypatch.setattr(names, "_FIRST_READ", 16)
    for _ in range(3):
        record = wallet.channels.load(old)
        wallet.channels.save(record, "again")
    closed = past.closed_files(wallet.channels.journal_path(old))
    assert len(closed) == 3
    assert wallet.channels.oldest_first() == [old, young]
    for path in closed:
        path.unlink()
    assert wallet.channels.oldest_first() == [young, old]  # its first line that is there is of today


@pytest.mark.parametrize("harm", [b"", b"no journal", b"no journal\n"])
def test_a_journal_that_tells_nothing_comes_first(
    wallet: Wallet, monkeypatch: pytest.MonkeyPatch, harm: bytes
) -> None:
    good = begun(wallet, monkeypatch, 1, 1_500_000_000)
    bad = begun(wallet, monkeypatch, 2, 1_600_000_000)
    path = wallet.channels.journal_path(bad)
    path.write_bytes(harm)
    assert wallet.channels.oldest_first() == [bad, good]
    path.unlink()
    assert wallet.channels.oldest_first() == [bad, good]
