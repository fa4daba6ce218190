"""Another wallet, as far as tests need one: it owns coins, makes transactions and PSBTs, and signs what it is told to.

ECDSA is mpchan's own; the Schnorr signatures are libsecp256k1's. The chain's engine judges both.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.psbt_fields import IN_FINAL_SCRIPT_WITNESS, IN_TAP_KEY_SIG
from mpchan.bitcoin.script import (
    hash160,
    key_to_p2wpkh_script,
    p2pkh_script,
    p2sh_script,
    p2wpkh_script_code,
    script_to_p2wsh_script,
)
from mpchan.bitcoin.sighash import segwit_v0_sighash, taproot_key_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut, witness_to_bytes
from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Amount, OutPoint
from support.psbts import with_pairs, with_whole_utxo

SECRET = bytes(31) + b"\x07"
KEY = PrivateKey(SECRET)
OTHER_KEY = PrivateKey(bytes(31) + b"\x08")
SEC = KEY.public_key.sec

P2WPKH = key_to_p2wpkh_script(SEC)
P2TR = b"\x51\x20" + SEC[1:]
MULTISIG = b"\x51\x21" + SEC + b"\x21" + OTHER_KEY.public_key.sec + b"\x52\xae"  # one of two
P2WSH = script_to_p2wsh_script(MULTISIG)
ANYONES = b"\x52"  # true for everybody
P2WSH_ANYONES = script_to_p2wsh_script(ANYONES)
P2SH_ANYONES = p2sh_script(hash160(ANYONES))
P2PKH = p2pkh_script(hash160(SEC))
P2SH_P2WPKH = p2sh_script(hash160(P2WPKH))
FUTURE = b"\x52\x20" + bytes(32)

FINAL = 0xFFFF_FFFE
FEE = 1_000


def coin(chain: EmbeddedChain, script: bytes, amount: int = 1_000_000, *, mine: bool = True) -> OutPoint:
    """A coin on one of this wallet's scripts."""
    txid = chain.faucet(script, Amount(amount))
    if mine:
        chain.mine(1)
    found = chain.transaction(txid)
    assert found is not None
    [vout] = [vout for vout, output in enumerate(found[0].outputs) if output.script_pubkey == script]
    return OutPoint(txid, vout)


def value_of(chain: EmbeddedChain, outpoint: OutPoint) -> TxOut:
    """The output that a coin is."""
    seen = chain.output(outpoint)
    assert seen is not None
    return seen.output


def payment(
    chain: EmbeddedChain,
    coins: Sequence[OutPoint],
    *outputs: TxOut,
    sequence: int = FINAL,
    lock_time: int = 0,
    fee: int = FEE,
    version: int = 2,
) -> Transaction:
    """An unsigned transaction that pays these outputs, the change first, so that nothing else can stand at index 0."""
    total = sum(value_of(chain, outpoint).value.sat for outpoint in coins)
    rest = total - sum(output.value.sat for output in outputs) - fee
    change = TxOut(Amount(rest), key_to_p2wpkh_script(OTHER_KEY.public_key.sec))
    inputs = tuple(TxIn(outpoint, sequence) for outpoint in coins)
    return Transaction(version, inputs, (change, *outputs), lock_time)


def spent_by(chain: EmbeddedChain, transaction: Transaction) -> list[TxOut]:
    """What its inputs spend."""
    return [value_of(chain, source.outpoint) for source in transaction.inputs]


def psbt_of(chain: EmbeddedChain, transaction: Transaction, *, whole: bool = False) -> Psbt:
    """A PSBT of it, unsigned; ``whole`` with the earlier transactions, else with the spent outputs alone."""
    psbt = Psbt.create(transaction)
    for index, output in enumerate(spent_by(chain, transaction)):
        if whole:
            found = chain.transaction(transaction.inputs[index].outpoint.txid)
            assert found is not None
            psbt = with_whole_utxo(psbt, index, found[0])
        else:
            psbt = psbt.with_input_fields(index, witness_utxo=output)
        if output.script_pubkey == P2WSH:
            psbt = psbt.with_input_fields(index, witness_script=MULTISIG)
    return psbt


def signature(transaction: Transaction, index: int, spent: Sequence[TxOut], kind: int = 1) -> bytes:
    """The signature of one input with a sighash byte; taproot's with none where ``kind`` is 0."""
    output = spent[index]
    if output.script_pubkey == P2TR:
        digest = taproot_key_sighash(transaction, index, spent, min(kind, 1))
        made = KEY.sign_schnorr(digest)
        return made if kind == 0 else made + bytes([kind])
    code = MULTISIG if output.script_pubkey == P2WSH else p2wpkh_script_code(output.script_pubkey)
    return KEY.sign(segwit_v0_sighash(transaction, index, code, output.value, kind)) + bytes([kind])


def partly_signed(chain: EmbeddedChain, psbt: Psbt, kind: int = 1) -> Psbt:
    """The signatures of all inputs, none of them final."""
    spent = spent_by(chain, psbt.tx)
    for index, output in enumerate(spent):
        made = signature(psbt.tx, index, spent, kind)
        if output.script_pubkey == P2TR:
            psbt = with_pairs(psbt, index, {bytes([IN_TAP_KEY_SIG]): made})
        else:
            psbt = psbt.with_input_fields(index, partial_sigs={SEC: made})
    return psbt


def signed(chain: EmbeddedChain, transaction: Transaction, kind: int = 1) -> Transaction:
    """The complete transaction."""
    spent = spent_by(chain, transaction)
    for index, output in enumerate(spent):
        transaction = transaction.with_witness(index, _stack(transaction, index, spent, output, kind))
    return transaction


def _stack(
    transaction: Transaction, index: int, spent: Sequence[TxOut], output: TxOut, kind: int
) -> tuple[bytes, ...]:
    if output.script_pubkey == P2WSH_ANYONES:
        return (ANYONES,)
    made = signature(transaction, index, spent, kind)
    if output.script_pubkey == P2TR:
        return (made,)
    return (b"", made, MULTISIG) if output.script_pubkey == P2WSH else (made, SEC)


def finalized(psbt: Psbt, complete: Transaction) -> Psbt:
    """The PSBT with the final witnesses of a complete transaction."""
    for index, source in enumerate(complete.inputs):
        witness = {bytes([IN_FINAL_SCRIPT_WITNESS]): witness_to_bytes(source.witness)}
        psbt = with_pairs(psbt, index, witness)
    return psbt
