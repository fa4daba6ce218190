"""One request that has a price, from its credential to the end of its answer."""

from __future__ import annotations

import hashlib
from typing import Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.errors import MpchanError, NotPossible, ParseError, Refused
from mpchan.http.server.answers import Answer, problem_of, refused, send_answer
from mpchan.http.server.asgi import App, Message, Receive, Scope, Send, asked_of, target_of, values_of
from mpchan.http.server.desk import Desk
from mpchan.http.server.page import page as make_page
from mpchan.http.server.page import price_text, wants_page
from mpchan.http.server.prices import Price
from mpchan.http.server.serving import (
    PRIVATE,
    RECEIPT,
    Counter,
    Serving,
    now,
    receipt_of,
    wire_name,
    with_receipt,
)
from mpchan.http.wire import credential as wire
from mpchan.http.wire.challenge import Challenge
from mpchan.http.wire.credential import Credential, is_payment
from mpchan.http.wire.encoding import to_base64url
from mpchan.http.wire.problems import Problem
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import SessionRequest, Snapshot
from mpchan.party.register.asks import Ask, Repeated, Reserved, Short, Signed, Taken
from mpchan.units import OutPoint

MOST_REPEATED_BYTES = 1 << 20
"""A request with an Idempotency-Key has no longer body: all of it is read before it is judged."""

_NOTHING = "0" * 64


