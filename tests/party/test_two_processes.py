"""Several processes on one wallet at once: they wait for each other, nothing counts twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.judge import judge_wallet
from support.party import Pair, new_wallet

from mpchan.bitcoin.address import address_to_script
from mpchan.chain.embedded import EmbeddedChain
from mpchan.party import payer, views
from mpchan.units import Amount

WORKER = """
import json, sys
from pathlib import Path
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import MpchanError
from mpchan.party import payee, payer, views
from mpchan.party.common import read_psbt
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet

wallet, directory, orders = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
chain = EmbeddedChain(directory)
chain.tip()
print("ready", flush=True)
sys.stdin.readline()
results = []
for order, argument in orders:
    opened = Wallet.open(wallet)
    try:
        if order == "pay":
            results.append(payer.pay(opened, chain, None, Amount(argument)))
        elif order == "pay total":
            results.append(payer.pay_up_to(opened, chain, None, Amount(argument)))
        elif order == "accept":
            results.append(payee.accept(opened, chain, read_psbt(argument.encode())))
        elif order == "settle":
            results.append(payee.settle(opened, chain, read_psbt(argument.encode())))
        elif order == "sign refund":
            results.append(payee.sign_refund(opened, chain, read_psbt(argument.encode())))
        elif order == "fund":
            results.append(payer.fund(opened, chain, read_psbt(argument.encode())))
        elif order == "abandon":
            results.append(payer.abandon(opened, chain, argument))
        elif order == "open":
            results.append(payer.open_channel(opened, chain, argument, Amount(100_000)))
        elif order == "offer":
            results.append(payee.offer(opened, chain, {}))
        elif order == "address":
            results.append(views.fresh_address(opened))
        else:
            raise SystemExit(order)
    except MpchanError as error:
        results.append({"error": error.slug, "exit": error.exit_code})
print(json.dumps([result if isinstance(result, dict) else result.to_dict() for result in results]))
"""

Order = tuple[str, object]


def at_once(wallet: Path, chain: Path, *orders: Sequence[Order]) -> list[list[dict[str, Any]]]:
    """What each process answers to its orders; all of them start at the same moment."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(wallet), str(chain), json.dumps(list(listed))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for listed in orders
    ]
    answers = []
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0
            answers.append(json.loads(output))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return answers


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain)


def test_40_one_update_accepted_by_many_is_counted_once(pair: Pair) -> None:
    name = pair.open()
    update = pair.pay(name, 1000)
    answers = at_once(
        pair.payee.directory, pair.chain.directory, *[[("accept", update)]] * 3, [("accept", update)] * 3
    )
    receipts = [receipt for answer in answers for receipt in answer]
    assert [receipt["paid_sat"] for receipt in receipts] == [1000] * 6
    assert sorted(receipt["received_sat"] for receipt in receipts) == [0] * 5 + [1000]
    assert [receipt["duplicate"] for receipt in receipts].count(False) == 1
    assert pair.payee_record(name).paid == Amount(1000)
    assert judge_wallet(pair.payee.directory) == 1


def test_one_settlement_closed_by_many_is_one_transaction(pair: Pair) -> None:
    name = pair.open()
    settlement = pair.settlement(name, 5000)
    answers = at_once(pair.payee.directory, pair.chain.directory, *[[("settle", settlement)]] * 3)
    assert len({json.dumps(answer) for answer in answers}) == 1
    assert answers[0][0]["broadcast"] is True
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_49_payments_at_once_are_one_after_the_other(pair: Pair) -> None:
    name = pair.open()
    answers = at_once(
        pair.payer.directory,
        pair.chain.directory,
        [("pay", 1000)] * 4,
        [("pay", 1100)] * 4,
        [("pay", 1210)] * 4,
    )
    made = sorted((answer for listed in answers for answer in listed), key=lambda answer: answer["update"])
    assert [answer["update"] for answer in made] == list(range(1, 13))
    total = 0
    for answer in made:
        total += answer["amount_sat"]
        assert answer["paid_sat"] == total
    assert total == 4 * (1000 + 1100 + 1210)
    assert len({answer["hex"] for answer in made}) == 12
    for answer in made:
        assert pair.accept(answer["hex"]).received_sat == answer["amount_sat"]
    assert pair.payer_record(name).paid == Amount(total)


def test_49_one_total_asked_for_by_many_is_one_update(pair: Pair) -> None:
    name = pair.open()
    answers = at_once(pair.payer.directory, pair.chain.directory, *[[("pay total", 1000)] * 2] * 3)
    made = [answer for listed in answers for answer in listed]
    assert {answer["update"] for answer in made} == {1}
    assert len({answer["hex"] for answer in made}) == 1
    assert sorted(answer["amount_sat"] for answer in made) == [0] * 5 + [1000]
    assert pair.payer_record(name).updates == 1


def test_keys_are_handed_out_once(pair: Pair) -> None:
    orders = [("offer", None), ("address", None)] * 3
    answers = at_once(pair.payee.directory, pair.chain.directory, *[orders] * 3)
    made = [answer for listed in answers for answer in listed]
    addresses = [answer.get("address") or answer["payee_address"] for answer in made]
    assert len(set(addresses)) == len(addresses) == 18
    keys = [answer["payee_pubkey"] for answer in made if "payee_pubkey" in answer]
    assert len(set(keys)) == len(keys) == 9


def test_10_one_offer_signs_one_refund(pair: Pair) -> None:
    """Two payers race for one offer; each asks twice."""
    offer = pair.offer()
    first = pair.request(offer=offer).hex
    other = new_wallet(pair.directory / "another payer")
    script = address_to_script(views.fresh_address(other).address, other.network)
    pair.chain.faucet(script, Amount(1_000_000))
    pair.chain.mine(1)
    second = payer.open_channel(other, pair.chain, offer, Amount(100_000)).hex
    answers = at_once(
        pair.payee.directory,
        pair.chain.directory,
        *[[("sign refund", request)] * 2 for request in (first, second, first, second)],
    )
    signed = {answer["hex"] for listed in answers for answer in listed if "hex" in answer}
    refused = [answer for listed in answers for answer in listed if "error" in answer]
    assert len(signed) == 1
    assert [answer["error"] for answer in refused] == ["offer-used"] * 4
    assert len(pair.payee.channels.names()) == 1


def test_one_coin_funds_one_channel(pair: Pair) -> None:
    offers = [pair.offer() for _ in range(3)]
    answers = at_once(pair.payer.directory, pair.chain.directory, *[[("open", offer)] for offer in offers])
    made = [answer for [answer] in answers if "hex" in answer]
    failed = [answer for [answer] in answers if "error" in answer]
    assert len(made) == 1
    assert [answer["error"] for answer in failed] == ["not-enough-funds"] * 2


def test_giving_up_and_funding_at_once(pair: Pair) -> None:
    """Either the opening is given up and nothing is signed, or the funding is signed and it is not given up."""
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    name = pair.payer.channels.names()[0]
    [[funded], [abandoned]] = at_once(
        pair.payer.directory, pair.chain.directory, [("fund", reply)], [("abandon", name)]
    )
    pair.restart()
    if "error" in funded:
        assert funded["error"] == "channel-abandoned"
        assert abandoned["status"] == "abandoned"
        assert pair.payer_record(name).funding is None
        assert pair.chain.mempool() == []
    else:
        assert abandoned["error"] == "funding-signed"
        assert pair.status(name)[0] == "funding"
        pair.chain.mine(1)
