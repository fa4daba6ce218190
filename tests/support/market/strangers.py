"""Strangers in numbers: each wishes, asks for the refund of a funding that will never be, and is gone."""

from __future__ import annotations

from hashlib import sha256

from support.market.market import Market
from support.party import psbt
from support.protocol import scheme_of, unsigned_message

from mpchan.bitcoin.script import key_to_p2wpkh_script
from mpchan.bitcoin.signature import PrivateKey
from mpchan.channel.carried import with_offer
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms, funding_output
from mpchan.party.offers.selling import Wish
from mpchan.transport.base import Answer, Message, Request
from mpchan.units import Height, OutPoint, Txid


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

    def request(self, market: Market, pieces: str = "1-5") -> bytes:
        """Its request for a refund, which breaks no rule."""
        offer = self.wish(market, pieces)
        script = key_to_p2wpkh_script(self._key.public_key.sec)
        value = funding_output(offer, offer.max_capacity, self._key.public_key, script).value
        height = Height(market.chain.tip().height + offer.default_refund_delay)
        terms = Terms(offer, self._outpoint, value, self._key.public_key, script, height)
        request = with_offer(unsigned_message(terms, scheme_of(terms).refund()), offer)
        return bytes.fromhex(request.to_hex())

    def opens(self, market: Market, pieces: str = "1-5") -> bool:
        """Whether its refund is signed."""
        answer = self.ask(market, "refund", self.request(market, pieces))
        if not isinstance(answer, Message):
            return False
        assert psbt(answer.body.hex()).inputs[0].partial_sigs
        return True
