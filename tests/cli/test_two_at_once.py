"""Processes that do the same at the same time: all end well, and nothing is counted or numbered twice."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.transcript import TIMEOUT_SECONDS, Shell

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"


def at_once(shell: Shell, *commands: str) -> list[Any]:
    """Start all commands, then wait for all; each must succeed. What they say."""
    processes = [
        subprocess.Popen(
            [*command.split(), "--json"],
            cwd=shell.folder,
            env=shell.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for command in commands
    ]
    with ThreadPoolExecutor(len(processes)) as pool:
        ended = list(pool.map(lambda process: process.communicate(timeout=TIMEOUT_SECONDS), processes))
    assert [process.returncode for process in processes] == [0] * len(commands), ended
    assert all(err == b"" for _, err in ended), ended
    return [json.loads(out) for out, _ in ended]


@pytest.mark.parametrize("times", [2, 5])
def test_the_same_update_accepted_at_once(opened: Shell, times: int) -> None:
    """Counted once: one receipt has the money, the others say that it is held already."""
    opened.ok(f"{BUYER} pay 1000 -o update.psbt")
    receipts = at_once(opened, *[f"{SELLER} payee accept update.psbt"] * times)
    assert sorted(receipt["received_sat"] for receipt in receipts) == [0] * (times - 1) + [1000]
    assert sorted(receipt["duplicate"] for receipt in receipts) == [False] + [True] * (times - 1)
    assert {receipt["paid_sat"] for receipt in receipts} == {1000}


def test_payments_at_once(opened: Shell) -> None:
    """Each gets a number of its own, and the totals add up in the order of the numbers."""
    amounts = [1000, 2000, 4000, 8000]
    updates = at_once(opened, *[f"{BUYER} pay {amount}" for amount in amounts])
    updates.sort(key=lambda update: update["update"])
    assert [update["update"] for update in updates] == [1, 2, 3, 4]
    assert sorted(update["amount_sat"] for update in updates) == amounts
    total = 0
    for update in updates:
        total += update["amount_sat"]
        assert update["paid_sat"] == total
    assert len({update["hex"] for update in updates}) == 4
    (opened.folder / "update.psbt").write_text(updates[-1]["hex"])
    assert opened.json(f"{SELLER} payee accept update.psbt")["received_sat"] == sum(amounts)


def test_the_same_total_paid_at_once(opened: Shell) -> None:
    """``--total`` pays once, whoever comes first; all get the same bytes."""
    updates = at_once(opened, *[f"{BUYER} pay --total 3000"] * 4)
    assert {update["hex"] for update in updates} == {updates[0]["hex"]}
    assert sorted(update["amount_sat"] for update in updates) == [0, 0, 0, 3000]
    assert {update["update"] for update in updates} == {1}


def test_openings_at_once_share_no_coin_and_no_key(wallets: Shell) -> None:
    wallets.ok(f"mpchan regtest faucet $({BUYER} address) 1btc")
    wallets.ok("mpchan regtest mine 1")
    offers = at_once(wallets, *[f"{SELLER} payee offer -o offer{number}.toml" for number in range(3)])
    assert len({offer["offer_id"] for offer in offers}) == 3
    assert len({offer["payee_pubkey"] for offer in offers}) == 3
    assert len({offer["payee_address"] for offer in offers}) == 3
    requests = at_once(
        wallets, *[f"{BUYER} open offer{number}.toml 5000 -o request{number}" for number in range(2)]
    )
    spent = [wallets.json(f"mpchan inspect request{number}")["inputs"][0]["txid"] for number in range(2)]
    assert sorted(spent) == sorted(request["funding_txid"] for request in requests)
    assert len(set(spent)) == 2
    signed = at_once(
        wallets, *[f"{SELLER} payee sign-refund request{number} -o signed{number}" for number in range(2)]
    )
    assert {reply["channel"] for reply in signed} == {request["channel"] for request in requests}
    at_once(wallets, *[f"{BUYER} payer fund signed{number}" for number in range(2)])
    wallets.ok("mpchan regtest mine 1")
    statuses = {row["status"] for row in wallets.json(f"{BUYER} list")["channels"]}
    assert statuses == {"open"}


def test_the_same_opening_at_once(wallets: Shell) -> None:
    """One channel, one request; one refund signed."""
    wallets.ok(f"{SELLER} payee offer -o offer.toml")
    requests = at_once(wallets, *[f"{BUYER} open offer.toml 5000"] * 3)
    assert requests == [requests[0]] * 3
    assert len(wallets.json(f"{BUYER} list")["channels"]) == 1
    (wallets.folder / "request.psbt").write_text(requests[0]["hex"])
    signed = at_once(wallets, *[f"{SELLER} payee sign-refund request.psbt"] * 3)
    assert signed == [signed[0]] * 3


def test_both_parties_and_the_miner_at_once(opened: Shell) -> None:
    opened.ok(f"{BUYER} pay 1000 -o update.psbt")
    opened.ok(f"{BUYER} settle --total 2000 -o settlement.psbt")
    at_once(
        opened, f"{SELLER} settle settlement.psbt", "mpchan regtest mine 1", f"{BUYER} show", f"{SELLER} list"
    )
    opened.ok("mpchan regtest mine 1")
    assert opened.json(f"{BUYER} show")["status"] == "closed"


def test_waiting_while_others_work(opened: Shell) -> None:
    """``wait`` holds no lock: the other commands go on, and it sees what they do."""
    waiting = subprocess.Popen(
        [*f"{BUYER} wait --for closed --json --timeout 100".split()],
        cwd=opened.folder,
        env=opened.env,
        stdout=subprocess.PIPE,
    )
    opened.ok(f"{BUYER} pay 1000 -o update.psbt")
    opened.ok(f"{SELLER} payee accept update.psbt")
    opened.ok(f"{BUYER} settle -o settlement.psbt")
    opened.ok(f"{SELLER} settle settlement.psbt")
    assert waiting.poll() is None
    opened.ok("mpchan regtest mine 1")
    out, _ = waiting.communicate(timeout=TIMEOUT_SECONDS)
    assert (waiting.returncode, json.loads(out)["status"]) == (0, "closed")
