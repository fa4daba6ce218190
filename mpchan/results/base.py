"""What all answers have in common: they turn into JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


class Result:
    """The answer of a command. Its subclasses are made with ``frozen``."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON object: the fields, without those that have their default."""
        kind: Any = type(self)
        defaults = kind.__value_defaults__
        view = {}
        for name in kind.__value_fields__:
            value = getattr(self, name)
            if name not in defaults or value != defaults[name]:
                view[name] = _plain(value)
        return view

    def to_json(self) -> str:
        """The same as text on one line."""
        return json.dumps(self.to_dict())

    def people_should_know(self) -> Sequence[str]:
        """The warnings, where this answer can have any."""
        return getattr(self, "warnings", ())


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.to_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
