"""What was spent where: by day, server and channel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair

from mpchan.chain.embedded import EmbeddedChain
from mpchan.cli.commands.spending import _csv
from mpchan.party import payer
from mpchan.party.meter.payer import Payer
from mpchan.party.spending.report import day_of, spending
from mpchan.results.opening import OpenedAtOnce
from mpchan.results.spending import Spending, SpentLine
from mpchan.units import Amount, OutPoint
from mpchan.wallet.purpose import Purpose

SHOP = "https://shop.example"
DAY = 1_700_000_000


@pytest.fixture(params=("decrementing", "taproot"))
def pair(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, scheme=request.param, coins=2)


def opened(pair: Pair, purpose: Purpose | None) -> str:
    request = payer.open_channel(pair.payer, pair.chain, pair.offer(), Amount(100_000), purpose=purpose)
    if not isinstance(request, OpenedAtOnce):
        pair.fund(pair.sign_refund(request.hex))
    pair.chain.mine(1)
    return OutPoint.parse(f"{request.funding_txid}:{request.funding_vout}").name


def test_each_day_in_each_channel_has_a_line(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    name = opened(pair, Purpose(SHOP, "shop", "film.mkv"))
    other = opened(pair, None)
    for day in range(2):
        monkeypatch.setattr("time.time", lambda day=day: DAY + day * 86_400)
        with Payer(pair.payer, name, chain=pair.chain) as meter:
            meter.pay(1_000)
            meter.note_spent(400 * (day + 1))
            meter.pay(10)
    pair.pay(other, 700)
    first, second = day_of(DAY), day_of(DAY + 86_400)
    found = spending(pair.payer, clock=lambda: DAY)
    shop, hand = name[:16], other[:16]
    assert found.lines == (
        SpentLine(first, SHOP, "film.mkv", shop, 1_010, 400),
        SpentLine(second, None, None, hand, 700, 700),
        SpentLine(second, SHOP, "film.mkv", shop, 1_010, 400),
    )
    assert (found.signed_sat, found.charged_sat) == (2_720, 1_500)
    assert spending(pair.payer, since=second, origin=SHOP).lines == found.lines[2:]
    assert spending(pair.payer, until=first).lines == found.lines[:1]


def test_a_table_for_spreadsheets_runs_nothing() -> None:
    line = SpentLine("2026-11-30", SHOP, '=HYPERLINK("x")', "ab" * 8, 5, 3)
    text = _csv(Spending((line,), 5, 3, None, 0))
    assert text.splitlines()[1] == f'2026-11-30,{SHOP},"\'=HYPERLINK(""x"")",{"ab" * 8},5,3'
    assert text.count("\r\n") == 2


def test_a_damaged_budget_is_told_and_the_rest_is_shown(pair: Pair) -> None:
    name = opened(pair, Purpose(SHOP, "shop"))
    pair.pay(name, 700)
    folder = pair.payer.directory / "spending"
    folder.mkdir()
    (folder / "2026-01-01.json").write_text("{}")
    found = spending(pair.payer)
    assert (found.signed_sat, found.taken_sat, len(found.warnings)) == (700, 0, 1)
