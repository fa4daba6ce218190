"""Blocks as the network carries them: a header of 80 bytes, then the transactions (BIP-0144)."""

from __future__ import annotations

from collections.abc import Iterator

from mpchan.bitcoin.script import double_sha256
from mpchan.bitcoin.serialize import Reader
from mpchan.bitcoin.tx import Transaction

HEADER_SIZE = 80
_MIN_TRANSACTION = 4 + 1 + 1 + 4  # version, no inputs, no outputs, lock time


def block_hash(block: bytes) -> str:
    """The hash of a block's header in display hex.

    Raises:
        ParseError: ``truncated``.
    """
    return double_sha256(Reader(block).take(HEADER_SIZE))[::-1].hex()


def parent_hash(block: bytes) -> str:
    """The hash of the block before it, which the header names, in display hex.

    Raises:
        ParseError: ``truncated``.
    """
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
