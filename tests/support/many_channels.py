"""Wallets with as many open channels as a test wants, all funded on one embedded chain, and made without it.

The fundings are written straight into the chain's index, in its last block: who asks the chain finds them there, as
deep as they have to be. The engine knows nothing of them, so no block must be mined afterwards.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path
from unittest import mock

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee, payer
from mpchan.channel.construction.base import REFUND
from mpchan.channel.construction.registry import construction_of, own_terms_of
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms, funding_output
from mpchan.units import Amount, FeeRate, MedianTime, OutPoint, Txid
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

CAPACITY = Amount(40_000_000)
LEFT = 1_200_000
"""Seconds until L_0: so many updates have room in each channel."""


class Many:
    """Two wallets, ``payer`` and ``payee``, with the same channels.

    Args:
        folder: gets the wallets and the chain.
        count: of channels at the beginning.
        scheme: their construction.
    """

    def __init__(self, folder: Path, count: int, scheme: str = "decrementing") -> None:
        self._scheme = scheme
        self.chain = EmbeddedChain(folder / "chain")
        self.tip = self.chain.tip()
        self.payer = Wallet.create(folder / "payer", REGTEST, ChainConfig())
        self.payee = Wallet.create(folder / "payee", REGTEST, ChainConfig())
        self.names: list[str] = []
        self.grow(count)

    def grow(self, count: int) -> None:
        """So many channels in all, none of them with a payment."""
        made = [self._channel(index) for index in range(len(self.names), count)]
        index = sqlite3.connect(self.chain.directory / "index.sqlite3")
        with index:
            for terms, funding in made:
                wire, height = funding.txid.wire, self.tip.height
                position = 1 + int.from_bytes(wire[:4], "big")
                index.execute(
                    "INSERT INTO transactions (txid, height, position, raw) VALUES (?, ?, ?, ?)",
                    (wire, height, position, funding.to_bytes()),
                )
                output = terms.funding_txout
                index.execute(
                    "INSERT INTO outputs VALUES (?, 0, ?, ?, NULL)",
                    (wire, output.value.sat, output.script_pubkey),
                )
        index.close()

    def _channel(self, number: int) -> tuple[Terms, Transaction]:
        script = self.payer.keys.script("receive", 0)
        offer = self._offer(number)
        ours, theirs = self.payer.keys.payer_key(offer.payee_key), self.payee.keys.offer_key(offer)
        earliest = MedianTime(self.tip.median_time + LEFT + offer.settle_window)
        lock_time = construction_of(offer).refund_at(earliest)
        output = funding_output(offer, CAPACITY, ours.public_key, script, lock_time)
        source = OutPoint(Txid(hashlib.sha256(b"coin %d" % number).digest()), 0)
        funding = Transaction(
            2,
            (TxIn(source, 0xFFFF_FFFE, b"", (b"s" * 72, b"k" * 33)),),
            (TxOut(output.value, output.script_pubkey),),
            0,
        )
        terms = Terms(offer, OutPoint(funding.txid, 0), output.value, ours.public_key, script, lock_time)
        signatures = {key.public_key: key.sign_refund(terms) for key in (ours, theirs)}
        refund = terms.lock.complete(terms.schedule.build(REFUND), signatures)
        coin = TxOut(output.value, script)
        with mock.patch("os.fsync"):  # how long the disk takes says nothing here
            state = payer.Funded(terms, funding, (coin,), refund, sends=True)
            self.payer.channels.save(PayerRecord(None, state), "funded")
            self.payee.offers.save(offer)
            self.payee.channels.save(PayeeRecord(None, payee.Active(terms)), "refund-signed")
        self.names.append(terms.name)
        return terms, funding

    def _offer(self, number: int) -> Offer:
        script = self.payee.keys.script("receive", 0)
        offer = Offer(
            version=2,
            offer_id=f"{number:032x}",
            generation=self.payee.offers.need_generation(),
            token="0" * 64,
            network=REGTEST,
            scheme=self._scheme,
            payee_key=self.payer.keys.channel_key(0).public_key,  # its own takes this place
            payee_address=script_to_address(script, REGTEST) or "",
            min_capacity=Amount(1_000),
            max_capacity=Amount(100_000_000),
            fee_rate=FeeRate(2_000),
            lock_time_unit="seconds",
            min_refund_delay=288 * 600,
            max_refund_delay=4_320 * 600,
            settle_window=144 * 600,
            own_terms={term.name: term.default for term in own_terms_of(self._scheme)},
            min_increment=Amount(1),
            min_confirmations=1,
        )
        return self.payee.keys.own_offer(offer)

    def environment(self) -> dict[str, str]:
        """For commands: they find the chain here."""
        return {**os.environ, "MPCHAN_REGTEST": str(self.chain.directory)}
