"""Targets: Bitcoin's own formats, and what a person types. Each oracle is an implementation that is not the program's,
or that the text comes out again as it went in."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

from support.fuzz.driver import Target
from support.fuzz.mutations import bent_bytes, bent_psbt, bent_text, bent_transaction
from support.fuzz.world import world

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.base58 import base58check_decode, base58check_encode
from mpchan.bitcoin.bech32 import Encoding, bech32_decode, bech32_encode, segwit_decode, segwit_encode
from mpchan.bitcoin.block import Header, bits_from_target, block_transactions, target_from_bits
from mpchan.bitcoin.hd import extended_key_from_base58, parse_path
from mpchan.bitcoin.merkle import root_of_path
from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.network import NETWORKS, REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.seed_words import entropy_to_words, words_to_entropy
from mpchan.bitcoin.signature import PublicKey, parse_der
from mpchan.bitcoin.tx import Transaction
from mpchan.bitcoin.uri import payment_uri
from mpchan.errors import MpchanError, ParseError
from mpchan.party.check.inspection import describe
from mpchan.party.check.verify import read_message
from mpchan.units import MAX_MONEY_SAT, Amount, FeeRate, OutPoint
from mpchan.values import replace

_DATA = Path(__file__).parents[2] / "bitcoin" / "data"


def vectors(name: str) -> Any:
    """One file of published vectors."""
    return json.loads((_DATA / f"{name}.json").read_text())


def text_of(data: bytes) -> str:
    """What the system makes of a command line's bytes."""
    return data.decode("utf-8", "surrogateescape")


# transactions and PSBTs ---------------------------------------------------------------------------


def _core_reads(data: bytes) -> str | None:
    """The txid by Bitcoin Core's own code, where it reads the bytes to their end; None where it does not."""
    import pbk

    try:
        transaction = pbk.Transaction(data)
    except (RuntimeError, ValueError):
        return None
    return str(transaction.txid) if bytes(transaction) == data else None


def _money_fits(data: bytes) -> bool:
    """Core reads values beyond all money, and refuses them later."""
    import pbk

    return all(0 <= output.amount <= MAX_MONEY_SAT for output in pbk.Transaction(data).outputs)


def transaction(data: bytes) -> None:
    """Bitcoin Core reads exactly what we read, and gives it the same id."""
    core = _core_reads(data)
    try:
        found = Transaction.from_bytes(data)
    except ParseError:
        assert core is None or not _money_fits(data), "Core reads it"
        raise
    assert replace(found).to_bytes() == data
    assert core == str(found.txid), "Core does not read it so"
    assert (
        Transaction.from_bytes(found.to_bytes(include_witness=False)).txid == found.txid or not found.inputs
    )
    describe(found, REGTEST)


def psbt(data: bytes) -> None:
    """What was read comes out byte for byte, and nothing that is done with it fails without a word."""
    found = Psbt.from_bytes(data)
    assert found.to_bytes() == data
    for fields in found.inputs:
        assert all(leaf.hash for leaf in fields.tap_leaf_scripts.values())
        assert all(len(key) == len(leaf_hash) == 32 for key, leaf_hash in fields.tap_script_sigs)
        assert all(fields.musig2_participants.values())
    describe(found, REGTEST)
    _may_refuse(lambda: found.finalize().extract())


def _may_refuse(step: Callable[[], object]) -> None:
    try:
        step()
    except MpchanError:
        return


def message(data: bytes) -> None:
    """Whatever its form, the same message in another form is the same message."""
    found = decode_message(data, either_version=True)  # of version 2 that is what it is in version 0
    assert decode_message(found.to_hex().encode()) == found
    assert decode_message(b"\n" + found.to_hex().upper().encode() + b"\r\n") == found
    if isinstance(found, Psbt):
        assert decode_message(found.to_bytes()) == found
        assert decode_message(base64.encodebytes(found.to_bytes())) == found


def any_message(data: bytes) -> None:
    """The same of a file that may be an offer too."""
    found = read_message(data)
    if isinstance(found, (Psbt, Transaction)):
        assert decode_message(data) == found


