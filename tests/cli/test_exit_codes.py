"""Every exit code, and the slug of many a refusal; ``Shell.fails`` sees that nothing changed and stdout is empty."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.transcript import CHAIN, TIMEOUT_SECONDS, Shell

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"


def channel_file(shell: Shell, wallet: str) -> Path:
    """The one channel's file in a wallet."""
    [path] = (shell.folder / wallet / "channels").glob("*.json")
    return path


# 0 and 1 ------------------------------------------------------------------------------------------


def test_0_done(bare: Shell) -> None:
    done = bare.run("mpchan --wallet buyer init")
    assert (done.code, done.err) == (0, "")


BUGGY = (
    "import mpchan.cli.commands.init as w\ndef broken(*_): raise ZeroDivisionError('by zero')\n"
    "w.Wallet.create = broken\n"
)
RUN = "from mpchan.__main__ import run; run()"


@pytest.mark.parametrize("flag", ["", "--json"])
def test_1_a_bug_is_no_traceback(bare: Shell, flag: str) -> None:
    (bare.folder / "broken.py").write_text(BUGGY + RUN)
    done = bare.run(f"python broken.py init {flag}")
    assert (done.code, done.out) == (1, "")
    if flag:
        assert done.error == {
            "error": "bug",
            "message": "unexpected ZeroDivisionError: by zero",
            "hint": "this is a bug in mpchan; MPCHAN_DEBUG=1 shows where",
            "exit_code": 1,
        }
    else:
        assert done.err == (
            "mpchan: error: unexpected ZeroDivisionError: by zero\n"
            "mpchan: hint: this is a bug in mpchan; MPCHAN_DEBUG=1 shows where\n"
        )
    assert "Traceback" in bare.run(f"python broken.py init {flag}", MPCHAN_DEBUG="1").err


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_ctrl_c_is_no_bug(bare: Shell, flag: list[str]) -> None:
    """The command is in the middle of reading a pipe: one line, and the exit code that shells give."""
    pipe = bare.folder / "pipe"
    os.mkfifo(pipe)
    del bare.env["PYTHONWARNINGS"]  # a file that the interrupt leaves open is none of our business
    process = subprocess.Popen(
        ["mpchan", "inspect", "pipe", *flag],
        cwd=bare.folder,
        env=bare.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with open(pipe, "wb"):  # waits until the command has opened it too
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, out, err) == (130, b"", b"mpchan: interrupted\n")


def test_ctrl_c_while_the_program_loads(bare: Shell) -> None:
    (bare.folder / "loading.py").write_text(
        "import sys\nsys.modules['mpchan.cli.main'] = None\n"
        "import mpchan.__main__ as program, builtins\nreal = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'mpchan.cli.main': raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = interrupted\nprogram.run()\n"
    )
    done = bare.run("python loading.py")
    assert (done.code, done.out, done.err) == (130, "", "")


