"""Any message in words, with or without a wallet."""

from __future__ import annotations

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import Network
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.psbt_map import InputMap
from mpchan.bitcoin.schnorr import SIGNATURE_SIZE
from mpchan.bitcoin.taproot import has_control_block_size
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.carried import carried_offer
from mpchan.errors import ParseError
from mpchan.results import checks
from mpchan.units import lock_time_from_int


def describe(message: Psbt | Transaction, network: Network) -> checks.Message:
    """What a message holds. Addresses are written for ``network``; a transaction itself names none."""
    psbt = message if isinstance(message, Psbt) else None
    transaction = message.tx if isinstance(message, Psbt) else message
    lock_time = transaction.lock_time
    return checks.Message(
        kind="tx" if psbt is None else "psbt",
        txid=str(transaction.txid),
        version=transaction.version,
        lock_time=lock_time,
        lock_time_unit=lock_time_from_int(lock_time).unit if lock_time else None,
        vsize=transaction.vsize,
        inputs=tuple(_input(transaction, psbt, index) for index in range(len(transaction.inputs))),
        outputs=tuple(_output(output, network) for output in transaction.outputs),
        signatures=_count_signatures(transaction, psbt),
        offer_id=_offer_id(psbt),
    )


def _offer_id(psbt: Psbt | None) -> str | None:
    try:
        offer = None if psbt is None else carried_offer(psbt)
    except ParseError:
        return None
    return None if offer is None else offer.offer_id


def _input(
    transaction: Transaction, psbt: Psbt | None, index: int
) -> checks.PsbtInput | checks.TransactionInput:
    source = transaction.inputs[index]
    txid, vout = str(source.outpoint.txid), source.outpoint.vout
    if psbt is None:
        witness = tuple(item.hex() for item in source.witness)
        return checks.TransactionInput(txid, vout, source.sequence, source.script_sig.hex(), witness)
    fields = psbt.inputs[index]
    utxo, script = fields.witness_utxo, fields.witness_script
    return checks.PsbtInput(
        txid=txid,
        vout=vout,
        sequence=source.sequence,
        value_sat=None if utxo is None else utxo.value.sat,
        witness_script=None if script is None else script.hex(),
        sighash_type=fields.sighash_type,
        partial_sigs={key.hex(): signature.hex() for key, signature in fields.partial_sigs.items()},
        tap_script_sigs={
            (key + leaf).hex(): signature.hex() for (key, leaf), signature in fields.tap_script_sigs.items()
        },
        taproot=_taproot(fields),
    )


def _taproot(fields: InputMap) -> checks.TaprootFields | None:
    """The fields of a taproot output; None where there are none."""
    leaves, key, root = fields.tap_leaf_scripts, fields.tap_internal_key, fields.tap_merkle_root
    if not leaves and key is None:
        return None
    return checks.TaprootFields(
        internal_key=None if key is None else key.hex(),
        merkle_root=None if root is None else root.hex(),
        participants=tuple(one.hex() for keys in fields.musig2_participants.values() for one in keys),
        leaf_scripts=tuple(sorted(leaf.script.hex() for leaf in leaves.values())),
    )


def _output(output: TxOut, network: Network) -> checks.MessageOutput:
    script = output.script_pubkey
    return checks.MessageOutput(output.value.sat, script_to_address(script, network), script.hex())


def _count_signatures(transaction: Transaction, psbt: Psbt | None) -> int:
    """Signatures in a PSBT; of a transaction the witness items that look like signatures."""
    if psbt is not None:
        return sum(len(fields.partial_sigs) + len(fields.tap_script_sigs) for fields in psbt.inputs)
    return sum(
        _looks_signed(item) for source in transaction.inputs for item in _signing_items(source.witness)
    )


def _signing_items(witness: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Without the script and the control block of taproot's script path, which may be as long as a signature."""
    return witness[:-2] if len(witness) > 2 and has_control_block_size(witness[-1]) else witness


def _looks_signed(item: bytes) -> bool:
    """As DER with its sighash byte, or as Schnorr signatures are (BIP-0340), with such a byte or without."""
    return (9 <= len(item) <= 73 and item[0] == 0x30) or len(item) in (SIGNATURE_SIZE, SIGNATURE_SIZE + 1)
