"""mpchan.bitcoin.script: the scripts of a channel and of payouts, key order, dust."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import SCRIPTS, vectors

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import NETWORKS
from mpchan.bitcoin.script import (
    dust_limit,
    hash160,
    is_p2pkh,
    is_p2sh,
    is_p2tr,
    is_p2wpkh,
    is_p2wsh,
    is_public_key,
    is_standard_payout,
    key_to_p2wpkh_script,
    output_size,
    p2pkh_script,
    p2sh_script,
    p2wpkh_script_code,
    parse_multisig,
    parse_two_of_two,
    push_data,
    script_to_p2wsh_script,
    sort_keys,
    two_of_two_script,
    witness_program,
)
from mpchan.bitcoin.tx import TxOut
from mpchan.errors import ParseError
from mpchan.units import Amount

BIP67 = vectors("bip67.json")["cases"]
BIP174 = vectors("bip174.json")["workflow"]

KEY_1 = bytes.fromhex("02ff12471208c14bd580709cb2358d98975247d8765f92bc25eab3b2763ed605f8")
KEY_2 = bytes.fromhex("02fe6f0a5a297eb38c391581c4413e084773ea23954d93f7753db7dc0adc188b2f")
KEYS = st.binary(min_size=32, max_size=32).flatmap(lambda x: st.sampled_from([b"\x02" + x, b"\x03" + x]))

P2PKH = p2pkh_script(hash160(KEY_1))
P2SH = p2sh_script(hash160(b"\x51"))
P2WPKH = key_to_p2wpkh_script(KEY_1)
P2WSH = script_to_p2wsh_script(b"\x51")
P2TR = b"\x51\x20" + bytes(32)
OP_RETURN = b"\x6a\x04data"


@pytest.mark.parametrize("case", BIP67, ids=lambda case: case["address"])
def test_bip67(case: dict[str, Any]) -> None:
    """The vectors give the address of the 2-of-n script; it holds the keys in the right order only."""
    keys = [bytes.fromhex(key) for key in case["keys"]]
    for order in itertools.permutations(keys):
        script = b"\x52" + b"".join(map(push_data, sort_keys(order))) + bytes([0x50 + len(keys), 0xAE])
        assert p2sh_script(hash160(script)) == address_to_script(case["address"], NETWORKS["mainnet"])
    assert parse_multisig(script) == (2, tuple(sort_keys(keys)))


def test_two_of_two_of_bip67() -> None:
    case = next(case for case in BIP67 if len(case["keys"]) == 2)
    key_a, key_b = map(bytes.fromhex, case["keys"])
    script = two_of_two_script(key_a, key_b)
    assert script == two_of_two_script(key_b, key_a)
    assert p2sh_script(hash160(script)) == address_to_script(case["address"], NETWORKS["mainnet"])
    assert parse_two_of_two(script) == tuple(sorted((key_a, key_b)))


@given(KEYS, KEYS)
def test_two_of_two_round_trip(key_a: bytes, key_b: bytes) -> None:
    if key_a == key_b:
        with pytest.raises(ParseError, match="both keys are"):
            two_of_two_script(key_a, key_b)
    else:
        assert parse_two_of_two(two_of_two_script(key_a, key_b)) == tuple(sorted((key_a, key_b)))


@pytest.mark.parametrize(
    "key", [b"", KEY_1[:-1], KEY_1 + b"\x00", b"\x04" + KEY_1[1:], b"\x04" + bytes(64), b"\x00" * 33]
)
def test_only_compressed_keys(key: bytes) -> None:
    for make in (
        lambda: sort_keys([KEY_2, key]),
        lambda: two_of_two_script(KEY_2, key),
        lambda: key_to_p2wpkh_script(key),
    ):
        with pytest.raises(ParseError) as caught:
            make()
        assert caught.value.slug == "malformed-public-key"


GOOD = two_of_two_script(KEY_1, KEY_2)
FIRST, SECOND = sorted((KEY_1, KEY_2))
PUSH_FIRST, PUSH_SECOND = push_data(FIRST), push_data(SECOND)


@pytest.mark.parametrize(
    "script",
    [
        b"",
        GOOD[:-1],
        GOOD + b"\xae",
        b"\x51" + GOOD[1:],  # 1-of-2
        b"\x53" + GOOD[1:],  # 3-of-2
        b"\x02" + GOOD[1:],
        b"\x52" + PUSH_SECOND + PUSH_FIRST + b"\x52\xae",  # not in BIP-0067 order
        b"\x52" + PUSH_FIRST + PUSH_FIRST + b"\x52\xae",
        b"\x52" + PUSH_FIRST + PUSH_SECOND + PUSH_SECOND + b"\x53\xae",
        b"\x52" + PUSH_FIRST + PUSH_SECOND + b"\x53\xae",
        b"\x52" + PUSH_FIRST + PUSH_SECOND + b"\x52\xaf",  # OP_CHECKMULTISIGVERIFY
        b"\x52\x4c" + PUSH_FIRST + PUSH_SECOND + b"\x52\xae",  # OP_PUSHDATA1
        b"\x52" + PUSH_FIRST + push_data(b"\x04" + bytes(64)) + b"\x52\xae",
        b"\x52" + PUSH_FIRST + push_data(b"\x05" + SECOND[1:]) + b"\x52\xae",
        b"\x51\x51" + GOOD + b"\x68",
        b"\x63" + GOOD + b"\x67\x51\x68",  # an extra branch
        b"\x52\x61" + PUSH_FIRST + PUSH_SECOND + b"\x52\xae",
    ],
)
def test_not_two_of_two(script: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse_two_of_two(script)
    assert caught.value.slug == "not-two-of-two"


@given(st.data())
def test_no_damaged_script_passes_for_another_form(data: st.DataObject) -> None:
    """Whatever is read as a 2-of-2 is byte for byte the 2-of-2 of the keys that were read."""
    script = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 2))):
        script[data.draw(st.integers(0, len(script) - 1))] = data.draw(st.integers(0, 255))
    try:
        keys = parse_two_of_two(bytes(script))
    except ParseError:
        return
    assert two_of_two_script(*keys) == script


@given(st.lists(KEYS, min_size=1, max_size=16), st.data())
def test_multisig_round_trip(keys: list[bytes], data: st.DataObject) -> None:
    required = data.draw(st.integers(1, len(keys)))
    script = bytes([0x50 + required]) + b"".join(map(push_data, keys)) + bytes([0x50 + len(keys), 0xAE])
    assert parse_multisig(script) == (required, tuple(keys))
    assert parse_multisig(bytes([0x50 + len(keys) + 1]) + script[1:]) is None


@pytest.mark.parametrize(("required", "count"), [(1, 1), (1, 16), (16, 16)])
def test_multisig_at_its_limits(required: int, count: int) -> None:
    script = bytes([0x50 + required]) + push_data(KEY_1) * count + bytes([0x50 + count, 0xAE])
    assert parse_multisig(script) == (required, (KEY_1,) * count)


def test_multisig_of_no_or_too_many_keys() -> None:
    assert parse_multisig(b"\x50" + push_data(KEY_1) + b"\x51\xae") is None
    assert parse_multisig(b"\x51" + push_data(KEY_1) * 17 + b"\x61\xae") is None
    assert parse_multisig(b"\x51\x50\xae") is None


def test_form_of_public_keys() -> None:
    """SEC 1: 02 or 03 before one coordinate, 04 before two; hybrid keys (06, 07) are not for new scripts."""
    assert all(map(is_public_key, (KEY_1, b"\x03" + bytes(32), b"\x04" + bytes(64))))
    for key in (b"", b"\x02" + bytes(31), b"\x02" + bytes(64), b"\x04" + bytes(32), b"\x04" + bytes(65)):
        assert not is_public_key(key)
    assert not any(is_public_key(bytes([prefix]) + bytes(64)) for prefix in (3, 5, 6, 7))


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda middle: b"\x52" + middle + b"\x52\xae"))
def test_multisig_of_any_bytes(script: bytes) -> None:
    parsed = parse_multisig(script)
    if parsed is not None:
        required, keys = parsed
        assert script == bytes([0x50 + required]) + b"".join(map(push_data, keys)) + bytes(
            [0x50 + len(keys), 0xAE]
        )


def test_scripts_of_bip174() -> None:
    """The BIP's P2SH-P2WSH and P2SH inputs tie scripts and hashes together."""
    redeem_0, redeem_1 = map(bytes.fromhex, BIP174["redeem_scripts"])
    witness_script = bytes.fromhex(BIP174["witness_script"])
    assert script_to_p2wsh_script(witness_script) == redeem_1
    assert p2sh_script(hash160(redeem_0)).hex() == "a9140fb9463421696b82c833af241c78c17ddbde493487"
    assert p2sh_script(hash160(redeem_1)).hex() == "a914b7f5faf40e3d40a5a459b1db3535f2b72fa921e887"


