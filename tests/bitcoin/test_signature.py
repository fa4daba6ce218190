"""mpchan.bitcoin.signature: some signers, one behaviour; vectors from RFC 6979 circles and Bitcoin Core."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.signer import SIGNERS, forget_points, using

from mpchan.bitcoin import signers
from mpchan.bitcoin.signature import ORDER, PrivateKey, PublicKey, is_low_s, parse_der
from mpchan.errors import ParseError

DATA = Path(__file__).parent / "data"
DER = json.loads((DATA / "der.json").read_text())
RFC6979 = json.loads((DATA / "rfc6979_secp256k1.json").read_text())

FIELD = 2**256 - 2**32 - 977
GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
DIGEST = hashlib.sha256(b"a piece of the file").digest()
SECRET = bytes.fromhex("12b004fff7f4b69ef8650e767f18f11ede158148b425660723b9f9a66e61f747")


@pytest.fixture(params=SIGNERS)
def signer(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


def to_der(r: int, s: int) -> bytes:
    """DER of any two numbers, also of hostile ones."""

    def integer(value: int) -> bytes:
        body = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return bytes([2, len(body)]) + body

    body = integer(r) + integer(s)
    return bytes([0x30, len(body)]) + body


# --- strict DER -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", DER["canonical"])
def test_canonical_signatures_of_bitcoin_core_parse(text: str) -> None:
    signature = bytes.fromhex(text)[:-1]
    r, s = parse_der(signature)
    assert to_der(r, s) == signature


@pytest.mark.parametrize(("flaw", "text"), DER["noncanonical"])
def test_noncanonical_signatures_of_bitcoin_core_are_refused(flaw: str, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_der(bytes.fromhex(text)[:-1])
    assert caught.value.slug == "malformed-signature"


@pytest.mark.parametrize("text", DER["canonical"])
def test_cut_or_lengthened_signatures_are_refused(text: str) -> None:
    signature = bytes.fromhex(text)[:-1]
    for end in range(len(signature)):
        with pytest.raises(ParseError):
            parse_der(signature[:end])
    for tail in (b"\x01", b"\x00", signature):
        with pytest.raises(ParseError):
            parse_der(signature + tail)


@pytest.mark.parametrize("value", [None, "3006020100020100", bytearray(8), 8, [48]])
def test_only_bytes_are_signatures(value: object) -> None:
    with pytest.raises(ParseError):
        parse_der(value)  # type: ignore[arg-type]


def test_a_signature_has_at_most_72_bytes() -> None:
    r = 2**255 + 1
    assert parse_der(to_der(r, r)) == (r, r)
    assert len(to_der(r, r)) == 72
    with pytest.raises(ParseError):
        parse_der(to_der(2**263 + 1, r))


def test_low_s_ends_at_half_the_order() -> None:
    half = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0  # BIP-0146
    assert is_low_s(half)
    assert not is_low_s(half + 1)


# --- signing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", RFC6979["plain"], ids=range(len(RFC6979["plain"])))
def test_rfc6979_vectors_without_grinding(signer: str, vector: dict[str, str]) -> None:
    lib = signers.signer()
    handle = lib.load_private(bytes.fromhex(vector["secret"]))
    assert lib.sign(handle, bytes.fromhex(vector["digest"]), None).hex() == vector["signature"]


@pytest.mark.parametrize("vector", RFC6979["broken"], ids=range(len(RFC6979["broken"])))
def test_vectors_with_one_wrong_bit_do_not_verify(signer: str, vector: dict[str, str]) -> None:
    key = PrivateKey(bytes.fromhex(vector["secret"]))
    digest, wrong = bytes.fromhex(vector["digest"]), bytes.fromhex(vector["signature"])
    assert not key.public_key.verify(wrong, digest)
    assert key.public_key.verify(key.sign(digest), digest)


def test_the_vectors_hold_high_and_low_r() -> None:
    heights = {parse_der(bytes.fromhex(vector["signature"]))[0] >> 255 for vector in RFC6979["plain"]}
    assert heights == {0, 1}


@pytest.mark.parametrize("vector", RFC6979["core"], ids=["secret1", "secret2"])
def test_deterministic_signing_vectors_of_bitcoin_core(signer: str, vector: dict[str, str]) -> None:
    key = PrivateKey(bytes.fromhex(vector["secret"]))
    assert key.sign(bytes.fromhex(vector["digest"])).hex() == vector["signature"]


def test_low_r_is_ground_with_a_little_endian_counter(signer: str) -> None:
    """The vector of bitcoinjs/bip32 (test 'ecdsa'), which took over Bitcoin Core's grinding."""
    master = hashlib.new("sha512")  # HMAC-SHA512 by hand, so that hd.py has no part in this
    key = b"Bitcoin seed".ljust(128, b"\0")
    master.update(bytes(k ^ 0x36 for k in key) + b"\x01" * 32)
    seed = hashlib.sha512(bytes(k ^ 0x5C for k in key) + master.digest()).digest()
    private, digest = PrivateKey(seed[:32]), b"\x02" * 32
    lib = signers.signer()
    r, s = parse_der(lib.sign(lib.load_private(seed[:32]), digest, None))
    assert f"{r:064x}{s:064x}" == (
        "9636ee2fac31b795a308856b821ebe297dda7b28220fb46ea1fbbd7285977cc0"
        "4c82b734956246a0f15a9698f03f546d8d96fe006c8e7bd2256ca7c8229e6f5c"
    )
    r, s = parse_der(private.sign(digest))
    assert f"{r:064x}{s:064x}" == (
        "0587a40b391b76596c257bf59565b24eaff2cc42b45caa2640902e73fb97a6e7"
        "02c3402ab89348a7dae1bf171c3e172fa60353d7b01621a94cb7caca59b995db"
    )


