"""A seller, a buyer, and whatever may come between them, in any order that hypothesis thinks of.

Requests and answers get lost, pieces are bad, programs end in the middle of anything and start again, somebody writes
into the file, old requests come once more, the buyer cancels. At any moment one piece's price is at stake at most, and
nothing is delivered that is not paid for. In the end the same command gets the whole file, for what it costs and no
more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.market.cheats import body_of, data, fair, held_pieces, refusing
from support.market.market import PIECE, PRICE, Market, honest
from support.party import balance_sat

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payer
from mpchan.errors import NotPossible, Refused, SellerRefused, TooEarly
from mpchan.market import asking
from mpchan.market.output import part_path
from mpchan.market.seller import Seller
from mpchan.market.standing import going_purchase
from mpchan.transport.base import Answer, Piece, Refusal, Request

PIECES = 4
MOST_BLOCKS = 20
"""Of those that come by themselves, so that L_0 stays away."""

WHIMS = (
    *("good",) * 8, "twice", "seller restarts", "unheard", "lost", "silent", "busy", "refused", "wrong piece",
    "other piece", "short piece", "block",
)  # fmt: skip
"""What may become of one request."""


class Clock:
    """Time that passes by waiting alone, so that the same whims lead to the same requests on any machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """They are over at once."""
        self.now += seconds


class Broken(Exception):
    """The buyer's program ends here."""


