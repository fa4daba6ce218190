"""``wallet.toml``: what people can write into it, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli

from mpchan.bitcoin.network import MAINNET, REGTEST, SIGNET
from mpchan.channel.limits import PayerLimits, WatchPolicy
from mpchan.errors import ParseError, StorageError
from mpchan.units import FeeRate
from mpchan.wallet.config import ChainConfig, Config, config_text, offer_defaults
from mpchan.wallet.wallet import Wallet

MINIMAL = 'network = "regtest"\n'


def refused(text: str) -> ParseError:
    with pytest.raises(ParseError) as caught:
        Config.from_toml(text, source="my/wallet.toml")
    assert caught.value.exit_code == 3
    assert caught.value.message.startswith("my/wallet.toml")
    return caught.value


@pytest.mark.parametrize(
    "chain",
    [
        ChainConfig(),
        ChainConfig("embedded", "/some/where"),
        ChainConfig("bitcoind", None, "http://127.0.0.1:18443", "/home/x/.cookie"),
        ChainConfig("electrum", None, None, None, ("host:50002:s",)),
        ChainConfig("electrum", None, None, None, ("host:50002:s", "other:50001"), "socks5://127.0.0.1:9050"),
        ChainConfig("none"),
    ],
)
def test_a_new_file_reads_back(chain: ChainConfig) -> None:
    config = Config.from_toml(config_text(REGTEST, chain))
    assert (config.network, config.chain) == (REGTEST, chain)
    assert config.limits == PayerLimits()
    assert config.offer == {}


def test_what_is_left_out_has_its_default() -> None:
    config = Config.from_toml(MINIMAL)
    assert config.chain == ChainConfig()
    assert config.limits == PayerLimits(FeeRate(1000), FeeRate(200_000), 4320, 2_592_000)


def test_limits_are_read() -> None:
    config = Config.from_toml(MINIMAL + "[limits]\nmin_fee_rate = 5\nmax_refund_delay_blocks = 7\n")
    assert config.limits.min_fee_rate == FeeRate(5)
    assert config.limits.max_refund_delay("blocks") == 7
    assert config.limits.max_refund_delay("seconds") == 2_592_000


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "network"),
        ('network = "moon"', "moon"),
        ("network = 1", "network"),
        (MINIMAL + "surprise = 1", "surprise"),
        (MINIMAL + "version = 2", "version"),
        (MINIMAL + "version = true", "version"),
        (MINIMAL + "chain = 1", "chain"),
        (MINIMAL + '[chain]\nbackend = "carrier pigeon"', "carrier pigeon"),
        (MINIMAL + "[chain]\nbackend = 1", "backend"),
        (MINIMAL + "[chain]\nsurprise = 1", "chain.'surprise'"),
        ('network = "mainnet"\n[chain]\nbackend = "embedded"', "regtest only"),
        ('network = "signet"', "regtest only"),
        (MINIMAL + "[limits]\nsurprise = 1", "surprise"),
        (MINIMAL + "[limits]\nmin_fee_rate = 1.5", "min_fee_rate"),
        (MINIMAL + '[limits]\nmin_fee_rate = "1"', "min_fee_rate"),
        (MINIMAL + "[limits]\nmax_refund_delay_blocks = -1", "max_refund_delay_blocks"),
        (MINIMAL + "[limits]\nmax_refund_delay_blocks = true", "max_refund_delay_blocks"),
        (MINIMAL + "[offer]\nscheme = 1", "scheme"),
        (MINIMAL + "[offer]\nstep = 1.0", "step"),
        (MINIMAL + "[offer]\nmemo = 1", "memo"),
        ("[", "TOML"),
        ("network = 'regtest'\nnetwork = 'regtest'", "TOML"),
    ],
)
def test_56_mistakes_name_file_and_key(text: str, word: str) -> None:
    error = refused(text)
    assert word in error.message
    assert error.slug in ("malformed-config", "malformed-number", "unknown-network")


def test_a_wallet_with_a_broken_file_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as missing:
        Wallet.open(tmp_path)
    assert (missing.value.slug, missing.value.exit_code) == ("no-wallet", 7)
    assert missing.value.hint is not None
    (tmp_path / "wallet.toml").write_text("[")
    with pytest.raises(ParseError) as broken:
        Wallet.open(tmp_path)
    assert str(tmp_path / "wallet.toml") in broken.value.message


def test_a_wallet_that_cannot_work_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ParseError):
        Wallet.create(tmp_path / "wallet", MAINNET, ChainConfig())
    assert not (tmp_path / "wallet").exists()


# the payee's usual terms --------------------------------------------------------------------------


def test_usual_terms_are_the_designs() -> None:
    terms = offer_defaults(Config.from_toml(MINIMAL), None)
    assert terms == {
        "scheme": "decrementing",
        "min_capacity_sat": 1000,
        "max_capacity_sat": 100_000_000,
        "lock_time_unit": "blocks",
        "min_refund_delay": 288,
        "max_refund_delay": 4320,
        "settle_window": 144,
        "step": 1,
        "min_increment_sat": 1,
        "min_confirmations": 1,
        "memo": "",
    }


@pytest.mark.parametrize(("network", "confirmations"), [(MAINNET, 6), (SIGNET, 1), (REGTEST, 1)])
def test_mainnet_asks_for_six_confirmations(network: object, confirmations: int) -> None:
    config = Config.from_toml(f'network = "{network}"\n[chain]\nbackend = "none"\n')
    assert offer_defaults(config, None)["min_confirmations"] == confirmations


def test_delays_count_for_the_unit_of_the_file_only() -> None:
    text = MINIMAL + '[offer]\nlock_time_unit = "seconds"\nsettle_window = 30000\nmemo = "hi"\n'
    config = Config.from_toml(text)
    seconds, blocks = offer_defaults(config, None), offer_defaults(config, "blocks")
    assert (seconds["lock_time_unit"], seconds["settle_window"]) == ("seconds", 30_000)
    assert (seconds["min_refund_delay"], seconds["max_refund_delay"]) == (288 * 600, 4320 * 600)
    assert (blocks["lock_time_unit"], blocks["settle_window"], blocks["memo"]) == ("blocks", 144, "hi")


def test_the_files_comments_show_terms_that_work() -> None:
    """Each commented line of the new file, once its mark is taken away, is a setting."""
    text = config_text(REGTEST, ChainConfig())
    settings = [line for line in text.splitlines() if line.startswith("# ") and " = " in line]
    assert len(settings) >= 5
    for line in settings:
        text = text.replace(line, line[2:])
    config, table = Config.from_toml(text), tomli.loads(text)
    assert set(config.offer) == set(table["offer"])
    assert len(config.offer) + len(table["watch"]) + len(table["spending"]) == len(settings)
    assert config.spending.per_day_sat == table["spending"]["per_day_sat"]
    assert config.watch == WatchPolicy(claim_after=2 * 24 * 3600)
