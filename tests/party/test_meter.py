"""The meters: what many payments in a row do is what the same commands do one by one, in either construction."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.party import Pair, psbt

import mpchan
from mpchan.bitcoin.network import REGTEST
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.construction.base import Form
from mpchan.channel.construction.registry import CONSTRUCTIONS, construction_of
from mpchan.channel.facts import Facts
from mpchan.channel.payee import best_of
from mpchan.channel.signing import ChannelKey
from mpchan.errors import ChainError, MpchanError, StorageError
from mpchan.party import payee, payer
from mpchan.party.backup import backup, restore
from mpchan.party.check.fsck import fsck
from mpchan.party.history import history
from mpchan.party.meter import base
from mpchan.party.meter.base import AT_ONCE, LONGEST_SECONDS, MAX_AGE_SECONDS, RecentFacts
from mpchan.party.meter.payee import QUEUED
from mpchan.units import Amount, ChainTip, Lag
from mpchan.wallet import channel_files
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.journal import continues
from mpchan.wallet.past import closed_files
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet

CAPACITY = 100_000


@pytest.fixture(scope="module", params=CONSTRUCTIONS)
def pair(
    request: pytest.FixtureRequest, chain_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """One open channel, copied for each example."""
    with EmbeddedChain(chain_directory) as chain:
        made = Pair(tmp_path_factory.mktemp("meter"), chain, scheme=request.param)
        made.name = made.open(CAPACITY, lock_time_unit="seconds", **SECONDS)  # type: ignore[attr-defined]
        yield made


SECONDS = {
    "settle_window": 3600,
    "min_refund_delay": 1_000_000,
    "max_refund_delay": 2_000_000,
    "min_increment_sat": 5,
}


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two journals can be compared byte for byte."""
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)


class Twins:
    """Copies of both wallets, for the plain commands and for the meters."""

    count = itertools.count()

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.chain = pair.chain
        self.name: str = pair.name  # type: ignore[attr-defined]
        place = folder / f"twins-{next(self.count)}"
        shutil.copytree(pair.directory, place)
        self.payer, self.payee = place / "payer", place / "payee"
        for wallet in (self.payer, self.payee):
            shutil.copytree(wallet, wallet.with_name(f"metered-{wallet.name}"))
        self.plain_payer, self.plain_payee = Wallet.open(self.payer), Wallet.open(self.payee)
        self.metered_payer = place / "metered-payer"
        self.metered_payee = place / "metered-payee"

    def pay(self, requests: list[Any], totals: bool) -> list[Any]:
        """By the commands, one by one."""
        command = payer.pay_up_to if totals else payer.pay
        return [self._one(command, self.plain_payer, self.chain, self.name, each) for each in requests]

    def accept(self, messages: list[str]) -> list[Any]:
        """By the command, one by one."""
        return [
            self._one(lambda text: payee.accept(self.plain_payee, self.chain, psbt(text)), m)
            for m in messages
        ]

    def _one(self, command: Any, *arguments: Any) -> Any:
        try:
            return told(command(*(Amount(each) if isinstance(each, int) else each for each in arguments)))
        except MpchanError as error:
            return told(error)

    def same_files(self) -> None:
        """Histories with the same events, messages to the byte, and channels that load as equals."""
        for plain, metered in ((self.payer, self.metered_payer), (self.payee, self.metered_payee)):
            one, other = Wallet.open(plain), Wallet.open(metered)
            if not one.channels.names():  # no message has brought the payee its channel
                assert not other.channels.names()
                continue
            assert list(history(one, None).events) == list(history(other, None).events)
            assert one.channels.load(self.name) == other.channels.load(self.name)
            assert fsck(other).wrong == 0

    @property
    def construction(self) -> type:
        """The class of the channel's construction."""
        return type(construction_of(self.plain_payer.channels.load(self.name).terms.offer))

    @property
    def numbered(self) -> bool:
        """Whether updates have numbers."""
        terms = self.plain_payer.channels.load(self.name).terms
        return terms.schedule.update(1, Amount(1000)).number is not None


def told(answer: Any) -> Any:
    """An answer, or an error, as everybody is told it."""
    if isinstance(answer, MpchanError):
        return (type(answer), answer.slug, answer.message, answer.hint)
    assert answer.to_json() == json.dumps(answer.to_dict())
    return answer.to_dict()


