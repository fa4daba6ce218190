"""``mpchan plan``: what it takes and says, and a channel under the very terms that it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import Any

import click
import pytest
from support.transcript import TIMEOUT_SECONDS, Shell
from test_start_up import HEAVY, loaded
from test_terminal import plain, terminal, unfolded

from mpchan.channel.offer import Offer
from mpchan.cli.commands.plan import plan
from mpchan.cli.main import cli
from mpchan.sale.manifest import published_sale

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
COIN = 100_000_000
KEYS = [
    *("length", "pieces", "piece_length", "last_piece_length", "price_per_piece_sat", "free_pieces", "price_sat"),
    *("capacity_sat", "fee_rate_sat_per_kvb", "funding_fee_sat", "close_fee_sat", "refund_fee_sat", "locked_sat"),
    *("lock_time_unit", "step", "settle_window", "refund_delay", "refund_lock_time", "deadline"),
    *("time_for_payments", "seconds_for_payments", "least_bytes_per_second", "payer_risk_sat", "payee_risk_sat"),
    *("payer_locked_at_most", "payee_waits_at_most", "updates", "updates_possible", "warnings"),
]  # fmt: skip
NO_CHAIN = "no chain is asked what fees are now; 2 sat/vB is a guess, --fee-rate names another"


def planned(shell: Shell, options: str, wallet: str = "nobody") -> Any:
    """The plan in JSON. Nothing is made, whatever it says."""
    before = shell.files()
    view = shell.json(f"mpchan --wallet {wallet} plan {options}")
    assert shell.changes(before) == []
    assert list(view) == KEYS
    return view


# what it says -------------------------------------------------------------------------------------


def test_the_classic_case(bare: Shell) -> None:
    """A hundred gibibytes in a hundred pieces, without a wallet or a chain."""
    assert planned(bare, "100G --price 0.01btc") == {
        "length": 100 << 30,
        "pieces": 100,
        "piece_length": 1 << 30,
        "last_piece_length": 1 << 30,
        "price_per_piece_sat": 10_000,
        "free_pieces": 0,
        "price_sat": 1_000_000,
        "capacity_sat": 1_000_000,
        "fee_rate_sat_per_kvb": 2000,
        "funding_fee_sat": 306,
        "close_fee_sat": 338,
        "refund_fee_sat": 276,
        "locked_sat": 1_000_338,
        "lock_time_unit": "blocks",
        "step": 1,
        "settle_window": 144,
        "refund_delay": 306,
        "refund_lock_time": None,
        "deadline": None,
        "time_for_payments": 161,
        "seconds_for_payments": 96_600,
        "least_bytes_per_second": 1_111_534,
        "payer_risk_sat": 10_644,
        "payee_risk_sat": 0,
        "payer_locked_at_most": 306,
        "payee_waits_at_most": 160,
        "updates": 100,
        "updates_possible": None,
        "warnings": [NO_CHAIN],
    }
    assert bare.files() == {}
    assert not (bare.folder / "chain").exists()


def test_people_read_a_table(bare: Shell) -> None:
    bare.play(
        """
        $ mpchan plan 10MB --price 0.0005btc --pieces 30 --free-pieces 1 --fee-rate 1.5 --tip 900000
        file         10,000,000 bytes (9.5 MiB)
        pieces       30 of 333,334 bytes (325.5 KiB), the last one of 333,314 bytes
                     (325.5 KiB)
        price        50,025 sat, 1,725 sat a piece, the first piece is free
        channel      50,025 sat; 50,279 sat are locked, with the close's fee
        fee rate     1.5 sat/vB, of all of these:
        funding      230 sat, 0.46 % of the price; of one P2WPKH input, with change
        close        254 sat, 0.51 % of the price
        or refund    207 sat, 0.41 % of the price
        refund       306 blocks (2 d 3 h) after opening: block 900306
        pay until    144 blocks (1 d) before the refund: block 900162; `mpchan payee
                     sell` stops a little earlier (near_blocks)
        updates      29, the step is 1 block, room for 900,161
        to sell in   161 blocks (1 d 2 h): at least 104 bytes a second
        payer loses  2,209 sat at worst: one piece that never comes, funding and close
        payer waits  306 blocks (2 d 3 h) after opening for its refund, where the payee
                     is gone
        payee loses  0 sat of what it delivers: payments come first. What was paid is
                     lost where it sleeps through the settle window, which `mpchan
                     watch` does not, or where a reorganisation takes the funding
        payee waits  160 blocks (1 d 2 h) after the first payment, where the payer is
                     gone; 1 block less after each further one
        2> next: mpchan payee sell FILE --price-per-piece 1725 --pieces 30 --free-pieces 1 --fee-rate 1.5 --mailbox DIR
        """
    )


def test_small_pieces_and_small_fees(bare: Shell) -> None:
    shown = bare.ok("mpchan plan 10230 --price 1btc --pieces 10 --fee-rate 2").out.splitlines()
    assert shown[0] == "file         10,230 bytes (9.9 KiB)"
    assert shown[1] == "pieces       10 of 1,023 bytes"
    assert shown[5] == "funding      306 sat, less than 0.01 % of the price; of one P2WPKH input, with"


def test_warnings_are_for_people_too_and_no_failure(bare: Shell) -> None:
    done = bare.ok("mpchan plan 1000 --price 100 --fee-rate 2")
    cheap = "a piece for 1 sat is below the dust limit of 294 sat, which the first payment must reach: ask for more"
    dear = "opening and closing cost 644 sat, 644 % of the price"
    assert done.err == f"mpchan: warning: {cheap}\nmpchan: warning: {dear}\n"
    assert "next:" not in done.err  # it could not be sold
    assert bare.ok("mpchan plan 1000 --price 100 --fee-rate 2 -q").err == ""
    assert bare.ok("mpchan plan 1000 --price 100 --fee-rate 2 -q").out == done.out


@pytest.mark.parametrize(
    "options",
    [
        "1024P --price 20999999btc --pieces 1",
        "1024P --price 20000000btc --pieces 4999 --lock-time-unit seconds --tip 499999:4000000000",
        "1024P --price 3000sat --piece-size 200000000000001 --refund-delay 499999 --settle-window 400000 --tip 1",
        "1 --price 1",
        "3000000 --price 0.1btc --piece-size 1000 --free-pieces 2999 --lock-time-unit seconds --fee-rate 123.456",
        "999999999999 --price-per-piece 1btc --pieces 5000 --step 499999 --tip 400000000",
    ],
)
def test_the_table_fits_80_columns(bare: Shell, options: str) -> None:
    """Whatever the numbers, piped and in a terminal of any width; and nothing is cut."""
    piped = bare.ok(f"mpchan -q plan {options}").out
    assert max(len(line) for line in piped.splitlines()) <= 80
    assert all(line == line.rstrip() for line in piped.splitlines())
    for columns in (40, 80, 140):
        seen = plain(terminal(bare, f"-q plan {options}", columns))
        assert max(len(line) for line in seen.splitlines()) <= min(columns, 80)
        assert "\N{HORIZONTAL ELLIPSIS}" not in seen
        assert unfolded(seen) == unfolded(piped)


def test_scripts_load_no_tables(paid: Shell) -> None:
    assert not loaded(paid, "--wallet seller plan 1G --price 1btc --json") & HEAVY
    assert "rich" in loaded(paid, "--wallet seller plan 1G --price 1btc")


# files and sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "length"),
    [
        ("1000", 1000),
        ("500MB", 500_000_000),
        ("1.5GiB", 3 << 29),
        ("100G", 100 << 30),
        ("100GB", 100 * 10**9),
        ("2K", 2048),
    ],
)
def test_sizes(bare: Shell, size: str, length: int) -> None:
    assert planned(bare, f"{size} --price 1btc")["length"] == length


def test_a_file_counts_by_its_length(bare: Shell) -> None:
    """And a name that looks like a size is one."""
    for name, length in (("film.mkv", 12_345), ("100G", 7)):
        with (bare.folder / name).open("wb") as file:
            file.truncate(length)
    assert planned(bare, "film.mkv --price 1btc")["length"] == 12_345
    assert planned(bare, "100G --price 1btc")["length"] == 100 << 30
    assert planned(bare, "./100G --price 1btc")["length"] == 7
    (bare.folder / "a link").symlink_to("film.mkv")
    assert planned(bare, "'a link' --price 1btc")["length"] == 12_345
    (bare.folder / "film.mkv").chmod(0)  # it is not read
    assert planned(bare, "film.mkv --price 1btc")["length"] == 12_345


def test_what_is_neither_file_nor_size(bare: Shell) -> None:
    (bare.folder / "empty").touch()
    os.mkfifo(bare.folder / "pipe")
    expected = {
        "missing": "no such file or directory",
        "0": "no such file or directory",
        "1.5": "no such file or directory",
        "2048P": "no such file or directory",
        ".": "is a directory",
        "pipe": "is no regular file",
        "/dev/null": "is no regular file",
        "empty": "is empty",
    }
    for name, reason in expected.items():
        error = bare.fails(f"mpchan plan {name} --price 1btc", 3, "unreadable-file")
        assert error["message"] == f"{name}: {reason}"
    error = bare.fails("mpchan plan missing --price 1btc", 3, "unreadable-file")
    assert error["hint"] == "a size is a number of bytes such as 1000, 64M, 1GiB or 1GB"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("1000", (100, 10, 10)),
        ("1001", (91, 11, 11)),
        ("7", (7, 1, 1)),
        ("1000 --pieces 3", (3, 334, 332)),
        ("7 --pieces 1000", (7, 1, 1)),
        ("1000 --piece-size 300", (4, 300, 100)),
        ("1000 --piece-size 1G", (1, 1000, 1000)),
        ("100G --piece-size 1GB", (108, 10**9, (100 << 30) - 107 * 10**9)),
    ],
)
def test_how_it_is_cut(bare: Shell, options: str, expected: tuple[int, int, int]) -> None:
    view = planned(bare, f"{options} --price-per-piece 5000")
    assert (view["pieces"], view["piece_length"], view["last_piece_length"]) == expected
    assert view["price_sat"] == 5000 * expected[0]


def test_a_number_of_pieces_that_the_file_cannot_have(bare: Shell) -> None:
    view = planned(bare, "10 --pieces 6 --price 1btc --fee-rate 1")
    assert (view["pieces"], view["piece_length"]) == (5, 2)
    assert view["warnings"] == ["10 bytes do not make 6 pieces of one length: they make 5 of 2 bytes"]


def test_the_price_of_the_whole_is_shared_by_the_pieces_that_cost_something(bare: Shell) -> None:
    view = planned(bare, "1G --price 100000 --pieces 10 --free-pieces 3")
    assert (view["price_per_piece_sat"], view["price_sat"], view["updates"]) == (14_286, 100_002, 7)
    assert planned(bare, "1G --price-per-piece 14286 --pieces 10 --free-pieces 3") == view


# refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "slug", "message"),
    [
        ("1G", 2, "usage", "give one of --price and --price-per-piece"),
        ("1G --price 1 --price-per-piece 1", 2, "usage", "give one of --price and --price-per-piece"),
        ("1G --price 1 --pieces 2 --piece-size 1", 2, "usage", "give --pieces or --piece-size, not both"),
        ("1G --price 1 --pieces 0", 2, "usage", "invalid value for '--pieces': 0 is not in the range x>=1"),
        ("1G --price 1 --piece-size 0", 2, "usage", "no whole number of bytes"),
        ("1G --price 0", 2, "malformed-number", "min_increment_sat must be 1 to"),
        ("1G --price-per-piece 0", 2, "malformed-number", "min_increment_sat must be 1 to"),
        ("1G --price 1btc --free-pieces 100", 2, "malformed-number", "free_pieces must be 0 to 99, not 100"),
        (
            "1G --price-per-piece 21000000btc",
            2,
            "malformed-number",
            "2100000000000000, not 210000000000000000",
        ),
        (
            "1G --price 21000000btc --pieces 1",
            2,
            "malformed-number",
            "2100000000000000, not 2100000000000338",
        ),
        ("1G --price 1btc --step 500001", 2, "malformed-number", "step must be 1 to 500000, not 500001"),
        ("1G --price 1btc --tip 9 --lock-time-unit seconds", 2, "tip-needed", "median time"),
        ("1G --price 1btc --tip 499999999", 2, "malformed-number", "lock height must be 1 to 499999999"),
        ("1G --price 1btc --fee-rate 0.9", 5, "fee-rate-low", "an offer at 0.9 sat/vB is below"),
        ("1G --price 1btc --fee-rate 200.001", 5, "fee-rate-high", "an offer at 200.001 sat/vB is above"),
    ],
)
def test_what_makes_no_plan(bare: Shell, options: str, code: int, slug: str, message: str) -> None:
    assert message in bare.fails(f"mpchan plan {options}", code, slug)["message"]


LIMITS = (
    "--settle-window 1000",
    "--min-confirmations 127",
    "--settle-window 600000",
    "--step 600000",
    "--lock-time-unit seconds --settle-window 200000",
    "--fee-rate 0.1",
    "--fee-rate 201",
)


@pytest.mark.parametrize("terms", LIMITS)
def test_terms_that_no_offer_has_make_no_plan(wallets: Shell, terms: str) -> None:
    """It fails as the offer would."""
    offer = wallets.run(f"{SELLER} payee offer {terms} --json")
    assert offer.code in (2, 5)
    made = wallets.run(f"{SELLER} plan 1G --price 1btc {terms} --json")
    for key in ("error", "message", "exit_code"):
        assert made.error[key] == offer.error[key]


def test_the_hint_says_which_refund_delay_would_do(bare: Shell) -> None:
    """Where that is what is wrong."""
    assert bare.fails("mpchan plan 1G --price 1btc --step 500001", 2, "malformed-number")["hint"] is None
    for terms, least in (
        ("--settle-window 1000", 1037),
        ("--settle-window 1000 --refund-delay 500", 1037),
        ("--refund-delay 1", 181),
        ("--lock-time-unit seconds --refund-delay 1", 108_600),
    ):
        error = bare.fails(f"mpchan plan 1G --price 1btc {terms}", 2, "offer-limits")
        assert error["hint"] == f"with --refund-delay {least} or more these terms make an offer"
        asked = re.sub(" ?--refund-delay [0-9]+", "", terms)
        bare.fails(f"mpchan plan 1G --price 1btc {asked} --refund-delay {least - 1}", 2, "offer-limits")
        view = planned(bare, f"1G --price 1btc {asked} --refund-delay {least}")
        assert view["refund_delay"] == least


# wallets and chains -------------------------------------------------------------------------------


def test_a_wallets_chain_says_height_and_fees(wallets: Shell) -> None:
    view = planned(wallets, "1G --price 1btc", "seller")
    assert (view["refund_lock_time"], view["deadline"], view["updates_possible"]) == (417, 273, 272)
    assert (view["fee_rate_sat_per_kvb"], view["warnings"]) == (2000, [])
    view = planned(wallets, "1G --price 1btc --tip 500000", "seller")
    assert (view["refund_lock_time"], view["deadline"]) == (500_306, 500_162)
    [warning] = planned(wallets, "1G --price 1btc --pieces 300", "seller")["warnings"]
    assert warning.startswith("the lock times leave room for 272 updates, 300 are needed")
    view = planned(wallets, "1G --price 1btc --pieces 300 --lock-time-unit seconds", "seller")
    assert view["warnings"] == []
    assert view["refund_lock_time"] - view["deadline"] == 86_400


def test_the_wallets_terms_are_the_usual_ones(bare: Shell) -> None:
    bare.ok("mpchan --wallet real init --network mainnet --chain none")
    view = planned(bare, "1G --price 1btc", "real")
    assert view["time_for_payments"] == 306 - 144 - 6
    assert view["warnings"] == [
        "this wallet asks no chain what fees are now: a close under this offer pays 2 sat/vB"
    ]
    path = bare.folder / "real" / "wallet.toml"
    path.write_text(
        path.read_text().replace(
            "[offer]", "[offer]\nfee_rate_sat_per_kvb = 5000\nsettle_window = 100\nstep = 3"
        )
    )
    view = planned(bare, "1G --price 1btc", "real")
    assert (view["fee_rate_sat_per_kvb"], view["settle_window"], view["step"]) == (5000, 100, 3)
    assert view["warnings"] == []
    view = planned(bare, "1G --price 1btc --fee-rate 7 --lock-time-unit seconds", "real")
    assert (view["fee_rate_sat_per_kvb"], view["settle_window"], view["step"]) == (7000, 86_400, 1)
    assert view["updates_possible"] > 700_000_000
    path.write_text(path.read_text().replace("[offer]", "[offer]\nmax_refund_delay = 300"))
    bare.fails("mpchan --wallet real plan 1G --price 1btc", 2, "offer-limits")


def test_a_rate_that_the_chain_does_not_relay(wallets: Shell) -> None:
    path = wallets.folder / "seller" / "wallet.toml"
    path.write_text(path.read_text().replace("min_fee_rate = 1000", "min_fee_rate = 100"))
    view = planned(wallets, "1G --price 1btc --fee-rate 0.5", "seller")
    assert view["warnings"] == [
        "the chain relays nothing below 1 sat/vB now, a close under this offer pays 0.5 sat/vB"
    ]


def test_a_chain_that_is_out_of_reach_is_no_failure(bare: Shell) -> None:
    bare.ok("mpchan --wallet far init --chain bitcoind --rpc-url http://127.0.0.1:1")
    no_tip = "the chain cannot be asked where it stands: "
    view = planned(bare, "1G --price 1btc", "far")
    assert [view["warnings"][0][: len(no_tip)], view["warnings"][1:]] == [no_tip, [NO_CHAIN]]
    assert view["refund_lock_time"] is None
    view = planned(bare, "1G --price 1btc --fee-rate 3 --tip 700", "far")
    assert (view["refund_lock_time"], view["fee_rate_sat_per_kvb"], view["warnings"]) == (1006, 3000, [])
    [warning] = planned(bare, "1G --price 1btc --tip 700", "far")["warnings"]
    assert warning.startswith("the chain cannot be asked what fees are now: ")
    assert warning.endswith("; 2 sat/vB is a guess, --fee-rate names another")
    path = bare.folder / "far" / "wallet.toml"
    path.write_text(path.read_text().replace("min_fee_rate = 1000", "min_fee_rate = 9000"))
    assert planned(bare, "1G --price 1btc", "far")["fee_rate_sat_per_kvb"] == 9000


@pytest.mark.parametrize(("unit", "least"), [("blocks", 36), ("seconds", 21_600)])
def test_a_settle_window_that_needs_force(bare: Shell, unit: str, least: int) -> None:
    terms = f"--lock-time-unit {unit} --settle-window {least - 1}"
    for network in ("signet", "regtest"):
        bare.ok(f"mpchan --wallet {network} init --network {network} --chain none")
        warnings = planned(bare, f"1G --price 1btc --fee-rate 2 {terms}", network)["warnings"]
        offer = bare.run(f"mpchan --wallet {network} payee offer {terms}")
        assert offer.code == (2 if network == "signet" else 0)
        if network == "regtest":
            assert warnings == []
            continue
        [text] = warnings
        assert text.startswith(f"a settle window of {least - 1} {unit} is below {least}: ")
        assert text.endswith("; an offer needs --force for it")
    good = f"1G --price 1btc --fee-rate 2 --lock-time-unit {unit} --settle-window {least}"
    assert planned(bare, good, "signet")["warnings"] == []


# a sale under the plan ----------------------------------------------------------------------------

TERMS = "--fee-rate 3 --settle-window 30 --step 2 --min-confirmations 2"
SECONDS = "--fee-rate 3 --lock-time-unit seconds --settle-window 18000 --step 60 --min-confirmations 2"


def fee(shell: Shell, name: str, spent: int) -> int:
    """Of a transaction in a file, by what it spends."""
    return spent - sum(output["value_sat"] for output in shell.json(f"mpchan inspect {name}")["outputs"])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("terms", "delay", "margin"), [(TERMS, 100, 18), (SECONDS, 60_000, 10_800)], ids=["blocks", "seconds"]
)
def test_a_channel_under_these_terms_is_as_planned(
    wallets: Shell, terms: str, delay: int, margin: int
) -> None:
    """Opened, paid for one piece, and closed by the payee, since the payer is gone."""
    view = planned(wallets, f"1G --price 50000 --pieces 20 {terms} --refund-delay {delay}", "seller")
    price, capacity = view["price_per_piece_sat"], view["capacity_sat"]
    limits = f"--min-capacity {price} --max-capacity {capacity} --min-increment {price}"
    wallets.ok(f"{SELLER} payee offer {terms} --min-refund-delay {delay - margin} {limits} -o offer.toml")
    request = wallets.json(f"{BUYER} open offer.toml {capacity} --funding-fee-rate 3 -o request.psbt")
    assert (request["capacity_sat"], request["funding_sat"]) == (50_000, view["locked_sat"])
    assert request["refund_lock_time"] == view["refund_lock_time"]
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    wallets.ok(f"{BUYER} payer fund signed.psbt -o funding.hex --refund-out refund.hex")
    assert fee(wallets, "funding.hex", COIN) == view["funding_fee_sat"]
    assert fee(wallets, "refund.hex", view["locked_sat"]) == view["refund_fee_sat"]
    wallets.fails(f"{BUYER} pay {price}", 6, "unconfirmed")
    wallets.ok("mpchan regtest mine 2")
    update = wallets.json(f"{BUYER} pay {price} -o update.psbt")
    assert update["lock_time"] == view["deadline"] - view["step"]
    wallets.ok(f"{SELLER} payee accept update.psbt")
    error = wallets.fails(f"{SELLER} payee settle", 6, "update-locked")
    if view["lock_time_unit"] == "blocks":
        assert error["hint"].startswith(f"{view['payee_waits_at_most']} blocks to go")
        wallets.ok(f"mpchan regtest mine {view['payee_waits_at_most'] - 1}")
        wallets.fails(f"{SELLER} payee settle", 6, "update-locked")
        wallets.ok("mpchan regtest mine 1")
    else:
        wallets.ok("mpchan regtest mine 70")
    wallets.ok(f"{SELLER} payee settle -o close.hex")
    assert fee(wallets, "close.hex", view["locked_sat"]) == view["close_fee_sat"]
    wallets.ok("mpchan regtest mine 1")
    balance = wallets.json(f"{BUYER} balance")
    assert COIN - balance["confirmed_sat"] == view["payer_risk_sat"]
    assert wallets.json(f"{SELLER} balance")["confirmed_sat"] == price


TAPROOT = "--scheme taproot --fee-rate 3 --settle-window 30 --min-confirmations 2"
TAPROOT_SECONDS = (
    "--scheme taproot --fee-rate 3 --lock-time-unit seconds --settle-window 18000 --min-confirmations 2"
)


@pytest.mark.parametrize(
    ("terms", "delay", "margin", "grid"),
    [(TAPROOT, 100, 18, 36), (TAPROOT_SECONDS, 60_000, 10_800, 21_600)],
    ids=["blocks", "seconds"],
)
def test_a_channel_without_an_exchange_is_as_planned(
    wallets: Shell, terms: str, delay: int, margin: int, grid: int
) -> None:
    """Opened at once, paid up to the last moment, and closed by the payee, who waits for nothing."""
    options = f"1G --price 50000 --pieces 20 {terms} --refund-delay {delay}"
    view = planned(wallets, options, "seller")
    assert (view["step"], view["updates_possible"], view["payee_waits_at_most"]) == (None, None, 0)
    assert delay <= view["refund_delay"] == view["payer_locked_at_most"] < delay + grid
    assert view["refund_lock_time"] % grid == 0
    shown = wallets.ok(f"{SELLER} plan {options}").out
    assert "payee waits  not at all: it can close at any time" in shown
    price, capacity = view["price_per_piece_sat"], view["capacity_sat"]
    limits = f"--min-capacity {price} --max-capacity {capacity} --min-increment {price}"
    wallets.ok(f"{SELLER} payee offer {terms} --min-refund-delay {delay - margin} {limits} -o offer.toml")
    opening = (
        f"{BUYER} open offer.toml {capacity} --funding-fee-rate 3 --refund-out refund.hex -o funding.hex"
    )
    opened = wallets.json(opening)
    assert (opened["capacity_sat"], opened["funding_sat"]) == (50_000, view["locked_sat"])
    assert opened["refund_lock_time"] == view["refund_lock_time"]
    assert fee(wallets, "funding.hex", COIN) == view["funding_fee_sat"]
    assert fee(wallets, "refund.hex", view["locked_sat"]) == view["refund_fee_sat"]
    if view["lock_time_unit"] == "blocks":
        wallets.ok(f"mpchan regtest mine {2 + view['time_for_payments'] - 1}")
        assert wallets.json("mpchan regtest status")["height"] == view["deadline"] - 1
    else:
        wallets.ok("mpchan regtest mine 2")
    wallets.ok(f"{BUYER} pay {price} -o update.psbt")
    wallets.ok(f"{SELLER} payee accept update.psbt")
    wallets.ok(f"{SELLER} payee settle -o close.hex")
    assert fee(wallets, "close.hex", view["locked_sat"]) == view["close_fee_sat"]
    wallets.ok("mpchan regtest mine 1")
    balance = wallets.json(f"{BUYER} balance")
    assert COIN - balance["confirmed_sat"] == view["payer_risk_sat"]
    assert wallets.json(f"{SELLER} balance")["confirmed_sat"] == price


def test_without_a_tip_the_refund_may_be_a_little_later(bare: Shell) -> None:
    """It has to be a multiple of 36 blocks; what a plan says at most holds wherever the chain stands."""
    view = planned(bare, f"1G --price 1btc {TAPROOT} --refund-delay 100")
    assert (view["refund_delay"], view["payer_locked_at_most"]) == (100, 135)
    assert "at least 100 blocks" in bare.ok(f"mpchan plan 1G --price 1btc {TAPROOT} --refund-delay 100").out
    found = {
        planned(bare, f"1G --price 1btc {TAPROOT} --refund-delay 100 --tip {tip}")["payer_locked_at_most"]
        for tip in (36 * 10 - 101, 36 * 10 - 100, 36 * 10 - 99)
    }
    assert found == {100, 101, 135}


def test_the_last_moment_for_a_payment_is_as_planned(wallets: Shell) -> None:
    view = planned(wallets, f"1G --price 50000 --pieces 20 {TERMS} --refund-delay 100", "seller")
    wallets.ok(f"{SELLER} payee offer {TERMS} --min-refund-delay 82 -o offer.toml")
    wallets.ok(f"{BUYER} open offer.toml 50000 -o request.psbt")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    wallets.ok(f"{BUYER} payer fund signed.psbt")
    wallets.ok(f"mpchan regtest mine {2 + view['time_for_payments'] - 1}")
    wallets.ok(f"{BUYER} pay 1000 -o update.psbt")
    wallets.ok(f"{SELLER} payee accept update.psbt")
    wallets.ok("mpchan regtest mine 1")
    wallets.fails(f"{BUYER} pay 1000", 5, "past-deadline")
    assert wallets.json("mpchan regtest status")["height"] == view["deadline"]
    wallets.fails(f"{BUYER} refund", 6, "refund-locked")
    wallets.ok(f"mpchan regtest mine {view['settle_window']}")
    assert wallets.json("mpchan regtest status")["height"] == view["refund_lock_time"]
    wallets.ok(f"{BUYER} refund")


# what comes next ----------------------------------------------------------------------------------


def next_words(shell: Shell, options: str) -> list[str]:
    """The command that the plan proposes."""
    line = shell.ok(f"mpchan plan {options}").err.splitlines()[-1]
    assert line.startswith("next: mpchan payee sell ")
    return shlex.split(line.removeprefix("next: mpchan payee sell "))


@pytest.mark.parametrize(
    "options",
    [
        "1000 --price 1btc",
        "1001 --price 1btc --pieces 77",
        "10 --price 1btc --pieces 6",
        "9 --price 1btc --piece-size 4",
        "4000 --price 1btc --pieces 6000",
        "1G --price 1btc --piece-size 10MB --free-pieces 7 --fee-rate 1.25",
        "1G --price 1btc --step 3 --min-confirmations 3 --settle-window 100 --refund-delay 5000",
        "1G --price 1btc --lock-time-unit seconds --step 30",
        "1G --price 1btc --scheme taproot --settle-window 100 --refund-delay 5000",
    ],
)
def test_what_comes_next_is_the_same_plan(bare: Shell, options: str) -> None:
    """Its words are all known to ``payee sell``, and cut and price the file alike."""
    words = next_words(bare, options)
    sell = cli.get_command(click.Context(cli), "payee")
    assert isinstance(sell, click.Group)
    command = sell.get_command(click.Context(sell), "sell")
    assert command is not None
    with command.make_context("sell", list(words)) as context:
        assert context.params["mailbox"] is not None
    assert words[0] == "FILE"
    assert words[-2:] == ["--mailbox", "DIR"]
    given = dict(zip(words[1:-2:2], words[2:-2:2], strict=True))
    least = given.pop("--min-refund-delay", None)
    given.pop("--max-refund-delay", None)
    if least is not None:
        given["--refund-delay"] = str(int(least) + 18)
    again = " ".join(f"{option} {value}" for option, value in given.items())
    first, second = planned(bare, options), planned(bare, f"{options.split()[0]} {again}")
    for view in (first, second):
        view["warnings"] = [warning for warning in view["warnings"] if "do not make" not in warning]
    assert first == second


def test_what_comes_next_sells_so(wallets: Shell) -> None:
    """The offer that is published has the plan's terms."""
    (wallets.folder / "my film").write_bytes(bytes(range(200)) * 5)
    (wallets.folder / "box").mkdir()
    terms = "--pieces 7 --free-pieces 2 --fee-rate 1.5 --settle-window 40 --refund-delay 5000 --step 2"
    options = f"'my film' --price-per-piece 1000 --min-confirmations 2 {terms}"
    words = ["box" if word == "DIR" else word for word in next_words(wallets, options)]
    view = planned(wallets, options, "seller")
    with subprocess.Popen(
        ["mpchan", "--wallet", "seller", "payee", "sell", *words],
        cwd=wallets.folder,
        env=wallets.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "on sale" in process.stdout.readline()
        process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0
    offer = Offer.from_toml(wallets.text("box/offer.toml"))
    sale = published_sale(offer)
    found = {
        "length": sale.length,
        "pieces": sale.count,
        "piece_length": sale.piece_length,
        "price_per_piece_sat": sale.price.sat,
        "free_pieces": sale.free_pieces,
        "price_sat": sale.whole_price.sat,
        "capacity_sat": offer.max_capacity.sat,
        "fee_rate_sat_per_kvb": offer.fee_rate.sat_per_kvb,
        "lock_time_unit": offer.lock_time_unit,
        "step": offer.own_terms["step"],
        "settle_window": offer.settle_window,
        "refund_delay": offer.default_refund_delay,
    }
    assert found == {key: view[key] for key in found}
    assert offer.min_confirmations == 2


# help ---------------------------------------------------------------------------------------------


def test_every_option_is_explained_and_the_examples_work(bare: Shell) -> None:
    options = [item for item in plan.params if isinstance(item, click.Option)]
    assert {max(option.opts, key=len) for option in options} == {
        *("--price", "--price-per-piece", "--pieces", "--piece-size", "--free-pieces", "--fee-rate"),
        *(
            "--lock-time-unit",
            "--refund-delay",
            "--settle-window",
            "--scheme",
            "--step",
            "--min-confirmations",
            "--tip",
        ),
        *("--wallet", "--json", "--quiet"),
    }
    assert all(option.help for option in options)
    text = bare.ok("mpchan plan --help", COLUMNS="80").out
    assert max(len(line) for line in text.splitlines()) <= 80
    with (bare.folder / "film.mkv").open("wb") as file:
        file.truncate(10**9)
    examples = text.partition("Example:\n")[2].partition("\n\n")[0].split("\n")
    shown = [line.strip() for line in examples if line.strip()]
    assert len(shown) == 2
    for line in shown:
        bare.ok(line)
