"""The package as a program meets it: what it shows, and a whole story through ``mpchan.Wallet``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.foreign_wallet import P2WPKH, coin, payment, psbt_of, signed
from support.party import SHORT, new_wallet, psbt

import mpchan
from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import NotPossible, StorageError, UsageError
from mpchan.party import payee, payer
from mpchan.results.opening import OpenedAtOnce
from mpchan.units import Amount


def python(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", f"import mpchan, sys; {code}"], capture_output=True, check=True, text=True
    ).stdout


def test_the_package_shows_what_it_has_and_loads_nothing() -> None:
    assert python("print(*dir(mpchan))").split() == sorted(mpchan.__all__)
    loaded = "print(*(name for name in sys.modules if name.startswith('mpchan')))"
    assert python(loaded).split() == ["mpchan"]
    assert python("print(mpchan.errors.Refused.exit_code)").strip() == "4"
    text = python("help(mpchan)")
    for name in ("Wallet", "Payer", "Payee", "open(self, offer", "pay_up_to(self", "accept_many(self"):
        assert name in text
    with pytest.raises(AttributeError, match="has no attribute 'units2'"):
        _ = mpchan.units2


@pytest.fixture
def wallets(tmp_path: Path) -> tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet]:
    """A chain, a payee, and a payer with one confirmed coin."""
    chain = EmbeddedChain(tmp_path / "chain")
    bob, alice = (
        mpchan.Wallet(new_wallet(tmp_path / name).directory, chain=chain) for name in ("bob", "alice")
    )
    chain.faucet(address_to_script(alice.address().address, REGTEST), Amount(1_000_000))
    chain.mine(1)
    return chain, bob, alice


def test_a_channel_that_the_payer_begins_alone(
    wallets: tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet], tmp_path: Path
) -> None:
    """There is no refund request, so none is signed; a copy of the refund is refused where there is none yet."""
    chain, bob, alice = wallets
    with pytest.raises(UsageError):
        alice.open(bob.offer(**SHORT).toml, 100_000, refund_out=tmp_path / "refund.hex")
    assert not (tmp_path / "refund.hex").exists()
    offer = bob.offer(**SHORT, scheme="taproot").toml
    opened = alice.open(offer, 100_000, refund_out=tmp_path / "refund.hex")
    assert isinstance(opened, OpenedAtOnce)
    assert opened.broadcast
    assert (tmp_path / "refund.hex").exists()
    assert alice.open(offer, 100_000) == opened
    chain.mine(1)
    with alice.payer() as paying, bob.payee() as paid:
        assert paid.accept(paying.pay(1000).hex).paid_sat == 1000
        assert [answer.paid_sat for answer in paying.pay_many([10, 20])] == [1010, 1030]
        assert paid.accept(paying.last().hex).paid_sat == 1030
        closed = paid.settle()
    assert (closed.kind, closed.paid_sat, closed.broadcast) == ("update", 1030, True)


def test_a_channel_from_the_offer_to_the_close(
    wallets: tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet], tmp_path: Path
) -> None:
    chain, bob, alice = wallets
    opened = alice.open(bob.offer(**SHORT).toml, 100_000)
    funded = alice.fund(bob.sign_refund(opened.hex).hex, refund_out=tmp_path / "refund.hex")
    assert funded.broadcast
    assert (tmp_path / "refund.hex").exists()
    assert funded.hex is not None
    assert bob.take_funding(funded.hex).channel == opened.channel
    chain.mine(1)
    assert bob.wait("confirmed", opened.channel, timeout=0).status == "open"
    with alice.payer() as paying, bob.payee() as paid:
        assert paid.accept(paying.pay(1000).hex).paid_sat == 1000
        assert alice.balance().in_channels_sat == 99_000
        seen = []  # type: ignore[var-annotated]
        assert bob.watch(seen.append).going == 1
        assert [line.paid_sat for line in seen] == [1000]
        closed = paid.settle(paying.settle(2000).hex)
    assert (closed.kind, closed.paid_sat, closed.broadcast) == ("settlement", 2000, True)
    chain.mine(1)
    assert [line.status for line in bob.channels().channels] == ["closed"]
    assert alice.channel().status == "closed"
    assert bob.balance().confirmed_sat == 2000


def test_the_refund(wallets: tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet]) -> None:
    chain, bob, alice = wallets
    opened = alice.open(bob.offer(**SHORT).toml, 100_000)
    alice.fund(bob.sign_refund(opened.hex.encode()).hex)
    chain.mine(1)
    with pytest.raises(mpchan.errors.TooEarly):
        alice.refund()
    chain.mine(opened.refund_lock_time - chain.tip().height)
    assert alice.refund(opened.channel).broadcast


def test_it_does_what_the_commands_do(
    wallets: tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet],
) -> None:
    """The same request and the same signed refund come from the functions behind the commands."""
    chain, bob, alice = wallets
    offer = bob.offer(**SHORT).toml
    opened = alice.open(offer, 100_000)
    assert payer.open_channel(alice._files, chain, offer, Amount(100_000)) == opened
    signed = bob.sign_refund(opened.hex)
    assert payee.sign_refund(bob._files, chain, psbt(opened.hex)) == signed


def block_of_another_wallet() -> str:
    """The page's own lines."""
    page = (Path(mpchan.__file__).parent / "guide" / "python.md").read_text()
    [found] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if ".plan(" in block]
    return str(found)


