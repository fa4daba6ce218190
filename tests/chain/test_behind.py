"""A node or server that is behind its network: nothing new is taken on its word, and what is held is sent.

The node's headers are ahead of its blocks in earnest: another node mined further, and its headers are handed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.grounds import NodeGround, Traders
from support.chain.node import Node, needs_node, running
from support.chain.story import BUYER, EXTERNAL, FUNDING, OPENING, PAYING, SELLER, SETTLING, external

from mpchan import Payee, Payer
from mpchan.errors import ChainError
from mpchan.market.hashing import hash_file
from mpchan.party.offers.selling import published_offer
from mpchan.sale.manifest import Sale
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet

pytestmark = needs_node

TERMS = "--fee-rate 2 --settle-window 6 --min-refund-delay 40 --max-refund-delay 90 --step 20"
OFFER = f"{SELLER} payee offer {TERMS} -o offer.toml"


class Further:
    """A node on the same chain that mines on, whose headers the first one learns before its blocks.

    Args:
        behind: the first one.
    """

    def __init__(self, behind: Node, ahead: Node) -> None:
        self.behind = behind
        self.ahead = ahead

    def catch_up(self, node: Node, source: Node) -> None:
        """Give a node the blocks of the other one."""
        for height in range(node.height + 1, source.height + 1):
            block = source.call("getblock", source.call("getblockhash", height), 0)
            node.call("submitblock", block)

    def mine(self, count: int) -> None:
        """Blocks that the first node knows the headers of, and no more."""
        self.catch_up(self.ahead, self.behind)
        for block in self.ahead.mine(count):
            self.behind.call("submitheader", self.ahead.call("getblockheader", block, False))
        info = self.behind.call("getblockchaininfo")
        assert info["headers"] - info["blocks"] == count
        assert info["initialblockdownload"] is False

    def end(self) -> None:
        """The first node gets the blocks too."""
        self.catch_up(self.behind, self.ahead)
        assert self.behind.height == self.ahead.height


@pytest.fixture
def further(node: Node, tmp_path: Path) -> Iterator[Further]:
    """Two nodes, the first one with ten coins to spend."""
    with running(tmp_path / "ahead", ripe=False) as ahead:
        yield Further(node, ahead)


@pytest.fixture
def traders(node: Node, tmp_path: Path) -> Traders:
    """Two wallets that ask the node, and the buyer's coin."""
    shell = Traders(tmp_path / "folder", NodeGround(node), in_process=True)
    shell.init()
    shell.ok(OFFER)
    return shell


def refuses(shell: Traders, *commands: str) -> None:
    """Exit 8, and nothing is changed or sent."""
    for command in commands:
        waiting = shell.ground.mempool()
        error = shell.fails(command, 8, "node-behind")
        assert "headers up to" in error["message"]
        assert shell.ground.mempool() == waiting


def watched(shell: Traders, who: str) -> tuple[int, list[dict[str, object]]]:
    """One round of a watcher: its exit code and lines."""
    done = shell.run(f"{who} watch --once --json")
    return done.code, [json.loads(line) for line in done.out.splitlines()]


def test_three_headers_ahead_are_a_moment(further: Further, traders: Traders) -> None:
    """A block that was just announced is no reason to stop."""
    further.mine(3)
    traders.ok(OPENING[0])
    assert traders.json(f"{BUYER} balance")["confirmed_sat"] > 0


def test_66_nothing_is_taken_or_locked(further: Further, traders: Traders) -> None:
    """At each step of a channel, and afterwards the same command goes on."""
    steps = (*OPENING, FUNDING[0])
    for command in steps:
        further.mine(4)
        refuses(traders, command)
        further.end()
        traders.ok(command)
    traders.ground.mine()
    further.mine(4)
    refuses(traders, PAYING[0], f"{BUYER} pay 1000 -o update-1.psbt")
    further.end()
    traders.ok(PAYING[0])
    further.mine(4)
    refuses(traders, PAYING[1])
    verdict = traders.run(f"{SELLER} verify update-1.psbt --json")
    assert (verdict.code, verdict.json["accepted"], verdict.json["error"]) == (8, None, "node-behind")
    further.end()
    traders.ok(PAYING[1])
    traders.ok(f"{BUYER} settle --total 2000 -o settlement.psbt")
    further.mine(4)
    refuses(traders, f"{SELLER} payee settle settlement.psbt -o close.hex")
    for who in (BUYER, SELLER):
        [warning] = traders.json(f"{who} show")["warnings"]
        assert warning.startswith("node-behind: the node at")
    traders.ok(f"{BUYER} pay --last")  # paid already: nothing new is signed
    traders.ok(PAYING[1])  # held already


