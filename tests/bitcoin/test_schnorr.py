"""mpchan.bitcoin.schnorr: all verification vectors of BIP-0340."""

from __future__ import annotations

from typing import Any

import pytest
from support.strategies import vectors

from mpchan.bitcoin.schnorr import verify_schnorr


@pytest.mark.parametrize("case", vectors("bip340.json")["cases"], ids=lambda case: case["comment"])
def test_bip340(case: dict[str, Any]) -> None:
    key, signature, message = (bytes.fromhex(case[name]) for name in ("key", "signature", "message"))
    assert verify_schnorr(key, signature, message) is case["valid"]


@pytest.mark.parametrize("case", vectors("bip340.json")["cases"][:3], ids=lambda case: case["comment"])
def test_any_other_byte_is_wrong(case: dict[str, Any]) -> None:
    key, signature, message = (bytes.fromhex(case[name]) for name in ("key", "signature", "message"))
    for place in (0, 31, 32, 63):
        other = bytearray(signature)
        other[place] ^= 1
        assert not verify_schnorr(key, bytes(other), message)
    assert not verify_schnorr(key, signature + b"\x01", message)
    assert not verify_schnorr(key, signature[:-1], message)
    assert not verify_schnorr(key[:-1], signature, message)
    assert not verify_schnorr(key, signature, message[:-1] + bytes([message[-1] ^ 1]))
