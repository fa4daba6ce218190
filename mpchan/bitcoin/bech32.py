"""Bech32 and bech32m (BIP-0173, BIP-0350), and segwit addresses in them.

Witness version 0 takes bech32, versions 1 to 16 take bech32m; a decoder that mixed them up would
bring back the weakness that bech32m was made to mend.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from mpchan.errors import ParseError

MAX_LENGTH = 90
"""Longest text that the checksum protects as promised (BIP-0173, "Bech32")."""

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_CHECKSUM_VALUES = 6
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


class Encoding(Enum):
    """The two checksums; the value is the constant that a valid text leaves behind."""

    BECH32 = 1
    BECH32M = 0x2BC830A3


def _malformed(reason: str) -> ParseError:
    return ParseError("malformed-bech32", reason)


def _polymod(values: Iterable[int]) -> int:
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FF_FFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                state ^= term
    return state


def _expanded(hrp: str) -> list[int]:
    codes = hrp.encode("ascii")
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _check_hrp(hrp: str) -> None:
    if not hrp:  # its upper limit, 83, follows from that of the whole
        raise _malformed("the human-readable part is empty")
    if any(not 33 <= ord(character) <= 126 for character in hrp):
        raise _malformed("character outside printable ascii")


def bech32_encode(hrp: str, data: bytes, encoding: Encoding) -> str:
    """Lower-case text of ``data`` (one byte a 5-bit value) under the human-readable part.

    Raises:
        ParseError: ``malformed-bech32`` for a bad or upper-case human-readable part, a value over 31
            or a result over 90 characters.
    """
    _check_hrp(hrp)
    if hrp != hrp.lower():
        raise _malformed("the human-readable part must be lower case")
    if any(value > 31 for value in data):
        raise _malformed("data values have 5 bits")
    if len(hrp) + 1 + len(data) + _CHECKSUM_VALUES > MAX_LENGTH:
        raise _malformed(f"the text would have over {MAX_LENGTH} characters")
    state = _polymod([*_expanded(hrp), *data, *bytes(_CHECKSUM_VALUES)]) ^ encoding.value
    checksum = [state >> 5 * (_CHECKSUM_VALUES - 1 - i) & 31 for i in range(_CHECKSUM_VALUES)]
    return hrp + "1" + "".join(_ALPHABET[value] for value in (*data, *checksum))


def bech32_decode(text: str) -> tuple[str, bytes, Encoding]:
    """Split a text into its lower-case human-readable part, its 5-bit values and its encoding.

    Raises:
        ParseError: ``malformed-bech32`` for mixed case, a wrong character, length or checksum.
    """
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        raise _malformed(f"a bech32 text has at most {MAX_LENGTH} characters")
    hrp, separator, payload = text.rpartition("1")
    if not separator:
        raise _malformed("no separator '1'")
    _check_hrp(hrp)
    if not payload.isascii():  # lower() must not fold a foreign letter into the alphabet
        raise _malformed("character outside printable ascii")
    if text not in (text.lower(), text.upper()):
        raise _malformed("mixed case")
    hrp, payload = hrp.lower(), payload.lower()
    if len(payload) < _CHECKSUM_VALUES:
        raise _malformed("the checksum is cut short")
    for character in payload:
        if character not in _VALUES:
            raise _malformed(f"{character!r} is not a bech32 character")
    values = bytes(_VALUES[character] for character in payload)
    state = _polymod([*_expanded(hrp), *values])
    if state not in (Encoding.BECH32.value, Encoding.BECH32M.value):
        raise _malformed("wrong checksum")
    return hrp, values[:-_CHECKSUM_VALUES], Encoding(state)


def _to_5_bits(data: bytes) -> bytes:
    groups = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (groups * 5 - len(data) * 8)
    return bytes(number >> 5 * (groups - 1 - i) & 31 for i in range(groups))


def _from_5_bits(values: bytes) -> bytes:
    size, padding = divmod(len(values) * 5, 8)
    if padding > 4:
        raise _malformed("more than 4 bits of padding")
    number = 0
    for value in values:
        number = number << 5 | value
    if number & ((1 << padding) - 1):
        raise _malformed("padding bits are not zero")
    return (number >> padding).to_bytes(size, "big")


def _check_witness_program(version: int, program: bytes) -> None:
    if not 0 <= version <= 16:
        raise _malformed(f"witness version {version} is over 16")
    if not 2 <= len(program) <= 40:
        raise _malformed(f"witness program of {len(program)} bytes, not 2 to 40")
    if version == 0 and len(program) not in (20, 32):
        raise _malformed(f"version 0 witness program of {len(program)} bytes, not 20 or 32")


def segwit_encode(hrp: str, version: int, program: bytes) -> str:
    """Address of a witness program (BIP-0350): bech32 for version 0, else bech32m.

    Args:
        hrp: human-readable part of the network, lower case.
        version: witness version, 0 to 16.
        program: 2 to 40 bytes; 20 or 32 for version 0.
    """
    _check_witness_program(version, program)
    encoding = Encoding.BECH32M if version else Encoding.BECH32
    return bech32_encode(hrp, bytes([version]) + _to_5_bits(program), encoding)


def segwit_decode(address: str) -> tuple[str, int, bytes]:
    """Human-readable part, witness version and program of a segwit address (BIP-0350).

    Raises:
        ParseError: ``malformed-bech32``, also for the checksum that the version does not take.
    """
    hrp, values, encoding = bech32_decode(address)
    if not values:
        raise _malformed("no witness version")
    version, program = values[0], _from_5_bits(values[1:])
    _check_witness_program(version, program)
    if encoding is not (Encoding.BECH32M if version else Encoding.BECH32):
        raise _malformed(f"witness version {version} does not take this checksum")
    return hrp, version, program
