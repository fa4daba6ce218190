"""What holds whenever one side of a sale cheats: the helpers of the hostile tests, and the ways to cheat."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.market.market import PIECE, PRICE, Bend, Market, honest, piece_of

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PrivateKey
from mpchan.channel.construction.base import Meant, settlement
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError, NotPossible
from mpchan.market.output import part_path
from mpchan.party import payer
from mpchan.party.common import gather_facts
from mpchan.party.offers.selling import Wish
from mpchan.results.opening import Opened
from mpchan.sale.manifest import VOUCHER_TAG, sale_of, voucher_text
from mpchan.transport.base import Answer, Message, Piece, Refusal, Request
from mpchan.units import Amount
from mpchan.values import replace

# a hostile seller ---------------------------------------------------------------------------------


def refusing(slug: object = "no", message: object = "never", code: object = 5) -> Refusal:
    """A refusal with anything in it."""
    return Refusal(json.dumps({"error": slug, "message": message, "hint": None, "exit_code": code}).encode())


def from_the(count: int, kind: str, bend: Bend) -> Bend:
    """Honest until the ``count``-th request of a kind; that one and the same one again are answered otherwise."""
    seen: list[bytes] = []

    def bent(request: Request, answer: Answer) -> Answer:
        if request.kind == kind and request.body not in seen:
            seen.append(request.body)
        bad = request.kind == kind and len(seen) >= count and seen.index(request.body) == count - 1
        return bend(request, answer) if bad else answer

    return bent


def always(answer: Answer) -> Bend:
    """The same answer, whatever is asked."""
    return lambda request, good: answer


def data(market: Market, content: bytes, announced: int | None = None) -> Piece:
    """A piece with any content."""
    number = len(list(market.directory.glob("bent-*")))
    path = market.directory / f"bent-{number}"
    path.write_bytes(content)
    return Piece(path, 0, len(content) if announced is None else announced)


def resigned(market: Market, answer: Offer, **changes: Any) -> Offer:
    """An offer with other keys in its table or its sale, signed by the seller's own key for vouchers."""
    table = answer.to_dict()
    sale = table["sale"]
    for key, value in changes.items():
        if key in table or key == "ways":
            table[key] = value
        else:
            sale[key] = value
    sale.pop("voucher", None)
    offer = Offer.from_dict(table)
    signer = market.pair.payee.keys.key_of_offer(market.own)
    return replace(
        offer, sale={**sale, "voucher": signer.sign_tagged(VOUCHER_TAG, voucher_text(offer)).hex()}
    )


def cheated(
    market: Market, bend: Bend, slug: str, code: int, *, paid: int, held: int, channel: bool = True
) -> MpchanError:
    """A purchase that a seller's cheating ends, and what holds then; it is told by the error, which is returned.

    The loss is one piece's price at most. No payment has left after the first bad answer. The hint says what may be
    lost, what comes back, and that the same command goes on. What has come is not under its final name. Where the
    seller goes on to answer, it is asked to close the channel, and what is not paid comes back at once.

    Args:
        paid: how many pieces the buyer has paid for in the end.
        held: how many of them it has.
        channel: whether money is locked.
    """
    market.bend = bend
    with pytest.raises(MpchanError) as caught:
        market.buy()
    market.bend = honest
    error = caught.value
    assert (error.slug, error.exit_code) == (slug, code), error.message
    assert error.message.isprintable()
    assert len(error.message) < 700
    assert all(step.text.isprintable() for step in market.steps)
    payments = {request.body for request in market.asked("update")}
    assert len(payments) == paid
    hint = str(error.hint)
    if not channel:
        assert "the same command goes on where it stopped" in hint
        assert "nothing is paid and nothing is locked" in hint
        assert not market.chain.mempool()
        assert (paid, market.asked("funding")) == (0, [])
        return error
    assert market.paid == paid * PRICE
    assert market.pair.payer_record(market.name).updates == paid
    owed = market.paid - held * PRICE
    assert 0 <= owed <= PRICE
    lost = re.search(r"(\d+) sat are lost at most, the price of one piece|nothing is lost", hint)
    assert lost is not None, hint
    assert int(lost[1] or 0) == owed
    back = market.pair.payer_record(market.name).terms.capacity.sat - market.paid
    closes = slug in ("seller-refused", "wrong-piece") and back > 0
    assert len(market.asked("settlement")) == closes or paid == market.sale.count
    assert ("the same command goes on where it stopped" in hint) is not closes
    assert (f"the other {back} sat come back from block" in hint) is (back > 0 and not closes)
    assert (
        f"the close pays the other {back} sat back; once a block holds it, the same command buys" in hint
    ) is closes
    there = held_pieces(market)
    assert len(there) == held
    if len(there) < market.sale.count:
        assert not market.output.exists()
        assert part_path(market.output).exists()
    return error


