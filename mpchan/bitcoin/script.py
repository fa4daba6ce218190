"""Scripts that mpchan makes and recognises, and the hashes that they use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from mpchan.bitcoin.ripemd160 import ripemd160
from mpchan.bitcoin.serialize import compact_size
from mpchan.errors import ParseError
from mpchan.units import Amount, FeeRate

OP_0: Final = 0x00
OP_PUSHDATA1: Final = 0x4C
OP_PUSHDATA2: Final = 0x4D
OP_1: Final = 0x51
OP_2: Final = 0x52
OP_16: Final = 0x60
OP_RETURN: Final = 0x6A
OP_DUP: Final = 0x76
OP_EQUAL: Final = 0x87
OP_EQUALVERIFY: Final = 0x88
OP_HASH160: Final = 0xA9
OP_CHECKSIG: Final = 0xAC
OP_CHECKSIGVERIFY: Final = 0xAD
OP_CHECKMULTISIG: Final = 0xAE
OP_CHECKLOCKTIMEVERIFY: Final = 0xB1

MAX_SCRIPT_SIZE = 10_000
"""A longer script can never be spent."""

COMPRESSED_KEY_SIZE = 33

DUST_RELAY_RATE = FeeRate(3000)
"""Bitcoin Core's ``-dustrelayfee``: an output that would cost more than it holds, at this rate, is dust."""

_P2PKH_START = bytes([OP_DUP, OP_HASH160, 20])
_P2PKH_END = bytes([OP_EQUALVERIFY, OP_CHECKSIG])
_P2SH_START = bytes([OP_HASH160, 20])
_P2SH_END = bytes([OP_EQUAL])


def sha256(data: bytes) -> bytes:
    """SHA-256, once."""
    return hashlib.sha256(data).digest()


def double_sha256(data: bytes) -> bytes:
    """SHA-256 of SHA-256, in the order in which the wire carries it."""
    return sha256(sha256(data))


def hash160(data: bytes) -> bytes:
    """RIPEMD-160 of SHA-256: 20 bytes."""
    return ripemd160(sha256(data))


def is_compressed_key(key: bytes) -> bool:
    """Whether ``key`` has the form of a compressed public key; whether it is on the curve is not asked."""
    return len(key) == COMPRESSED_KEY_SIZE and key[0] in (2, 3)


def push_data(data: bytes) -> bytes:
    """The script that pushes ``data`` (at most 65,535 bytes) by its shortest length prefix.

    Raises:
        ParseError: ``malformed-script`` for more.
    """
    if len(data) < OP_PUSHDATA1:
        return bytes([len(data)]) + data
    if len(data) <= 0xFF:
        return bytes([OP_PUSHDATA1, len(data)]) + data
    if len(data) <= 0xFFFF:
        return bytes([OP_PUSHDATA2]) + len(data).to_bytes(2, "little") + data
    raise ParseError("malformed-script", f"a script cannot push {len(data)} bytes")


