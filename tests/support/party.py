"""Shared by the tests of the parties: two real wallets on one private chain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PrivateKey
from mpchan.chain.base import Chain
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.terms import Terms
from mpchan.party import payee, payer, views
from mpchan.party.common import read_psbt
from mpchan.results.closing import Closed, Refunded
from mpchan.results.opening import Funded, Opened, OpenedAtOnce
from mpchan.results.payments import Accepted
from mpchan.units import Amount
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

SHORT = {
    "settle_window": 6,
    "min_refund_delay": 25,
    "max_refund_delay": 80,
    "fee_rate_sat_per_kvb": 2000,
}
"""Terms of an offer whose refund is only some blocks away: 43 by default; a real node may estimate any fee rate."""

COIN = 1_000_000


def new_wallet(directory: Path) -> Wallet:
    """A wallet of regtest on the embedded chain."""
    return Wallet.create(directory, REGTEST, ChainConfig())


def psbt(text: str) -> Psbt:
    """A message that lacks a signature."""
    return read_psbt(text.encode())


def snapshot(*directories: Path) -> dict[str, bytes]:
    """Every file below, lock files too, with its content."""
    found = {}
    for directory in directories:
        for folder, _, files in os.walk(directory):
            for name in files:
                path = Path(folder) / name
                found[str(path)] = path.read_bytes()
    return found


class Pair:
    """A payer and a payee, each with a wallet of its own, on one chain.

    Messages are hex. Each method is a command; wallets are opened anew by ``restart``.
    """

    def __init__(
        self, directory: Path, chain: EmbeddedChain, *, coins: int = 1, scheme: str | None = None
    ) -> None:
        self.scheme = {} if scheme is None else {"scheme": scheme}
        self.directory = directory
        self.chain = chain
        self.payer = new_wallet(directory / "payer")
        self.payee = new_wallet(directory / "payee")
        for _ in range(coins):
            self.coin()

    def coin(self, amount: int = COIN) -> None:
        """Give the payer a confirmed coin."""
        address = views.fresh_address(self.payer).address
        self.chain.faucet(address_to_script(address, REGTEST), Amount(amount))
        self.chain.mine(1)

    def restart(self) -> None:
        """Both programs end and start again: all that counts is on disk."""
        self.payer = Wallet.open(self.directory / "payer")
        self.payee = Wallet.open(self.directory / "payee")

    def files(self) -> dict[str, bytes]:
        """Everything that both wallets have on disk."""
        return snapshot(self.payer.directory, self.payee.directory)

    # the story ------------------------------------------------------------------------------------

    def offer(self, **changes: Any) -> str:
        """The payee's offer, as text."""
        return str(payee.offer(self.payee, self.chain, {**SHORT, **self.scheme, **changes}).toml)

    def request(self, capacity: int = 100_000, offer: str | None = None, **changes: Any) -> Opened:
        """The payer's refund request under a new offer."""
        text = self.offer(**changes) if offer is None else offer
        return payer.open_channel(self.payer, self.chain, text, Amount(capacity))

    def sign_refund(self, request: str) -> str:
        """The payee's answer to it."""
        return str(payee.sign_refund(self.payee, self.chain, psbt(request)).hex)

    def fund(self, reply: str, **options: Any) -> Funded:
        """The payer takes the signed refund, and broadcasts the funding."""
        return payer.fund(self.payer, self.chain, psbt(reply), **options)

    def open(self, capacity: int = 100_000, **changes: Any) -> str:
        """A channel that is open on both sides; its unique name."""
        return self.open_under(self.offer(**changes), capacity)

    def open_under(self, offer: str, capacity: int) -> str:
        """The same under an offer that is there."""
        request = self.request(capacity, offer)
        if not isinstance(request, OpenedAtOnce):
            self.fund(self.sign_refund(request.hex))
        self.chain.mine(1)
        return f"{request.funding_txid}-{request.funding_vout}"

    def pay(self, name: str, amount: int) -> str:
        """The next update."""
        return str(payer.pay(self.payer, self.chain, name, Amount(amount)).hex)

    def accept(self, message: str) -> Accepted:
        """The payee takes an update or a settlement."""
        return payee.accept(self.payee, self.chain, psbt(message))

    def settlement(self, name: str, total: int | None = None) -> str:
        """The payer's settlement."""
        amount = None if total is None else Amount(total)
        return str(payer.settle(self.payer, self.chain, name, amount).hex)

    def settle(self, message: str | None = None, name: str | None = None) -> Closed:
        """The payee closes the channel."""
        return payee.settle(self.payee, self.chain, None if message is None else psbt(message), name)

    def refund(self, name: str) -> Refunded:
        """The payer takes everything back."""
        return payer.refund(self.payer, self.chain, name)

    def mine_to(self, height: int) -> None:
        """Until the tip has this height."""
        missing = height - self.chain.tip().height
        if missing > 0:
            self.chain.mine(missing)

    # what is on disk ------------------------------------------------------------------------------

    def payer_record(self, name: str) -> PayerRecord:
        """The channel in the payer's wallet."""
        record = self.payer.channels.load(name)
        assert isinstance(record, PayerRecord)
        return record

    def payee_record(self, name: str) -> PayeeRecord:
        """The channel in the payee's wallet."""
        record = self.payee.channels.load(name)
        assert isinstance(record, PayeeRecord)
        return record

    def terms(self, name: str) -> Terms:
        """What both agreed on."""
        terms = self.payer_record(name).terms
        assert self.payee_record(name).terms == terms
        return terms

    def status(self, name: str) -> tuple[str, str]:
        """The channel's status in the eyes of payer and payee."""
        return (
            views.show(self.payer, self.chain, name).status,
            views.show(self.payee, self.chain, name).status,
        )

    def payer_secret(self, name: str) -> PrivateKey:
        """The payer's channel key, as a payer that forges messages has it."""
        key: PrivateKey = self.payer.keys.key_of(self.payer_record(name))._private_key
        return key

    def payee_secret(self, name: str) -> PrivateKey:
        """The payee's."""
        key: PrivateKey = self.payee.keys.key_of(self.payee_record(name))._private_key
        return key


def balance_sat(wallet: Wallet, chain: Chain) -> int:
    """Confirmed coins of a wallet in satoshi."""
    return int(views.balance(wallet, chain).confirmed_sat)


def is_complete(text: str) -> bool:
    """Whether a message is a finished transaction, which nobody needs to sign any more."""
    return not isinstance(decode_message(text.encode()), Psbt)
