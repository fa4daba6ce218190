"""The demo's bad endings: each on a channel of its own, each with the consensus engine's own answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mpchan.bitcoin.tx import Transaction
from mpchan.channel import payee, payer
from mpchan.channel.construction.base import settlement
from mpchan.channel.terms import Terms, refund_fee
from mpchan.cli.demo.stage import PAYEE, PAYER, Stage
from mpchan.cli.demo.story import CAPACITY_SAT, UNIT_SAT, channel_id
from mpchan.results.demo import BadEnding, DemoAnswer
from mpchan.units import Amount
from mpchan.values import frozen
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record

F = TypeVar("F", bound=Callable[["Case"], None])

_NON_FINAL = "bad-txns-nonfinal"
_SPENT = "bad-txns-inputs-missingorspent"
_BAD_SCRIPT = "script-verify-flag-failed"
_TOO_EARLY, _NOT_POSSIBLE = 6, 5


class Case:
    """One bad ending on its own channel.

    Attributes:
        name: stable, in kebab-case.
        channel: its id.
        numbers: heights and amounts that matter here.
    """

    def __init__(self, stage: Stage, name: str, channel: str, folder: Path) -> None:
        self.stage = stage
        self.name = name
        self.channel = channel
        self.folder = folder
        self.answers: list[DemoAnswer] = []
        self.numbers: dict[str, int] = {}

    @property
    def result(self) -> BadEnding:
        """As ``demo`` tells of it."""
        ok = all(one.ok for one in self.answers)
        return BadEnding(self.name, self.channel, ok, tuple(self.answers), **self.numbers)

    # commands on this channel ---------------------------------------------------------------------

    @property
    def selector(self) -> tuple[str, str]:
        """``--channel``, in short."""
        return "-c", self.channel[:8]

    def pay(self, units: int, *numbers: int) -> None:
        """Pay ``units`` with each of these updates, and let the payee accept them."""
        for number in numbers:
            update = self.folder / f"update-{number}.psbt"
            self.stage.payer("pay", units * UNIT_SAT, *self.selector, "-o", update, shown=False)
            self.stage.payee("payee", "accept", update, shown=False)
            self.stage.show.fact(f"Update {number} is paid and accepted: {units} units more.")

    def refuses(self, wallet: Path, *words: str | Path, code: int, word: str) -> None:
        """A command that must end with exit code ``code``, saying ``word``."""
        step = self.stage.type("--wallet", wallet, *words, *self.selector, code=code)
        said = step.said.splitlines()[0].removeprefix("mpchan: error: ")
        expected = f"exit code {code}, {word}"
        self._note("command", step.command, expected, f"exit code {code}, {said}", word in said)

    # the chain ------------------------------------------------------------------------------------

    def engine_refuses(self, what: str, transaction: Transaction, word: str) -> None:
        """The engine must refuse a block that holds ``transaction``, for the reason ``word``."""
        answer = self.stage.engine(transaction)
        asked = f"a block with {what}"
        self._note("engine", asked, f"refused: {word}", answer, word in answer)
        reason = answer.split(", input ")[0]  # which input of which txid is of no interest here
        self.stage.show.fact(f"Bitcoin Core's engine, asked to take {asked}: refused, {reason}")

    def confirmed(self, what: str, path: Path) -> int:
        """The transaction in a file must be in the last block; its height."""
        transaction = self.stage.transaction(path)
        found = self.stage.chain.transaction(transaction.txid)
        confirmations = 0 if found is None else found[1]
        height = self.stage.height
        answer = f"in block {height}" if confirmations == 1 else f"{confirmations} confirmations"
        asked = f"the block just mined, for {what}"
        self._note("engine", asked, f"in block {height}", answer, confirmations == 1)
        self.stage.show.fact(f"Bitcoin Core's engine has {what} in block {height}.")
        return height

    def _note(self, by: str, asked: str, expected: str, answer: str, ok: bool) -> None:
        self.answers.append(DemoAnswer(by, asked, expected, answer, ok))
        self.stage.expect(ok, f"of {self.name}, for {asked}: {expected}", f"the answer was {answer:.300}")

    def paid_out(self, before: int) -> int:
        """The payee has exactly the 30 units more that it was paid; how much that is."""
        gained = self.stage.coins(PAYEE) - before
        self.stage.expect(
            gained == 30 * UNIT_SAT, "exactly 30 units for the payee", f"it gained {gained} sat"
        )
        self.numbers["payee_gained_sat"] = gained
        return gained

    # what the parties know ------------------------------------------------------------------------

    def record(self, wallet: Path) -> Record:
        """The channel as one wallet has stored it: what a cheat would read there."""
        outpoint = self.stage.transaction(self.folder / "request.psbt").inputs[0].outpoint
        return self.wallet(wallet).channels.load(outpoint.name)

    def wallet(self, wallet: Path) -> Wallet:
        """One party's wallet, opened."""
        return Wallet.open(self.stage.directory / wallet)

    @property
    def terms(self) -> Terms:
        """What both agreed on."""
        terms: Terms = self.record(PAYEE).terms
        return terms

    @property
    def refund(self) -> Transaction:
        """The complete refund, as the payer has it."""
        return self.stage.transaction(self.folder / "refund.hex")


