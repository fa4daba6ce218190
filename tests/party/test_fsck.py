"""``fsck`` and ``history``: what is wrong with a wallet's files is found, named and mended; what is right stays."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.party import Pair, snapshot
from support.protocol import replace, scheme_of, signed_message, unsigned_message

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee as payee_protocol
from mpchan.channel import payer as payer_protocol
from mpchan.errors import MpchanError, StorageError
from mpchan.party import payee, payer, syncing, views
from mpchan.party.check.fsck import fsck
from mpchan.party.history import history
from mpchan.results.channels import HistoryEvent
from mpchan.results.checks import FilesChecked
from mpchan.units import Amount
from mpchan.wallet import recovery
from mpchan.wallet.recovery import MOST_BEHIND
from mpchan.wallet.wallet import Wallet

Record = Any


class Lived:
    """A channel with five payments that were accepted, in two wallets; the funding was also handed over by file."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        # far from every deadline: other tests mine on this chain
        self.name = pair.open(min_refund_delay=2000, max_refund_delay=3000)
        funding = pair.payer_record(self.name).funding
        assert funding is not None
        payee.funding(pair.payee, pair.chain, funding)
        for amount in (1000, 200, 300, 400, 500):
            pair.accept(pair.pay(self.name, amount))
        self.offer = pair.offer()