amounts = st.one_of(
    st.integers(1, 2_000), st.sampled_from([0, 1, 4, 5, 293, 294, 330, 50_000, CAPACITY, CAPACITY + 1])
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(amounts, min_size=1, max_size=12), st.booleans(), st.data())
def test_meters_and_commands_do_the_same(
    pair: Pair, tmp_path: Path, requests: list[int], totals: bool, data: st.DataObject
) -> None:
    """Answers, refusals with their words, messages, journals, states; and the payee's side of messages bent at will."""
    twins = Twins(pair, tmp_path)
    metered_payer = mpchan.Payer(twins.metered_payer, twins.name, chain=twins.chain)
    plain = twins.pay(requests, totals)
    assert [told(each) for each in metered_payer.pay_many(requests, totals=totals, stop=False)] == plain
    messages = [each["hex"] for each in plain if isinstance(each, dict)]
    if messages:
        order = data.draw(st.lists(st.sampled_from(messages), max_size=6))
        messages = [*data.draw(st.permutations(messages)), *messages, *order]
        messages = [bent(data, each) for each in messages]
    last = payer.settle(twins.plain_payer, twins.chain, twins.name).hex
    payer.settle(Wallet.open(twins.metered_payer), twins.chain, twins.name)
    messages = [*messages, last, *messages[-2:]] if data.draw(st.booleans()) else messages
    metered_payee = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    wanted = twins.accept(messages)
    assert [told(each) for each in metered_payee.accept_many(messages, stop=False)] == wanted
    twins.same_files()


def bent(data: st.DataObject, message: str) -> str:
    """The message, or one that differs somewhere, in bytes or in the way they are written."""
    kind = data.draw(st.sampled_from(["as it is"] * 6 + ["byte", "upper", "space", "cut", "inner space"]))
    at = data.draw(st.integers(0, len(message) // 2 - 1)) * 2
    if kind == "byte":
        return message[:at] + data.draw(st.binary(min_size=1, max_size=1)).hex() + message[at + 2 :]
    bends = {
        "upper": message.upper(),
        "space": f" {message} ",
        "cut": message[:at],
        "inner space": f"{message[:at]} {message[at:]}",
    }
    return bends.get(kind, message)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 6)), min_size=1, max_size=6))
def test_numbers_and_totals_at_every_edge(pair: Pair, tmp_path: Path, steps: list[tuple[int, int]]) -> None:
    """Each update some numbers and satoshi from the one before: back, the same, too little more, enough more."""
    twins = Twins(pair, tmp_path)
    number, paid, messages = 5, 2000, [signed(twins, 5, 2000)]
    for more, satoshi in steps:
        number, paid = number + more, paid + satoshi
        messages.append(signed(twins, max(1, number), paid))
    metered = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    wanted = twins.accept(messages)
    assert [told(each) for each in metered.accept_many(messages, stop=False)] == wanted
    twins.same_files()


