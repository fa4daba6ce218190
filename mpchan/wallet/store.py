"""Checked JSON files, one table in each, and the folders of a wallet that hold them.

    {"schema": 1, "checksum": "<SHA-256 of the table, canonical>", "<kind>": {…}}

The canonical form is JSON with sorted keys and no spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

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


class Store(Generic[T]):
    """One of a wallet's folders, with one value in each file.

    Args:
        home: the wallet's directory.
    """

    folder: ClassVar[str]
    kind: ClassVar[str]
    """Of what it holds, as the files name it."""
    slug: ClassVar[str]
    """Of the error where a file cannot be used; ``hint`` says what to do then."""
    hint: ClassVar[str | None] = None

    def __init__(self, home: Path) -> None:
        self.directory = home / self.folder

    # of each kind

    def _name(self, value: T) -> str:
        raise NotImplementedError

    def _to_table(self, value: T) -> dict[str, Any]:
        raise NotImplementedError

    def _from_table(self, body: Any, name: str) -> T:
        raise NotImplementedError

    def _schema_of(self, body: Any) -> int:
        return 1

    # of all

    def path(self, name: str) -> Path:
        """The file of this name, which may not be there."""
        return self.directory / f"{name}.json"

    def files(self) -> list[Path]:
        """The files, sorted by their names; none where the folder is missing."""
        names = stored(self.directory.parent, self.directory.name, ".json")
        return [self.directory / name for name in names]

    def save(self, value: T) -> None:
        """Write a value; durable on return."""
        body = self._to_table(value)
        text = canonical(body)
        make_directory(self.directory)
        schema = self._schema_of(body)
        envelope = f'{{"schema": {schema}, "checksum": "{checksum(text)}", "{self.kind}": {text}}}\n'
        write_durably(self.path(self._name(value)), envelope.encode())

    def load(self, path: Path) -> T:
        """The value in one of ``files``, which stays as it is.

        Raises:
            StorageError: the slug of this store; ``file-missing``, ``read-failed``.
        """
        try:
            value = self._from_table(opened(read_text(path), self.kind, self._schema_of), path.stem)
            if self._name(value) != path.stem:
                raise ValueError("it is another one's")
            return value
        except (
            *(ParseError, NotPossible, ValueError, KeyError, TypeError, AttributeError),
            RecursionError,
        ) as error:
            raise StorageError(self.slug, f"{path}: {error!s:.200}", hint=self.hint) from None

    def __iter__(self) -> Iterator[T]:
        """All readable values, in no order that means anything."""
        for path in self.files():
            with suppress(StorageError):
                yield self.load(path)
