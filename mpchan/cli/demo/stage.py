"""The demo's stage: it types commands for both parties, keeps what they answered, and checks expectations."""

from __future__ import annotations

import io
import json
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Union

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.construction.registry import construction, default
from mpchan.cli.demo.show import Transcript
from mpchan.cli.main import INTERRUPTED, main
from mpchan.errors import MpchanError
from mpchan.results.demo import StepDone
from mpchan.values import frozen

PAYER, PAYEE = Path("payer"), Path("payee")

Word = Union[str, int, Path]
"""A word of a command line. A ``Path`` is inside the demo's directory and is shown without it."""


class ExpectationError(MpchanError):
    """Something went otherwise than the demo says it must (exit 1)."""

    exit_code = 1


@frozen
class Step(StepDone):
    """The same with its stdout and stderr."""

    said: str


_USUAL_HANDLERS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@contextmanager
def heeding_interrupts() -> Iterator[list[int]]:
    """Note every SIGINT and SIGTERM in the list that is yielded; each raises KeyboardInterrupt, as SIGINT ever does.

    Python drops an exception that comes while a finaliser runs, and hundreds of commands leave a lot to finalise.
    """
    noted: list[int] = []

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    # a background job ignores SIGINT, and what somebody else handles is theirs
    heeded = {number: usual for number, usual in _USUAL_HANDLERS.items() if signal.getsignal(number) is usual}
    for number in heeded:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, usual in heeded.items():
            signal.signal(number, usual)


class Stage:
    """Both parties' wallets and their chain, in one directory.

    Args:
        directory: absolute; the wallets ``payer`` and ``payee`` and the folder ``chain`` are made in it.
        scheme: the construction of every channel; None for the usual one.
        interrupts: not empty once the user wants no more.

    Attributes:
        has_exchange: whether payer and payee exchange messages before the funding.
    """

    def __init__(
        self,
        directory: Path,
        chain: EmbeddedChain,
        show: Transcript,
        scheme: str | None = None,
        interrupts: Sequence[int] = (),
    ) -> None:
        self.has_exchange = construction(scheme or default()).has_exchange
        self._scheme = ("--scheme", scheme) if scheme else ()
        self.directory = directory
        self.chain = chain
        self.show = show
        self.steps: list[Step] = []
        self._interrupts = interrupts

    def type(self, *words: Word, code: int = 0, shown: bool = True) -> Step:
        """Run one ``mpchan`` command in this process, as the shell would with the demo's directory as current one.

        Args:
            code: the exit code that it must have.
            shown: whether it stands in the transcript; it is among the steps either way.
        """
        line = ["mpchan", *map(str, words)]
        if shown:
            self.show.command(line)
        step = self._run(line, words)
        self.steps.append(step)
        first = (step.said.splitlines() or [""])[0].removeprefix("mpchan: error: ")
        ended = f"`{step.command}` ended with exit code {step.exit_code}: {first:.200}"
        self.expect(step.exit_code == code, f"exit code {code}", ended)
        if shown:
            # what comes next is told by the story itself
            lines = [row for row in step.said.splitlines() if not row.startswith("next: ")]
            self.show.answer("\n".join(lines + ([f"(exit code {code})"] if code else [])))
        return step

    def payer(self, *words: Word, code: int = 0, shown: bool = True) -> Step:
        """A command of the payer's wallet."""
        return self.type("--wallet", PAYER, *words, code=code, shown=shown)

    def payee(self, *words: Word, code: int = 0, shown: bool = True) -> Step:
        """A command of the payee's wallet."""
        return self.type("--wallet", PAYEE, *words, code=code, shown=shown)

    def offer(self, path: Path, *, shown: bool = True) -> None:
        """The payee's offer of a channel."""
        self.payee("payee", "offer", *self._scheme, "-o", path, shown=shown)

    def fund(self, signed: Path, refund: Path, funding: Path, *, shown: bool = True) -> None:
        """The payer funds a channel whose refund the payee has signed; both transactions are written."""
        self.payer("payer", "fund", signed, "--refund-out", refund, "-o", funding, shown=shown)

    def open_at_once(
        self, offer: Path, capacity_sat: int, refund: Path, funding: Path, *, shown: bool = True
    ) -> None:
        """The payer opens a channel for which nothing is exchanged; refund and funding are written."""
        self.payer("payer", "open", offer, capacity_sat, "--refund-out", refund, "-o", funding, shown=shown)

    def mine(self, count: int, *, shown: bool = True) -> int:
        """Mine blocks; the tip's height then."""
        self.type("regtest", "mine", count, shown=shown)
        return self.height

    def mine_to(self, height: int, *, shown: bool = True) -> None:
        """Mine until the tip has ``height``, which is above it."""
        self.mine(height - self.height, shown=shown)

    @property
    def height(self) -> int:
        """The tip's height."""
        return self.chain.tip().height

    def ask(self, wallet: Path, *words: Word) -> dict[str, Any]:
        """A question to a wallet that stands in no transcript: the command's JSON."""
        line = ["mpchan", "--wallet", str(wallet), *map(str, words), "--json"]
        step = self._run(line, ["--wallet", wallet, *words, "--json"])
        self.expect(step.exit_code == 0, "exit code 0", f"`{step.command}` answered {step.said:.200}")
        answer: dict[str, Any] = json.loads(step.said)
        return answer

    def coins(self, wallet: Path) -> int:
        """The confirmed coins of a wallet in satoshi."""
        return int(self.ask(wallet, "balance")["confirmed_sat"])

    def message(self, path: Path) -> Psbt | Transaction:
        """A file that a command wrote, decoded."""
        return decode_message((self.directory / path).read_bytes())

    def transaction(self, path: Path) -> Transaction:
        """The transaction in a file, complete or not."""
        message = self.message(path)
        return message.tx if isinstance(message, Psbt) else message

    def engine(self, transaction: Transaction) -> str:
        """Hand the consensus engine a block with this transaction; its reason, or ``accepted``."""
        reason = self.chain.submit_block_with([transaction])
        return "accepted" if reason is None else reason

    def expect(self, met: bool, expected: str, found: object) -> None:
        """End the demo where an expectation is not met.

        Raises:
            ExpectationError: ``demo-failed``.
        """
        if not met:
            raise ExpectationError(
                "demo-failed",
                f"the demo expected {expected}, but {found}",
                hint="with --dir DIR both wallets and the chain stay for a look",
            )

    def _run(self, line: Sequence[str], words: Sequence[Word]) -> Step:
        absolute = [str(self.directory / word) if isinstance(word, Path) else str(word) for word in words]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(absolute)
        if code == INTERRUPTED or self._interrupts:
            raise KeyboardInterrupt
        said = (out.getvalue() + err.getvalue()).replace(f"{self.directory}/", "").rstrip("\n")
        return Step(shlex.join(line), code, said)
