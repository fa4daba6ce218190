"""Very many channels: one of them costs what it costs alone, and all of them are listed without making each."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.many_channels import Many
from support.protocol import facts_of, make_terms, scheme_of, update_psbt
from test_journal import NAME, lives, paying

import mpchan
from mpchan.bitcoin.network import REGTEST
from mpchan.chain.base import OutputStatus, Spend
from mpchan.channel.facts import Facts
from mpchan.errors import MpchanError, UsageError
from mpchan.party import payee, payer, views
from mpchan.party.briefs import Briefs
from mpchan.party.common import read_psbt
from mpchan.units import Amount, ChainTip
from mpchan.values import replace
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.names import FILE
from mpchan.wallet.records import body_of
from mpchan.wallet.wallet import Wallet

# what it costs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")
    made = Many(tmp_path_factory.mktemp("many"), 12)
    yield made
    made.chain.close()


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is opened, and every folder that is listed."""
    names: list[str] = []

    def noting(real: Any) -> Any:
        return lambda path, *more, **named: (names.append(str(path)), real(path, *more, **named))[1]

    for module, name in ((os, "open"), (os, "listdir"), (os, "scandir"), (builtins, "open")):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    return names


@pytest.mark.parametrize("digits", [16, 20, 66])
def test_one_channel_among_many_is_found_without_a_look_at_the_others(
    many: Many, touched: list[str], digits: int
) -> None:
    name = many.names[5]
    message = payer.pay(Wallet.open(many.payer.directory), many.chain, name[:digits], Amount(1000)).hex
    payee.accept(Wallet.open(many.payee.directory), many.chain, read_psbt(message.encode()))
    paying = mpchan.Payer(many.payer.directory, name[:digits], chain=many.chain)
    mpchan.Payee(many.payee.directory, chain=many.chain).accept(paying.pay(10).hex)
    others = [each for each in many.names if each != name]
    assert touched
    assert not [path for path in touched if any(other in path for other in others)]
    assert not [path for path in touched if path.endswith("/channels")]


def test_the_files_of_one_channel_do_not_know_of_the_others(many: Many, touched: list[str]) -> None:
    """As many files are opened for a payment with 3 channels as with 12."""
    few = many.payer.directory.with_name("few")
    few.mkdir()
    smaller = Many(few, 3)
    counts = []
    for each in (smaller, many):
        touched.clear()
        payer.pay(Wallet.open(each.payer.directory), each.chain, each.names[1][:16], Amount(1000))
        counts.append(len([path for path in touched if "/payer/" in path]))
    assert counts[0] == counts[1]


# finding by the beginning of a name ---------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> ChannelFiles:
    return ChannelFiles(tmp_path, REGTEST)


def begin(files: ChannelFiles, *names: str) -> None:
    """Files of channels with such names."""
    for name in names:
        (files.directory / f"{name}.json").write_text("{}")


A, B, C = ("a" * 63 + "1-0", "a" * 63 + "1-00"[:-1] + "1", "b" * 64 + "-0")


def test_names_are_found_with_and_without_the_file_of_names(files: ChannelFiles) -> None:
    begin(files, A, B, C)
    assert not (files.directory / FILE).exists()
    for _ in range(2):
        for digits in (1, 20):
            assert files.beginning_with("a" * digits) == sorted([A, B])
            assert files.beginning_with("b" * digits) == [C]
            assert files.beginning_with("c" * digits) == []
        assert files.beginning_with(A) == [A]
        files.save(paying(0), "funded", None)
    text = (files.directory / FILE).read_text()
    assert sorted(text.splitlines()) == sorted([A, B, C, NAME])


def test_a_whole_name_means_that_channel_alone(files: ChannelFiles) -> None:
    begin(files, A, A + "1", A + "12")
    assert files.beginning_with(A) == [A]
    assert files.beginning_with(A + "1") == [A + "1"]
    assert files.beginning_with(A[:-1]) == [A, A + "1", A + "12"]
    assert files.beginning_with("../" + A) == []


def test_what_the_file_of_names_does_not_know_is_looked_for(files: ChannelFiles) -> None:
    """A channel whose files a person has put there; a name whose channel never came to be."""
    files.save(paying(0), "funded", None)
    begin(files, C)
    assert files.beginning_with("b" * 16) == [C]
    with open(files.directory / FILE, "a") as file:
        file.write("c" * 64 + "-0\n")
    assert files.beginning_with("c" * 16) == []


def test_less_than_an_id_is_looked_for_in_the_folder(files: ChannelFiles) -> None:
    """So that a second channel that a person has put there is seen to be one."""
    twin = NAME[:15] + ("1" if NAME[15] == "0" else "0") * 49 + "-0"
    files.save(paying(0), "funded", None)
    begin(files, twin)
    assert files.beginning_with(NAME[:15]) == sorted([NAME, twin])
    assert files.beginning_with(NAME[:16]) == [NAME]


