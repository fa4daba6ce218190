"""Reading messages and writing results: bounded input, and output that is whole or absent."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from mpchan import durability
from mpchan.errors import ParseError, StorageError, UsageError, system_reason
from mpchan.units import MAX_MESSAGE_BYTES, MAX_TEXT_BYTES
from mpchan.wallet.layout import own_names
from mpchan.wallet.storage import sync_name

STANDARD_STREAM = "-"
AGAIN = "it is safe to run the same command again"
DONE = "it is done: do not run the command again"


def read_input(name: str) -> bytes:
    """The content of a file, or of standard input for ``-``: a message, in whatever form.

    Never more is read than a message has in hex; whether it is too long is seen once its form is known.

    Raises:
        ParseError: ``unreadable-file``, ``too-large``.
    """
    try:
        if name == STANDARD_STREAM:
            if sys.stdin is None:
                raise ParseError("unreadable-file", "standard input is closed")
            data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
        else:
            if stat.S_ISDIR(os.stat(name).st_mode):
                raise ParseError("unreadable-file", f"{name}: is a directory")
            with durability.reading(name) as file:
                data = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ParseError("unreadable-file", f"{name!s:.200}: {system_reason(error)}") from None
    if len(data) > MAX_TEXT_BYTES:
        raise _too_large(name)
    return data


def _too_large(name: str) -> ParseError:
    from mpchan.bitcoin.message import too_large

    return too_large(f"{name!s:.200}")


def read_text_input(name: str) -> str:
    """A text in UTF-8, as it is or in hex, as it lies in a mailbox.

    Raises:
        ParseError: ``unreadable-file``, ``too-large``, ``not-utf8``.
    """
    try:
        return read_message_bytes(name).decode()
    except UnicodeDecodeError:
        raise ParseError("not-utf8", f"{name}: not UTF-8 text") from None


def read_message_bytes(name: str) -> bytes:
    """A message that is no transaction: what its hex stands for, or the bytes as they are where they are no hex.

    Raises:
        ParseError: ``unreadable-file``, ``too-large``.
    """
    data = read_input(name)
    with suppress(ValueError):  # no hex: the message as it is
        data = bytes.fromhex(data.decode("ascii"))
    if len(data) > MAX_MESSAGE_BYTES:
        raise _too_large(name)
    return data


# writing ------------------------------------------------------------------------------------------


def check_output(
    target: Path | None, sources: tuple[str, ...], wallet: Path, *, follows: bool = False
) -> None:
    """Refuse an output file that cannot be written or must not be, before anything else happens.

    Args:
        sources: what the command reads; none of it may be overwritten.
        wallet: its own files may not be either, nor those of another wallet.
        follows: a symbolic link may lead into another folder.

    Raises:
        UsageError: ``output-is-input``, ``output-is-link``, ``output-is-wallet``, ``output-unwritable``.
    """
    if target is None:
        return
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise UsageError("output-unwritable", f"{target!s:.200}: {system_reason(error)}") from None
    for source in sources:
        if source != STANDARD_STREAM and mode is not None and _same_file(source, target):
            raise UsageError("output-is-input", f"{target} is the input file, it would be overwritten")
    if mode is not None and not (stat.S_ISREG(mode) or _is_stream(mode)):
        kind = "a directory" if stat.S_ISDIR(mode) else "no file that can be written to"
        raise UsageError("output-unwritable", f"{target} is {kind}")
    if mode is None or stat.S_ISREG(mode):
        _check_place(target, Path(os.path.realpath(target)), wallet)
        if not follows:
            place_of(target)


def place_of(target: Path) -> Path:
    """The file that an output's name stands for: its own, or one in the same folder to which a link leads.

    What somebody has laid into a folder must not decide which file of another folder is overwritten.

    Raises:
        UsageError: ``output-is-link``.
    """
    place = Path(os.path.realpath(target))
    if os.path.islink(target) and place.parent != Path(os.path.realpath(target.parent)):
        raise UsageError(
            "output-is-link",
            f"{target} is a link into another folder, to {place}",
            hint=f"where that is what you want, name {place} itself",
        )
    return place


def check_refund_out(target: Path | None, what: str, others: Iterable[Path]) -> None:
    """The copy of a refund is a file of its own, and one that keeps it.

    Raises:
        UsageError: ``output-unwritable``, ``output-twice``.
    """
    if target is None:
        return
    if target.exists() and not target.is_file():
        raise UsageError("output-unwritable", f"{target} is no file that keeps a refund")
    if os.path.realpath(target) in [os.path.realpath(other) for other in others]:
        raise UsageError("output-twice", f"{what} and refund cannot both be written to {target}")


def _same_file(source: str, target: Path) -> bool:
    try:
        return os.path.samefile(source, target)
    except OSError:
        return False  # a missing input is reported where it is read


def _is_stream(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _check_place(target: Path, place: Path, wallet: Path) -> None:
    folder, own = place.parent, Path(os.path.realpath(wallet))
    if not os.path.isdir(folder):
        raise UsageError("output-unwritable", f"the folder {target.parent} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError("output-unwritable", f"the folder {target.parent} cannot be written to")
    for home in place.parents:
        # not every file system tells KEYS.TOML from keys.toml
        name = place.parts[len(home.parts)].casefold()
        if name in own_names() and (home == own or (home / "wallet.toml").exists()):
            whose = "the" if home == own else "another"
            raise UsageError(
                "output-is-wallet", f"{target} is the place of one of {whose} wallet's own files"
            )


@contextmanager
def written(target: Path | None, text: str, hint: str = AGAIN) -> Iterator[None]:
    """Write a result file, whole or not at all; it appears only when the block has ended well.

    A device or a named pipe is written to as it is; a symbolic link stays one.

    Raises:
        StorageError: ``not-emitted``, with ``hint``; ``write-unsure``, the file is there, but a crash of the machine
            could undo that.
    """
    if target is None or _poured(target, text, hint):
        yield
        return
    staged, place = _staged(target, text, hint)
    try:
        yield
        _move(staged, place, hint)
    except BaseException:
        durability.discard(staged)
        raise
    try:
        sync_name(place)
    except StorageError as error:
        raise StorageError(error.slug, error.message, hint=hint) from error


def _move(staged: Path, place: Path, hint: str) -> None:
    try:
        durability.replace(staged, place)
    except OSError as error:
        raise not_emitted(f"{place}: {system_reason(error)}", hint) from error


def _poured(target: Path, text: str, hint: str) -> bool:
    """Whether the target is a device or a pipe, which took the text at once."""
    try:
        if not (target.exists() and _is_stream(os.stat(target).st_mode)):
            return False
        durability.step("emit", _pour, target, text)
    except OSError as error:
        raise not_emitted(f"{target}: {system_reason(error)}", hint) from error
    return True


def _pour(target: Path, text: str) -> None:
    """Write to what is there, be it a file by now: nothing is made, and nothing is cut off."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "w", encoding="utf-8") as stream:
        if not _is_stream(os.fstat(descriptor).st_mode):
            raise FileExistsError(errno.EEXIST, "is a file now, where a device or a pipe was")
        stream.write(text)


