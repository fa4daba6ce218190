"""Sealing: the RFCs' own vectors through the functions that the wallet uses, and other programs as the judge."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.errors import MpchanError, ParseError, StorageError
from mpchan.wallet.sealing import (
    MAX_PASSPHRASE_BYTES,
    USUAL_COST,
    Cost,
    check_sealed,
    decrypt,
    encrypt,
    open_sealed,
    passphrase_bytes,
    scrypt,
    seal,
)

CHEAP = Cost(2, 1, 1)
DATA = bytes(range(80))
SEALED = seal(DATA, "correct horse", b"bound", CHEAP)


def slug_of(table: Mapping[str, Any], passphrase: str = "correct horse", bound: bytes = b"bound") -> str:
    with pytest.raises(MpchanError) as caught:
        open_sealed(table, passphrase, bound)
    # a short one may stand in any sentence
    assert len(passphrase) < 8 or passphrase not in str(caught.value)
    return caught.value.slug


@pytest.mark.parametrize(
    ("secret", "salt", "cost", "expected"),
    [
        (
            b"",
            b"",
            (16, 1, 1),
            (
                "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
                "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"
            ),
        ),
        (
            b"password",
            b"NaCl",
            (1024, 8, 16),
            (
                "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
                "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
            ),
        ),
        (
            b"pleaseletmein",
            b"SodiumChloride",
            (16384, 8, 1),
            (
                "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
                "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
            ),
        ),
    ],
)
def test_scrypt_of_rfc_7914(secret: bytes, salt: bytes, cost: tuple[int, int, int], expected: str) -> None:
    """Section 12; its last vector takes 1 GiB, more than a wallet may ask for."""
    assert scrypt(secret, salt, Cost(*cost), 64).hex() == expected


def test_chacha20_poly1305_of_rfc_8439() -> None:
    """Section 2.8.2: the first 16 bytes of the ciphertext, and its tag."""
    key, nonce = bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647")
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = encrypt(key, nonce, text, associated)
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert decrypt(key, nonce, sealed, associated) == text


def test_the_second_vector_of_rfc_8439() -> None:
    """Appendix A.5: the first 16 bytes of the ciphertext, and its tag."""
    key = bytes.fromhex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0")
    nonce, associated = bytes.fromhex("000000000102030405060708"), bytes.fromhex("f33388860000000000004e91")
    text = (
        "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or "
        "obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference "
        "material or to cite them other than as /“work in progress./”"
    )
    sealed = encrypt(key, nonce, text.encode(), associated)
    assert sealed[:16].hex() == "64a0861575861af460f062c79be643bd"
    assert sealed[-16:].hex() == "eead9d67890cbb22392336fea1851f38"


@given(st.binary(max_size=200), st.text(min_size=1, max_size=40), st.binary(max_size=40))
def test_what_was_sealed_opens(data: bytes, passphrase: str, bound: bytes) -> None:
    table = seal(data, passphrase, bound, CHEAP)
    check_sealed(table)
    assert open_sealed(table, passphrase, bound) == data
    assert slug_of(table, passphrase + "x", bound) == "passphrase-wrong"
    assert slug_of(table, passphrase, bound + b"x") == "passphrase-wrong"


def test_the_usual_cost() -> None:
    """What the documentation says of it, and that hashlib's scrypt makes the same key."""
    assert (USUAL_COST.n, USUAL_COST.r, USUAL_COST.p) == (32768, 8, 3)
    assert 128 * USUAL_COST.n * USUAL_COST.r == 32 << 20
    table = seal(DATA, "correct horse")
    assert {table["n"], table["r"], table["p"]} == {32768, 8, 3}
    salt = bytes.fromhex(table["salt"])
    key = hashlib.scrypt(b"correct horse", salt=salt, n=32768, r=8, p=3, maxmem=64 << 20, dklen=32)
    assert decrypt(key, bytes.fromhex(table["nonce"]), bytes.fromhex(table["ciphertext"]), b"") == DATA