def test_the_usual_payment_takes_the_short_way(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The equality above would be cheap if the plain way were taken always."""
    from mpchan.party.meter import payee as payee_meter
    from mpchan.party.meter import payer as payer_meter

    for kind, name in ((payer_meter._Run, "_pay_plainly"), (payee_meter._Run, "_take_plainly")):
        monkeypatch.setattr(kind, name, lambda *_: pytest.fail("the plain way was taken"))
    twins = Twins(pair, tmp_path)
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    for amount in (1000, 5, 7):
        taken = taking.accept(paying.pay(amount).hex)
        assert taken.received_sat == amount
    answers = taking.accept_many([each.hex for each in paying.pay_many([10] * 20)])
    assert [each.update for each in answers] == list(range(4, 24))


def test_without_a_form_everything_goes_the_plain_way(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = Twins(pair, tmp_path)
    monkeypatch.setattr(twins.construction, "form", lambda self, terms: None)
    plain = twins.pay([1000, 5, 4, 70], False)
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    assert [told(each) for each in paying.pay_many([1000, 5, 4, 70], stop=False)] == plain
    messages = [each["hex"] for each in plain if isinstance(each, dict)]
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    assert [told(each) for each in taking.accept_many(messages)] == twins.accept(messages)
    twins.same_files()


# the calls of a program ---------------------------------------------------------------------------


def test_single_calls_raise_what_the_commands_raise(pair: Pair, tmp_path: Path) -> None:
    twins = Twins(pair, tmp_path)
    with mpchan.Payer(str(twins.metered_payer), twins.name[:16], chain=twins.chain) as paying:
        for amount, slug in ((0, "zero-payment"), (100, "below-dust"), (CAPACITY + 1, "over-capacity")):
            with pytest.raises(MpchanError) as caught:
                paying.pay(amount)
            assert caught.value.slug == slug
        first = paying.pay(1000)
        assert paying.pay_up_to(1000) == mpchan.Payment(**{**first.to_dict(), "amount_sat": 0})
        assert paying.last().hex == first.hex
        assert paying.pay_up_to(Amount(1500)).amount_sat == 500
    with mpchan.Payee(twins.metered_payee, chain=twins.chain) as taking:
        taken = taking.accept(first.hex)
        assert taking.accept(first.hex.encode()) == mpchan.Accepted(
            **{**taken.to_dict(), "received_sat": 0, "duplicate": True}
        )
        for message, slug in (
            ("00", "malformed-transaction"),
            ("", "empty"),
            (first.hex + "00", "malformed-psbt"),
        ):
            with pytest.raises(MpchanError) as caught:
                taking.accept(message)
            assert caught.value.slug == slug
    with pytest.raises(AttributeError):
        mpchan.Nothing  # noqa: B018


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
def test_several_channels_and_one_alone(chain_directory: Path, tmp_path: Path, scheme: str) -> None:
    """Messages of two channels in any order; a payee of one channel refuses the other's."""
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, coins=2, scheme=scheme)
        names = [pair.open(), pair.open()]
        messages = [pair.pay(names[at], 1000 + at) for at in (0, 1, 1, 0, 0, 1)]
        pair.accept(messages[0])
        only = mpchan.Payee(pair.payee, names[0], chain=chain)
        answers = only.accept_many(messages[:2], stop=False)
        assert isinstance(answers[1], MpchanError)
        assert answers[1].slug == "wrong-channel"
        found = mpchan.Payee(pair.payee, chain=chain).accept_many(messages)
        assert [each.channel for each in found] == [names[at][:16] for at in (0, 1, 1, 0, 0, 1)]
        assert [each.duplicate for each in found] == [True] + [False] * 5
        assert [pair.payee_record(name).paid.sat for name in names] == [3000, 3003]


def test_a_meter_stops_at_the_first_error_or_goes_on(pair: Pair, tmp_path: Path) -> None:
    twins = Twins(pair, tmp_path)
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    planted = MpchanError("planted", "no amount")
    stopped = paying.pay_many([1000, planted, 1000])
    assert [type(each) for each in stopped] == [mpchan.Payment, MpchanError]
    went_on = paying.pay_many([1000, planted, 0, 1000], stop=False)
    assert [getattr(each, "paid_sat", None) for each in went_on] == [2000, None, None, 3000]
    messages: list[Any] = [each.hex for each in [*stopped, *went_on] if isinstance(each, mpchan.Payment)]
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    assert len(taking.accept_many([messages[0], "zz", messages[1]])) == 2
    answers = taking.accept_many(["zz", messages[1], planted, messages[2]], stop=False)
    assert [getattr(each, "paid_sat", None) for each in answers] == [None, 2000, None, 3000]


# skipping what is superseded ----------------------------------------------------------------------


def updates(twins: Twins, count: int) -> list[str]:
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    return [paying.pay(1000 + at).hex for at in range(count)]


def test_the_newest_alone_is_verified_and_kept(pair: Pair, tmp_path: Path) -> None:
    twins = Twins(pair, tmp_path)
    messages = updates(twins, 5)
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    answers = taking.accept_many(messages, skip_superseded=True)
    assert [type(each) for each in answers] == [mpchan.Superseded] * 4 + [mpchan.Accepted]
    claimed, taken = ([1, 2, 3, 4], 5) if twins.numbered else ([None] * 4, 1)
    assert [told(each)["update"] for each in answers] == [*claimed, taken]
    assert {told(each)["superseded_by"] for each in answers[:4]} == {taken}
    assert (told(answers[4])["superseded"], told(answers[4])["paid_sat"]) == (4, 5010)
    journal = ChannelFiles(twins.metered_payee / "channels", REGTEST).journal_path(twins.name).read_bytes()
    assert journal.count(b'"accepted"') == 1
    again = taking.accept_many(messages, skip_superseded=True)
    assert told(again[4])["duplicate"] is True


