"""What a payer's programs may spend without asking."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.party import Pair, new_wallet

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import MpchanError, NotPossible, ParseError, StorageError
from mpchan.party import payer
from mpchan.party.check.fsck import fsck
from mpchan.party.spending.limits import Limits, Question
from mpchan.units import Amount
from mpchan.wallet.config import Config
from mpchan.wallet.purpose import Purpose
from mpchan.wallet.spending import Day, Days
from mpchan.wallet.wallet import Wallet

SHOP, OTHER = "https://shop.example", "https://other.example"
NOON = 1_700_000_000 // 86_400 * 86_400 + 43_200
DATE = "2023-11-14"


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return new_wallet(tmp_path / "wallet")


def limited(wallet: Wallet, **settings: int) -> Wallet:
    text = (wallet.directory / "wallet.toml").read_text()
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    (wallet.directory / "wallet.toml").write_text(text.replace("[spending]", f"[spending]\n{lines}"))
    return Wallet.open(wallet.directory)


def refused(act: object, *arguments: object) -> str:
    with pytest.raises(NotPossible) as error:
        act(*arguments)  # type: ignore[operator]
    assert error.value.slug == "limit-needed"
    return f"{error.value.message}; {error.value.hint}"


def test_without_a_word_no_channel_is_opened_and_requests_cost_what_they_cost(wallet: Wallet) -> None:
    limits = Limits(wallet)
    limits.allow_price(SHOP, 5_000)
    limits.take(SHOP, 5_000)
    text = refused(limits.allow_deposit, SHOP, 1_000)
    assert "--deposit 1000" in text
    assert "per_deposit_sat" in text
    Limits(wallet, deposit=1_000).allow_deposit(SHOP, 1_000)
    refused(Limits(wallet, deposit=999).allow_deposit, SHOP, 1_000)


def test_a_limit_of_the_wallet_allows_up_to_it(wallet: Wallet) -> None:
    limits = Limits(limited(wallet, per_call_sat=10, per_deposit_sat=1_000))
    limits.allow_price(SHOP, 10)
    refused(limits.allow_price, SHOP, 11)
    limits.allow_deposit(SHOP, 1_000)
    refused(limits.allow_deposit, SHOP, 1_001)


def test_a_price_that_the_user_allows_is_allowed_and_no_other(wallet: Wallet) -> None:
    limits = Limits(limited(wallet, per_call_sat=10), max_price=20)
    limits.allow_price(SHOP, 20)
    with pytest.raises(NotPossible) as error:
        limits.allow_price(SHOP, 21)
    assert error.value.slug == "price-too-high"


def test_one_server_gets_no_more_in_all(wallet: Wallet) -> None:
    limits = Limits(limited(wallet, per_payee_sat=100))
    limits.take(SHOP, 60)
    limits.take(OTHER, 100)
    limits.take(SHOP, 40)
    refused(limits.take, SHOP, 1)


def test_who_can_be_asked_is_asked_once(wallet: Wallet) -> None:
    asked: list[Question] = []

    def agree(question: Question) -> bool:
        asked.append(question)
        return question.sat < 500

    limits = Limits(limited(wallet, per_call_sat=10), ask=agree)
    limits.allow_price(SHOP, 20)
    limits.allow_price(SHOP, 20)
    assert [each.what for each in asked] == ["call"]
    refused(limits.allow_deposit, SHOP, 500)


def test_a_day_has_one_budget_in_all_processes(wallet: Wallet) -> None:
    """Two of them, each with a slice, and what is left of one goes back."""
    wallet = limited(wallet, per_day_sat=1_000)
    first, second = (Limits(wallet, clock=lambda: NOON) for _ in range(2))
    first.take(SHOP, 1)
    assert Days(wallet.directory).last() == Day(DATE, 20)
    second.take(SHOP, 980)
    refused(second.take, SHOP, 1)
    refused(first.take, SHOP, 20)
    first.take(SHOP, 19)
    first.close()
    assert Days(wallet.directory).last() == Day(DATE, 1_000)


def test_what_is_left_of_a_slice_serves_others(wallet: Wallet) -> None:
    wallet = limited(wallet, per_day_sat=1_000)
    limits = Limits(wallet, clock=lambda: NOON)
    limits.take(SHOP, 1)
    limits.close()
    assert Days(wallet.directory).last() == Day(DATE, 1)


def test_another_day_has_another_budget_and_a_clock_that_is_set_back_has_none(wallet: Wallet) -> None:
    wallet = limited(wallet, per_day_sat=100)
    now = [float(NOON)]
    limits = Limits(wallet, clock=lambda: now[0])
    limits.take(SHOP, 100)
    now[0] += 86_400
    limits.take(SHOP, 100)
    now[0] -= 86_400
    refused(limits.take, SHOP, 1)
    refused(Limits(wallet, clock=lambda: now[0]).take, SHOP, 1)
    assert [path.stem for path in Days(wallet.directory).files()] == ["2023-11-15"]


def test_an_option_lowers_a_budget_and_never_raises_it(wallet: Wallet) -> None:
    wallet = limited(wallet, per_day_sat=100)
    refused(Limits(wallet, budget=50, clock=lambda: NOON).take, SHOP, 51)
    refused(Limits(wallet, budget=500, clock=lambda: NOON).take, SHOP, 101)


def test_a_damaged_budget_is_named_and_nothing_is_spent(wallet: Wallet) -> None:
    wallet = limited(wallet, per_day_sat=100)
    Limits(wallet, clock=lambda: NOON).take(SHOP, 1)
    [path] = Days(wallet.directory).files()
    path.write_text(path.read_text().replace('"taken_sat":2', '"taken_sat":1'))
    with pytest.raises(StorageError) as error:
        Limits(wallet, clock=lambda: NOON).take(SHOP, 1)
    assert error.value.slug == "spending-damaged"
    wrong = [each for each in fsck(wallet).subjects if not each.ok]
    assert [(each.kind, each.name) for each in wrong] == [("budget", DATE)]
    path.unlink()
    assert fsck(wallet).exit_code == 0


@pytest.mark.parametrize(
    "line", ["per_day_sat = -1", 'per_call_sat = "1"', "per_call_sat = 1.5", "per_hour_sat = 1"]
)
def test_what_is_no_limit_is_refused(wallet: Wallet, line: str) -> None:
    text = (wallet.directory / "wallet.toml").read_text()
    with pytest.raises(ParseError):
        Config.from_toml(text.replace("[spending]", f"[spending]\n{line}"))
    assert issubclass(ParseError, MpchanError)


def test_a_refusal_by_the_day_takes_nothing_of_the_payees(wallet: Wallet) -> None:
    limits = Limits(limited(wallet, per_payee_sat=100, per_day_sat=50), clock=lambda: NOON)
    refused(limits.take, SHOP, 60)
    limits.take(SHOP, 50)


def test_one_server_gets_no_more_from_two_programs(
    tmp_path: Path, chain_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another program has signed is seen, however long this one runs."""
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, scheme="taproot")
        payer.open_channel(pair.payer, chain, pair.offer(), Amount(100_000), purpose=Purpose(SHOP, "shop"))
        pair.chain.mine(1)
        [name] = pair.payer.channels.names()
        limits = Limits(limited(pair.payer, per_payee_sat=1_000))
        limits.take(SHOP, 1)
        pair.pay(name, 900)
        now = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: now + 2)
        refused(limits.take, SHOP, 101)
        limits.take(SHOP, 100)
