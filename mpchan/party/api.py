"""A wallet for programs: what the commands do, as methods that return the commands' answers.

Each method is the function behind a command: what it refuses, and with which error, stands there. Everything is on the
disk before a method returns, and can be repeated as the command can.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.network import network_from_name
from mpchan.chain.base import Chain, ChainConfig
from mpchan.errors import MpchanError
from mpchan.party.common import read_psbt, read_transaction
from mpchan.party.meter.base import AnyWallet, chain_of, opened, unlocker_of
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet as WalletFiles

if TYPE_CHECKING:
    from mpchan.bitcoin.psbt import Psbt
    from mpchan.bitcoin.tx import Transaction
    from mpchan.party.meter.payee import Payee
    from mpchan.party.meter.payer import Payer
    from mpchan.results.channels import Channel, ChannelList
    from mpchan.results.closing import Refunded
    from mpchan.results.coins import Balance, FreshAddress
    from mpchan.results.opening import (
        Funded,
        FundingTaken,
        Offered,
        Opened,
        OpenedAtOnce,
        Payable,
        Planned,
        Recovered,
        RefundSigned,
        Standing,
    )
    from mpchan.results.wallets import BackedUp, Restored
    from mpchan.results.watching import ChannelSeen, RoundDone

Text = Union[str, bytes]
"""A message as the commands write it: hex or base64 as text, or binary."""

Satoshi = Union[int, Amount]


class Wallet:
    """A wallet in its directory, in whichever role; ``payer`` and ``payee`` are for the payments in its channels.

    It serves one thread at a time. Other programs and commands may use the same wallet meanwhile.

    Args:
        wallet: its directory.
        chain: None for the one that the wallet names.
        passphrase: of encrypted keys.

    Raises:
        StorageError: there is no wallet, or it cannot be opened.
    """

    def __init__(
        self, wallet: AnyWallet, *, chain: Chain | None = None, passphrase: str | None = None
    ) -> None:
        self._files = opened(wallet, passphrase)
        self.chain = chain_of(self._files) if chain is None else chain

    @classmethod
    def create(
        cls,
        directory: str | Path,
        *,
        network: str = "regtest",
        chain: ChainConfig | None = None,
        passphrase: str | None = None,
    ) -> Wallet:
        """A new wallet with new keys, as ``mpchan init`` makes it.

        Args:
            network: mainnet, testnet4, signet or regtest.
            chain: the backend; None for the embedded chain on regtest, for none elsewhere.
            passphrase: encrypts the keys.

        Raises:
            StorageError: ``wallet-exists``, ``write-failed``.
        """
        from mpchan.chain import open_chain

        config = chain or ChainConfig("embedded" if network == "regtest" else "none")
        known = network_from_name(network)
        files = WalletFiles.create(Path(directory), known, config, None, passphrase)
        return cls(files, chain=open_chain(config, known, files.directory, create=True))

    # the wallet -----------------------------------------------------------------------------------

    def address(self) -> FreshAddress:
        """``mpchan address``: a receiving address that nobody was told before."""
        from mpchan.party.views import fresh_address

        return fresh_address(self._files)

    def balance(self) -> Balance:
        """``mpchan balance``: the wallet's coins, and its share of its channels.

        Raises:
            StorageError: a channel cannot be read.
        """
        from mpchan.party.views import balance

        return balance(self._files, self.chain)

    def channels(self) -> ChannelList:
        """``mpchan list``: every channel in short, the oldest first.

        Raises:
            StorageError: a channel cannot be read.
        """
        from mpchan.party.views import list_channels

        return list_channels(self._files, self.chain, _fail)

    def channel(self, channel: str | None = None) -> Channel:
        """``mpchan show``: one channel whole.

        Args:
            channel: any unique beginning of its id; None for the only one.
        """
        from mpchan.party.views import show

        return show(self._files, self.chain, channel)

    def wait(self, goal: str, channel: str | None = None, *, timeout: float | None = None) -> Standing:
        """``mpchan wait``: until a channel has come so far.

        Args:
            goal: ``confirmed``, ``final`` or ``closed``.
            timeout: seconds; None for no end.
        """
        from mpchan.party.views import wait

        return wait(self._files, self.chain, channel, goal, timeout)

    def watch(self, tell: Callable[[ChannelSeen], None] = lambda seen: None) -> RoundDone:
        """``mpchan watch --once``: look after every channel once, and do what is due.

        Args:
            tell: is told of each channel.

        Raises:
            ChainError: ``no-backend``.
        """
        from mpchan.party.watch.watcher import Watcher

        watcher = Watcher(self._files, self.chain, once=True)
        return watcher.round(lambda sight: tell(sight.result(watcher.clock()))).result(watcher.clock())

    def backup(self, target: str | Path, passphrase: str | None = None) -> BackedUp:
        """``mpchan backup``: the whole wallet in one file (mode 0600), whole or not at all.

        Args:
            target: an older backup there is replaced.
            passphrase: that of the keys, where they are encrypted: so is the backup.

        Raises:
            StorageError: ``passphrase-changed`` where the keys are encrypted and none is given, or the other way
                round; ``write-failed``.
            UsageError: ``output-is-wallet``, ``output-unwritable``.
        """
        from mpchan.party.backup import backup

        return backup(self._files, Path(target), passphrase)

    @staticmethod
    def restore(backup: str | Path, directory: str | Path, passphrase: str | None = None) -> Restored:
        """``mpchan restore``: a wallet in a new or empty directory, all of it or nothing.

        Never use two copies of one wallet. The chain is not searched; the first thing to do is ``mpchan scan``.

        Args:
            passphrase: of an encrypted backup.

        Raises:
            ParseError: ``malformed-backup``, ``backup-version``, ``malformed-config``.
            StorageError: ``wallet-exists``, ``directory-not-empty``, ``passphrase-…``, ``write-failed``.
        """
        from mpchan.party.backup import restore
        from mpchan.wallet.backup import read_backup

        return restore(read_backup(Path(backup)), Path(directory), unlocker_of(passphrase))

    def abandon(self, channel: str) -> Standing:
        """``mpchan payer abandon`` and ``payee abandon``: give up an opening whose funding never left, or never came.

        Args:
            channel: any unique beginning of its id, or the id of its offer.

        Raises:
            NotPossible: ``funding-early`` and others: its money is locked, or may be.
        """
        from mpchan.party import payee, payer

        if self._files.awaited.find(channel) is not None:
            return payer.abandon(self._files, self.chain, channel)
        name = self._files.channels.find(channel, lambda record: True, "known")
        if self._files.channels.load(name).role == "payer":
            return payer.abandon(self._files, self.chain, name)
        return payee.abandon(self._files, self.chain, name)

    # the payee ------------------------------------------------------------------------------------

    def offer(self, **terms: Any) -> Offered:
        """``mpchan payee offer``: terms for one channel.

        Args:
            terms: keys of the offer's TOML, such as ``max_capacity_sat`` or ``memo``; what is left out comes from
                wallet.toml.
        """
        from mpchan.party.payee import offer

        return offer(self._files, self.chain, terms)

    def sign_refund(self, request: Text) -> RefundSigned:
        """``mpchan payee sign-refund``: check a payer's request and sign its refund, once for a channel."""
        from mpchan.party.payee import sign_refund

        return sign_refund(self._files, self.chain, read_psbt(_bytes(request)))

    def take_funding(self, funding: Text) -> FundingTaken:
        """``mpchan payee funding``: take the funding as a file; it counts as no confirmation."""
        from mpchan.party.payee import funding as take

        return take(self._files, self.chain, read_transaction(_bytes(funding)))

    def payee(self, channel: str | None = None) -> Payee:
        """The channels in which this wallet is paid, to take payments and to close."""
        from mpchan.party.meter.payee import Payee

        return Payee(self._files, channel, chain=self.chain)

    # the payer ------------------------------------------------------------------------------------

    def open(
        self, offer: str, capacity: Satoshi, *, refund_out: str | Path | None = None
    ) -> Opened | OpenedAtOnce:
        """``mpchan payer open``: begin a channel under an offer. Nothing is signed or sent yet.

        Where the offer's construction has no exchange before the funding, the refund is stored and the funding signed
        and broadcast; the answer is an ``OpenedAtOnce`` then. It does not ask.

        Args:
            offer: its TOML.
            capacity: what can be paid in all, in satoshi.
            refund_out: also write the complete refund there; only where it is signed now.
        """
        from mpchan.party.payer import open_channel
        from mpchan.party.sending import LEAVES, Leaving

        leaving = LEAVES if refund_out is None else Leaving(refund_out=Path(refund_out))
        return open_channel(self._files, self.chain, offer, _amount(capacity), leaving=leaving)

    def plan(self, offer: str, capacity: Satoshi, *, address: str | None = None) -> Planned:
        """``mpchan payer open --external``: where another wallet pays a channel's money to, and exactly how much.

        That wallet makes the funding and broadcasts nothing. Then ``open_funding`` takes it, and ``fund`` what it
        signed; a replacement by fee, at any time, would void the refund.

        Args:
            offer: its TOML.
            capacity: what can be paid in all, in satoshi.
            address: where the payer's share goes; None for a fresh address of this wallet.

        Raises:
            NotPossible: ``offer-used``.
            Refused: the offer is none that this wallet takes.
        """
        from mpchan.party.opening.external import plan_channel

        return plan_channel(self._files, self.chain, offer, _amount(capacity), address=address)

    def open_external(
        self,
        offer: str,
        capacity: Satoshi | None = None,
        *,
        address: str | None = None,
        refund_out: str | Path | None = None,
    ) -> Payable:
        """``mpchan payer open --external`` where nothing is exchanged: the address that any wallet pays.

        The same call again tells what has come there, and signs and stores its refund.

        Args:
            offer: its TOML.
            capacity: what can be paid in all, in satoshi; None for whatever comes.
            address: where the payer's share goes; None for a fresh address of this wallet.
            refund_out: also write the complete refund of what has come there.

        Raises:
            NotPossible: ``offer-used``, ``opened-otherwise``.
            Refused: the offer is none that this wallet takes.
        """
        from mpchan.channel.offer import Offer
        from mpchan.party.opening.awaited import open_by_address
        from mpchan.wallet.payer_record import Asked

        amount = None if capacity is None else _amount(capacity)
        target = None if refund_out is None else Path(refund_out)
        asked = Asked(address=address)
        return open_by_address(self._files, self.chain, Offer.from_toml(offer), amount, asked, target)

    def recover(self, offer: str) -> Recovered:
        """``mpchan payer recover``: find the money of a channel by the wallet's seed and the offer alone.

        Raises:
            NotPossible: ``needs-refund``, the offer's construction does not allow it.
        """
        from mpchan.party.opening.recover import recover

        return recover(self._files, self.chain, offer)

    def open_funding(self, funding: Text) -> Opened:
        """``mpchan payer open --funding``: take what the other wallet made, and ask for the refund.

        Args:
            funding: a PSBT or a transaction that pays a plan.

        Raises:
            NotPossible: ``no-plan``, ``offer-used``; ``coin-spent`` and others of the coins that it spends.
            TooEarly: ``coin-unconfirmed``.
            Refused: ``output-value`` and others of its form.
        """
        from mpchan.party.opening.external import open_funding

        return open_funding(self._files, self.chain, _message(funding))

    def fund(
        self, signed_refund: Text, *, funding: Text | None = None, refund_out: str | Path | None = None
    ) -> Funded:
        """``mpchan payer fund``: store the refund, then sign the funding and broadcast it. It does not ask.

        Args:
            funding: as another wallet has signed it, where that one makes it.
            refund_out: also write the complete refund there.

        Raises:
            Refused: ``signature`` and others: the payee has signed something else.
            NotPossible: ``coin-spent``, ``funding-needed``, ``channel-abandoned``.
            TooEarly: too little time is left until the refund.
        """
        from mpchan.party.payer import fund

        signed = None if funding is None else _message(funding)
        copy = None if refund_out is None else Path(refund_out)
        return fund(self._files, self.chain, read_psbt(_bytes(signed_refund)), signed=signed, refund_out=copy)

    def payer(self, channel: str | None = None) -> Payer:
        """One open channel in which this wallet pays."""
        from mpchan.party.meter.payer import Payer

        return Payer(self._files, channel, chain=self.chain)

    def refund(self, channel: str | None = None) -> Refunded:
        """``mpchan payer refund``: take everything back, once the refund's lock time has come."""
        from mpchan.party.payer import refund

        return refund(self._files, self.chain, channel)


def _fail(name: str, error: MpchanError) -> None:
    raise error


def _bytes(message: Text) -> bytes:
    return message.encode() if isinstance(message, str) else message


def _message(message: Text) -> Psbt | Transaction:
    return decode_message(_bytes(message), either_version=True)


def _amount(value: Satoshi) -> Amount:
    return value if isinstance(value, Amount) else Amount(value)
