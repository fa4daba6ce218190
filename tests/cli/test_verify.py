"""``mpchan verify``: the verdict on every kind of message, for people and for scripts; no file changes, ever."""

from __future__ import annotations

import fcntl
import os
from typing import Any

import pytest
from support.transcript import Shell

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.units import Amount, OutPoint, Txid

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
KEYS = ["kind", "channel", "accepted", "rules", "error", "message", "hint", "exit_code"]
NO_CHAIN = {"MPCHAN_REGTEST": "/dev/null/chain"}


def verdict(shell: Shell, command: str, code: int = 0, **options: Any) -> dict[str, Any]:
    """The verdict as one JSON object; nothing else is said, and no file of any kind changes."""
    before = shell.files()
    done = shell.run(f"{command} --json", **options)
    assert (done.code, done.err) == (code, ""), done
    assert shell.files() == before
    found: dict[str, Any] = done.json
    assert list(found) == KEYS
    assert found["exit_code"] == code
    assert all(list(rule) == ["rule", "ok", "expected", "found"] for rule in found["rules"])
    assert all(rule["ok"] for rule in found["rules"][:-1])
    if found["accepted"] is False:
        last = found["rules"][-1]
        assert (last["rule"], last["ok"]) == (found["error"], False)
    else:
        assert all(rule["ok"] for rule in found["rules"])
    return found


def test_every_kind_of_message_before_it_is_taken(wallets: Shell) -> None:
    """The whole story: each message is verified, then taken; what was verified is what happens."""
    wallets.ok(f"{SELLER} payee offer -o offer.toml")
    offer = verdict(wallets, f"{BUYER} verify offer.toml")
    assert (offer["kind"], offer["channel"], offer["accepted"]) == ("offer", None, True)
    channel = wallets.json(f"{BUYER} open offer.toml 50000 -o request")["channel"]
    steps = (
        ("refund-request", f"{SELLER} verify request", f"{SELLER} payee sign-refund request -o signed"),
        ("signed-refund", f"{BUYER} verify signed", f"{BUYER} payer fund signed -o funding"),
        ("funding", f"{SELLER} verify funding", f"{SELLER} payee funding funding"),
        ("update", f"{SELLER} verify update", f"{SELLER} payee accept update"),
        ("settlement", f"{SELLER} verify settlement", f"{SELLER} payee settle settlement -o closing"),
    )
    for kind, question, command in steps:
        if kind == "update":
            wallets.ok("mpchan regtest mine 1")
            wallets.ok(f"{BUYER} pay 1000 -o update")
        if kind == "settlement":
            wallets.ok(f"{BUYER} settle -o settlement")
        for option in ("", f" --channel {channel}" if kind != "refund-request" else ""):
            found = verdict(wallets, question + option)
            assert (found["kind"], found["channel"], found["accepted"]) == (kind, channel, True)
            assert (found["error"], found["message"], found["hint"]) == (None, None, None)
        wallets.ok(command)
        again = verdict(wallets, question)  # what was taken would be taken again
        assert again["accepted"] is True, kind


def test_a_refusal_names_the_rule_on_stdout_with_its_exit_code(paid: Shell) -> None:
    paid.ok(f"{BUYER} pay 500 -o second.psbt")
    paid.ok(f"{SELLER} payee accept second.psbt")
    found = verdict(paid, f"{SELLER} verify update.psbt", 4)
    assert (found["kind"], found["accepted"], found["error"]) == ("update", False, "update-number")
    assert found["rules"][-1] == {
        "rule": "update-number",
        "ok": False,
        "expected": "above 2",
        "found": "1",
    }
    error = paid.fails(f"{SELLER} payee accept update.psbt", 4, "update-number")
    assert {key: found[key] for key in error} == error


def test_people_see_a_table_and_the_verdict_in_the_last_line(paid: Shell) -> None:
    paid.play(
        """
        $ mpchan --wallet seller verify update.psbt | tail -n 3
        sighash-type       1                        1                        ok
        signature                                   <hex:a>…<hex:b>  ok
        this wallet would take the update of channel <channel>
        $ mpchan --wallet seller verify offer.toml | tail -n 2
        payee-key             <hex:c>…<hex:d>  broken
        the offer: refused by payee-key (exit 4): the offer's key is known to this wallet already: <key>
        $ mpchan --wallet buyer verify offer.toml
        rule        expected  found
        offer-used            <channel>  broken
        the offer: refused by offer-used (exit 5): the offer serves a channel already: <channel>
        2> mpchan: hint: an offer serves one channel: ask the payee for another
        ? 5
        $ mpchan -q --wallet buyer verify offer.toml | wc -l | tr -d ' '
        3
        """
    )


