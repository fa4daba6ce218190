"""mpchan.bitcoin.serialize: integers, compact sizes, and reading past the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin.serialize import MAX_SIZE, MAX_UINT64, Reader, compact_size, uint32, var_bytes
from mpchan.errors import ParseError

# the limits of each form, as the protocol documentation tabulates them
COMPACT_SIZES = [
    (0, "00"),
    (1, "01"),
    (0xFC, "fc"),
    (0xFD, "fdfd00"),
    (0xFFFF, "fdffff"),
    (0x1_0000, "fe00000100"),
    (0xFFFF_FFFF, "feffffffff"),
    (0x1_0000_0000, "ff0000000001000000"),
    (MAX_UINT64, "ffffffffffffffffff"),
]
# as in Bitcoin Core's serialize_tests.cpp: zero and the greatest number that the next shorter form holds
NOT_SHORTEST = ["fd0000", "fdfc00", "fe00000000", "feffff0000", "ff0000000000000000", "ffffffffff00000000"]

READS: list[tuple[int, Callable[[Reader], object]]] = [
    (1, Reader.uint8),
    (4, Reader.uint32),
    (8, Reader.uint64),
    (5, lambda reader: reader.take(5)),
]


@pytest.mark.parametrize(("number", "encoded"), COMPACT_SIZES)
def test_compact_size_has_the_published_form(number: int, encoded: str) -> None:
    assert compact_size(number).hex() == encoded
    assert Reader(bytes.fromhex(encoded)).compact_size(MAX_UINT64) == number


@pytest.mark.parametrize("encoded", NOT_SHORTEST)
def test_longer_form_than_needed_is_refused(encoded: str) -> None:
    with pytest.raises(ParseError) as caught:
        Reader(bytes.fromhex(encoded)).compact_size(MAX_UINT64)
    assert caught.value.slug == "malformed-compact-size"


@given(st.integers(0, MAX_UINT64))
def test_compact_size_round_trip(number: int) -> None:
    reader = Reader(compact_size(number))
    assert reader.compact_size(MAX_UINT64) == number
    reader.end()


@given(st.integers(0, MAX_UINT64))
def test_every_prefix_of_a_compact_size_is_truncated(number: int) -> None:
    encoded = compact_size(number)
    for length in range(len(encoded)):
        with pytest.raises(ParseError) as caught:
            Reader(encoded[:length]).compact_size(MAX_UINT64)
        assert caught.value.slug == "truncated"


def test_compact_size_is_bounded() -> None:
    assert Reader(compact_size(MAX_SIZE)).compact_size() == MAX_SIZE
    with pytest.raises(ParseError, match="at most 33554432, not 33554433"):
        Reader(compact_size(MAX_SIZE + 1)).compact_size()


@pytest.mark.parametrize("number", [-1, MAX_UINT64 + 1, True, 1.0])
def test_compact_size_of_no_such_number(number: int) -> None:
    with pytest.raises(ParseError):
        compact_size(number)


def test_integers_are_little_endian() -> None:
    reader = Reader(bytes(range(1, 14)))
    assert reader.uint8() == 0x01
    assert reader.uint32() == 0x05040302
    assert reader.uint64() == 0x0D0C0B0A09080706
    reader.end()


@pytest.mark.parametrize(("size", "read"), READS)
def test_short_reads(size: int, read: Callable[[Reader], object]) -> None:
    for length in range(size):
        reader = Reader(bytes(length))
        with pytest.raises(ParseError) as caught:
            read(reader)
        assert caught.value.slug == "truncated"
        assert reader.remaining == length  # nothing is consumed by a read that fails
    read(Reader(bytes(size)))


def test_no_reading_backwards() -> None:
    reader = Reader(b"abc")
    reader.take(2)
    with pytest.raises(ParseError):
        reader.take(-1)


@given(st.binary(max_size=300), st.binary(max_size=10))
def test_var_bytes_round_trip(data: bytes, rest: bytes) -> None:
    reader = Reader(var_bytes(data) + rest)
    assert reader.var_bytes() == data
    assert reader.remaining == len(rest)


def test_length_beyond_the_end() -> None:
    with pytest.raises(ParseError) as caught:
        Reader(compact_size(MAX_SIZE) + b"x").var_bytes()
    assert caught.value.slug == "truncated"


def test_count_is_held_against_what_is_left() -> None:
    assert Reader(b"\x02" + bytes(18)).count(9) == 2
    with pytest.raises(
        ParseError, match="2 items of 9 bytes or more announced, but only 17 bytes left"
    ) as caught:
        Reader(b"\x02" + bytes(17)).count(9)
    assert caught.value.slug == "truncated"


def test_trailing_bytes() -> None:
    Reader(b"").end()
    with pytest.raises(ParseError) as caught:
        Reader(b"x").end()
    assert caught.value.slug == "trailing-bytes"


@pytest.mark.parametrize("number", [-1, 2**32, False, 0.0])
def test_uint32_of_no_such_number(number: int) -> None:
    with pytest.raises(ParseError):
        uint32(number)


def test_uint32_is_little_endian() -> None:
    assert uint32(0x01020304) == b"\x04\x03\x02\x01"
    assert (uint32(0), uint32(2**32 - 1)) == (bytes(4), b"\xff" * 4)