def test_every_signature_is_small_as_in_bitcoin_core(signer: str) -> None:
    """After key_signature_tests of Bitcoin Core's key_tests.cpp: at most 70 bytes, some even fewer."""
    key = PrivateKey(SECRET)
    sizes = set()
    for i in range(256):
        message = f"A message to be signed{i}".encode()
        signature = key.sign(hashlib.sha256(hashlib.sha256(message).digest()).digest())
        assert signature[3] <= 0x20
        sizes.add(len(signature))
    assert max(sizes) <= 70
    assert min(sizes) < 70


def test_the_counter_goes_on_until_r_is_low(monkeypatch: pytest.MonkeyPatch) -> None:
    high, low = to_der(2**255 + 1, 1), to_der(2**254, 1)
    asked: list[bytes | None] = []

    class Stub:
        def load_private(self, secret: bytes) -> bytes:
            return secret

        def sign(self, private: object, digest: bytes, extra_entropy: bytes | None) -> bytes:
            asked.append(extra_entropy)
            return low if len(asked) == 258 else high

    monkeypatch.setattr(signers, "signer", Stub)
    assert PrivateKey(SECRET).sign(DIGEST) == low
    assert asked[:3] == [None, b"\x01" + bytes(31), b"\x02" + bytes(31)]
    assert asked[-1] == b"\x01\x01" + bytes(30)


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33), bytearray(32), "00" * 32, None])
def test_a_digest_has_32_bytes(signer: str, digest: object) -> None:
    key = PrivateKey(SECRET)
    with pytest.raises(ParseError) as caught:
        key.sign(digest)  # type: ignore[arg-type]
    assert caught.value.slug == "malformed-digest"
    with pytest.raises(ParseError):
        key.public_key.verify(key.sign(DIGEST), digest)  # type: ignore[arg-type]


# --- all signers make the same bytes -------------------------------------------------------------

secrets = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
digests = st.binary(min_size=32, max_size=32)


