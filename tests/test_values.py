"""Values behave like frozen, slotted dataclasses: the same class is made both ways and compared."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.values import field, frozen, frozen_ordered, replace


class _Plain:
    number: int
    name: str = "x"
    parts: tuple[int, ...] = ()
    kind: ClassVar[str] = "k"


def _copy_of(cls: type) -> type:
    return type("Sample", (), {k: v for k, v in cls.__dict__.items() if k not in ("__dict__", "__weakref__")})


Ours: Any = frozen_ordered(_copy_of(_Plain))
Theirs: Any = dataclasses.dataclass(frozen=True, slots=True, order=True)(_copy_of(_Plain))
ARGUMENTS = st.tuples(st.integers(-3, 3), st.sampled_from("ab"), st.tuples(st.integers(0, 2)))


@given(ARGUMENTS, ARGUMENTS)
def test_compares_and_hashes_as_a_dataclass(left: tuple[Any, ...], right: tuple[Any, ...]) -> None:
    ours, theirs = (Ours(*left), Ours(*right)), (Theirs(*left), Theirs(*right))
    assert (ours[0] == ours[1]) == (theirs[0] == theirs[1])
    assert (ours[0] < ours[1]) == (theirs[0] < theirs[1])
    assert (ours[0] <= ours[1]) == (theirs[0] <= theirs[1])
    assert (ours[0] > ours[1]) == (theirs[0] > theirs[1])
    assert (ours[0] >= ours[1]) == (theirs[0] >= theirs[1])
    if ours[0] == ours[1]:
        assert hash(ours[0]) == hash(ours[1])
    assert repr(ours[0]) == repr(theirs[0])


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3, 4), {}), ((1,), {"number": 2}), ((1,), {"kind": "z"})]
)
def test_refuses_the_arguments_that_a_dataclass_refuses(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*args, **kwargs)


def test_is_immutable_and_has_no_other_attributes() -> None:
    value = Ours(1)
    for act in (
        lambda: setattr(value, "number", 2),
        lambda: delattr(value, "number"),
        lambda: setattr(value, "q", 1),
    ):
        with pytest.raises(AttributeError):
            act()
    assert value.number == 1
    assert not hasattr(value, "__dict__")


def test_other_classes_neither_equal_nor_compare() -> None:
    other: Any = frozen_ordered(_copy_of(_Plain))
    assert Ours(1) != other(1)
    with pytest.raises(TypeError):
        assert Ours(1) < other(1)


@frozen
class _Checked:
    low: int
    made: list[int] = field(default_factory=list)
    double: int = field(init=False, repr=False)
    asked: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.low < 0:
            raise ValueError("negative")
        object.__setattr__(self, "double", 2 * self.low)


@frozen
class _Derived(_Checked):
    more: int = 5


def test_fields_of_their_own_kind() -> None:
    value = _Checked(2)
    assert (value.double, value.made) == (4, [])
    assert value.made is not _Checked(2).made
    assert repr(value) == "_Checked(low=2, made=[])"
    with pytest.raises(ValueError, match="negative"):
        replace(value, low=-1)
    assert replace(value, low=3).double == 6
    other = replace(value, made=value.made)
    object.__setattr__(value, "asked", 1)  # as what is worked out at the first question is kept
    assert (value == other, repr(value)) == (True, repr(other))
    assert hash(_Memo(1)) == hash(_Memo(1))


@frozen
class _Memo:
    low: int
    asked: int = field(init=False, repr=False, compare=False)


def test_a_derived_class_has_the_fields_of_its_base_first() -> None:
    value = _Derived(1, [7], 9)
    assert (value.low, value.made, value.more, value.double) == (1, [7], 9, 2)
    assert _Derived(1).more == 5
    match value:
        case _Derived(low, _, more):
            assert (low, more) == (1, 9)
        case _:
            pytest.fail("does not match by position")


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_equal(again: Any) -> None:
    assert again(_Derived(1, [7], 9)) == _Derived(1, [7], 9)


def test_own_methods_win() -> None:
    @frozen
    class Own:
        a: int

        def __repr__(self) -> str:
            return "hidden"

        def __hash__(self) -> int:
            return 7

    assert (repr(Own(1)), hash(Own(1))) == ("hidden", 7)
