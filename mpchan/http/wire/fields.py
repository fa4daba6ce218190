"""Authentication parameters, as ``WWW-Authenticate`` writes them (RFC 9110, sections 11.2 and 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from mpchan.errors import ParseError

SCHEME = "Payment"

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t,]|$)")
_PARAMETER = re.compile(
    rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*)"|({_TOKEN}))'
    r"(?=[ \t]*(?:,|$))"
)
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))")
_BETWEEN = re.compile(r"[ \t,]*")
_SPACES = re.compile(r"[ \t]+")
_ESCAPED = re.compile(r"\\(.)")

MAX_HEADER_BYTES = 16_384
"""Of one ``WWW-Authenticate`` value that is read: four times what a server should send at the most."""


def written(scheme: str, parameters: Mapping[str, str]) -> str:
    """One challenge: the scheme and its parameters, every value quoted.

    Raises:
        ValueError: a value that no header can hold.
    """
    parts = []
    for name, value in parameters.items():
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"no header can hold {value!r:.80}")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'{name}="{escaped}"')
    return f"{scheme} {', '.join(parts)}"


def payment_parameters(values: Iterable[str]) -> list[dict[str, str]]:
    """The parameters of every ``Payment`` challenge in the values of ``WWW-Authenticate``; other schemes are skipped.

    Names of schemes and parameters are told apart without regard to case. A challenge that cannot be read does not hide
    the others; what follows on a value's error in syntax cannot be told apart, and is left.

    Raises:
        ParseError: ``malformed-challenge``: nothing is left, and there was a value that is no list of challenges, or a
            parameter that stands twice.
    """
    found: list[dict[str, str]] = []
    wrong: ParseError | None = None
    for value in values:
        try:
            for scheme, parameters in _challenges(value):
                if scheme.lower() != SCHEME.lower():
                    continue
                try:
                    found.append(_by_name(parameters))
                except ParseError as error:
                    wrong = wrong or error
        except ParseError as error:
            wrong = wrong or error
    if wrong is not None and not found:
        raise wrong
    return found


def _by_name(parameters: list[tuple[str, str]]) -> dict[str, str]:
    found = dict(parameters)
    if len(found) != len(parameters):
        raise _malformed("a parameter stands twice")
    return found


def _challenges(value: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    if len(value) > MAX_HEADER_BYTES:
        raise _malformed(f"{len(value)} bytes are more than {MAX_HEADER_BYTES}")
    at = _end(_BETWEEN, value, 0)
    while at < len(value):
        scheme = _SCHEME.match(value, at)
        if scheme is None:
            raise _malformed(f"no challenge begins with {value[at : at + 20]!r}")
        at = scheme.end()
        parameters: list[tuple[str, str]] = []
        spaces = _SPACES.match(value, at)
        if spaces is not None:
            at = spaces.end()
            if not _PARAMETER.match(value, at):
                at = _end(_TOKEN68, value, at)
            else:
                at = _read_parameters(value, at, parameters)
        after = _end(_BETWEEN, value, at)
        if after < len(value) and "," not in value[at:after]:
            raise _malformed(f"no comma stands before {value[after : after + 20]!r}")
        yield scheme.group(1), parameters
        at = after


def _read_parameters(value: str, at: int, parameters: list[tuple[str, str]]) -> int:
    """Take in parameters from a place on; where they end."""
    found = _PARAMETER.match(value, at)
    while found is not None:
        name, quoted, token = found.groups()
        parameters.append((name.lower(), token if quoted is None else _ESCAPED.sub(r"\1", quoted)))
        at = found.end()
        found = _PARAMETER.match(value, _end(_BETWEEN, value, at))
    return at


def _end(pattern: re.Pattern[str], value: str, at: int) -> int:
    found = pattern.match(value, at)
    return at if found is None else found.end()


def _malformed(what: str) -> ParseError:
    return ParseError("malformed-challenge", f"WWW-Authenticate: {what}")