@frozen
class _Ending:
    """A bad ending.

    Attributes:
        title, story: what happens, in words.
        funded: whether its channel has its funding when it is played.
    """

    name: str
    title: str
    story: str
    funded: bool
    play: Callable[[Case], None]


_ENDINGS: list[_Ending] = []


def _ending(name: str, title: str, story: str, *, funded: bool = True) -> Callable[[F], F]:
    def listed(play: F) -> F:
        _ENDINGS.append(_Ending(name, title, story, funded, play))
        return play

    return listed


def play_all(stage: Stage) -> list[BadEnding]:
    """Play every bad ending.

    Raises:
        ExpectationError: ``demo-failed``, with the expectation that was not met.
    """
    stage.show.scene("And if one of them cheats, or disappears?")
    stage.show.say(
        "Each bad ending gets a channel of its own, opened as above. The verdicts are not mpchan's: "
        "blocks with the bad transactions are handed to Bitcoin Core's consensus engine."
    )
    played = [_played(stage, number, ending) for number, ending in enumerate(_ENDINGS, 1)]
    stage.show.scene(f"All {len(played)} bad endings went as told")
    return played


def _played(stage: Stage, number: int, ending: _Ending) -> BadEnding:
    stage.show.scene(f"Bad ending {number}: {ending.title}")
    stage.show.say(ending.story)
    case = _open(stage, number, ending)
    ending.play(case)
    return case.result


def _open(stage: Stage, number: int, ending: _Ending) -> Case:
    """A further channel between the two wallets."""
    before = None if ending.funded else stage.coins(PAYER)
    folder = Path(f"cheat-{number}")
    (stage.directory / folder).mkdir()
    offer, request, signed = folder / "offer.toml", folder / "request.psbt", folder / "signed.psbt"
    stage.payee("payee", "offer", "-o", offer, shown=False)
    stage.payer("payer", "open", offer, CAPACITY_SAT, "-o", request, shown=False)
    stage.payee("payee", "sign-refund", request, "-o", signed, shown=False)
    case = Case(stage, ending.name, channel_id(stage, request), folder)
    refund_lock = stage.transaction(request).lock_time
    case.numbers["refund_lock_time"] = refund_lock
    if before is not None:
        case.numbers["payer_before_sat"] = before
    if ending.funded:
        refund, funding = folder / "refund.hex", folder / "funding.hex"
        stage.payer("payer", "fund", signed, "--refund-out", refund, "-o", funding, shown=False)
        stage.mine(1, shown=False)
        stage.show.fact(
            f"Channel {case.channel[:8]} is open and confirmed, the tip has height {stage.height}, "
            f"the refund is locked until block {refund_lock}."
        )
    return case


@_ending(
    "early-refund",
    "the payer takes its refund right after opening",
    "The payer would like the goods and the money. But its refund is locked for a good while yet.",
)
def _early_refund(case: Case) -> None:
    case.refuses(PAYER, "refund", code=_TOO_EARLY, word="locked until block")
    case.engine_refuses("the refund in it", case.refund, _NON_FINAL)