def bent_message(random: Random, data: bytes) -> bytes:
    """A message in any of its forms, bent in it or below it."""
    try:
        raw = decode_message(data).to_bytes()
    except ParseError:
        return bent_text(random, data)
    bend = bent_psbt if raw.startswith(b"psbt") else bent_transaction
    raw = raw if random.randrange(3) == 0 else bend(random, raw)
    form = random.choice((bytes, lambda raw: raw.hex().encode(), base64.b64encode, base64.encodebytes))
    return bent_text(random, form(raw)) if random.randrange(3) == 0 else form(raw)


def block(data: bytes) -> None:
    """Header and transactions come out as they went in."""
    parts = [found.to_bytes() for found in block_transactions(data)]
    assert data[:80] + data[80 : len(data) - sum(map(len, parts))] + b"".join(parts) == data
    assert _core_blocks(data)


def _core_blocks(data: bytes) -> bool:
    import pbk

    try:
        return bool(bytes(pbk.Block(data)) == data)
    except (RuntimeError, ValueError):
        return False


def _block_seeds() -> list[bytes]:
    transactions = [bytes.fromhex(case["tx"]) for case in vectors("core_transactions")["valid"][:20]]
    return [bytes(80) + bytes([len(part)]) + b"".join(part) for part in (transactions[:1], transactions)]


def header(data: bytes) -> None:
    """A header, whose target in its compact form is a number that comes out again."""
    found = Header.from_bytes(data)
    assert found.hash == sha256(sha256(data).digest()).digest()
    target = target_from_bits(found.bits)
    assert 0 <= target < 1 << 256
    assert target_from_bits(bits_from_target(target)) == target


def merkle_proof(data: bytes) -> None:
    """A proof: two bytes of position, the leaf, the path. The root is what hashing by hand gives."""
    position, leaf = int.from_bytes(data[:2], "little"), data[2:34].ljust(32, b"\0")
    path = [data[at : at + 32] for at in range(34, len(data) - 31, 32)]
    node = leaf
    found = root_of_path(leaf, position, path)
    for level, other in enumerate(path):
        both = other + node if position >> level & 1 else node + other
        node = sha256(sha256(both).digest()).digest()
    assert found == node


# texts --------------------------------------------------------------------------------------------


def address(data: bytes) -> None:
    """An address of one network is the one of its script, and of no other network that has other prefixes."""
    text, taken, refusal = text_of(data), 0, None
    for network in NETWORKS.values():
        try:
            script = address_to_script(text, network)
        except ParseError as error:
            refusal = error
            continue
        taken += 1
        assert script_to_address(script, network) in (text, text.lower())
    if not taken and refusal is not None:
        raise refusal


def bech32(data: bytes) -> None:
    """Both the bare code and segwit addresses."""
    hrp, values, encoding = bech32_decode(text_of(data))
    assert bech32_encode(hrp, values, encoding) == text_of(data).lower()
    hrp, version, program = segwit_decode(text_of(data))
    assert segwit_encode(hrp, version, program) == text_of(data).lower()


def base58(data: bytes) -> None:
    """Exactly one text for each payload."""
    assert base58check_encode(base58check_decode(text_of(data))) == text_of(data)


def bent_base58(random: Random, data: bytes) -> bytes:
    """The payload bent under a checksum that fits, or the text."""
    try:
        payload = base58check_decode(text_of(data))
    except ParseError:
        return bent_text(random, data)
    fits = random.randrange(3) > 0
    return base58check_encode(bent_bytes(random, payload)).encode() if fits else bent_text(random, data)


def bent_bech32(random: Random, data: bytes) -> bytes:
    """The same of bech32: other values, other checksum."""
    try:
        hrp, values, encoding = bech32_decode(text_of(data))
        made = bytes([value & 31 for value in bent_bytes(random, values)])
        turned = random.choice((encoding, encoding, *Encoding))
        fits = random.randrange(3) > 0
        return bech32_encode(hrp, made, turned).encode() if fits else bent_text(random, data)
    except ParseError:
        return bent_text(random, data)


def bent_address(random: Random, data: bytes) -> bytes:
    """Whichever it is."""
    return bent_bech32(random, data) if b"1" in data[1:8] else bent_base58(random, data)


