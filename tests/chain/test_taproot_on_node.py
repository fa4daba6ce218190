"""Bitcoin Core about taproot: the address of a descriptor, the fields of a PSBT, spends of both leaves.

The embedded chain says the same of every spend.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from support.chain.both import OPTIONS, TAKEN, Both
from support.chain.embedded import LOCKABLE, OPEN_SCRIPT, fund
from support.chain.node import Node, needs_node, running

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.descriptor import musig_descriptor, with_checksum
from mpchan.bitcoin.musig import musig_key
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.sighash import taproot_script_sighash
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.taproot import TapLeaf, TaprootOutput
from mpchan.bitcoin.tapscript import MAX_SCRIPT_LOCK_TIME, key_after_script, two_keys_script
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Amount, OutPoint, Txid, lock_time_from_int

pytestmark = needs_node

SIGNS = {"even and even": (2, 2), "even and odd": (2, 3), "odd and even": (3, 2), "odd and odd": (3, 3)}


def leaves_of(payer: PublicKey, payee: PublicKey, lock_time: int) -> tuple[TapLeaf, TapLeaf]:
    """For both, and for the payer from the lock time on."""
    both = TapLeaf(two_keys_script(payer.x_only, payee.x_only))
    return both, TapLeaf(key_after_script(payer.x_only, lock_time_from_int(lock_time)))


def output_of(payer: PublicKey, payee: PublicKey, lock_time: int) -> TaprootOutput:
    return TaprootOutput(musig_key(payer, payee).x_only, leaves_of(payer, payee, lock_time))


@pytest.mark.parametrize("signs", SIGNS.values(), ids=SIGNS)
def test_one_address(shared_node: Node, signs: tuple[int, int]) -> None:
    """Whatever the sign of the keys, the order in ``musig()`` and of the leaves, and the lock time's length."""
    one, other = (
        PublicKey(bytes([sign]) + PrivateKey(bytes([number]) * 32).public_key.x_only)
        for number, sign in zip((7, 8), signs, strict=True)
    )
    lock_times = (16, 17, 128, 1_008, 499_999_999, 500_000_000, MAX_SCRIPT_LOCK_TIME)
    for (payer, payee), lock_time in product(((one, other), (other, one)), lock_times):
        output = output_of(payer, payee, lock_time)
        address = script_to_address(output.script_pubkey, REGTEST)
        descriptor = musig_descriptor(payer, payee, lock_time_from_int(lock_time))
        assert shared_node.call("deriveaddresses", descriptor) == [address]
        told = shared_node.call("getdescriptorinfo", descriptor)
        assert (told["issolvable"], told["isrange"]) == (True, False)
        assert with_checksum(told["descriptor"].partition("#")[0]) == told["descriptor"]
        bare = descriptor.partition("#")[0]
        assert told["checksum"] == descriptor.partition("#")[2]
        swapped = bare.replace(f"musig({payer},{payee})", f"musig({payee},{payer})")
        assert swapped != bare
        assert shared_node.call("deriveaddresses", with_checksum(swapped)) == [address]
        start, _, leaves = bare.partition("{")
        first, second = leaves[:-2].split("),and_v", 1)
        turned = f"{start}{{and_v{second},{first})}})"
        assert turned != bare
        assert shared_node.call("deriveaddresses", with_checksum(turned)) == [address]


def test_the_sign_of_a_key_counts() -> None:
    x = PrivateKey(bytes([7]) * 32).public_key.x_only
    other = PrivateKey(bytes([8]) * 32).public_key
    even, odd = PublicKey(b"\x02" + x), PublicKey(b"\x03" + x)
    assert output_of(even, other, 1_008).script_pubkey != output_of(odd, other, 1_008).script_pubkey


def test_the_node_shows_what_a_psbt_holds(shared_node: Node) -> None:
    payer, payee = PrivateKey(bytes([7]) * 32), PrivateKey(bytes([8]) * 32)
    aggregate = musig_key(payer.public_key, payee.public_key)
    output = output_of(payer.public_key, payee.public_key, 1_008)
    both, refund = leaves_of(payer.public_key, payee.public_key, 1_008)
    spent = TxOut(Amount(100_000), output.script_pubkey)
    update = Transaction(
        3, (TxIn(OutPoint(Txid(bytes(32)), 3), LOCKABLE),), (TxOut(Amount(9_000), OPEN_SCRIPT),), 0
    )
    signature = payer.sign_schnorr(taproot_script_sighash(update, 0, [spent], both.hash))
    participants = sorted((payer.public_key.sec, payee.public_key.sec))
    psbt = Psbt.create(update).with_input_fields(
        0,
        witness_utxo=spent,
        tap_script_sigs={(payer.public_key.x_only, both.hash): signature},
        tap_leaf_scripts={output.control_block(leaf): leaf for leaf in (both, refund)},
        tap_internal_key=output.internal_key,
        tap_merkle_root=output.merkle_root,
        musig2_participants={aggregate.sec: participants},
    )
    (shown,) = shared_node.call("decodepsbt", b64encode(psbt.to_bytes()).decode())["inputs"]
    assert shown["taproot_script_path_sigs"] == [
        {"pubkey": payer.public_key.x_only.hex(), "leaf_hash": both.hash.hex(), "sig": signature.hex()}
    ]
    assert {each["script"]: each["control_blocks"] for each in shown["taproot_scripts"]} == {
        leaf.script.hex(): [output.control_block(leaf).to_bytes().hex()] for leaf in (both, refund)
    }
    assert {each["leaf_ver"] for each in shown["taproot_scripts"]} == {0xC0}
    assert shown["taproot_internal_key"] == output.internal_key.hex()
    assert shown["taproot_merkle_root"] == output.merkle_root.hex()
    assert shown["musig2_participant_pubkeys"] == [
        {"aggregate_pubkey": str(aggregate), "participant_pubkeys": [key.hex() for key in participants]}
    ]


