"""The keys of another wallet in the place of a wallet's own: nothing is signed or kept, and what was is mended."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.party import Pair, balance_sat, new_wallet, psbt, snapshot
from support.protocol import UNJUDGED

import mpchan
from mpchan.bitcoin.signature import PrivateKey
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee as payee_protocol
from mpchan.channel import payer as payer_protocol
from mpchan.channel.construction.two_of_two import TwoOfTwo
from mpchan.errors import StorageError
from mpchan.party import payee, payer
from mpchan.party.backup import backup, restore
from mpchan.party.check.fsck import fsck
from mpchan.party.watch.watcher import Watcher
from mpchan.units import Amount
from mpchan.wallet.keys import Keys
from mpchan.wallet.wallet import Wallet

CAPACITY = 100_000


class Case:
    """An open channel, paid in, with a message of each kind at hand; and the keys of a stranger."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.name = pair.open(CAPACITY)
        self.request = pair.request(20_000).hex
        self.asked = pair.request(20_000, offer=pair.offer()).hex
        self.reply = pair.sign_refund(self.asked)
        self.pair.accept(pair.pay(self.name, 1000))
        self.update = pair.pay(self.name, 500)
        self.new = pair.offer()
        new_wallet(pair.directory / "stranger")

    def swap(self, wallet: Wallet) -> Path:
        """Put the stranger's keys in the place of a wallet's own, and open both wallets anew."""
        path = wallet.directory / "keys.toml"
        shutil.copy(path, self.pair.directory / "kept")
        shutil.copy(self.pair.directory / "stranger" / "keys.toml", path)
        self.pair.restart()
        return path

    def put_back(self, path: Path) -> None:
        """The wallet's own keys again."""
        shutil.copy(self.pair.directory / "kept", path)
        self.pair.restart()


@pytest.fixture(scope="module")
def template(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with EmbeddedChain(chain_directory) as chain:
        yield Case(Pair(tmp_path_factory.mktemp("keys"), chain, coins=3))


@pytest.fixture
def fresh(chain_directory: Path, tmp_path: Path) -> Iterator[Case]:
    """One of its own on a chain of its own, for a story that mines."""
    with EmbeddedChain(tmp_path / "chain") as chain:
        yield Case(Pair(tmp_path / "fresh", chain, coins=3))


@pytest.fixture
def case(template: Case, tmp_path: Path) -> Case:
    """A copy of it."""
    mine = object.__new__(Case)
    mine.__dict__.update(template.__dict__)
    mine.pair = object.__new__(Pair)
    mine.pair.__dict__.update(template.pair.__dict__)
    mine.pair.directory = tmp_path / "pair"
    shutil.copytree(template.pair.directory, mine.pair.directory)
    mine.pair.restart()
    return mine


def _meter_accepts(case: Case) -> Any:
    with mpchan.Payee(case.pair.payee, chain=case.pair.chain) as meter:
        return meter.accept(case.update)


def _meter_pays(case: Case) -> Any:
    with mpchan.Payer(case.pair.payer, case.name, chain=case.pair.chain) as meter:
        return meter.pay(100)


Deed = Callable[[Case], Any]

PAYEES: dict[str, Deed] = {
    "accept": lambda case: case.pair.accept(case.update),
    "accept --stream": _meter_accepts,
    "settle FILE": lambda case: case.pair.settle(case.settlement),  # type: ignore[attr-defined]
    "sign-refund": lambda case: case.pair.sign_refund(case.request),
    "sign-refund again": lambda case: case.pair.sign_refund(case.asked),
}
OTHERS: dict[str, Deed] = {"accept settlement": lambda case: case.pair.accept(case.settlement)}  # type: ignore[attr-defined]
PAYERS: dict[str, Deed] = {
    "pay": lambda case: case.pair.pay(case.name, 100),
    "pay --stream": _meter_pays,
    "pay --total": lambda case: payer.pay_up_to(case.pair.payer, case.pair.chain, case.name, Amount(9000)),
    "pay --last": lambda case: payer.pay_last(case.pair.payer, case.pair.chain, case.name),
    "settle": lambda case: case.pair.settlement(case.name, 9000),
    "fund": lambda case: case.pair.fund(case.reply, send=False),
}
COMMANDS = [("payee", deed) for deed in PAYEES] + [("payer", deed) for deed in PAYERS]


def _run(case: Case, role: str, deed: str) -> Any:
    return {**OTHERS, **(PAYEES if role == "payee" else PAYERS)}[deed](case)


def _prepare(case: Case, deed: str) -> None:
    if deed == "settle FILE":
        case.settlement = case.pair.settlement(case.name, 2000)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("role", "deed"), COMMANDS)
