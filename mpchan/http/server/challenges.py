"""What a request is asked for: challenges with terms of their own, of which the server keeps nothing.

Each challenge carries an offer that was made for it. Whoever comes back with it shows both: the challenge is known
again by its id, the offer by its token. So a stranger costs nothing that lasts.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpchan.chain.base import Chain
from mpchan.channel.construction.registry import for_connections
from mpchan.channel.offer import Offer, require_scheme
from mpchan.errors import ParseError, Refused, UsageError
from mpchan.http.server.prices import Asked, Price
from mpchan.http.wire.challenge import INTENT, METHOD, Challenge, named, timestamp_text
from mpchan.http.wire.encoding import to_base64url, to_text
from mpchan.http.wire.session import SessionRequest, Snapshot
from mpchan.party.offers.offering import drafted, next_address, set_rate, starting_terms, stated_by
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

CHALLENGE_SECONDS = 3600
OFFER_SECONDS = 24 * 3600
"""So long a challenge is answered, and a channel may begin under its offer."""

MOVE_SECONDS = 600
"""So long one address serves at least, however many channels close."""

USUAL_DEPOSIT = 100_000
"""Satoshi that are suggested for a channel, or a hundred times the price where that is more."""

MOST_CHALLENGE_BYTES = 3_200
"""Of the challenges of one answer in all: with its other headers that stays below 3.5 kB, and nginx takes 4."""

MOST_REALM_LENGTH = 100
MOST_DESCRIPTION_LENGTH = 150

_DRAFT_SECONDS = 60
"""So long the chain's fee rate and tip are taken for new."""


