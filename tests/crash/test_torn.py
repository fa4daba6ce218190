"""A file of a wallet that was cut, at any length: it is named, nothing is guessed, and the other channels go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge_wallet
from support.party import Pair

import mpchan
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.construction.registry import CONSTRUCTIONS
from mpchan.errors import MpchanError, NotPossible
from mpchan.party import coins, payer, views
from mpchan.party.check.fsck import fsck
from mpchan.party.history import history
from mpchan.party.opening.external import plan_channel
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet


class Torn:
    """A payer's wallet with two channels, a plan and a sent transaction; its files can be cut and put back."""

    def __init__(self, directory: Path, chain: EmbeddedChain) -> None:
        self.pair = Pair(directory, chain, coins=3)
        self.first = self.pair.open()
        self.second = self.pair.open()
        for name in (self.first, self.second):
            self.pair.accept(self.pair.pay(name, 1000))
        plan_channel(self.pair.payer, chain, self.pair.offer(), Amount(100_000))
        script = self.pair.payer.keys.script("receive", 0)
        coins.send(self.pair.payer, chain, script, Amount(5000))
        self.kept = directory / "kept"
        shutil.copytree(self.pair.payer.directory, self.kept)

    def cut(self, path: Path, length: int) -> None:
        """Cut a file of the payer's wallet, and start the program anew."""
        data = (self.kept / path.relative_to(self.pair.payer.directory)).read_bytes()
        path.write_bytes(data[:length])

    def put_back(self) -> None:
        shutil.rmtree(self.pair.payer.directory)
        shutil.copytree(self.kept, self.pair.payer.directory)

    def wallet(self) -> Wallet:
        return Wallet.open(self.pair.payer.directory)


@pytest.fixture(scope="module")
def torn(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Torn]:
    with EmbeddedChain(chain_directory) as chain:
        yield Torn(tmp_path_factory.mktemp("torn"), chain)