# 2, usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("mpchan", "missing command"),
        ("mpchan payee", "missing command"),
        ("mpchan -q", "missing command"),
        ("mpchan nonsense", "no such command 'nonsense'"),
        ("mpchan payer nonsense", "no such command 'nonsense'"),
        ("mpchan balance --nonsense", "no such option"),
        ("mpchan balance more", "got unexpected extra argument (more)"),
        ("mpchan inspect", "missing argument 'FILE'"),
        ("mpchan wait", "missing option '--for'. Choose from: confirmed, final, closed"),
        ("mpchan wait --for later", "'later' is not one of 'confirmed', 'final', 'closed'"),
        ("mpchan wait --for final --timeout nan", "'nan' is not a number of seconds"),
        ("mpchan wait --for final --timeout -1", "-1.0 is not in the range x>=0"),
        ("mpchan pay", "give one of AMOUNT, --total, --last and --stream"),
        ("mpchan pay 1 --last", "give one of AMOUNT, --total, --last and --stream"),
        ("mpchan pay 1 --total 2", "give one of AMOUNT, --total, --last and --stream"),
        ("mpchan pay -1", "no such option"),
        ("mpchan pay 1.5", "not an amount: '1.5'"),
        ("mpchan pay 1e3", "not an amount: '1e3'"),
        ("mpchan pay 1,000", "not an amount: '1,000'"),
        ("mpchan pay 0.000000001btc", "not an amount: '0.000000001btc'"),
        ("mpchan pay 21000001btc", "amount in satoshi must be 0 to 2100000000000000"),
        ("mpchan pay --total ٣", "not an amount: '٣'"),
        ("mpchan payer open offer.toml lots", "not an amount: 'lots'"),
        ("mpchan payer open offer.toml 1 --funding-fee-rate 1e1", "not a fee rate: '1e1'"),
        ("mpchan payee offer --min-capacity free", "not an amount: 'free'"),
        ("mpchan payee offer --step 0", "0 is not in the range x>=1"),
        ("mpchan payee offer --step ２", "'２' is not a whole number"),
        ("mpchan payer open --refund-delay 1_0", "'1_0' is not a whole number"),
        ("mpchan balance --confirmations ２", "'２' is not a whole number"),
        ("mpchan scan --gap-limit ' 2'", "' 2' is not a whole number"),
        ("mpchan watch --interval inf", "'inf' is not a number of seconds"),
        ("mpchan wait --for final --timeout 1e3", "'1e3' is not a number of seconds"),
        ("mpchan payee offer --lock-time-unit days", "'days' is not one of 'blocks', 'seconds'"),
        ("mpchan balance --tip high", "'high' is not HEIGHT or HEIGHT:MEDIAN_TIME"),
        ("mpchan balance --tip 1_0", "'1_0' is not HEIGHT or HEIGHT:MEDIAN_TIME"),
        ("mpchan balance --tip 10:", "'10:' is not HEIGHT or HEIGHT:MEDIAN_TIME"),
        ("mpchan balance --tip 500000000", "tip height must be 0 to 499999999, not 500000000"),
        ("mpchan init --network moon", "'moon' is not one of"),
        ("mpchan init --network signet --chain embedded", "the embedded chain is regtest only, not signet"),
        ("mpchan init --rpc-url http://localhost", "--rpc-url belongs to --chain bitcoind, not to embedded"),
        ("mpchan init --chain none --electrum a:1", "--electrum belongs to --chain electrum, not to none"),
        ("mpchan init --proxy socks5://a:1", "--proxy belongs to --chain electrum, not to embedded"),
        ("mpchan init --chain electrum", "no Electrum server is named"),
        ("mpchan init --chain electrum --electrum a", "not an Electrum server: 'a'"),
        (
            "mpchan init --chain electrum --electrum a.onion:1",
            "a.onion:1:t is a Tor service, and no proxy is set",
        ),
        ("mpchan regtest mine 0", "0 is not in the range 1<=x<=100000"),
        ("mpchan regtest faucet bcrt1qnonsense 1btc", ""),
        ("mpchan regtest faucet bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4 1btc", ""),
        ("mpchan regtest mine 1_0", "'1_0' is not a whole number"),
        ("mpchan regtest mine one", "'one' is not a whole number"),
    ],
)
def test_2_usage(bare: Shell, command: str, message: str) -> None:
    """The same with and without ``--json`` at its end; nothing is made or touched."""
    done = bare.run(command)
    assert (done.code, done.out) == (2, "")
    assert "mpchan: error: " in done.err
    assert message in done.err
    last = bare.run(f"{command} --json")
    assert last.code == 2
    assert message in last.error["message"]
    assert bare.files() == {}


