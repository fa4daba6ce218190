"""How a program's first request to a server opens a channel, and how a later one goes on with that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.base import Chain
from mpchan.channel import payer as protocol
from mpchan.channel.construction.base import Form
from mpchan.channel.construction.registry import construction_of
from mpchan.errors import NotPossible
from mpchan.http.client.demands import Demand
from mpchan.http.client.errand import Errand, Step
from mpchan.http.wire.challenge import challenge_of
from mpchan.http.wire.credential import MAX_CREDENTIAL_BYTES, Open, Prepare, Signed
from mpchan.http.wire.session import SessionRequest
from mpchan.party import payer
from mpchan.party.spending.limits import Limits
from mpchan.units import Amount, OutPoint
from mpchan.values import replace
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purpose import Purpose
from mpchan.wallet.wallet import Wallet

_ROOM_FOR_FUNDING = MAX_CREDENTIAL_BYTES - 4_608
"""Of a credential: what is left beside a challenge with all terms, as base64url of hex."""


class Opener:
    """Opens channels for one payer."""

    def __init__(
        self,
        wallet: Wallet,
        chain: Chain,
        limits: Limits,
        deposit: int | None,
        warn: Callable[[Sequence[str]], None],
    ) -> None:
        self._wallet = wallet
        self._chain = chain
        self._limits = limits
        self._deposit = deposit
        self._warn = warn

    def begin(self, errand: Errand, demands: Sequence[Demand], locked: int) -> Step:
        """Open a channel under the first of these challenges.

        Args:
            locked: as ``Limits.allow_deposit`` has it.

        Raises:
            NotPossible: ``limit-needed``, ``price-too-high``; the wallet cannot fund it.
        """
        demand = demands[0]
        request = demand.request
        first = self._first(errand, request)
        self._limits.allow_price(errand.origin, request.amount)
        wanted = self._deposit or request.suggested_deposit or first
        capacity = min(max(wanted, first, request.offer.min_capacity.sat), request.offer.max_capacity.sat)
        self._limits.allow_deposit(errand.origin, capacity, locked)
        echo = demand.challenge.echo()
        purpose = Purpose(errand.origin, demand.challenge.realm, errand.what, echo)
        opened = payer.open_channel(
            self._wallet, self._chain, request.offer.to_toml(), Amount(capacity), purpose=purpose
        )
        self._warn(opened.warnings)
        name = OutPoint.parse(f"{opened.funding_txid}:{opened.funding_vout}").name
        return self._next(errand, demand, payer.load(self._wallet, name))

    def resume(self, errand: Errand, record: PayerRecord) -> Step:
        """Go on with a channel that was begun, under the challenge that it was begun under."""
        if record.purpose is None or record.purpose.challenge is None:
            raise TypeError("only a channel that the server has not taken goes on so")
        challenge = challenge_of(record.purpose.challenge)
        demand = Demand(challenge, SessionRequest.decode(challenge.request))
        self._limits.allow_price(errand.origin, demand.request.amount)
        return self._next(errand, demand, record)

    def fund(self, errand: Errand, step: Step, reply: Psbt) -> Step:
        """Take the signed refund in, and send the funding.

        Raises:
            MpchanError: as ``payer fund``: the refund is not what it should be.
        """
        funded = payer.fund(self._wallet, self._chain, reply)
        self._warn(funded.warnings)
        return self._opening(errand, step.demand, payer.load(self._wallet, step.channel))

    def taken(self, name: str) -> None:
        """The server knows the channel: from now on vouchers do."""
        with self._wallet.channels.lock(name, in_turn=True):
            record = payer.load(self._wallet, name)
            if record.purpose is not None and record.purpose.challenge is not None:
                purpose = replace(record.purpose, challenge=None)
                self._wallet.channels.save(replace(record, purpose=purpose), "taken")

    def _next(self, errand: Errand, demand: Demand, record: PayerRecord) -> Step:
        if isinstance(record.state, (protocol.Opening, protocol.Secured)):
            asked = payer.open_channel(
                self._wallet, self._chain, record.terms.offer.to_toml(), record.terms.capacity
            )
            return Step(record.terms.name, demand, Prepare(bytes.fromhex(asked.hex)))
        if record.funding is not None and self._chain.sends:
            # the program before may have ended before it did
            payer.send_funding_again(self._wallet, self._chain, record.terms.name)
        return self._opening(errand, demand, record)

    def _first(self, errand: Errand, request: SessionRequest) -> int:
        """The first total: it is never below what the payee can collect."""
        from mpchan.bitcoin.script import dust_limit

        offer = request.offer
        least = max(dust_limit(offer.payee_script).sat, offer.min_increment.sat)
        return max(request.amount + errand.ahead, least)

    def _opening(self, errand: Errand, demand: Demand, record: PayerRecord) -> Step:
        """The channel with its first total, which is on the disk then."""
        terms, funding = record.terms, record.funding
        if not isinstance(record.state, protocol.Funded):
            raise NotPossible("not-funded", f"channel {terms.channel_id} is not open any more")
        if not record.updates:
            first = Amount(self._first(errand, demand.request))
            self._limits.take(errand.origin, first.sat)
        else:
            first = record.paid
        payment = payer.pay_ahead(self._wallet, self._chain, terms.name, first)
        signed = signed_in(construction_of(terms.offer).form(terms), payment.hex)
        data = None if funding is None else funding.to_bytes()
        opening = Open(
            str(terms.outpoint),
            data if data is not None and 8 * len(data) // 3 < _ROOM_FOR_FUNDING else None,
            terms.payer_key,
            terms.payer_script,
            terms.refund_lock_time.value,
            terms.offer.offer_id,
            terms.offer.token,
            signed,
        )
        return Step(terms.name, demand, opening, signed.total)


def signed_in(form: Form | None, message: str) -> Signed:
    """The total and the signature in a message of ours, as the wire has them."""
    read = None if form is None else form.read(message)
    if read is None:
        raise TypeError("a channel that is paid by the request has a form")
    number, total, signature = read
    return Signed(total, number, signature)
