"""Block headers and proof of work, held against real blocks and Bitcoin Core's own test values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin.block import Header, bits_from_target, target_from_bits, work_of_bits
from mpchan.bitcoin.network import MAINNET
from mpchan.errors import ParseError

GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f61"
    "7fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
BLOCK_1 = bytes.fromhex(
    "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee1467"
    "7ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299"
)


def test_the_first_two_headers_of_mainnet() -> None:
    genesis, following = Header.from_bytes(GENESIS), Header.from_bytes(BLOCK_1)
    assert str(genesis) == MAINNET.genesis_hash
    assert (genesis.version, genesis.parent, genesis.time, genesis.bits) == (
        1,
        bytes(32),
        1231006505,
        0x1D00FFFF,
    )
    assert (
        genesis.merkle_root[::-1].hex() == "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    )
    assert str(following) == "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048"
    assert following.parent == genesis.hash
    assert following.time == 1231469665


@pytest.mark.parametrize("size", [0, 1, 79, 81, 160])
def test_a_header_has_80_bytes(size: int) -> None:
    with pytest.raises(ParseError):
        Header.from_bytes(bytes(size))


def test_the_version_is_signed() -> None:
    assert Header.from_bytes(b"\xff\xff\xff\xff" + bytes(76)).version == -1
    assert Header.from_bytes(b"\x00\x00\x00\x20" + bytes(76)).version == 0x2000_0000


@pytest.mark.parametrize(
    ("bits", "target", "shortest"),
    [  # Bitcoin Core, arith_uint256_tests.cpp, bignum_SetCompact; a negative number or too large a one is no target
        (0x00000000, 0, 0),
        (0x00123456, 0, 0),
        (0x01003456, 0, 0),
        (0x02000056, 0, 0),
        (0x03000000, 0, 0),
        (0x04000000, 0, 0),
        (0x00923456, 0, 0),
        (0x01803456, 0, 0),
        (0x02800056, 0, 0),
        (0x03800000, 0, 0),
        (0x04800000, 0, 0),
        (0x01123456, 0x12, 0x01120000),
        (0x01FEDCBA, 0, 0),
        (0x02123456, 0x1234, 0x02123400),
        (0x03123456, 0x123456, 0x03123456),
        (0x04123456, 0x12345600, 0x04123456),
        (0x04923456, 0, 0),
        (0x05009234, 0x92340000, 0x05009234),
        (0x20123456, 0x123456 << 232, 0x20123456),
        (0xFF123456, 0, 0),
    ],
)
def test_targets_are_those_of_bitcoin_core(bits: int, target: int, shortest: int) -> None:
    assert target_from_bits(bits) == target
    assert bits_from_target(target) == shortest


def test_a_mantissa_is_never_a_sign() -> None:
    """arith_uint256_tests.cpp: 0x80 would read as a negative number."""
    assert bits_from_target(0x80) == 0x02008000


@given(st.integers(min_value=0, max_value=(1 << 256) - 1))
def test_a_target_loses_only_its_lower_digits(target: int) -> None:
    kept = target_from_bits(bits_from_target(target))
    assert kept <= target
    assert target - kept <= target >> 15
    assert bits_from_target(kept) == bits_from_target(target)


def test_work() -> None:
    """The work in mainnet's genesis block, and in regtest's, as `getblockheader` shows it."""
    assert work_of_bits(0x1D00FFFF) == 0x1_0001_0001
    assert work_of_bits(0x207FFFFF) == 2
    assert work_of_bits(0x04923456) == 0
