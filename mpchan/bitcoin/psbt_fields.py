"""The fields of a PSBT and what is right in each.

Those of BIP-0174 are read; those of taproot (BIP-0371) and MuSig2 (BIP-0373) are held to their lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mpchan.bitcoin.script import COMPRESSED_KEY_SIZE, is_compressed_key, is_public_key
from mpchan.bitcoin.serialize import Reader, compact_size, var_bytes
from mpchan.bitcoin.taproot import MAX_DEPTH, has_control_block_size
from mpchan.bitcoin.tx import Transaction, TxOut, read_witness
from mpchan.errors import ParseError

GLOBAL_UNSIGNED_TX = 0x00
GLOBAL_XPUB = 0x01
GLOBAL_VERSION = 0xFB
GLOBAL_PROPRIETARY = 0xFC

IN_NON_WITNESS_UTXO = 0x00
IN_WITNESS_UTXO = 0x01
IN_PARTIAL_SIG = 0x02
IN_SIGHASH_TYPE = 0x03
IN_REDEEM_SCRIPT = 0x04
IN_WITNESS_SCRIPT = 0x05
IN_BIP32_DERIVATION = 0x06
IN_FINAL_SCRIPT_SIG = 0x07
IN_FINAL_SCRIPT_WITNESS = 0x08
IN_RIPEMD160 = 0x0A
IN_SHA256 = 0x0B
IN_HASH160 = 0x0C
IN_HASH256 = 0x0D
IN_TAP_KEY_SIG = 0x13
IN_TAP_SCRIPT_SIG = 0x14
IN_TAP_LEAF_SCRIPT = 0x15
IN_TAP_BIP32_DERIVATION = 0x16
IN_TAP_INTERNAL_KEY = 0x17
IN_TAP_MERKLE_ROOT = 0x18
IN_MUSIG2_PARTICIPANT_PUBKEYS = 0x1A
IN_MUSIG2_PUB_NONCE = 0x1B
IN_MUSIG2_PARTIAL_SIG = 0x1C

OUT_REDEEM_SCRIPT = 0x00
OUT_WITNESS_SCRIPT = 0x01
OUT_BIP32_DERIVATION = 0x02
OUT_TAP_INTERNAL_KEY = 0x05
OUT_TAP_TREE = 0x06
OUT_TAP_BIP32_DERIVATION = 0x07
OUT_MUSIG2_PARTICIPANT_PUBKEYS = 0x08

# BIP-0370 moves the transaction into these fields of version 2; beside the transaction itself they must not stand
_GLOBAL_VERSION_2 = range(0x02, 0x07)
IN_VERSION_2 = range(0x0E, 0x13)
_OUT_VERSION_2 = range(0x03, 0x05)

_XPUB_SIZE = 78
_XPUB_DEPTH_AT = 4

Check = Callable[[bytes, bytes], object]
"""Takes the key data and the value of a field and raises ParseError when they are wrong."""

Fields = Mapping[int, tuple[str, Check]]
"""The known fields of one kind of map by their type: what people call them, and their check."""


def proprietary_key(kind: int, identifier: bytes, subtype: int) -> bytes:
    """The key of a field that one program alone understands (BIP-0174, "Proprietary Use Type")."""
    return bytes([kind]) + var_bytes(identifier) + compact_size(subtype)


def _fail(message: str) -> ParseError:
    return ParseError("malformed-psbt", message)


def _plain(parse: Callable[[bytes], object]) -> Check:
    """A field that occurs once, its key nothing but the type."""

    def check(key_data: bytes, value: bytes) -> object:
        if key_data:
            raise _fail(f"key has {len(key_data)} bytes after its type")
        return parse(value)

    return check


def _keyed(valid_key: Callable[[bytes], bool], parse: Callable[[bytes], object]) -> Check:
    """A field that occurs once for each of what its key holds."""

    def check(key_data: bytes, value: bytes) -> object:
        if not valid_key(key_data):
            raise _fail(f"unfit key {key_data.hex():.80}")
        return parse(value)

    return check


def _sized(*sizes: int) -> Callable[[bytes], bool]:
    return lambda data: len(data) in sizes


def _of_size(*sizes: int) -> Callable[[bytes], bytes]:
    def parse(value: bytes) -> bytes:
        if len(value) not in sizes:
            raise _fail(f"value has {len(value)} bytes")
        return value

    return parse


def _anything(value: bytes) -> bytes:
    return value


def _not_empty(value: bytes) -> bytes:
    if not value:
        raise _fail("value is empty")
    return value


def _version_2_only(key_data: bytes, value: bytes) -> None:
    if not key_data:
        raise _fail("not allowed in version 0")


def _uint32(value: bytes) -> int:
    return int.from_bytes(_of_size(4)(value), "little")


def _unsigned_tx(value: bytes) -> Transaction:
    tx = Transaction.from_bytes(value, allow_witness=False)
    if any(txin.script_sig for txin in tx.inputs):
        raise _fail("an input has a scriptSig already")
    return tx


def parse_witness(value: bytes) -> tuple[bytes, ...]:
    """The stack in a final witness."""
    reader = Reader(value)
    stack = read_witness(reader)
    reader.end()
    return stack


def _steps(value: bytes) -> int:
    """Of a derivation (BIP-0032) how many steps it has: the master key's fingerprint, then a child number for each."""
    steps, rest = divmod(len(value) - 4, 4)
    if steps < 0 or rest:
        raise _fail(f"value has {len(value)} bytes")
    return steps


