"""The watcher on every backend: which one is a matter of the wallets' settings alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.chain.grounds import Ground, Traders

TERMS = "--fee-rate 5 --settle-window 6 --min-refund-delay 25 --max-refund-delay 60"


@pytest.fixture
def opened(ground: Ground, tmp_path: Path) -> Traders:
    """Two wallets with an open channel, in which 20,000 sat are paid."""
    shell = Traders(tmp_path / "folder", ground)
    shell.init()
    shell.ok(f"mpchan --wallet seller payee offer {TERMS} -q -o offer.toml")
    request = shell.json("mpchan --wallet buyer open offer.toml 100000 --funding-fee-rate 2 -o request.psbt")
    shell.ok("mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt")
    shell.ok("mpchan --wallet buyer payer fund signed.psbt -q -o funding.hex")
    shell.play("$ mine 1")
    shell.ok("mpchan --wallet buyer pay 20000 -q -o update.psbt")
    shell.ok("mpchan --wallet seller payee accept update.psbt -q")
    shell.names["n:refund"] = str(request["refund_lock_time"])
    return shell


def look(shell: Traders, who: str, code: int = 0) -> dict[str, Any]:
    """One round; what it says of the channel."""
    done = shell._start(f"mpchan --wallet {who} watch --once --json", b"", {})
    assert (done.code, done.err) == (code, ""), done
    channel, end = (json.loads(line) for line in done.out.splitlines())
    assert end["exit_code"] == code
    found: dict[str, Any] = channel
    return found


def test_a_claim(opened: Traders) -> None:
    """At L_1 and not before; a reorganisation takes it off the chain, and it comes back."""
    refund = int(opened.names["n:refund"])
    opened.play(f"$ mine-to {refund - 8}")
    assert (look(opened, "seller")["action"], look(opened, "buyer")["action"]) == ("wait", "wait")
    opened.play("$ mine 1")
    claim = look(opened, "seller")
    assert (claim["status"], claim["action"]) == ("settling", "update")
    assert claim["txid"] in opened.ground.mempool()  # with a child, where the estimate has risen meanwhile
    opened.play("$ mine 1")
    assert [look(opened, who)["status"] for who in ("seller", "buyer")] == ["closed", "closed"]
    opened.ground.reorganise(1)
    opened.ground.settle_down()
    assert look(opened, "seller")["status"] == "settling"
    opened.play("$ mine 1")
    assert look(opened, "buyer")["status"] == "closed"
    assert opened.json("mpchan --wallet seller balance")["confirmed_sat"] >= 10_000


def test_a_refund_that_is_seen(opened: Traders) -> None:
    """The payee comes late, says so, and pays with a child to take the refund's place."""
    refund = int(opened.names["n:refund"])
    opened.play(f"$ mine-to {refund - 1}")
    assert look(opened, "buyer")["action"] == "wait"
    opened.play("$ mine 1")
    sent = look(opened, "buyer")
    assert (sent["status"], sent["action"]) == ("refunding", "refund")
    assert opened.ground.mempool() == {sent["txid"]}
    fought = look(opened, "seller", code=5)
    assert (fought["status"], fought["alarm"]) == ("settling", "refund-seen")
    assert sent["txid"] not in opened.ground.mempool()
    opened.play("$ mine 1")
    assert [look(opened, who)["status"] for who in ("seller", "buyer")] == ["closed", "closed"]
