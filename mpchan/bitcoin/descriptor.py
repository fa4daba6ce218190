"""Output script descriptors (BIP-0380): their checksum, and those of a channel's output.

P2WSH with ``sortedmulti`` (BIP-0382, BIP-0383), or taproot (BIP-0386) with ``musig`` (BIP-0390) and
miniscript (BIP-0379).
"""

from __future__ import annotations

from collections.abc import Iterable

from mpchan.bitcoin.script import two_of_two_script
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tapscript import key_after_script
from mpchan.errors import ParseError
from mpchan.units import LockTime

_CHARACTERS = (
    "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "
)
"""Three groups of 32 (BIP-0380, "Character Set"); the last one's last place is empty."""

_CHECKSUM_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHECKSUM_SIZE = 8
_GENERATOR = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)


def two_of_two_descriptor(key_a: bytes, key_b: bytes) -> str:
    """``wsh(sortedmulti(2,KEY,KEY))#CHECKSUM`` of two compressed keys, in BIP-0067 order whichever comes first."""
    two_of_two_script(key_a, key_b)  # refuses keys that make no such script
    first, second = sorted((key_a, key_b))
    return with_checksum(f"wsh(sortedmulti(2,{first.hex()},{second.hex()}))")


def musig_descriptor(payer_key: PublicKey, payee_key: PublicKey, refund_lock_time: LockTime) -> str:
    """The taproot output that both keys open together, and the payer's alone from a lock time on, with its checksum.

    By the key path of ``musig()``, by a leaf with both signatures, or by a leaf with the lock time. The keys are
    compressed: ``musig()`` gives another address for 03 than for 02.

    Raises:
        ParseError: ``malformed-number`` for a lock time that ``after()`` cannot hold.
    """
    key_after_script(payer_key.x_only, refund_lock_time)  # refuses such a lock time
    both = f"and_v(v:pk({payer_key}),pk({payee_key}))"
    refund = f"and_v(v:pk({payer_key}),after({refund_lock_time.value}))"
    return with_checksum(f"tr(musig({payer_key},{payee_key}),{{{both},{refund}}})")


def with_checksum(descriptor: str) -> str:
    """The descriptor with ``#`` and its eight characters."""
    value = _polymod([*_symbols(descriptor), *[0] * _CHECKSUM_SIZE]) ^ 1
    shifts = range(5 * (_CHECKSUM_SIZE - 1), -1, -5)
    return descriptor + "#" + "".join(_CHECKSUM_CHARACTERS[value >> shift & 31] for shift in shifts)


def _polymod(symbols: Iterable[int]) -> int:
    state = 1
    for symbol in symbols:
        top = state >> 35
        state = (state & 0x7_FFFF_FFFF) << 5 ^ symbol
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                state ^= term
    return state


def _symbols(descriptor: str) -> list[int]:
    """Each character's place in its group; after every three of them one symbol for their groups."""
    symbols: list[int] = []
    groups: list[int] = []
    for character in descriptor:
        place = _CHARACTERS.find(character)
        if place < 0:
            raise ParseError("malformed-descriptor", f"no descriptor has the character {character!r}")
        symbols.append(place & 31)
        groups.append(place >> 5)
        if len(groups) == 3:
            symbols.append(groups[0] * 9 + groups[1] * 3 + groups[2])
            groups = []
    if groups:
        symbols.append(groups[0] if len(groups) == 1 else groups[0] * 3 + groups[1])
    return symbols