def _xpub(key_data: bytes, value: bytes) -> None:
    if len(key_data) != _XPUB_SIZE:
        raise _fail(f"key has {len(key_data)} bytes after its type")
    if _steps(value) != key_data[_XPUB_DEPTH_AT]:
        raise _fail(f"depth {key_data[_XPUB_DEPTH_AT]}, but {_steps(value)} steps of derivation")


def compressed_keys(value: bytes) -> tuple[bytes, ...]:
    """One compressed key after the other, at least one; whether they are on the curve is not asked.

    Raises:
        ParseError: ``malformed-psbt``.
    """
    size = COMPRESSED_KEY_SIZE
    keys = tuple([value[at : at + size] for at in range(0, len(value), size)])
    if not keys or not all(map(is_compressed_key, keys)):
        raise _fail(f"not a list of compressed keys: {value.hex():.160}")
    return keys


def _of_participant(key_data: bytes) -> bool:
    """Whether it is the key of a participant, the aggregate key, and, of a script, its leaf hash (BIP-0373)."""
    participant, aggregate, leaf_hash = key_data[:33], key_data[33:66], key_data[66:]
    return is_compressed_key(participant) and is_compressed_key(aggregate) and len(leaf_hash) in (0, 32)


def _tap_derivation(value: bytes) -> int:
    reader = Reader(value)
    reader.take(32 * reader.count(32))
    return _steps(reader.take(reader.remaining))


def _tap_tree(value: bytes) -> None:
    reader = Reader(_not_empty(value))
    while reader.remaining:
        depth, leaf_version = reader.uint8(), reader.uint8()
        reader.var_bytes()
        if depth > MAX_DEPTH or leaf_version & 1:
            raise _fail(f"a leaf of depth {depth} and version {leaf_version}")


GLOBAL_FIELDS: Fields = {
    GLOBAL_UNSIGNED_TX: ("unsigned transaction", _plain(_unsigned_tx)),
    GLOBAL_XPUB: ("extended public key", _xpub),
    GLOBAL_VERSION: ("version", _plain(_uint32)),
    **dict.fromkeys(_GLOBAL_VERSION_2, ("field of version 2", _version_2_only)),
}

INPUT_FIELDS: Fields = {
    IN_NON_WITNESS_UTXO: ("non-witness utxo", _plain(Transaction.from_bytes)),
    IN_WITNESS_UTXO: ("witness utxo", _plain(TxOut.from_bytes)),
    IN_PARTIAL_SIG: ("partial signature", _keyed(is_public_key, _not_empty)),
    IN_SIGHASH_TYPE: ("sighash type", _plain(_uint32)),
    IN_REDEEM_SCRIPT: ("redeem script", _plain(_anything)),
    IN_WITNESS_SCRIPT: ("witness script", _plain(_anything)),
    IN_BIP32_DERIVATION: ("derivation", _keyed(is_public_key, _steps)),
    IN_FINAL_SCRIPT_SIG: ("final scriptSig", _plain(_anything)),
    IN_FINAL_SCRIPT_WITNESS: ("final witness", _plain(parse_witness)),
    IN_RIPEMD160: ("ripemd160 preimage", _keyed(_sized(20), _anything)),
    IN_SHA256: ("sha256 preimage", _keyed(_sized(32), _anything)),
    IN_HASH160: ("hash160 preimage", _keyed(_sized(20), _anything)),
    IN_HASH256: ("hash256 preimage", _keyed(_sized(32), _anything)),
    **dict.fromkeys(IN_VERSION_2, ("field of version 2", _version_2_only)),
    IN_TAP_KEY_SIG: ("taproot key signature", _plain(_of_size(64, 65))),
    IN_TAP_SCRIPT_SIG: ("taproot script signature", _keyed(_sized(32 + 32), _of_size(64, 65))),
    IN_TAP_LEAF_SCRIPT: ("taproot leaf script", _keyed(has_control_block_size, _not_empty)),
    IN_TAP_BIP32_DERIVATION: ("taproot derivation", _keyed(_sized(32), _tap_derivation)),
    IN_TAP_INTERNAL_KEY: ("taproot internal key", _plain(_of_size(32))),
    IN_TAP_MERKLE_ROOT: ("taproot merkle root", _plain(_of_size(32))),
    IN_MUSIG2_PARTICIPANT_PUBKEYS: ("MuSig2 participants", _keyed(is_compressed_key, compressed_keys)),
    IN_MUSIG2_PUB_NONCE: ("MuSig2 nonce", _keyed(_of_participant, _of_size(66))),
    IN_MUSIG2_PARTIAL_SIG: ("MuSig2 partial signature", _keyed(_of_participant, _of_size(32))),
}

OUTPUT_FIELDS: Fields = {
    OUT_REDEEM_SCRIPT: ("redeem script", _plain(_anything)),
    OUT_WITNESS_SCRIPT: ("witness script", _plain(_anything)),
    OUT_BIP32_DERIVATION: ("derivation", _keyed(is_public_key, _steps)),
    **dict.fromkeys(_OUT_VERSION_2, ("field of version 2", _version_2_only)),
    OUT_TAP_INTERNAL_KEY: ("taproot internal key", _plain(_of_size(32))),
    OUT_TAP_TREE: ("taproot tree", _plain(_tap_tree)),
    OUT_TAP_BIP32_DERIVATION: ("taproot derivation", _keyed(_sized(32), _tap_derivation)),
    OUT_MUSIG2_PARTICIPANT_PUBKEYS: ("MuSig2 participants", _keyed(is_compressed_key, compressed_keys)),
}