def test_a_newest_that_is_refused_supersedes_nothing(pair: Pair, tmp_path: Path) -> None:
    """The one before it is then the newest; the refusal stands on its own line."""
    twins = Twins(pair, tmp_path)
    messages = updates(twins, 4)
    forged = [*messages[:3], _with_signature_of(twins, messages[3], messages[2])]
    answers = mpchan.Payee(twins.metered_payee, chain=twins.chain).accept_many(
        forged, skip_superseded=True, stop=False
    )
    assert [type(each) for each in answers[:3]] == [mpchan.Superseded, mpchan.Superseded, mpchan.Accepted]
    assert isinstance(answers[3], MpchanError)
    assert answers[3].slug == "signature"
    stopped = Twins(pair, tmp_path)
    answers = mpchan.Payee(stopped.metered_payee, chain=twins.chain).accept_many(
        [forged[3], *forged[:3]], skip_superseded=True
    )
    assert [getattr(each, "slug", None) for each in answers] == ["signature"]


def _with_signature_of(twins: Twins, message: str, other: str) -> str:
    """A message with the signature of another."""
    terms = twins.plain_payer.channels.load(twins.name).terms
    one, two = (terms.lock.signature_from(psbt(text), terms.payer_key) for text in (message, other))
    return message.replace(bytes([len(one), *one]).hex(), bytes([len(two), *two]).hex())


def signed(twins: Twins, number: int, paid: int) -> str:
    """Any update, signed by the payer without fault."""
    record = twins.plain_payer.channels.load(twins.name)
    terms, key, amount = record.terms, twins.plain_payer.keys.key_of(record), Amount(paid)
    signature = key.sign_update(terms, number, amount)
    update = terms.schedule.build(terms.schedule.update(number, amount))
    return terms.lock.message(update, terms.payer_key, signature).to_hex()


def test_an_update_that_pays_more_is_superseded_by_none_that_pays_less(pair: Pair, tmp_path: Path) -> None:
    """A payer that signs another update of less: both are looked at, and the payee keeps what pays more."""
    twins = Twins(pair, tmp_path)
    messages = [signed(twins, *each) for each in ((1, 1000), (2, 9000), (3, 2000))]
    answers = mpchan.Payee(twins.metered_payee, chain=twins.chain).accept_many(
        messages, skip_superseded=True, stop=False
    )
    assert isinstance(answers[0], mpchan.Superseded)
    assert getattr(answers[1], "paid_sat", None) == 9000
    assert getattr(answers[2], "slug", None) == "paid-lower"


def test_an_update_is_superseded_by_none_with_a_lower_number(pair: Pair, tmp_path: Path) -> None:
    """Where updates have numbers, the earlier message is looked at, and counts; else the total alone does."""
    twins = Twins(pair, tmp_path)
    messages = [signed(twins, *each) for each in ((3, 1000), (2, 9000))]
    answers = mpchan.Payee(twins.metered_payee, chain=twins.chain).accept_many(
        messages, skip_superseded=True, stop=False
    )
    if twins.numbered:
        assert getattr(answers[0], "paid_sat", None) == 1000
        assert getattr(answers[1], "slug", None) == "update-number"
    else:
        assert isinstance(answers[0], mpchan.Superseded)
        assert getattr(answers[1], "paid_sat", None) == 9000


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_skipping_ends_where_not_skipping_ends(pair: Pair, tmp_path: Path, data: st.DataObject) -> None:
    """Any order, with repetitions and damage: the total held is the same, and no message goes unanswered."""
    twins = Twins(pair, tmp_path)
    messages = updates(twins, 6)
    order = data.draw(st.lists(st.sampled_from(messages), min_size=1, max_size=12))
    sent = [bent(data, each) for each in order]
    answers = mpchan.Payee(twins.metered_payee, chain=twins.chain).accept_many(
        sent, skip_superseded=True, stop=False
    )
    twins.accept(sent)
    assert len(answers) == len(sent)
    held = []
    for each in (twins.payee, twins.metered_payee):
        files = Wallet.open(each).channels
        held.append(files.load(twins.name).paid.sat if files.names() else 0)
    assert held[0] == held[1]
    assert QUEUED > AT_ONCE


# durability ---------------------------------------------------------------------------------------


