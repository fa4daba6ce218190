"""mpchan.bitcoin.schnorr, and the private key's Schnorr signatures: all vectors of BIP-0340, by every signer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.signer import SIGNERS, using
from support.strategies import vectors

from mpchan.bitcoin import signers
from mpchan.bitcoin.schnorr import verify_schnorr
from mpchan.bitcoin.signature import ORDER, PrivateKey
from mpchan.errors import ParseError, StorageError

CASES = vectors("bip340.json")["cases"]
SIGNED = [case for case in CASES if "secret" in case and len(case["message"]) == 64]
DIGEST = bytes(range(32))


@pytest.fixture(params=SIGNERS)
def signer(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


def of(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


# --- verifying ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["comment"])
def test_verifying_as_in_bip340(signer: str, case: dict[str, Any]) -> None:
    key, signature, message = of(case, "key", "signature", "message")
    assert verify_schnorr(key, signature, message) is case["valid"]


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: case["comment"])
def test_any_other_byte_is_wrong(signer: str, case: dict[str, Any]) -> None:
    key, signature, message = of(case, "key", "signature", "message")
    for place in range(64):
        other = bytearray(signature)
        other[place] ^= 1 << place % 8
        assert not verify_schnorr(key, bytes(other), message)
    assert not verify_schnorr(key, signature + b"\x01", message)
    assert not verify_schnorr(key, signature[:-1], message)
    assert not verify_schnorr(key[:-1], signature, message)
    assert not verify_schnorr(b"\x02" + key, signature, message)
    assert not verify_schnorr(key, signature, message[:-1] + bytes([message[-1] ^ 1]))
    assert not verify_schnorr(key, signature, message[:-1])


# --- signing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SIGNED, ids=lambda case: case["comment"])
def test_signing_as_in_bip340(signer: str, case: dict[str, Any]) -> None:
    secret, aux_rand, key, message, signature = of(case, "secret", "aux_rand", "key", "message", "signature")
    library = signers.signer()
    assert library.sign_schnorr(library.load_key_pair(secret), message, aux_rand) == signature
    assert PrivateKey(secret).public_key.x_only == key


def test_a_private_key_adds_no_randomness(signer: str) -> None:
    case = SIGNED[0]
    secret, aux_rand, message, signature = of(case, "secret", "aux_rand", "message", "signature")
    assert aux_rand == bytes(32)
    key = PrivateKey(secret)
    assert (
        key.sign_schnorr(message)
        == key.sign_schnorr_checked(message)
        == key.sign_schnorr(message)
        == signature
    )


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33), bytearray(32), "00" * 32, None])
def test_a_digest_to_sign_has_32_bytes(signer: str, digest: object) -> None:
    with pytest.raises(ParseError) as caught:
        PrivateKey(DIGEST).sign_schnorr(digest)  # type: ignore[arg-type]
    assert caught.value.slug == "malformed-digest"


@settings(max_examples=25)
@given(
    st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big")),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
@example((1).to_bytes(32, "big"), b"\xff" * 32, bytes(32))  # a digest over the order
@example((ORDER - 1).to_bytes(32, "big"), bytes(32), b"\xff" * 32)  # the same point with an odd y
def test_signers_make_the_same_bytes_and_verify_each_other(
    secret: bytes, digest: bytes, aux_rand: bytes
) -> None:
    made, plain = set(), set()
    for name in SIGNERS:
        with using(name):
            library = signers.signer()
            made.add(library.sign_schnorr(library.load_key_pair(secret), digest, aux_rand))
            plain.add(PrivateKey(secret).sign_schnorr(digest))
    assert len(made) == len(plain) == 1
    for name in SIGNERS:
        with using(name):
            x_only = PrivateKey(secret).public_key.x_only
            for signature in (*made, *plain):
                assert verify_schnorr(x_only, signature, digest)
                assert not verify_schnorr(x_only, signature, bytes([digest[0] ^ 1]) + digest[1:])


@settings(max_examples=25)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_signers_refuse_alike_what_is_made_up(x_only: bytes, signature: bytes) -> None:
    for name in SIGNERS:
        with using(name):
            assert not verify_schnorr(x_only, signature, DIGEST)


# --- what can fail --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 40])
def test_a_signature_that_came_out_wrong_is_never_handed_out(
    signer: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = signers.signer()
    right = library.sign_schnorr

    def bent(key_pair: object, digest: bytes, aux_rand: bytes) -> bytes:
        made = bytearray(right(key_pair, digest, aux_rand))
        made[place] ^= 1
        return bytes(made)

    monkeypatch.setattr(library, "sign_schnorr", bent)
    with pytest.raises(StorageError) as caught:
        PrivateKey(DIGEST).sign_schnorr_checked(DIGEST)
    assert caught.value.slug == "own-signature"


@pytest.mark.parametrize("name", SIGNERS)
def test_signatures_in_plain_python_are_counted(name: str) -> None:
    """In a process of its own: the count is of the whole process."""
    code = (
        "from mpchan.bitcoin.signature import PrivateKey; from mpchan.bitcoin.signers import exposed_signatures\n"
        "before = exposed_signatures(); PrivateKey(bytes(31) + b'x').sign_schnorr(bytes(32))\n"
        "print(before, exposed_signatures())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env={"MPCHAN_SIGNER": name}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["0", "1" if name == "ecdsa" else "0"]
