"""Blocks as the network carries them: a header of 80 bytes, then the transactions (BIP-0144)."""

from __future__ import annotations

from collections.abc import Iterator

from mpchan.bitcoin.script import double_sha256
from mpchan.bitcoin.serialize import Reader
from mpchan.bitcoin.tx import Transaction
from mpchan.values import frozen

HEADER_SIZE = 80
_MIN_TRANSACTION = 4 + 1 + 1 + 4  # version, no inputs, no outputs, lock time


def block_hash(block: bytes) -> str:
    """The hash of a block's header in display hex."""
    return double_sha256(Reader(block).take(HEADER_SIZE))[::-1].hex()


def parent_hash(block: bytes) -> str:
    """The hash of the block before it, which the header names, in display hex."""
    reader = Reader(block)
    reader.take(4)  # version
    return reader.take(32)[::-1].hex()


def block_transactions(block: bytes) -> Iterator[Transaction]:
    """The transactions, coinbase first, each read when it is asked for.

    Raises:
        ParseError: as ``Transaction.from_bytes``; ``trailing-bytes`` after the last one.
    """
    reader = Reader(block)
    reader.take(HEADER_SIZE)
    for _ in range(reader.count(_MIN_TRANSACTION)):
        yield Transaction.read(reader)
    reader.end()


# headers ------------------------------------------------------------------------------------------


_SIGN_BIT = 0x0080_0000
_MANTISSA = 0x007F_FFFF


@frozen
class Header:
    """One header, read.

    Attributes:
        version: signed, as Bitcoin Core counts it.
        parent: hash of the block before, wire order.
        merkle_root: wire order.
        time: seconds since 1970.
        bits: the target in compact form, see ``target_from_bits``.
        hash: double SHA-256 of the header, wire order; below the target where there is work in it.
    """

    version: int
    parent: bytes
    merkle_root: bytes
    time: int
    bits: int
    hash: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Read 80 bytes."""
        reader = Reader(data)
        version = int.from_bytes(reader.take(4), "little", signed=True)
        parent, merkle_root = reader.take(32), reader.take(32)
        time, bits = reader.uint32(), reader.uint32()
        reader.take(4)  # nonce
        reader.end()
        return cls(version, parent, merkle_root, time, bits, double_sha256(data))

    def __str__(self) -> str:
        return self.hash[::-1].hex()


def target_from_bits(bits: int) -> int:
    """The number that a hash must not exceed; 0, which no hash meets, for a negative or overlong one.

    The compact form is a floating-point number with base 256: a byte of exponent, then 23 bits and a sign. This is
    ``arith_uint256::SetCompact`` of Bitcoin Core, where ``CheckProofOfWork`` refuses the same.
    """
    size, mantissa = bits >> 24, bits & _MANTISSA
    if bits & _SIGN_BIT:
        return 0
    target = mantissa >> 8 * (3 - size) if size <= 3 else mantissa << 8 * (size - 3)
    return target if target < 1 << 256 else 0


def bits_from_target(target: int) -> int:
    """The compact form of a target, whose lower digits are lost (``arith_uint256::GetCompact``)."""
    size = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)
    if mantissa & _SIGN_BIT:  # it would read as a sign
        mantissa >>= 8
        size += 1
    return size << 24 | mantissa


def work_of_bits(bits: int) -> int:
    """How many hashes a block of this target takes on average (``GetBlockProof``)."""
    target = target_from_bits(bits)
    return (1 << 256) // (target + 1) if target else 0
