"""Addresses, base58check and bech32 against BIP-0173, BIP-0350 and Bitcoin Core's key_io files."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.base58 import base58check_decode, base58check_encode
from mpchan.bitcoin.bech32 import (
    Encoding,
    bech32_decode,
    bech32_encode,
    segwit_decode,
    segwit_encode,
)
from mpchan.bitcoin.network import (
    MAINNET,
    NETWORKS,
    REGTEST,
    SIGNET,
    TESTNET4,
    Network,
    network_from_name,
)
from mpchan.errors import ParseError

DATA = Path(__file__).parent / "data"
BECH32 = json.loads((DATA / "bech32.json").read_text())
KEY_IO = json.loads((DATA / "key_io.json").read_text())
CHAINS = {"main": MAINNET, "testnet4": TESTNET4, "signet": SIGNET, "regtest": REGTEST}


def supported(script: bytes) -> bool:
    """Whether mpchan pays to this script: all but the witness programs that have no rules yet."""
    return script[0] in (0x00, 0x76, 0xA9) or (script[0] == 0x51 and len(script) == 34)


def by_address(vector: dict[str, str]) -> str:
    return vector["address"][:20]


# --- Bitcoin Core's key_io ------------------------------------------------------------------------


@pytest.mark.parametrize("vector", KEY_IO["valid"], ids=by_address)
def test_addresses_of_bitcoin_core(vector: dict[str, str]) -> None:
    address, script = vector["address"], bytes.fromhex(vector["script"])
    network = CHAINS[vector["chain"]]
    if not supported(script):
        with pytest.raises(ParseError) as caught:
            address_to_script(address, network)
        assert caught.value.slug == "unsupported-address"
        assert script_to_address(script, network) is None
        return
    assert address_to_script(address, network) == script
    assert script_to_address(script, network) == address


@pytest.mark.parametrize("vector", KEY_IO["valid"], ids=by_address)
def test_upper_case_is_fine_for_segwit_only(vector: dict[str, str]) -> None:
    address, script = vector["address"], bytes.fromhex(vector["script"])
    if not supported(script):
        return
    network = CHAINS[vector["chain"]]
    if script[0] in (0x00, 0x51):
        assert address_to_script(address.upper(), network) == script
        mixed = (
            address[:-1] + address[-1].upper() if address[-1].isalpha() else address[0].upper() + address[1:]
        )
    else:
        mixed = address.swapcase()
    with pytest.raises(ParseError) as caught:
        address_to_script(mixed, network)
    assert caught.value.slug == "malformed-address"


@pytest.mark.parametrize("vector", KEY_IO["valid"], ids=by_address)
def test_addresses_of_another_network_are_refused_by_name(vector: dict[str, str]) -> None:
    address, script = vector["address"], bytes.fromhex(vector["script"])
    base58 = script[0] in (0x76, 0xA9)
    home = CHAINS[vector["chain"]]
    for network in NETWORKS.values():
        same = home.p2pkh_prefix == network.p2pkh_prefix if base58 else home.bech32_hrp == network.bech32_hrp
        if same:
            continue
        with pytest.raises(ParseError) as caught:
            address_to_script(address, network)
        assert caught.value.slug == "wrong-network"
        assert home.name in caught.value.message
        assert network.name in caught.value.message


@pytest.mark.parametrize("text", KEY_IO["invalid"])
def test_invalid_texts_of_bitcoin_core_are_no_addresses(text: str) -> None:
    for network in NETWORKS.values():
        with pytest.raises(ParseError) as caught:
            address_to_script(text, network)
        assert caught.value.slug in ("malformed-address", "wrong-network")


@pytest.mark.parametrize("text", KEY_IO["private_keys"])
def test_private_keys_are_no_addresses(text: str) -> None:
    assert base58check_decode(text)[0] in (0x80, 0xEF)  # a fine private key, but
    for network in NETWORKS.values():
        with pytest.raises(ParseError) as caught:
            address_to_script(text, network)
        assert caught.value.slug == "malformed-address"


# --- BIP-0173 and BIP-0350 ------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "text"), BECH32["segwit"])
def test_segwit_addresses_of_the_bips(address: str, text: str) -> None:
    script = bytes.fromhex(text)
    hrp, version, program = segwit_decode(address)
    assert bytes([0x50 + version if version else 0, len(program)]) + program == script
    assert segwit_encode(hrp, version, program) == address.lower()
    network = MAINNET if hrp == "bc" else TESTNET4
    if supported(script):
        assert address_to_script(address, network) == script
        assert script_to_address(script, network) == address.lower()
    else:
        with pytest.raises(ParseError) as caught:
            address_to_script(address, network)
        assert caught.value.slug == "unsupported-address"


@pytest.mark.parametrize("address", BECH32["segwit_invalid"])
def test_invalid_segwit_addresses_of_the_bips(address: str) -> None:
    for network in (MAINNET, TESTNET4):
        with pytest.raises(ParseError) as caught:
            address_to_script(address, network)
        assert caught.value.slug == "malformed-address"
    if not address.lower().startswith("tc"):  # a fine address of a network that does not exist
        with pytest.raises(ParseError):
            segwit_decode(address)


@pytest.mark.parametrize("encoding", Encoding)
def test_valid_strings_of_the_bips(encoding: Encoding) -> None:
    for text in BECH32[encoding.name.lower()]:
        hrp, data, found = bech32_decode(text)
        assert found is encoding
        assert bech32_encode(hrp, data, encoding) == text.lower()
        other = Encoding.BECH32 if encoding is Encoding.BECH32M else Encoding.BECH32M
        assert bech32_encode(hrp, data, other) != text.lower()


@pytest.mark.parametrize("text", BECH32["bech32_invalid"] + BECH32["bech32m_invalid"])
def test_invalid_strings_of_the_bips(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        bech32_decode(text)
    assert caught.value.slug == "malformed-bech32"


@pytest.mark.parametrize("encoding", Encoding)
def test_one_wrong_character_never_passes(encoding: Encoding) -> None:
    for text in BECH32[encoding.name.lower()]:
        start = text.rindex("1") + 1
        for position in range(start, len(text)):
            wrong = "q" if text[position].lower() != "q" else "p"
            wrong = wrong.upper() if text.isupper() else wrong
            with pytest.raises(ParseError):
                bech32_decode(text[:position] + wrong + text[position + 1 :])


def test_letters_that_fold_into_ascii_are_refused() -> None:
    kelvin = "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4".replace("K", "\u212a")  # lower() makes it k
    with pytest.raises(ParseError):
        bech32_decode(kelvin)
    with pytest.raises(ParseError) as caught:
        address_to_script(kelvin, MAINNET)
    assert caught.value.slug == "malformed-address"


@pytest.mark.parametrize(
    ("hrp", "data"),
    [
        ("", b""),
        ("a" * 84, b""),
        ("A", b""),
        ("a b", b""),
        ("\u00e4", b""),
        ("bc", b"\x20"),
        ("bc", bytes(82)),
    ],
)
def test_bech32_encode_refuses_what_it_could_not_read(hrp: str, data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        bech32_encode(hrp, data, Encoding.BECH32M)
    assert caught.value.slug == "malformed-bech32"


@pytest.mark.parametrize(
    ("version", "size"), [(-1, 32), (17, 32), (0, 0), (0, 19), (0, 33), (0, 40), (1, 1), (1, 41), (16, 0)]
)
def test_segwit_encode_refuses_what_is_no_program(version: int, size: int) -> None:
    with pytest.raises(ParseError):
        segwit_encode("bc", version, bytes(size))


@given(st.sampled_from(["bc", "tb", "bcrt"]), st.integers(0, 16), st.binary(min_size=2, max_size=40))
def test_segwit_round_trip(hrp: str, version: int, program: bytes) -> None:
    if version == 0:
        program = program.ljust(20, b"\0")[:20]
    address = segwit_encode(hrp, version, program)
    assert segwit_decode(address) == (hrp, version, program)
    assert segwit_decode(address.upper()) == (hrp, version, program)


# --- base58check ----------------------------------------------------------------------------------


@given(st.binary(max_size=80))
def test_base58check_round_trip(payload: bytes) -> None:
    assert base58check_decode(base58check_encode(payload)) == payload


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (bytes(21), "1111111111111111111114oLvT2"),  # the well-known address of the all-zero hash
        (b"", "3QJmnh"),
        (bytes.fromhex("00" + "ff" * 20), "1QLbz7JHiBTspS962RLKV8GndWFwi5j6Qr"),
    ],
)
def test_known_base58check_texts(payload: bytes, text: str) -> None:
    assert base58check_encode(payload) == text
    assert base58check_decode(text) == payload


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "111",
        "3QJmn",
        "3QJmnj",
        "13QJmnh",
        "3QJmnh ",
        " 3QJmnh",
        "0QJmnh",
        "OQJmnh",
        "IQJmnh",
        "lQJmnh",
        "3QJ\u00e4nh",
        "3QJmnh\n",
        "z" * 129,
        None,
        b"3QJmnh",
    ],
)
def test_malformed_base58check_is_refused_without_repeating_it(text: object) -> None:
    with pytest.raises(ParseError) as caught:
        base58check_decode(text)  # type: ignore[arg-type]
    assert caught.value.slug == "malformed-base58"
    assert "QJm" not in caught.value.message


def test_long_base58_is_refused_before_it_costs_time() -> None:
    with pytest.raises(ParseError, match="10000000 characters"):
        base58check_decode("z" * 10_000_000)


# --- addresses in general -------------------------------------------------------------------------


@pytest.mark.parametrize("vector", [v for v in KEY_IO["valid"] if supported(bytes.fromhex(v["script"]))][:16])
def test_every_prefix_of_an_address_is_refused(vector: dict[str, str]) -> None:
    address, network = vector["address"], CHAINS[vector["chain"]]
    for end in range(len(address)):
        with pytest.raises(ParseError) as caught:
            address_to_script(address[:end], network)
        assert caught.value.slug == "malformed-address"
    for longer in (address + "q", address + " ", " " + address, address + "\n", "bitcoin:" + address):
        with pytest.raises(ParseError):
            address_to_script(longer, network)


@pytest.mark.parametrize("address", [None, 1, b"bc1q", ["bc1q"], "x" * 91, "bc1" + "q" * 100_000])
def test_other_things_are_no_addresses(address: object) -> None:
    with pytest.raises(ParseError) as caught:
        address_to_script(address, MAINNET)  # type: ignore[arg-type]
    assert caught.value.slug == "malformed-address"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("size", [0, 1, 19, 20, 22, 33])
def test_a_base58_address_has_21_bytes(size: int) -> None:
    with pytest.raises(ParseError) as caught:
        address_to_script(base58check_encode(bytes(size)), MAINNET)
    assert caught.value.slug == "malformed-address"


def test_unknown_base58_prefixes_are_of_no_network() -> None:
    known = {0x00, 0x05, 0x6F, 0xC4}
    for prefix in set(range(256)) - known:
        with pytest.raises(ParseError) as caught:
            address_to_script(base58check_encode(bytes([prefix]) + bytes(20)), MAINNET)
        assert caught.value.slug == "malformed-address"


@pytest.mark.parametrize(
    "script",
    [
        "",
        "6a",
        "00",
        "51",
        "0014" + "11" * 19,
        "0014" + "11" * 21,
        "0015" + "11" * 21,
        "0020" + "11" * 31,
        "5114" + "11" * 20,
        "5120" + "11" * 33,
        "5121" + "11" * 32,
        "51024e73",
        "5220" + "11" * 32,
        "76a914" + "11" * 20 + "88ad",
        "76a913" + "11" * 20 + "88ac",
        "76a914" + "11" * 21 + "88ac",
        "a914" + "11" * 21 + "87",
        "76a914" + "11" * 20 + "88ac00",
        "a914" + "11" * 20 + "88",
        "a915" + "11" * 20 + "87",
        "21" + "02" * 33 + "ac",
    ],
)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=str)
def test_other_scripts_have_no_address(script: str, network: Network) -> None:
    assert script_to_address(bytes.fromhex(script), network) is None


@given(
    st.sampled_from(list(NETWORKS.values())),
    st.binary(min_size=20, max_size=20),
    st.binary(min_size=32, max_size=32),
)
def test_scripts_and_addresses_are_inverse(network: Network, short: bytes, long: bytes) -> None:
    for script in (
        b"\x76\xa9\x14" + short + b"\x88\xac",
        b"\xa9\x14" + short + b"\x87",
        b"\x00\x14" + short,
        b"\x00\x20" + long,
        b"\x51\x20" + long,
    ):
        address = script_to_address(script, network)
        assert address is not None
        assert address_to_script(address, network) == script


# --- networks -------------------------------------------------------------------------------------


def test_networks_by_name() -> None:
    assert list(NETWORKS) == ["mainnet", "testnet4", "signet", "regtest"]
    for name, network in NETWORKS.items():
        assert network_from_name(name) is network
        assert str(network) == name
    assert [n.coin_type for n in NETWORKS.values()] == [0, 1, 1, 1]


MERKLE_ROOT = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
MERKLE_ROOT_4 = "7aa0a7ae1e223414cb807e40cd57e667b718e42aaf9306db9102fe28912b7b4e"


@pytest.mark.parametrize(
    ("network", "merkle_root", "time", "bits", "nonce"),
    [
        (MAINNET, MERKLE_ROOT, 1231006505, 0x1D00FFFF, 2083236893),
        (TESTNET4, MERKLE_ROOT_4, 1714777860, 0x1D00FFFF, 393743547),
        (SIGNET, MERKLE_ROOT, 1598918400, 0x1E0377AE, 52613770),
        (REGTEST, MERKLE_ROOT, 1296688602, 0x207FFFFF, 2),
    ],
    ids=str,
)
def test_genesis_hashes(network: Network, merkle_root: str, time: int, bits: int, nonce: int) -> None:
    """The hash of each genesis header of Bitcoin Core's chainparams.cpp."""
    header = struct.pack("<i32s32sIII", 1, bytes(32), bytes.fromhex(merkle_root)[::-1], time, bits, nonce)
    assert hashlib.sha256(hashlib.sha256(header).digest()).digest()[::-1].hex() == network.genesis_hash


@pytest.mark.parametrize(
    "name", ["", "main", "testnet", "testnet3", "Regtest", "regtest ", None, 1, ["regtest"]]
)
def test_unknown_networks_are_refused(name: object) -> None:
    with pytest.raises(ParseError) as caught:
        network_from_name(name)  # type: ignore[arg-type]
    assert caught.value.slug == "unknown-network"
    assert "regtest" in str(caught.value.hint)
