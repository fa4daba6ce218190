"""The program: commands that load only when used, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from mpchan.cli.app import App
from mpchan.cli.files import not_emitted, print_error, silence
from mpchan.cli.options import Documented
from mpchan.errors import ChainError, MpchanError, StorageError, UsageError, system_reason

PROGRAM = "mpchan"
INTERRUPTED = 130


class BugError(MpchanError):
    """What should not happen (exit 1)."""


class NoCommand(click.UsageError):
    """Nothing but the name of the program or of a group: people see its help."""


class UnknownCommand(click.UsageError):
    """A word where the name of a command belongs.

    Attributes:
        meant: the commands that may be meant.
    """

    def __init__(self, message: str, context: click.Context, meant: Sequence[str]) -> None:
        super().__init__(message, context)
        self.meant = meant


class LazyGroup(Documented, click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def __init__(self, *args: Any, lazy: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own options; nothing at all is a usage error with help."""
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            raise NoCommand("missing command", ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a channel's life."""
        return list(self._lazy)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; where none has that name, those that may be meant are told.

        Raises:
            UnknownCommand: with them.
        """
        name = args[0]
        if name not in self._lazy and not name.startswith("-") and not ctx.resilient_parsing:
            raise UnknownCommand(f"no such command {name!r:.80}", ctx, self._meant_by(name))
        return super().resolve_command(ctx, args)

    def _meant_by(self, name: str) -> list[str]:
        """The commands with this name in a group, or with one that is spelled much like it."""
        from difflib import get_close_matches

        groups = {"": self, "payee ": payee, "payer ": payer} if self.name == cli.name else {"": self}
        known = {
            prefix + word: word
            for prefix, group in groups.items()
            if isinstance(group, LazyGroup)
            for word in group._lazy
        }
        close = get_close_matches(name, sorted(set(known.values())), n=1, cutoff=0.6)
        return (
            close if set(close) & set(self._lazy) else [full for full, word in known.items() if word in close]
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"mpchan.cli.{module}"), attribute)
        return command


def _print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from mpchan import __version__
    from mpchan.bitcoin.signers import signer_name
    from mpchan.chain.embedded.kernel import engine_name
    from mpchan.results.wallets import Version

    try:
        engine = engine_name()
    except ChainError:  # the embedded chain is optional
        engine = "none"
    context.ensure_object(App).answer(
        Version(__version__, signer_name(), engine),
        lambda view: f"mpchan {view.version}, signer {view.signer}, engine {view.engine}",
    )
    context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    lazy={
        "init": "commands.init:init",
        "passphrase": "main:passphrase",
        "address": "commands.coins:address",
        "balance": "commands.coins:balance",
        "send": "commands.coins:send",
        "scan": "commands.coins:scan",
        "backup": "commands.backup:backup",
        "restore": "commands.backup:restore",
        "list": "commands.wallet:list_channels",
        "show": "commands.wallet:show",
        "inspect": "commands.wallet:inspect",
        "verify": "commands.verify:verify",
        "history": "commands.journal:history",
        "fsck": "commands.journal:fsck",
        "wait": "commands.wallet:wait",
        "watch": "commands.watch:watch",
        "plan": "commands.plan:plan",
        "payee": "main:payee",
        "payer": "main:payer",
        "open": "commands.opening:open_channel",
        "pay": "commands.payer:pay",
        "settle": "commands.short:settle",
        "refund": "commands.payer:refund",
        "bump": "commands.bump:bump",
        "regtest": "main:regtest",
        "engine": "main:engine",
        "guide": "commands.guide:guide",
        "demo": "demo.command:demo",
    },
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    callback=_print_version,
    help="Version, signer, engine.",
)
def cli() -> None:
    """Pay by the piece: Bitcoin micropayment channels for payer and payee.

    The payer locks the whole price once, signs one small payment after the other as a file, and the chain sees two
    transactions. Neither side trusts the other for more than one piece.

    \b
    Start with:
      mpchan demo            the whole story, both parties, on a private chain
      mpchan init            a wallet of your own
      mpchan COMMAND --help  each command with an example
      mpchan guide           all there is to read, by topic
    """


@click.group(
    cls=LazyGroup,
    lazy={
        "offer": "commands.payee:offer",
        "sign-refund": "commands.payee:sign_refund",
        "funding": "commands.payee:funding",
        "accept": "commands.payee:accept",
        "settle": "commands.payee:settle",
        "sell": "commands.sell:sell",
        "serve": "commands.serve:serve",
        "export-latest": "commands.sync:export_latest",
        "abandon": "commands.payee:abandon",
    },
)
def payee() -> None:
    """The side that is paid: offer, sign-refund, accept, settle."""


@click.group(
    cls=LazyGroup,
    lazy={
        "open": "commands.opening:open_channel",
        "fund": "commands.opening:fund",
        "pay": "commands.payer:pay",
        "settle": "commands.payer:settle",
        "refund": "commands.payer:refund",
        "buy": "commands.buy:buy",
        "fetch": "commands.fetch:fetch",
        "spending": "commands.spending:spending",
        "sync": "commands.sync:sync",
        "recover": "commands.recover:recover",
        "abandon": "commands.payer:abandon",
    },
)
def payer() -> None:
    """The side that pays: open, fund, pay, settle, or refund."""


@click.group(
    cls=LazyGroup,
    lazy={
        "set": "commands.passphrase:set_passphrase",
        "change": "commands.passphrase:change",
        "remove": "commands.passphrase:remove",
    },
)
def passphrase() -> None:
    """Encrypt the keys: set, change or remove their passphrase.

    Commands that sign ask for it. They take it from the descriptor whose number is in MPCHAN_PASSPHRASE_FD, else from
    the file that MPCHAN_PASSPHRASE_FILE names and that no one else may read, else from the terminal; one line of text
    in UTF-8. To look, to watch and to take the refund, none is needed.
    """


@click.group(
    cls=LazyGroup,
    lazy={
        "mine": "commands.regtest:mine",
        "faucet": "commands.regtest:faucet",
        "status": "commands.regtest:status",
    },
)
def regtest() -> None:
    """The embedded chain: play money, Bitcoin Core's engine."""


@click.group(
    cls=LazyGroup,
    lazy={"install": "commands.engine:install"},
    invoke_without_command=True,
    subcommand_metavar="[install]",
)
@click.pass_context
def engine(context: click.Context) -> None:
    """Which engine the embedded chain uses, and `install`."""
    if context.invoked_subcommand is None:
        from mpchan.cli.commands.engine import show

        show(context.ensure_object(App))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing here exits the process."""
    app = App()
    try:
        return _run(app, list(arguments))
    except (click.Abort, KeyboardInterrupt):
        print_error("mpchan: interrupted")
        return INTERRUPTED
    except Exception as error:  # the outermost boundary: a bug must not look like a traceback to a user
        app.json = app.json or "--json" in arguments  # usage errors are JSON too, wherever the flag stands
        if isinstance(error, NoCommand) and error.ctx is not None and not app.json:
            for line in [*error.ctx.get_help().splitlines(), ""]:
                print_error(line)
        failure = _failure(error)
        if isinstance(failure, BugError) and os.environ.get("MPCHAN_DEBUG"):
            raise
        return app.fail(failure)
    finally:
        app.warn_of_exposure()


def _run(app: App, arguments: list[str]) -> int:
    instruction = os.environ.get("_MPCHAN_COMPLETE")
    if instruction:
        from click.shell_completion import shell_complete

        if shell_complete(cli, {"obj": app}, PROGRAM, "_MPCHAN_COMPLETE", instruction):
            raise UsageError("usage", f"no completion for _MPCHAN_COMPLETE={instruction!s:.80}")
        return 0
    try:
        with cli.make_context(PROGRAM, arguments, obj=app) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as leave:  # --help and --version
        return leave.exit_code
    return code if isinstance(code, int) else 0


def _failure(error: Exception) -> MpchanError:
    """Any failure as one of our own."""
    if isinstance(error, MpchanError):
        return error
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx is not None else PROGRAM
        if isinstance(error, UnknownCommand) and error.meant:
            meant = " or ".join(f"`{where} {name}`" for name in error.meant)
            return UsageError("usage", _lower(error.format_message()), hint=f"do you mean {meant}?")
        return UsageError("usage", _lower(error.format_message()), hint=f"see `{where} --help`")
    if isinstance(error, click.ClickException):
        return UsageError("usage", _lower(error.format_message()))
    if isinstance(error, OSError):
        return _system_failure(error)
    hint = "this is a bug in mpchan; MPCHAN_DEBUG=1 shows where"
    return BugError("bug", f"unexpected {type(error).__name__}: {error!s:.200}", hint=hint)


def _system_failure(error: OSError) -> StorageError:
    """What the system refused without anyone expecting it: help that could not be printed, a folder that is gone."""
    reason = system_reason(error)
    if _comes_from_click(error):
        silence(sys.stdout)
        return not_emitted(f"standard output: {reason}")
    if error.errno == errno.ENOENT and not _stands_somewhere():
        return StorageError(
            "system",
            "the directory that this command was started in is gone",
            hint="change to another one, or name all files in full",
        )
    hint = "what the command did before may be on the disk: look with `mpchan list` before you repeat it"
    where = "" if error.filename is None else f"{error.filename!s:.200}: "
    return StorageError("system", where + reason, hint=hint)


def _stands_somewhere() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _comes_from_click(error: OSError) -> bool:
    """Whether click was printing, which it does for help and completion alone: nothing else was done then."""
    import traceback  # nothing else needs it

    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == "click.utils" for frame, _ in frames)


def _lower(message: str) -> str:
    """click's message in the house style: one line, lower case, no period."""
    text = " ".join(message.split()).rstrip(".")
    return text[:1].lower() + text[1:]
