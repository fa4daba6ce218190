"""A command of the program, and the options that several commands share: each a decorator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from mpchan.cli.app import App
from mpchan.cli.files import STANDARD_STREAM
from mpchan.cli.input.numbers import TIP, WholeNumber
from mpchan.errors import MpchanError, UsageError

F = TypeVar("F", bound=Callable[..., Any])

INPUT = click.Path(allow_dash=True)
"""A file that is read, or ``-`` for standard input."""

FILE = click.Path(path_type=Path)
FILE.name = "file"
FOLDER = click.Path(file_okay=False, path_type=Path)


def _set(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(context.ensure_object(App), attribute, value)

    return callback


_COMMON = (
    click.Option(
        ["--wallet"],
        type=FOLDER,
        metavar="DIR",
        expose_value=False,
        callback=_set("directory"),
        help="Wallet directory; else $MPCHAN_WALLET.",
    ),
    click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        callback=_set("quiet"),
        help="No words for people.",
    ),
    click.Option(
        ["--json"],
        is_flag=True,
        is_eager=True,  # known before any other option answers, such as --version
        expose_value=False,
        callback=_set("json"),
        help="One JSON object on stdout.",
    ),
)


class Documented(click.Command):
    """A command or group with the options that all have, before or after the command's name.

    Its help ends with the keys of its JSON.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _COMMON

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, and what ``--json`` prints."""
        super().format_epilog(ctx, formatter)
        from mpchan.cli.render.keys import write_keys

        write_keys(ctx.command_path.partition(" ")[2], formatter)


def command(*examples: str, name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function that takes the ``App`` and its options.

    Args:
        examples: command lines for its help, kept as they are written.
        name: where it is not the function's.
    """
    epilog = "\n".join(("\b\nExample:", *(f"  {line}" for line in examples)))

    def made(function: Callable[..., Any]) -> click.Command:
        called = click.make_pass_decorator(App, ensure=True)(function)
        return click.command(name, cls=Documented, epilog=epilog)(called)

    return made


# the chain ----------------------------------------------------------------------------------------


tip = click.option(
    "--tip",
    type=TIP,
    metavar="HEIGHT[:MEDIAN_TIME]",
    expose_value=False,
    callback=_set("tip"),
    help="Where the chain stands (backend none).",
)


def chain(command: F) -> F:
    """``--tip`` and ``--confirmations``, for wallets that ask no chain."""
    return click.option(
        "--confirmations",
        type=WholeNumber(0, 1_000_000),
        metavar="N",
        expose_value=False,
        callback=_set("confirmations"),
        help="How deep the funding is, on your word (backend none).",
    )(tip(command))


# files --------------------------------------------------------------------------------------------


_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def _stdout_or_path(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """None for standard output, by whichever name: a redirected ``/dev/stdout`` is a link to some file."""
    return None if value is not None and str(value) in (STANDARD_STREAM, *_STDOUT) else value


output = click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    callback=_stdout_or_path,
    help="Write there instead of stdout.",
)
file = click.argument("file", type=INPUT, metavar="FILE")
file_if_any = click.argument("file", type=INPUT, required=False)


# a channel ----------------------------------------------------------------------------------------


def _complete_channel(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    try:
        names = context.ensure_object(App).wallet().channels.names()
    except MpchanError:
        return []
    return [name[:16] for name in names if name.startswith(incomplete)]


channel = click.option(
    "--channel",
    "-c",
    metavar="ID",
    shell_complete=_complete_channel,
    help="Any unique beginning of the channel's id; not needed when only one fits.",
)


def named_channel(command: Callable[..., Any]) -> Callable[..., Any]:
    """``CHANNEL`` as an argument or with ``--channel``: one value."""

    @wraps(command)
    def called(*args: Any, name: str | None, channel: str | None, **options: Any) -> Any:
        if name is not None and channel is not None and name != channel:
            raise UsageError("usage", f"two channels are named, {name!r:.80} and {channel!r:.80}")
        return command(*args, channel=channel if name is None else name, **options)

    argument = click.argument("name", metavar="[CHANNEL]", required=False, shell_complete=_complete_channel)
    return argument(channel(called))


# streams ------------------------------------------------------------------------------------------


on_error = click.option(
    "--on-error",
    type=click.Choice(["stop", "continue"]),
    help="With --stream: what follows a refused line; stop unless told.",
)


def check_stream_options(given: Mapping[str, object], command: str) -> None:
    """Options that only ``--stream`` has a use for."""
    for name, value in given.items():
        if value:
            raise UsageError(
                "usage", f"{name} goes with --stream only", hint=f"see `mpchan {command} --help`"
            )