def test_66_streams(further: Further, traders: Traders) -> None:
    """A running meter goes by the same rules."""
    for command in (*OPENING, FUNDING[0]):
        traders.ok(command)
    traders.ground.mine()
    with Payer(traders.folder / "buyer") as payer, Payee(traders.folder / "seller") as payee:
        further.mine(4)
        with pytest.raises(ChainError) as caught:
            payer.pay(1000)
        assert caught.value.slug == "node-behind"
        further.end()
        message = payer.pay(1000).hex
        further.mine(4)
        with pytest.raises(ChainError) as caught:
            payee.accept(message)
        assert caught.value.slug == "node-behind"
        further.end()
        assert payee.accept(message).paid_sat == 1000


def test_66_a_watcher_calls_for_help_and_sends_a_settlement(further: Further, traders: Traders) -> None:
    """It is held complete, so it goes out at once; the refund too, once its time has come in the node's own blocks."""
    for command in (*OPENING, *FUNDING):
        traders.ok(command)
    traders.ground.mine()
    for command in (*PAYING, SETTLING[0], f"{SELLER} payee accept settlement.psbt"):
        traders.ok(command)
    further.mine(300)
    code, lines = watched(traders, SELLER)
    assert code == 8
    [channel, end] = lines
    assert channel["action"] == "settlement"
    assert channel["txid"] in traders.ground.mempool()
    assert (end["alarm"], end["channels"]) == ("node-behind", 1)
    assert "headers up to" in str(end["message"])
    traders.ok(f"{SELLER} settle")  # by hand as well


def test_66_a_watcher_judges_lateness_by_the_headers(further: Further, traders: Traders) -> None:
    """By the node's blocks there is time; by its headers the refund may be in a block. What is final goes out now."""
    for command in (*OPENING, *FUNDING):
        traders.ok(command)
    traders.ground.mine()
    for command in PAYING:
        traders.ok(command)
    shown = traders.json(f"{SELLER} show")
    traders.ground.mine(shown["latest_lock_time"] - traders.ground.tip().height)
    code, lines = watched(traders, SELLER)
    assert (code, lines[0]["action"]) == (0, "wait")
    further.mine(shown["refund_lock_time"] - traders.ground.tip().height + 1)
    code, lines = watched(traders, SELLER)
    assert code == 8
    assert lines[0]["action"] == "update"
    assert lines[0]["alarm"] == "claim-late"
    assert lines[0]["txid"] in traders.ground.mempool()


def test_66_a_payer_takes_its_refund(further: Further, traders: Traders) -> None:
    for command in (*OPENING, *FUNDING):
        traders.ok(command)
    refund_at = traders.json(f"{BUYER} show")["refund_lock_time"]
    traders.ground.mine(refund_at - traders.ground.tip().height)
    further.mine(10)
    code, lines = watched(traders, BUYER)
    assert (code, lines[0]["action"], lines[1]["alarm"]) == (8, "refund", "node-behind")
    assert lines[0]["txid"] in traders.ground.mempool()
    traders.ok(f"{BUYER} refund")


def test_66_a_funding_of_another_wallet(further: Further, traders: Traders) -> None:
    """Neither is the refund asked for, nor is the funding handed over."""
    external(traders)
    for command in EXTERNAL:
        further.mine(4)
        refuses(traders, command)
        further.end()
        traders.ok(command)


def test_66_a_buyer_locks_nothing(further: Further, traders: Traders) -> None:
    """It is refused before the seller is asked for anything; the seller refuses by the rules of its commands."""
    film = traders.folder / "film"
    film.write_bytes(bytes(range(256)) * 40)
    (traders.folder / "box" / "to-payee").mkdir(parents=True)
    sale = Sale("film", film.stat().st_size, 2048, Amount(1000), 0, hash_file(film, 2048).hashes)
    with further.behind.chain() as chain:
        own, _ = published_offer(
            Wallet.open(traders.folder / "seller"), chain, {"fee_rate_sat_per_kvb": 2000}, sale
        )
    (traders.folder / "sale.toml").write_text(own.offer.to_toml())
    further.mine(4)
    refuses(traders, f"{BUYER} payer buy sale.toml --mailbox box -o copy")
    assert list((traders.folder / "box" / "to-payee").iterdir()) == []
