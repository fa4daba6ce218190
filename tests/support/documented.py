"""Holds what a command prints with ``--json`` to the documented keys: none unknown, none missing, each of its type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mpchan.results.base import Result
from mpchan.results.documented import ANSWERS, SHORT_FORMS, Key, answers, keys

_PLAIN = {
    "string": lambda value: type(value) is str,
    "integer": lambda value: type(value) is int,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
}


def require_documented(words: Sequence[str], out: str) -> None:
    """Every object on standard output is one of those that the command is documented to print.

    Args:
        words: of the command line, without the name of the program.
    """
    command = command_in(words)
    if command is None or not out:
        return
    for line in out.splitlines():
        found = [faults(kind, json.loads(line)) for kind in answers(command)]
        assert [] in found, f"mpchan {command}: {min(found, key=len)} in {line:.1000}"


def command_in(words: Sequence[str]) -> str | None:
    """The documented command that a command line names, in the words of ``ANSWERS``."""
    rest = list(words)
    while "--wallet" in rest:  # a wallet may be called like a command
        at = rest.index("--wallet")
        del rest[at : at + 2]
    rest = [word for word in rest if not word.startswith("-")]
    for name in (" ".join(rest[:2]), " ".join(rest[:1])):
        if name in ANSWERS or name in SHORT_FORMS:
            return name
    assert not rest, f"nothing documents the JSON of {words}"
    return None


def faults(kind: type[Result], view: Any) -> list[str]:
    """What is wrong with an object that should be of one class; nothing where it is."""
    if not isinstance(view, dict):
        return ["no object"]
    known = {key.name: key for key in keys(kind)}
    found = [f"unknown {name}" for name in view if name not in known]
    found += [f"missing {name}" for name, key in known.items() if not key.optional and name not in view]
    found += [
        f"{name} is no {key.json_type}"
        for name, key in known.items()
        if name in view and not _fits(key, key.json_type, view[name])
    ]
    return found or ([] if list(view) == [name for name in known if name in view] else ["another order"])


def _fits(key: Key, type_: str, value: Any) -> bool:
    if type_.startswith("list of "):
        return isinstance(value, list) and all(_fits(key, type_[8:-1], item) for item in value)
    return any(_PLAIN[one](value) if one in _PLAIN else _is_object(key, value) for one in type_.split(" or "))


def _is_object(key: Key, value: Any) -> bool:
    if not key.inside:
        return isinstance(value, dict) and all(
            type(name) is type(item) is str for name, item in value.items()
        )
    return any(not faults(kind, value) for kind in key.inside)