class Sale(RuleBasedStateMachine):
    """Rules are what a buyer, a seller, or somebody else does; the buyer's command runs until its whims are used up."""

    def __init__(self, directory: Callable[[], Path], chain: EmbeddedChain) -> None:
        super().__init__()
        self.market = Market(directory(), chain, pieces=PIECES)
        self.market.patience = 0.02
        self.chain = chain
        self.real: Seller = self.market.seller
        self.market.seller = self  # type: ignore[assignment]
        self.whims: list[str] = []
        self.honest = False
        self.arrived: set[int] = set()  # pieces that were right in the file at some moment
        self.blocks = MOST_BLOCKS
        self.before = balance_sat(self.market.pair.payee, chain)

    # between them ---------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        """The seller, as the buyer sees it."""
        if self.honest:
            return self.real.answer(request)
        whim = self.whims.pop() if self.whims else "unheard"
        if whim == "unheard":
            raise Broken
        if whim in ("busy", "refused"):
            return refusing(code=7 if whim == "busy" else 5)
        if whim == "seller restarts":
            self.real = self.market.new_seller()
        if whim == "block":
            self.mine(1)
        answer = self.real.answer(request)
        if whim == "twice":
            assert self.real.answer(request) == answer
        if whim == "lost":
            raise Broken
        if whim == "silent":
            raise TooEarly("peer-silent", "no answer")
        return self.bent(whim, answer) if isinstance(answer, Piece) else answer

    def bent(self, whim: str, piece: Piece) -> Answer:
        """A piece, or what comes instead."""
        right = self.market.file.read_bytes()[piece.offset : piece.offset + piece.length]
        if whim == "wrong piece":
            return data(self.market, b"x" * piece.length)
        if whim == "other piece":
            return Piece(piece.path, (piece.offset + PIECE) % (2 * PIECE), piece.length)
        if whim == "short piece":
            return data(self.market, right[:-1], announced=piece.length)
        return piece

    # rules ----------------------------------------------------------------------------------------

    @rule(whims=st.lists(st.sampled_from(WHIMS), min_size=1, max_size=9))
    def buy(self, whims: list[str]) -> None:
        self.whims = whims
        try:
            self.market.buy()
        except (Broken, Refused, NotPossible, TooEarly):  # and nothing else
            self.market.bend = honest

    @rule()
    def restart(self) -> None:
        self.market.restart()
        self.real, self.market.seller = self.market.seller, self  # type: ignore[assignment]

    @precondition(lambda self: self.blocks)
    @rule(count=st.integers(1, 3))
    def mine(self, count: int) -> None:
        count = min(count, self.blocks)
        self.blocks -= count
        self.chain.mine(count)

    @precondition(lambda self: part_path(self.market.output).exists() and len(self.channels()) <= 1)
    @rule(number=st.integers(1, PIECES))
    def write_into_the_file(self, number: int) -> None:
        with part_path(self.market.output).open("r+b") as file:
            file.seek((number - 1) * PIECE)
            file.write(b"somebody else")

    @precondition(lambda self: not self.market.asked("settlement"))
    @rule()
    def cancel(self) -> None:
        """The buyer wants no more, and then does all the same."""
        if going_purchase(self.market.pair.payer, self.market.sale.root, str(self.market.output)) is not None:
            self.whims = ["good"]
            try:
                self.market.cancel()
            except (Broken, Refused, NotPossible, TooEarly):
                return

    @precondition(lambda self: self.market.lines)
    @rule(pick=st.integers(0, 99))
    def an_old_request_comes_again(self, pick: int) -> None:
        asked = [request for line in self.market.lines for request in line.asked]
        if asked:
            self.real.answer(asked[pick % len(asked)])

    @precondition(lambda self: self.market.lines and not self.market.asked("settlement"))
    @rule(number=st.integers(0, PIECES + 1))
    def somebody_asks_for_a_piece(self, number: int) -> None:
        session = ([request.session for request in self.market.asked("refund")] or ["0" * 32])[0]
        paid = self.paid()[1] // PRICE
        answer = self.real.answer(Request(session, 1, "piece", body_of(number)))
        assert isinstance(answer, Refusal) == (not 1 <= number <= paid)

    # what holds at any moment ---------------------------------------------------------------------

    def channels(self) -> list[str]:
        """The buyer's, in no order."""
        return self.market.pair.payer.channels.names()

    def paid(self) -> tuple[int, int]:
        """What the payer has signed away, and what the payee holds, in all channels."""
        pair = self.market.pair
        held = pair.payee.channels.names()
        return (
            sum(pair.payer_record(name).paid.sat for name in self.channels()),
            sum(pair.payee_record(name).paid.sat for name in held),
        )

    @invariant()
    def one_piece_is_at_stake_at_most(self) -> None:
        paid, received = self.paid()
        self.arrived |= held_pieces(self.market)
        assert paid - len(self.arrived) * PRICE <= PRICE
        assert paid - received in (0, PRICE)
        assert received - len(self.market.delivered()) * PRICE in (0, PRICE)
        fair(self.market)

    @invariant()
    def one_channel_lives_at_most(self) -> None:
        """Another one is opened where a block holds the close of the one before."""
        states = [self.market.pair.payer_record(name).state for name in self.channels()]
        alive = (payer.Opening, payer.Secured, payer.Funded)
        assert sum(isinstance(state, alive) for state in states) <= 1
        assert len(self.market.pair.payee.offers.ids()) == 1

    def teardown(self) -> None:
        """From here on everybody is honest, and the purchase comes to its end."""
        self.honest = True
        self.restart()
        for _ in range(2 * len(self.channels()) + 2):
            self.chain.mine(1)
            try:
                self.market.buy()
                break
            except NotPossible as error:
                waits = isinstance(error, SellerRefused) and error.reason == "settlement-unconfirmed"
                if not waits and not error.slug.startswith("channel-"):
                    raise
        assert self.market.is_whole()
        assert self.paid() == (PIECES * PRICE, PIECES * PRICE)
        self.chain.mine(1)
        assert balance_sat(self.market.pair.payee, self.chain) - self.before == PIECES * PRICE
        self.one_channel_lives_at_most()


def test_a_payment_whose_channel_the_buyer_closed_unheard(
    quick_path: Path, chain: EmbeddedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seller refuses a payment, and hears nothing of the close that is asked of it; the same command goes on."""
    monkeypatch.setattr(asking, "time", Clock())
    sale = Sale(lambda: Path(mkdtemp(dir=quick_path)), chain)
    for whims in (["good"] * 3, ["refused"]):
        sale.whims = whims
        with suppress(Broken, Refused, NotPossible, TooEarly):
            sale.market.buy()
    assert sale.paid() == (PRICE, 0)
    sale.teardown()


def test_whatever_comes_between(
    quick_path: Path, chain: EmbeddedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "time", Clock())
    run_state_machine_as_test(
        lambda: Sale(lambda: Path(mkdtemp(dir=quick_path)), chain),  # type: ignore[arg-type]
        settings=settings(
            max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
