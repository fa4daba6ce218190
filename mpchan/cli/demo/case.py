"""A bad ending of the demo: its channel, what is asked in it, and what was answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mpchan.bitcoin.tx import Transaction
from mpchan.channel import payee
from mpchan.channel.terms import Terms
from mpchan.cli.demo.stage import PAYEE, PAYER, Stage
from mpchan.cli.demo.story import UNIT_SAT
from mpchan.results.demo import BadEnding, DemoAnswer
from mpchan.units import OutPoint
from mpchan.values import frozen
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record

F = TypeVar("F", bound=Callable[["Case"], None])

NON_FINAL = "bad-txns-nonfinal"
SPENT = "bad-txns-inputs-missingorspent"
BAD_SCRIPT = "script-verify-flag-failed"
TOO_EARLY, NOT_POSSIBLE = 6, 5


class Case:
    """One bad ending on its own channel.

    Attributes:
        name: stable, in kebab-case.
        outpoint: of its funding.
        channel: its id.
        numbers: heights and amounts that matter here.
    """

    def __init__(self, stage: Stage, name: str, outpoint: OutPoint, folder: Path) -> None:
        self.stage = stage
        self.name = name
        self.outpoint = outpoint
        self.channel = str(outpoint.txid)[:16]
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
        step = self.stage.type("--wallet", wallet, *words, code=code)
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
        return self.wallet(wallet).channels.load(self.outpoint.name)

    def wallet(self, wallet: Path) -> Wallet:
        """One party's wallet, opened."""
        return Wallet.open(self.stage.directory / wallet)

    @property
    def terms(self) -> Terms:
        """What both agreed on."""
        terms: Terms = self.record(PAYER).terms
        return terms

    @property
    def refund(self) -> Transaction:
        """The complete refund, as the payer has it."""
        return self.stage.transaction(self.folder / "refund.hex")

    @property
    def held(self) -> Transaction:
        """The complete transaction that the payee would close with: its settlement, else its latest update."""
        state = self.record(PAYEE).state
        if isinstance(state, payee.Closing) and state.settlement is not None:
            return state.settlement.transaction
        best = payee.best_of(state) if isinstance(state, (payee.Active, payee.Closing)) else None
        if best is None:
            raise TypeError("the payee holds nothing in this channel")
        return best.transaction


@frozen
class Ending:
    """A bad ending.

    Attributes:
        title, story: what happens, in words.
        funded: whether a block holds the channel's funding when it is played.
        exchange: None for every construction; else only for those whose openings have an exchange, or have none.
    """

    name: str
    title: str
    story: str
    funded: bool
    exchange: bool | None
    play: Callable[[Case], None]


ENDINGS: list[Ending] = []


def ending(
    name: str, title: str, story: str, *, funded: bool = True, exchange: bool | None = None
) -> Callable[[F], F]:
    """What is played as a bad ending, after those that were named before."""

    def listed(play: F) -> F:
        ENDINGS.append(Ending(name, title, story, funded, exchange, play))
        return play

    return listed