@pytest.mark.parametrize(
    "command",
    [
        "mpchan {} pay {}",
        "mpchan {} payee {} offer --step 0 {}",
        "mpchan {} payer {}",
        "mpchan {} regtest {} dig {}",
    ],
)
def test_2_the_flag_has_any_place(bare: Shell, command: str) -> None:
    """Before the command, between its words, or last."""
    plain = bare.run(command.replace("{}", ""))
    message = plain.err.partition("mpchan: error: ")[2].partition("\n")[0]
    places = command.count("{}")
    for place in range(places):
        flags = ["--json" if place == index else "" for index in range(places)]
        done = bare.run(command.format(*flags))
        assert (done.code, done.out, done.error["message"]) == (2, "", message)
        assert done.error["exit_code"] == 2


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("mpchan accept update.psbt", "do you mean `mpchan payee accept`?"),
        ("mpchan abandon", "do you mean `mpchan payee abandon` or `mpchan payer abandon`?"),
        ("mpchan settel", "do you mean `mpchan settle`?"),
        ("mpchan payer fnd signed.psbt", "do you mean `mpchan payer fund`?"),
        ("mpchan regtest mien 1", "do you mean `mpchan regtest mine`?"),
        ("mpchan payer accept", "see `mpchan payer --help`"),
        ("mpchan frobnicate", "see `mpchan --help`"),
    ],
)
def test_2_the_command_that_is_meant(bare: Shell, command: str, hint: str) -> None:
    assert bare.fails(command, 2, "usage")["hint"] == hint


def test_2_an_option_that_only_looks_like_the_flag(wallets: Shell) -> None:
    """``--json`` as the value of another option is that value; only errors look at it before the parser does."""
    done = wallets.ok("mpchan --wallet seller payee offer --memo --json")
    assert 'memo = "--json"' in done.out


def test_2_offers_that_contradict_themselves(wallets: Shell) -> None:
    fails = wallets.fails
    fails(f"{SELLER} payee offer --min-capacity 5 --max-capacity 4", 2, "offer-limits")
    error = fails(f"{SELLER} payee offer --settle-window 270", 2, "offer-limits")
    assert error["message"] == (
        "min_refund_delay 288 is below 289 blocks: settle_window 270 + confirmations 1 + margin 18"
    )
    fails(f"{SELLER} payee offer --max-refund-delay 305", 2, "offer-limits")
    fails(f"{SELLER} payee offer --fee-rate 0", 2, "malformed-number")
    fails(f"{SELLER} payee offer --memo '{'x' * 1001}'", 2, "malformed-offer")
    fails(f"{SELLER} payee offer --address bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", 2, "wrong-network")
    fails(f"{SELLER} payee offer --address nonsense", 2, "malformed-address")


# 3, unreadable ------------------------------------------------------------------------------------


def test_3_malformed_files(wallets: Shell) -> None:
    fails = wallets.fails
    (wallets.folder / "offer.toml").write_text("version = 1\n")
    fails(f"{BUYER} open offer.toml 5000", 3, "malformed-offer")
    (wallets.folder / "offer.toml").write_text("version = \n")
    fails(f"{BUYER} open offer.toml 5000", 3, "malformed-toml")
    fails(f"{BUYER} open missing.toml 5000", 3, "unreadable-file")
    error = fails(f"{SELLER} payee accept offer.toml", 3, "malformed-hex")
    assert error["message"] == "'v' at position 0 is no hex digit"
    fails(f"{SELLER} payee accept missing", 3, "unreadable-file")
    config = wallets.folder / "buyer" / "wallet.toml"
    good = config.read_text()
    config.write_text(good.replace('"regtest"', '"moon"'))
    error = fails(f"{BUYER} balance", 3, "unknown-network")
    assert error["message"].startswith("buyer/wallet.toml: ")
    config.write_text(good + "surprise = 1\n")
    fails(f"{BUYER} balance", 3, "malformed-config")


# 4, refused ---------------------------------------------------------------------------------------