def test_a_batch_is_one_append_and_one_fsync(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    twins = Twins(pair, tmp_path)
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    taking.accept(paying.pay(1000).hex)
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    payments = paying.pay_many([10] * 50)
    assert len(synced) == 1
    taking.accept_many([each.hex for each in payments])
    assert len(synced) == 2


def test_the_payee_signs_once_a_batch_and_holds_the_newest_complete(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One verification a payment, and one signature for all; what is on the disk needs no key to be sent."""
    twins = Twins(pair, tmp_path)
    messages = updates(twins, 30)
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    taking.accept(messages[0])
    signed: list[Amount] = []
    verified: list[int] = []
    sign, form = ChannelKey.sign_update, construction_of(pair.payer_record(twins.name).terms.offer).form
    kind: Any = type(form(pair.payer_record(twins.name).terms))
    verify = kind.verify
    monkeypatch.setattr(
        ChannelKey, "sign_update", lambda key, *meant: signed.append(meant[2]) or sign(key, *meant)
    )
    monkeypatch.setattr(kind, "verify", lambda form, *of: verified.append(of[2]) or verify(form, *of))
    answers = taking.accept_many(messages[1:])
    totals = [getattr(each, "paid_sat", None) for each in answers]
    assert verified == totals
    assert [amount.sat for amount in signed] == totals[-1:]
    record = Wallet.open(twins.metered_payee).channels.load(twins.name)
    assert isinstance(record, PayeeRecord)
    best = best_of(record.state)
    assert best is not None
    assert best.paid.sat == totals[-1]
    assert record.terms.lock.is_whole(best.transaction)
    journal = ChannelFiles(twins.metered_payee / "channels", REGTEST).journal_path(twins.name)
    last = journal.read_bytes().splitlines()[-29:]
    assert [b'"more":true' in line for line in last] == [True] * 28 + [False]
    assert max(map(len, last[:-1])) < 420


def test_nothing_of_a_batch_counts_that_did_not_reach_the_disk(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails: no answer, no line, and afterwards it goes on as if nothing had been."""
    import os

    twins = Twins(pair, tmp_path)
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    first = paying.pay(1000)
    taking.accept(first.hex)
    message = paying.pay(10).hex
    paths = [
        ChannelFiles(w / "channels", REGTEST).journal_path(twins.name)
        for w in (twins.metered_payer, twins.metered_payee)
    ]
    before = [path.read_bytes() for path in paths]

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(StorageError, match="input/output error"):
            paying.pay_many([10, 10, 10])
        with pytest.raises(StorageError, match="input/output error"):
            taking.accept_many([message])
    assert [path.read_bytes() for path in paths] == before
    assert paying.last().update == 2
    assert paying.pay(10).update == 3
    assert taking.accept(message).received_sat == 10


# the chain ----------------------------------------------------------------------------------------


def test_what_the_chain_says_is_asked_again_in_time() -> None:
    """Quick answers serve for one batch, slow ones longer, and none for more than some seconds."""
    now, cost, asked = 0.0, 0.001, 0

    def ask() -> Any:
        nonlocal now, asked
        asked += 1
        now += cost
        return Facts(ChainTip(asked, 0))

    recent = RecentFacts(ask, lambda: now)
    first = recent.latest()
    assert recent.latest() is first
    now += 0.02
    assert recent.latest() is not first
    cost = 2.0
    now += 0.02
    recent.latest()
    assert asked == 3
    now += MAX_AGE_SECONDS - cost - 0.01
    recent.latest()
    assert asked == 3
    now += 0.02
    recent.latest()
    assert asked == 4
    assert MAX_AGE_SECONDS <= 10


def test_a_slow_machine_makes_shorter_batches(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what the chain said is never old when a payment is judged by it; every line is answered all the same."""
    twins = Twins(pair, tmp_path)
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    commits: list[int] = []
    real = ChannelFiles.commit
    monkeypatch.setattr(
        ChannelFiles,
        "commit",
        lambda files, name, batch, *a, **o: (
            commits.append(len(batch.lines)),
            real(files, name, batch, *a, **o),
        )[1],
    )
    taking.accept(paying.pay(500).hex)
    commits.clear()
    now = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    payments = paying.pay_many([500] * 20)
    assert sum(commits) == 20
    assert max(commits) <= 6
    commits.clear()
    answers = taking.accept_many([each.hex for each in payments])
    assert [each.update for each in answers] == list(range(2, 22))
    assert sum(commits) == 20
    assert max(commits) <= 6
    assert LONGEST_SECONDS + MAX_AGE_SECONDS < 10


def test_a_chain_that_fails_is_asked_again_and_its_old_word_does_not_count() -> None:
    old, new = Facts(ChainTip(1, 0)), Facts(ChainTip(2, 0))
    answers: list[Any] = [old, ChainError("unreachable", "gone"), new]
    now = 0.0

    def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, MpchanError):
            raise answer
        return answer

    recent = RecentFacts(ask, lambda: now)
    assert recent.latest() is old
    now = 100.0
    with pytest.raises(ChainError):
        recent.latest()
    assert recent.latest() is new


def test_a_chain_that_is_behind_is_asked_again_at_once() -> None:
    """Nothing is taken on what it says, so there is nothing to keep it for."""
    late = Facts(ChainTip(100, 0, Lag("it is behind", 104, 0)))
    answers = [late, Facts(ChainTip(104, 0))]
    now = iter([0.0, 4.0, 4.0, 8.0, 8.0])
    recent = RecentFacts(lambda: answers.pop(0), lambda: next(now))
    assert recent.latest() is late
    assert recent.latest().tip.height == 104
    assert recent.latest().tip.height == 104
    assert answers == []


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
def test_the_chain_closes_a_meter(
    tmp_path: Path, chain_directory: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other party settles while the meters run: the next batch of each sees it."""
    monkeypatch.setattr(base, "MAX_AGE_SECONDS", 0.0)  # on a busy machine an answer serves longer
    with EmbeddedChain(chain_directory) as chain:
        own = Pair(tmp_path / "own", chain, scheme=scheme)
        name = own.open()
        paying, taking = mpchan.Payer(own.payer, chain=chain), mpchan.Payee(own.payee, chain=chain)
        taking.accept(paying.pay(1000).hex)
        late = paying.pay(1000).hex
        own.mine_to(own.terms(name).refund_lock_time.value - 6)
        refused = [paying.pay_many([10])[0], taking.accept_many([late])[0]]
        assert [getattr(each, "slug", None) for each in refused] == ["past-deadline", "past-deadline"]
        own.settle()
        refused = [paying.pay_many([10])[0], taking.accept_many([late])[0]]
        assert [getattr(each, "slug", None) for each in refused] == ["channel-settling", "channel-settling"]


def test_the_form_is_made_once_for_a_meter(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Form | None] = []
    twins = Twins(pair, tmp_path)
    real: Any = twins.construction.form  # type: ignore[attr-defined]
    monkeypatch.setattr(
        twins.construction, "form", lambda self, terms: made.append(real(self, terms)) or made[-1]
    )
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    for _ in range(3):
        paying.pay(1000)
    assert len(made) == 1


# long journals ------------------------------------------------------------------------------------


def test_a_long_journal_is_closed_and_everything_goes_on(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """History, fsck, backup and restore of a channel whose journal goes on in further files."""
    monkeypatch.setattr(channel_files, "CLOSE_BYTES", 15_000)
    twins = Twins(pair, tmp_path)
    paying = mpchan.Payer(twins.metered_payer, chain=twins.chain)
    taking = mpchan.Payee(twins.metered_payee, chain=twins.chain)
    for _ in range(10):
        taking.accept_many([each.hex for each in paying.pay_many([500] * 15)])
    for directory, event in ((twins.metered_payer, "paid"), (twins.metered_payee, "accepted")):
        wallet = Wallet.open(directory)
        journal = wallet.channels.journal_path(twins.name)
        assert len(closed_files(journal)) >= 2
        events = list(history(wallet, None).events)
        assert [each.update for each in events if each.event == event] == list(range(1, 151))
        assert {each.amount_sat for each in events if each.event == event} == {500}
        assert fsck(wallet).wrong == 0
        told = backup(wallet, tmp_path / f"{directory.name}.backup")
        assert list(told.warnings) == [
            f"the history of channel {twins.name[:16]} before line {continues(journal).sequence + 1} is not in it"
        ]
        restore((tmp_path / f"{directory.name}.backup").read_bytes(), tmp_path / "restored" / directory.name)
        again = Wallet.open(tmp_path / "restored" / directory.name)
        assert again.channels.load(twins.name).paid.sat == 75_000
        assert fsck(again).wrong == 0
        later = list(history(again, None).events)
        assert later[0].event == "continued"
        assert (later[0].amount_sat, later[-1].event) == (0, "restored")
        assert {each.amount_sat for each in later if each.event == event} <= {500}