def test_key_hash_of_bip143() -> None:
    key = bytes.fromhex("025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357")
    script = key_to_p2wpkh_script(key)
    assert script.hex() == "00141d0f172a0ecb48aee1be1f2687d2963ae33f71a1"
    assert p2wpkh_script_code(script).hex() == "76a9141d0f172a0ecb48aee1be1f2687d2963ae33f71a188ac"
    assert p2wpkh_script_code(script) == p2pkh_script(hash160(key))
    assert hash160(key) == script[2:]


@pytest.mark.parametrize("script", [b"", P2PKH, P2SH, P2WSH, P2TR, P2WPKH + b"\x00", b"\x51" + P2WPKH[1:]])
def test_script_code_of_p2wpkh_only(script: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        p2wpkh_script_code(script)
    assert caught.value.slug == "malformed-script"


# Bitcoin Core's limits at its default -dustrelayfee of 3000 sat/kvB, as its documentation and tests state them
DUST = [
    (P2PKH, 546),
    (P2SH, 540),
    (P2WPKH, 294),
    (P2WSH, 330),
    (P2TR, 330),
    (b"\x51\x02\x4e\x73", 240),
    (OP_RETURN, 0),
]


@pytest.mark.parametrize(("script", "limit"), DUST, ids=lambda value: None)
def test_dust_limits(script: bytes, limit: int) -> None:
    assert dust_limit(script) == Amount(limit)


def test_dust_limit_of_what_cannot_be_spent() -> None:
    assert dust_limit(bytes(10_000)) == Amount(3 * (8 + 3 + 10_000 + 148))
    assert dust_limit(bytes(10_001)) == Amount(0)


@given(SCRIPTS)
def test_output_size(script: bytes) -> None:
    assert output_size(script) == len(TxOut(Amount(1), script).to_bytes())


KINDS = {is_p2pkh: P2PKH, is_p2sh: P2SH, is_p2wpkh: P2WPKH, is_p2wsh: P2WSH, is_p2tr: P2TR}


@pytest.mark.parametrize(
    "script", [*KINDS.values(), b"", OP_RETURN, GOOD], ids=lambda script: script[:3].hex()
)
def test_kinds_exclude_each_other(script: bytes) -> None:
    assert [kind for kind in KINDS if kind(script)] == [kind for kind, own in KINDS.items() if own == script]
    assert is_standard_payout(script) == (script in KINDS.values())


@pytest.mark.parametrize("script", KINDS.values(), ids=lambda script: script[:3].hex())
def test_a_near_miss_is_no_payout(script: bytes) -> None:
    for damaged in (script[:-1], script + b"\x00", b"\x00" + script, script[:1] + b"\x01" + script[2:]):
        assert not is_standard_payout(damaged)


@pytest.mark.parametrize(
    ("script", "program"),
    [
        (P2WPKH, (0, P2WPKH[2:])),
        (P2WSH, (0, P2WSH[2:])),
        (P2TR, (1, bytes(32))),
        (b"\x60\x02\xab\xcd", (16, b"\xab\xcd")),
        (b"\x51\x28" + bytes(40), (1, bytes(40))),
        (b"\x51\x29" + bytes(41), None),
        (b"\x51\x01\x00", None),
        (b"\x61\x02\xab\xcd", None),
        (b"\x50\x02\xab\xcd", None),
        (b"\x01\x02\xab\xcd", None),
        (b"\x51\x03\xab\xcd", None),
        (b"", None),
        (P2PKH, None),
    ],
)
def test_witness_program(script: bytes, program: tuple[int, bytes] | None) -> None:
    assert witness_program(script) == program


@pytest.mark.parametrize(
    ("length", "prefix"),
    [(0, "00"), (1, "01"), (75, "4b"), (76, "4c4c"), (255, "4cff"), (256, "4d0001"), (65535, "4dffff")],
)
def test_push_data(length: int, prefix: str) -> None:
    assert push_data(bytes(length)) == bytes.fromhex(prefix) + bytes(length)


def test_push_data_too_long() -> None:
    with pytest.raises(ParseError):
        push_data(bytes(65536))


@given(SCRIPTS)
def test_p2wsh_is_one_sha256(script: bytes) -> None:
    assert script_to_p2wsh_script(script) == b"\x00\x20" + hashlib.sha256(script).digest()
