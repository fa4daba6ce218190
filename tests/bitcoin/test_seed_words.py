"""mpchan.bitcoin.seed_words against the English vectors of BIP-0039."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin.hd import ExtendedKey
from mpchan.bitcoin.network import MAINNET
from mpchan.bitcoin.seed_words import entropy_to_words, words_to_entropy, words_to_seed
from mpchan.errors import ParseError

VECTORS = json.loads((Path(__file__).parent / "data" / "bip39_english.json").read_text())["valid"]
WORDS = VECTORS[1]["words"]


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_vectors(vector: dict[str, str]) -> None:
    entropy = bytes.fromhex(vector["entropy"])
    assert entropy_to_words(entropy) == vector["words"]
    assert words_to_entropy(vector["words"]) == entropy
    seed = words_to_seed(vector["words"], "TREZOR")
    assert seed.hex() == vector["seed"]
    assert ExtendedKey.from_seed(seed).to_base58(MAINNET) == vector["xprv"]


def test_an_empty_passphrase_is_the_default() -> None:
    wanted = hashlib.pbkdf2_hmac("sha512", WORDS.encode(), b"mnemonic", 2048)
    assert words_to_seed(WORDS) == words_to_seed(WORDS, "") == wanted


def test_passphrases_are_normalized() -> None:
    composed, decomposed = "caf\u00e9 \ufb01", "cafe\u0301 fi"
    wanted = hashlib.pbkdf2_hmac("sha512", WORDS.encode(), b"mnemonic" + decomposed.encode(), 2048)
    assert words_to_seed(WORDS, composed) == words_to_seed(WORDS, decomposed) == wanted
    assert words_to_seed(WORDS, "Caf\u00e9 \ufb01") != wanted


def test_white_space_and_case_do_not_matter() -> None:
    untidy = "\n  " + WORDS.replace(" ", " \t\u3000").title() + "\r\n"
    assert words_to_entropy(untidy) == words_to_entropy(WORDS)
    assert words_to_seed(untidy, "p") == words_to_seed(WORDS, "p")


def test_letters_are_normalized() -> None:
    wide = WORDS.replace("legal", "\uff4c\uff45\uff47\uff41\uff4c")  # as some keyboards make them
    assert wide != WORDS
    assert words_to_entropy(wide) == words_to_entropy(WORDS)
    assert words_to_seed(wide) == words_to_seed(WORDS)


def test_a_wrong_count_is_told() -> None:
    with pytest.raises(ParseError, match=r"^11 seed words, not 12, 15, 18, 21 or 24$"):
        words_to_entropy(WORDS.rsplit(" ", 1)[0])


@pytest.mark.parametrize("size", [0, 15, 17, 33, 64])
def test_entropy_has_16_to_32_bytes_in_fours(size: int) -> None:
    with pytest.raises(ParseError) as caught:
        entropy_to_words(bytes(size))
    assert caught.value.slug == "malformed-entropy"


@pytest.mark.parametrize("entropy", [None, "00" * 16, bytearray(16), 16])
def test_entropy_is_bytes(entropy: object) -> None:
    with pytest.raises(ParseError):
        entropy_to_words(entropy)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words",
    [
        "",
        "legal",
        WORDS.rsplit(" ", 1)[0],
        WORDS + " legal",
        WORDS.replace("legal", "lega1"),
        WORDS.replace("winner", "win"),
        " ".join(["legal"] * 12),
        " ".join(reversed(WORDS.split())),
        WORDS.replace(" ", ","),
        WORDS.replace("legal", "l\u0435gal"),  # a Cyrillic letter
        WORDS.rsplit(" ", 1)[0] + " zoo",
        None,
        WORDS.split(),
        WORDS.encode(),
    ],
)
def test_wrong_words_are_refused_in_silence(words: object) -> None:
    for act in (words_to_entropy, words_to_seed):
        with pytest.raises(ParseError) as caught:
            act(words)  # type: ignore[arg-type]
        assert caught.value.slug == "malformed-words"
        shown = "".join(traceback.format_exception(caught.value))
        for word in {"legal", "lega1", "l\u0435gal", "winner", "thank", "yellow", "zoo"}:
            assert word not in caught.value.message
            assert word not in shown.split("ParseError")[-1]


def test_the_position_of_an_unknown_word_is_told() -> None:
    words = WORDS.split()
    words[2] = "tankyou"
    with pytest.raises(ParseError, match="seed word 3 is not in the English list"):
        words_to_entropy(" ".join(words))


def test_the_words_before_the_last_are_no_seed_words() -> None:
    """Every shorter list fails: by its count, or by its checksum."""
    words = VECTORS[-1]["words"].split()
    for count in range(len(words)):
        with pytest.raises(ParseError):
            words_to_entropy(" ".join(words[:count]))


@given(st.sampled_from([16, 20, 24, 28, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_words_and_entropy_are_inverse(entropy: bytes) -> None:
    words = entropy_to_words(entropy)
    assert len(words.split()) == len(entropy) * 3 // 4
    assert words_to_entropy(words) == entropy


def test_the_word_list_is_loaded_when_it_is_needed() -> None:
    script = (
        "import sys, mpchan.bitcoin.seed_words as s\n"
        "assert 'mnemonic' not in sys.modules\n"
        "s.entropy_to_words(bytes(16))\n"
        "assert 'mnemonic' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)
