"""The key-value maps that a PSBT consists of (BIP-0174).

A map keeps its raw pairs in their order, so that what is unknown here survives a round trip. Known
fields are checked when a map is made: a map in hand is a valid one, and its accessors cannot fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeVar

from mpchan.bitcoin import psbt_fields
from mpchan.bitcoin.psbt_fields import Fields, compressed_keys, parse_witness
from mpchan.bitcoin.schnorr import X_ONLY_SIZE
from mpchan.bitcoin.serialize import MAX_UINT64, Reader, var_bytes
from mpchan.bitcoin.taproot import ControlBlock, TapLeaf
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import ParseError
from mpchan.values import frozen

Pair = tuple[bytes, bytes]
_Map = TypeVar("_Map", bound="PsbtMap")


@frozen
class PsbtMap:
    """Pairs of key (type and key data) and value, in their order; every key once.

    Raises:
        ParseError: ``malformed-psbt`` for an empty or repeated key, or a known field with a wrong key or value.
    """

    pairs: tuple[Pair, ...] = ()

    known: ClassVar[Fields] = {}

    def __post_init__(self) -> None:
        seen = set()
        for key, value in self.pairs:
            if key in seen:
                raise _malformed(f"key {key.hex():.80} stands twice in one map")
            seen.add(key)
            kind, key_data = _split(key)
            if kind in self.known:
                name, check = self.known[kind]
                try:
                    check(key_data, value)
                except ParseError as error:
                    raise _malformed(f"{name}: {error.message}") from None

    @classmethod
    def read(cls: type[_Map], reader: Reader) -> _Map:
        """Take the pairs up to the zero byte that ends a map."""
        pairs = []
        while key := reader.var_bytes():
            pairs.append((key, reader.var_bytes()))
        return cls(tuple(pairs))

    def to_bytes(self) -> bytes:
        """The pairs in their order and the zero byte."""
        return b"".join(var_bytes(key) + var_bytes(value) for key, value in self.pairs) + b"\x00"

    def get(self, kind: int) -> bytes | None:
        """The value under the key that is nothing but the type ``kind``."""
        key = bytes([kind])
        return next((value for other, value in self.pairs if other == key), None)

    def keyed(self, kind: int) -> dict[bytes, bytes]:
        """The values of type ``kind``, each under its key data."""
        return {key[1:]: value for key, value in self.pairs if key[0] == kind}

    def with_pairs(self: _Map, changes: Mapping[bytes, bytes]) -> _Map:
        """A copy with these pairs, each in the place of its key, else before the first greater key; checked once."""
        if not changes:
            return self
        pairs = list(self.pairs)
        for key, value in changes.items():
            position = next((at for at, (other, _) in enumerate(pairs) if other == key), None)
            if position is not None:
                pairs[position] = (key, value)
                continue
            position = next((at for at, (other, _) in enumerate(pairs) if other > key), len(pairs))
            pairs.insert(position, (key, value))
        return type(self)(tuple(pairs))


_CONVERTERS = (
    "the channel's messages have version 0; a funding may have either, or be the signed transaction. Core Lightning "
    "(`lightning-cli setpsbtversion PSBT 0`) and the libraries of HWI (convert_to_v0) and caravan (toV0) convert it"
)


@frozen
class GlobalMap(PsbtMap):
    """The fields of the whole PSBT.

    Raises:
        ParseError: ``psbt-version`` for a version other than 0; ``malformed-psbt``.
    """

    known: ClassVar[Fields] = psbt_fields.GLOBAL_FIELDS

    def __post_init__(self) -> None:
        # the version comes first: what follows would be an odd complaint about a PSBT of version 2
        version = int.from_bytes(self.get(psbt_fields.GLOBAL_VERSION) or b"", "little")
        if version:
            raise ParseError(
                "psbt-version",
                f"PSBT of version {version}",
                hint=_CONVERTERS if version == 2 else None,
            )
        PsbtMap.__post_init__(self)

    def proprietary(self, identifier: bytes, subtype: int) -> bytes | None:
        """The value of a program's own field; None where it does not stand there."""
        key = psbt_fields.proprietary_key(psbt_fields.GLOBAL_PROPRIETARY, identifier, subtype)
        return dict(self.pairs).get(key)

    @property
    def unsigned_tx(self) -> Transaction:
        """The transaction that is to be signed."""
        value = self.get(psbt_fields.GLOBAL_UNSIGNED_TX)
        if value is None:
            raise _malformed("no unsigned transaction")
        return Transaction.from_bytes(value, allow_witness=False)