@_ending(
    "altered-settlement",
    "the payee raises its own share",
    "The payer settles for 30 units. The payee rewrites the complete settlement to all 100 units, and "
    "even signs the altered one anew. But the payer's signature covers every amount.",
)
def _altered_settlement(case: Case) -> None:
    stage = case.stage
    case.pay(30, 1)
    message = case.folder / "settlement.psbt"
    stage.payer("settle", *case.selector, "-o", message)
    stage.payee("payee", "accept", message)
    honest = _held(case)
    wanted = case.terms.schedule.build(settlement(Amount(CAPACITY_SAT))).outputs
    altered = Transaction(honest.version, honest.inputs, wanted, honest.lock_time)
    case.engine_refuses("the altered settlement", altered, _BAD_SCRIPT)
    case.engine_refuses("the altered settlement, signed anew by the payee", _signed_anew(case), _BAD_SCRIPT)
    stage.show.say("Only the settlement that both signed is good.")
    before = stage.coins(PAYEE)
    closing = case.folder / "settlement.hex"
    stage.payee("settle", message, "-o", closing)
    stage.mine(1)
    case.confirmed("the settlement that both signed", closing)
    gained = case.paid_out(before)
    stage.show.fact(f"The payee has {gained:,} sat more: the 30 units that it was paid.")


def _held(case: Case) -> Transaction:
    """The complete transaction that the payee would close with: its settlement, else its latest update."""
    state = case.record(PAYEE).state
    if isinstance(state, payee.Closing) and state.settlement is not None:
        return state.settlement.transaction
    best = payee.best_of(state) if isinstance(state, (payee.Active, payee.Closing)) else None
    if best is None:
        raise TypeError("the payee holds nothing in this channel")
    return best.transaction


def _signed_anew(case: Case) -> Transaction:
    """A settlement of everything, with the payee's own good signature and the payer's of the honest one."""
    record, terms = case.record(PAYEE), case.terms
    key = case.wallet(PAYEE).keys.key_of(record)
    everything = Amount(CAPACITY_SAT)
    honest = case.stage.message(case.folder / "settlement.psbt")
    if isinstance(honest, Transaction):
        raise TypeError("a settlement travels as a PSBT")
    payers = terms.lock.signature_from(honest, terms.payer_key)
    ours = key.sign_settlement(terms, everything)
    return terms.lock.complete(
        terms.schedule.build(settlement(everything)), {terms.payer_key: payers, terms.offer.payee_key: ours}
    )


@_ending(
    "payer-disappears",
    "the payer disappears",
    "Three payments were made, then the payer answers no more. The payee needs no help: its latest update is "
    "complete. It only has to wait for that update's lock time, which comes long before the refund's.",
)
def _payer_gone(case: Case) -> None:
    stage = case.stage
    case.pay(10, 1, 2, 3)
    case.refuses(PAYEE, "payee", "settle", code=_TOO_EARLY, word="locked until block")
    lock_time = _held(case).lock_time
    stage.show.say(f"So the payee waits until block {lock_time}, and tries again.")
    stage.mine_to(lock_time)
    before = stage.coins(PAYEE)
    closing = case.folder / "closing.hex"
    stage.payee("payee", "settle", *case.selector, "-o", closing)
    stage.mine(1)
    height = case.confirmed("update 3", closing)
    gained = case.paid_out(before)
    refund_lock = case.refund.lock_time
    case.numbers.update(update_lock_time=lock_time, update_height=height)
    stage.expect(
        height < refund_lock, "the update to be confirmed before the refund's time", f"found {height}"
    )
    stage.show.fact(
        f"The update was final at block {lock_time} and confirmed in block {height}, "
        f"{refund_lock - height} blocks before the refund's time, block {refund_lock}. "
        f"The payee has its {gained:,} sat."
    )
    stage.show.say("The payer comes back when the refund's time has come. It is too late.")
    stage.mine_to(refund_lock)
    case.refuses(PAYER, "refund", code=_NOT_POSSIBLE, word="the payee closed the channel")
    case.engine_refuses("the refund, now past its lock time", case.refund, _SPENT)