@pytest.fixture(scope="module")
def lived(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    with EmbeddedChain(chain_directory) as chain:
        yield Lived(Pair(tmp_path_factory.mktemp("lived"), chain))


class Copy:
    """One of the two wallets, to be harmed."""

    def __init__(self, source: Wallet, folder: Path, name: str) -> None:
        shutil.copytree(source.directory, folder)
        self.name = name
        self.wallet = Wallet.open(folder)
        files = self.wallet.channels
        self.state, self.journal = files.state_path(name), files.journal_path(name)
        self.good: Record = self.wallet.channels.load(name)

    def lines(self) -> list[bytes]:
        return self.journal.read_bytes().splitlines(keepends=True)

    def check(self, **options: Any) -> FilesChecked:
        self.wallet = Wallet.open(self.wallet.directory)
        return fsck(self.wallet, **options)

    def broken(self, **options: Any) -> set[str]:
        """The slugs of all that is wrong; nothing is changed by asking."""
        before = snapshot(self.wallet.directory)
        found = self.check(**options)
        assert snapshot(self.wallet.directory) == before
        slugs = {rule.rule for subject in found.subjects for rule in subject.rules if not rule.ok}
        assert (found.exit_code, found.wrong > 0) == (7 if slugs else 0, bool(slugs))
        return slugs

    def repaired(self) -> list[str]:
        found = self.check(repair=True)
        assert found.exit_code == 0, found
        assert self.broken() == set()
        assert self.check(repair=True).warnings == ()  # once is enough
        return [line for subject in found.subjects for line in subject.repaired]


@pytest.fixture(params=["payer", "payee"])
def copy(lived: Lived, tmp_path: Path, request: pytest.FixtureRequest) -> Copy:
    return Copy(getattr(lived.pair, request.param), tmp_path / "wallet", lived.name)


@pytest.fixture
def payers(lived: Lived, tmp_path: Path) -> Copy:
    return Copy(lived.pair.payer, tmp_path / "wallet", lived.name)


@pytest.fixture
def payees(lived: Lived, tmp_path: Path) -> Copy:
    return Copy(lived.pair.payee, tmp_path / "wallet", lived.name)


def bent(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# nothing is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["settled", "claimed", "refunded", "abandoned"])
def test_a_wallet_that_nobody_harmed_is_clean_at_every_step(
    chain_directory: Path, tmp_path: Path, end: str
) -> None:
    def clean() -> None:
        for wallet in (pair.payer, pair.payee):
            before = snapshot(wallet.directory)
            for repair in (False, True):
                found = fsck(Wallet.open(wallet.directory), repair=repair)
                assert (found.exit_code, found.wrong, found.warnings) == (0, 0, ()), found
            assert snapshot(wallet.directory) == before

    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain)
        clean()
        request = pair.request()
        clean()
        name = f"{request.funding_txid}-0"
        reply = pair.sign_refund(request.hex)
        clean()
        if end == "abandoned":
            payer.abandon(pair.payer, chain, name)
            payee.abandon(pair.payee, chain, name)
            clean()
            return
        pair.fund(reply)
        chain.mine(1)
        clean()
        for amount in (1000, 300, 300):
            pair.accept(pair.pay(name, amount))
            clean()
        if end == "settled":
            pair.settle(pair.settlement(name, 2000))
        elif end == "claimed":
            pair.mine_to(pair.terms(name).refund_lock_time.value - 1)
            pair.settle(name=name)
        else:
            pair.mine_to(pair.terms(name).refund_lock_time.value)
            pair.refund(name)
        clean()


def test_it_says_what_it_looked_at(lived: Lived) -> None:
    found = fsck(lived.pair.payee)
    kinds = [subject.kind for subject in found.subjects]
    assert kinds == ["keys", "generation", "offer", "offer", "channel", "wallet"]
    [channel] = [subject for subject in found.subjects if subject.kind == "channel"]
    rules = [rule.rule for rule in channel.rules]
    assert rules[:4] == ["state-file", "journal", "journal-end", "journal-message"]
    assert {"wrong-keys", "stored-transaction", "signature", "funding-txid"} <= set(rules)
    one = fsck(lived.pair.payee, lived.name[:9])
    assert [subject.name for subject in one.subjects] == [lived.name]


def test_it_waits_for_nobody_unless_it_mends(payers: Copy) -> None:
    holder = Wallet.open(payers.wallet.directory)
    with holder.channels.lock(payers.name):
        assert payers.broken() == set()


# the state file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["bent", "empty", "cut", "zeros", "a diary", "another's"])
def test_a_state_file_is_rebuilt_from_its_journal(lived: Lived, copy: Copy, harm: str) -> None:
    data = copy.state.read_bytes()
    harmed = {
        "bent": bent(data, data.index(b"step") + 7),
        "empty": b"",
        "cut": data[:-30],
        "zeros": bytes(len(data)),
        "a diary": b"a diary",
        "another's": re.sub(b'"schema": [12]', b'"schema": 0', data),
    }[harm]
    copy.state.write_bytes(harmed)
    with pytest.raises(StorageError) as caught:
        copy.wallet.channels.load(copy.name)
    assert (caught.value.slug, "fsck --repair" in str(caught.value.hint)) == ("channel-damaged", True)
    assert copy.broken() == {"state-file"}
    [done] = copy.repaired()
    assert done.startswith("rebuilt the state file from the journal, the damaged one is kept as ")
    [kept] = copy.state.parent.glob("*.damaged-*")
    assert (kept.name in done, kept.read_bytes()) == (True, harmed)
    assert copy.wallet.channels.load(copy.name) == copy.good
    assert copy.wallet.channels.names() == lived.pair.payer.channels.names()


def test_a_state_file_that_is_gone_is_no_harm(copy: Copy) -> None:
    copy.state.unlink()
    assert copy.broken() == set()
    assert copy.wallet.channels.load(copy.name) == copy.good


def test_a_state_file_that_says_something_else_with_a_good_checksum(payers: Copy) -> None:
    """It was changed by somebody who knows how; the journal tells what happened."""
    body, position = recovery.load(payers.state.read_text())
    payers.state.write_text(recovery.dump({**body, "sends": False}, position))
    assert payers.broken() == {"state-file"}
    assert len(payers.repaired()) == 1
    assert payers.wallet.channels.load(payers.name) == payers.good


def test_a_repair_never_goes_back(payers: Copy) -> None:
    """A journal that knows of fewer payments than the state file is not what the state file was made from."""
    body, position = recovery.load(payers.state.read_text())
    body["update"] = {"number": 9, "paid_sat": 5000}
    payers.state.write_text(recovery.dump(body, position))
    assert "journal" in payers.broken()
    payers.check(repair=True)
    assert payers.wallet.channels.load(payers.name).updates >= 9


# the journal --------------------------------------------------------------------------------------


def test_an_unfinished_line_is_cut_off(copy: Copy) -> None:
    whole = copy.journal.read_bytes()
    copy.journal.write_bytes(whole + b'{"sha256":"00')
    assert copy.wallet.channels.load(copy.name) == copy.good
    assert copy.broken() == {"journal-end"}
    assert copy.repaired() == ["cut 13 bytes that were never finished off the journal"]
    assert copy.journal.read_bytes() == whole


def test_damage_before_the_state_file_costs_nothing_but_history(copy: Copy) -> None:
    first = copy.lines()[0]
    harmed = bent(copy.journal.read_bytes(), len(first) // 2)
    copy.journal.write_bytes(harmed)
    assert copy.wallet.channels.load(copy.name) == copy.good  # no command reads that far back
    assert copy.broken() == {"journal"}
    [done] = copy.repaired()
    assert done.startswith("began a new journal with what the state file holds, the damaged one is kept as ")
    [kept] = copy.journal.parent.glob("*.damaged-*")
    assert kept.read_bytes() == harmed
    assert copy.wallet.channels.load(copy.name) == copy.good
    assert b'"event":"restarted"' in copy.lines()[0]


@pytest.mark.parametrize("harm", ["missing", "empty", "cut short", "a line behind the state file"])
def test_a_journal_that_is_gone(lived: Lived, copy: Copy, harm: str) -> None:
    """What the state file holds is kept; what may be missing is said, and no number is used twice."""
    *most, last = copy.lines()
    if harm == "missing":
        copy.journal.unlink()
    elif harm == "a line behind the state file":
        copy.journal.write_bytes(b"".join(most[:-1]) + bent(most[-1], 200) + last)
    else:
        copy.journal.write_bytes(b"" if harm == "empty" else b"".join(most[:1]))
    with pytest.raises(StorageError) as caught:
        Wallet.open(copy.wallet.directory).channels.load(copy.name)
    assert caught.value.slug == "channel-damaged"
    assert copy.broken() == {"journal"}
    found = copy.check(repair=True)
    assert found.exit_code == 0
    [warning] = found.warnings
    assert f"up to {MOST_BEHIND} payments may be missing" in warning
    record: Record = copy.wallet.channels.load(copy.name)
    assert record.terms == copy.good.terms
    pair = lived.pair
    if copy.good.role == "payer":
        assert "mpchan payer sync FILE" in warning
        # the way home stands, and no number is used again before the payee has given the latest one back
        refund = payer_protocol.funded_of(record.state).refund
        assert refund == payer_protocol.funded_of(copy.good.state).refund
        with pytest.raises(MpchanError) as caught:
            payer.pay(copy.wallet, pair.chain, copy.name, Amount(500))
        assert caught.value.slug == "needs-sync"
        latest = bytes.fromhex(syncing.export_latest(pair.payee, lived.name).hex)
        assert syncing.sync(copy.wallet, Psbt.from_bytes(latest)).update == 5
        assert payer.pay(copy.wallet, pair.chain, copy.name, Amount(500)).paid_sat == 2900
    else:
        assert "payer pay --last" in warning
        last_update = payer.pay_last(pair.payer, pair.chain, lived.name).hex
        taken = payee.accept(copy.wallet, pair.chain, Psbt.from_bytes(bytes.fromhex(last_update)))
        assert taken.paid_sat == 2400
        assert copy.wallet.channels.load(copy.name).paid == copy.good.paid
    assert copy.broken() == set()


def test_both_files_damaged_is_said_and_left_alone(copy: Copy) -> None:
    copy.state.write_bytes(b"a diary")
    copy.journal.write_bytes(bent(copy.journal.read_bytes(), 100))
    assert copy.broken() == {"state-file", "journal", "channel-lost"}
    before = snapshot(copy.wallet.directory)
    assert copy.check(repair=True).exit_code == 7
    assert snapshot(copy.wallet.directory) == before


@pytest.mark.parametrize("harm", ["state", "journal"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_repair_that_is_killed_is_repeated(
    payers: Copy, harm: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the damaged file got its second name, and between the two files."""
    if harm == "state":
        payers.state.write_bytes(b"a diary")
    else:
        payers.journal.write_bytes(bent(payers.journal.read_bytes(), 100))
    real, count = recovery.write_durably, 0

    def dying(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise KeyboardInterrupt
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "write_durably", dying)
        if harm == "state" and at == 2:
            payers.check(repair=True)
        else:
            with pytest.raises(KeyboardInterrupt):
                payers.check(repair=True)
    payers.check(repair=True)
    assert payers.broken() == set()
    record: Record = payers.wallet.channels.load(payers.name)
    assert record.paid == payers.good.paid


def test_other_channels_are_looked_at_all_the_same(chain_directory: Path, tmp_path: Path) -> None:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, coins=2)
        first, second = pair.open(), pair.open()
        path = pair.payer.channels.state_path(first)
        path.unlink()
        path.mkdir()
        found = fsck(pair.payer)
        wrong = {subject.name: subject.ok for subject in found.subjects if subject.kind == "channel"}
        assert wrong == {first: False, second: True}
        assert fsck(pair.payer, repair=True).exit_code == 7


# what a good checksum does not say ----------------------------------------------------------------


def swapped(transaction: Transaction) -> Transaction:
    empty, first, second, script = transaction.inputs[0].witness
    return transaction.with_witness(0, (empty, second, first, script))


def _funded(record: Record, **changes: Any) -> Record:
    return replace(record, state=replace(record.state, **changes))


def _best(record: Record, **changes: Any) -> Record:
    return replace(record, state=replace(record.state, best=replace(record.state.best, **changes)))


def _unsigned(transaction: Transaction) -> Transaction:
    return transaction.with_witness(0, (b"", *transaction.inputs[0].witness[2:]))


PAYERS: dict[str, tuple[Callable[[Record], Record], set[str]]] = {
    "signatures exchanged": (lambda r: _funded(r, refund=swapped(r.state.refund)), {"signature"}),
    "one signature": (lambda r: _funded(r, refund=_unsigned(r.state.refund)), {"stored-witness"}),
    "no signature": (lambda r: _funded(r, refund=r.state.refund.without_witness()), {"stored-witness"}),
    "another refund": (
        lambda r: _funded(r, refund=replace(r.state.refund, lock_time=r.state.refund.lock_time + 1)),
        {"stored-transaction"},
    ),
    "another funding": (
        lambda r: _funded(r, funding=replace(r.state.funding, lock_time=9)),
        {"funding-txid"},
    ),
    "another value": (
        lambda r: _funded(r, terms=replace(r.terms, funding_value=r.terms.funding_value + Amount(1))),
        {"funding-output"},
    ),
    "a bad signature of the funding": (
        lambda r: _funded(
            r,
            funding=r.state.funding.with_witness(
                0, (bent(r.state.funding.inputs[0].witness[0], 40), r.state.funding.inputs[0].witness[1])
            ),
        ),
        {"funding-signature"},
    ),
    "an unsigned funding": (
        lambda r: _funded(r, funding=r.state.funding.without_witness()),
        {"funding-signature"},
    ),
    "an index that was never handed out": (lambda r: replace(r, key_index=0), {"key-index"}),
    "a key of the future": (lambda r: replace(r, key_index=10_000), {"key-index"}),
    "a number again": (lambda r: _funded(r, paid=r.state.paid + Amount(1)), {"update-twice"}),
    "a number back": (lambda r: _funded(r, number=3), {"update-twice"}),
}
PAYEES: dict[str, tuple[Callable[[Record], Record], set[str]]] = {
    "signatures exchanged": (
        lambda r: _best(r, transaction=swapped(r.state.best.transaction)),
        {"signature"},
    ),
    "another total": (
        lambda r: _best(r, number=6, paid=r.state.best.paid + Amount(1)),
        {"stored-transaction"},
    ),
    "no lock time left": (lambda r: _best(r, number=10**9), {"out-of-updates"}),
    "a settlement that is an update": (
        lambda r: replace(
            r,
            state=payee_protocol.Closing(
                r.state, payee_protocol.Settlement(r.state.best.paid, r.state.best.transaction)
            ),
        ),
        {"stored-transaction"},
    ),
    "another funding": (
        lambda r: _funded(r, funding=replace(r.state.funding, lock_time=9)),
        {"funding-txid"},
    ),
    "an index that was never handed out": (lambda r: replace(r, key_index=0), {"key-index"}),
}


SIGNED_AGAIN = ("signatures exchanged", "one signature", "no signature")
"""The payee's signature stands in the transaction or in the journal, and the payer's can be made again."""


@pytest.mark.parametrize("harm", PAYERS)
def test_what_the_payers_files_say_is_checked(payers: Copy, harm: str) -> None:
    change, slugs = PAYERS[harm]
    payers.wallet.channels.save(change(payers.good), "harmed")
    assert payers.broken() == slugs
    # no journal mends the others
    assert payers.check(repair=True).exit_code == (0 if harm in SIGNED_AGAIN else 7)


@pytest.mark.parametrize("harm", PAYEES)
def test_what_the_payees_files_say_is_checked(payees: Copy, harm: str) -> None:
    change, slugs = PAYEES[harm]
    payees.wallet.channels.save(change(payees.good), "harmed")
    assert payees.broken() == slugs


@pytest.mark.parametrize("message", ["another", "settlement", "complete", "bad", "no hex"])
def test_the_messages_in_the_journal_are_checked(lived: Lived, payers: Copy, message: str) -> None:
    record = _funded(payers.good, number=6, paid=Amount(2500))
    earlier = payer.pay_last(lived.pair.payer, lived.pair.chain, lived.name).hex
    key = lived.pair.payer.keys.key_of(record)
    settling = payer_protocol.Settling(record.state, Amount(2500))
    text = {
        "another": earlier,
        "settlement": payer_protocol.settlement_message(settling, key).to_hex(),
        "complete": payers.good.state.refund.to_hex(),
        "bad": earlier[:-40] + "00" * 20,
        "no hex": "xyz",
    }[message]
    payers.wallet.channels.save(record, "paid", text)
    assert payers.broken() == {"journal-message"}


def test_a_message_with_a_wrong_signature_in_the_journal(lived: Lived, payers: Copy) -> None:
    record = _funded(payers.good, number=6, paid=Amount(2500))
    update = payer_protocol.update_message(record.state, lived.pair.payer.keys.key_of(record))
    [signature] = update.inputs[0].partial_sigs.values()
    harmed = update.to_hex().replace(signature.hex(), bent(signature, 20).hex())
    payers.wallet.channels.save(record, "paid", harmed)
    assert payers.broken() == {"journal-message"}


@pytest.mark.parametrize("event", ["opened", "secured", "refund-signed"])
def test_the_messages_of_an_opening_are_checked(lived: Lived, payers: Copy, event: str) -> None:
    """Another transaction than the refund, with the signatures that belong to such a message: none, or the payee's."""
    terms = payers.good.terms
    update = scheme_of(terms).update(1, Amount(1000))
    if event == "opened":
        message = unsigned_message(terms, update)
    else:
        key = lived.pair.payee.keys.key_of(lived.pair.payee_record(lived.name))
        signature = key.sign_update(terms, 1, Amount(1000))
        message = signed_message(terms, update, terms.offer.payee_key, signature)
    payers.wallet.channels.save(payers.good, event, message.to_hex())
    assert payers.broken() == {"journal-message"}


# the other files ----------------------------------------------------------------------------------


def test_the_keys(payers: Copy) -> None:
    path = payers.wallet.directory / "keys.toml"
    good = path.read_text()
    path.write_text(good.replace('checksum = "', 'checksum = "0'))
    assert payers.broken() == {"keys-damaged"}
    path.write_text(good)
    path.chmod(0o644)
    assert payers.broken() == {"keys-permissions"}


def test_offers(payees: Copy) -> None:
    first, second = sorted((payees.wallet.directory / "offers").glob("*.toml"))
    text = second.read_text()
    other = next(line for line in first.read_text().splitlines() if line.startswith("payee_pubkey"))
    own = next(line for line in text.splitlines() if line.startswith("payee_pubkey"))
    for changed, slug in (
        ("{}", "offer-damaged"),
        (first.read_text(), "offer-damaged"),
        (text.replace("step = 1", "step = 2"), "offer-damaged"),
        (text.replace(own, other), "wrong-keys"),
    ):
        assert changed != text
        second.write_text(changed)
        assert payees.broken() == {slug}, slug
    second.write_text(text)
    assert payees.broken() == set()
    (payees.wallet.directory / "generation").write_text("none")
    assert "generation-damaged" in payees.broken()


def test_plans_and_sent_transactions(lived: Lived, payers: Copy) -> None:
    from mpchan.party.coins import send
    from mpchan.party.opening.external import plan_channel

    pair = lived.pair
    plan_channel(payers.wallet, pair.chain, lived.offer, Amount(5000))
    assert payers.broken() == set()
    [path] = (payers.wallet.directory / "plans").glob("*.json")
    path.write_text(path.read_text().replace("5000", "6000"))
    assert payers.broken() == {"plan-damaged"}
    path.unlink()
    script = address_to_script(views.fresh_address(pair.payee).address, REGTEST)
    send(payers.wallet, pair.chain, script, Amount(1000), sends=False)
    assert payers.broken() == set()
    [path] = (payers.wallet.directory / "sent").glob("*.json")
    path.write_text("{}")
    assert payers.broken() == {"send-damaged"}


def test_one_key_or_one_offer_twice(chain_directory: Path, tmp_path: Path) -> None:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, coins=2)
        first, second = pair.open(), pair.open()
        one, other = pair.payer_record(first), pair.payer_record(second)
        terms = replace(other.terms, payer_key=one.terms.payer_key)
        pair.payer.channels.save(_funded(other, terms=terms), "harmed")
        found = fsck(pair.payer)
        broken = {rule.rule for subject in found.subjects for rule in subject.rules if not rule.ok}
        assert {"wrong-keys", "key-twice"} <= broken
        terms = replace(other.terms, offer=one.terms.offer)
        pair.payer.channels.save(_funded(other, terms=terms), "harmed")
        found = fsck(pair.payer)
        broken = {rule.rule for subject in found.subjects for rule in subject.rules if not rule.ok}
        assert "offer-twice" in broken


# secrets ------------------------------------------------------------------------------------------


def test_no_secret_stands_in_journals_and_state_files(lived: Lived) -> None:
    for wallet in (lived.pair.payer, lived.pair.payee):
        keys = wallet.keys
        secret = keys._opened()
        secrets = [secret.entropy, secret.seed, keys._root().private_key.to_bytes()]
        secrets += [keys.channel_key(index)._private_key.to_bytes() for index in range(4)]
        for kind in ("receive", "change"):
            secrets += [keys._coin_key(kind, index).to_bytes() for index in range(6)]
        files = [path for path in (wallet.directory / "channels").iterdir() if path.stat().st_size]
        assert {path.suffix or path.name for path in files} == {".journal", ".json", "names"}
        for path in files:
            data = path.read_bytes()
            assert not [
                secret for secret in secrets if secret in data or secret.hex().encode() in data.lower()
            ]
    keys = lived.pair.payer.keys
    assert keys._opened().seed.hex() in (lived.pair.payer.directory / "keys.toml").read_text()


# history ------------------------------------------------------------------------------------------


def events(wallet: Wallet, name: str) -> list[HistoryEvent]:
    found = history(wallet, name)
    assert found.channel == name[:16]
    return list(found.events)


def test_history_tells_both_sides(lived: Lived) -> None:
    pair, name = lived.pair, lived.name
    ours, theirs = events(pair.payer, name), events(pair.payee, name)
    assert [event.event for event in ours] == ["opened", "secured", "funded", *["paid"] * 5]
    assert [event.event for event in theirs] == ["refund-signed", "funding", *["accepted"] * 5]
    for mine, other in zip(ours[3:], theirs[2:], strict=True):
        same = ("amount_sat", "paid_sat", "update", "lock_time", "txid", "hex")
        assert {key: getattr(mine, key) for key in same} == {key: getattr(other, key) for key in same}
    assert [event.amount_sat for event in ours] == [0, 0, 0, 1000, 200, 300, 400, 500]
    assert [event.paid_sat for event in theirs] == [0, 0, 1000, 1200, 1500, 1900, 2400]
    assert [event.update for event in ours] == [0, 0, 0, 1, 2, 3, 4, 5]
    assert ours[-1].hex == payer.pay_last(pair.payer, pair.chain, name).hex
    assert ours[1].hex == theirs[0].hex  # the refund with the payee's signature alone
    assert [event.sequence for event in ours] == list(range(1, 9))


@pytest.mark.parametrize("end", ["settled", "claimed", "refunded"])
def test_history_shows_no_complete_update(chain_directory: Path, tmp_path: Path, end: str) -> None:
    """What a payee holds complete is its security; whoever gets its history must not get that."""
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain)
        name = pair.open()
        complete, signatures = [], []
        for amount in (1000, 300):
            pair.accept(pair.pay(name, amount))
            best = payee_protocol.best_of(pair.payee_record(name).state)
            assert best is not None
            complete.append(best.transaction)
        if end == "settled":
            pair.settle(pair.settlement(name, 2000))
        elif end == "claimed":
            pair.mine_to(pair.terms(name).refund_lock_time.value - 1)
            pair.settle(name=name)
        else:
            pair.mine_to(pair.terms(name).refund_lock_time.value)
            pair.refund(name)
        told = [*events(pair.payee, name), *events(pair.payer, name)]
        text = "".join(event.to_json() for event in told)
        first_is_payees = pair.terms(name).offer.payee_key.sec < pair.terms(name).payer_key.sec
        for transaction in complete:
            signatures.append(transaction.inputs[0].witness[1 if first_is_payees else 2].hex())
            assert transaction.to_hex() not in text
        assert not [signature for signature in signatures if signature in text]
        last = {"settled": "settlement", "claimed": "claimed", "refunded": "refund"}[end]
        assert last in [event.event for event in told]
        if end == "claimed":
            [claimed] = [event for event in told if event.event == "claimed"]
            assert (claimed.hex, claimed.txid) == (None, str(complete[-1].txid))
            assert claimed.lock_time == complete[-1].lock_time


def test_a_message_that_arrived_with_more_than_it_needs_is_kept_without(lived: Lived, tmp_path: Path) -> None:
    """A payer could fill the payee's disk with fields that nobody reads; the journal keeps what was understood."""
    pair = lived.pair
    one, two = Copy(pair.payer, tmp_path / "one", lived.name), Copy(pair.payee, tmp_path / "two", lived.name)
    message = payer.pay(one.wallet, pair.chain, lived.name, Amount(600)).hex
    psbt = Psbt.from_bytes(bytes.fromhex(message))
    fat = _fattened(psbt)
    assert len(fat.to_hex()) > 100_000
    payee.accept(two.wallet, pair.chain, fat)
    assert len(two.lines()[-1]) < 4000
    assert events(two.wallet, lived.name)[-1].hex == message


def _fattened(psbt: Psbt) -> Psbt:
    source = psbt.inputs[0]
    pairs = (*source.pairs, (b"\xfcevil", bytes(60_000)))
    return replace(psbt, inputs=(replace(source, pairs=pairs),))


def test_a_damaged_journal_tells_nothing(payers: Copy) -> None:
    payers.journal.write_bytes(bent(payers.journal.read_bytes(), 100))
    with pytest.raises(MpchanError) as caught:
        history(payers.wallet, payers.name)
    assert (caught.value.slug, caught.value.exit_code) == ("channel-damaged", 7)
    payers.journal.unlink()
    with pytest.raises(MpchanError) as caught:
        history(payers.wallet, payers.name)
    assert (caught.value.slug, caught.value.exit_code) == ("channel-damaged", 7)
