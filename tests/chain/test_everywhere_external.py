"""A channel that another wallet funds, on every backend: the other wallet is one of mpchan's own that only sends."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chain.grounds import COIN, Ground, Traders
from support.chain.story import BUYER, SELLER, TERMS

BANK = "mpchan --wallet bank"


@pytest.fixture
def planned(ground: Ground, tmp_path: Path) -> Traders:
    """A plan under ``offer.toml``; the buyer has no coin, the bank has one."""
    shell = Traders(tmp_path / "folder", ground, in_process=True)
    for wallet in ("buyer", "seller", "bank"):
        shell.ok(f"mpchan --wallet {wallet} init {ground.init}")
    ground.pay(shell.json(f"{BANK} address")["address"], COIN)
    ground.mine()
    ground.settle_down()
    shell.ok(f"{SELLER} payee offer {TERMS} -o offer.toml")
    plan = shell.json(f"{BUYER} payer open offer.toml 100000 --external")
    shell.names.update({"address:channel": plan["address"], "n:amount": str(plan["amount_sat"])})
    return shell


def asked(shell: Traders) -> str:
    """The opening, with the payee's answer in ``signed.psbt``; the channel's id."""
    request = shell.json(f"{BUYER} payer open --funding funding.hex -o request.psbt")
    shell.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    return str(request["channel"])


def names_of_warnings(shell: Traders) -> list[str]:
    view = shell.json(f"{BUYER} show")
    return [warning.partition(":")[0] for warning in view.get("warnings", [])]


def test_to_its_settlement(planned: Traders) -> None:
    planned.ok(f"{BANK} send <address:channel> <n:amount> --no-broadcast -o funding.hex")
    asked(planned)
    assert names_of_warnings(planned) == []
    done = planned.json(f"{BUYER} payer fund signed.psbt --funding funding.hex")
    assert (done["broadcast"], done["hex"]) == (True, planned.text("funding.hex").strip())
    assert planned.ground.mempool() == {done["funding_txid"]}
    planned.play("$ mine 1")
    assert planned.statuses() == ("open", "open")
    planned.ok(f"{BUYER} settle --total 60000 -o settlement.psbt")
    planned.ok(f"{SELLER} settle settlement.psbt -o close.hex")
    planned.play("$ mine 1")
    assert planned.statuses() == ("closed", "closed")
    assert planned.sums() == (40_000, 60_000)


def test_too_early(planned: Traders) -> None:
    planned.ok(f"{BANK} send <address:channel> <n:amount> -o funding.hex")
    planned.ground.settle_down()
    channel = asked(planned)
    assert names_of_warnings(planned) == ["funding-early"]
    planned.play("$ mine 2")
    assert names_of_warnings(planned) == ["funding-early"]
    planned.fails(f"{BUYER} payer abandon --channel {channel}", 5, "funding-early")
    done = planned.json(f"{BUYER} payer fund signed.psbt")
    assert done["hex"] == planned.text("funding.hex").strip()
    assert planned.statuses() == ("open", "open")
    assert names_of_warnings(planned) == []


def test_71_paid_at_once_and_again(planned: Traders) -> None:
    """Whoever read no advice pays the address: the refund of what is there, then of a second payment nothing more."""
    paid = []
    for _ in range(2):
        planned.ok(f"{BANK} send <address:channel> <n:amount> -o paid.hex")
        planned.ground.settle_down()
        outputs = planned.json("mpchan inspect paid.hex")
        [vout] = [
            number
            for number, output in enumerate(outputs["outputs"])
            if output["address"] == planned.names["address:channel"]
        ]
        paid.append(f"{outputs['txid']}:{vout}")
        planned.play("$ mine 1")
    for number, outpoint in enumerate(paid):
        request = planned.json(f"{BUYER} payer open --again {outpoint} -o request.psbt")
        reply = planned.json(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
        assert len(reply.get("warnings", [])) == number
        planned.ok(f"{BUYER} payer fund signed.psbt --refund-out refund-{number}.hex")
        if number == 0:
            planned.ok(f"{BUYER} settle --total 60000 -o settlement.psbt")
            planned.ok(f"{SELLER} settle settlement.psbt -o close.hex")
            planned.play("$ mine 1")
    planned.play(f"$ mine-to {request['refund_lock_time']}")
    planned.ok(f"{BUYER} payer refund --channel {request['channel']} -o sent.hex")
    planned.play("$ mine 1")
    assert planned.sums() == (40_000 + 100_338 - 276, 60_000)


def test_its_coin_goes_elsewhere(planned: Traders) -> None:
    sent = planned.json(f"{BANK} send <address:channel> <n:amount> --no-broadcast -o funding.hex")
    asked(planned)
    planned.ok(f"{BUYER} payer fund signed.psbt --funding funding.hex --no-broadcast -o again.hex")
    planned.ok(f"{BANK} send --forget {sent['txid']}")
    elsewhere = planned.json(f"{SELLER} address")["address"]
    planned.ok(f"{BANK} send {elsewhere} --all -o elsewhere.hex")
    planned.ground.settle_down()
    assert names_of_warnings(planned) == ["funding-conflict"]
    planned.fails(f"{BUYER} payer fund signed.psbt", 6, "funding-conflict")
    planned.fails(f"{BUYER} pay 1000", 6, "funding-conflict")
    planned.play("$ mine 1")
    assert names_of_warnings(planned) == ["funding-void"]
    planned.fails(f"{BUYER} payer fund signed.psbt", 5, "funding-void")
    planned.fails(f"{BUYER} settle", 5, "funding-void")
    channel = planned.json(f"{BUYER} show")["channel"]
    assert planned.json(f"{BUYER} payer abandon --channel {channel}")["status"] == "abandoned"