def test_no_role_in_the_message(paid: Shell) -> None:
    paid.ok("mpchan --wallet third init")
    third = "mpchan --wallet third"
    for name, kind, slug in (
        ("request.psbt", "refund-request", "unknown-offer"),
        ("signed.psbt", "update", "unknown-channel"),
        ("update.psbt", "update", "unknown-channel"),
        ("funding.hex", "funding", "unknown-channel"),
    ):
        found = verdict(paid, f"{third} verify {name}", 4)
        assert (found["kind"], found["error"]) == (kind, slug)
    assert verdict(paid, f"{BUYER} verify funding.hex", 4)["error"] == "wrong-role"
    assert verdict(paid, f"{SELLER} verify signed.psbt", 4)["error"] == "missing-signature"


def test_a_channel_that_the_message_does_not_belong_to(paid: Shell) -> None:
    paid.ok(f"{SELLER} payee offer -o next.toml")
    other = paid.json(f"{BUYER} open next.toml 5000 -o next.psbt")["channel"]
    paid.ok(f"{SELLER} payee sign-refund next.psbt -o next-signed.psbt")
    found = verdict(paid, f"{SELLER} verify update.psbt --channel {other}", 2)
    assert (found["accepted"], found["error"]) == (False, "wrong-channel")
    assert found["message"].startswith(f"channel of the message: expected {other}, found ")
    paid.fails(f"{SELLER} verify update.psbt --channel 00", 5, "unknown-channel")
    paid.fails(f"{BUYER} verify next.toml --channel {other}", 2, "usage")


def test_what_is_no_message_is_a_failure_like_any_other(paid: Shell) -> None:
    (paid.folder / "in").write_bytes(b"hello")
    paid.fails(f"{SELLER} verify in", 3, "malformed-hex")
    (paid.folder / "in").write_text(paid.text("offer.toml").replace("step = 1", "step = 0"))
    paid.fails(f"{BUYER} verify in", 3, "malformed-number")
    (paid.folder / "in").write_bytes((paid.folder / "offer.toml").read_bytes() + b"# \xff\n")
    paid.fails(f"{BUYER} verify in", 3, "not-utf8")
    paid.fails(f"{SELLER} verify missing", 3, "unreadable-file")


def test_without_the_chain_the_rules_that_do_not_need_it_are_shown(paid: Shell) -> None:
    paid.ok(f"{BUYER} pay 500 -o second.psbt")
    found = verdict(paid, f"{SELLER} verify second.psbt", 8, **NO_CHAIN)
    assert (found["accepted"], found["error"]) == (None, "chain-missing")
    assert found["rules"][-1]["rule"] == "signature"
    paid.ok(f"{SELLER} payee offer -o next.toml")
    paid.ok(f"{BUYER} open next.toml 5000 -o next.psbt")
    found = verdict(paid, f"{SELLER} verify next.psbt", 8, **NO_CHAIN)
    assert found["rules"][-1]["rule"] == "payer-key-used"
    paid.ok(f"{SELLER} payee sign-refund next.psbt -o reply.psbt")
    found = verdict(paid, f"{BUYER} verify reply.psbt", 8, **NO_CHAIN)
    assert found["rules"][-1]["rule"] == "channel-abandoned"
    assert verdict(paid, f"{SELLER} verify next.psbt", **NO_CHAIN)["accepted"] is True  # type: ignore[arg-type]  # signed before
    assert verdict(paid, f"{SELLER} verify funding.hex", **NO_CHAIN)["accepted"] is True  # type: ignore[arg-type]
    # a rule that needs no chain decides without it
    assert verdict(paid, f"{SELLER} verify reply.psbt", 4, **NO_CHAIN)["error"] == "missing-signature"