@_ending(
    "payee-disappears-before-funding",
    "the payee disappears after it signed the refund",
    "The payer has signed nothing yet, so it just gives the opening up. Its coins never left the wallet.",
    funded=False,
)
def _payee_gone_before_funding(case: Case) -> None:
    stage = case.stage
    before = case.numbers["payer_before_sat"]
    state = case.record(PAYER).state
    stage.payer("payer", "abandon", *case.selector)
    after = stage.coins(PAYER)
    stage.expect(after == before, f"the payer to keep {before} sat", f"it has {after} sat")
    case.numbers["payer_after_sat"] = after
    stage.show.fact(f"The payer has {after:,} sat, as before.")
    if not isinstance(state, payer.Opening) or state.funding is None:
        raise TypeError("a channel that was just opened is an opening")
    case.engine_refuses("the funding, which nobody signed", state.funding, _BAD_SCRIPT)


@_ending(
    "payee-disappears-after-funding",
    "the payee disappears after the funding",
    "The payer waits for the refund's lock time, and broadcasts the refund. It asks nobody.",
)
def _payee_gone_after_funding(case: Case) -> None:
    _take_refund(case)


@_ending(
    "payee-disappears-after-payments",
    "the payee disappears after some payments",
    "The payee could have collected 20 units at its update's lock time, and did not. What nobody collects "
    "goes back to the payer: all of it, the paid units included.",
)
def _payee_gone_after_payments(case: Case) -> None:
    case.pay(10, 1, 2)
    _take_refund(case)


def _take_refund(case: Case) -> None:
    """The payer recovers exactly F less the refund's fee."""
    stage, terms = case.stage, case.terms
    before = stage.coins(PAYER)
    stage.mine_to(case.refund.lock_time)
    sent = case.folder / "refund-sent.hex"
    stage.payer("refund", *case.selector, "-o", sent)
    stage.mine(1)
    case.confirmed("the refund", sent)
    after = stage.coins(PAYER)
    funded, fee = terms.funding_value.sat, refund_fee(terms.offer, terms.payer_script).sat
    back = after - before
    stage.expect(back == funded - fee, f"{funded} - {fee} sat back for the payer", f"it got {back} sat")
    case.numbers.update(
        funding_sat=funded,
        refund_fee_sat=fee,
        payer_before_sat=before,
        payer_after_sat=after,
        payer_recovered_sat=back,
    )
    stage.show.fact(
        f"The payer's balance went from {before:,} to {after:,} sat: all {funded:,} sat of the funding are back, "
        f"less the refund's fee of {fee} sat."
    )


@_ending(
    "older-update",
    "an older update turns up after a newer one",
    "Update 1 pays the payee 10 units, update 3 pays it 30. Suppose that the complete update 1 fell into the "
    "payer's hands, which mpchan never lets happen: could it still win?",
)
def _older_update(case: Case) -> None:
    stage = case.stage
    case.pay(10, 1)
    older = _held(case)
    case.pay(10, 2, 3)
    newer = _held(case)
    stage.mine_to(newer.lock_time)
    stage.show.say("Update 3 is final now. Update 1 has a later lock time, so it cannot come first.")
    case.engine_refuses("update 1", older, _NON_FINAL)
    closing = case.folder / "closing.hex"
    stage.payee("payee", "settle", *case.selector, "-o", closing)
    stage.mine(1)
    height = case.confirmed("update 3", closing)
    stage.show.say(
        "And once its own time has come, the coin is spent: two spends of one coin are a conflict."
    )
    stage.mine_to(older.lock_time)
    case.engine_refuses("update 1, now past its lock time", older, _SPENT)
    case.numbers.update(older_lock_time=older.lock_time, newer_lock_time=newer.lock_time, newer_height=height)


@_ending(
    "held-up-close",
    "the payer holds up the payee's close",
    "The payer settles, and hangs a large and cheap child on its own share of the close, so that no miner takes "
    "either before the refund is final. Then all would be the payer's again.",
)
def _held_up_close(case: Case) -> None:
    from mpchan.cli.demo.pin import play

    play(case)