def _staged(target: Path, text: str, hint: str) -> tuple[Path, Path]:
    """A file beside the target that holds the text, by a name that nobody else takes; and the target's own place."""
    try:
        place = place_of(target)
    except UsageError as error:  # since it was checked
        raise not_emitted(error.message, hint) from error
    staged = place.with_name(f".mpchan-{os.urandom(8).hex()}.part")
    try:
        durability.write_new(staged, text.encode(), mode=0o644)
    except BaseException as error:
        durability.discard(staged)
        if not isinstance(error, OSError):
            raise
        raise not_emitted(f"{target}: {system_reason(error)}", hint) from error
    return staged, place


def print_output(text: str, hint: str = AGAIN) -> None:
    """Print a line to standard output and make sure that it left.

    Raises:
        StorageError: ``not-emitted``, with ``hint``.
    """
    if sys.stdout is None:
        raise not_emitted("standard output is closed", hint)
    try:
        durability.step("emit", _print, sys.stdout, text)
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        raise not_emitted(f"standard output: {system_reason(error)}", hint) from error


def print_pieces(pieces: Iterable[str], hint: str = AGAIN) -> None:
    """Print a long text piece by piece, and make sure that it left.

    Raises:
        StorageError: ``not-emitted``, with ``hint``.
    """
    if sys.stdout is None:
        raise not_emitted("standard output is closed", hint)
    for piece in pieces:
        try:
            durability.step("emit", _print, sys.stdout, piece, "")
        except (OSError, ValueError) as error:
            silence(sys.stdout)
            raise not_emitted(f"standard output: {system_reason(error)}", hint) from error


def _print(stream: TextIO, text: str, end: str = "\n") -> None:
    stream.write(text + end)
    stream.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream, which may be closed, is a terminal."""
    return stream is not None and stream.isatty()


def visible(text: str) -> str:
    """The text with its control characters written out: what a file's name says is no order to the terminal."""
    if text.isprintable():
        return text
    return "".join([mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text])


def print_error(text: str) -> None:
    """Print a line to standard error; where that cannot be written, nobody is left to be told."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(visible(text) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        silence(sys.stderr)


def confirmed(question: str) -> bool:
    """Ask on standard error and read the answer from standard input; no answer is a no.

    Nothing of it goes to standard output, where the result of the command belongs.
    """
    if sys.stdin is None or sys.stderr is None:
        return False
    try:
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except (OSError, ValueError):
        return False


def silence(stream: TextIO) -> None:
    """Keep the interpreter from failing again when it flushes a dead stream at exit."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    except (OSError, ValueError):
        return


def not_emitted(reason: str, hint: str = AGAIN) -> StorageError:
    """The state is saved, but its message did not get out."""
    return StorageError(
        "not-emitted", f"what was done is saved, but the result could not be written: {reason}", hint=hint
    )
