"""The seller of one file: answers the requests of many buyers.

Each buyer has a session, an offer that is made out to it, and a channel. A wish leaves nothing behind: its offer
follows from it, and comes back with the request for the refund, or with the first payment where nothing is exchanged
before the funding. Which piece a payment pays for stands in that offer,
and what was paid stands in the channel; nothing else is remembered, so a seller that was killed goes on where it was,
and the same request again gets the same answer. Every answer leaves after the state behind it is on disk, because the
functions behind the commands see to that.

One object serves one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.carried import carried_offer
from mpchan.channel.messages import single_input_rules
from mpchan.channel.offer import Offer
from mpchan.channel.outputs import paid_in
from mpchan.channel.rules import enforce
from mpchan.errors import ChainError, MpchanError, NotPossible, ParseError, Refused, StorageError, TooEarly
from mpchan.market.hashing import FileHashes
from mpchan.market.sessions import Sessions
from mpchan.market.sold_file import SoldFile
from mpchan.party import payee as party
from mpchan.party.check.payee_rules import own_channel_rules
from mpchan.party.common import gather_facts, read_psbt, read_transaction
from mpchan.party.offers.selling import (
    OFFER_SECONDS,
    Wish,
    answer_wish,
    needs_renewal,
    read_table,
    wish_changed,
)
from mpchan.party.opening.brought import brought_offer, receiving_rules
from mpchan.party.register.room import Room
from mpchan.results.sales import RequestServed
from mpchan.sale.manifest import Sale, pieces_text, sale_of
from mpchan.transport.base import Answer, Message, Piece, Request, refusal
from mpchan.units import Amount, ChainTip
from mpchan.values import frozen
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet

MOVE_SECONDS = 600
"""So long one address serves at least, however many channels close."""


class BugRefusal(MpchanError):
    """A mistake of ours with one request (exit 1); it must not end the sale to all others."""


@frozen
class Event:
    """What happened with one request, for people and logs.

    Attributes:
        kind: of the request.
        session: of the buyer.
        channel: its shown id; None where there is none yet.
        piece: number of the piece that is delivered; None where none is.
        paid: the channel's total after it.
        received: what this request brought.
        pending: what a settlement pays on top that came so late that it counts only once it is confirmed.
        error: why it was refused.
    """

    kind: str
    session: str
    channel: str | None = None
    piece: int | None = None
    paid: Amount | None = None
    received: Amount = Amount(0)
    pending: Amount = Amount(0)
    error: MpchanError | None = None

    def result(self, time: str) -> RequestServed:
        """As ``payee sell`` tells of it, at a time in UTC (RFC 3339)."""
        return RequestServed(
            time=time,
            event="refused" if self.error is not None else self.kind,
            session=self.session,
            channel=self.channel,
            piece=self.piece,
            received_sat=self.received.sat,
            paid_sat=None if self.paid is None else self.paid.sat,
            pending_sat=self.pending.sat,
            error=None if self.error is None else self.error.slug,
            message=None if self.error is None else self.error.message,
        )


class Seller:
    """One file on sale.

    Args:
        published: the own offer that tells everybody of it.
        file: the file itself.
        hashes: of the file, as it was when it was hashed.
        tell: is told of every request.
        clock: seconds since 1970.

    Attributes:
        sale: what is sold.
    """

    def __init__(
        self,
        wallet: Wallet,
        chain: Chain,
        published: OwnOffer,
        file: Path,
        hashes: FileHashes,
        tell: Callable[[Event], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.wallet = wallet
        self.chain = chain
        self._published = published
        self._file = SoldFile(file, hashes)
        self._tell = tell
        self.sale: Sale = sale_of(published.offer)
        self._sessions = Sessions(wallet, self.sale)
        self._clock = clock
        self._earlier: dict[str, OwnOffer] = {}  # by id: what was published before, and holds still
        self._room = Room(wallet, clock, self._sessions.all())
        self._has_closed = False

    # what is published ----------------------------------------------------------------------------

    def is_renewal_due(self, tip: ChainTip) -> bool:
        """Whether another offer is to be published: half of this one's time is over, or a close has paid to it.

        The latter is not done for every close where there are many.

        Args:
            tip: of the chain, whose median time no clock that was set back undoes.
        """
        now = max(self._clock(), tip.median_time)
        offer = self._published.offer
        age = OFFER_SECONDS - (offer.expires - now)
        return needs_renewal(offer, now) or (self._has_closed and age >= MOVE_SECONDS)

    def publish(self, own: OwnOffer) -> None:
        """Another offer is out. Whoever has the one before can still go on with that, as long as it holds."""
        self._earlier[self._published.offer.offer_id] = self._published
        self._published, self._has_closed = own, False

    def note_close(self) -> None:
        """A close was sent that pays to this wallet."""
        self._has_closed = True

    def _published_by(self, offer_id: str) -> OwnOffer:
        """The published offer that a wish names: the present one, or an earlier one of the very same sale."""
        if offer_id == self._published.offer.offer_id:
            return self._published
        if offer_id not in self._earlier:
            try:
                own = self.wallet.offers.load(offer_id)
                same = sale_of(own.offer) == self.sale
            except (NotPossible, ParseError):
                same = False
            if not same:
                raise Refused("other-sale", f"offer {offer_id!r:.40} is not on sale here")
            self._earlier[offer_id] = own
        return self._earlier[offer_id]

    # one request ----------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        """What a request gets; whatever is wrong with it is a refusal, and stops no other buyer."""
        handlers: dict[str, Callable[[Request], tuple[Answer, Event]]] = {
            "offer": self._offer,
            "refund": self._refund,
            "funding": self._funding,
            "update": self._update,
            "piece": self._piece,
            "settlement": self._settlement,
        }
        try:
            answer, event = handlers[request.kind](request)
        except MpchanError as error:
            return self._refused(request, error)
        except Exception as error:  # noqa: BLE001  # a mistake of ours with one buyer must not cost another its piece
            return self._refused(
                request, BugRefusal("bug", f"unexpected {type(error).__name__}: {error!s:.200}")
            )
        self._tell(event)
        return answer

    def _refused(self, request: Request, error: MpchanError) -> Answer:
        name = next(reversed(self._sessions.readable(request.session)), None)
        self._tell(Event(request.kind, request.session, None if name is None else name[:16], error=error))
        return refusal(_for_the_buyer(error))

    # opening --------------------------------------------------------------------------------------

    def _offer(self, request: Request) -> tuple[Answer, Event]:
        wish = Wish.from_bytes(request.body)
        if wish.buyer != request.session:
            raise Refused("other-session", "the wish is of another session")
        self._file.require()
        published = self._published_by(wish.offer_id)
        begun = self._sessions.channels(request.session).values()
        offer = answer_wish(self.wallet, published, wish, begun, int(self._clock()))
        return Message(offer.to_toml().encode()), Event("offer", request.session)

    def _refund(self, request: Request) -> tuple[Answer, Event]:
        psbt = read_psbt(request.body)
        enforce(single_input_rules(psbt))
        name = psbt.tx.inputs[0].outpoint.name
        if name not in self._sessions.channels(request.session):
            offer = carried_offer(psbt)
            if offer is not None or self._sessions.is_anybodys(name):
                self._require_own_wish(request.session, offer)
        self._file.require()
        result = party.sign_refund(
            self.wallet,
            self.chain,
            psbt,
            lambda opening: self._room.admit(request.session, request.source, opening),
        )
        self._sessions.find(request.session, lambda known: known == name)
        return Message(bytes.fromhex(result.hex)), Event("refund", request.session, result.channel)

    def _require_own_wish(self, session: str, offer: Offer | None) -> None:
        """What begins a channel comes under an offer that is made out to this session, for its one wish.

        Whether this wallet made it is for the channel's own rules to say.
        """
        sale = {} if offer is None else offer.sale or {}
        if sale.get("buyer") != session or sale.get("merkle_root") != self.sale.root.hex():
            raise Refused("other-session", "the message comes under the offer of another session")
        for known in self._sessions.channels(session).values():
            if sale.get("sold") != pieces_text(known.sold):
                raise wish_changed(session)

    def _funding(self, request: Request) -> tuple[Answer, Event]:
        transaction = read_transaction(request.body)
        txid = str(transaction.txid)
        if not self._sessions.find(request.session, lambda name: name.startswith(txid)):
            raise Refused(
                "other-session", f"transaction {transaction.txid} does not fund this session's channel"
            )
        result = party.funding(self.wallet, self.chain, transaction, by_hand=False)
        return Message(result.to_json().encode()), Event("funding", request.session, result.channel)

    # payments and pieces --------------------------------------------------------------------------

    def _update(self, request: Request) -> tuple[Answer, Event]:
        psbt = read_psbt(request.body)
        name, sale = self._named(request.session, psbt)
        record = enforce(receiving_rules(self.wallet, self.chain, psbt))
        self._require_even(psbt, record, sale)
        if not paid_in(psbt.tx, record.terms):
            raise Refused("uneven-payment", "the message pays for no piece")
        if not self._is_held(psbt, record):
            self._require_time(record)
        self._file.require(self._paid_by(psbt, record, sale))
        result = party.accept(self.wallet, self.chain, psbt)
        if result.pending_sat:
            raise _unconfirmed(f"{result.pending_sat} sat are paid")
        self._sessions.take_in(request.session, name)
        self._room.paid(request.session)
        paid = Amount(result.paid_sat)
        number = sale.paid_pieces(paid)[-1]
        received = Amount(result.received_sat)
        return self._part(number), Event("update", request.session, name[:16], number, paid, received)

    def _require_even(self, psbt: Psbt, record: PayeeRecord, sale: Sale) -> None:
        """The total pays for whole pieces. Whatever else may be wrong with the message is for the channel to say."""
        paid = paid_in(psbt.tx, record.terms)
        if paid is not None and paid.sat % sale.price.sat:
            raise Refused(
                "uneven-payment", f"a total of {paid} is no multiple of {sale.price}, the price of a piece"
            )

    @staticmethod
    def _paid_by(psbt: Psbt, record: PayeeRecord, sale: Sale) -> list[int]:
        """The pieces that a payment pays for and the one before it does not; of one that is held its last piece."""
        paid, best = paid_in(psbt.tx, record.terms), payee.best_of(record.state)
        pieces = () if paid is None else sale.paid_pieces(paid)
        before = () if best is None else sale.paid_pieces(best.paid)
        return [number for number in pieces if number not in before] or list(pieces[-1:])

    @staticmethod
    def _is_held(psbt: Psbt, record: PayeeRecord) -> bool:
        """Whether the message is the update that is held already: it costs nothing, and delivers again."""
        best = payee.best_of(record.state)
        return best is not None and best.transaction.without_witness() == psbt.tx

    def _require_time(self, record: PayeeRecord) -> None:
        """The channel is not near L_0, from where on a watcher closes it."""
        deadline = record.terms.schedule.deadline
        near = self.wallet.config.watch.near(deadline.unit)
        now = deadline.now(self.chain.tip())
        if now >= deadline.value - near:
            raise NotPossible(
                "near-deadline",
                f"no payment is taken so near to {deadline}: the chain stands at {now}",
                hint="settle, and buy the rest in another channel",
            )

    def _piece(self, request: Request) -> tuple[Answer, Event]:
        number = read_table(request.body, ("piece",))["piece"]
        if type(number) is not int or not 1 <= number <= self.sale.count:
            raise ParseError(
                "malformed-request", f"there is no piece {number!r:.40}, only 1 to {self.sale.count}"
            )
        if self.sale.is_free(number):
            self._file.require([number])
            return self._part(number, free=True), Event("piece", request.session, piece=number)
        failure: MpchanError | None = None
        for name, sale in self._sessions.find(request.session).items():
            try:
                paid = self._require_paid(name, sale, number)
            except MpchanError as error:
                failure = error
                continue
            self._file.require([number])
            part = self._part(number, free=sale.is_free(number))
            return part, Event("piece", request.session, name[:16], number, paid)
        raise failure or TypeError("a session that is known has a channel")

    def _require_paid(self, name: str, sale: Sale, number: int) -> Amount:
        """A channel pays for a piece, or its offer gives it away; what was paid in it."""
        record = enforce(own_channel_rules(self.wallet, name))
        paid = payee.received_total(record.state)
        if sale.is_free(number):
            return paid
        if number not in sale.paid_pieces(paid):
            raise NotPossible("piece-unpaid", f"{paid} were paid, which does not pay for piece {number}")
        if number not in sale.paid_pieces(self._collectable(record)):
            raise _unconfirmed(f"piece {number} is paid for")
        return paid

    def _collectable(self, record: PayeeRecord) -> Amount:
        """What nobody can take back.

        The best update is that: it is final before the refund is. What a settlement pays on top of it counts once the
        chain has it deep enough: it may come so late that the refund gets into a block first.
        """
        total, best = payee.received_total(record.state), payee.best_of(record.state)
        sure = Amount(0) if best is None else best.paid
        if total == sure:
            return sure
        return total if payee.is_settled(record.state, gather_facts(self.chain, record.terms)) else sure

    def _part(self, number: int, *, free: bool = False) -> Piece:
        return Piece(self._file.path, self.sale.start_of(number), self.sale.length_of(number), free)

    def _settlement(self, request: Request) -> tuple[Answer, Event]:
        psbt = read_psbt(request.body)
        name, sale = self._named(request.session, psbt)
        self._require_even(psbt, enforce(receiving_rules(self.wallet, self.chain, psbt)), sale)
        result = party.settle(self.wallet, self.chain, psbt)
        self._sessions.take_in(request.session, name)
        self.note_close()
        paid, pending = Amount(result.paid_sat), Amount(result.pending_sat)
        event = Event("settlement", request.session, name[:16], paid=paid, pending=pending)
        return Message(bytes.fromhex(result.hex)), event

    # whose is what --------------------------------------------------------------------------------

    def _named(self, session: str, psbt: Psbt) -> tuple[str, Sale]:
        """The channel of a session whose funding a message spends, or that it brings, and what it sells."""
        enforce(single_input_rules(psbt))
        name = psbt.tx.inputs[0].outpoint.name
        brought = brought_offer(self.wallet, psbt)
        if brought is not None:
            self._require_own_wish(session, brought)
            return name, sale_of(brought, self.sale)
        sale = self._sessions.find(session, lambda known: known == name).get(name)
        if sale is None:
            raise Refused("other-session", "the message belongs to another session's channel")
        return name, sale

    def session_of(self, name: str) -> str | None:
        """The session that a channel serves; None for a channel of something else."""
        return self._sessions.session_of(name)


def _unconfirmed(what: str) -> TooEarly:
    return TooEarly("settlement-unconfirmed", f"{what} by a settlement that no block holds deep enough yet")


def _for_the_buyer(error: MpchanError) -> MpchanError:
    """What a buyer learns of an error: of our disk, our chain and our mistakes that there is one, and no more."""
    if isinstance(error, (StorageError, ChainError, BugRefusal)):
        return type(error)(error.slug, "the seller cannot do it now, for reasons of its own")
    return error
