"""mpchan.bitcoin.musig: the vectors of BIP-0327 for keys, and those of BIP-0390 without derivation, by every signer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest
from support.signer import SIGNERS, using
from support.strategies import vectors

from mpchan.bitcoin import signers
from mpchan.bitcoin.musig import aggregate_keys, musig_key
from mpchan.bitcoin.signature import ORDER, PrivateKey, PublicKey
from mpchan.bitcoin.taproot import output_key, p2tr_script
from mpchan.errors import ParseError

VECTORS = vectors("bip327.json")
AGGREGATION, SORTING = VECTORS["aggregation"], VECTORS["sorting"]
VALID, WRONG = AGGREGATION["valid_test_cases"], AGGREGATION["error_test_cases"]


@pytest.fixture(params=SIGNERS)
def signer(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


def keys_of(case: dict[str, Any]) -> list[PublicKey]:
    return [PublicKey.from_hex(AGGREGATION["pubkeys"][index]) for index in case["key_indices"]]


@pytest.mark.parametrize("case", VALID, ids=lambda case: str(case["key_indices"]))
def test_aggregate_keys_of_bip327(signer: str, case: dict[str, Any]) -> None:
    assert aggregate_keys(keys_of(case)).x_only.hex().upper() == case["expected"]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case["comment"])
def test_what_bip327_refuses(signer: str, case: dict[str, Any]) -> None:
    """A key that is none, and a tweak that is none or takes the sum to infinity."""
    contribution = case["error"]["type"] == "invalid_contribution"
    with pytest.raises(ParseError) as caught:
        tweaked(case)
    assert caught.value.slug == ("malformed-public-key" if contribution else "malformed-tweak")


def tweaked(case: dict[str, Any]) -> PublicKey:
    key = aggregate_keys(keys_of(case))
    for index in case["tweak_indices"]:
        key = key.add_tweak(bytes.fromhex(AGGREGATION["tweaks"][index]))
    return key


def test_keys_are_sorted_as_in_bip327() -> None:
    """The aggregate of keys in any order is that of the sorted ones."""
    points = [text for text in SORTING["sorted_pubkeys"] if not text.endswith("FF")]  # which is no point
    given = [PublicKey.from_hex(text) for text in SORTING["pubkeys"] if text in points]
    assert musig_key(*given) == aggregate_keys([PublicKey.from_hex(text) for text in points])


def test_musig_of_bip390(signer: str) -> None:
    """``rawtr(musig(…))`` and ``tr(musig(…))`` of three plain keys, in every order."""
    keys = keys_of(VALID[0])
    for order in permutations(keys):
        key = musig_key(*order)
        assert p2tr_script(key.x_only).hex() == (
            "5120789d937bade6673538f3e28d8368dda4d0512f94da44cf477a505716d26a1575"
        )
        assert p2tr_script(output_key(key.x_only).x_only).hex() == (
            "512079e6c3e628c9bfbce91de6b7fb28e2aec7713d377cf260ab599dcbc40e542312"
        )


def test_a_key_and_its_opposite() -> None:
    """In a plain sum they would cancel each other out; here each has its factor, so 02 and 03 of one x can meet."""
    secret = bytes(31) + b"\x05"
    opposite = (ORDER - 5).to_bytes(32, "big")
    key, other = PrivateKey(secret).public_key, PrivateKey(opposite).public_key
    assert key.x_only == other.x_only
    made = set()
    for name in SIGNERS:
        with using(name):
            made.add(musig_key(key, other).sec)
    assert len(made) == 1


def test_one_infinity_for_every_signer(signer: str) -> None:
    library, one = signers.signer(), bytes(31) + b"\x01"
    point = library.load_public(PrivateKey(one).public_key.sec)
    assert library.combine([point, point], [one, (ORDER - 1).to_bytes(32, "big")]) is None
