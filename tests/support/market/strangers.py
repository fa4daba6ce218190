"""Strangers in numbers: each wishes, asks for the refund of a funding that will never be, and is gone."""

from __future__ import annotations

from hashlib import sha256

from support.market.market import PRICE, Market
from support.party import psbt
from support.protocol import scheme_of, unsigned_message

from mpchan.bitcoin.script import key_to_p2wpkh_script
from mpchan.bitcoin.signature import PrivateKey
from mpchan.channel.carried import with_offer
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms, funding_output
from mpchan.party.offers.selling import Wish
from mpchan.transport.base import Answer, Message, Request
from mpchan.units import Amount, Height, OutPoint, Txid


class Stranger:
    """One of them, by its number.

    Attributes:
        source: where it comes from; None for a mailbox.
    """

    def __init__(self, number: int, source: str | None = None) -> None:
        digest = sha256(b"stranger" + number.to_bytes(4, "big")).digest()
        self.session = digest[:16].hex()
        self.source = source
        self._key = PrivateKey(digest)
        self._outpoint = OutPoint(Txid(sha256(digest).digest()), number % 4)

    def ask(self, market: Market, kind: str, body: bytes) -> Answer:
        """One request of its session."""
        return market.seller.answer(Request(self.session, 1, kind, body, self.source))

    def wish(self, market: Market, pieces: str) -> Offer:
        """An offer that is made out to it."""
        wish = Wish(market.own.offer.offer_id, self.session, pieces)
        answer = self.ask(market, "offer", wish.to_bytes())
        assert isinstance(answer, Message), answer
        return Offer.from_toml(answer.body.decode())

    def terms(self, market: Market, pieces: str = "1-5") -> Terms:
        """Of a channel that will never be."""
        offer = self.wish(market, pieces)
        script = key_to_p2wpkh_script(self._key.public_key.sec)
        earliest = Height(market.chain.tip().height + offer.default_refund_delay)
        refund_at = construction_of(offer).refund_at(earliest)
        value = funding_output(offer, offer.max_capacity, self._key.public_key, script, refund_at).value
        return Terms(offer, self._outpoint, value, self._key.public_key, script, refund_at)

    def request(self, market: Market, pieces: str = "1-5") -> bytes:
        """Its request for a refund, which breaks no rule."""
        terms = self.terms(market, pieces)
        request = with_offer(unsigned_message(terms, scheme_of(terms).refund()), terms.offer)
        return bytes.fromhex(request.to_hex())

    def payment(self, market: Market, pieces: str = "1-5") -> bytes:
        """A first payment, which breaks no rule but that there is no money."""
        terms = self.terms(market, pieces)
        transaction = terms.schedule.build(terms.schedule.update(1, Amount(PRICE)))
        signature = terms.lock.sign_checked(self._key, transaction)
        return bytes.fromhex(terms.lock.message(transaction, terms.payer_key, signature).to_hex())

    def opens(self, market: Market, pieces: str = "1-5") -> bool:
        """Whether its refund is signed."""
        answer = self.ask(market, "refund", self.request(market, pieces))
        if not isinstance(answer, Message):
            return False
        assert psbt(answer.body.hex()).inputs[0].partial_sigs
        return True
