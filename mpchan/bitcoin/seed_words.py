"""A seed as words that people can write down (BIP-0039, English list).

Errors never repeat a word: together the words are the money.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from mpchan.errors import ParseError

if TYPE_CHECKING:
    from mnemonic import Mnemonic

_ENTROPY_BYTES = (16, 20, 24, 28, 32)
_WORD_COUNTS = (12, 15, 18, 21, 24)


@lru_cache(maxsize=1)
def _english() -> Mnemonic:
    from mnemonic import Mnemonic

    return Mnemonic("english")


def entropy_to_words(entropy: bytes) -> str:
    """The 12, 15, 18, 21 or 24 words of 16, 20, 24, 28 or 32 bytes, with single spaces.

    Raises:
        ParseError: ``malformed-entropy`` for another number of bytes.
    """
    if type(entropy) is not bytes or len(entropy) not in _ENTROPY_BYTES:
        raise ParseError("malformed-entropy", "a seed's entropy has 16, 20, 24, 28 or 32 bytes")
    return _english().to_mnemonic(entropy)


def words_to_entropy(words: str) -> bytes:
    """The entropy behind seed words; any white space and letter case is fine.

    Raises:
        ParseError: ``malformed-words`` for an unknown word, a wrong count or a wrong checksum.
    """
    return _parsed(words)[1]


def words_to_seed(words: str, passphrase: str = "") -> bytes:
    """The 64-byte BIP-0032 seed: PBKDF2-HMAC-SHA512 of the words, 2048 rounds.

    Words and passphrase are taken in NFKD form (BIP-0039, "From mnemonic to seed").

    Raises:
        ParseError: ``malformed-words`` as in ``words_to_entropy``; a typing error must not
            quietly open another wallet.
    """
    return _english().to_seed(_parsed(words)[0], passphrase)


def _parsed(words: str) -> tuple[str, bytes]:
    """The words in canonical form, and their entropy."""
    if not isinstance(words, str):
        raise ParseError("malformed-words", "seed words must be text")
    canonical = unicodedata.normalize("NFKD", words).lower().split()
    if len(canonical) not in _WORD_COUNTS:
        raise ParseError("malformed-words", f"{len(canonical)} seed words, not 12, 15, 18, 21 or 24")
    english = _english()
    for position, word in enumerate(canonical):
        if word not in english.wordlist:
            raise ParseError("malformed-words", f"seed word {position + 1} is not in the English list")
    try:
        entropy = english.to_entropy(canonical)
    except ValueError:
        raise ParseError(
            "malformed-words",
            "the checksum of the seed words is wrong",
            hint="check the spelling and the order of the words",
        ) from None
    return " ".join(canonical), bytes(entropy)