class Exchange:
    """One request.

    Args:
        app: what serves it once it is paid for.
        scope, receive, send: as ASGI has them; ``scope`` without headers that only this server sets.
    """

    def __init__(
        self, counter: Counter, app: App, price: Price, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._counter = counter
        self._cashier = counter.cashier
        self._app = app
        self._price = price
        self._scope = scope
        self._receive = receive
        self._send = send
        self._asked = asked_of(scope)
        self._is_bare = scope["method"] == "HEAD"

    async def run(self) -> None:
        """Serve it, or say what it lacks."""
        values = [value for value in values_of(self._scope, b"authorization") if is_payment(value)]
        try:
            if len(values) > 1:
                raise Refused("credential-twice", "two Payment credentials in one request")
            if not values:
                await self._refuse(Problem("payment-required", f"this costs {price_text(self._price)}"))
                return
            await self._answer(Credential.from_header(values[0]))
        except MpchanError as error:
            await self._refuse(*problem_of(error))

    async def _answer(self, credential: Credential) -> None:
        payload, challenge = credential.payload, credential.answered()
        opens = isinstance(payload, (wire.Open, wire.Prepare))
        self._cashier.challenges.require(challenge, self._asked, self._price, opens=opens)
        if isinstance(payload, wire.Prepare):
            await self._prepare(payload, challenge)
        elif isinstance(payload, wire.Close):
            await self._close(payload, challenge)
        else:
            if isinstance(payload, wire.Open):
                await self._open(payload, challenge)
            signed = payload.first if isinstance(payload, wire.Open) else payload.signed
            await self._pay(challenge, payload.channel, signed)

    # channels -------------------------------------------------------------------------------------

    async def _prepare(self, payload: wire.Prepare, challenge: Challenge) -> None:
        if self._is_bare:
            raise ParseError("action-unsupported", "prepare: its answer has a body, which HEAD has not")
        psbt = Psbt.from_bytes(payload.psbt)
        offer = self._cashier.challenges.offered(challenge)
        source = self._source()
        signed = await self._cashier.do(lambda desk: desk.sign_refund(psbt, offer, source))
        text = "the refund is signed: open the channel once its funding is there"
        await self._refuse(Problem("refund-signed", text, members={"psbt": to_base64url(signed)}))

    async def _open(self, payload: wire.Open, challenge: Challenge) -> None:
        offer = self._cashier.challenges.offered(challenge)
        await self._cashier.do(lambda desk: desk.open(payload, offer))

    async def _close(self, payload: wire.Close, challenge: Challenge) -> None:
        name, signed = _name(payload.channel), payload.signed
        closed = await self._cashier.do(lambda desk: desk.close(name, signed))
        if closed is None:
            text = "requests are still in flight in this channel"
            await self._refuse(Problem("request-in-flight", text, 402), 1)
        elif isinstance(closed, Short):
            await self._refuse_short(closed)
        else:
            receipt = Receipt(
                challenge.id, payload.channel, closed.paid_sat, closed.paid_sat, now(), tx_hash=closed.txid
            )
            await self._send_answer(Answer(204, [(RECEIPT, receipt.header().encode()), PRIVATE]))

    def _source(self) -> str | None:
        client = self._scope.get("client")
        return None if client is None else str(client[0])

    # payments -------------------------------------------------------------------------------------

    async def _pay(self, challenge: Challenge, channel: str, signed: Signed) -> None:
        key, digest = (None, _NOTHING) if self._is_bare else await self._key_and_digest()
        ask = Ask(
            _name(channel),
            signed,
            0 if self._is_bare else self._price.reserved,
            key,
            digest,
            lasting=self._price.lasting is not None,
        )
        verdict = await self._cashier.ask(ask)
        if isinstance(verdict, MpchanError):
            raise verdict
        if isinstance(verdict, Short):
            await self._refuse_short(verdict)
        elif isinstance(verdict, Taken):
            receipt = receipt_of(challenge, verdict.standing, verdict.standing.spent)
            await self._send_answer(Answer(200, [(RECEIPT, receipt), PRIVATE]))
        elif isinstance(verdict, Repeated):
            await self._repeat(challenge, verdict, key)
        else:
            paid = self._scope.get("extensions", {}).get("mpchan.paid")
            if paid is not None:
                paid["note"]()
            await self._serve(challenge, verdict, key)

    async def _key_and_digest(self) -> tuple[str | None, str]:
        """By what the request is known again, and SHA-256 of what it asks for."""
        keys = values_of(self._scope, b"idempotency-key")
        if len(keys) > 1:
            raise Refused("malformed-key", "two Idempotency-Keys in one request")
        key = self._price.lasting or (_bare_key(keys[0]) if keys else None)
        if key is None:
            return None, _NOTHING
        body = await self._whole_body()
        method = self._scope["method"].encode()
        digest = hashlib.sha256(b"%s %s\n" % (method, target_of(self._scope)) + body)
        return key, digest.hexdigest()

    async def _whole_body(self) -> bytes:
        """The body; the application gets it again."""
        parts: list[bytes] = []
        length, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise NotPossible("client-gone", "the client has gone")
            parts.append(message.get("body", b""))
            length, more = length + len(parts[-1]), message.get("more_body", False)
            if length > MOST_REPEATED_BYTES:
                raise NotPossible(
                    "body-too-large",
                    f"with an Idempotency-Key a body has at most {MOST_REPEATED_BYTES} bytes",
                )
        body, given, rest = b"".join(parts), False, self._receive

        async def receive() -> Message:
            nonlocal given
            if given:
                return await rest()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        self._receive = receive
        return body

    async def _repeat(self, challenge: Challenge, verdict: Repeated, key: str | None) -> None:
        """A request that was paid for before: the same answer, or for what only reads one that is made again."""
        channel = verdict.standing.channel
        if verdict.charged is None:
            raise NotPossible("request-in-flight", "the same request is being served")
        kept = self._counter.kept.find(channel, self._kept_as(key))
        receipt = receipt_of(challenge, verdict.standing, self._counter.spent(verdict.standing))
        if kept is not None:
            headers = with_receipt(kept.headers, receipt)
            await self._send_answer(Answer(kept.status, headers, kept.body))
        elif self._asked.method == "GET":
            await self._serve(challenge, verdict, key)
        else:
            gone = Problem("response-gone", "the request was paid for, and its answer is gone", 409)
            answer = refused(gone)
            await self._send_answer(Answer(answer.status, [*answer.headers, (RECEIPT, receipt)], answer.body))

    async def _serve(self, challenge: Challenge, granted: Union[Reserved, Repeated], key: str | None) -> None:
        """Let the application answer."""
        kept_as = self._kept_as(key)
        serving = Serving(self._counter, self._price, challenge, granted, key, kept_as, bare=self._is_bare)
        await serving.run(self._app, self._scope, self._receive, self._send)

    def _kept_as(self, key: str | None) -> str:
        """By what the answer is kept: a key that a client chose is none of those that last."""
        return f"{'key' if self._price.lasting is None else 'lasting'}/{key}"

    # what is not served ---------------------------------------------------------------------------

    async def _refuse_short(self, short: Short) -> None:
        standing = short.standing
        snapshot = Snapshot(
            wire_name(standing.channel),
            standing.accepted,
            standing.spent,
            short.required,
            standing.deposit,
            standing.number,
            standing.signature,
        )
        text = {
            "voucher-low": f"a total of {standing.accepted} sat was accepted before",
            "delta-too-small": f"the least total that is taken next is {short.required} sat",
        }.get(short.slug, f"the total does not pay for it: {short.required} sat are required")
        members = {"requiredCumulative": str(short.required), "acceptedCumulative": str(standing.accepted)}
        await self._refuse(Problem(short.slug, text, members=members), snapshot=snapshot)

    async def _refuse(
        self, problem: Problem, retry_after: int | None = None, *, snapshot: Snapshot | None = None
    ) -> None:
        """Answer with a problem; where that is a missing payment, with fresh challenges."""

        def challenges(desk: Desk) -> list[Challenge]:
            scheme = None if snapshot is None else desk.scheme_of(_name(snapshot.channel))
            channel = None if snapshot is None else snapshot.channel
            return desk.challenges.make(
                self._asked, self._price, channel=channel, scheme=scheme, snapshot=snapshot
            )

        made: list[Challenge] = []
        page = None
        if problem.status == 402:
            try:
                made = await self._cashier.do(challenges)
            except MpchanError as error:
                problem, retry_after = problem_of(error)
                problem = Problem("seller-busy", problem.detail, 503)
        # what answers a credential is for programs, whatever they accept
        unpaid = problem.slug == "payment-required"
        if made and unpaid and wants_page(self._asked.headers.get("accept", "")):
            page = self._page(made[0])
        await self._send_answer(refused(problem, made, retry_after, page))

    def _page(self, challenge: Challenge) -> bytes:
        request = SessionRequest.decode(challenge.request)
        place, _, pin = (self._counter.address or "").partition("#")
        if not place:
            hosts = values_of(self._scope, b"host")
            place = f"{self._scope.get('scheme', 'https')}://{hosts[0] if hosts else ''}"
        url = place.rstrip("/") + target_of(self._scope).decode("latin-1") + (f"#{pin}" if pin else "")
        deposit = request.suggested_deposit or self._price.reserved
        return make_page(challenge.realm, url, self._price, deposit)

    async def _send_answer(self, answer: Answer) -> None:
        await send_answer(answer, self._send, bare=self._is_bare)


def _bare_key(value: str) -> str:
    """The key in its header: a string of structured fields (RFC 8941) without its quotes, or as it stands."""
    return value[1:-1] if len(value) > 2 and value[0] == value[-1] == '"' else value


def _name(channel: str) -> str:
    """The name of a channel's files."""
    return OutPoint.parse(channel).name
