"""A payer on the wire: credentials made with the payer's commands, one by one, as a test wants them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from mpchan.channel.construction.registry import construction_of
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms
from mpchan.http.wire.challenge import Challenge, challenges_in
from mpchan.http.wire.credential import Close, Credential, Open, Payload, Prepare, Signed, Voucher
from mpchan.http.wire.encoding import from_base64url
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import SessionRequest
from mpchan.party import payer
from mpchan.units import Amount
from mpchan.wallet.payer_record import PayerRecord
from support.party import Pair, psbt


def challenges_of(response: Any) -> list[Challenge]:
    """What an answer asks for."""
    return challenges_in(response.headers.get_list("www-authenticate"))


def receipt_of(response: Any) -> Receipt:
    """What a paid answer brings."""
    return Receipt.from_header(response.headers["payment-receipt"])


class RawPayer:
    """A channel of the pair's payer, and what it sends."""

    def __init__(self, pair: Pair, challenge: Challenge) -> None:
        self.pair = pair
        self.challenge = challenge
        self.request = SessionRequest.decode(challenge.request)
        self.name = ""
        self.total, self.number = 0, 0

    @property
    def record(self) -> PayerRecord:
        return self.pair.payer_record(self.name)

    @property
    def terms(self) -> Terms:
        return self.record.terms

    @property
    def channel(self) -> str:
        return str(self.terms.outpoint)

    @property
    def key(self) -> ChannelKey:
        return self.pair.payer.keys.key_of(self.record)

    # opening --------------------------------------------------------------------------------------

    def prepare(self, deposit: int) -> Payload | None:
        """The request for the refund; None where nothing is exchanged before the funding, which has left then."""
        text = self.request.offer.to_toml()
        opened = payer.open_channel(self.pair.payer, self.pair.chain, text, Amount(deposit))
        self.name = f"{opened.funding_txid}-{opened.funding_vout}"
        if not construction_of(self.request.offer).has_exchange:
            return None
        return Prepare(bytes.fromhex(opened.hex))

    def fund(self, problem: Mapping[str, Any]) -> None:
        """Take the refund that the server has signed, and send the funding."""
        reply = from_base64url(problem["psbt"])
        payer.fund(self.pair.payer, self.pair.chain, psbt(reply.hex()))

    def opening(self, first: int, *, shown: bool = False) -> Open:
        """The channel with its first voucher.

        Args:
            shown: whether the server looks for the funding by itself.
        """
        terms, funding = self.terms, self.record.funding
        assert funding is not None
        payment = payer.pay_ahead(self.pair.payer, self.pair.chain, self.name, Amount(first))
        signature = terms.lock.signature_from(psbt(payment.hex), terms.payer_key)
        self.total, self.number = first, 1
        return Open(
            self.channel,
            None if shown else funding.to_bytes(),
            terms.payer_key,
            terms.payer_script,
            terms.refund_lock_time.value,
            terms.offer.offer_id,
            terms.offer.token,
            Signed(first, self._numbered(1), signature),
        )

    # paying ---------------------------------------------------------------------------------------

    def _numbered(self, number: int) -> int | None:
        form = construction_of(self.terms.offer).form(self.terms)
        assert form is not None
        return None if form.last is None else number

    def signed(self, total: int) -> Signed:
        """The payer's word for a total, which no file holds."""
        form = construction_of(self.terms.offer).form(self.terms)
        assert form is not None
        if total > self.total:
            self.total, self.number = total, self.number + 1
        return Signed(total, self._numbered(self.number), self.key.sign_update_in(form, self.number, total))

    def voucher(self, total: int) -> Voucher:
        """A voucher of this total."""
        return Voucher(self.channel, self.signed(total))

    def close(self, total: int) -> Close:
        """The settlement of this total."""
        text = payer.settle(self.pair.payer, self.pair.chain, self.name, Amount(total)).hex
        signature = self.terms.lock.signature_from(psbt(text), self.terms.payer_key)
        return Close(self.channel, Signed(total, None, signature))

    def close_at(self, total: int) -> Close:
        """The settlement of a total, which no file holds."""
        signature = self.key.sign_settlement(self.terms, Amount(total))
        return Close(self.channel, Signed(total, None, signature))

    def headers(self, payload: Payload, key: str | None = None) -> dict[str, str]:
        """The headers of a request that pays.

        Args:
            key: its ``Idempotency-Key``; a new one where that is ``new``.
        """
        found = {"authorization": Credential(self.challenge.echo(), payload).header()}
        if key is not None:
            found["idempotency-key"] = secrets.token_hex(8) if key == "new" else key
        return found
