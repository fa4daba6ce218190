"""Many open channels at once: one funding transaction for all, and the wallet's own files."""

from __future__ import annotations

from pathlib import Path

from support.chain.node import MINER_SCRIPT, MINER_WITNESS_SCRIPT, Node
from support.protocol import complete, scheme_of

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.channel import payee
from mpchan.channel.offer import Offer
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms, funding_output
from mpchan.units import Amount, FeeRate, Height, OutPoint
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet

CAPACITY = Amount(100_000)
PAID = Amount(1_000)


def payee_with_channels(directory: Path, node: Node, count: int, *, funded: bool = True) -> Wallet:
    """A wallet that is paid in ``count`` open channels, each with a payment; all are funded by one transaction.

    Args:
        funded: False for openings under a funding that the node never saw.
    """
    wallet = Wallet.create(directory, REGTEST, ChainConfig("bitcoind", None, node.url, str(node.cookie)))
    payer_keys = [ChannelKey(PrivateKey((7_000_000 + number).to_bytes(32, "big"))) for number in range(count)]
    payer_script = wallet.keys.script("receive", 0)
    offers = [_offer(wallet, number) for number in range(count)]
    outputs = tuple(
        funding_output(offer, CAPACITY, key.public_key, payer_script)
        for offer, key in zip(offers, payer_keys, strict=True)
    )
    funding = _funding(node, outputs)
    if funded:
        node.call("sendrawtransaction", funding.to_hex(), 0)
        node.mine(1)
    lock_time = Height(node.height + 300)
    for number, (offer, key) in enumerate(zip(offers, payer_keys, strict=True)):
        outpoint = OutPoint(funding.txid, number)
        terms = Terms(offer, outpoint, outputs[number].value, key.public_key, payer_script, lock_time)
        ours = wallet.keys.channel_key(number).sign_update(terms, 1, PAID)
        update = complete(terms, scheme_of(terms).update(1, PAID), key.sign_update(terms, 1, PAID), ours)
        best = payee.Update(1, PAID, update)
        wallet.channels.save(
            PayeeRecord(number, payee.Active(terms, best=best if funded else None)), "accepted"
        )
    node.mine(1)
    return wallet


def _offer(wallet: Wallet, number: int) -> Offer:
    return Offer(
        offer_id=f"{number:016x}",
        network=REGTEST,
        scheme="decrementing",
        payee_key=wallet.keys.channel_key(number).public_key,
        payee_address=script_to_address(wallet.keys.script("receive", number + 1), REGTEST) or "",
        min_capacity=Amount(1_000),
        max_capacity=Amount(100_000_000),
        fee_rate=FeeRate(2_000),
        lock_time_unit="blocks",
        min_refund_delay=288,
        max_refund_delay=4_320,
        settle_window=144,
        own_terms={"step": 1},
        min_increment=Amount(1),
        min_confirmations=1,
    )


def _funding(node: Node, outputs: tuple[TxOut, ...]) -> Transaction:
    """One transaction with all these outputs, which nobody has sent yet."""
    total = sum(output.value.sat for output in outputs)
    source = node.pay(MINER_SCRIPT, total + 100_000)
    spent = TxIn(OutPoint(source.txid, 0), 0xFFFF_FFFD, b"", (MINER_WITNESS_SCRIPT,))
    return Transaction(2, (spent,), outputs, 0)