def test_4_the_other_party_breaks_a_rule(paid: Shell) -> None:
    fails = paid.fails
    paid.ok(f"{BUYER} pay 100 -o second.psbt")
    paid.ok(f"{SELLER} payee accept second.psbt")
    error = fails(f"{SELLER} payee accept update.psbt", 4, "update-number")
    assert error["message"] == "update number: expected above 2, found 1"
    error = fails(f"{SELLER} payee accept signed.psbt", 4, "missing-signature")
    assert error["hint"] == "it is this party's own message, and for the other one"
    error = fails(f"{SELLER} payee accept request.psbt", 4, "missing-signature")
    assert error["hint"] == "nobody has signed it: a refund request is for `mpchan payee sign-refund`"
    fails(f"{SELLER} payee sign-refund update.psbt", 4, "outpoint-signed")
    fails(f"{BUYER} payee accept update.psbt", 4, "wrong-role")
    fails(f"{SELLER} payer fund signed.psbt", 4, "wrong-role")
    fails(f"{BUYER} payer fund request.psbt", 4, "missing-signature")
    paid.ok("mpchan --wallet third init")
    fails("mpchan --wallet third payee accept update.psbt", 4, "unknown-channel")
    fails("mpchan --wallet third payee sign-refund request.psbt", 4, "unknown-offer")
    fails("mpchan --wallet third payer fund signed.psbt", 4, "unknown-channel")
    fails("mpchan --wallet third payee funding funding.hex", 4, "unknown-channel")
    paid.ok("mpchan --wallet far init --network signet")
    fails("mpchan --wallet far open offer.toml 5000 --tip 1", 4, "wrong-network")


# 5, not possible ----------------------------------------------------------------------------------


def test_5_not_in_this_state(wallets: Shell) -> None:
    fails = wallets.fails
    fails(f"{BUYER} show", 5, "no-channel")
    fails(f"{BUYER} show abc", 5, "unknown-channel")
    fails(f"{BUYER} pay 1", 5, "no-channel")
    fails(f"{BUYER} settle", 5, "no-channel")
    fails(f"{BUYER} refund --channel 00", 5, "unknown-channel")
    fails(f"{SELLER} payee offer --like 0123456789abcdef", 5, "unknown-offer")
    fails(f"{SELLER} payee offer --like ../wallet", 5, "unknown-offer")
    wallets.ok(f"{SELLER} payee offer --max-capacity 60000 --min-increment 50 -o offer.toml")
    fails(f"{BUYER} open offer.toml 60001", 5, "capacity")
    fails(f"{BUYER} open offer.toml 999", 5, "capacity")
    fails(f"{SELLER} open offer.toml 5000", 4, "payee-key")
    wallets.ok("mpchan --wallet third init")
    fails("mpchan --wallet third open offer.toml 5000", 5, "not-enough-funds")
    fails(f"{BUYER} open offer.toml 5000 --refund-delay 287", 5, "refund-delay")
    fails(f"{BUYER} open offer.toml 5000 --refund-delay 4321", 5, "refund-delay")


def test_5_payments_that_cannot_be(opened: Shell) -> None:
    fails = opened.fails
    fails(f"{BUYER} pay --last", 5, "no-update")
    fails(f"{BUYER} pay 0", 5, "zero-payment")
    fails(f"{BUYER} pay --total 0", 5, "zero-payment")
    error = fails(f"{BUYER} pay 293", 5, "below-dust")
    assert error["hint"] == "the first payment must be at least 294 sat"
    error = fails(f"{BUYER} pay 100001", 5, "over-capacity")
    assert error["message"] == "the channel has 100000 sat left, not 100001 sat"
    fails(f"{BUYER} settle --total 100001", 5, "over-capacity")
    fails(f"{SELLER} settle", 5, "nothing-to-collect")
    update = opened.folder.with_name("update.psbt")
    opened.ok(f"cp -r buyer copy && mpchan --wallet copy pay 300 -q -o {update}")
    error = fails(f"{SELLER} settle {update}", 5, "not-a-settlement")
    assert error["message"] == "this is an update (nLockTime 272), not a settlement"
    opened.ok(f"{BUYER} pay 294 -q")
    fails(f"{BUYER} pay --total 293", 5, "total-below-paid")
    fails(f"{BUYER} settle --total 293", 5, "total-below-paid")
    fails(f"{BUYER} payer abandon --channel {opened.names['channel']}", 5, "funding-signed")
    opened.ok(f"{BUYER} settle --total 1000 -q")
    fails(f"{BUYER} settle --total 1001", 5, "settlement-handed-over")
    fails(f"{BUYER} open offer.toml 100001", 5, "offer-used")
    fails(f"{BUYER} open offer.toml 100000 --refund-delay 40", 5, "opened-otherwise")


