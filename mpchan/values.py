"""Immutable value classes that are cheap to import.

``@frozen`` gives a class what ``@dataclass(frozen=True, slots=True)`` gives it: a checked constructor, equality, hash
and repr by its fields, ``__slots__``, and no assignment after construction. A dataclass compiles six or seven functions
for each class when its module is imported; a command that makes one payment loads some forty such classes, and that
alone would cost it more than the whole of click. Here only ``__init__`` is compiled and the rest is shared.

Type checkers see a dataclass.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")
_MISSING: Any = object()


class Field:
    """How one field differs from a plain one; made by ``field``."""

    __slots__ = ("compare", "default_factory", "init", "repr")

    def __init__(
        self, init: bool, repr: bool, compare: bool, default_factory: Callable[[], Any] | None
    ) -> None:
        self.init = init
        self.repr = repr
        self.compare = compare
        self.default_factory = default_factory


def field(
    *,
    init: bool = True,
    repr: bool = True,
    compare: bool = True,
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """A field that the constructor does not take, or that repr or comparison leave out, or whose default is made."""
    return Field(init, repr, compare, default_factory)


def replace(instance: T, **changes: Any) -> T:
    """A copy of a value with some fields changed; it is checked like any new one."""
    kind: Any = type(instance)
    given = {name: getattr(instance, name) for name in kind.__value_init__}
    given.update(changes)
    copy: T = kind(**given)
    return copy


if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    @dataclass_transform(frozen_default=True, field_specifiers=(field,))
    def frozen(cls: type[T], /) -> type[T]:
        """Make an immutable value class."""
        ...

    @dataclass_transform(frozen_default=True, order_default=True, field_specifiers=(field,))
    def frozen_ordered(cls: type[T], /) -> type[T]:
        """The same, and values of one class compare by their fields."""
        ...

else:

    def frozen(cls):
        """Make an immutable value class."""
        return _made(cls, _SHARED)

    def frozen_ordered(cls):
        """The same, and values of one class compare by their fields."""
        return _made(cls, {**_SHARED, **_ORDER})


def _made(cls: type, shared: dict[str, Any]) -> type:
    annotations = cls.__annotations__  # own ones only, since CPython 3.10
    own = [
        name
        for name, kind in annotations.items()
        if not str(kind).startswith(("ClassVar", "typing.ClassVar"))
    ]
    base: Any = cls.__base__
    inherited: tuple[str, ...] = getattr(base, "__value_fields__", ())
    defaults = {**getattr(base, "__value_defaults__", {}), **_own_defaults(cls, own)}
    names = (*inherited, *(name for name in own if name not in inherited))
    special = {name: given for name, given in defaults.items() if isinstance(given, Field)}
    taken = tuple(name for name in names if name not in special or special[name].init)
    compared = tuple(name for name in names if name not in special or special[name].compare)
    dropped = {*own, "__dict__", "__weakref__"}
    namespace = {key: item for key, item in cls.__dict__.items() if key not in dropped}
    for key, function in shared.items():
        namespace.setdefault(key, function)
    namespace.update(
        __slots__=tuple(name for name in own if name not in inherited),
        __value_fields__=names,
        __value_defaults__=defaults,
        __value_init__=taken,
        __value_repr__=tuple(name for name in names if name not in special or special[name].repr),
        __value_key__=attrgetter(*compared) if compared else _no_fields,
        __match_args__=taken,
        __qualname__=cls.__qualname__,
    )
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    if "__init__" not in cls.__dict__:
        made.__init__ = _initialiser(made, taken, defaults)  # type: ignore[misc]
    return made


def _own_defaults(cls: type, own: list[str]) -> dict[str, Any]:
    return {name: cls.__dict__[name] for name in own if name in cls.__dict__}


def _no_fields(instance: object) -> tuple[()]:
    return ()


def _initialiser(made: type, names: tuple[str, ...], defaults: dict[str, Any]) -> Callable[..., None]:
    """Compile ``__init__``: each field is set through its slot, then ``__post_init__`` checks."""
    scope: dict[str, Any] = {"_MISSING": _MISSING}
    parameters, body = ["self"], []
    for name in names:
        scope[f"_set_{name}"] = getattr(made, name).__set__
        source = name
        if name in defaults:
            given = defaults[name]
            factory = given.default_factory if isinstance(given, Field) else None
            scope[f"_default_{name}"] = given if factory is None else _MISSING
            if factory is not None:
                scope[f"_make_{name}"] = factory
                source = f"_make_{name}() if {name} is _MISSING else {name}"
            if factory is not None or not isinstance(given, Field):
                parameters.append(f"{name}=_default_{name}")
                body.append(f" _set_{name}(self, {source})")
                continue
        parameters.append(name)
        body.append(f" _set_{name}(self, {source})")
    if hasattr(made, "__post_init__"):
        body.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + ("\n".join(body) or " pass"), scope)
    initialiser: Callable[..., None] = scope["__init__"]
    return initialiser


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self.__value_key__(self) == self.__value_key__(other)


def _hash(self: Any) -> int:
    return hash((self.__class__, self.__value_key__(self)))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__value_repr__)
    return f"{self.__class__.__qualname__}({shown})"


def _setattr(self: Any, name: str, value: object) -> None:
    raise AttributeError(f"{self.__class__.__qualname__} is immutable, {name} cannot be set")


def _delattr(self: Any, name: str) -> None:
    raise AttributeError(f"{self.__class__.__qualname__} is immutable, {name} cannot be deleted")


def _reduce(self: Any) -> tuple[Any, tuple[Any, ...]]:
    return self.__class__, tuple(getattr(self, name) for name in self.__value_init__)


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return compare(self.__value_key__(self), self.__value_key__(other))

    return method


_SHARED: dict[str, Any] = {
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__reduce__": _reduce,
}
_ORDER: dict[str, Any] = {
    "__lt__": _comparison(lambda left, right: left < right),
    "__le__": _comparison(lambda left, right: left <= right),
    "__gt__": _comparison(lambda left, right: left > right),
    "__ge__": _comparison(lambda left, right: left >= right),
}