def test_an_offer_without_the_chain_that_knows_the_fees(paid: Shell) -> None:
    paid.ok(f"{SELLER} payee offer -o next.toml")
    config = paid.folder / "buyer" / "wallet.toml"
    nobody = '"bitcoind"\nrpc_url = "http://127.0.0.1:1"'
    config.write_text(config.read_text().replace('"embedded"', nobody))
    found = verdict(
        paid, f"{BUYER} verify next.toml", 8, MPCHAN_RPC_USER="user", MPCHAN_RPC_PASSWORD="password"
    )
    assert [rule["rule"] for rule in found["rules"]] == ["offer-used", "payee-key", "offer-version"]
    assert (found["accepted"], found["exit_code"]) == (None, 8)


def test_a_chain_that_only_the_user_knows(paid: Shell) -> None:
    config = paid.folder / "seller" / "wallet.toml"
    config.write_text(config.read_text().replace('"embedded"', '"none"'))
    paid.ok(f"{BUYER} pay 500 -o second.psbt")
    found = verdict(paid, f"{SELLER} verify second.psbt", 2)
    assert (found["accepted"], found["error"]) == (None, "tip-needed")
    question = f"{SELLER} verify second.psbt --tip 200"
    assert verdict(paid, f"{question} --confirmations 0", 6)["error"] == "unconfirmed"
    assert verdict(paid, f"{question} --confirmations 1")["accepted"] is True


def test_a_token_that_nobody_can_check_without_the_keys(paid: Shell) -> None:
    """Encrypted, and no passphrase: undecided, unless something else is wrong; all other messages need no key."""
    paid.ok(f"{SELLER} payee offer -o next.toml")
    paid.ok(f"{BUYER} open next.toml 5000 -o next.psbt")
    (paid.folder / "secret").write_text("correct horse\n")
    (paid.folder / "secret").chmod(0o600)
    paid.ok(f"{SELLER} -q passphrase set", MPCHAN_PASSPHRASE_FILE="secret")
    found = verdict(paid, f"{SELLER} verify next.psbt", 7)
    assert (found["accepted"], found["error"]) == (None, "passphrase-needed")
    assert found["rules"][-1]["rule"] == "wrong-network"
    done = paid.run(f"{SELLER} verify next.psbt")
    assert done.code == 7
    assert "cannot tell by passphrase-needed (exit 7)" in done.out.splitlines()[-1]
    assert verdict(paid, f"{SELLER} verify next.psbt", MPCHAN_PASSPHRASE_FILE="secret")["accepted"] is True
    assert verdict(paid, f"{SELLER} verify update.psbt")["accepted"] is True


@pytest.mark.parametrize("place", ["wallet", "channel"])
def test_it_waits_for_nobody(paid: Shell, place: str) -> None:
    """Another process holds the lock all the while."""
    [held] = (
        [paid.folder / "seller" / "wallet.lock"]
        if place == "wallet"
        else (paid.folder / "seller" / "channels").glob("*.lock")
    )
    descriptor = os.open(held, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for name in ("update.psbt", "request.psbt", "funding.hex"):
            assert verdict(paid, f"{SELLER} verify {name}")["accepted"] is True
    finally:
        os.close(descriptor)


def test_a_damaged_channel_is_the_wallets_own_failure(paid: Shell) -> None:
    [path] = (paid.folder / "seller" / "channels").glob("*.json")
    path.write_text(path.read_text()[:-20])
    paid.fails(f"{SELLER} verify update.psbt", 7, "channel-damaged")


def test_it_loads_no_tables_for_scripts(paid: Shell) -> None:
    (paid.folder / "lister.py").write_text(
        "import sys\nfrom mpchan.cli.main import main\nmain(sys.argv[1:])\nprint('rich' in sys.modules)\n"
    )
    done = paid.run("python lister.py --wallet seller verify update.psbt --json")
    assert done.out.endswith("\nFalse\n")


def test_what_is_no_message_of_a_channel(paid: Shell) -> None:
    """A PSBT of another wallet names no channel."""
    source = TxIn(OutPoint(Txid(bytes(32)), 0), 0)
    transaction = Transaction(2, (source,), (TxOut(Amount(1000), b"\x00\x14" + bytes(20)),), 0)
    (paid.folder / "foreign.psbt").write_text(Psbt.create(transaction).to_hex())
    found = verdict(paid, f"{BUYER} verify foreign.psbt", 4)
    assert (found["channel"], found["error"], found["message"]) == (
        None,
        "witness-script",
        "message lacks witness_script",
    )
    assert "`mpchan payer open --funding`" in found["hint"]
