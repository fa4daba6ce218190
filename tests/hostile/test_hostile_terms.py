"""77: offers that are expired, of another generation, with another token, and clocks that would revive them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
from support.hostile import Desk, same_verdict
from support.party import Pair
from support.protocol import replace

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.carried import carried_offer, with_offer
from mpchan.channel.offer import Offer
from mpchan.party import common
from mpchan.party.common import read_psbt

DAY = 86_400


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(Pair(tmp_path, chain), tmp_path)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set this machine's clock, as far as offers go by it."""

    def set_clock(now: float) -> None:
        class Clock:
            time = staticmethod(lambda: now)

        monkeypatch.setattr(common, "time", Clock)

    return set_clock


def request(desk: Desk, *words: str) -> Psbt:
    offer = desk.done(desk.payee, "payee", "offer", "--fee-rate", "2", *words)["toml"]
    path = desk.folder / "offer.toml"
    path.write_text(offer)
    return read_psbt(desk.done(desk.payer, "payer", "open", path, "100000")["hex"].encode())


def offer_of(psbt: Psbt) -> Offer:
    offer = carried_offer(psbt)
    assert offer is not None
    return offer


def test_77_the_payee_needs_nothing_but_its_words_and_its_generation(desk: Desk) -> None:
    """The request brings the offer back; the file is for people."""
    asked = request(desk)
    for path in (desk.payee / "offers").iterdir():
        path.unlink()
    signed = desk.done(desk.payee, "payee", "sign-refund", desk.file(asked))
    desk.done(desk.payer, "payer", "fund", desk.file(signed["hex"]))
    desk.pair.chain.mine(1)
    name = signed["channel"]
    assert desk.done(desk.payee, "payee", "accept", desk.file(desk.pair.pay(name, 1000)))["paid_sat"] == 1000