def test_no_command_signs_with_the_keys_of_another_wallet(case: Case, role: str, deed: str) -> None:
    _prepare(case, deed)
    wallet = case.pair.payee if role == "payee" else case.pair.payer
    keys = case.swap(wallet)
    before = case.pair.files()
    with pytest.raises(StorageError) as caught:
        _run(case, role, deed)
    assert (caught.value.slug, caught.value.exit_code) == ("wrong-keys", 7)
    assert str(keys) in caught.value.message
    assert {name: data for name, data in case.pair.files().items() if not name.endswith(".queue")} == before
    case.put_back(keys)
    # all copies share one chain, so that nothing is broadcast here
    _run(case, role, "accept settlement" if deed == "settle FILE" else deed)
    assert fsck(case.pair.payee).exit_code == fsck(case.pair.payer).exit_code == 0


def test_what_signs_nothing_needs_no_keys(fresh: Case) -> None:
    pair = fresh.pair
    fresh.swap(pair.payee)
    fresh.swap(pair.payer)
    pair.mine_to(pair.terms(fresh.name).refund_lock_time.value)
    pair.refund(fresh.name)
    assert pair.status(fresh.name)[0] == "refunding"


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_restored_wallet(case: Case, tmp_path: Path, encrypted: bool) -> None:
    """Of another wallet that has the same passphrase, too."""
    words = "a passphrase of both" if encrypted else None
    wallets = [case.pair.payee, Wallet.open(case.pair.directory / "stranger")]
    if words is not None:
        for wallet in wallets:
            wallet.fresh_keys().encrypt(words)
    backup(case.pair.payee, tmp_path / "backup", words)
    restore((tmp_path / "backup").read_bytes(), tmp_path / "again", lambda attempt: attempt(words or ""))

    def opened() -> Wallet:
        return Wallet.open(tmp_path / "again", lambda attempt: attempt(words or ""))

    assert payee.accept(opened(), case.pair.chain, psbt(case.update)).paid_sat == 1500
    shutil.copy(wallets[1].directory / "keys.toml", tmp_path / "again" / "keys.toml")
    before = snapshot(tmp_path / "again")
    with pytest.raises(StorageError) as caught:
        payee.accept(opened(), case.pair.chain, psbt(case.pair.pay(case.name, 100)))
    assert caught.value.slug == "wrong-keys"
    assert snapshot(tmp_path / "again") == before


# what an earlier program has stored so ------------------------------------------------------------


