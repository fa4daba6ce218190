"""Clocks that are wrong: no money is lost, and what is refused for the time is refused with the time.

The numbers are those of the list in ``support.hostile.LINES``. What matters to money goes by the chain's
own clock, its height and median time; the machine's decides how long an offer holds, and whose turn it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from support.hostile import Ended, mpchan
from support.judge import judge_wallet
from support.party import Pair

from mpchan.bitcoin.network import MAINNET, REGTEST
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.lag import by_clock
from mpchan.channel.offer import Offer
from mpchan.party.offers.selling import OFFER_SECONDS, RENEWAL_SECONDS, needs_renewal
from mpchan.units import ChainTip

NOW = time.time()
CLOCKS = {
    "1970": [0.0],
    "before 1970": [-3_600.0],
    "2075": [3_313_526_400.0],
    "an hour back each time": [NOW - 3_600 * number for number in range(40)],
    "all over the place": [NOW, 0.0, 3_313_526_400.0, NOW - 3_600, 1.5],
}


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, coins=2)


Run = Callable[..., Ended]


@pytest.fixture
def at(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], Run]:
    """Commands, each at the next of these times."""

    def begin(times: list[float]) -> Run:
        coming = cycle(times)

        def run(wallet: Path, *words: str | Path) -> Ended:
            now = next(coming)
            monkeypatch.setattr(time, "time", lambda: now)
            ended = mpchan(wallet, pair.chain.directory, *words)
            assert ended.code != 1, ended
            assert "Traceback" not in ended.err, ended
            return ended

        return run

    return begin


def good(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended
    return ended.json if ended.out.count("\n") == 1 else {}


@pytest.mark.parametrize("clock", CLOCKS)
def test_86_a_whole_channel_by_a_wrong_clock(
    pair: Pair, at: Callable[[list[float]], Run], clock: str, tmp_path: Path
) -> None:
    """From the offer to the money, with all that looks at times on the way."""
    run = at(CLOCKS[clock])
    payer, payee = pair.payer.directory, pair.payee.directory
    names = ("offer", "request", "signed", "funding", "update", "settlement", "backup", "restored")
    files = {name: tmp_path / f"{name}.file" for name in names}
    good(run(payee, "payee", "offer", "--expires-in", "0", "-o", files["offer"]))
    channel = good(run(payer, "payer", "open", files["offer"], "100000", "-o", files["request"]))["channel"]
    good(run(payee, "payee", "sign-refund", files["request"], "-o", files["signed"]))
    good(run(payer, "payer", "fund", files["signed"], "-o", files["funding"]))
    pair.chain.mine(1)
    for number in range(1, 4):
        good(run(payer, "payer", "pay", "1000", "-o", files["update"]))
        assert good(run(payee, "payee", "accept", files["update"]))["paid_sat"] == 1000 * number
    for wallet in (payer, payee):
        assert good(run(wallet, "watch", "--once")) == {}
        for words in (["list"], ["show", channel], ["history"], ["history", channel], ["fsck"], ["balance"]):
            good(run(wallet, *words))
    assert not pair.chain.mempool(), "neither claims nor refunds by a clock of the machine"
    good(run(payee, "backup", "-o", files["backup"]))
    good(run(files["restored"], "restore", files["backup"]))
    good(run(files["restored"], "fsck"))
    good(run(payer, "payer", "settle", "--total", "4000", "-o", files["settlement"]))
    good(run(payee, "payee", "settle", files["settlement"]))
    pair.chain.mine(1)
    assert good(run(payee, "balance"))["confirmed_sat"] == 4000
    for wallet in (payer, payee):
        assert good(run(wallet, "list"))["channels"][0]["status"] == "closed"
        judge_wallet(wallet)


@pytest.mark.parametrize("clock", ["1970", "now"])
def test_86_an_offer_for_a_day(
    pair: Pair, at: Callable[[list[float]], Run], clock: str, tmp_path: Path
) -> None:
    """A day of the chain's time where the machine's clock is behind that; then it is expired, and that is said."""
    made = 0.0 if clock == "1970" else NOW
    offer, request, signed = (tmp_path / name for name in ("offer", "request", "signed"))
    run = at([made])
    good(run(pair.payee.directory, "payee", "offer", "--expires-in", "1d", "-o", offer))
    begun = max(made, pair.chain.tip().median_time)
    assert Offer.from_toml(offer.read_text()).expires == int(begun) + 86_400
    late = at([3_313_526_400.0])
    ended = late(pair.payer.directory, "payer", "open", offer, "100000", "-o", request)
    assert (ended.code, ended.error["error"]) == (5, "offer-expired")
    run = at([made])
    good(run(pair.payer.directory, "payer", "open", offer, "100000", "-o", request))
    late = at([3_313_526_400.0])
    ended = late(pair.payee.directory, "payee", "sign-refund", request, "-o", signed)
    assert (ended.code, ended.error["error"]) == (4, "offer-expired")
    run = at([made])  # the clock is right again: nothing was lost by its having been wrong
    good(run(pair.payee.directory, "payee", "sign-refund", request, "-o", signed))
    late = at([3_313_526_400.0])
    first = signed.read_bytes()
    good(late(pair.payee.directory, "payee", "sign-refund", request, "-o", tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == first, (
        "what is signed is given again, whatever the clock says"
    )


@pytest.mark.parametrize("clock", [0.0, 3_313_526_400.0])
def test_86_a_refund_waits_for_the_chain(
    pair: Pair, at: Callable[[list[float]], Run], clock: float, tmp_path: Path
) -> None:
    """In a channel that counts seconds: the machine's clock brings its end no nearer, and holds it up no longer."""
    name = pair.open(
        lock_time_unit="seconds", settle_window=3_600, min_refund_delay=18_000, max_refund_delay=90_000
    )
    run = at([clock])
    ended = run(pair.payer.directory, "refund")
    assert (ended.code, ended.error["error"]) == (6, "refund-locked")
    refund = pair.payer_record(name).terms.refund_lock_time
    while pair.chain.tip().median_time <= refund.value:
        pair.chain.mine(10)
    ended = run(pair.payer.directory, "watch", "--once")
    assert ended.code == 0
    assert len(pair.chain.mempool()) == 1


def test_86_a_published_offer_is_renewed_by_every_clock() -> None:
    """Also one that was made when the clock was far ahead, which would hold for ever."""
    offer = type("Published", (), {"expires": int(NOW) + OFFER_SECONDS})()
    assert not needs_renewal(offer, NOW)
    assert not needs_renewal(offer, NOW - 3_600), "an hour back"
    assert needs_renewal(offer, NOW + OFFER_SECONDS - RENEWAL_SECONDS)
    assert needs_renewal(offer, 3_313_526_400)
    ahead = type("Published", (), {"expires": 3_313_526_400 + OFFER_SECONDS})()
    assert needs_renewal(ahead, NOW)


def test_86_a_node_that_a_wrong_clock_calls_late_is_not_blamed_alone() -> None:
    """At 2075 every node stands still; the hint names the clock. At 1970 none does."""
    tip = ChainTip(800_000, 1_690_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 3_313_526_400.0)
        lag = by_clock("the node", MAINNET, tip, 1_690_000_000)
        assert lag is not None
        assert "clock of this machine" in lag.hint
        assert "2075" in lag.why
        assert by_clock("the node", REGTEST, tip, 1_690_000_000) is None
        patch.setattr(time, "time", lambda: 0.0)
        assert by_clock("the node", MAINNET, tip, 1_690_000_000) is None
