"""Bitcoin Core's script engine as the judge of every transaction that a test completes.

What is spent is worked out here from the keys and amounts alone, not by the code under test: a wrong witness
script, key order or amount fails here even where the code agrees with itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.construction.form import SAMPLES
from mpchan.channel.construction.two_of_two import TwoOfTwo
from mpchan.units import Amount, OutPoint
from mpchan.wallet.channel_files import ChannelFiles

ENGINE = importlib.util.find_spec("pbk") is not None
"""Whether Bitcoin Core's engine is installed, as it can be on every Python."""


class Unjust(AssertionError):
    """The engine refuses a transaction that mpchan thinks complete."""


class Judge:
    """Judges, and remembers how often and what it refused."""

    def __init__(self) -> None:
        self.passed = 0
        self.refused: list[str] = []

    def check(self, transaction: Transaction, spent: Sequence[TxOut]) -> None:
        """Every input of ``transaction`` satisfies the script that it spends, under all consensus flags.

        Raises:
            Unjust: the engine refuses an input.
        """
        import pbk
        from pbk.script import PrecomputedTransactionData

        raw = transaction.to_bytes()
        judged = pbk.Transaction(raw)
        scripts = [pbk.ScriptPubkey(output.script_pubkey) for output in spent]
        outputs = [
            pbk.TransactionOutput(s, output.value.sat) for s, output in zip(scripts, spent, strict=True)
        ]
        if len(spent) != len(transaction.inputs):
            self._refuse(f"{len(spent)} outputs given for the inputs of {raw.hex()}")
        precomputed = PrecomputedTransactionData(judged, outputs)
        flags = pbk.ScriptVerificationFlags.ALL
        for index, (script, output) in enumerate(zip(scripts, spent, strict=True)):
            if not script.verify(output.value.sat, judged, precomputed, index, flags):
                self._refuse(f"input {index} of {raw.hex()} does not satisfy {output.script_pubkey.hex()}")
        self.passed += 1

    def _refuse(self, reason: str) -> None:
        self.refused.append(reason)
        raise Unjust(reason)

    def judged_complete(self, complete: Callable[..., Transaction]) -> Callable[..., Transaction]:
        """``TwoOfTwo.complete``, each result of which is judged; apart from that of which a form is cut."""

        def judged(
            lock: TwoOfTwo, unsigned: Transaction, signatures: Mapping[PublicKey, bytes]
        ) -> Transaction:
            transaction = complete(lock, unsigned, signatures)
            if set(signatures.values()) != set(SAMPLES):
                keys = (lock.payer_key.sec, lock.payee_key.sec)
                self.check(transaction, [channel_output(lock.value.sat, *keys)])
            return transaction

        return judged

    def judged_form(self, complete: Callable[..., bytes]) -> Callable[..., bytes]:
        """``payee_meter.complete``, each result of which is judged."""

        def judged(form: Any, *arguments: Any) -> bytes:
            data, terms = complete(form, *arguments), form.terms
            keys = (terms.payer_key.sec, terms.offer.payee_key.sec)
            self.check(Transaction.from_bytes(data), [channel_output(terms.funding_value.sat, *keys)])
            return data

        return judged

    def judged_funding(self, sign_coins: Callable[..., Transaction]) -> Callable[..., Transaction]:
        """``Keys.sign_coins``, each result of which is judged."""

        def judged(keys: Any, funding: Transaction, spent: Sequence[TxOut]) -> Transaction:
            transaction = sign_coins(keys, funding, spent)
            self.check(transaction, spent)
            return transaction

        return judged


def channel_output(value_sat: int, key_a: bytes, key_b: bytes) -> TxOut:
    """The funding output of ``wsh(sortedmulti(2,key_a,key_b))``."""
    first, second = sorted((key_a, key_b))
    witness_script = b"\x52\x21" + first + b"\x21" + second + b"\x52\xae"
    return TxOut(Amount(value_sat), b"\x00\x20" + hashlib.sha256(witness_script).digest())


def judge_wallet(directory: Path, chain_directory: Path | None = None) -> int:
    """Judge every complete transaction in the channel files of a wallet: refunds, updates, settlements.

    Signed fundings are judged too where ``chain_directory`` names the embedded chain that holds their coins.

    Returns:
        how many were judged; a test asserts how many it expects.

    Raises:
        Unjust: the engine refuses one, or a funding does not make the channel's output.
    """
    judge = Judge()
    files = ChannelFiles(directory / "channels", REGTEST)
    for name in files.names():
        _judge_channel(judge, files.body(name), chain_directory)
    return judge.passed


def _judge_channel(judge: Judge, body: dict[str, Any], chain_directory: Path | None) -> None:
    keys = (bytes.fromhex(body["payer_pubkey"]), bytes.fromhex(body["offer"]["payee_pubkey"]))
    output = channel_output(body["funding_value_sat"], *keys)
    outpoint = OutPoint.parse(body["outpoint"])
    for place in (body, body.get("update") or {}, body.get("settlement") or {}):
        for name in ("refund_tx", "tx"):
            if name not in place:
                continue
            spend = Transaction.from_hex(place[name])
            if [source.outpoint for source in spend.inputs] != [outpoint]:
                raise Unjust(f"{name} spends something else than {outpoint}: {place[name]}")
            judge.check(spend, [output])
    if not body.get("funding_tx"):
        return
    funding = Transaction.from_hex(body["funding_tx"])
    if funding.txid != outpoint.txid or funding.outputs[outpoint.vout] != output:
        raise Unjust(f"the funding does not make {outpoint}: {body['funding_tx']}")
    if funding.has_witness and chain_directory is not None:
        judge.check(funding, _spent_on(chain_directory, funding))


def _spent_on(chain_directory: Path, funding: Transaction) -> list[TxOut]:
    from mpchan.chain.embedded import EmbeddedChain

    with EmbeddedChain(chain_directory) as chain:
        seen = [chain.output(source.outpoint) for source in funding.inputs]
    if None in seen:
        raise Unjust(f"the chain does not hold the coins of {funding.to_hex()}")
    return [status.output for status in seen if status is not None]