def push_number(number: int) -> bytes:
    """The script that pushes a number of 0 or more in the shortest way, as BIP-0034 and miniscript write it."""
    if number <= 16:
        return bytes([OP_1 - 1 + number if number else OP_0])
    # a script number keeps its top bit for the sign
    return push_data(number.to_bytes(number.bit_length() // 8 + 1, "little"))


def p2pkh_script(key_hash: bytes) -> bytes:
    """The P2PKH scriptPubKey of a public key's HASH160."""
    return _P2PKH_START + key_hash + _P2PKH_END


def p2sh_script(script_hash: bytes) -> bytes:
    """The P2SH scriptPubKey of a redeem script's HASH160 (BIP-0016)."""
    return _P2SH_START + script_hash + _P2SH_END


def key_to_p2wpkh_script(public_key: bytes) -> bytes:
    """The P2WPKH scriptPubKey of a compressed public key (BIP-0141).

    Raises:
        ParseError: ``malformed-public-key``: another key could never be spent by a witness.
    """
    _require_compressed(public_key)
    return bytes([OP_0, 20]) + hash160(public_key)


def script_to_p2wsh_script(witness_script: bytes) -> bytes:
    """The P2WSH scriptPubKey of a witness script (BIP-0141)."""
    return bytes([OP_0, 32]) + sha256(witness_script)


def p2wpkh_script_code(script_pubkey: bytes) -> bytes:
    """The scriptCode that a signature of a P2WPKH input commits to (BIP-0143): the P2PKH script of its hash.

    Raises:
        ParseError: ``malformed-script`` for anything but a P2WPKH scriptPubKey.
    """
    if not is_p2wpkh(script_pubkey):
        raise ParseError("malformed-script", f"not a P2WPKH script: {script_pubkey.hex():.80}")
    return p2pkh_script(script_pubkey[2:])


def sort_keys(keys: Iterable[bytes]) -> list[bytes]:
    """The keys in BIP-0067 order: by their bytes."""
    listed = list(keys)
    for key in listed:
        _require_compressed(key)
    return sorted(listed)


def two_of_two_script(key_a: bytes, key_b: bytes) -> bytes:
    """``2 <k1> <k2> 2 OP_CHECKMULTISIG`` with the two keys in BIP-0067 order, whichever comes first here.

    Raises:
        ParseError: ``malformed-public-key``; ``not-two-of-two`` for one key twice.
    """
    first, second = sort_keys((key_a, key_b))
    if first == second:
        raise ParseError("not-two-of-two", f"both keys are {first.hex()}")
    return bytes([OP_2]) + push_data(first) + push_data(second) + bytes([OP_2, OP_CHECKMULTISIG])


def parse_two_of_two(script: bytes) -> tuple[bytes, bytes]:
    """The keys of a script exactly as ``two_of_two_script`` makes it, in its order.

    Raises:
        ParseError: ``not-two-of-two``.
    """
    multisig = parse_multisig(script)
    if multisig is not None:
        required, keys = multisig
        if required == 2 and len(keys) == 2 and all(map(is_compressed_key, keys)) and keys[0] < keys[1]:
            return keys[0], keys[1]
    raise ParseError("not-two-of-two", f"not a 2-of-2 script of two sorted keys: {script.hex():.80}")


def parse_multisig(script: bytes) -> tuple[int, tuple[bytes, ...]] | None:
    """Threshold and keys of a script ``k <keys> n OP_CHECKMULTISIG``, 1 <= k <= n <= 16; None for others.

    Keys have 33 or 65 bytes and a prefix that fits.
    """
    if len(script) < 3 or script[-1] != OP_CHECKMULTISIG or not OP_1 <= script[0] <= OP_16:
        return None
    keys = []
    offset = 1
    while offset < len(script) - 2:
        size = script[offset]
        key = script[offset + 1 : offset + 1 + size]
        if not is_public_key(key) or len(key) != size:
            return None
        keys.append(key)
        offset += 1 + size
    required = script[0] - OP_1 + 1
    if offset != len(script) - 2 or not required <= len(keys) <= 16 or script[-2] != OP_1 - 1 + len(keys):
        return None
    return required, tuple(keys)


def is_public_key(key: bytes) -> bool:
    """Whether ``key`` has the length and prefix of a public key, compressed or not."""
    return is_compressed_key(key) or (len(key) == 65 and key[0] == 4)


def witness_program(script: bytes) -> tuple[int, bytes] | None:
    """Version (0 to 16) and program (2 to 40 bytes) of a segwit scriptPubKey (BIP-0141); None for others."""
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    if script[0] == OP_0:
        return 0, script[2:]
    if OP_1 <= script[0] <= OP_16:
        return script[0] - OP_1 + 1, script[2:]
    return None


def is_p2pkh(script: bytes) -> bool:
    """``OP_DUP OP_HASH160 <20 bytes> OP_EQUALVERIFY OP_CHECKSIG``."""
    return len(script) == 25 and script.startswith(_P2PKH_START) and script.endswith(_P2PKH_END)


def is_p2sh(script: bytes) -> bool:
    """``OP_HASH160 <20 bytes> OP_EQUAL`` (BIP-0016)."""
    return len(script) == 23 and script.startswith(_P2SH_START) and script.endswith(_P2SH_END)


def is_p2wpkh(script: bytes) -> bool:
    """``0 <20 bytes>`` (BIP-0141)."""
    return len(script) == 22 and script.startswith(bytes([OP_0, 20]))


def is_p2wsh(script: bytes) -> bool:
    """``0 <32 bytes>`` (BIP-0141)."""
    return len(script) == 34 and script.startswith(bytes([OP_0, 32]))


def is_p2tr(script: bytes) -> bool:
    """``1 <32 bytes>`` (BIP-0341)."""
    return len(script) == 34 and script.startswith(bytes([OP_1, 32]))


def is_standard_payout(script: bytes) -> bool:
    """Whether ``script`` is one of the kinds that have an address and that nodes relay today."""
    return is_p2wpkh(script) or is_p2wsh(script) or is_p2tr(script) or is_p2pkh(script) or is_p2sh(script)


def is_unspendable(script_pubkey: bytes) -> bool:
    """Whether nothing can ever satisfy this script, so that no node keeps it as a coin (Core's ``IsUnspendable``)."""
    return script_pubkey.startswith(bytes([OP_RETURN])) or len(script_pubkey) > MAX_SCRIPT_SIZE


def output_size(script_pubkey: bytes) -> int:
    """Bytes of an output with this script."""
    # value, length of the script, script
    return 8 + len(compact_size(len(script_pubkey))) + len(script_pubkey)


def dust_limit(script_pubkey: bytes) -> Amount:
    """The least amount that nodes relay in an output with this script: Bitcoin Core's ``GetDustThreshold``.

    0 for an output that can never be spent, such as OP_RETURN: nobody is asked to store it.
    """
    if is_unspendable(script_pubkey):
        return Amount(0)
    # Core's idea of the input that would spend it: outpoint (32 + 4), length of the scriptSig (1),
    # a signature and a key (107), sequence (4); in a witness the 107 bytes count a quarter
    unlocking = 107 if witness_program(script_pubkey) is None else 107 // 4
    return DUST_RELAY_RATE.fee(output_size(script_pubkey) + 32 + 4 + 1 + unlocking + 4)


def _require_compressed(key: bytes) -> None:
    if not is_compressed_key(key):
        raise ParseError("malformed-public-key", f"not a compressed public key: {key.hex():.80}")
