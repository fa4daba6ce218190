"""Partially signed transactions, version 0 (BIP-0174)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpchan.bitcoin import psbt_fields
from mpchan.bitcoin.psbt_map import GlobalMap, InputMap, OutputMap, PsbtMap
from mpchan.bitcoin.serialize import Reader, uint32
from mpchan.bitcoin.taproot import ControlBlock, TapLeaf
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import NotPossible, ParseError, Refused
from mpchan.units import checked_int
from mpchan.values import frozen, replace

__all__ = ["MAGIC", "GlobalMap", "InputMap", "OutputMap", "Psbt", "PsbtMap"]

MAGIC = b"psbt\xff"

_NONE: Mapping[Any, Any] = {}


@frozen
class Psbt:
    """A transaction with what is needed to sign it, and the signatures so far.

    Attributes:
        tx: the unsigned transaction: no scriptSig and no witness in it.
        global_fields: all global pairs in their order, the transaction's own among them.
        inputs: one map for each input of ``tx``.
        outputs: one map for each output of ``tx``.

    Raises:
        ParseError: ``malformed-psbt`` when the parts do not fit together.
    """

    tx: Transaction
    global_fields: GlobalMap
    inputs: tuple[InputMap, ...]
    outputs: tuple[OutputMap, ...]

    def __post_init__(self) -> None:
        if self.global_fields.get(psbt_fields.GLOBAL_UNSIGNED_TX) != self.tx.to_bytes():
            raise ParseError("malformed-psbt", "the global map holds another transaction, or none")
        if len(self.inputs) != len(self.tx.inputs) or len(self.outputs) != len(self.tx.outputs):
            raise ParseError("malformed-psbt", "not one map for each input and output of the transaction")
        for txin, fields in zip(self.tx.inputs, self.inputs, strict=True):
            utxo = fields.non_witness_utxo
            if utxo is None:
                continue
            if utxo.txid != txin.outpoint.txid or txin.outpoint.vout >= len(utxo.outputs):
                raise ParseError(
                    "malformed-psbt", f"non-witness utxo {utxo.txid} has no output {txin.outpoint}"
                )

    @classmethod
    def from_bytes(cls, data: bytes) -> Psbt:
        """Read a whole binary PSBT.

        Raises:
            ParseError: ``malformed-psbt`` (magic, a field, a repeated key, no unsigned transaction or one with
                signatures), ``psbt-version`` for any but 0, ``truncated``, ``trailing-bytes``,
                ``malformed-compact-size``.
        """
        reader = Reader(data)
        magic = reader.take(min(len(MAGIC), len(data)))
        if not MAGIC.startswith(magic):
            raise ParseError("malformed-psbt", f"not a PSBT: it starts with {magic.hex()}")
        reader.take(len(MAGIC) - len(magic))
        global_fields = GlobalMap.read(reader)
        tx = global_fields.unsigned_tx
        inputs = tuple([InputMap.read(reader) for _ in tx.inputs])
        outputs = tuple([OutputMap.read(reader) for _ in tx.outputs])
        reader.end()
        return cls(tx, global_fields, inputs, outputs)

    @classmethod
    def create(cls, tx: Transaction) -> Psbt:
        """A PSBT of ``tx`` with nothing else in it yet (BIP-0174, Creator).

        Raises:
            ParseError: ``malformed-psbt`` when an input of ``tx`` has a scriptSig or witness.
        """
        if tx.has_witness or any(txin.script_sig for txin in tx.inputs):
            raise ParseError("malformed-psbt", f"transaction {tx.txid} has signatures already")
        global_fields = GlobalMap(((bytes([psbt_fields.GLOBAL_UNSIGNED_TX]), tx.to_bytes()),))
        return cls(tx, global_fields, (InputMap(),) * len(tx.inputs), (OutputMap(),) * len(tx.outputs))

    def to_bytes(self) -> bytes:
        """The binary format; a PSBT that was read and not changed comes out byte for byte."""
        maps: tuple[PsbtMap, ...] = (self.global_fields, *self.inputs, *self.outputs)
        return MAGIC + b"".join(fields.to_bytes() for fields in maps)

    def to_hex(self) -> str:
        """The binary format in lower-case hex."""
        return self.to_bytes().hex()

    def with_input_fields(
        self,
        index: int,
        *,
        witness_utxo: TxOut | None = None,
        sighash_type: int | None = None,
        witness_script: bytes | None = None,
        partial_sigs: Mapping[bytes, bytes] = _NONE,
        tap_script_sigs: Mapping[tuple[bytes, bytes], bytes] = _NONE,
        tap_leaf_scripts: Mapping[ControlBlock, TapLeaf] = _NONE,
        tap_internal_key: bytes | None = None,
        tap_merkle_root: bytes | None = None,
        musig2_participants: Mapping[bytes, Sequence[bytes]] = _NONE,
    ) -> Psbt:
        """A copy in which input ``index`` has these fields; None leaves a field as it was (BIP-0174, Updater).

        Each field is what ``InputMap`` reads under the same name.
        """
        plain = {
            psbt_fields.IN_WITNESS_UTXO: None if witness_utxo is None else witness_utxo.to_bytes(),
            psbt_fields.IN_SIGHASH_TYPE: None if sighash_type is None else uint32(sighash_type),
            psbt_fields.IN_WITNESS_SCRIPT: witness_script,
            psbt_fields.IN_TAP_INTERNAL_KEY: tap_internal_key,
            psbt_fields.IN_TAP_MERKLE_ROOT: tap_merkle_root,
        }
        keyed = {
            psbt_fields.IN_PARTIAL_SIG: partial_sigs,
            psbt_fields.IN_TAP_SCRIPT_SIG: {b"".join(key): value for key, value in tap_script_sigs.items()},
            psbt_fields.IN_TAP_LEAF_SCRIPT: {
                block.to_bytes(): leaf.script + bytes([leaf.version])
                for block, leaf in tap_leaf_scripts.items()
            },
            psbt_fields.IN_MUSIG2_PARTICIPANT_PUBKEYS: {
                aggregate: b"".join(keys) for aggregate, keys in musig2_participants.items()
            },
        }
        changes = {bytes([kind]): value for kind, value in plain.items() if value is not None}
        for kind, values in keyed.items():
            changes.update({bytes([kind]) + key: value for key, value in values.items()})
        inputs = list(self.inputs)
        inputs[index] = self._input(index).with_pairs(changes)
        return replace(self, inputs=tuple(inputs))

    def with_proprietary(self, identifier: bytes, subtype: int, value: bytes) -> Psbt:
        """A copy that carries a program's own field for the whole of it (BIP-0174, "Proprietary Use Type")."""
        key = psbt_fields.proprietary_key(psbt_fields.GLOBAL_PROPRIETARY, identifier, subtype)
        return replace(self, global_fields=self.global_fields.with_pairs({key: value}))

    def spent_output(self, index: int) -> TxOut:
        """The output that input ``index`` spends, from the fields of the input.

        Raises:
            ParseError: ``malformed-number`` when there is no such input.
            NotPossible: ``missing-utxo``.
            Refused: ``psbt-mismatch`` when the two utxo fields contradict each other.
        """
        fields = self._input(index)
        witness_utxo, utxo = fields.witness_utxo, fields.non_witness_utxo
        if utxo is None:
            if witness_utxo is None:
                raise NotPossible("missing-utxo", f"input {index} does not say what it spends")
            return witness_utxo
        output = utxo.outputs[self.tx.inputs[index].outpoint.vout]
        if witness_utxo not in (None, output):
            raise Refused("psbt-mismatch", f"the two utxo fields of input {index} contradict each other")
        return output

    def finalize(self) -> Psbt:
        """A copy in which every input is final (BIP-0174, Input Finalizer). Signatures are not verified.

        Raises:
            NotPossible: ``missing-signature``, ``missing-utxo``, ``unknown-script``.
            Refused: ``psbt-mismatch``, ``wrong-sighash-type``.
        """
        from mpchan.bitcoin.psbt_finalize import finalize_input

        return replace(
            self,
            inputs=tuple(
                [
                    fields if fields.is_final else finalize_input(index, fields, self.spent_output(index))
                    for index, fields in enumerate(self.inputs)
                ]
            ),
        )

    def extract(self) -> Transaction:
        """The complete transaction (BIP-0174, Transaction Extractor).

        Raises:
            NotPossible: ``not-final`` when an input has neither final field.
        """
        inputs = []
        for index, (txin, fields) in enumerate(zip(self.tx.inputs, self.inputs, strict=True)):
            if not fields.is_final:
                raise NotPossible("not-final", f"input {index} is not final")
            script_sig, witness = fields.final_script_sig or b"", fields.final_script_witness or ()
            inputs.append(replace(txin, script_sig=script_sig, witness=witness))
        return replace(self.tx, inputs=tuple(inputs))

    def _input(self, index: int) -> InputMap:
        checked_int(index, 0, len(self.inputs) - 1, "input index")
        return self.inputs[index]
