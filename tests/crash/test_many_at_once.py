"""Fifty processes on two wallets and one chain: each ends, the sums are right, and no key comes twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.party import Pair, balance_sat

from mpchan.chain.embedded import EmbeddedChain
from mpchan.party import payer
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet

GENEROUS_SECONDS = 400
"""Nobody waits for ever; how long it takes on a busy machine is no question here."""

PROGRAM = """
import os, sys
from mpchan.cli.main import main
sys.stdin.readline()
os._exit(main(sys.argv[1:]))
"""


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, coins=3)


def at_once(pair: Pair, lines: list[str]) -> list[dict[str, Any]]:
    """Run all command lines at the same time; each must end well, or find more paid. What they say."""
    environment = {**os.environ, "MPCHAN_REGTEST": str(pair.chain.directory)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--json", *line.split()],
            cwd=pair.directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for line in lines
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        ended = [process.communicate(timeout=GENEROUS_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    answers = [json.loads(out or err) for out, err in ended]
    failed = [answer for answer in answers if "error" in answer and answer["error"] != "total-below-paid"]
    assert failed == []
    return answers


def test_fifty_processes_pay_accept_mine_offer_and_send(pair: Pair) -> None:
    names = [pair.open(), pair.open()]
    messages = []
    for number, name in enumerate(names):  # ten updates of each channel, to be accepted meanwhile
        for step in range(1, 6):
            update = payer.pay_up_to(pair.payer, pair.chain, name, Amount(1000 * step)).hex
            (pair.directory / f"update-{number}-{step}").write_text(update)
            messages.append(f"update-{number}-{step}")
    height = pair.chain.tip().height
    pays = [
        f"--wallet payer pay --total {5000 + 1000 * step} --channel {name}"
        for name in names
        for step in range(1, 6)
    ]
    accepts = [f"--wallet payee payee accept {message}" for message in messages[4::5]]
    lines = [
        *[line for line in pays for _ in range(2)],  # 20, each total asked for twice
        *[line for line in accepts for _ in range(7)],  # 14 on two files
        *["regtest mine 1"] * 6,
        *["--wallet payee payee offer"] * 4,
        *["--wallet payee address"] * 3,
        *["--wallet payer address"] * 3,
    ]
    assert len(lines) == 50
    said = dict(enumerate(at_once(pair, lines)))

    payments = [said[index] for index in range(20)]
    for name in names:
        mine = [answer for answer in payments if name.startswith(answer.get("channel", "-"))]
        assert len({answer["hex"] for answer in mine}) == len({answer["update"] for answer in mine})
        assert sum(answer["amount_sat"] for answer in mine) == 5000  # from 5000 to 10000, whoever came first
    receipts = [said[index] for index in range(20, 34)]
    assert sorted(receipt["received_sat"] for receipt in receipts) == [0] * 12 + [5000, 5000]
    assert sorted(receipt["duplicate"] for receipt in receipts) == [False] * 2 + [True] * 12
    assert pair.chain.tip().height == height + 6
    offers, addresses = [said[index] for index in range(40, 44)], [said[index] for index in range(44, 50)]
    given = [offer["payee_address"] for offer in offers] + [answer["address"] for answer in addresses]
    assert len(set(given)) == 10
    assert len({offer["payee_pubkey"] for offer in offers}) == 4
    check_the_end(pair, names)


def check_the_end(pair: Pair, names: list[str]) -> None:
    """Each channel closes at the total that both count."""
    pair.restart()
    for name in names:
        record = pair.payer_record(name)
        assert record.paid == Amount(10_000)
        last = payer.pay_last(pair.payer, pair.chain, name)
        assert pair.accept(last.hex).received_sat == 5000
        pair.settle(pair.settlement(name))
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 20_000
    assert [pair.status(name) for name in names] == [("closed", "closed")] * 2


def test_the_wallets_lock_and_a_channels_do_not_block_each_other(pair: Pair) -> None:
    """Commands that take both locks, in every mixture: opening, giving up, asking, paying, bumping."""
    name = pair.open()
    offers = []
    for number in range(3):
        (pair.directory / f"offer-{number}").write_text(pair.offer())
        offers.append(f"--wallet payer open offer-{number} 100000")
    lines = [
        *offers[:2],
        *[f"--wallet payer pay --total {1000 * step} --channel {name}" for step in (3, 3, 3)],
        *["--wallet payer address"] * 3,
        *["--wallet payer balance", "--wallet payer list", f"--wallet payer show {name}"] * 2,
    ]
    at_once(pair, lines)
    assert payer.pay_last(Wallet.open(pair.payer.directory), pair.chain, name).paid_sat == 3000