def test_7_the_only_channel_is_damaged(opened: Shell) -> None:
    (path,) = (opened.folder / "buyer" / "channels").glob("*.json")
    path.write_text("a diary")
    opened.fails(f"{BUYER} pay 1000", 7, "channel-damaged")
    done = opened.ok(f"{BUYER} balance --json")
    assert done.json["in_channels_sat"] == 0
    assert done.err == f"mpchan: warning: buyer/channels/{path.name}: not a channel file\n"


def test_5_too_little_time_to_fund(wallets: Shell) -> None:
    """A request that was answered too late is not worth its fees."""
    wallets.ok(f"{SELLER} payee offer -o offer.toml")
    wallets.ok(f"{BUYER} open offer.toml 5000 -o request.psbt")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    wallets.ok("mpchan regtest mine 161")
    error = wallets.fails(
        f"{BUYER} payer fund signed.psbt -o funding.hex --refund-out refund.hex", 5, "too-little-time"
    )
    assert error["message"] == "blocks left for payments: expected more than 1, found 1"
    assert error["hint"] == "give this opening up with `mpchan payer abandon` and open another"


def test_5_out_of_updates(wallets: Shell) -> None:
    """The step is so long that the lock times leave room for two updates; the settlement takes the rest."""
    wallets.ok(f"{SELLER} payee offer --step 136 -o offer.toml")
    wallets.ok(f"{BUYER} open offer.toml 5000 -o request.psbt")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    wallets.ok(f"{BUYER} payer fund signed.psbt")
    wallets.ok("mpchan regtest mine 1")
    assert wallets.json(f"{BUYER} pay 1000")["lock_time"] == 137
    assert wallets.json(f"{BUYER} pay 1000")["lock_time"] == 1
    error = wallets.fails(f"{BUYER} pay 1000", 5, "out-of-updates")
    assert (
        error["hint"] == "close the channel with `mpchan payer settle`; its --total can carry a last payment"
    )
    assert wallets.json(f"{BUYER} settle --total 3000")["paid_sat"] == 3000


# 6, too early -------------------------------------------------------------------------------------


def test_6_before_confirmations_no_number_is_used(wallets: Shell) -> None:
    wallets.ok(f"{SELLER} payee offer --min-confirmations 3 -o offer.toml")
    wallets.ok(f"{BUYER} open offer.toml 5000 -o request.psbt")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    wallets.fails(f"{BUYER} pay 1000", 5, "no-channel")
    wallets.fails(f"{BUYER} pay 1000 --channel {wallets.json(f'{BUYER} show')['channel']}", 5, "not-funded")
    wallets.ok(f"{BUYER} payer fund signed.psbt")
    wallets.fails(f"{BUYER} pay 1000", 6, "unconfirmed")
    wallets.ok("mpchan regtest mine 2")
    error = wallets.fails(f"{BUYER} pay --total 1000", 6, "unconfirmed")
    assert error["message"] == "confirmations of the funding: expected at least 3, found 2"
    error = wallets.fails(f"{BUYER} settle --total 1000", 6, "unconfirmed")
    wallets.fails(f"{BUYER} wait --for confirmed --timeout 0", 6, "timeout")
    wallets.ok("mpchan regtest mine 1")
    wallets.ok(f"{BUYER} wait --for confirmed --timeout 0")
    assert wallets.json(f"{BUYER} pay 1000 -o update.psbt")["update"] == 1


def test_6_the_payee_counts_confirmations_itself(opened: Shell) -> None:
    """An update that comes before the payee's own chain shows the funding deep enough is not taken, and not lost."""
    opened.ok(f"{BUYER} pay 1000 -o update.psbt")
    behind = {"MPCHAN_REGTEST": str(opened.folder.with_name("behind"))}
    opened.ok("mpchan regtest status", **behind)
    error = opened.fails(f"{SELLER} payee accept update.psbt", 6, "funding-unseen", **behind)
    assert error["hint"] == "wait for it with `mpchan wait --for confirmed`"
    opened.fails(f"{SELLER} wait --for confirmed --timeout 0", 6, "timeout", **behind)
    assert opened.json(f"{SELLER} payee accept update.psbt")["received_sat"] == 1000


