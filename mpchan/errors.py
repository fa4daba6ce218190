"""The whole error hierarchy: every failure that a user can meet, with its exit code.

An error carries a *slug* (a stable, machine-readable name of the broken rule), a
message (lower case, no period, with the offending value) and, where it helps, a hint
that says what to do next. The class decides the exit code; ``mpchan.cli.main`` is the one
place that turns an error into a process exit.
"""

from __future__ import annotations

from typing import Any


class MpchanError(Exception):
    """Base of all expected failures. Anything else that escapes is a bug (exit code 1).

    Args:
        slug: stable name of the rule, in kebab-case; scripts may match on it.
        message: lower case, no period, holding the offending value.
        hint: what the user can do next, or None.
    """

    exit_code = 1

    def __init__(self, slug: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message
        self.hint = hint


class UsageError(MpchanError):
    """The command line itself is wrong (exit 2)."""

    exit_code = 2


class ParseError(MpchanError):
    """Unreadable or malformed bytes, file, offer or configuration (exit 3)."""

    exit_code = 3


class Refused(MpchanError):
    """What the counterparty sent breaks a rule of the channel (exit 4)."""

    exit_code = 4


class NotPossible(MpchanError):
    """The request does not fit the state: closed, not enough funds, below dust (exit 5)."""

    exit_code = 5


class SellerRefused(NotPossible):
    """A seller refuses what a buyer asks (exit 5).

    Attributes:
        reason: the slug that it gives. It is the other party's word: nothing may rest on it but what is asked next.
    """

    def __init__(self, slug: str, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(slug, message, hint=hint)
        self.reason = reason


class TooEarly(MpchanError):
    """The same request will succeed later: a lock time or confirmations are missing (exit 6)."""

    exit_code = 6


class StorageError(MpchanError):
    """The wallet's own storage failed: locked, permissions, damaged, not emitted (exit 7)."""

    exit_code = 7


class SentUnnoted(StorageError):
    """A complete transaction went out although the wallet's disk could not be written to.

    Args:
        failure: of the disk.
        what: went out, with its txid.
        result: the command's ``Result``, which is told all the same.
    """

    def __init__(self, failure: StorageError, what: str, result: Any) -> None:
        super().__init__(
            "sent-unnoted",
            f"{failure.message}; {what} went out all the same",
            hint=failure.hint
            or "it needs nothing more; see to the disk before this wallet does anything else",
        )
        self.result = result


class ChainError(MpchanError):
    """The chain backend is out of reach or rejects the transaction (exit 8)."""

    exit_code = 8


def system_reason(error: BaseException) -> str:
    """Why the system refused something, as a part of our own sentence."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()


def mistyped(error: MpchanError, hint: str | None = None) -> UsageError:
    """What cannot be read, as a mistake on the command line or in wallet.toml (exit 2)."""
    return UsageError(error.slug, error.message, hint=hint or error.hint)


def storage_error(slug: str, path: object, error: OSError) -> StorageError:
    """An OSError as the wallet's own: names the file and the reason."""
    return StorageError(slug, f"{path}: {system_reason(error)}")


class AsStorageError:
    """A block in which an OSError is a StorageError that names the file and the reason.

    Args:
        missing: another slug for a file that is not there.
    """

    __slots__ = ("_missing", "_path", "_slug")

    def __init__(self, slug: str, path: object, *, missing: str | None = None) -> None:
        self._slug = slug
        self._path = path
        self._missing = missing or slug

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            slug = self._missing if isinstance(error, FileNotFoundError) else self._slug
            raise storage_error(slug, self._path, error) from error
