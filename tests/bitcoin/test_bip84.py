"""mpchan.bitcoin.bip84 against the test vector of BIP-0084: words, keys and addresses."""

from __future__ import annotations

import pytest

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.base58 import base58check_decode, base58check_encode
from mpchan.bitcoin.bip84 import account_path, coin_steps
from mpchan.bitcoin.hd import HARDENED, ExtendedKey, parse_path
from mpchan.bitcoin.network import MAINNET, REGTEST
from mpchan.bitcoin.script import hash160
from mpchan.bitcoin.seed_words import words_to_seed
from mpchan.errors import ParseError

WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
MASTER = ExtendedKey.from_seed(words_to_seed(WORDS))

VECTOR = [
    (
        (*account_path(MAINNET), *coin_steps("receive", 0)),
        "KyZpNDKnfs94vbrwhJneDi77V6jF64PWPF8x5cdJb8ifgg2DUc9d",
        "0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c",
        "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu",
    ),
    (
        (*account_path(MAINNET), *coin_steps("receive", 1)),
        "Kxpf5b8p3qX56DKEe5NqWbNUP9MnqoRFzZwHRtsFqhzuvUJsYZCy",
        "03e775fd51f0dfb8cd865d9ff1cca2a158cf651fe997fdc9fee9c1d3b5e995ea77",
        "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g",
    ),
    (
        (*account_path(MAINNET), *coin_steps("change", 0)),
        "KxuoxufJL5csa1Wieb2kp29VNdn92Us8CoaUG3aGtPtcF3AzeXvF",
        "03025324888e429ab8e3dbaf1f7802648b9cd01e9b418485c5fa4c1b9b5700e1a6",
        "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el",
    ),
]


@pytest.mark.parametrize(("path", "wif", "sec", "address"), VECTOR)
def test_keys_and_addresses_of_the_bip(path: tuple[int, ...], wif: str, sec: str, address: str) -> None:
    key = MASTER.derive(path)
    script = b"\x00\x14" + hash160(key.public_key.sec)
    assert base58check_decode(wif) == b"\x80" + key.private_key.to_bytes() + b"\x01"
    assert key.public_key.sec.hex() == sec
    assert script_to_address(script, MAINNET) == address
    assert address_to_script(address, MAINNET) == script


def test_account_key_of_the_bip() -> None:
    """The BIP prints it as zprv: the same bytes under other version bytes (SLIP-0132)."""
    zprv = (
        "zprvAdG4iTXWBoARxkkzNpNh8r6Qag3irQB8PzEMkAFeTRXxHpbF9z4QgEvBRmfvqWvGp42t42nvgGpNgYSJA9iefm1yYNZKE"
        "m7z6qUWCroSQnE"
    )
    payload = base58check_decode(zprv)
    xprv = base58check_encode(MAINNET.xprv_version + payload[4:])
    assert MASTER.derive("m/84'/0'/0'").to_base58(MAINNET) == xprv


def test_paths() -> None:
    assert (*account_path(MAINNET), *coin_steps("receive", 7)) == parse_path("m/84'/0'/0'/0/7")
    assert (*account_path(MAINNET), *coin_steps("change", 7)) == parse_path("m/84'/0'/0'/1/7")
    assert (*account_path(REGTEST), *coin_steps("receive", 0)) == parse_path("m/84'/1'/0'/0/0")
    assert (*account_path(REGTEST), *coin_steps("change", HARDENED - 1)) == parse_path(
        "m/84'/1'/0'/1/2147483647"
    )


@pytest.mark.parametrize("index", [-1, HARDENED, True, 1.0, "1", None])
def test_an_index_is_a_number_of_31_bits(index: object) -> None:
    for kind in ("receive", "change"):
        with pytest.raises(ParseError) as caught:
            coin_steps(kind, index)  # type: ignore[arg-type]
        assert caught.value.slug == "malformed-number"
