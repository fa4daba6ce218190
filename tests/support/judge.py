"""Bitcoin Core's script engine as the judge of every transaction that a test completes.

What is spent is worked out here from the keys and amounts alone, not by the code under test: a wrong witness
script, key order or amount fails here even where the code agrees with itself.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ecdsa

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.construction.two_leaves import TwoLeaves
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
        """``complete`` of a lock, each result of which is judged."""

        def judged(lock: Any, unsigned: Transaction, signatures: Mapping[PublicKey, bytes]) -> Transaction:
            transaction = complete(lock, unsigned, signatures)
            keys = (lock.payer_key.sec, lock.payee_key.sec)
            refund_at = lock.refund_at.value if isinstance(lock, TwoLeaves) else None
            self.check(transaction, [channel_output(lock.value.sat, *keys, refund_at)])
            return transaction

        return judged

    def judged_funding(self, sign_coins: Callable[..., Transaction]) -> Callable[..., Transaction]:
        """``Keys.sign_coins``, each result of which is judged."""

        def judged(keys: Any, funding: Transaction, spent: Sequence[TxOut]) -> Transaction:
            transaction = sign_coins(keys, funding, spent)
            self.check(transaction, spent)
            return transaction

        return judged


def channel_output(value_sat: int, payer: bytes, payee: bytes, refund_at: int | None = None) -> TxOut:
    """The funding output of ``wsh(sortedmulti(2,payer,payee))``, or of a channel in taproot.

    Args:
        payer, payee: compressed keys.
        refund_at: L_refund in taproot; None for the other.
    """
    if refund_at is not None:
        return TxOut(Amount(value_sat), taproot_script(payer, payee, refund_at))
    first, second = sorted((payer, payee))
    witness_script = b"\x52\x21" + first + b"\x21" + second + b"\x52\xae"
    return TxOut(Amount(value_sat), b"\x00\x20" + hashlib.sha256(witness_script).digest())


@functools.lru_cache(1024)
def taproot_script(payer: bytes, payee: bytes, refund_at: int) -> bytes:
    """scriptPubKey of ``tr(musig(payer,payee),{and_v(v:pk(payer),pk(payee)),and_v(v:pk(payer),after(refund_at))})``.

    By the formulas of BIP-0327 and BIP-0341, over another library's points.
    """
    point = ecdsa.ellipticcurve.PointJacobi.from_bytes
    curve, generator, order = ecdsa.SECP256k1.curve, ecdsa.SECP256k1.generator, ecdsa.SECP256k1.order
    keys = sorted((payer, payee))
    factor = _tagged("KeyAgg coefficient", _tagged("KeyAgg list", b"".join(keys)) + keys[0])
    # the second key of two that differ has the factor 1
    internal = point(curve, keys[0]) * (int.from_bytes(factor, "big") % order) + point(curve, keys[1])
    x = int(internal.x()).to_bytes(32, "big")
    check_payer = b"\x20" + payer[1:] + b"\xad"
    number = refund_at.to_bytes((refund_at.bit_length() + 8) // 8, "little")
    leaves = (
        check_payer + b"\x20" + payee[1:] + b"\xac",
        check_payer + bytes([len(number)]) + number + b"\xb1",
    )
    hashes = sorted(_tagged("TapLeaf", b"\xc0" + bytes([len(leaf)]) + leaf) for leaf in leaves)
    tweak = int.from_bytes(_tagged("TapTweak", x + _tagged("TapBranch", b"".join(hashes))), "big")
    output = point(curve, b"\x02" + x) + generator * tweak
    return b"\x51\x20" + int(output.x()).to_bytes(32, "big")


def _tagged(tag: str, data: bytes) -> bytes:
    prefix = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(prefix + prefix + data).digest()


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
    taproot = body["offer"]["scheme"] == "taproot"
    refund_at = body["refund_lock_time"] if taproot else None
    output = channel_output(body["funding_value_sat"], *keys, refund_at)
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
