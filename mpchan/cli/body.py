"""Where the body of an answer goes, as it comes: standard output, or a file that appears once it is whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mpchan import durability
from mpchan.cli.files import not_emitted, silence
from mpchan.errors import StorageError, system_reason

_HINT = "what was charged for it stays charged; ask again"


@contextmanager
def body_written(target: Path | None) -> Iterator[Callable[[bytes], None]]:
    """What takes the parts of a body; the file has its name when the block has ended well.

    Raises:
        StorageError: ``not-emitted``.
    """
    if target is None:
        yield _print
        return
    place = Path(os.path.realpath(target))
    staged = durability.temporary_path(place)
    try:
        descriptor = durability.create(staged, 0o644)
    except OSError as error:
        raise _failed(target, error) from error
    try:
        try:
            yield lambda data: _write(target, descriptor, data)
            durability.sync(descriptor)
        except BaseException:
            durability.give_up(descriptor)
            raise
        durability.close(descriptor)
        durability.replace(staged, place)
    except OSError as error:
        durability.discard(staged)
        raise _failed(target, error) from error
    except BaseException:
        durability.discard(staged)
        raise


def _write(target: Path, descriptor: int, data: bytes) -> None:
    try:
        durability.write(descriptor, data)
    except OSError as error:
        raise _failed(target, error) from error


def _print(data: bytes) -> None:
    if sys.stdout is None:
        raise not_emitted("standard output is closed", _HINT)
    try:
        durability.step("emit", _pour, data)
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        raise not_emitted(f"standard output: {system_reason(error)}", _HINT) from error


def _pour(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _failed(target: Path, error: OSError) -> StorageError:
    return not_emitted(f"{target}: {system_reason(error)}", _HINT)
