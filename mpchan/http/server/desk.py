"""What only the thread that owns the wallet does: fresh challenges, signed refunds, opening and closing."""

from __future__ import annotations

import time
from collections.abc import Callable

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel.carried import carried_offer
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import Refused, TooEarly
from mpchan.http.server.challenges import Challenges
from mpchan.http.wire import credential as wire
from mpchan.party import payee as commands
from mpchan.party.common import from_now_on
from mpchan.party.register.asks import Short, Signed
from mpchan.party.register.register import Register
from mpchan.party.register.room import CROWD_SECONDS, Room, has_paid
from mpchan.results.closing import Closed
from mpchan.units import Amount, OutPoint, lock_time_from_int
from mpchan.values import frozen
from mpchan.wallet.opening import Opening
from mpchan.wallet.wallet import Wallet

MOST_OF_ONE = 50
"""Refunds that are signed for one source within ``CROWD_SECONDS``, of channels in which nothing is paid yet."""


@frozen
class ChannelEvent:
    """A channel was opened, or closed.

    Attributes:
        kind: ``opened`` or ``closed``.
        channel: its short id.
        paid: satoshi, by now.
        txid: of its funding, or of the close.
    """

    kind: str
    channel: str
    paid: int
    txid: str


Tell = Callable[[ChannelEvent], None]


class Desk:
    """A payee's wallet, behind the counter.

    Attributes:
        register: what is charged in its channels.
        challenges: what strangers are asked for.
    """

    def __init__(
        self, wallet: Wallet, chain: Chain, register: Register, challenges: Challenges, tell: Tell
    ) -> None:
        self.wallet = wallet
        self.chain = chain
        self.register = register
        self.challenges = challenges
        self._tell = tell
        self._room = Room(wallet, time.time, ())
        self._signed: dict[str, tuple[float, str | None]] = {}  # by channel: when, and for which source

    def sign_refund(self, psbt: Psbt, offer: Offer, source: str | None) -> bytes:
        """The signed refund of a channel that is about to be funded: a PSBT in binary.

        Args:
            offer: in the challenge that the request answers.
            source: where it came from; None where that cannot be told.

        Raises:
            MpchanError: as ``payee sign-refund``; ``too-many-offers``; ``other-offer``.
        """
        if carried_offer(psbt) != offer:
            raise Refused("other-offer", "the refund request is under another offer than the challenge's")
        self.challenges.claim(offer)
        signed = commands.sign_refund(
            self.wallet,
            self.chain,
            psbt,
            lambda opening: self._admit(psbt.tx.inputs[0].outpoint.name, source, opening),
        )
        return bytes.fromhex(signed.hex)

    def _admit(self, name: str, source: str | None, opening: Opening | None) -> None:
        """Give one more stranger room. Its offer is kept nowhere, so that only a channel can keep its terms."""
        since = time.time() - CROWD_SECONDS
        self._signed = {each: what for each, what in self._signed.items() if what[0] > since}
        mine = [each for each, (_, one) in self._signed.items() if one == source]
        if len(mine) >= MOST_OF_ONE:
            for each in mine:
                if has_paid(self.wallet, each):
                    self._room.paid(each)
                    del self._signed[each]
            if sum(one == source for _, one in self._signed.values()) >= MOST_OF_ONE:
                raise TooEarly(
                    "too-many-offers",
                    f"{MOST_OF_ONE} refunds are signed for your address, and nothing is paid in their channels",
                )
        self._room.admit(name, source, opening)
        self._signed[name] = time.time(), source

    def open(self, opening: wire.Open, offer: Offer) -> None:
        """Make the channel of a funding and of the first total in it; nothing where it is there already.

        Args:
            offer: in the challenge that the opening answers.

        Raises:
            TooEarly: ``funding-unseen``, ``unconfirmed``: the very same does later.
            MpchanError: as ``Register.open``; ``other-offer``.
        """
        if (opening.offer_id, opening.token) != (offer.offer_id, offer.token):
            raise Refused("other-offer", "the channel was opened under another offer than the challenge's")
        outpoint = OutPoint.parse(opening.channel)
        if self.wallet.channels.knows(outpoint):
            self.register.send_funding(outpoint, opening.transaction)
            return
        terms = Terms(
            offer,
            outpoint,
            self._value(opening, offer, outpoint),
            opening.payer_key,
            opening.payer_script,
            lock_time_from_int(opening.refund_lock_time),
        )
        self.challenges.claim(offer)
        self.register.open(terms, opening.transaction, opening.first)
        self._tell(ChannelEvent("opened", terms.channel_id, 0, str(outpoint.txid)))

    def _value(self, opening: wire.Open, offer: Offer, outpoint: OutPoint) -> Amount:
        """Of the funding output."""
        if opening.transaction is not None:
            outputs = Transaction.from_bytes(opening.transaction).outputs
            if outpoint.vout >= len(outputs):
                raise Refused("funding-output", f"the transaction has no output {outpoint.vout}")
            return outputs[outpoint.vout].value
        seen = self.chain.output(outpoint, not_before=from_now_on(self.chain.tip()))
        if seen is None:
            raise TooEarly("funding-unseen", f"the chain does not show {outpoint}")
        return seen.output.value

    def scheme_of(self, channel: str) -> str:
        """The construction of a channel that is known, by the name of its files."""
        return self.wallet.channels.load(channel).terms.offer.scheme

    def close(self, channel: str, signed: Signed) -> Closed | Short | None:
        """Close a channel with what was charged in it; None while something is reserved.

        Raises:
            MpchanError: as ``Register.close_channel``.
        """
        closed = self.register.close_channel(channel, signed)
        if isinstance(closed, Closed):
            self.challenges.move()
            self._tell(ChannelEvent("closed", closed.channel, closed.paid_sat, closed.txid))
        return closed
