"""Bitcoin Core as judge of a taproot channel, and as its twin: a wallet of its own that holds a party's key."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chain.node import MinedChain, Node, needs_node, running
from support.leaves import tree_of
from support.party import Pair, psbt

from mpchan.bitcoin.base58 import base58check_encode
from mpchan.bitcoin.descriptor import musig_descriptor
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.construction.base import REFUND, settlement
from mpchan.channel.terms import Terms
from mpchan.party import views
from mpchan.units import Amount

pytestmark = needs_node

CLOSE_VSIZE, REFUND_VSIZE = 180, 126
"""With P2WPKH outputs, as the guide says."""


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("twin") / "node", wallet=True) as node:
        yield node


@pytest.fixture
def pair(core: Node, tmp_path: Path) -> Iterator[Pair]:
    with MinedChain(core, tmp_path / "seen") as chain:
        yield Pair(tmp_path, chain, scheme="taproot")  # type: ignore[arg-type]


def verdict(core: Node, transaction: Transaction) -> tuple[str, int | None]:
    """Why the mempool would not take it, or that it would; and its size."""
    [said] = core.call("testmempoolaccept", [transaction.to_hex()])
    return said.get("reject-reason", "taken"), said.get("vsize")


def test_every_spend_at_its_time_and_of_its_size(pair: Pair, core: Node) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 40_000))
    terms = pair.terms(name)
    update = pair.payee_record(name).state.best.transaction
    refund = pair.payer_record(name).state.refund
    assert verdict(core, update) == ("taken", CLOSE_VSIZE)
    assert verdict(core, refund)[0] == "non-final"
    pair.mine_to(terms.refund_lock_time.value - 1)
    assert verdict(core, refund)[0] == "non-final"
    assert verdict(core, update) == ("taken", CLOSE_VSIZE)
    pair.chain.mine(1)
    assert verdict(core, refund) == ("taken", REFUND_VSIZE)
    closed = pair.settle(pair.settlement(name, 60_000))
    shown = core.call("getmempoolentry", closed.txid)
    assert (shown["vsize"], shown["ancestorcount"]) == (CLOSE_VSIZE, 1)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_the_refund_confirms_in_the_first_block_that_may_hold_it(pair: Pair, core: Node) -> None:
    name = pair.open()
    pair.mine_to(pair.payer_record(name).terms.refund_lock_time.value)
    txid = pair.refund(name).txid
    assert core.call("getmempoolentry", txid)["vsize"] == REFUND_VSIZE
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name).status == "refunded"


def test_core_derives_the_address_that_show_names(pair: Pair, core: Node) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    terms = pair.terms(name)
    for wallet in (pair.payer, pair.payee):
        [request] = views.descriptors(wallet, pair.chain, name).descriptors
        told = core.call("getdescriptorinfo", request.desc)
        assert (told["issolvable"], told["hasprivatekeys"]) == (True, False)
        [address] = core.call("deriveaddresses", request.desc)
        on_chain = core.call("gettxout", str(terms.outpoint.txid), terms.outpoint.vout)
        assert on_chain["scriptPubKey"]["address"] == address


def test_decodepsbt_shows_a_payment(pair: Pair, core: Node) -> None:
    name = pair.open()
    message = psbt(pair.pay(name, 1_000))
    terms = pair.payer_record(name).terms
    tree = tree_of(terms)
    shown = core.call("decodepsbt", b64encode(message.to_bytes()).decode())
    assert (shown["tx"]["version"], shown["tx"]["locktime"], shown["psbt_version"]) == (3, 0, 0)
    [fields] = shown["inputs"]
    [signature] = fields["taproot_script_path_sigs"]
    assert (signature["pubkey"], len(signature["sig"])) == (terms.payer_key.x_only.hex(), 128)
    assert {leaf["script"] for leaf in fields["taproot_scripts"]} == {
        tree.close.script.hex(),
        tree.refund.script.hex(),
    }
    assert fields["taproot_internal_key"] == tree.internal_key.hex()
    assert fields["taproot_merkle_root"] == tree.merkle_root.hex()
    [musig] = fields["musig2_participant_pubkeys"]
    assert musig["participant_pubkeys"] == [key.hex() for key in tree.keys]
    assert fields["witness_utxo"]["scriptPubKey"]["hex"] == terms.funding_txout.script_pubkey.hex()
    assert [(each["identifier"], each["subtype"]) for each in shown["proprietary"]] == [
        (b"mpchan".hex(), 0),
        (b"mpchan".hex(), 1),
    ]
    assert "sighash" not in fields


# the twin: one party's key in a wallet of Core's own ------------------------------------------------


def wif(key: PrivateKey) -> str:
    """As Core imports a private key on a test network."""
    return base58check_encode(b"\xef" + key.to_bytes() + b"\x01")


def twin(core: Node, terms: Terms, key: PrivateKey, name: str) -> str:
    """A wallet of Core's that knows the channel's descriptor with one party's private key in it."""
    descriptor = musig_descriptor(terms.payer_key, terms.offer.payee_key, terms.refund_lock_time).partition(
        "#"
    )[0]
    secret, public = wif(key), key.public_key
    descriptor = descriptor.replace(str(public), secret).replace(public.x_only.hex(), secret)
    core.call("createwallet", name, False, True)
    # a checksum of private descriptors: Core works it out
    checksum = core.call("getdescriptorinfo", descriptor)["checksum"]
    request = {"desc": f"{descriptor}#{checksum}", "timestamp": 0}
    [done] = core.call("importdescriptors", [request], wallet=name)
    assert done["success"], done
    return name