def terms_bent(table: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Changes by which a payer would do better, and some by which nobody does."""
    return {
        "a lower fee": lambda: table.update(fee_rate_sat_per_kvb=table["fee_rate_sat_per_kvb"] - 1),
        "a shorter settle window": lambda: table.update(settle_window=1),
        "a later refund": lambda: table.update(max_refund_delay=table["max_refund_delay"] + 1),
        "fewer confirmations": lambda: table.update(min_confirmations=2),
        "no expiry": lambda: table.update(expires=1),
        "another step": lambda: table["decrementing"].update(step=2),
        "another memo": lambda: table.update(memo="x"),
        "another id": lambda: table.update(offer_id="ab" * 16),
        "another generation": lambda: table.update(generation="ab" * 8),
        "another token": lambda: table.update(token="ab" * 32),
        "a way": lambda: table.update(ways=[{"kind": "x"}]),
        "a sale": lambda: table.update(sale={"merkle_root": "12" * 32}),
    }


@pytest.mark.parametrize("change", terms_bent({}))
def test_77_a_token_fits_no_other_offer(desk: Desk, change: str) -> None:
    asked = request(desk)
    good = offer_of(asked)
    table = tomli.loads(tomli_w.dumps(good.to_dict()))
    terms_bent(table)[change]()
    bent = Offer.from_dict(table)
    assert bent != good
    path = desk.file(with_offer(asked, bent))
    refused = desk.refused_writing(desk.payee, "payee", "sign-refund", path)
    assert (refused.slug, refused.exit_code) == ("unknown-offer", 4)
    same_verdict(desk, desk.payee, path, refused)
    desk.done(desk.payee, "payee", "sign-refund", desk.file(asked))


def test_77_an_offer_of_another_wallet_with_its_own_token(desk: Desk) -> None:
    """A token that another wallet made is none, whatever generation it claims."""
    asked = request(desk)
    theirs = replace(offer_of(asked), token=desk.pair.payer.keys.offer_token(offer_of(asked)))
    refused = desk.refused_writing(desk.payee, "payee", "sign-refund", desk.file(with_offer(asked, theirs)))
    assert (refused.slug, refused.exit_code) == ("unknown-offer", 4)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"{" * 100_000, b'{"version":3}'])
def test_77_what_comes_along_is_no_offer(desk: Desk, data: bytes) -> None:
    asked = request(desk).with_proprietary(b"mpchan", 0, data)
    refused = desk.refused_writing(desk.payee, "payee", "sign-refund", desk.file(asked))
    assert refused.exit_code == 3
    assert refused.slug in ("malformed-offer", "offer-version")


def test_77_another_generation(desk: Desk) -> None:
    """Where the file is lost another one is drawn; what was signed before is given again."""
    first = request(desk)
    signed = desk.done(desk.payee, "payee", "sign-refund", desk.file(first))
    desk.pair.coin()
    second = request(desk)
    (desk.payee / "generation").unlink()
    for _ in range(2):
        path = desk.file(second)
        refused = desk.refused_writing(desk.payee, "payee", "sign-refund", path)
        assert (refused.slug, refused.exit_code) == ("offer-void", 4)
        same_verdict(desk, desk.payee, path, refused)
        assert desk.done(desk.payee, "payee", "sign-refund", desk.file(first)) == signed
        desk.done(desk.payee, "payee", "offer")


def test_77_expired_for_the_payee(desk: Desk, at: Callable[[float], None]) -> None:
    now = int(time.time())
    asked = request(desk, "--expires-in", "1d")
    expires = offer_of(asked).expires
    assert now + DAY <= expires <= time.time() + DAY
    at(expires)
    path = desk.file(asked)
    refused = desk.refused_writing(desk.payee, "payee", "sign-refund", path)
    assert (refused.slug, refused.exit_code) == ("offer-expired", 4)
    assert "--like" in str(refused.hint)
    same_verdict(desk, desk.payee, path, refused)
    at(expires - 1)
    signed = desk.done(desk.payee, "payee", "sign-refund", path)
    at(expires + DAY)
    assert desk.done(desk.payee, "payee", "sign-refund", path) == signed


def test_77_expired_for_the_payer(desk: Desk, at: Callable[[float], None]) -> None:
    """It locks no money under an offer that ends before its funding has surely been seen: 6 h."""
    asked = request(desk, "--expires-in", "1d")
    expires = offer_of(asked).expires
    signed = desk.done(desk.payee, "payee", "sign-refund", desk.file(asked))
    at(expires - 6 * 3600 + 1)
    path = desk.file(signed["hex"])
    refused = desk.refused_writing(desk.payer, "payer", "fund", path)
    assert (refused.slug, refused.exit_code) == ("offer-expired", 5)
    same_verdict(desk, desk.payer, path, refused)
    offer = desk.done(desk.payee, "payee", "offer", "--fee-rate", "2", "--expires-in", "0")["toml"]
    late = desk.folder / "late.toml"
    late.write_text(offer.replace("expires = 0", f"expires = {expires}"))
    for words in (["open", late, "50000"], ["open", late, "50000", "--external"]):
        refused = desk.refused(desk.payer, "payer", *words)  # type: ignore[arg-type]
        assert (refused.slug, refused.exit_code) == ("offer-expired", 5), words
    at(expires - 6 * 3600)
    desk.done(desk.payer, "payer", "fund", path)
    at(expires + DAY)
    desk.done(desk.payer, "payer", "fund", path)  # it is funded: the same answer again


def test_77_a_funding_that_came_before_the_expiry_is_honoured_after_it(
    desk: Desk, at: Callable[[float], None]
) -> None:
    asked = request(desk, "--expires-in", "1d")
    signed = desk.done(desk.payee, "payee", "sign-refund", desk.file(asked))
    desk.done(desk.payer, "payer", "fund", desk.file(signed["hex"]))
    at(offer_of(asked).expires + 30 * DAY)
    desk.pair.chain.mine(1)
    name = signed["channel"]
    assert desk.done(desk.payee, "payee", "accept", desk.file(desk.pair.pay(name, 1000)))["paid_sat"] == 1000
    assert desk.done(desk.payee, "settle", desk.file(desk.pair.settlement(name)))["broadcast"] is True


@pytest.mark.parametrize("now", [0, 1_000_000_000])
def test_77_a_clock_that_was_set_back_revives_nothing(
    desk: Desk, at: Callable[[float], None], now: int
) -> None:
    """The chain's median time has passed the expiry, whatever the clock says."""
    asked = request(desk)
    median = desk.pair.chain.tip().median_time
    draft = replace(offer_of(asked), expires=median)
    expired = replace(draft, token=desk.pair.payee.keys.offer_token(draft))
    at(now)
    refused = desk.refused_writing(desk.payee, "payee", "sign-refund", desk.file(with_offer(asked, expired)))
    assert (refused.slug, refused.exit_code) == ("offer-expired", 4)


@pytest.mark.parametrize("now", [0, 4_000_000_000])
def test_77_a_wrong_clock_voids_no_offer_without_an_expiry(
    desk: Desk, at: Callable[[float], None], now: int
) -> None:
    at(now)
    signed = desk.done(desk.payee, "payee", "sign-refund", desk.file(request(desk)))
    desk.done(desk.payer, "payer", "fund", desk.file(signed["hex"]))