# --- both both ----------------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    with (
        running(tmp_path / "node", *OPTIONS, ripe=False) as node,
        EmbeddedChain(tmp_path / "chain") as chain,
        chain.engine(),
    ):
        yield Both(chain, node.call)


PAYER, PAYEE = PrivateKey(bytes([7]) * 32), PrivateKey(bytes([8]) * 32)


class Channel:
    """A taproot output on both chains, and transactions that spend it."""

    def __init__(self, both: Both, lock_time: int) -> None:
        keys = (PAYER.public_key, PAYEE.public_key)
        self.update, self.refund = leaves_of(*keys, lock_time)
        self.output = output_of(*keys, lock_time)
        self.spent = TxOut(Amount(100_000), self.output.script_pubkey)
        (self.outpoint,) = fund(both.chain, 100_000, script=self.output.script_pubkey)
        both.mine()

    def spend(self, leaf: TapLeaf, *keys: PrivateKey, lock_time: int = 0, fee: int = 500) -> Transaction:
        """With the signatures of ``keys``, the first one's on top of the stack."""
        source, paid = TxIn(self.outpoint, LOCKABLE), TxOut(Amount(100_000 - fee), OPEN_SCRIPT)
        transaction = Transaction(3, (source,), (paid,), lock_time)
        digest = taproot_script_sighash(transaction, 0, [self.spent], leaf.hash)
        signatures = [key.sign_schnorr_checked(digest) for key in reversed(keys)]
        block = self.output.control_block(leaf).to_bytes()
        return transaction.with_witness(0, (*signatures, leaf.script, block))


REFUSED = "mandatory-script-verify-flag-failed"


def test_a_refund_at_its_time_and_a_close_at_once(both: Both) -> None:
    lock_time = both.chain.tip().height + 4
    channel = Channel(both, lock_time)
    refund = channel.spend(channel.refund, PAYER, lock_time=lock_time)
    assert both.give(refund) == "non-final"
    while both.mine() < lock_time - 1:
        assert both.give(refund) == "non-final"
    assert both.give(refund) == "non-final"
    both.mine()
    for wrong in (
        channel.spend(channel.refund, PAYER, lock_time=lock_time - 1),
        channel.spend(channel.refund, PAYER),
        channel.spend(channel.refund, PAYEE, lock_time=lock_time),
        channel.spend(channel.update, PAYEE, PAYER),
        channel.spend(channel.update, PAYER),
        channel.spend(channel.update, PAYER, PAYER),
    ):
        assert both.give(wrong) == REFUSED
    assert both.give(refund) == TAKEN
    close = channel.spend(channel.update, PAYER, PAYEE, fee=1_500)  # it replaces the refund
    assert both.give(close) == TAKEN
    both.mine()
    assert not both.chain.mempool()


def test_witnesses_that_are_not_relayed(both: Both) -> None:
    """By consensus they are good: an annex, and a long item for a script that takes any."""
    drops = TapLeaf(b"\x75\x51")  # OP_DROP OP_1
    output = TaprootOutput(PAYER.public_key.x_only, drops)
    outpoints = iter(fund(both.chain, *[100_000] * 3, script=output.script_pubkey))
    both.mine()

    def spend(item: bytes, *annex: bytes) -> str:
        paid = TxOut(Amount(99_000), OPEN_SCRIPT)
        transaction = Transaction(3, (TxIn(next(outpoints), LOCKABLE),), (paid,), 0)
        block = output.control_block(drops).to_bytes()
        return both.give(transaction.with_witness(0, (item, drops.script, block, *annex)))

    assert spend(bytes(80)) == TAKEN
    assert spend(bytes(81)) == "bad-witness-nonstandard"
    assert spend(bytes(80), b"\x50") == "bad-witness-nonstandard"
