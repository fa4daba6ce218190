"""A seller and a buyer in one process, on one private chain: the buyer's line ends in the seller's own ``answer``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.party import SHORT, Pair

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.construction.registry import CONSTRUCTIONS, construction_of
from mpchan.channel.offer import Offer
from mpchan.errors import TooEarly
from mpchan.market.asking import Asking, Step
from mpchan.market.buyer import Buyer
from mpchan.market.closing import cancel
from mpchan.market.hashing import hash_file
from mpchan.market.output import Output
from mpchan.market.own_channel import OwnChannel
from mpchan.market.quote import Quote, quote
from mpchan.market.seller import Event, Seller
from mpchan.market.standing import going_purchase
from mpchan.party.offers.selling import published_offer
from mpchan.party.watch.watcher import Watcher
from mpchan.results.sales import Bought, PurchaseCancelled
from mpchan.sale.manifest import Sale
from mpchan.transport.base import Answer, Arrival, Message, Piece, Refusal, Request
from mpchan.units import Amount, Txid
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.purchases import Purchases

each_scheme = pytest.mark.parametrize("scheme", list(CONSTRUCTIONS), indirect=True)
"""A test that runs over each construction."""

PRICE = 1_000
PIECE = 1_000

Bend = Callable[[Request, Answer], Answer]
"""What a hostile seller makes of a good answer."""


def honest(request: Request, answer: Answer) -> Answer:
    """No change."""
    return answer


def unheard(which: Callable[[Request], bool]) -> Bend:
    """The seller does its part, and the answers to these requests get lost."""

    def bend(request: Request, answer: Answer) -> Answer:
        if which(request):
            raise TooEarly("peer-silent", "no answer")
        return answer

    return bend


class DirectLine:
    """A line without a way in between.

    Attributes:
        asked: all requests so far.
        bend: what becomes of each answer on its way.
    """

    def __init__(self, seller: Callable[[], Seller], session: str, chain: EmbeddedChain, bend: Bend) -> None:
        self._seller = seller
        self._session = session
        self._chain = chain
        self.bend = bend
        self.asked: list[Request] = []

    @contextmanager
    def ask(self, kind: str, body: bytes, patience: float, length: int | None = None) -> Iterator[Arrival]:
        request = Request(self._session, len(self.asked) + 1, kind, body)
        self.asked.append(request)
        answer = self.bend(request, self._seller().answer(request))
        if kind == "funding":  # a third party's block
            self.mine()
        with arrival_of(answer) as arrival:
            yield arrival

    def mine(self) -> None:
        """What somebody does sooner or later."""
        self._chain.mine(1)

    def close(self) -> None:
        return


@contextmanager
def arrival_of(answer: Answer) -> Iterator[Arrival]:
    """An answer as a buyer sees it."""
    if isinstance(answer, Message):
        yield Arrival("message", answer.body)
    elif isinstance(answer, Refusal):
        yield Arrival("refusal", answer.body)
    else:
        with open(answer.path, "rb") as file:
            file.seek(answer.offset)
            yield Arrival("piece", length=answer.length, read=file.readinto)


def killed(*_: object) -> None:
    """In the place of a step at which the program ends."""
    raise TooEarly("peer-silent", "killed")


class Market:
    """A file on sale, and one who buys it.

    Args:
        pieces: of ``PIECE`` bytes each; the last one is shorter by one.
        scheme: the construction of its channels; None for the default.

    Attributes:
        exchanges: whether a refund is asked for before the funding.
    """

    def __init__(
        self,
        directory: Path,
        chain: EmbeddedChain,
        *,
        pieces: int = 5,
        free: int = 0,
        scheme: str | None = None,
        **terms: Any,
    ) -> None:
        self.directory = directory
        self.chain = chain
        self.pair = Pair(directory, chain, scheme=scheme)
        self.file = directory / "film"
        self.file.write_bytes(os.urandom(pieces * PIECE - 1))
        self.output = directory / "bought"
        self.hashes = hash_file(self.file, PIECE)
        self.sale = Sale("film", self.hashes.length, PIECE, Amount(PRICE), free, self.hashes.hashes)
        self.own = self.publish(**terms)
        self.exchanges = construction_of(self.own.offer).has_exchange
        self.events: list[Event] = []
        self.steps: list[Step] = []
        self.lines: list[DirectLine] = []
        self.bend: Bend = honest
        self.patience = 0.05
        self.hours_later = 0
        self.seller = self.new_seller()

    def publish(self, **terms: Any) -> OwnOffer:
        """The published offer."""
        return published_offer(
            self.pair.payee, self.chain, {**SHORT, **self.pair.scheme, **terms}, self.sale
        )[0]

    @property
    def published(self) -> Offer:
        """As a buyer has it."""
        return Offer.from_toml(self.own.offer.to_toml())

    def new_seller(self) -> Seller:
        """A seller that has just started."""
        later = 3600 * self.hours_later
        return Seller(
            self.pair.payee,
            self.chain,
            self.own,
            self.file,
            self.hashes,
            self.events.append,
            clock=lambda: time.time() + later,
        )

    @contextmanager
    def watching(self, stop: Callable[[], bool]) -> Iterator[Watcher]:
        """The payee's watcher, for the thread that calls this."""
        with EmbeddedChain(self.chain.directory) as chain:
            yield Watcher(self.pair.payee.for_another_thread(), chain, stop=stop)

    def restart(self) -> None:
        """Both programs end and start again."""
        self.pair.restart()
        self.seller = self.new_seller()

    def quote(self, pieces: str | None = None) -> Quote:
        """What it would cost."""
        return quote(self.pair.payer, self.chain, self.published, self.output, pieces, lambda done: None)

    def line(self, session: str) -> DirectLine:
        """A line to whatever the seller is when it is asked."""
        made = DirectLine(lambda: self.seller, session, self.chain, lambda *both: self.bend(*both))
        self.lines.append(made)
        return made

    def _told(self, step: Step) -> None:
        self.steps.append(step)
        waits = any(self.name_of_funding(txid) for txid in self.chain.mempool())
        if step.kind == "funded" and not self.exchanges and waits:
            self.lines[-1].mine()

    def name_of_funding(self, txid: Txid) -> str | None:
        """The buyer's channel that a transaction funds; None where it funds none."""
        names = self.pair.payer.channels.names()
        return next((name for name in names if name.startswith(str(txid))), None)

    def buy(self, pieces: str | None = None) -> Bought:
        """The whole command, but for its words."""
        found = self.quote(pieces)
        purchase, held = found.purchase, set(found.held)
        with Output(Path(purchase.output), found.sale) as output:
            if purchase.own is None:
                Purchases(self.pair.payer.directory).save(purchase)
            if held != set(purchase.wanted):
                output.claim()
            buyer = Buyer(
                self.pair.payer,
                self.chain,
                purchase,
                self.asking(purchase.session),
                output,
                held,
            )
            return found.bought(*buyer.run())

    def asking(self, session: str) -> Asking:
        """The buyer's patience with whatever the seller is then."""
        return Asking(self.line(session), self._told, patience=self.patience, pause=0.01)

    def stop_funded(self) -> None:
        """The buyer's program ends when its channel is funded, and nothing is paid."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OwnChannel, "wait_for_confirmation", killed)
            with pytest.raises(TooEarly):
                self.buy()
        self.restart()

    def cancel(self) -> PurchaseCancelled:
        """``buy --cancel``."""
        going = going_purchase(self.pair.payer, self.sale.root, str(self.output))
        assert going is not None
        return cancel(self.pair.payer, self.chain, going, self.asking(going.session))

    # what can be looked at afterwards -------------------------------------------------------------

    def asked(self, kind: str) -> list[Request]:
        """Every request of a kind, of all lines."""
        return [request for line in self.lines for request in line.asked if request.kind == kind]

    @property
    def name(self) -> str:
        """The name of the only channel."""
        [name] = self.pair.payer.channels.names()
        return name

    @property
    def paid(self) -> int:
        """What the payer has signed away in it."""
        return self.pair.payer_record(self.name).paid.sat

    @property
    def received(self) -> int:
        """What the payee holds."""
        return self.pair.payee_record(self.name).paid.sat

    def delivered(self) -> set[int]:
        """The pieces that have left the seller for money."""
        return {event.piece for event in self.events if event.piece is not None and event.channel is not None}

    def is_whole(self) -> bool:
        """Whether what was bought is what was sold."""
        return self.output.read_bytes() == self.file.read_bytes()


def piece_of(answer: Answer) -> Piece:
    """An answer that must be a piece."""
    assert isinstance(answer, Piece), answer
    return answer
