"""Checked JSON files, one table in each, and the folders of a wallet that hold them.

    {"schema": 1, "checksum": "<SHA-256 of the table, canonical>", "<kind>": {…}}

The canonical form is JSON with sorted keys and no spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mpchan.errors import NotPossible, ParseError, StorageError
from mpchan.wallet.layout import stored
from mpchan.wallet.storage import make_directory, read_text, write_durably

T = TypeVar("T")


def canonical(body: object) -> str:
    """The one text that a checksum is made of."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def checksum(text: str) -> str:
    """SHA-256 of a canonical text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def opened(text: str, kind: str, schema: Callable[[Any], int]) -> Any:
    """The table in a checked file.

    Args:
        schema: tells the schema number that a table must have.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it is none, or its schema or checksum does not fit.
    """
    envelope = json.loads(text)
    body = envelope[kind]
    if envelope["schema"] != schema(body) or envelope["checksum"] != checksum(canonical(body)):
        raise ValueError("checksum or schema does not fit")
    return body


def checked(value: object, kind: type[T]) -> T:
    """A value of a table that must be of this very type."""
    if type(value) is not kind:
        raise ValueError(f"no {kind.__name__}: {value!r:.80}")
    return value


class Store:
    """One of a wallet's folders.

    Args:
        home: the wallet's directory.
        kind: of what it holds, as the files name it.
        schema: tells the schema number of a table.
        slug: of the error where a file cannot be used.
        hint: what to do then.
    """

    def __init__(
        self,
        home: Path,
        folder: str,
        kind: str,
        schema: Callable[[Any], int],
        slug: str,
        hint: str | None = None,
    ) -> None:
        self.directory = home / folder
        self._kind = kind
        self._schema = schema
        self._slug = slug
        self._hint = hint

    def path(self, name: str) -> Path:
        """The file of this name, which may not be there."""
        return self.directory / f"{name}.json"

    def files(self) -> list[Path]:
        """The files, sorted by their names; none where the folder is missing."""
        names = stored(self.directory.parent, self.directory.name, ".json")
        return [self.directory / name for name in names]

    def write(self, name: str, body: dict[str, Any]) -> None:
        """Write a table; durable on return."""
        text = canonical(body)
        make_directory(self.directory)
        schema = self._schema(body)
        envelope = f'{{"schema": {schema}, "checksum": "{checksum(text)}", "{self._kind}": {text}}}\n'
        write_durably(self.path(name), envelope.encode())

    def read(self, path: Path, parse: Callable[[Any], T]) -> T:
        """What ``parse`` makes of the table in a file, which stays as it is.

        Raises:
            StorageError: the slug of this store; ``file-missing``, ``read-failed``.
        """
        try:
            return parse(opened(read_text(path), self._kind, self._schema))
        except (
            *(ParseError, NotPossible, ValueError, KeyError, TypeError, AttributeError),
            RecursionError,
        ) as error:
            raise StorageError(self._slug, f"{path}: {error!s:.200}", hint=self._hint) from None
