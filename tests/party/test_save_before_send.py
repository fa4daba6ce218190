"""Everything is durable before the message that depends on it leaves (guide: protocol).

The disk is made to fail at every single write of the whole story, before the data are down and after. Nothing
leaves then: no message, no signature of the funding, no broadcast. The same command again then succeeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge_wallet
from support.party import Pair, balance_sat

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.signing import ChannelKey
from mpchan.errors import ChainError, StorageError
from mpchan.party import payer
from mpchan.units import Amount
from mpchan.wallet import channel_files
from mpchan.wallet import offers as offers_module
from mpchan.wallet import seed_file as keys_module
from mpchan.wallet import wallet as wallet_module
from mpchan.wallet.keys import Keys
from mpchan.wallet.storage import append_durably, write_durably

PURPOSES = ("sign_refund", "sign_update", "sign_settlement")


class Recorder:
    """What a command does, in order: writes, signatures, broadcasts; and a disk that fails when told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.writes = 0
        self.fail_at: int | None = None
        self.after_the_write = False
        self.at_signing: Callable[[], None] = lambda: None
        for module in (wallet_module, keys_module, offers_module, payer):
            patch.setattr(module, "write_durably", self.write)
        patch.setattr(channel_files, "append_durably", self.append)
        for purpose in PURPOSES:
            self._note(patch, ChannelKey, purpose)
        self._note(patch, Keys, "sign_coins")
        self._note(patch, EmbeddedChain, "broadcast")

    def _note(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            self.events.append(name.replace("_", " "))
            if name == "sign_coins":
                self.at_signing()
            return real(*arguments)

        patch.setattr(owner, name, call)

    def write(self, path: Path, data: bytes, **options: Any) -> None:
        self.step(lambda: write_durably(path, data, **options), path, self.what(path))

    def append(self, path: Path, data: bytes, *, at: int) -> None:
        self.step(lambda: append_durably(path, data, at=at), path, json.loads(data)["line"]["event"])

    def step(self, write: Callable[[], None], path: Path, what: str) -> None:
        self.writes += 1
        failing = self.writes == self.fail_at
        if failing and not self.after_the_write:
            self.events.append("failed write")
            raise StorageError("write-failed", f"{path}: no space left on device")
        write()
        self.events.append(f"write {what}")
        if failing:
            self.events.append("failed write")
            raise StorageError("write-failed", f"{path}: input/output error")

    @staticmethod
    def what(path: Path) -> str:
        return path.parent.name if path.parent.name == "offers" else path.stem


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain)


# the story, step by step --------------------------------------------------------------------------