def test_no_two_sealings_are_alike() -> None:
    tables = [seal(DATA, "correct horse", b"", CHEAP) for _ in range(50)]
    for name in ("salt", "nonce", "ciphertext"):
        assert len({table[name] for table in tables}) == 50


@pytest.mark.parametrize("name", ["salt", "nonce", "ciphertext"])
def test_every_changed_byte_is_noticed(name: str) -> None:
    value = bytes.fromhex(SEALED[name])
    for index in range(len(value)):
        for flip in (1, 0x80):
            changed = value[:index] + bytes([value[index] ^ flip]) + value[index + 1 :]
            assert slug_of({**SEALED, name: changed.hex()}) == "passphrase-wrong"
        shorter = value[:index]
        assert slug_of({**SEALED, name: shorter.hex()}) in ("malformed-seal", "passphrase-wrong")


@pytest.mark.parametrize("changes", [{"n": 4}, {"r": 2}, {"p": 2}])
def test_another_cost_is_another_key(changes: dict[str, int]) -> None:
    assert slug_of({**SEALED, **changes}) == "passphrase-wrong"


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf": "argon2id"},
        {"aead": "aes-256-gcm"},
        {"n": 0},
        {"n": 1},
        {"n": 3},
        {"n": -2},
        {"n": 2.0},
        {"n": True},
        {"n": "2"},
        {"n": 1 << 22},
        {"n": 1 << 62, "r": 1 << 20},
        {"n": 1 << 20, "r": 4},
        {"n": 1 << 17, "r": 8, "p": 17},
        {"n": 1 << 18, "r": 8},
        {"n": 2, "r": 1 << 19, "p": 3},
        {"r": 0},
        {"r": 1 << 30},
        {"p": 0},
        {"p": 1 << 30},
        {"salt": 5},
        {"salt": "zz" * 16},
        {"salt": ""},
        {"nonce": "00" * 11},
        {"ciphertext": "00" * 15},
        {"ciphertext": None},
        {"surprise": 1},
    ],
)
def test_what_is_no_sealed_table(changes: dict[str, object]) -> None:
    """It is refused before scrypt could take memory or time for it."""
    table = {**SEALED, **changes}
    assert slug_of(table) == "malformed-seal"
    with pytest.raises(ParseError):
        check_sealed(table)
    for name in SEALED:
        assert slug_of({key: value for key, value in SEALED.items() if key != name}) == "malformed-seal"


def test_the_most_that_a_table_may_ask_for() -> None:
    """256 MiB with scrypt's p blocks of 128 * r bytes counted, and 16,777,216 block mixes."""
    for n, r, p in ((1 << 17, 8, 16), (1 << 20, 1, 16), (2, 1 << 19, 2), (2, 1, (1 << 21) - 2)):
        assert 128 * r * (n + p) <= 256 << 20
        Cost(n, r, p)
        with pytest.raises(ParseError):
            Cost(n, r, p + 1)


def test_a_passphrase_is_normalised() -> None:
    """What looks alike opens alike: é in one code point and in two, a ligature, full-width digits."""
    table = seal(DATA, "caf\u00e9 \ufb01x \uff11", b"", CHEAP)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        typed = unicodedata.normalize(form, "cafe\u0301 \ufb01x \uff11")
        assert open_sealed(table, typed) == DATA
    assert slug_of(table, "cafe fix 1", b"") == "passphrase-wrong"
    assert slug_of(table, "Caf\u00e9 fix 1", b"") == "passphrase-wrong"


@pytest.mark.parametrize("passphrase", ["", "\udc80secret", "x" * (MAX_PASSPHRASE_BYTES + 1)])
def test_passphrases_that_are_none(passphrase: str) -> None:
    for call in (
        lambda: seal(DATA, passphrase, b"", CHEAP),
        lambda: open_sealed(SEALED, passphrase, b"bound"),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.slug == "passphrase-unusable"
        assert not passphrase or passphrase not in repr(caught.value) + caught.value.message
    assert passphrase_bytes("x" * MAX_PASSPHRASE_BYTES)