class Challenges:
    """The challenges of one server. Made and used by the thread that owns the wallet; checked by any.

    Args:
        realm: what the server calls itself.
        schemes: the constructions that it takes, the best first; a challenge for each.
        deposit: satoshi, as ``suggestedDeposit``; None for the usual.
        server: its name among several behind one address; it stands in ``opaque``.
        clock: seconds since 1970.

    Raises:
        UsageError: ``malformed-realm``.
    """

    def __init__(
        self,
        wallet: Wallet,
        chain: Chain,
        *,
        realm: str,
        schemes: Sequence[str] = (),
        deposit: int | None = None,
        server: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < len(realm) <= MOST_REALM_LENGTH or not realm.isascii() or not realm.isprintable():
            raise UsageError(
                "malformed-realm",
                f"a realm is a line of 1 to {MOST_REALM_LENGTH} characters of ASCII: {realm!r:.100}",
            )
        self.realm = realm
        self._schemes = tuple(schemes) or for_connections()[:1]
        for scheme in self._schemes:
            require_scheme(scheme)
        self._wallet = wallet
        self._chain = chain
        self._deposit = deposit
        self._server = server
        self._clock = clock
        self._secret = wallet.keys.challenge_secret()
        with wallet.lock():
            self._generation = wallet.offers.need_generation()
        self._drafts: dict[tuple[str, tuple[tuple[str, Any], ...]], tuple[float, Offer]] = {}
        self._move()

    def _move(self) -> None:
        with self._wallet.lock():
            keys = self._wallet.fresh_keys()
            self._index = keys.next_index("receive")
            self._address = next_address(keys, self._wallet.network)
        self._moved = self._clock()
        self._drafts.clear()

    def move(self) -> None:
        """A close has paid to the address: what comes next gets another one, but not for every one of many closes."""
        if self._clock() >= self._moved + MOVE_SECONDS:
            self._move()

    def claim(self, offer: Offer) -> None:
        """A channel begins under an offer: its address is no other one's any more, which is on disk on return.

        Until then no index is taken. A server that starts again and again would leave a row of addresses to which
        nothing was ever paid, and the search for a restored wallet's coins ends at such a row.
        """
        if offer.payee_address == self._address and self._wallet.keys.next_index("receive") <= self._index:
            with self._wallet.lock():
                self._wallet.fresh_keys().advance(receive=self._index + 1)

    # made -----------------------------------------------------------------------------------------

    def make(
        self,
        asked: Asked,
        price: Price,
        *,
        channel: str | None = None,
        scheme: str | None = None,
        snapshot: Snapshot | None = None,
    ) -> list[Challenge]:
        """What a request is answered with that has not paid: one challenge for each construction.

        Where a proxy would not take the headers with all of them, the last ones are left out.

        Args:
            channel: ``txid:vout`` of a channel that the server knows; with its ``scheme`` and ``snapshot`` it stands in
                the challenge of that construction alone, and that is the first.

        Raises:
            ChainError: out of reach, where its fee rate or tip is needed.
            MpchanError: the wallet's terms make no offer.
        """
        of_channel = {scheme: (channel, snapshot)} if channel is not None else {}
        schemes = self._schemes if scheme is None else (scheme, *(s for s in self._schemes if s != scheme))
        made: list[Challenge] = []
        room = MOST_CHALLENGE_BYTES
        for each in schemes:
            offer = self.offer(each, price.terms)
            challenge = self._challenge(asked, price, offer, *of_channel.get(each, (None, None)))
            room -= len(challenge.header())
            if made and room < 0:
                break
            made.append(challenge)
        return made

    def _challenge(
        self, asked: Asked, price: Price, offer: Offer, channel: str | None, snapshot: Snapshot | None
    ) -> Challenge:
        deposit = price.deposit or self._deposit or max(USUAL_DEPOSIT, 100 * price.reserved)
        request = SessionRequest(
            amount=price.amount,
            unit_type=price.unit,
            suggested_deposit=min(max(deposit, offer.min_capacity.sat), offer.max_capacity.sat),
            recipient=offer.payee_address,
            offer=offer,
            sale=price.sale,
            min_voucher_delta=offer.min_increment.sat,
            channel=channel,
            snapshot=snapshot,
        )
        return named(
            self._secret,
            Challenge(
                id="",
                realm=self.realm,
                method=METHOD,
                intent=INTENT,
                request=request.encode(),
                expires=timestamp_text(self._clock() + CHALLENGE_SECONDS),
                opaque=self._opaque(asked, price),
                description=_shown(price.description),
            ),
        )

    def _opaque(self, asked: Asked, price: Price) -> str | None:
        table = {} if self._server is None else {"server": self._server}
        if price.once:
            # a path has no bound that a header would take
            what = f"{asked.method} {asked.path}".encode(errors="surrogateescape")
            table["request"] = to_base64url(hashlib.sha256(what).digest())
        return to_text(table) if table else None

    def offer(self, scheme: str, changes: Mapping[str, Any]) -> Offer:
        """An offer with an id and a key of its own, of which nothing is kept."""
        what = scheme, tuple(sorted(changes.items()))
        made, draft = self._drafts.get(what, (0.0, None))
        now = self._clock()
        if draft is None or not made <= now < made + _DRAFT_SECONDS:
            draft = self._draft(scheme, changes)
            self._drafts[what] = now, draft
        fresh = replace(draft, offer_id=os.urandom(16).hex(), expires=int(now) + OFFER_SECONDS)
        return self._wallet.keys.own_offer(fresh)

    def _draft(self, scheme: str, changes: Mapping[str, Any]) -> Offer:
        named_terms = {"scheme": scheme, **changes}
        terms = {**starting_terms(self._wallet, named_terms, None), **named_terms}
        terms.update(stated_by(self._chain, terms))
        set_rate(terms, self._chain, self._wallet.config.limits)
        return replace(drafted(self._wallet, terms, self._address), generation=self._generation, memo="")

    # checked --------------------------------------------------------------------------------------

    def require(self, answered: Challenge, asked: Asked, price: Price, *, opens: bool = False) -> None:
        """A credential answers a challenge of this server, in time, and for what that was made.

        Args:
            opens: whether it opens a channel: its offer, which lives longer, says how long that may take.

        Raises:
            Refused: ``challenge-foreign``, ``challenge-expired``, ``challenge-elsewhere``.
        """
        if (answered.realm, answered.method, answered.intent) != (self.realm, METHOD, INTENT):
            raise Refused("challenge-foreign", "the challenge is of another realm, method or intent")
        if not answered.is_named(self._secret):
            raise Refused("challenge-foreign", "the challenge was not made here, or it was changed")
        if answered.opaque != self._opaque(asked, price):
            raise Refused("challenge-elsewhere", "the challenge was made for another request, or server")
        expires = answered.expires_at()
        lasts = OFFER_SECONDS - CHALLENGE_SECONDS if opens else 0
        if expires is None or self._clock() >= expires + lasts:
            raise Refused("challenge-expired", f"the challenge expired at {answered.expires}")

    def offered(self, answered: Challenge) -> Offer:
        """The offer in a challenge that ``require`` has let pass.

        Raises:
            Refused: ``challenge-foreign``.
        """
        try:
            return SessionRequest.decode(answered.request).offer
        except ParseError as error:
            raise Refused("challenge-foreign", error.message) from None


def _shown(description: str | None) -> str | None:
    """A description as a header takes it: nothing rests on it."""
    if description is None or not description.isascii() or not description.isprintable():
        return None
    return description[:MOST_DESCRIPTION_LENGTH]
