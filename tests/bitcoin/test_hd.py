"""mpchan.bitcoin.hd against the test vectors of BIP-0032."""

from __future__ import annotations

import json
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin import signers
from mpchan.bitcoin.base58 import base58check_decode, base58check_encode
from mpchan.bitcoin.hd import (
    HARDENED,
    ExtendedKey,
    ExtendedPublicKey,
    extended_key_from_base58,
    parse_path,
)
from mpchan.bitcoin.network import MAINNET, NETWORKS, REGTEST, SIGNET, TESTNET4, Network
from mpchan.errors import ParseError

VECTORS = json.loads((Path(__file__).parent / "data" / "bip32.json").read_text())
SEED = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
MASTER = ExtendedKey.from_seed(SEED)


def ids(vector: dict[str, str]) -> str:
    return f"{vector['seed'][:6]}-{vector['path']}"


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=ids)
def test_vectors_derive(vector: dict[str, str]) -> None:
    key = ExtendedKey.from_seed(bytes.fromhex(vector["seed"])).derive(vector["path"])
    assert key.to_base58(MAINNET) == vector["xprv"]
    assert key.neuter().to_base58(MAINNET) == vector["xpub"]


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=ids)
def test_vectors_parse_and_serialize_again(vector: dict[str, str]) -> None:
    private = extended_key_from_base58(vector["xprv"], MAINNET)
    public = extended_key_from_base58(vector["xpub"], MAINNET)
    assert isinstance(private, ExtendedKey)
    assert isinstance(public, ExtendedPublicKey)
    assert private.to_base58(MAINNET) == vector["xprv"]
    assert public.to_base58(MAINNET) == vector["xpub"]
    assert private.neuter() == public
    assert private.public_key == public.public_key
    assert (private.depth, private.child_number) == (public.depth, public.child_number)
    assert private.fingerprint == public.fingerprint


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=ids)
def test_public_derivation_meets_private_derivation(vector: dict[str, str]) -> None:
    *above, last = [0, *parse_path(vector["path"])]
    if last >= HARDENED or not above:
        last = 7
    parent = extended_key_from_base58(vector["xpub"], MAINNET)
    private = extended_key_from_base58(vector["xprv"], MAINNET)
    assert isinstance(parent, ExtendedPublicKey)
    assert isinstance(private, ExtendedKey)
    assert parent.child(last) == private.child(last).neuter()
    assert parent.derive(f"m/{last}/3") == private.derive((last, 3)).neuter()


def test_public_derivation_gives_the_published_keys() -> None:
    by_path = {v["path"]: v["xpub"] for v in VECTORS["valid"] if v["seed"] == SEED.hex()}
    for parent, child, index in [
        ("m/0H", "m/0H/1", 1),
        ("m/0H/1/2H", "m/0H/1/2H/2", 2),
        ("m/0H/1/2H/2", "m/0H/1/2H/2/1000000000", 1_000_000_000),
    ]:
        key = extended_key_from_base58(by_path[parent], MAINNET)
        assert key.child(index).to_base58(MAINNET) == by_path[child]


def test_fingerprints_of_vector_1() -> None:
    assert MASTER.parent_fingerprint == bytes(4)
    assert MASTER.fingerprint.hex() == "3442193e"
    child = MASTER.derive("m/0'")
    assert child.parent_fingerprint.hex() == "3442193e"
    assert child.fingerprint.hex() == "5c1bd648"
    assert child.neuter().parent_fingerprint.hex() == "3442193e"


@pytest.mark.parametrize("text", VECTORS["invalid"])
def test_vector_5_is_refused_on_every_network(text: str) -> None:
    for network in NETWORKS.values():
        with pytest.raises(ParseError) as caught:
            extended_key_from_base58(text, network)
        if network is MAINNET:
            assert caught.value.slug == "malformed-extended-key"
        assert text not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("kind", ["xprv", "xpub"])
def test_every_prefix_of_an_extended_key_is_refused(kind: str) -> None:
    text = VECTORS["valid"][3][kind]
    for end in range(len(text)):
        with pytest.raises(ParseError):
            extended_key_from_base58(text[:end], MAINNET)
    for longer in (text + "1", "1" + text, text + " ", text + "\n"):
        with pytest.raises(ParseError):
            extended_key_from_base58(longer, MAINNET)


@pytest.mark.parametrize("size", [0, 4, 13, 45, 77, 79, 90])
def test_the_payload_has_78_bytes(size: int) -> None:
    payload = (base58check_decode(VECTORS["valid"][0]["xprv"]) + bytes(20))[:size]
    with pytest.raises(ParseError) as caught:
        extended_key_from_base58(base58check_encode(payload), MAINNET)
    assert caught.value.slug == "malformed-extended-key"


@pytest.mark.parametrize("text", [None, b"xprv", 5, ["xprv"]])
def test_only_text_is_an_extended_key(text: object) -> None:
    with pytest.raises(ParseError):
        extended_key_from_base58(text, MAINNET)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=str)
def test_networks_have_their_own_prefix(network: Network) -> None:
    key = MASTER.derive("m/84'/0'/0'")
    first = "x" if network is MAINNET else "t"
    assert key.to_base58(network)[:4] == first + "prv"
    assert key.neuter().to_base58(network)[:4] == first + "pub"
    again = extended_key_from_base58(key.to_base58(network), network)
    assert again.to_base58(network) == key.to_base58(network)