def test_another_wallet_pays(
    wallets: tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the page of the guide says it, line by line, with a wallet in between that makes what the plan asks for."""
    chain, bob, alice = wallets
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"buyer": alice, "seller": bob, "offer": bob.offer(**SHORT)}
    first, *rest = block_of_another_wallet().splitlines()
    exec(first, names)
    output = TxOut(Amount(names["plan"].amount_sat), address_to_script(names["plan"].address, REGTEST))
    funding = payment(chain, [coin(chain, P2WPKH)], output)
    names["unsigned"] = psbt_of(chain, funding).to_hex()
    names["complete"] = signed(chain, funding).to_hex()
    exec("\n".join(rest), names)
    chain.mine(1)
    opened = names["opened"]
    assert opened.funding_txid == str(funding.txid)
    assert (tmp_path / "refund.hex").exists()
    assert bob.wait("confirmed", opened.channel, timeout=0).status == "open"
    with alice.payer() as paying, bob.payee() as paid:
        assert paid.accept(paying.pay(1000).hex).paid_sat == 1000


def test_any_wallet_pays_an_address(
    wallets: tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet], tmp_path: Path
) -> None:
    """The other block of the page, before and after the payment has come."""
    chain, bob, alice = wallets
    page = (Path(mpchan.__file__).parent / "guide" / "python.md").read_text()
    [found] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if ".recover(" in block]
    terms = {**SHORT, "scheme": "taproot", "max_refund_delay": 80}
    names: dict[str, Any] = {"buyer": alice, "offer": bob.offer(**terms)}
    exec(found, names)
    assert (names["place"].arrived, names["found"].arrived) == ((), ())
    chain.faucet(address_to_script(names["place"].address, REGTEST), Amount(50_000))
    exec(found, names)
    assert [arrival.what for arrival in names["place"].arrived] == ["channel"]
    assert names["found"].arrived == names["place"].arrived
    copy = tmp_path / "refund.hex"
    assert alice.open_external(names["offer"].toml, refund_out=copy) == names["place"]
    assert copy.exists()
    with pytest.raises(mpchan.errors.NotPossible) as caught:
        alice.plan(names["offer"].toml, 20_000)
    assert caught.value.slug == "no-opening-exchange"
    again = bob.offer(**terms)
    alice.open_external(again.toml)
    assert alice.abandon(again.offer_id).status == "abandoned"


def test_a_funding_of_nobodys_plan(wallets: tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet]) -> None:
    chain, _, alice = wallets
    funding = payment(chain, [coin(chain, P2WPKH)])
    with pytest.raises(NotPossible) as error:
        alice.open_funding(funding.to_hex())
    assert error.value.slug == "no-plan"


def test_an_opening_is_given_up(wallets: tuple[EmbeddedChain, mpchan.Wallet, mpchan.Wallet]) -> None:
    """In both roles; one whose money is locked is not."""
    chain, bob, alice = wallets
    before = alice.balance()
    opened = alice.open(bob.offer(**SHORT).toml, 100_000)
    bob.sign_refund(opened.hex)
    assert alice.balance().reserved_sat
    for wallet in (alice, bob):
        assert wallet.abandon(opened.channel).status == "abandoned"
        assert wallet.abandon(opened.channel[:8]).status == "abandoned"
    assert alice.balance() == before
    other = alice.open(bob.offer(**SHORT).toml, 100_000)
    alice.fund(bob.sign_refund(other.hex).hex)
    chain.mine(1)
    for wallet in (alice, bob):
        with pytest.raises(NotPossible):
            wallet.abandon(other.channel)


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_a_wallet_is_made_of_its_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str | None
) -> None:
    monkeypatch.setenv("MPCHAN_REGTEST", str(tmp_path / "chain"))
    made = mpchan.Wallet.create(tmp_path / "wallet", passphrase=passphrase)
    made.offer(**SHORT)
    file = tmp_path / "backup"
    with pytest.raises(StorageError, match="passphrase"):
        made.backup(file, "another" if passphrase is None else None)
    with pytest.raises(UsageError, match="lost with it"):
        made.backup(tmp_path / "wallet" / "backup", passphrase)
    assert not file.exists()
    written = made.backup(file, passphrase)
    assert (written.offers, written.encrypted) == (1, passphrase is not None)
    if passphrase is not None:
        with pytest.raises(StorageError):
            mpchan.Wallet.restore(file, tmp_path / "again")
    assert mpchan.Wallet.restore(str(file), tmp_path / "again", passphrase).void_offers == 1
    again = mpchan.Wallet(tmp_path / "again", passphrase=passphrase)
    assert again.address() == made.address()


def test_a_new_wallet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPCHAN_REGTEST", str(tmp_path / "chain"))
    made = mpchan.Wallet.create(tmp_path / "wallet", passphrase="secret")
    assert made.balance().to_dict() == {"confirmed_sat": 0, "unconfirmed_sat": 0, "in_channels_sat": 0}
    assert made.channels().channels == ()
    assert mpchan.Wallet(tmp_path / "wallet").address() != made.address()
    with pytest.raises(StorageError):
        mpchan.Wallet.create(tmp_path / "wallet")
