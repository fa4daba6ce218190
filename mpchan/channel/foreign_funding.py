"""A funding that another wallet makes: what it must be, unsigned and signed.

The refund spends the funding's txid, so nothing about the funding may change once the refund is asked for: every
input is native segwit with an empty scriptSig, and every signature covers the whole transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.serialize import MAX_UINT32
from mpchan.bitcoin.tx import Transaction, TxOut, total_of
from mpchan.bitcoin.witness import check_sighash_types, check_witness, is_native_segwit
from mpchan.channel.rules import Check, Rule
from mpchan.errors import NotPossible, TooEarly
from mpchan.units import ChainTip, FeeRate, Height, lock_time_from_int
from mpchan.values import frozen

Message = Union[Psbt, Transaction]
"""What a wallet hands out: a PSBT signed or not, or a raw transaction."""

_SEQUENCE_DISABLED = 1 << 31  # BIP-0068, "Specification"
_SEQUENCE_IN_TIME = 1 << 22
_SEQUENCE_MASK = 0xFFFF

_LEAST_WITNESS = 1 + 1 + 64  # number of items, length, a Schnorr signature: no input needs less

_MOST_WITNESS_VSIZE = 110
_MOST_BYTES = 100_000  # nodes relay 400,000 weight units at the most, and every byte here is four of them
"""Of an input that is not signed yet, in virtual bytes; a multisignature of three out of five keys needs 99."""


@frozen
class Rates:
    """What a funding may pay.

    Attributes:
        relay: the least that nodes pass on.
        limit: the most that this wallet allows, whoever made the funding.
    """

    relay: FeeRate
    limit: FeeRate


def unsigned_rules(message: Message) -> Check[Transaction]:
    """The form of the transaction, whoever it pays. Establishes it without any witness."""
    transaction = message.tx if isinstance(message, Psbt) else message
    outpoints = [source.outpoint for source in transaction.inputs]
    yield Rule("input-count", len(outpoints) > 0, "inputs of the funding", "at least 1", len(outpoints))
    yield Rule("duplicate-input", len(set(outpoints)) == len(outpoints), "the funding spends one coin twice")
    size = len(transaction.to_bytes(include_witness=False))
    fits = size <= _MOST_BYTES
    yield Rule("funding-size", fits, "bytes of the funding without witnesses", f"at most {_MOST_BYTES}", size)
    return transaction.without_witness()


def script_sig_rules(message: Message) -> Check[None]:
    """Nothing stands where a signature would be part of the txid."""
    if isinstance(message, Psbt):
        script_sigs = [fields.final_script_sig or b"" for fields in message.inputs]
    else:
        script_sigs = [source.script_sig for source in message.inputs]
    for index, script_sig in enumerate(script_sigs):
        yield Rule("script-sig", not script_sig, f"scriptSig of input {index}", "none", script_sig.hex())


def channel_output_rules(transaction: Transaction, wanted: TxOut) -> Check[int]:
    """The channel's output is there, once and with its exact value. Establishes its index."""
    found = [
        index
        for index, output in enumerate(transaction.outputs)
        if output.script_pubkey == wanted.script_pubkey
    ]
    yield Rule("output-count", len(found) == 1, "outputs to the channel", 1, len(found))
    value = transaction.outputs[found[0]].value
    yield Rule(
        "funding-value",
        value == wanted.value,
        "value of the channel's output",
        wanted.value,
        value,
        hint="make it again with exactly that amount",
    )
    for index, output in enumerate(transaction.outputs):
        least = dust_limit(output.script_pubkey)
        yield Rule("below-dust", output.value >= least, f"output {index}", f"at least {least}", output.value)
    return found[0]


def spent_rules(message: Message, spent: Sequence[TxOut]) -> Check[None]:
    """What the inputs spend, and how they are signed or will be."""
    transaction = message.tx if isinstance(message, Psbt) else message
    yield from script_sig_rules(message)
    for index, output in enumerate(spent):
        yield Rule(
            "not-native-segwit",
            is_native_segwit(output.script_pubkey),
            f"coin of input {index}",
            "native segwit (P2WPKH, P2WSH or P2TR)",
            output.script_pubkey.hex(),
            hint="use coins on addresses that begin with bc1, tb1 or bcrt1",
        )
        if isinstance(message, Psbt):
            check_sighash_types(index, message.inputs[index], output.script_pubkey)
            witness = message.inputs[index].final_script_witness
            if witness:
                check_witness(transaction.with_witness(index, witness), index, spent)
        elif transaction.inputs[index].witness:
            check_witness(transaction, index, spent)


