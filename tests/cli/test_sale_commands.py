"""``payee sell`` and ``payer buy``: what they refuse before anything happens, and what a person is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli
from support.transcript import Shell

from mpchan.bitcoin.network import REGTEST, SIGNET
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.channel.offer import Offer
from mpchan.cli.app import App
from mpchan.cli.render.sale_lines import SaleLines
from mpchan.errors import UsageError
from mpchan.market.hashing import hash_file
from mpchan.market.seller import Event
from mpchan.party.offers.selling import published_offer
from mpchan.sale.manifest import Sale
from mpchan.units import Amount
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.wallet import Wallet

SELL = "mpchan --wallet seller payee sell film --price-per-piece 1000"
BUY = "mpchan --wallet buyer payer buy"


@pytest.fixture
def shop(wallets: Shell) -> Shell:
    """A film of 10,000 bytes, and the offer of it in ten pieces, the first of them free; nobody serves it."""
    film = wallets.folder / "film"
    film.write_bytes(os.urandom(10_000))
    seller = Wallet.open(wallets.folder / "seller")
    assert seller.network == REGTEST
    hashes = hash_file(film, 1_000)
    sale = Sale("film", 10_000, 1_000, Amount(1_000), 1, hashes.hashes)
    terms = {"fee_rate_sat_per_kvb": 2_000}
    own, _ = published_offer(seller, EmbeddedChain(wallets.folder / "chain"), terms, sale)
    (wallets.folder / "offer.toml").write_text(own.offer.to_toml())
    (wallets.folder / "box" / "to-payee").mkdir(parents=True)
    return wallets


@pytest.mark.parametrize(
    ("words", "code", "slug"),
    [
        ("", 2, "usage"),
        ("--mailbox box --pieces 3 --piece-size 1000", 2, "usage"),
        ("--listen 127.0.0.1:47421", 2, "usage"),
        ("--listen nowhere -o offer2.toml", 2, "usage"),
        ("--mailbox box --pieces 0", 2, "usage"),
        ("--mailbox box --pieces 5001", 2, "usage"),
        ("--mailbox box --piece-size 1", 2, "too-many-pieces"),
        ("--mailbox box --piece-size 1.5", 2, "usage"),
        ("--mailbox box --free-pieces 100", 3, "malformed-number"),
        ("--mailbox box --pieces 10 --settle-window 5000", 2, "offer-limits"),
        ("--mailbox box --price-per-piece 293", 5, "price-dust"),
        ("--mailbox box -o film", 2, "output-is-input"),
        ("--mailbox box -o seller/keys.toml", 2, "output-is-wallet"),
        ("--mailbox missing/box", 7, "mailbox-unusable"),
    ],
)
def test_a_sale_that_cannot_be(shop: Shell, words: str, code: int, slug: str) -> None:
    shop.fails(f"{SELL} {words}", code, slug)


def test_what_is_no_file_to_sell(shop: Shell) -> None:
    (shop.folder / "empty").write_bytes(b"")
    for name in ("empty", "box", "missing"):
        shop.fails(SELL.replace("film", name) + " --mailbox box", 3, "unreadable-file")


@pytest.mark.parametrize(
    ("words", "code", "slug"),
    [
        ("offer.toml -o bought", 2, "no-way"),
        ("offer.toml -o bought --connect 127.0.0.1:47421", 2, "no-way"),
        ("offer.toml -o bought --mailbox box --connect 127.0.0.1:47421", 2, "usage"),
        ("offer.toml -o bought --mailbox box --pieces 7-3", 3, "malformed-pieces"),
        ("offer.toml -o bought --mailbox box --pieces 11", 3, "malformed-pieces"),
        ("offer.toml -o bought --mailbox box --patience 0", 2, "usage"),
        ("offer.toml -o offer.toml --mailbox box", 2, "output-is-input"),
        ("offer.toml -o buyer/keys.toml --mailbox box", 2, "output-is-wallet"),
        ("offer.toml -o missing/bought --mailbox box", 2, "output-unwritable"),
        ("offer.toml -o film --mailbox box --pieces 1 --refund-out film", 2, "output-twice"),
        ("offer.toml -o bought --mailbox box --refund-out bought.mpchan-part", 2, "output-twice"),
        ("offer.toml -o bought --mailbox box --refund-out /dev/null", 2, "output-unwritable"),
        ("film -o bought --mailbox box", 3, "not-utf8"),
        ("offer.toml -o bought --mailbox box", 5, "not-confirmed"),  # with --json nobody is asked
    ],
)
def test_a_purchase_that_cannot_be(shop: Shell, words: str, code: int, slug: str) -> None:
    shop.fails(f"{BUY} {words}", code, slug)


def test_an_offer_that_sells_nothing(shop: Shell) -> None:
    shop.ok("mpchan --wallet seller payee offer -o plain.toml")
    shop.fails(f"{BUY} plain.toml -o bought --mailbox box", 5, "nothing-sold")


def test_a_buyer_is_shown_what_it_costs_and_asked(shop: Shell) -> None:
    """No answer is a no, and leaves nothing behind."""
    before = sorted(os.listdir(shop.folder))
    done = shop.run(f"{BUY} offer.toml -o bought --mailbox box --pieces 1,4-6")
    assert (done.code, done.out) == (5, "")
    assert done.err == (
        "'film': 10,000 bytes in 10 pieces of 1,000\n"
        "from      box\n"
        "wanted    4 pieces\n"
        "price     3 x 1,000 = 3,000 sat\n"
        "fees      about 306 sat to open, 338 sat to close, at 2 sat/vB\n"
        "locked    3,338 sat, until block 417 at the longest (306 blocks)\n"
        "at stake  1,000 sat, one piece, should the seller cheat or vanish\n"
        "Buy? [y/N] mpchan: error: the purchase was not confirmed\n"
        "mpchan: hint: answer y, or add --yes\n"
    )
    assert sorted(os.listdir(shop.folder)) == before
    assert not (shop.folder / "buyer" / "purchases").exists()


def test_a_seller_that_is_not_there(shop: Shell) -> None:
    """The session is kept: the same command asks as the same buyer."""
    for _ in range(2):
        command = [
            sys.executable,
            "-m",
            "mpchan",
            *f"{BUY} offer.toml -o bought --mailbox box --yes".split()[1:],
        ]
        done = subprocess.run(
            [*command, "--patience", "0.3"],
            cwd=shop.folder,
            env={**os.environ, **shop.env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (6, "")
        assert "nothing is paid and nothing is locked" in done.stderr
    folder = shop.folder / "buyer" / "purchases"
    assert len([name for name in os.listdir(folder) if name.endswith(".json")]) == 1


def test_the_next_offer_like_that_of_a_sale_sells_the_same(shop: Shell) -> None:
    """The same terms; what was made out to one buyer is for nobody else."""
    first = Offer.from_toml(shop.text("offer.toml"))
    shop.ok(f"mpchan --wallet seller payee offer --like {first.offer_id} -o second.toml")
    second = tomli.loads(shop.text("second.toml"))
    assert second["sale"] == tomli.loads(shop.text("offer.toml"))["sale"]
    assert second["offer_id"] != first.offer_id
    assert (
        second["payee_pubkey"] == first.payee_key.sec.hex()
    )  # of what is on sale, so that buyers know the seller again


def test_nothing_goes_with_a_buyers_request(shop: Shell) -> None:
    (shop.folder / "wish").write_text("00")
    shop.fails("mpchan --wallet seller payee offer --for wish --memo x", 2, "usage")
    shop.fails("mpchan --wallet seller payee offer --for wish", 3, "malformed-request")


def test_a_channel_that_was_cancelled_is_no_buyer() -> None:
    """``--buyers N`` counts who has paid and settled, each once."""
    app = App()
    app.quiet = True
    lines = SaleLines(app)
    for session, paid, settled in (("a", 0, 0), ("a", 1000, 1), ("a", 1000, 1), ("b", 1000, 2)):
        lines.event(Event("settlement", session * 32, "c" * 16, paid=Amount(paid)))
        assert lines.settled == settled


@pytest.mark.parametrize(("unit", "least"), [("blocks", 36), ("seconds", 21_600)])
def test_a_sale_with_a_short_window_needs_force(tmp_path: Path, unit: str, least: int) -> None:
    """Also one that stands already, under an offer that was made with it."""
    seller = Wallet.create(tmp_path / "seller", SIGNET, ChainConfig("none"))
    sale = Sale("film", 3000, 1000, Amount(1000), 0, (bytes(32),) * 3)
    short = {"lock_time_unit": unit, "settle_window": least - 1, "fee_rate_sat_per_kvb": 2000}

    def refused() -> tuple[str, int]:
        with pytest.raises(UsageError) as caught:
            published_offer(seller, ManualChain(), short, sale)
        return caught.value.slug, caught.value.exit_code

    assert refused() == ("short-window", 2)
    own, _ = published_offer(seller, ManualChain(), short, sale, force=True)
    assert refused() == ("short-window", 2)
    assert published_offer(seller, ManualChain(), short, sale, force=True)[0] == own
    good, _ = published_offer(seller, ManualChain(), {**short, "settle_window": least}, sale)
    assert good.offer.settle_window == least