@pytest.mark.parametrize("network", [TESTNET4, SIGNET, REGTEST], ids=str)
def test_the_wrong_network_is_named(network: Network) -> None:
    for text, wanted in [
        (MASTER.to_base58(MAINNET), network),
        (MASTER.neuter().to_base58(MAINNET), network),
        (MASTER.to_base58(network), MAINNET),
    ]:
        with pytest.raises(ParseError) as caught:
            extended_key_from_base58(text, wanted)
        assert caught.value.slug == "wrong-network"
        assert "mainnet" in caught.value.message
        assert network.name in caught.value.message
        assert text not in caught.value.message


# --- paths ----------------------------------------------------------------------------------------


def test_paths_in_all_their_spellings() -> None:
    wanted = (HARDENED + 84, HARDENED + 1, HARDENED, 0, 5)
    for path in ("m/84'/1'/0'/0/5", "84h/1h/0h/0/5", "m/84H/1'/0h/0/5", list(wanted), wanted):
        assert parse_path(path) == wanted
    assert parse_path("m") == parse_path(()) == ()
    assert parse_path(f"m/{HARDENED - 1}'") == (2**32 - 1,)
    assert MASTER.derive("m").to_base58(MAINNET) == MASTER.to_base58(MAINNET)
    assert MASTER.derive("m/0'").derive("1/2'").to_base58(MAINNET) == VECTORS["valid"][3]["xprv"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "m/",
        "/0",
        "m//0",
        "m/0/",
        "M/0",
        "n/0",
        "m/-1",
        "m/+1",
        "m/01",
        "m/0x1",
        "m/1_0",
        "m/ 1",
        "m/1''",
        "m/'",
        "m/1'h",
        "m/1\n",
        "m/\u0661",
        "m/\u00b2",
        "m/2147483648",
        "m/2147483648'",
        "m/99999999999",
        "0/m",
        "m/m",
    ],
)
def test_malformed_paths_are_refused(path: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_path(path)
    assert caught.value.slug == "malformed-path"
    with pytest.raises(ParseError):
        MASTER.derive(path)


@pytest.mark.parametrize("number", [-1, 2**32, True, False, 0.0, "0", None])
def test_child_numbers_are_32_bit_integers(number: object) -> None:
    for act in (MASTER.child, MASTER.neuter().child, lambda n: MASTER.derive([n])):
        with pytest.raises(ParseError) as caught:
            act(number)  # type: ignore[arg-type]
        assert caught.value.slug == "malformed-number"


def test_a_public_key_has_no_hardened_children() -> None:
    with pytest.raises(ParseError) as caught:
        MASTER.neuter().child(HARDENED)
    assert caught.value.slug == "malformed-path"
    with pytest.raises(ParseError):
        MASTER.neuter().derive("m/0'")


def test_depth_ends_at_255() -> None:
    deepest = MASTER.derive([HARDENED] * 255)
    assert deepest.depth == 255
    for key in (deepest, deepest.neuter()):
        assert extended_key_from_base58(key.to_base58(MAINNET), MAINNET).depth == 255
        with pytest.raises(ParseError) as caught:
            key.child(0)
        assert caught.value.slug == "malformed-path"


# --- seeds, secrecy, cost -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [b"", bytes(15), bytes(65), bytearray(16), "00" * 16, None])
def test_a_seed_has_16_to_64_bytes(seed: object) -> None:
    with pytest.raises(ParseError) as caught:
        ExtendedKey.from_seed(seed)  # type: ignore[arg-type]
    assert caught.value.slug == "malformed-seed"
    assert ExtendedKey.from_seed(bytes(16)).depth == ExtendedKey.from_seed(bytes(64)).depth == 0


def test_secrets_are_not_shown_or_pickled() -> None:
    key = MASTER.derive("m/0'/1")
    assert repr(key) == "ExtendedKey(depth=2, child_number=1)"
    assert key.private_key.to_bytes().hex() not in repr([key])
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert key.neuter() == pickle.loads(pickle.dumps(key.neuter()))


def test_hardened_derivation_multiplies_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise AssertionError("a signer was asked")

    monkeypatch.setattr(signers, "signer", forbidden)
    key = ExtendedKey.from_seed(SEED).derive("m/84'/1'/0'")
    assert key.depth == 3
    with pytest.raises(AssertionError, match="a signer was asked"):
        key.child(0)


@given(st.binary(min_size=16, max_size=64), st.lists(st.integers(0, 2**32 - 1), max_size=4))
def test_text_form_keeps_everything(seed: bytes, path: list[int]) -> None:
    key = ExtendedKey.from_seed(seed).derive(path)
    again = extended_key_from_base58(key.to_base58(REGTEST), REGTEST)
    assert isinstance(again, ExtendedKey)
    assert again.private_key == key.private_key
    assert again.chain_code == key.chain_code
    assert again.parent_fingerprint == key.parent_fingerprint
    assert (again.depth, again.child_number) == (len(path), path[-1] if path else 0)
    assert again.neuter() == key.neuter()