class Story:
    """Every command of both parties that writes, in order; each step is one command and can be repeated."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.offer = self.request = self.reply = self.update = self.settlement = ""
        self.name = ""

    def make_offer(self) -> object:
        self.offer = self.pair.offer()
        return self.offer

    def ask(self) -> object:
        result = self.pair.request(offer=self.offer)
        self.request = result.hex
        self.name = f"{result.funding_txid}-{result.funding_vout}"
        return result

    def sign(self) -> object:
        self.reply = self.pair.sign_refund(self.request)
        return self.reply

    def fund(self) -> object:
        return self.pair.fund(self.reply, refund_out=self.pair.directory / "refund.hex")

    def pay(self) -> object:
        self.pair.chain.mine(1)
        result = payer.pay_up_to(self.pair.payer, self.pair.chain, self.name, Amount(1000))
        self.update = result.hex
        return self.update

    def accept(self) -> object:
        return self.pair.accept(self.update)

    def settle(self) -> object:
        self.settlement = self.pair.settlement(self.name, 3000)
        return self.settlement

    def close(self) -> object:
        return self.pair.settle(self.settlement)


STEPS = ("make_offer", "ask", "sign", "fund", "pay", "accept", "settle", "close")
WRITES = {"make_offer": 3, "ask": 2, "sign": 1, "fund": 3, "pay": 1, "accept": 1, "settle": 1, "close": 1}
"""How many writes each command makes; the table fails where one is gone or added."""

FAILURES = [(step, write) for step in STEPS for write in range(1, WRITES[step] + 1)]


def run(story: Story, recorder: Recorder, steps: tuple[str, ...]) -> None:
    for step in steps:
        recorder.writes, recorder.fail_at = 0, None
        getattr(story, step)()


def test_the_table_of_writes_is_complete(pair: Pair, recorder: Recorder) -> None:
    story = Story(pair)
    found = {}
    for step in STEPS:
        run(story, recorder, (step,))
        found[step] = recorder.writes
    assert found == WRITES
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 3000


@pytest.mark.parametrize("after_the_write", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("step", "write"), FAILURES)
def test_nothing_leaves_when_a_write_fails_and_the_repeat_succeeds(
    pair: Pair, recorder: Recorder, step: str, write: int, after_the_write: bool
) -> None:
    story = Story(pair)
    at = STEPS.index(step)
    run(story, recorder, STEPS[:at])

    recorder.writes, recorder.fail_at, recorder.after_the_write = 0, write, after_the_write
    recorder.events.clear()
    if step == "pay":
        pair.chain.mine(1)
    mempool = pair.chain.mempool()
    with pytest.raises(StorageError) as caught:
        getattr(story, step)()
    assert (caught.value.slug, caught.value.exit_code) == ("write-failed", 7)
    assert recorder.events[-1] == "failed write"
    assert "broadcast" not in recorder.events
    assert pair.chain.mempool() in (mempool, [])
    assert not [path for path in pair.files() if path.endswith(".tmp")]
    if step == "fund" and write < WRITES["fund"]:
        assert "sign coins" not in recorder.events

    # the disk is well again; both programs start anew, and the story goes on
    pair.restart()
    run(story, recorder, STEPS[at:])
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 3000
    assert pair.status(story.name) == ("closed", "closed")
    assert judge_wallet(pair.payer.directory, pair.chain.directory) == 2  # refund and funding
    assert judge_wallet(pair.payee.directory) == 2  # update and settlement


# the order ----------------------------------------------------------------------------------------


def test_the_refund_is_stored_complete_before_the_funding_is_signed(pair: Pair, recorder: Recorder) -> None:
    """The order that makes the payer safe: nothing that spends its coins exists before the way back does."""
    story = Story(pair)
    run(story, recorder, STEPS[:3])
    path = pair.payer.directory / "channels" / f"{story.name}.json"
    on_disk: list[dict[str, Any]] = []
    recorder.at_signing = lambda: on_disk.append(json.loads(path.read_text())["channel"])
    recorder.events.clear()
    story.fund()
    assert recorder.events == [
        "sign refund",
        "write secured",
        f"write {Recorder.what(pair.directory / 'refund.hex')}",
        "sign coins",
        "write funded",
        "broadcast",
    ]
    [stored] = on_disk
    refund = Transaction.from_hex(stored["refund_tx"])
    assert len(refund.inputs[0].witness) == 4
    assert all(refund.inputs[0].witness[1:3])
    assert not Transaction.from_hex(stored["funding_tx"]).has_witness
    assert (pair.directory / "refund.hex").read_text() == refund.to_hex() + "\n"


def test_no_signature_of_the_funding_exists_until_then(pair: Pair, recorder: Recorder) -> None:
    story = Story(pair)
    run(story, recorder, STEPS[:3])
    assert "sign coins" not in recorder.events
    text = "".join(content.decode(errors="replace") for content in pair.files().values())
    funding = json.loads((pair.payer.directory / "channels" / f"{story.name}.json").read_text())["channel"]
    assert not Transaction.from_hex(funding["funding_tx"]).has_witness
    assert text.count(funding["funding_tx"]) == 2  # in the state file and in the journal


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("make_offer", ["write generation", "write keys", "write offers"]),
        ("ask", ["write keys", "write opened"]),
        ("sign", ["sign refund", "write refund-signed"]),
        ("pay", ["sign update", "write paid"]),
        ("accept", ["sign update", "write accepted"]),
        ("settle", ["sign settlement", "write settlement"]),
        ("close", ["sign settlement", "write settlement", "broadcast"]),
    ],
)
def test_each_command_saves_before_it_sends(
    pair: Pair, recorder: Recorder, step: str, expected: list[str]
) -> None:
    """A signature made before a write stays inside: the write is the last but the broadcast."""
    story = Story(pair)
    run(story, recorder, STEPS[: STEPS.index(step)])
    recorder.events.clear()
    run(story, recorder, (step,))
    assert recorder.events == expected
    pair.chain.mine(1)


def test_the_refund_is_saved_before_it_is_broadcast(pair: Pair, recorder: Recorder) -> None:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    recorder.events.clear()
    pair.refund(name)
    assert recorder.events == ["write refund", "broadcast"]
    recorder.events.clear()
    pair.refund(name)
    assert recorder.events == []  # it is there already
    pair.chain.mine(1)


def test_a_payment_by_amount_is_not_lost_when_its_message_is(pair: Pair, recorder: Recorder) -> None:
    """After a crash between saving and output, ``--last`` has the message; ``pay AMOUNT`` again would pay twice."""
    name = pair.open()
    recorder.fail_at, recorder.after_the_write = recorder.writes + 1, True
    with pytest.raises(StorageError):
        pair.pay(name, 1000)
    pair.restart()
    lost = payer.pay_last(pair.payer, pair.chain, name)
    assert (lost.update, lost.paid_sat) == (1, 1000)
    assert pair.accept(lost.hex).received_sat == 1000


@pytest.mark.parametrize("step", ["fund", "close"])
def test_a_failed_broadcast_leaves_everything_ready_to_be_tried_again(
    pair: Pair, recorder: Recorder, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(pair)
    run(story, recorder, STEPS[: STEPS.index(step)])

    def away(*_: object) -> None:
        raise ChainError("unreachable", "the backend is away")

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedChain, "broadcast", away)
        with pytest.raises(ChainError):
            getattr(story, step)()
    after = pair.files()
    pair.restart()
    getattr(story, step)()
    assert pair.files() == after  # all of it was saved by then
    run(story, recorder, STEPS[STEPS.index(step) + 1 :])
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 3000