def test_6_refund_and_update_say_when(paid: Shell) -> None:
    error = paid.fails(f"{BUYER} refund", 6, "refund-locked")
    assert error["message"] == "the refund is locked until block 417, the chain stands at 112"
    assert error["hint"] == "305 blocks to go"
    error = paid.fails(f"{SELLER} settle", 6, "update-locked")
    assert error["message"] == "update 1 is locked until block 272, the chain stands at 112"


# 7, the wallet's own storage ----------------------------------------------------------------------


def test_7_storage(paid: Shell) -> None:
    fails = paid.fails
    error = fails("mpchan --wallet nobody balance", 7, "no-wallet")
    assert error == {
        "error": "no-wallet",
        "message": "there is no wallet in nobody",
        "hint": "make one with `mpchan init`, or name another with --wallet",
        "exit_code": 7,
    }
    error = fails(f"{BUYER} init", 7, "wallet-exists")
    assert error["hint"] == "its settings are in wallet.toml there; a new one goes elsewhere, by --wallet"
    keys = paid.folder / "buyer" / "keys.toml"
    keys.chmod(0o640)
    error = fails(f"{BUYER} address", 7, "keys-permissions")
    assert error["hint"].startswith("chmod 600 buyer/keys.toml; ")
    keys.chmod(0o600)
    keys.write_text(keys.read_text().replace('checksum = "', 'checksum = "0'))
    fails(f"{BUYER} address", 7, "keys-damaged")
    fails(f"{BUYER} pay 1", 7, "keys-damaged")


def test_7_a_damaged_channel_is_named_and_left_alone(paid: Shell) -> None:
    path = channel_file(paid, "buyer")
    good = path.read_text()
    path.write_text(good.replace('"paid_sat":0', '"paid_sat":1'))
    assert path.read_text() != good
    named = paid.names["channel"]
    error = paid.fails(f"{BUYER} pay 1 --channel {named}", 7, "channel-damaged")
    assert path.name in error["message"]
    done = paid.ok(f"{BUYER} list")
    assert done.out == "no channels yet\n"
    assert done.err == f"mpchan: warning: buyer/channels/{path.name}: checksum does not fit\n"
    path.write_text(json.dumps({**json.loads(good), "schema": 3}))
    paid.fails(f"{BUYER} show {named}", 7, "channel-schema")
    path.write_text(good)
    assert paid.json(f"{BUYER} pay 1")["update"] == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_7_a_wallet_that_cannot_be_written(paid: Shell) -> None:
    channels = paid.folder / "buyer" / "channels"
    channels.chmod(0o500)
    try:
        paid.fails(f"{BUYER} pay 1", 7, "write-failed")
    finally:
        channels.chmod(0o700)


# 8, the chain -------------------------------------------------------------------------------------


def test_8_the_chain_is_out_of_reach(paid: Shell) -> None:
    (paid.folder / "file").write_text("no folder")
    nowhere = {"MPCHAN_REGTEST": str(paid.folder / "file" / "chain")}
    for command in (f"{BUYER} balance", f"{BUYER} pay 1", f"{SELLER} settle", "mpchan regtest status"):
        error = paid.fails(
            command, 8, "chain-directory" if "regtest" in command else "chain-missing", **nowhere
        )
        assert str(paid.folder / "file") in error["message"]


def test_8_a_chain_that_is_gone_is_not_made_anew(paid: Shell) -> None:
    """By no command of a wallet; `mpchan init` and `mpchan regtest` make one."""
    place = paid.folder.with_name("gone")
    gone = {"MPCHAN_REGTEST": str(place)}
    for command in (
        "balance",
        "list",
        "show",
        "settle",
        "wait --for confirmed --timeout 0",
    ):
        error = paid.fails(f"{SELLER} {command}", 8, "chain-missing", **gone)
        assert str(place) in error["message"]
        assert not place.exists()
    watched = paid.run(f"{SELLER} watch --once --json", **gone)  # type: ignore[arg-type]
    assert (watched.code, json.loads(watched.out)["alarm"]) == (8, "chain-missing")
    assert not place.exists()
    paid.ok("mpchan --wallet third init", **gone)
    assert place.exists()
    paid.ok(f"{SELLER} balance", **gone)


