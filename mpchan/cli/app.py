"""What every command has at hand: wallet, chain, and how to answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from mpchan.bitcoin.network import Network
from mpchan.bitcoin.signers import exposed_signatures
from mpchan.chain.base import Chain
from mpchan.cli.files import AGAIN, check_output, confirmed, print_error, print_output, written
from mpchan.errors import MpchanError, NotPossible, ParseError, SentUnnoted, StorageError, mistyped
from mpchan.results.base import Result
from mpchan.units import ChainTip
from mpchan.wallet.wallet import Wallet

R = TypeVar("R", bound=Result)


class App:
    """The options that all commands share, and what follows from them."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        self.json = False
        self.quiet = False
        self.tip: ChainTip | None = None
        self.confirmations: int | None = None
        self._signed_before: int | None = None

    @property
    def wallet_directory(self) -> Path:
        """``--wallet``, ``MPCHAN_WALLET``, or the user's data directory."""
        if self.directory is not None:
            return self.directory
        named = os.environ.get("MPCHAN_WALLET")
        if named:
            return Path(named)
        from mpchan.chain.home import data_directory

        return data_directory("mpchan", "name the wallet with --wallet or MPCHAN_WALLET")

    def wallet(self, *, signs: bool = False, asks: bool = True) -> Wallet:
        """The wallet, opened.

        Args:
            asks: whether a person at a terminal may be asked for the passphrase.
            signs: the command needs a secret: the passphrase is asked for now, where no lock makes others wait and
                nothing has changed yet.
        """
        wallet = Wallet.open(self.wallet_directory, unlock if asks else unlock_unasked)
        if signs:
            wallet.keys.need_secret()
        if wallet.network.name == "mainnet" and self._signed_before is None:
            self._signed_before = exposed_signatures()
        return wallet

    def chain(self, wallet: Wallet) -> Chain:
        """The backend that the wallet names, closed when the command ends."""
        from mpchan.chain import open_chain

        return _closed_in_the_end(
            open_chain(wallet.config.chain, wallet.network, wallet.directory, self.tip, self.confirmations)
        )

    def wallet_if_any(self) -> Wallet | None:
        """The wallet, opened; None where the directory holds none."""
        try:
            return self.wallet()
        except StorageError as error:
            if error.slug != "no-wallet":
                raise
            return None

    def bare_chain(self) -> Chain:
        """The chain without a wallet that names one: what ``--tip`` says, or the one in ``MPCHAN_REGTEST``.

        Raises:
            StorageError: ``no-wallet`` where neither is given.
        """
        from mpchan.bitcoin.network import REGTEST
        from mpchan.chain import open_chain
        from mpchan.chain.base import ChainConfig

        if self.tip is None and not os.environ.get("MPCHAN_REGTEST"):
            raise StorageError(
                "no-wallet",
                f"there is no wallet in {self.wallet_directory} that names a chain",
                hint="make a new one with `mpchan init --network NETWORK --chain BACKEND`: any will do",
            )
        backend = "embedded" if self.tip is None else "none"
        return _closed_in_the_end(
            open_chain(ChainConfig(backend), REGTEST, self.wallet_directory, self.tip, self.confirmations)
        )

    # answers --------------------------------------------------------------------------------------

    def check_output(self, target: Path | None, *sources: str, follows: bool = False) -> None:
        """Refuse an output file that must not be written, before anything happens; see ``check_output``."""
        check_output(target, sources, self.wallet_directory, follows=follows)

    def say(self, text: str) -> None:
        """Tell people something, on stderr; silent with ``-q`` and ``--json``."""
        if not self.quiet and not self.json:
            print_error(text)

    @property
    def shows_progress(self) -> bool:
        """Whether a person looks on: progress is for terminals alone."""
        return not (self.quiet or self.json or sys.stderr is None) and sys.stderr.isatty()

    def warn_of_exposure(self) -> None:
        """Say that this command has signed for real money with a signer that leaks time, where it has."""
        if self._signed_before is not None and exposed_signatures() > self._signed_before:
            self.say("mpchan: warning: signed with ecdsa, which is not hardened against side channels")
            self.say(
                "mpchan: hint: who can measure its timing may learn a key; mpchan[fast] signs in constant time"
            )

    def warn(self, warnings: Iterable[str]) -> None:
        """Tell people, on stderr, what they should know besides."""
        for warning in warnings:
            self.say(f"mpchan: warning: {warning}")

    def emit(self, result: Result, message: str, output: Path | None, *said: str, again: str = AGAIN) -> None:
        """Answer with a message: its text alone on stdout or in ``output``, words for people on stderr."""
        text = message.rstrip("\n")
        with written(output, text + "\n", again):
            if self.json:
                print_output(result.to_json(), again)
            elif output is None:
                print_output(text, again)
        for line in said:
            self.say(line)
        self.warn(result.people_should_know())

    @contextmanager
    def sent(self, act: Callable[[], R]) -> Iterator[R]:
        """The answer of a command that sends what is complete; that a disk failed is told after it.

        Raises:
            SentUnnoted: at the end of the block.
        """
        failure: SentUnnoted | None = None
        try:
            result = act()
        except SentUnnoted as error:
            failure, result = error, error.result
        yield result
        if failure is not None:
            raise failure

    def require_yes(self, question: str, what: str) -> None:
        """Ask a person; whoever reads JSON is none.

        Raises:
            NotPossible: ``not-confirmed``.
        """
        if self.json or not confirmed(question):
            raise NotPossible("not-confirmed", f"{what} was not confirmed", hint="answer y, or add --yes")

    def answer(self, result: R, people: Callable[[R], str], again: str = AGAIN) -> None:
        """Answer a question with words for people on stdout, or with one JSON object."""
        print_output(result.to_json() if self.json else people(result), again)

    def report(self, result: R, people: Callable[[R], str], again: str = AGAIN) -> None:
        """The same for what was done; with ``-q`` people are told nothing."""
        if self.json or not self.quiet:
            self.answer(result, people, again)

    def name_unreadable(self, problems: Sequence[MpchanError]) -> None:
        """Name the channels that could not be read, and so are missing in an answer."""
        for problem in problems:
            print_error(f"mpchan: warning: {problem.message}")

    def fail(self, error: MpchanError) -> int:
        """Report an error on stderr; its exit code."""
        if self.json:
            from mpchan.results.failures import Failure

            failure = Failure(error.slug, error.message, error.hint, error.exit_code)
            print_error(failure.to_json())
        else:
            print_error(f"mpchan: error: {error.message}")
            if error.hint:
                print_error(f"mpchan: hint: {error.hint}")
        return error.exit_code


def _closed_in_the_end(chain: Chain) -> Chain:
    """The chain, whose connections end with the command that asked."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(chain.close)
    return chain


def unlock(attempt: Callable[[str], None]) -> None:
    """Find the passphrase of keys that are encrypted; see ``asking``, which only they load."""
    from mpchan.cli.input.asking import unlock as ask

    ask(attempt)


def unlock_unasked(attempt: Callable[[str], None]) -> None:
    """The same where nobody may be asked."""
    from mpchan.cli.input.asking import unlock_unasked as look

    look(attempt)


def check_address(text: str, network: Network) -> bytes:
    """The scriptPubKey of an address from the command line; exit 2 where it is none of this network."""
    from mpchan.bitcoin.address import address_to_script

    try:
        return address_to_script(text, network)
    except ParseError as error:
        raise mistyped(error) from None