def lengths(path: Path) -> list[int]:
    """Every length near both ends, and some between; never the whole."""
    size = path.stat().st_size
    return sorted({*range(min(size, 3)), *range(0, size, max(1, size // 24)), *range(max(0, size - 3), size)})


def error_of(call: Any) -> MpchanError | None:
    try:
        call()
    except MpchanError as error:
        return error
    return None


def test_a_torn_state_file_costs_its_channel_at_most(torn: Torn) -> None:
    """It is named; the other channel pays on; the payments of this one are as they were, or it is refused."""
    path = torn.pair.payer.directory / "channels" / f"{torn.first}.json"
    whole = torn.wallet().channels.load(torn.first)
    for length in lengths(path):
        torn.cut(path, length)
        opened = torn.wallet()
        problems: list[str] = []
        failed = error_of(lambda opened=opened: opened.channels.load(torn.first))
        if failed is None:  # the last line feed
            assert opened.channels.load(torn.first) == whole, f"cut at {length}"
            continue
        views.balance(opened, torn.pair.chain, lambda name, error, to=problems: to.append(f"{name} {error}"))  # type: ignore[misc]
        assert failed.exit_code == 7, failed
        assert str(path) in failed.message
        assert len(problems) == 1
        assert torn.first in problems[0]
        again = payer.pay_last(opened, torn.pair.chain, torn.second)
        assert again.paid_sat == 1000
        assert path.stat().st_size == length, "it is left as it is"
        torn.put_back()


def test_a_torn_journal_is_an_append_that_never_was_or_damage(torn: Torn) -> None:
    """Without its last line whole, what was acknowledged is missing: that the state file tells is refused or kept."""
    path = torn.pair.payer.directory / "channels" / f"{torn.first}.journal"
    whole = torn.wallet().channels.load(torn.first)
    lines = path.read_bytes().splitlines(keepends=True)
    last = len(b"".join(lines[:-1]))
    for length in lengths(path):
        torn.cut(path, length)
        opened = torn.wallet()
        failed = error_of(lambda opened=opened: opened.channels.load(torn.first))
        if failed is None:
            record = opened.channels.load(torn.first)
            assert record == whole or length >= last, f"cut at {length}: a payment is forgotten"
        else:
            assert failed.exit_code == 7, failed
            assert torn.first in failed.message
        assert payer.pay_last(opened, torn.pair.chain, torn.second).paid_sat == 1000
        torn.put_back()


def test_a_torn_last_line_of_the_payee_takes_the_payment_again(torn: Torn) -> None:
    """The payee died before its append was whole: nobody was told, and the same message counts once."""
    pair = torn.pair
    update = pair.pay(torn.first, 500)
    path = pair.payee.directory / "channels" / f"{torn.first}.journal"
    before = path.read_bytes()
    assert pair.accept(update).received_sat == 500
    whole = path.read_bytes()
    added = len(whole) - len(before)
    for length in sorted({*range(0, added, max(1, added // 16)), added - 1}):
        path.write_bytes(whole[: len(before) + length])
        pair.restart()
        receipt = pair.accept(update)
        assert (receipt.received_sat, receipt.paid_sat, receipt.duplicate) == (500, 1500, False)
        assert pair.accept(update).duplicate is True
    torn.put_back()


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
@pytest.mark.parametrize("first", [True, False])
def test_a_torn_batch_of_the_payee_is_one_that_never_was(
    scheme: str, first: bool, chain_directory: Path, tmp_path: Path
) -> None:
    """Power is lost while a stream's batch is written, or before the file system has all of it.

    Whatever part is there, what the payee holds is complete, needs no key to be sent, and fsck agrees; nobody was told
    of the batch, so the payer's latest message takes it all, and the close pays it.
    """
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, scheme=scheme)
        name = pair.open()
        with mpchan.Payer(pair.payer, name, chain=chain) as paying:
            messages = [each.hex for each in paying.pay_many([1000] * 12)]
        count = 0 if first else 3
        held = 1000 * count
        path = pair.payee.directory / "channels" / f"{name}.journal"
        mpchan.Payee(pair.payee, chain=chain).accept_many(messages[:count])
        before = path.stat().st_size if count else 0
        mpchan.Payee(pair.payee, chain=chain).accept_many(messages[count:])
        whole = path.read_bytes()
        before = before or whole.index(b"\n") + 1  # behind the line that made the channel
        for length in [*range(before, len(whole), 211), *line_ends(whole, before)]:
            path.write_bytes(whole[:length])
            pair.restart()
            assert pair.payee_record(name).paid.sat == (12_000 if length == len(whole) else held), length
            found = fsck(pair.payee, name)
            broken = [rule.rule for rule in found.subjects[0].rules if not rule.ok]
            assert broken == ([] if length in (before, len(whole)) else ["journal-end"]), length
            if broken:
                assert fsck(pair.payee, name, repair=True).wrong == 0
                assert path.stat().st_size == before
        path.write_bytes(whole[: len(whole) - 5])
        pair.restart()
        assert judge_wallet(pair.payee.directory) == bool(held)
        again = pair.accept(payer.pay_last(pair.payer, chain, name).hex)
        assert (again.received_sat, again.paid_sat) == (12_000 - held, 12_000)
        events = [each for each in history(pair.payee, name).events if each.event == "accepted"]
        assert [each.hex for each in events] == [*messages[:count], messages[-1]]
        assert fsck(pair.payee, name).wrong == 0
        assert judge_wallet(pair.payee.directory) == 1
        pair.mine_to(
            pair.terms(name).refund_lock_time.value - 18
        )  # by then any update of the channel is final
        assert pair.settle(name=name).paid_sat == 12_000


def line_ends(data: bytes, start: int) -> list[int]:
    """Where each line behind an offset ends."""
    return [at + 1 for at in range(start, len(data)) if data[at : at + 1] == b"\n"]


def test_torn_settings_are_malformed_or_fewer(torn: Torn) -> None:
    """People edit them, so no checksum guards them; a limit may go missing, never another network or backend appear."""
    path = torn.pair.payer.directory / "wallet.toml"
    whole = torn.wallet().config
    for length in lengths(path):
        torn.cut(path, length)
        failed = error_of(torn.wallet)
        if failed is None:
            assert (torn.wallet().network, torn.wallet().config.chain) == (whole.network, whole.chain), length
        else:
            assert failed.exit_code == 3, failed
            assert "wallet.toml" in failed.message
        torn.put_back()


def test_torn_keys_are_named(torn: Torn) -> None:
    """Half a seed is no seed, and an index that lost a digit no index."""
    name = "keys.toml"
    path = torn.pair.payer.directory / name
    whole = path.read_text()
    for length in lengths(path):
        torn.cut(path, length)
        failed = error_of(lambda: torn.wallet().fresh_keys().script("receive", 0))
        if failed is None:
            assert equal(whole, path.read_text()), f"{name} cut at {length} is taken"
        else:
            assert failed.exit_code in (3, 7), failed
            assert name in failed.message, failed
        torn.put_back()


def equal(whole: str, part: str) -> bool:
    """Whether a TOML text says the same without its end, such as the last line feed or a comment."""
    import tomli

    return bool(tomli.loads(whole) == tomli.loads(part))


def test_a_torn_plan_or_sent_transaction_is_named(torn: Torn) -> None:
    home = torn.pair.payer.directory
    [plan] = (home / "plans").glob("*.json")
    [sent] = (home / "sent").glob("*.json")
    for path, read in (
        (plan, lambda: torn.wallet().plans.load(plan)),
        (sent, lambda: torn.wallet().sent.all()),
    ):
        whole = json.loads(path.read_text())
        for length in lengths(path):
            torn.cut(path, length)
            failed = error_of(read)
            if failed is None:
                assert json.loads(path.read_text()) == whole
            else:
                assert failed.exit_code == 7
                assert str(path) in failed.message
            assert payer.pay_last(torn.wallet(), torn.pair.chain, torn.second).paid_sat == 1000
            torn.put_back()


def test_a_torn_offer_is_named_and_the_others_serve(torn: Torn) -> None:
    payee = torn.pair.payee
    offers = sorted((payee.directory / "offers").glob("*.toml"))
    path, other = offers[0], offers[1]
    data = path.read_bytes()
    whole = payee.offers.load(path.stem)
    for length in lengths(path):
        path.write_bytes(data[:length])
        opened = Wallet.open(payee.directory)
        failed = error_of(lambda opened=opened: opened.offers.load(path.stem))
        if failed is None:
            assert opened.offers.load(path.stem) == whole, f"cut at {length}"
        else:
            assert not isinstance(failed, NotPossible)
            assert failed.exit_code == 7
            assert path.stem in failed.message
        assert opened.offers.load(other.stem).offer.offer_id == other.stem
    path.write_bytes(data)


def test_a_torn_index_of_the_embedded_chain_is_refused(bare: Path, tmp_path: Path) -> None:
    """SQLite notices most cuts; what it does not notice at once must not answer something else."""
    source = bare / "chain" / "index.sqlite3"
    data = source.read_bytes()
    with EmbeddedChain(bare / "chain") as chain:
        tip = chain.tip_hash()
    for number, length in enumerate(lengths(source)):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "index.sqlite3").write_bytes(data[:length])
        with EmbeddedChain(place) as chain:
            failed = error_of(chain.tip_hash)
            if failed is None:
                assert chain.tip_hash() == tip or length == 0, f"cut at {length}"
            else:
                assert failed.exit_code == 8
                assert failed.slug == "chain-index"