def test_a_name_that_was_never_finished_is_cut_off(files: ChannelFiles) -> None:
    files.save(paying(0), "funded", None)
    path = files.directory / FILE
    path.write_text(f"{A}\nbbbbbbbbbbbbbbbbbbbb")
    begin(files, A)
    assert files.beginning_with("b" * 16) == []
    other = make_terms(salt=1)
    files.save(replace(paying(0), state=replace(paying(0).state, terms=other)), "funded", None)
    assert path.read_text() == f"{A}\n{other.name}\n"


def test_a_file_of_names_that_cannot_be_read_is_none(files: ChannelFiles) -> None:
    (files.directory / FILE).write_bytes(b"\xff\xfe")
    begin(files, C)
    assert files.beginning_with("b") == [C]
    files.save(paying(0), "funded", None)
    assert sorted((files.directory / FILE).read_text().splitlines()) == sorted([C, NAME])


def test_a_name_is_on_the_disk_before_its_channel(
    files: ChannelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpchan.wallet import channel_files

    def dead(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(channel_files, "append_durably", dead)
        with pytest.raises(OSError, match="No space"):
            files.save(paying(0), "funded", None)
    assert (files.directory / FILE).read_text() == f"{NAME}\n"
    assert files.names() == []
    assert files.beginning_with(NAME[:10]) == []


def test_what_was_read_before_is_taken_only_where_it_can_never_change(files: ChannelFiles) -> None:
    """A first line that nobody has made durable may be taken back, and another channel begun in its place."""
    assert files.read_before(NAME) is None
    files.save(paying(0), "funded", None)
    files.state_path(NAME).unlink()
    other = ChannelFiles(files.directory, REGTEST)
    assert other.load(NAME) == paying(0)
    assert (other.read_before(NAME), files.read_before(NAME)) == (None, paying(0))


def test_two_of_one_beginning_are_ambiguous(many: Many) -> None:
    starts = {name[:1] for name in many.names}
    shared = next(start for start in starts if sum(name.startswith(start) for name in many.names) > 1)
    with pytest.raises(UsageError, match="channels fit"):
        many.payer.channels.find(shared, lambda record: True, "known")


# the list -----------------------------------------------------------------------------------------


class Chain:
    """Says one thing of every output."""

    stated_confirmations = None
    sends = True

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def tip(self) -> ChainTip:
        return self.facts.tip

    def output(self, outpoint: object, *, not_before: object = None) -> OutputStatus | None:
        facts = self.facts
        if facts.funding is None:
            return None
        spend = None
        if facts.spent_by is not None:
            spend = Spend(facts.spent_by, facts.spend_confirmations, facts.spending)
        return OutputStatus(facts.funding, facts.confirmations, spend, facts.mature)


TERMS = make_terms()


@st.composite
def chain_facts(draw: st.DrawFn) -> Facts:
    """Unseen, shallow, deep; spent by an update, a settlement, the refund, with or without the spender itself."""

    if draw(st.booleans()):
        return draw(
            st.sampled_from([Facts(ChainTip(1000, 1_700_000_000)), facts_of(TERMS, 0), facts_of(TERMS, 5)])
        )
    spending = draw(
        st.sampled_from(
            [
                update_psbt(TERMS, 3, 5000).tx,
                scheme_of(TERMS).settlement(Amount(700)),
                scheme_of(TERMS).refund(),
            ]
        )
    )
    shown = spending if draw(st.booleans()) else None
    return facts_of(
        TERMS, 5, spent_by=spending.txid, spend_confirmations=draw(st.integers(0, 2)), spending=shown
    )


@settings(max_examples=60)
@given(lives, chain_facts())
def test_a_brief_view_is_the_short_view(life: list[Any], facts: Facts) -> None:
    """In every phase and whatever the chain says, where there is one at all; and in the usual ones there is."""
    chain: Any = Chain(facts)
    for record in life:
        found = Briefs("regtest", chain).view(NAME, body_of(record))
        wanted = views.short_view(record, facts)
        assert found in (None, wanted)
        usual = record.fields()["phase"] in ("funded", "active") and facts.spent_by is None
        assert found is not None or not usual


def test_a_brief_view_is_of_the_channel_that_its_file_is_named_by() -> None:
    chain: Any = Chain(facts_of(TERMS))
    body = body_of(paying(3))
    assert Briefs("regtest", chain).view(NAME, body) is not None
    assert Briefs("signet", chain).view(NAME, body) is None
    assert Briefs("regtest", chain).view(C, body) is None
    for key in ("outpoint", "offer", "update", "refund_lock_time", "payer_script"):
        assert Briefs("regtest", chain).view(NAME, {**body, key: None}) is None or key == "update"


def test_the_list_makes_no_channel_of_what_is_usual(many: Many, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [views.short_view(record, None).channel for record in many.payer.channels.readable()]
    monkeypatch.setattr(ChannelFiles, "load", lambda *_: pytest.fail("a whole channel was made"))
    problems: list[MpchanError] = []
    found = views.list_channels(
        Wallet.open(many.payer.directory), many.chain, lambda name, error: problems.append(error)
    )
    assert sorted(each.channel for each in found.channels) == sorted(wanted)
    assert {each.status for each in found.channels} == {"open"}
    assert not problems