def held_pieces(market: Market) -> set[int]:
    """The pieces that are right in what the buyer has on disk, whatever its name is now."""
    part = part_path(market.output)
    path = part if part.exists() else market.output
    got, sold = path.read_bytes() if path.exists() else b"", market.file.read_bytes()
    parts = {
        number: slice((number - 1) * PIECE, number * PIECE) for number in range(1, market.sale.count + 1)
    }
    return {number for number, part in parts.items() if got[part] == sold[part]}


def goes_on(market: Market) -> None:
    """The seller is honest again: the same command finishes, and pays for nothing twice.

    It does so in the same channel, unless the seller was asked to close that: then what is paid for comes first, and
    the rest takes another one.
    """
    market.bend = honest
    market.restart()
    closed = bool(market.asked("settlement")) and market.paid < market.sale.count * PRICE
    if closed:
        market.chain.mine(1)
        if market.paid > len(held_pieces(market)) * PRICE:
            with pytest.raises(NotPossible) as caught:
                market.buy()
            assert caught.value.slug == "channel-closed"
    market.buy()
    assert market.is_whole()
    assert not part_path(market.output).exists()
    pair, whole = market.pair, market.sale.count * PRICE
    assert sum(pair.payer_record(name).paid.sat for name in pair.payer.channels.names()) == whole
    assert sum(pair.payee_record(name).paid.sat for name in pair.payee.channels.names()) == whole
    assert len({request.body for request in market.asked("update")}) == market.sale.count
    assert len(pair.payer.channels.names()) == 1 + closed


# a hostile buyer ----------------------------------------------------------------------------------