def processed(core: Node, wallet: str, message: Psbt, *, finalize: bool) -> dict[str, Any]:
    text = b64encode(message.to_bytes()).decode()
    made: dict[str, Any] = core.call(
        "walletprocesspsbt", text, True, "DEFAULT", False, finalize, wallet=wallet
    )
    return made


def test_core_pays_a_payee_of_ours(pair: Pair, core: Node) -> None:
    """Its wallet signs the first payment, which mpchan takes and closes with. It signs for leaf R as well, unasked."""
    name = pair.open()
    terms = pair.payer_record(name).terms
    wallet = twin(core, terms, pair.payer_secret(name), "payer")
    unsigned = terms.lock.message(terms.schedule.build(settlement(Amount(30_000))))
    made = processed(core, wallet, unsigned, finalize=False)
    assert made["complete"] is False
    signature = terms.lock.signature_from(Psbt.from_bytes(b64decode(made["psbt"])), terms.payer_key)
    taken = pair.accept(terms.lock.message(unsigned.tx, terms.payer_key, signature).to_hex())
    assert (taken.paid_sat, taken.duplicate) == (30_000, False)
    assert pair.settle(name=name).broadcast
    pair.chain.mine(1)
    assert views.show(pair.payee, pair.chain, name).status == "closed"


def test_core_countersigns_a_payment_and_takes_the_refund(pair: Pair, core: Node) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    terms = pair.terms(name)
    payees = twin(core, terms, pair.payee_secret(name), "payee")
    made = processed(core, payees, psbt(pair.pay(name, 20_000)), finalize=True)
    assert made["complete"] is True
    close = Transaction.from_hex(made["hex"])
    assert verdict(core, close) == ("taken", CLOSE_VSIZE)
    payers = twin(core, terms, pair.payer_secret(name), "refunder")
    made = processed(core, payers, terms.lock.message(terms.schedule.build(REFUND)), finalize=True)
    assert made["complete"] is True
    refund = Transaction.from_hex(made["hex"])
    assert refund.txid == terms.schedule.build(REFUND).txid
    pair.mine_to(terms.refund_lock_time.value)
    assert verdict(core, refund) == ("taken", REFUND_VSIZE)
    pair.chain.broadcast(close)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
