"""Channel keys that anybody with the seed can compute: published vectors, another library, every bit that counts."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpchan.channel.key_paths as key_paths
from mpchan.bitcoin.hd import HARDENED, ExtendedKey, parse_path
from mpchan.bitcoin.network import MAINNET, NETWORKS, REGTEST, SIGNET
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.errors import ParseError
from mpchan.wallet.keys import Keys

FILE = json.loads(Path(key_paths.__file__).with_suffix(".json").read_text())
VECTORS: list[dict[str, Any]] = FILE["keys"]
GENERATIONS = st.binary(min_size=8, max_size=8)
NAMES = st.binary(min_size=16, max_size=16) | st.binary(min_size=32, max_size=32)


def path_of(vector: dict[str, Any]) -> tuple[int, ...]:
    network = NETWORKS[vector["network"]]
    if vector["kind"] == "payee":
        generation, name = bytes.fromhex(vector["generation"]), bytes.fromhex(vector["name"])
        return key_paths.payee_path(network, generation, name)
    if vector["kind"] == "payer":
        return key_paths.payer_path(network, PublicKey.from_hex(vector["payee_public_key"]))
    return key_paths.token_path(network)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['kind']}-{vector['network']}")
def test_the_published_vectors(vector: dict[str, Any]) -> None:
    path = path_of(vector)
    assert path == parse_path(vector["path"])
    derived = ExtendedKey.from_seed(bytes.fromhex(FILE["seed"])).derive(path)
    assert derived.public_key.sec.hex() == vector["public_key"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['kind']}-{vector['network']}")
def test_another_library_finds_the_same_keys(vector: dict[str, Any]) -> None:
    """From the words to the key nothing of this project is used but the path as it is published."""
    bip32, bip39 = (pytest.importorskip(f"embit.{name}") for name in ("bip32", "bip39"))
    seed = bip39.mnemonic_to_seed(FILE["words"])
    assert seed.hex() == FILE["seed"]
    key = bip32.HDKey.from_seed(seed).derive(vector["path"]).key
    assert key.get_public_key().sec().hex() == vector["public_key"]


@given(generation=GENERATIONS, name=NAMES)
def test_the_steps_are_the_digest_read_as_it_is_documented(generation: bytes, name: bytes) -> None:
    """Read here as one number of 256 bits; there word by word."""
    number = int(sha256(b"mpchan/payee" + generation + name).hexdigest(), 16)
    words = [(number >> shift) % (1 << 32) for shift in (224, 192, 160, 128)]
    path = key_paths.payee_path(REGTEST, generation, name)
    assert path[:3] == (HARDENED + 7420, HARDENED + 1, HARDENED + 1)
    assert [step - HARDENED for step in path[3:]] == [word % (1 << 31) for word in words]


@given(secret=st.integers(1, 2**200))
def test_the_payers_key_follows_from_the_payees_alone(secret: int) -> None:
    payee = PrivateKey(secret.to_bytes(32, "big")).public_key
    number = int(sha256(b"mpchan/payer" + payee.sec).hexdigest(), 16)
    words = [(number >> shift) % (1 << 31) for shift in (224, 192, 160, 128)]
    path = key_paths.payer_path(MAINNET, payee)
    assert [step - HARDENED for step in path] == [7420, 0, 2, *words]


def test_networks_with_one_coin_type_have_the_same_keys() -> None:
    """SLIP-0044 has one type for all test networks; what keeps them apart is the offer's own network."""
    assert key_paths.token_path(SIGNET) == key_paths.token_path(REGTEST) != key_paths.token_path(MAINNET)


def test_counted_keys_are_where_they_were() -> None:
    assert key_paths.counted_path(REGTEST, 5) == parse_path("m/7420'/1'/0'/5'")
    with pytest.raises(ParseError):
        key_paths.counted_path(REGTEST, 1 << 31)


def test_a_wallet_has_these_keys(tmp_path: Path) -> None:
    keys = Keys.restore(tmp_path / "keys.toml", REGTEST, FILE["words"])
    for vector in VECTORS:
        if vector["network"] != "regtest" or vector["kind"] == "token":
            continue
        if vector["kind"] == "payee":
            key = keys.payee_key(bytes.fromhex(vector["generation"]), bytes.fromhex(vector["name"]))
        else:
            key = keys.payer_key(PublicKey.from_hex(vector["payee_public_key"]))
        assert key.public_key.sec.hex() == vector["public_key"]