@given(secrets, digests)
@example((1).to_bytes(32, "big"), b"\xff" * 32)  # a digest over the order
@example((ORDER - 1).to_bytes(32, "big"), ORDER.to_bytes(32, "big"))
@example((ORDER // 2).to_bytes(32, "big"), bytes(32))
def test_signers_make_the_same_bytes_and_verify_each_other(secret: bytes, digest: bytes) -> None:
    signatures, keys = [], []
    for name in SIGNERS:
        with using(name):
            key = PrivateKey(secret)
            keys.append(key.public_key.sec)
            signatures.append(key.sign(digest))
    assert len(set(signatures)) == len(set(keys)) == 1
    r, s = parse_der(signatures[0])
    assert r < 2**255
    assert is_low_s(s)
    for name in SIGNERS:
        with using(name):
            public = PublicKey(keys[0])
            assert public.verify(signatures[0], digest)
            assert not public.verify(to_der(r, ORDER - s), digest)
            assert not public.verify(signatures[0], bytes([digest[0] ^ 1]) + digest[1:])


@given(secrets, secrets)
def test_signers_tweak_alike(secret: bytes, tweak: bytes) -> None:
    sums = set()
    for name in SIGNERS:
        with using(name):
            key = PrivateKey(secret)
            if (int.from_bytes(secret, "big") + int.from_bytes(tweak, "big")) % ORDER == 0:
                continue
            assert key.add_tweak(tweak).public_key == key.public_key.add_tweak(tweak)
            sums.add(key.public_key.add_tweak(tweak).sec)
    assert len(sums) <= 1


@given(st.one_of(st.binary(max_size=80), st.binary(min_size=32, max_size=32).map(lambda x: b"\x02" + x)))
@example(b"\x02" + (FIELD + 1).to_bytes(32, "big"))
def test_signers_accept_the_same_public_keys(data: bytes) -> None:
    verdicts = set()
    for name in SIGNERS:
        with using(name):
            try:
                verdicts.add(PublicKey(data).sec)
            except ParseError as error:
                verdicts.add(error.slug)  # type: ignore[arg-type]
    assert len(verdicts) == 1


# --- verifying ------------------------------------------------------------------------------------


def test_verify_takes_only_the_right_signature(signer: str) -> None:
    key, other = PrivateKey(SECRET), PrivateKey(bytes(31) + b"\x05")
    signature = key.sign(DIGEST)
    r, s = parse_der(signature)
    assert key.public_key.verify(signature, DIGEST)
    assert not other.public_key.verify(signature, DIGEST)
    assert not key.public_key.verify(other.sign(DIGEST), DIGEST)
    assert not key.public_key.verify(signature, bytes(32))
    hostile = {
        "high s": to_der(r, ORDER - s),
        "r zero": to_der(0, s),
        "s zero": to_der(r, 0),
        "r the order": to_der(ORDER, s),
        "s the order": to_der(r, ORDER),
        "r over the order": to_der(r + ORDER, s),
        "s over the order": to_der(r, s + ORDER),
        "swapped": to_der(s, r),
        "sighash byte": signature + b"\x01",
        "raw r and s": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
        "r padded": b"\x30" + bytes([len(signature) - 1, 2, signature[3] + 1, 0]) + signature[4:],
        "long-form length": b"\x30\x81" + signature[1:],
        "empty": b"",
    }
    for flaw, attempt in hostile.items():
        assert not key.public_key.verify(attempt, DIGEST), flaw


def test_verify_refuses_every_prefix_and_every_flipped_bit(signer: str) -> None:
    key = PrivateKey(SECRET)
    public, signature = key.public_key, key.sign(DIGEST)
    for end in range(len(signature)):
        assert not public.verify(signature[:end], DIGEST)
    for position in range(len(signature)):
        flipped = bytearray(signature)
        flipped[position] ^= 1 << position % 8
        assert not public.verify(bytes(flipped), DIGEST)


def test_the_rules_do_not_rest_on_the_signer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Form, range and low S are checked here, even where a library would let them pass."""

    class Yes:
        def load_public(self, sec: bytes) -> object:
            return object()

        def verify(self, *anything: object) -> bool:
            return True

    monkeypatch.setattr(signers, "signer", Yes)
    forget_points()
    try:
        public = PublicKey(bytes.fromhex(GENERATOR))
        assert public.verify(to_der(1, 1), DIGEST)
        assert public.verify(to_der(ORDER - 1, ORDER // 2), DIGEST)
        for r, s in [(0, 1), (1, 0), (ORDER, 1), (1, ORDER), (1, ORDER // 2 + 1), (1, ORDER - 1)]:
            assert not public.verify(to_der(r, s), DIGEST)
        for prefix in (0, 1, 4, 5, 6, 7, 0x82):
            with pytest.raises(ParseError):
                PublicKey(bytes([prefix]) + public.sec[1:])
    finally:
        forget_points()


@pytest.mark.parametrize("value", [None, "30", 7, bytearray(b"0")])
def test_verify_of_something_else_is_false(signer: str, value: object) -> None:
    assert not PublicKey.from_hex(GENERATOR).verify(value, DIGEST)  # type: ignore[arg-type]


@given(st.binary(max_size=80), st.integers(0, 2**264), st.integers(0, 2**264))
def test_verify_never_raises_on_signature_bytes(junk: bytes, r: int, s: int) -> None:
    with using("ecdsa"):
        public = PublicKey.from_hex(GENERATOR)
        assert not public.verify(junk, DIGEST)
        if r >= ORDER or not is_low_s(s):  # the others cost a point multiplication each
            assert not public.verify(to_der(r, s), DIGEST)


# --- public keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "sec"),
    [
        (1, GENERATOR),
        (2, "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"),
        (3, "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"),
        (ORDER - 1, "03" + GENERATOR[2:]),
    ],
)
def test_public_keys_of_known_secrets(signer: str, number: int, sec: str) -> None:
    assert PrivateKey(number.to_bytes(32, "big")).public_key.sec.hex() == sec
    assert str(PublicKey.from_hex(sec)) == sec
    assert PublicKey.from_hex(sec.upper()).sec.hex() == sec


GENERATOR_Y = "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02",
        GENERATOR[:-2],
        GENERATOR + "00",
        "04" + GENERATOR[2:] + GENERATOR_Y,
        "06" + GENERATOR[2:] + GENERATOR_Y,
        "07" + GENERATOR[2:] + GENERATOR_Y,
        GENERATOR[2:],
        GENERATOR[2:] + GENERATOR_Y,
        "00" + GENERATOR[2:],
        "04" + GENERATOR[2:],
        "05" + GENERATOR[2:],
        "00" * 33,
        "02" + "00" * 32,
        "02" + f"{5:064x}",  # no point has x = 5
        "02" + f"{7:064x}",  # nor 7 (BIP-0032, vector 5)
        "02" + f"{FIELD:064x}",
        "02" + f"{FIELD + 1:064x}",  # x = 1 has a point, but this is not how it is written
        "02" + "ff" * 32,
    ],
)
def test_malformed_public_keys_cannot_be_made(signer: str, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        PublicKey(bytes.fromhex(text))
    assert caught.value.slug == "malformed-public-key"
    with pytest.raises(ParseError):
        PublicKey.from_hex(text)


@pytest.mark.parametrize("value", [None, 2, "02", bytearray(33), [2] * 33, memoryview(bytes(33))])
def test_only_bytes_make_a_public_key(value: object) -> None:
    with pytest.raises(ParseError):
        PublicKey(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        GENERATOR[:-2] + "zz",
        GENERATOR[:-1],
        " " + GENERATOR[:-1],
        GENERATOR[:32] + "  " + GENERATOR[34:],
        "0x" + GENERATOR[2:],
        GENERATOR + "\n",
        None,
        bytes.fromhex(GENERATOR),
    ],
)
def test_public_key_hex_is_66_digits_and_nothing_else(text: object) -> None:
    with pytest.raises(ParseError) as caught:
        PublicKey.from_hex(text)  # type: ignore[arg-type]
    assert caught.value.slug == "malformed-public-key"


def test_public_keys_are_values(signer: str) -> None:
    one, two = PublicKey.from_hex(GENERATOR), PublicKey(bytes.fromhex(GENERATOR))
    assert one == two
    assert len({one, two, PrivateKey(SECRET).public_key}) == 2
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.deepcopy(one) == one
    with pytest.raises(AttributeError):
        one.sec = bytes(33)  # type: ignore[misc]


# --- private keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        bytes(32),
        ORDER.to_bytes(32, "big"),
        (ORDER + 1).to_bytes(32, "big"),
        b"\xff" * 32,
        SECRET[:31],
        SECRET + b"\0",
        bytearray(SECRET),
        SECRET.hex(),
        int.from_bytes(SECRET, "big"),
        None,
    ],
)
def test_malformed_private_keys_are_refused_in_silence(secret: object) -> None:
    with pytest.raises(ParseError) as caught:
        PrivateKey(secret)  # type: ignore[arg-type]
    assert caught.value.slug == "malformed-private-key"
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET.hex()[:16] not in shown
    assert repr(SECRET)[2:20] not in shown


def test_a_private_key_is_never_shown_pickled_or_changed(signer: str) -> None:
    key = PrivateKey(SECRET)
    key.sign(DIGEST)
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key})):
        assert "PrivateKey(...)" in shown
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(key)
    with pytest.raises(AttributeError):
        key._secret = bytes(32)
    with pytest.raises(AttributeError):
        del key._secret
    with pytest.raises(TypeError):
        hash(key)
    assert not hasattr(key, "__dict__")
    assert key.to_bytes() == SECRET


def test_private_keys_compare_by_value() -> None:
    assert PrivateKey(SECRET) == PrivateKey(SECRET)
    assert PrivateKey(SECRET) != PrivateKey(SECRET[::-1])
    assert PrivateKey(SECRET) != SECRET


def test_tweaks_out_of_range_are_refused(signer: str) -> None:
    key = PrivateKey(SECRET)
    opposite = (ORDER - int.from_bytes(SECRET, "big")).to_bytes(32, "big")
    for tweak in (opposite, ORDER.to_bytes(32, "big"), b"\xff" * 32, bytes(31), bytes(33)):
        for either in (key, key.public_key):
            with pytest.raises(ParseError) as caught:
                either.add_tweak(tweak)
            assert caught.value.slug == "malformed-tweak"
    assert key.add_tweak(bytes(32)) == key
    assert key.public_key.add_tweak(bytes(32)) == key.public_key
    doubled = key.public_key.add_tweak(SECRET)  # the sum of two equal points
    assert doubled == PrivateKey((2 * int.from_bytes(SECRET, "big") % ORDER).to_bytes(32, "big")).public_key


# --- the choice of the signer ---------------------------------------------------------------------

PACKAGES = {"btclib": "btclib_secp256k1", "coincurve": "coincurve", "ecdsa": "ecdsa"}
"""What each signer imports."""
SCRIPT = """
import json, sys
packages, hidden = json.loads(sys.argv[1]), sys.argv[2:]
sys.modules.update({packages[name]: None for name in hidden})
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.signers import signer_name
from mpchan.errors import UsageError
def loaded():
    return [name for name, package in packages.items() if sys.modules.get(package)]
key = PrivateKey(bytes(31) + b"\\x01")
early = loaded()
try:
    result = key.sign(bytes(32)).hex()
    name, hint = signer_name(), None
except UsageError as error:
    result, name, hint = error.slug, None, error.hint
print(json.dumps({"early": early, "late": loaded(), "result": result, "name": name, "hint": hint}))
"""


def run_choice(wanted: str | None, *hidden: str) -> dict[str, object]:
    env = {name: value for name, value in os.environ.items() if name != "MPCHAN_SIGNER"}
    if wanted is not None:
        env["MPCHAN_SIGNER"] = wanted
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(PACKAGES), *hidden],
        env=env, cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer: dict[str, object] = json.loads(done.stdout)
    assert answer["early"] == []  # importing the module and holding a key loads none
    return answer


@pytest.mark.parametrize(
    ("wanted", "loaded"), [(None, SIGNERS[0]), ("", SIGNERS[0]), *((name, name) for name in SIGNERS)]
)
def test_only_the_chosen_signer_is_imported(wanted: str | None, loaded: str) -> None:
    answer = run_choice(wanted)
    assert answer["late"] == [loaded]
    name, _, version = str(answer["name"]).partition(" ")
    assert name.replace("-", "_") == PACKAGES[loaded]
    assert version[0].isdigit()
    with using("ecdsa"):
        assert answer["result"] == PrivateKey(bytes(31) + b"\x01").sign(bytes(32)).hex()


@pytest.mark.parametrize("place", range(1, len(SIGNERS)))
def test_the_next_one_signs_where_the_faster_ones_are_missing(place: int) -> None:
    assert run_choice(None, *SIGNERS[:place])["late"] == [SIGNERS[place]]


@pytest.mark.parametrize("name", SIGNERS[:-1])
def test_a_forced_signer_that_is_missing_is_an_error(name: str) -> None:
    """And the hint names those that are there."""
    answer = run_choice(name, name)
    assert answer["result"] == "missing-signer"
    others = ", ".join(other for other in SIGNERS if other != name)
    assert answer["hint"] == f"leave it unset, or set it to what is installed: {others}"


def test_an_unknown_signer_is_an_error() -> None:
    assert run_choice("openssl")["result"] == "unknown-signer"


def test_the_extra_fast_is_installed_where_nothing_may_be_skipped() -> None:
    """Else the tests over all signers would be tests over fewer, and nobody would see it."""
    fast = "btclib" if sys.version_info >= (3, 11) else "coincurve"
    if SIGNERS[0] != fast:
        pytest.skip("the extra fast is not installed")
    assert SIGNERS[-1] == "ecdsa"