class Forger:
    """A buyer that makes its requests one by one, with its wallet's keys at hand.

    Attributes:
        name: of its channel, once there is one.
    """

    def __init__(self, market: Market, session: str) -> None:
        self.market = market
        self.session = session
        self.name = ""
        self._number = 0

    def request(self, kind: str, body: bytes | str | Psbt) -> Request:
        """A numbered request: bytes as they are, hex, or a message."""
        self._number += 1
        if isinstance(body, Psbt):
            body = body.to_hex()
        return Request(
            self.session, self._number, kind, bytes.fromhex(body) if isinstance(body, str) else body
        )

    def ask(self, kind: str, body: bytes | str | Psbt) -> Answer:
        """What the seller answers; it has delivered nothing unpaid after it."""
        answer = self.market.seller.answer(self.request(kind, body))
        fair(self.market)
        return answer

    def refused(self, kind: str, body: bytes | str | Psbt, *slugs: str) -> dict[str, Any]:
        """A request that must be refused, for one of these reasons."""
        return turned_away(self.market, self.request(kind, body), *slugs)

    def wish(self, pieces: str, session: str | None = None, offer_id: str | None = None) -> bytes:
        """The request for an offer."""
        return Wish(offer_id or self.market.own.offer.offer_id, session or self.session, pieces).to_bytes()

    def offer(self, pieces: str = "1-5") -> Offer:
        """An offer of its own."""
        answer = self.ask("offer", self.wish(pieces))
        assert isinstance(answer, Message), answer
        return Offer.from_toml(answer.body.decode())

    def opening(self, pieces: str = "1-5") -> Opened:
        """What is begun: the request for a refund, in hex; or the funding, which has left, where none is asked for."""
        offer, pair = self.offer(pieces), self.market.pair
        opened = payer.open_channel(pair.payer, pair.chain, offer.to_toml(), offer.max_capacity)
        self.name = f"{opened.funding_txid}-{opened.funding_vout}"
        return opened

    def open(self, pieces: str = "1-5", *, blocks: int = 1) -> None:
        """A channel; with no block its funding waits in the mempool."""
        opened = self.opening(pieces)
        if self.market.exchanges:
            reply = self.ask("refund", opened.hex)
            assert isinstance(reply, Message), reply
            funded = self.market.pair.fund(reply.body.hex())
            assert isinstance(self.ask("funding", funded.hex), Message)  # type: ignore[arg-type]
        self.market.chain.mine(blocks)

    @property
    def terms(self) -> Terms:
        """Of its channel, or of what may become one."""
        pair = self.market.pair
        is_channel = self.name in pair.payee.channels.names()
        return pair.terms(self.name) if is_channel else pair.payer_record(self.name).terms

    def update(self, number: int, paid: int) -> Psbt:
        """Any update, with a good signature."""
        return self.signed(self.terms.schedule.update(number, Amount(paid)))

    def settlement(self, paid: int) -> Psbt:
        """Any settlement, with a good signature."""
        return self.signed(settlement(Amount(paid)))

    def signed(self, meant: Meant, secret: PrivateKey | None = None) -> Psbt:
        """What is meant, with a good signature.

        Args:
            secret: whose; None for the payer's.
        """
        terms = self.terms
        secret = self.market.pair.payer_secret(self.name) if secret is None else secret
        transaction = terms.schedule.build(meant)
        signature = terms.lock.sign_checked(secret, transaction)
        return terms.lock.message(transaction, secret.public_key, signature)

    def pay(self, pieces: int) -> int:
        """An update for so many pieces in all; the piece that comes."""
        return self.number_of(self.ask("update", self.update(pieces, pieces * PRICE)))

    def piece(self, number: int) -> int:
        """A piece that is paid for; what comes."""
        return self.number_of(self.ask("piece", body_of(number)))

    def number_of(self, answer: Answer) -> int:
        """Which piece an answer is."""
        piece = piece_of(answer)
        number, rest = divmod(piece.offset, PIECE)
        assert (rest, piece.length) == (0, self.market.sale.length_of(number + 1))
        return number + 1

    @property
    def received(self) -> int:
        """What the seller holds in its channel."""
        return self.market.pair.payee_record(self.name).paid.sat


def body_of(number: object) -> bytes:
    """The request for a piece."""
    return json.dumps({"piece": number}).encode()


def fair(market: Market) -> None:
    """The seller has delivered no piece for money that is not paid for, in any of its channels."""
    for name in market.pair.payee.channels.names():
        events = [event for event in market.events if event.channel == name[:16]]
        delivered = {event.piece for event in events} - {None}
        record = market.pair.payee_record(name)
        paid = record.credit(gather_facts(market.chain, record.terms)).paid
        assert paid.sat >= len(delivered) * PRICE
        if delivered:
            assert delivered <= set(sale_of(record.terms.offer, market.sale).paid_pieces(paid))


def turned_away(market: Market, request: Request, *slugs: str) -> dict[str, Any]:
    """A request that is refused: no traceback, nothing on disk changes, what it says is short and harmless."""
    before = market.pair.files()
    answer = market.seller.answer(request)
    assert isinstance(answer, Refusal), answer
    said: dict[str, Any] = json.loads(answer.body)
    assert list(said) == ["error", "message", "hint", "exit_code"]
    assert not slugs or said["error"] in slugs, said
    assert said["exit_code"] in (3, 4, 5, 6), said
    assert said["message"].isprintable()
    assert len(answer.body) < 2_000
    event = market.events[-1]
    assert event.error is not None
    assert (event.kind, event.session, event.piece) == (request.kind, request.session, None)
    assert event.error.message.isprintable()
    assert market.pair.files() == before
    fair(market)
    return said