def extended_key(data: bytes) -> None:
    """Exactly one text for each key."""
    network = NETWORKS["mainnet" if data[:1] == b"x" else "regtest"]
    try:
        key = extended_key_from_base58(text_of(data), network)
    except ParseError as error:
        if len(data) > 7 and text_of(data) in error.message:
            raise AssertionError("it may be a secret") from error
        raise
    assert key.to_base58(network) == text_of(data)
    _may_refuse(lambda: key.child(0))


def key_path(data: bytes) -> None:
    """As many steps as the text has."""
    steps = [step for step in text_of(data).split("/") if step != "m"]
    assert len(parse_path(text_of(data))) == len(steps)


def seed_words(data: bytes) -> None:
    """The words hold their entropy and its checksum, bit by bit (BIP-0039)."""
    from mnemonic import Mnemonic

    entropy = words_to_entropy(text_of(data))
    found = entropy_to_words(entropy).split()
    assert found == text_of(data).lower().split() or not data.isascii()
    listed = Mnemonic("english").wordlist
    bits = "".join(f"{listed.index(word):011b}" for word in found)
    size = len(entropy) * 8
    assert int(bits[:size], 2).to_bytes(len(entropy), "big") == entropy
    assert bits[size:] == f"{sha256(entropy).digest()[0]:08b}"[: size // 32]


def payment_request(data: bytes) -> None:
    """BIP-0021: whoever decodes the URI by the general rules has the amount and label again."""
    amount = Amount(int.from_bytes(data[:8], "little") % (MAX_MONEY_SAT + 1))
    label = data[8:].decode(errors="replace")
    uri = payment_uri("bcrt1qaddress", amount, label)
    assert uri.isascii()
    head, _, query = uri.partition("?")
    assert head == "bitcoin:bcrt1qaddress"
    fields = dict(field.split("=", 1) for field in query.split("&"))
    assert Decimal(fields["amount"]) * 10**8 == amount.sat
    assert "E" not in fields["amount"].upper()
    assert unquote(fields.get("label", "")) == label


def amount(data: bytes) -> None:
    """The number that exact decimals give."""
    text = text_of(data)
    found = Amount.parse(text)
    btc = text.endswith("btc")
    assert Decimal(text.removesuffix("btc").removesuffix("sat")) * (10**8 if btc else 1) == found.sat


def fee_rate(data: bytes) -> None:
    """The same of satoshi per virtual byte."""
    found = FeeRate.parse_sat_per_vb(text_of(data))
    assert Decimal(text_of(data)) * 1000 == found.sat_per_kvb


def outpoint(data: bytes) -> None:
    """One text for each."""
    found = OutPoint.parse(text_of(data))
    assert OutPoint.parse(str(found)) == found


# signatures and keys ------------------------------------------------------------------------------


def der(data: bytes) -> None:
    """The numbers that another library reads; libsecp256k1 takes the text, too, where they fit the curve."""
    from ecdsa.util import sigdecode_der

    r, s = parse_der(data)
    assert (r, s) == sigdecode_der(data, 1 << 264)
    body = b"".join(b"\x02" + bytes([len(part)]) + part for part in (_der_integer(r), _der_integer(s)))
    assert data == b"\x30" + bytes([len(body)]) + body


def _der_integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def public_key(data: bytes) -> None:
    """libsecp256k1 and ecdsa know the same points."""
    from ecdsa import SECP256k1, VerifyingKey
    from ecdsa.errors import MalformedPointError

    try:
        VerifyingKey.from_string(data, SECP256k1, valid_encodings=("compressed",))
        known = True
    except MalformedPointError:
        known = False
    try:
        found = PublicKey(data)
    except ParseError:
        assert not known
        raise
    assert known
    assert found.sec == data
    assert found.verify(data, bytes(32)) is False


def _texts(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


def _transaction_seeds() -> list[bytes]:
    cases = [case["tx"] for kind in ("valid", "invalid") for case in vectors("core_transactions")[kind]]
    real = [found for found in world().messages.values() if not found.startswith((b"psbt", b"version"))]
    return [bytes.fromhex(case) for case in cases] + real


def _psbt_seeds() -> list[bytes]:
    known = [vectors("bip174")["valid"], vectors("bip174")["workflow"]]
    known += [vectors(name)["valid"] for name in ("bip371", "bip373")]
    found = [bytes.fromhex(text) for text in _hex_texts(known)]
    own = list(world().messages.values())
    return [data for data in found + own if data.startswith(b"psbt")]


def _hex_texts(value: Any) -> list[str]:
    """Every PSBT in hex below a JSON value."""
    if isinstance(value, str):
        return [value] if value.startswith("70736274") else []
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in below for text in _hex_texts(item)]


def _message_seeds() -> list[bytes]:
    version_2 = [
        bytes.fromhex(text)
        for text in _hex_texts([vectors("bip370")["valid"], vectors("bip370")["lock_times"]])
    ]
    return [
        form
        for data in [*world().messages.values(), *version_2]
        for form in (data, data.hex().encode(), base64.b64encode(data))
    ]


def _address_seeds() -> list[bytes]:
    return [case["address"].encode() for case in vectors("key_io")["valid"]]


def _bech32_seeds() -> list[bytes]:
    known = vectors("bech32")
    return [
        text.encode() for text in known["bech32"] + known["bech32m"] + [case[0] for case in known["segwit"]]
    ]


def _der_seeds() -> list[bytes]:
    known = vectors("der")
    return [
        bytes.fromhex(text)[:-1] for text in known["canonical"] + [case[1] for case in known["noncanonical"]]
    ]


def _extended_seeds() -> list[bytes]:
    known = vectors("bip32")
    return [text.encode() for case in known["valid"] for text in (case["xpub"], case["xprv"])]


_PATHS = ("m/84'/1'/0'/0/5", "m", "0", "m/2147483647h/0")
_OUTPOINTS = ("ab" * 32 + ":0", "ab" * 32 + ":4294967295")
_WORDS = (
    "abandon " * 11 + "about",
    "legal winner thank year wave sausage worth useful legal winner thank yellow",
)
_HEADERS = (struct.pack("<i32s32sIII", 4, bytes(32), bytes(32), 1_296_688_602, 0x207FFFFF, 2), bytes(80))
_GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
_POINTS = (b"\x02" + bytes(31) + b"\x01", bytes.fromhex(_GENERATOR))

FORMATS = [
    Target("transaction", transaction, _transaction_seeds, bent_transaction, (ParseError,)),
    Target("psbt", psbt, _psbt_seeds, bent_psbt, (ParseError,)),
    Target("message", message, _message_seeds, bent_message, (ParseError,)),
    Target("any-message", any_message, _message_seeds, bent_message, (ParseError,)),
    Target("block", block, _block_seeds, bent_bytes, (ParseError,)),
    Target("header", header, lambda: list(_HEADERS), bent_bytes, (ParseError,)),
    Target("merkle-proof", merkle_proof, lambda: [b"\1\0" + bytes(range(128))], bent_bytes, (ParseError,)),
    Target("address", address, _address_seeds, bent_address, (ParseError,)),
    Target("bech32", bech32, _bech32_seeds, bent_bech32, (ParseError,)),
    Target("base58", base58, _address_seeds, bent_base58, (ParseError,)),
    Target("extended-key", extended_key, _extended_seeds, bent_base58, (ParseError,)),
    Target("key-path", key_path, _texts(*_PATHS), bent_text, (ParseError,)),
    Target("seed-words", seed_words, _texts(*_WORDS), bent_text, (ParseError,)),
    Target("payment-request", payment_request, lambda: [bytes(8) + b"mpchan 01"], bent_bytes, ()),
    Target(
        "amount", amount, _texts("1500", "1500sat", "0.000015btc", "21000000btc"), bent_text, (ParseError,)
    ),
    Target("fee-rate", fee_rate, _texts("2", "1.5", "0.001"), bent_text, (ParseError,)),
    Target("outpoint", outpoint, _texts(*_OUTPOINTS), bent_text, (ParseError,)),
    Target("der", der, _der_seeds, bent_bytes, (ParseError,)),
    Target("public-key", public_key, lambda: list(_POINTS), bent_bytes, (ParseError,)),
]