@frozen
class InputMap(PsbtMap):
    """The fields of one input."""

    known: ClassVar[Fields] = psbt_fields.INPUT_FIELDS

    @property
    def non_witness_utxo(self) -> Transaction | None:
        """The whole transaction that made the spent output."""
        value = self.get(psbt_fields.IN_NON_WITNESS_UTXO)
        return None if value is None else Transaction.from_bytes(value)

    @property
    def witness_utxo(self) -> TxOut | None:
        """The spent output alone."""
        value = self.get(psbt_fields.IN_WITNESS_UTXO)
        return None if value is None else TxOut.from_bytes(value)

    @property
    def partial_sigs(self) -> dict[bytes, bytes]:
        """Signatures (DER and sighash byte, as sent; their form is not checked) under their public keys."""
        return self.keyed(psbt_fields.IN_PARTIAL_SIG)

    @property
    def sighash_type(self) -> int | None:
        """The sighash type that signatures must have; 32 bits."""
        value = self.get(psbt_fields.IN_SIGHASH_TYPE)
        return None if value is None else int.from_bytes(value, "little")

    @property
    def redeem_script(self) -> bytes | None:
        """The script of a P2SH output."""
        return self.get(psbt_fields.IN_REDEEM_SCRIPT)

    @property
    def witness_script(self) -> bytes | None:
        """The script of a P2WSH output."""
        return self.get(psbt_fields.IN_WITNESS_SCRIPT)

    @property
    def tap_key_sig(self) -> bytes | None:
        """The signature of taproot's key path, 64 bytes or 65 with a sighash byte (BIP-0371)."""
        return self.get(psbt_fields.IN_TAP_KEY_SIG)

    @property
    def tap_script_sigs(self) -> dict[tuple[bytes, bytes], bytes]:
        """Signatures of taproot's script path, 64 bytes or 65, under their x-only key and leaf hash (BIP-0371)."""
        found = self.keyed(psbt_fields.IN_TAP_SCRIPT_SIG)
        return {(key[:X_ONLY_SIZE], key[X_ONLY_SIZE:]): signature for key, signature in found.items()}

    @property
    def tap_leaf_scripts(self) -> dict[ControlBlock, TapLeaf]:
        """Leaves of the spent output under their control blocks, which are not verified (BIP-0371)."""
        found = self.keyed(psbt_fields.IN_TAP_LEAF_SCRIPT)
        return {ControlBlock.from_bytes(key): TapLeaf(leaf[:-1], leaf[-1]) for key, leaf in found.items()}

    @property
    def tap_internal_key(self) -> bytes | None:
        """The x-only internal key of the spent output (BIP-0371)."""
        return self.get(psbt_fields.IN_TAP_INTERNAL_KEY)

    @property
    def tap_merkle_root(self) -> bytes | None:
        """The root of the spent output's tree of scripts (BIP-0371)."""
        return self.get(psbt_fields.IN_TAP_MERKLE_ROOT)

    @property
    def musig2_participants(self) -> dict[bytes, tuple[bytes, ...]]:
        """The compressed keys, in the order of aggregation, under their compressed aggregate key (BIP-0373)."""
        found = self.keyed(psbt_fields.IN_MUSIG2_PARTICIPANT_PUBKEYS)
        return {aggregate: compressed_keys(keys) for aggregate, keys in found.items()}

    @property
    def final_script_sig(self) -> bytes | None:
        """The complete scriptSig."""
        return self.get(psbt_fields.IN_FINAL_SCRIPT_SIG)

    @property
    def final_script_witness(self) -> tuple[bytes, ...] | None:
        """The complete witness stack, bottom first."""
        value = self.get(psbt_fields.IN_FINAL_SCRIPT_WITNESS)
        return None if value is None else parse_witness(value)

    @property
    def has_signature(self) -> bool:
        """Whether it holds a signature that is no part of a final script yet, good or not."""
        return bool(self.partial_sigs or self.tap_key_sig or self.tap_script_sigs)

    @property
    def is_final(self) -> bool:
        """Whether the input has a final scriptSig or witness."""
        return (
            self.get(psbt_fields.IN_FINAL_SCRIPT_SIG) is not None
            or self.get(psbt_fields.IN_FINAL_SCRIPT_WITNESS) is not None
        )


@frozen
class OutputMap(PsbtMap):
    """The fields of one output."""

    known: ClassVar[Fields] = psbt_fields.OUTPUT_FIELDS


def _split(key: bytes) -> tuple[int, bytes]:
    reader = Reader(key)
    try:
        kind = reader.compact_size(MAX_UINT64)
    except ParseError as error:
        raise _malformed(f"type of key {key.hex():.80}: {error.message}") from None
    return kind, reader.take(reader.remaining)


def _malformed(message: str) -> ParseError:
    return ParseError("malformed-psbt", message)
