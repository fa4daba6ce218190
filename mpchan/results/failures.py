"""Why something was not done."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class Failure(Result):
    """Why a command failed, on standard error."""

    error: str
    message: str
    hint: str | None
    exit_code: int


@frozen
class RefusedLine(Result):
    """A line of standard input that was refused.

    Attributes:
        line: its number, from 1
    """

    line: int
    error: str
    message: str
    hint: str | None
    exit_code: int
