"""What every command has at hand: options, wallet, chain, and how to answer."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from mpchan.bitcoin.network import Network
from mpchan.bitcoin.signers import exposed_signatures
from mpchan.chain.base import Chain
from mpchan.cli.files import AGAIN, STANDARD_STREAM, check_output, print_error, print_output, written
from mpchan.cli.input.numbers import WholeNumber
from mpchan.errors import MpchanError, ParseError, SentUnnoted, StorageError, UsageError
from mpchan.results.base import Result
from mpchan.units import Amount, ChainTip, FeeRate
from mpchan.wallet.wallet import Wallet

F = TypeVar("F", bound=Callable[..., Any])
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
        """The backend that the wallet names."""
        from mpchan.chain import open_chain

        return open_chain(wallet.config.chain, wallet.network, wallet.directory, self.tip, self.confirmations)

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
        return open_chain(ChainConfig(backend), REGTEST, self.wallet_directory, self.tip, self.confirmations)

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
        """Answer with a message: its text alone on stdout or in ``output``, words for people on stderr.

        Args:
            message: the text, which ``result`` holds too.
            again: how to get the message once more where it could not be written.
        """
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

    def answer(self, result: R, people: Callable[[R], str], again: str = AGAIN) -> None:
        """Answer a question with words for people on stdout, or with one JSON object.

        Args:
            again: what to do where it could not be written.
        """
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


def unlock(attempt: Callable[[str], None]) -> None:
    """Find the passphrase of keys that are encrypted; see ``asking``, which only they load."""
    from mpchan.cli.input.asking import unlock as ask

    ask(attempt)


def unlock_unasked(attempt: Callable[[str], None]) -> None:
    """The same where nobody may be asked."""
    from mpchan.cli.input.asking import unlock_unasked as look

    look(attempt)


class Documented(click.Command):
    """A command whose help ends with the keys of its JSON."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, and what ``--json`` prints."""
        super().format_epilog(ctx, formatter)
        from mpchan.cli.render.keys import write_keys

        write_keys(ctx.command_path.partition(" ")[2], formatter)


command = partial(click.command, cls=Documented)

pass_app = click.make_pass_decorator(App, ensure=True)


def _set(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(context.ensure_object(App), attribute, value)

    return callback


def common_options(command: F) -> F:
    """``--json``, ``-q`` and ``--wallet``, before or after the command."""
    for option in (
        click.option(
            "--json",
            is_flag=True,
            is_eager=True,  # known before any other option answers, such as --version
            expose_value=False,
            callback=_set("json"),
            help="One JSON object on stdout.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_set("quiet"),
            help="No words for people.",
        ),
        click.option(
            "--wallet",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            expose_value=False,
            callback=_set("directory"),
            help="Wallet directory; else $MPCHAN_WALLET.",
        ),
    ):
        command = option(command)
    return command


class TipType(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """``HEIGHT`` or ``HEIGHT:MEDIAN_TIME``."""

    name = "tip"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ChainTip:
        """Parse; exit 2 where malformed."""
        if isinstance(value, ChainTip):
            return value
        match = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r:.80} is not HEIGHT or HEIGHT:MEDIAN_TIME", param, ctx)
        try:
            return ChainTip(int(match[1]), int(match[2] or "0"))
        except ParseError as error:
            self.fail(error.message, param, ctx)


def chain_options(command: F) -> F:
    """``--tip`` and ``--confirmations``, for wallets that ask no chain."""
    command = click.option(
        "--tip",
        type=TipType(),
        metavar="HEIGHT[:MEDIAN_TIME]",
        expose_value=False,
        callback=_set("tip"),
        help="Where the chain stands (backend none).",
    )(command)
    return click.option(
        "--confirmations",
        type=WholeNumber(0, 1_000_000),
        metavar="N",
        expose_value=False,
        callback=_set("confirmations"),
        help="How deep the funding is, on your word (backend none).",
    )(command)


class AmountType(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """``1500``, ``1500sat`` or ``0.000015btc``."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Amount:
        """Parse; exit 2 where malformed."""
        if isinstance(value, Amount):
            return value
        try:
            return Amount.parse(str(value))
        except ParseError as error:
            raise UsageError(error.slug, error.message, hint=error.hint) from None


class FeeRateType(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """Satoshi per virtual byte: ``2`` or ``1.5``."""

    name = "sat/vB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FeeRate:
        """Parse; exit 2 where malformed."""
        if isinstance(value, FeeRate):
            return value
        try:
            return FeeRate.parse_sat_per_vb(str(value))
        except ParseError as error:
            raise UsageError(error.slug, error.message, hint=error.hint) from None


AMOUNT = AmountType()
FEE_RATE = FeeRateType()


def check_address(text: str, network: Network) -> bytes:
    """The scriptPubKey of an address from the command line; exit 2 where it is none of this network."""
    from mpchan.bitcoin.address import address_to_script

    try:
        return address_to_script(text, network)
    except ParseError as error:
        raise UsageError(error.slug, error.message, hint=error.hint) from None


_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def _stdout_or_path(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """None for standard output, by whichever name: a redirected ``/dev/stdout`` is a link to some file."""
    return None if value is not None and str(value) in (STANDARD_STREAM, *_STDOUT) else value


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=_stdout_or_path,
    help="Write there instead of stdout.",
)


def _complete_channel(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    try:
        names = context.ensure_object(App).wallet().channel_names()
    except MpchanError:
        return []
    return [name[:16] for name in names if name.startswith(incomplete)]


def channel_option(command: F) -> F:
    """``--channel`` with any unique prefix."""
    return click.option(
        "--channel",
        "-c",
        metavar="ID",
        shell_complete=_complete_channel,
        help="Any unique beginning of the channel's id; not needed when only one fits.",
    )(command)


def channel_argument(command: F) -> F:
    """``CHANNEL`` as an argument; see ``one_channel``."""
    return click.argument("name", metavar="[CHANNEL]", required=False, shell_complete=_complete_channel)(
        command
    )


def one_channel(name: str | None, option: str | None) -> str | None:
    """The channel that was named as an argument or with ``--channel``.

    Raises:
        UsageError: ``usage`` where two different ones are.
    """
    if name is not None and option is not None and name != option:
        raise UsageError("usage", f"two channels are named, {name!r:.80} and {option!r:.80}")
    return option if name is None else name


on_error_option = click.option(
    "--on-error",
    type=click.Choice(["stop", "continue"]),
    help="With --stream: what follows a refused line; stop unless told.",
)


def check_stream_options(given: Mapping[str, object], command: str) -> None:
    """Options that only ``--stream`` has a use for.

    Raises:
        UsageError: ``usage`` where one is given.
    """
    for name, value in given.items():
        if value:
            raise UsageError(
                "usage", f"{name} goes with --stream only", hint=f"see `mpchan {command} --help`"
            )


file_argument = click.argument("file", type=click.Path(allow_dash=True), metavar="FILE")


def example(text: str) -> str:
    """A help text's example, kept as it is written."""
    lines = "\n".join(f"  {line}" for line in text.strip().splitlines())
    return f"\b\nExample:\n{lines}"
