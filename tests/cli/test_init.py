"""Making a wallet: its files, its networks, its backends, and never twice."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import tomli
from support.transcript import Shell

PREFIX = {"regtest": "bcrt1q", "signet": "tb1q", "testnet4": "tb1q", "mainnet": "bc1q"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_files_of_a_wallet(bare: Shell) -> None:
    """Nobody else can read them, whatever the umask says."""
    bare.ok("umask 000; mpchan --wallet new/wallet init")
    wallet = bare.folder / "new" / "wallet"
    assert sorted(path.name for path in wallet.iterdir()) == [
        "channels",
        "keys.toml",
        "offers",
        "wallet.lock",
        "wallet.toml",
    ]
    assert {mode(wallet), mode(wallet / "channels"), mode(wallet / "offers")} == {0o700}
    assert mode(wallet / "keys.toml") == 0o600
    keys = tomli.loads((wallet / "keys.toml").read_text())
    assert len(bytes.fromhex(keys["entropy"])) == 16


def test_a_directory_that_others_can_enter(bare: Shell) -> None:
    """An empty one is closed to them; what is in another may be theirs to read, so it is left as it is."""
    for name in ("empty", "used"):
        (bare.folder / name).mkdir()
        (bare.folder / name).chmod(0o755)
    bare.ok("mpchan --wallet empty init")
    assert mode(bare.folder / "empty") == 0o700
    (bare.folder / "used" / "letter").write_text("to everybody")
    error = bare.fails("mpchan --wallet used init", 7, "directory-permissions")
    assert error["hint"] == f"chmod 700 {bare.folder / 'used'}, or name a new directory"
    assert mode(bare.folder / "used") == 0o755
    (bare.folder / "used").chmod(0o700)
    bare.ok("mpchan --wallet used init")
    # a wallet that is there already is called by its name
    (bare.folder / "used").chmod(0o755)
    bare.fails("mpchan --wallet used init", 7, "wallet-exists")


def test_a_setting_that_no_toml_can_hold(bare: Shell) -> None:
    words = [
        "mpchan",
        "--wallet",
        "new",
        "init",
        "--chain",
        "bitcoind",
        "--rpc-cookie",
        b"\xff.cookie".decode(errors="surrogateescape"),
    ]
    done = bare.run([*words, "--json"])
    assert (done.code, done.error["error"]) == (3, "malformed-config")
    assert not (bare.folder / "new").exists()


def test_init_twice_is_refused_and_changes_nothing(bare: Shell) -> None:
    bare.ok("mpchan --wallet buyer init")
    for options in ("", "--network signet", "--chain none"):
        error = bare.fails(f"mpchan --wallet buyer init {options}", 7, "wallet-exists")
        assert str(bare.folder / "buyer") in error["message"]


def test_two_wallets_have_other_keys(bare: Shell) -> None:
    for name in ("buyer", "seller"):
        bare.ok(f"mpchan --wallet {name} init")
    assert bare.ok("mpchan --wallet buyer address").out != bare.ok("mpchan --wallet seller address").out


def test_an_init_that_was_cut_short_is_finished(bare: Shell) -> None:
    """With the keys that were made, should somebody have seen them already."""
    bare.ok("mpchan --wallet buyer init")
    (bare.folder / "buyer" / "wallet.toml").unlink()
    keys = bare.text("buyer/keys.toml")
    bare.fails("mpchan --wallet buyer address", 7, "no-wallet")
    bare.ok("mpchan --wallet buyer init")
    assert bare.text("buyer/keys.toml") == keys


@pytest.mark.parametrize("network", PREFIX)
def test_networks(bare: Shell, network: str) -> None:
    """The embedded chain is regtest's alone; every address and offer is of the wallet's own network."""
    chain = "embedded" if network == "regtest" else "none"
    bare.play(
        f"""
        $ mpchan --wallet buyer init --network {network} --json
        {{"wallet": "<folder>/buyer", "network": "{network}", "chain": "{chain}"}}
        """
    )
    assert bare.json("mpchan --wallet buyer address")["address"].startswith(PREFIX[network])
    offer = tomli.loads(bare.ok("mpchan --wallet buyer payee offer -q").out)
    assert offer["network"] == network
    assert offer["payee_address"].startswith(PREFIX[network])
    assert offer["min_confirmations"] == (6 if network == "mainnet" else 1)


def test_mainnet_says_what_is_at_stake(bare: Shell) -> None:
    done = bare.ok("mpchan --wallet buyer init --network mainnet")
    assert done.out == f"made a mainnet wallet in {bare.folder}/buyer (chain: none)\n"
    assert done.err == "keep keys.toml safe: it holds the keys, not encrypted\n"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", {"backend": "embedded"}),
        ("--chain embedded", {"backend": "embedded"}),
        ("--chain none", {"backend": "none"}),
        (
            "--chain bitcoind --rpc-url http://127.0.0.1:18443 --rpc-cookie /var/cookie",
            {"backend": "bitcoind", "rpc_url": "http://127.0.0.1:18443", "rpc_cookie": "/var/cookie"},
        ),
        (
            "--network signet --chain electrum --electrum 127.0.0.1:60602:s",
            {"backend": "electrum", "electrum": "127.0.0.1:60602:s"},
        ),
        (
            "--chain electrum --electrum a.onion:1 --electrum [::1]:2:s --proxy socks5://127.0.0.1:9050",
            {
                "backend": "electrum",
                "electrum": ["a.onion:1", "[::1]:2:s"],
                "proxy": "socks5://127.0.0.1:9050",
            },
        ),
    ],
)
def test_backends_are_written_and_read_back(bare: Shell, options: str, wanted: dict[str, str]) -> None:
    bare.ok(f"mpchan --wallet buyer init {options}")
    assert tomli.loads(bare.text("buyer/wallet.toml"))["chain"] == wanted
    bare.ok("mpchan --wallet buyer address")


def test_a_server_that_is_asked_in_clear_is_warned_of(bare: Shell) -> None:
    """Whoever is on the way reads and alters plain TCP; on this machine, in its own network or on regtest nobody is."""
    init = "mpchan --wallet {} init --network {} --chain electrum --electrum {}"
    for number, (network, server, warned) in enumerate(
        (
            ("signet", "electrum.example:50001", True),
            ("mainnet", "electrum.example:50001:t", True),
            ("signet", "electrum.example:50002:s", False),
            ("signet", "192.168.0.7:50001", False),
            ("regtest", "electrum.example:50001", False),
        )
    ):
        done = bare.ok(init.format(f"w{number}", network, server))
        assert ("can be read and changed on the way" in done.err) == warned
    assert not bare.run("mpchan --wallet none init -q --chain electrum --electrum nonsense").out
    assert not (bare.folder / "none").exists()


def test_a_relative_cookie_is_found_from_everywhere(bare: Shell) -> None:
    bare.ok("mpchan --wallet buyer init --chain bitcoind --rpc-cookie .cookie")
    chain = tomli.loads(bare.text("buyer/wallet.toml"))["chain"]
    assert chain["rpc_cookie"] == str(bare.folder / ".cookie")


@pytest.mark.parametrize("backend", ["neutrino", "1"])
def test_an_unknown_backend_in_the_file(bare: Shell, backend: str) -> None:
    bare.ok("mpchan --wallet buyer init")
    path = bare.folder / "buyer" / "wallet.toml"
    path.write_text(path.read_text().replace('"embedded"', f'"{backend}"'))
    error = bare.fails("mpchan --wallet buyer balance", 3, "malformed-config")
    assert error["message"] == (
        f"buyer/wallet.toml: chain.backend '{backend}' is none of embedded, bitcoind, electrum, none"
    )


def test_the_usual_terms_come_from_wallet_toml(bare: Shell) -> None:
    """And an option comes before them."""
    bare.ok("mpchan --wallet seller init")
    path = bare.folder / "seller" / "wallet.toml"
    path.write_text(path.read_text().replace("# fee_rate_sat_per_kvb = 2000", "fee_rate_sat_per_kvb = 3500"))
    assert tomli.loads(bare.ok("mpchan --wallet seller payee offer -q").out)["fee_rate_sat_per_kvb"] == 3500
    offer = tomli.loads(bare.ok("mpchan --wallet seller payee offer -q --fee-rate 1.25").out)
    assert offer["fee_rate_sat_per_kvb"] == 1250
    offer = tomli.loads(bare.ok("mpchan --wallet seller payee offer -q --lock-time-unit seconds").out)
    assert (offer["min_refund_delay"], offer["settle_window"]) == (288 * 600, 144 * 600)


def test_every_term_is_an_option(bare: Shell) -> None:
    bare.ok("mpchan --wallet seller init")
    done = bare.ok(
        "mpchan --wallet seller payee offer -q --min-capacity 0.0001btc --max-capacity 20000sat --fee-rate 1.5"
        " --lock-time-unit blocks --min-refund-delay 30 --max-refund-delay 60 --settle-window 10 --step 2"
        " --min-increment 7 --min-confirmations 2 --memo 'one [line]'"
        " --address bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    )
    offer = tomli.loads(done.out)
    for key, value in {
        "min_capacity_sat": 10_000,
        "max_capacity_sat": 20_000,
        "fee_rate_sat_per_kvb": 1500,
        "lock_time_unit": "blocks",
        "min_refund_delay": 30,
        "max_refund_delay": 60,
        "settle_window": 10,
        "decrementing": {"step": 2},
        "min_increment_sat": 7,
        "min_confirmations": 2,
        "memo": "one [line]",
        "payee_address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
    }.items():
        assert offer[key] == value, key


WINDOWS = [("blocks", 36), ("seconds", 21_600)]


@pytest.mark.parametrize("network", ["mainnet", "signet", "testnet4"])
@pytest.mark.parametrize(("unit", "least"), WINDOWS)
def test_a_short_window_needs_force(bare: Shell, network: str, unit: str, least: int) -> None:
    """A close has to get into a block in it; on regtest nothing is lost."""
    seller = "mpchan --wallet seller payee offer"
    short, good = (f"--lock-time-unit {unit} --settle-window {window}" for window in (least - 1, least))
    bare.ok(f"mpchan --wallet seller init --network {network}")
    error = bare.fails(f"{seller} {short}", 2, "short-window")
    assert str(error["message"]).startswith(
        f"a settle window of {least - 1} {unit} is below {least}: a close may"
    )
    assert error["hint"] == "--force if you know better"
    assert not list((bare.folder / "seller" / "offers").iterdir())
    for window in (1, 2):
        bare.fails(f"{seller} --lock-time-unit {unit} --settle-window {window}", 2, "short-window")
    bare.ok(f"{seller} {good}")
    forced = bare.json(f"{seller} {short} --force")["offer_id"]
    bare.fails(f"{seller} --like {forced}", 2, "short-window")
    assert bare.json(f"{seller} --like {forced} --force")["offer_id"] != forced
    bare.ok(f"{seller} --like {forced} --settle-window {least}")
    bare.ok("mpchan --wallet buyer init")
    bare.ok(f"mpchan --wallet buyer payee offer {short}")


@pytest.mark.parametrize(("unit", "least"), WINDOWS)
def test_a_short_window_in_the_wallets_settings(bare: Shell, unit: str, least: int) -> None:
    bare.ok("mpchan --wallet seller init --network signet")
    path = bare.folder / "seller" / "wallet.toml"
    text = path.read_text()
    terms = f'[offer]\nlock_time_unit = "{unit}"\nsettle_window = '
    path.write_text(text.replace("[offer]\n", f"{terms}{least - 1}\n"))
    bare.fails("mpchan --wallet seller payee offer", 2, "short-window")
    path.write_text(text.replace("[offer]\n", f"{terms}{least}\n"))
    bare.ok("mpchan --wallet seller payee offer")