def unsigned_fee_rules(message: Message, spent: Sequence[TxOut], rates: Rates) -> Check[None]:
    """The fee is within bounds, as far as that can be told while signatures are missing."""
    transaction = message.tx if isinstance(message, Psbt) else message
    if is_complete(message):
        if isinstance(message, Psbt):
            transaction = message.extract()
        least = most = transaction.vsize
    else:
        bare = len(transaction.to_bytes(include_witness=False))
        least = -(-(4 * bare + 2 + _LEAST_WITNESS * len(spent)) // 4)  # marker and flag, witnesses
        most = bare + _MOST_WITNESS_VSIZE * len(spent)
    yield from _fee_rules(transaction, spent, least, most, rates)


def _fee_rules(
    transaction: Transaction, spent: Sequence[TxOut], least_vsize: int, most_vsize: int, rates: Rates
) -> Check[None]:
    """The fee is one that nodes relay, and no more than this wallet allows.

    Args:
        least_vsize, most_vsize: bounds of the signed transaction's size, in virtual bytes.
    """
    fee = total_of(spent).sat - total_of(transaction.outputs).sat
    least, most = rates.relay.fee(least_vsize).sat, rates.limit.fee(most_vsize).sat
    yield Rule(
        "funding-fee",
        fee >= least,
        "fee of the funding in sat",
        f"at least {least}",
        fee,
        hint="make it again with a higher fee: it cannot be raised later",
    )
    yield Rule(
        "funding-fee-high",
        fee <= most,
        "fee of the funding in sat",
        f"at most {most}, which is {rates.limit}",
        fee,
        hint="is its change missing? make it again; or raise max_fee_rate in wallet.toml, if it is meant so",
    )


def final_rules(transaction: Transaction, tip: ChainTip, depths: Sequence[int]) -> Check[None]:
    """The next block may hold it: its lock times have come.

    Args:
        depths: confirmations of the coins that it spends.
    """
    binding = any(source.sequence != MAX_UINT32 for source in transaction.inputs)
    lock_time = lock_time_from_int(transaction.lock_time) if transaction.lock_time and binding else Height(1)
    yield Rule(
        "non-final", lock_time.is_final(tip), f"the funding is locked until {lock_time}", error=TooEarly
    )
    if transaction.version < 2:
        return
    for index, (source, depth) in enumerate(zip(transaction.inputs, depths, strict=True)):
        sequence = source.sequence
        age = 0 if sequence & _SEQUENCE_DISABLED else sequence & _SEQUENCE_MASK
        waits = age > depth or (age > 0 and sequence & _SEQUENCE_IN_TIME)
        yield Rule(
            "non-final",
            not waits,
            f"input {index} has a relative lock time, nSequence {sequence:#010x}",
            error=TooEarly,
        )


def signed_rules(
    message: Message, funding: Transaction, spent: Sequence[TxOut], rates: Rates
) -> Check[Transaction]:
    """The same funding with all its signatures. Establishes the complete transaction.

    Args:
        funding: without any signature, as the refund was asked for.
    """
    unsigned = message.tx if isinstance(message, Psbt) else message.without_witness()
    yield Rule(
        "funding-changed",
        unsigned == funding,
        "txid of the funding",
        funding.txid,
        unsigned.txid,
        error=NotPossible,
        hint="the refund holds for that very transaction: sign it as it is",
    )
    yield from script_sig_rules(message)
    transaction = _completed(message, spent) if isinstance(message, Psbt) else message
    for index in range(len(spent)):
        check_witness(transaction, index, spent)
    yield from _fee_rules(transaction, spent, transaction.vsize, transaction.vsize, rates)
    return transaction


def _completed(psbt: Psbt, spent: Sequence[TxOut]) -> Transaction:
    """The transaction of a PSBT whose inputs are all final, or have the signatures that make them so."""
    for index, output in enumerate(spent):
        fields = psbt.inputs[index]
        if fields.is_final:
            continue
        if not fields.has_signature:
            raise NotPossible(
                "missing-signature",
                f"input {index} is not signed",
                hint="sign the whole funding in the wallet that made it, without broadcasting it",
            )
        check_sighash_types(index, fields, output.script_pubkey)
        psbt = psbt.with_input_fields(index, witness_utxo=output)
    return psbt.finalize().extract()


def is_complete(message: Message) -> bool:
    """Whether each input carries a final witness: whoever has the file can broadcast it."""
    if isinstance(message, Psbt):
        return all(fields.is_final for fields in message.inputs)
    return all(source.witness for source in message.inputs)