@pytest.fixture
def trusting() -> Iterator[Callable[[], None]]:
    """A program that compares no key, as there was one, and that no judge looks upon; ``trusting()`` ends that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keys, "_fitting", lambda keys, key, stated, what: key)
        patch.setattr(TwoOfTwo, "complete", UNJUDGED)
        yield patch.undo


@pytest.mark.parametrize("kind", ["update", "settlement"])
def test_the_payees_money_is_saved(fresh: Case, trusting: Callable[[], None], kind: str) -> None:
    pair = fresh.pair
    message = fresh.update if kind == "update" else pair.settlement(fresh.name, 2000)
    keys = fresh.swap(pair.payee)
    assert pair.accept(message).received_sat > 0
    trusting()
    fresh.put_back(keys)
    pair.mine_to(pair.terms(fresh.name).refund_lock_time.value - 3)
    before = pair.files()
    with pytest.raises(StorageError) as caught:
        pair.settle(name=fresh.name)
    assert (caught.value.slug, "fsck --repair" in str(caught.value.hint)) == ("stored-witness", True)
    [finding] = [s for s in _watched(pair.payee, pair.chain) if s.name == fresh.name]
    assert finding.alarm is not None
    assert finding.alarm.slug == "stored-witness"
    found = fsck(pair.payee, fresh.name)
    assert found.exit_code == 7
    assert pair.files() == before

    keys = fresh.swap(pair.payee)
    assert fsck(pair.payee, fresh.name, repair=True).exit_code == 7
    fresh.put_back(keys)
    assert pair.files() == before

    mended = fsck(pair.payee, fresh.name, repair=True)
    assert (mended.exit_code, mended.subjects[0].repaired) == (0, (SAID,))
    pair.restart()
    held = balance_sat(pair.payee, pair.chain)
    paid = pair.settle(name=fresh.name).paid_sat
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) - held == paid == (1500 if kind == "update" else 2000)
    assert fsck(pair.payee, fresh.name).exit_code == 0


SAID = "signed again what the keys of another wallet had signed"


def _watched(wallet: Wallet, chain: EmbeddedChain) -> Any:
    return Watcher(wallet, chain, once=True).round(lambda finding: None).findings


def test_the_payers_way_back_is_saved(fresh: Case, trusting: Callable[[], None]) -> None:
    """The refund was completed with a wrong key; the coins are not found with it, so the funding is not signed."""
    pair = fresh.pair
    keys = fresh.swap(pair.payer)
    with pytest.raises(StorageError) as caught:
        pair.fund(fresh.reply)
    assert caught.value.slug == "foreign-coin"
    trusting()
    fresh.put_back(keys)
    before = pair.files()
    with pytest.raises(StorageError) as caught:
        pair.fund(fresh.reply)
    assert caught.value.slug == "stored-witness"
    assert pair.files() == before
    mended = fsck(pair.payer, repair=True)
    assert [s.repaired for s in mended.subjects if s.repaired] == [(SAID,)]
    assert mended.exit_code == 0
    pair.restart()
    pair.fund(fresh.reply)
    pair.chain.mine(1)
    name = next(
        n
        for n in pair.payer.channels.names()
        if pair.payer_record(n).terms.capacity.sat == 20_000
        and isinstance(pair.payer_record(n).state, payer_protocol.Funded)
    )
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


def test_the_payers_payments_are_signed_again(case: Case, trusting: Callable[[], None]) -> None:
    pair = case.pair
    keys = case.swap(pair.payer)
    bad = pair.pay(case.name, 100)
    trusting()
    case.put_back(keys)
    found = fsck(pair.payer, case.name)
    broken = [rule.rule for rule in found.subjects[0].rules if not rule.ok]
    assert broken == ["journal-message"]
    mended = fsck(pair.payer, case.name, repair=True)
    assert (mended.exit_code, mended.subjects[0].repaired) == (0, (SAID,))
    again = payer.pay_last(pair.payer, pair.chain, case.name)
    assert again.hex != bad
    assert pair.accept(again.hex).paid_sat == 1600
    assert fsck(pair.payer, case.name).exit_code == 0


# a machine that reckons wrongly -------------------------------------------------------------------


@pytest.mark.parametrize(("role", "deed"), COMMANDS)
def test_a_signature_that_is_not_valid_is_never_kept(
    case: Case, role: str, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(case, deed)
    before = case.pair.files()
    sign = PrivateKey.sign
    monkeypatch.setattr(PrivateKey, "sign", lambda key, digest: sign(key, bytes(32)))
    with pytest.raises(StorageError) as caught:
        _run(case, role, deed)
    assert (caught.value.slug, caught.value.exit_code) == ("own-signature", 7)
    kept = {name: data for name, data in case.pair.files().items() if not name.endswith(".queue")}
    if deed == "sign-refund":  # the offer is marked before its refund is signed: it serves no other any more
        kept = {name: data for name, data in kept.items() if "/offers/" not in name}
        before = {name: data for name, data in before.items() if "/offers/" not in name}
    assert kept == before


def test_a_funding_is_not_signed_wrongly(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = case.pair
    sign = PrivateKey.sign
    with monkeypatch.context() as patch:
        calls: list[bytes] = []

        def fails_later(key: PrivateKey, digest: bytes) -> bytes:
            calls.append(digest)
            return sign(key, digest if len(calls) == 1 else bytes(32))

        patch.setattr(PrivateKey, "sign", fails_later)
        with pytest.raises(StorageError) as caught:
            pair.fund(case.reply)
    assert caught.value.slug == "own-signature"
    pair.restart()
    pair.fund(case.reply)


def test_states_of_both_roles_are_as_they_were(case: Case) -> None:
    """Signing again is asked for nothing that is good."""
    before = case.pair.files()
    for wallet in (case.pair.payee, case.pair.payer):
        assert fsck(wallet, repair=True).exit_code == 0
    assert case.pair.files() == before
    assert isinstance(case.pair.payee_record(case.name).state, payee_protocol.Active)