def test_8_leaves_everything_ready_to_be_tried_again(opened: Shell) -> None:
    """The chain cannot be changed for a while; the settlement is held, and goes out without the file later."""
    opened.ok(f"{BUYER} settle --total 2000 -o settlement.psbt")
    engine = opened.folder.with_name("blocked")
    engine.mkdir()
    (engine / "pbk.py").write_text("raise ImportError('not today')\n")
    for _ in range(2):
        opened.fails(f"{SELLER} settle settlement.psbt -o out", 8, "engine-missing", PYTHONPATH=str(engine))
    assert opened.json(f"{SELLER} show")["paid_sat"] == 2000
    assert opened.json(f"{SELLER} settle")["broadcast"] is True
    opened.ok("mpchan regtest mine 1")
    assert opened.json(f"{BUYER} show")["status"] == "closed"


def test_the_chain_stands_beside_the_users_data_unless_told(bare: Shell) -> None:
    """``regtest`` needs no wallet, and no variable either."""
    assert bare.json("mpchan regtest status", MPCHAN_REGTEST=None)["height"] == 110
    assert [path.name for path in (bare.folder / "home").rglob("index.sqlite3")] == ["index.sqlite3"]
    assert not (bare.folder / CHAIN).exists()


@pytest.mark.parametrize(
    "options", ["--chain bitcoind --rpc-url http://127.0.0.1:1", "--chain electrum --electrum 127.0.0.1:1"]
)
def test_8_a_backend_without_a_server(bare: Shell, options: str) -> None:
    """Nobody listens there. What needs no chain goes on working."""
    bare.ok(f"mpchan --wallet buyer init {options}")
    done = bare.run("mpchan --wallet buyer balance --json")
    assert (done.code, done.error["exit_code"]) == (8, 8)
    bare.ok("mpchan --wallet buyer address")


def test_8_an_offer_without_a_fee_rate_needs_the_chain(bare: Shell) -> None:
    bare.ok("mpchan --wallet seller init --chain bitcoind --rpc-url http://127.0.0.1:1")
    error = bare.fails("mpchan --wallet seller payee offer", 8, "rpc-credentials")
    assert error["hint"].endswith("or name the rate yourself with --fee-rate")
    bare.ok("mpchan --wallet seller payee offer --fee-rate 2 -q")


def test_8_the_chain_rejects_the_transaction(wallets: Shell) -> None:
    """The funding's coin was spent by a copy of the wallet. The refusal can be repeated, and the opening given up."""
    wallets.ok("mpchan --wallet other init")
    wallets.ok("cp -r buyer copy")
    for payer, payee in (("buyer", "seller"), ("copy", "other")):
        wallets.ok(f"mpchan --wallet {payee} payee offer -o {payee}.toml")
        wallets.ok(f"mpchan --wallet {payer} open {payee}.toml 5000 -o request.psbt")
        wallets.ok(f"mpchan --wallet {payee} payee sign-refund request.psbt -o {payer}.psbt")
        wallets.ok(f"mpchan --wallet {payer} payer fund {payer}.psbt --no-broadcast -o {payer}.hex")
    wallets.ok("mpchan --wallet other payee funding copy.hex --broadcast")
    for _ in range(2):
        error = wallets.fails(f"{SELLER} payee funding buyer.hex --broadcast", 8, "rejected")
        assert "txn-mempool-conflict" in error["message"]
        wallets.fails(f"{BUYER} payer fund buyer.psbt -o funding.hex", 6, "funding-conflict")
    wallets.ok("mpchan regtest mine 1")
    wallets.fails(f"{BUYER} payer fund buyer.psbt -o funding.hex", 5, "funding-void")
    wallets.fails(f"{SELLER} payee funding buyer.hex --broadcast", 8, "rejected")
    channel = wallets.json(f"{BUYER} show")["channel"]
    assert wallets.json(f"{BUYER} payer abandon --channel {channel}")["status"] == "abandoned"
