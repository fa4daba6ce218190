"""The two leaf scripts of a channel in a taproot output (BIP-0342), as miniscript compiles them."""

from __future__ import annotations

from mpchan.bitcoin.schnorr import X_ONLY_SIZE
from mpchan.bitcoin.script import (
    OP_1,
    OP_CHECKLOCKTIMEVERIFY,
    OP_CHECKSIG,
    OP_CHECKSIGVERIFY,
    push_data,
    push_number,
)
from mpchan.errors import ParseError
from mpchan.units import LockTime, checked_int, lock_time_from_int

MAX_SCRIPT_LOCK_TIME = 2**31 - 1
"""Where ``after()`` of miniscript ends, which has four bytes for a number with its sign."""

_KEY_END = 1 + X_ONLY_SIZE


def two_keys_script(first: bytes, second: bytes) -> bytes:
    """``<first> OP_CHECKSIGVERIFY <second> OP_CHECKSIG``: what satisfies it is both signatures, the second one first.

    Args:
        first, second: x-only keys. In miniscript: ``and_v(v:pk(first),pk(second))``.
    """
    return push_data(first) + bytes([OP_CHECKSIGVERIFY]) + push_data(second) + bytes([OP_CHECKSIG])


def parse_two_keys(script: bytes) -> tuple[bytes, bytes]:
    """The first and the second key of a script exactly as ``two_keys_script`` makes it.

    Raises:
        ParseError: ``malformed-script``.
    """
    first, second = script[1:_KEY_END], script[_KEY_END + 2 : -1]
    if len(second) != X_ONLY_SIZE or script != two_keys_script(first, second):
        raise _malformed(script, "two signatures")
    return first, second


def key_after_script(key: bytes, lock_time: LockTime) -> bytes:
    """``<key> OP_CHECKSIGVERIFY <lock_time> OP_CHECKLOCKTIMEVERIFY``: the signature, once the lock time has come.

    Args:
        key: x-only. In miniscript: ``and_v(v:pk(key),after(lock_time))``.

    Raises:
        ParseError: ``malformed-number`` for a lock time above ``MAX_SCRIPT_LOCK_TIME``.
    """
    number = checked_int(lock_time.value, 1, MAX_SCRIPT_LOCK_TIME, "lock time in a script")
    return push_data(key) + bytes([OP_CHECKSIGVERIFY]) + push_number(number) + bytes([OP_CHECKLOCKTIMEVERIFY])


def parse_key_after(script: bytes) -> tuple[bytes, LockTime]:
    """Key and lock time of a script exactly as ``key_after_script`` makes it, its number in the shortest form.

    Raises:
        ParseError: ``malformed-script``.
    """
    key, push = script[1:_KEY_END], script[_KEY_END + 1 : -1]
    number = push[0] - OP_1 + 1 if len(push) == 1 else int.from_bytes(push[1:], "little")
    try:
        lock_time = lock_time_from_int(number)
        if script == key_after_script(key, lock_time):
            return key, lock_time
    except ParseError:  # no lock time, or none that a script can hold
        pass
    raise _malformed(script, f"one signature after a lock time of 1 to {MAX_SCRIPT_LOCK_TIME}")


def _malformed(script: bytes, wanted: str) -> ParseError:
    return ParseError("malformed-script", f"not a script of {wanted}: {script.hex():.160}")
