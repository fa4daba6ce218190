"""RIPEMD-160, for interpreters whose OpenSSL left it out.

OpenSSL 3 keeps the function in its legacy provider, which many builds do not load. Addresses need it
(HASH160), so a plain implementation steps in there. It hashes public data only; timing does not matter.
"""

from __future__ import annotations

import hashlib
from functools import cache

_MASK = 0xFFFF_FFFF

_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)

# Which of the 16 message words each of the 80 steps takes, in the left and in the right line
_LEFT_WORDS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8),
    (3, 10, 14, 4, 9, 15, 8, 1, 2, 7, 0, 6, 13, 11, 5, 12),
    (1, 9, 11, 10, 0, 8, 12, 4, 13, 3, 7, 15, 14, 5, 6, 2),
    (4, 0, 5, 9, 7, 12, 2, 10, 14, 1, 3, 8, 11, 6, 15, 13),
)
_RIGHT_WORDS = (
    (5, 14, 7, 0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12),
    (6, 11, 3, 7, 0, 13, 5, 10, 14, 15, 8, 12, 4, 9, 1, 2),
    (15, 5, 1, 3, 7, 14, 6, 9, 11, 8, 12, 2, 10, 0, 4, 13),
    (8, 6, 4, 1, 3, 11, 15, 0, 5, 12, 2, 13, 9, 7, 10, 14),
    (12, 15, 10, 4, 1, 5, 8, 7, 6, 2, 13, 14, 0, 3, 9, 11),
)
# By how many bits each step rotates
_LEFT_SHIFTS = (
    (11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8),
    (7, 6, 8, 13, 11, 9, 7, 15, 7, 12, 15, 9, 11, 7, 13, 12),
    (11, 13, 6, 7, 14, 9, 13, 15, 14, 8, 13, 6, 5, 12, 7, 5),
    (11, 12, 14, 15, 14, 15, 9, 8, 9, 14, 5, 6, 8, 6, 5, 12),
    (9, 15, 5, 11, 6, 8, 13, 12, 5, 12, 13, 14, 11, 8, 5, 6),
)
_RIGHT_SHIFTS = (
    (8, 9, 9, 11, 13, 15, 15, 5, 7, 7, 8, 11, 14, 14, 12, 6),
    (9, 13, 15, 7, 12, 8, 9, 11, 7, 7, 12, 7, 6, 15, 13, 11),
    (9, 7, 15, 11, 8, 6, 6, 14, 12, 13, 5, 14, 13, 13, 7, 5),
    (15, 5, 8, 11, 14, 14, 6, 14, 6, 9, 12, 9, 12, 5, 15, 8),
    (8, 5, 12, 9, 12, 5, 14, 6, 8, 13, 6, 5, 15, 13, 11, 11),
)
_LEFT_CONSTANTS = (0, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E)
_RIGHT_CONSTANTS = (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0)

_State = tuple[int, int, int, int, int]


def ripemd160(data: bytes) -> bytes:
    """The 20-byte RIPEMD-160 hash, by OpenSSL where it has the function."""
    if _openssl_has_it():
        return hashlib.new("ripemd160", data).digest()
    return pure_ripemd160(data)


def pure_ripemd160(data: bytes) -> bytes:
    """The 20-byte RIPEMD-160 hash, computed here."""
    padding = b"\x80" + bytes(-(len(data) + 9) % 64)
    message = data + padding + (8 * len(data)).to_bytes(8, "little")
    state: _State = _START
    for offset in range(0, len(message), 64):
        state = _compress(state, message[offset : offset + 64])
    return b"".join(word.to_bytes(4, "little") for word in state)


@cache
def _openssl_has_it() -> bool:
    try:
        hashlib.new("ripemd160")
    except ValueError:
        return False
    return True


def _compress(state: _State, block: bytes) -> _State:
    words = [int.from_bytes(block[offset : offset + 4], "little") for offset in range(0, 64, 4)]
    left, right = state, state
    for turn in range(5):
        for step in range(16):
            word = words[_LEFT_WORDS[turn][step]] + _LEFT_CONSTANTS[turn]
            left = _step(turn, left, word, _LEFT_SHIFTS[turn][step])
            word = words[_RIGHT_WORDS[turn][step]] + _RIGHT_CONSTANTS[turn]
            # the right line goes through the five functions in reverse
            right = _step(4 - turn, right, word, _RIGHT_SHIFTS[turn][step])
    return (
        (state[1] + left[2] + right[3]) & _MASK,
        (state[2] + left[3] + right[4]) & _MASK,
        (state[3] + left[4] + right[0]) & _MASK,
        (state[4] + left[0] + right[1]) & _MASK,
        (state[0] + left[1] + right[2]) & _MASK,
    )


def _step(function: int, state: _State, word: int, shift: int) -> _State:
    a, b, c, d, e = state
    total = (a + _mix(function, b, c, d) + word) & _MASK
    return e, (_rotate(total, shift) + e) & _MASK, b, _rotate(c, 10), d


def _mix(function: int, x: int, y: int, z: int) -> int:
    if function == 0:
        return x ^ y ^ z
    if function == 1:
        return (x & y) | (~x & z)
    if function == 2:
        return (x | (~y & _MASK)) ^ z
    if function == 3:
        return (x & z) | (y & ~z)
    return x ^ (y | (~z & _MASK))


def _rotate(word: int, shift: int) -> int:
    return ((word << shift) | (word >> (32 - shift))) & _MASK
