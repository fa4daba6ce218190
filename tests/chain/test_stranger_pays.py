"""Bitcoin Core's own wallet as the stranger that simply pays the address of an opening.

It knows nothing of channels: it sends to an address, in a batch, twice, with another amount, and raises its fee.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from support.chain.grounds import NodeGround, Traders
from support.chain.node import Node, needs_node, running
from support.chain.story import BUYER, SELLER

pytestmark = needs_node

TERMS = "--scheme taproot --fee-rate 2 --settle-window 6 --min-refund-delay 25 --max-refund-delay 80"
LOOK = f"{BUYER} payer open offer.toml --external"
STRANGER = "stranger"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose wallet has coins."""
    with running(tmp_path_factory.mktemp("stranger") / "node", "-fallbackfee=0.00002", wallet=True) as node:
        node.call("createwallet", STRANGER)
        address = node.call("getnewaddress", wallet=STRANGER)
        node.call("generatetoaddress", 110, address)
        yield node


@pytest.fixture
def shell(stranger: Node, tmp_path: Path) -> Traders:
    """An offer for at most 50,000 sat in ``offer.toml``."""
    shell = Traders(tmp_path / "folder", NodeGround(stranger), in_process=True)
    for wallet in ("buyer", "seller"):
        shell.ok(f"mpchan --wallet {wallet} init {shell.ground.init}")
    shell.ok(f"{SELLER} payee offer {TERMS} --max-capacity 50000 -o offer.toml")
    return shell


def btc(sat: int) -> str:
    return f"{Decimal(sat) / 100_000_000:.8f}"


def send(node: Node, address: str, amount: int) -> str:
    return str(node.call("sendtoaddress", address, btc(amount), wallet=STRANGER))


def what_of(shell: Traders, txid: str) -> str | None:
    """What the payment of a transaction is, by the address alone."""
    arrived = shell.json(LOOK)["arrived"]
    return next((each["what"] for each in arrived if each["outpoint"].startswith(txid)), None)


def refund(shell: Traders, txid: str) -> None:
    """Take it back at its time, by the command; the node holds it to its lock time."""
    lock_time = shell.json(f"{BUYER} show {txid}")["refund_lock_time"]
    shell.ground.mine(lock_time - 1 - shell.ground.tip().height)
    early = shell.run(f"{BUYER} payer refund -c {txid} --json")
    assert (early.code, json.loads(early.err)["error"]) == (6, "refund-locked")
    shell.ground.mine()
    assert shell.json(f"{BUYER} payer refund -c {txid}")["broadcast"]
    shell.ground.mine()
    assert shell.json(f"{BUYER} show {txid}")["status"] == "refunded"


def test_the_address_is_the_descriptors(shell: Traders, stranger: Node) -> None:
    view = shell.json(LOOK)
    assert stranger.call("deriveaddresses", view["descriptor"]) == [view["address"]]


def test_it_simply_pays(shell: Traders, stranger: Node) -> None:
    view = shell.json(f"{BUYER} payer open offer.toml 30000 --external")
    txid = send(stranger, view["address"], view["amount_sat"])
    shell.ground.mine()
    assert what_of(shell, txid) == "channel"
    assert shell.json(f"{BUYER} show {view['offer_id']}")["capacity_sat"] == 30_000
    shell.ok(f"{BUYER} pay 10000 -o update.psbt")
    shell.ok(f"{SELLER} payee accept update.psbt")
    shell.ok(f"{SELLER} settle")
    shell.ground.mine()
    assert shell.statuses() == ("closed", "closed")


@pytest.mark.parametrize(
    ("key", "over", "what"), [("least_sat", -1, "too-little"), ("most_sat", 1, "too-much")]
)
def test_another_amount(shell: Traders, stranger: Node, key: str, over: int, what: str) -> None:
    view = shell.json(LOOK)
    txid = send(stranger, view["address"], view[key] + over)
    shell.ground.mine()
    assert what_of(shell, txid) == what
    assert any(text.startswith(f"{what}:") for text in shell.json(LOOK)["warnings"])
    refund(shell, txid)


def test_twice(shell: Traders, stranger: Node) -> None:
    view = shell.json(f"{BUYER} payer open offer.toml 30000 --external")
    first = send(stranger, view["address"], view["amount_sat"])
    shell.ground.mine()
    assert what_of(shell, first) == "channel"
    second = send(stranger, view["address"], view["amount_sat"])
    shell.ground.mine()
    assert what_of(shell, second) == "second"
    refused = shell.run(f"{BUYER} pay 1000 -c {second} --json")
    assert (refused.code, json.loads(refused.err)["error"]) == (5, "refund-only")
    shell.ok(f"{BUYER} pay 1000 -c {first} -o update.psbt")
    shell.ok(f"{SELLER} payee accept update.psbt")
    refund(shell, second)


def test_twice_in_one_transaction_among_others_of_a_batch(shell: Traders, stranger: Node) -> None:
    """An exchange pays many at once; one of them is ours."""
    view = shell.json(f"{BUYER} payer open offer.toml 30000 --external")
    others = {stranger.call("getnewaddress", wallet=STRANGER): btc(10_000) for _ in range(120)}
    txid = stranger.call(
        "sendmany", "", {**others, view["address"]: btc(view["amount_sat"])}, wallet=STRANGER
    )
    named = shell.json(f"{BUYER} payer open offer.toml --funding {txid}")
    assert [(each["what"], each["confirmations"]) for each in named["arrived"]] == [("channel", 0)]
    shell.ground.mine()
    assert what_of(shell, txid) == "channel"
    refund(shell, txid)


def test_its_fee_is_raised(shell: Traders, stranger: Node) -> None:
    """The replacement gets a refund of its own; the first payment's was worth nothing any more."""
    view = shell.json(f"{BUYER} payer open offer.toml 30000 --external")
    first = send(stranger, view["address"], view["amount_sat"])
    shell.ok(f"{BUYER} payer open offer.toml --funding {first} --refund-out first.hex")
    bumped = stranger.call("bumpfee", first, {"fee_rate": 30}, wallet=STRANGER)["txid"]
    again = shell.json(f"{BUYER} payer open offer.toml --funding {bumped} --refund-out second.hex")
    assert [each["what"] for each in again["arrived"]] == ["channel", "replaced"]
    assert shell.text("first.hex") != shell.text("second.hex")
    shell.ground.mine()
    assert what_of(shell, bumped) == "channel"
    assert shell.json(f"{BUYER} show {first}")["status"] == "abandoned"
    shell.ok(f"{BUYER} pay 1000 -o update.psbt")
    refund(shell, bumped)


def test_its_fee_is_raised_unseen(shell: Traders, stranger: Node) -> None:
    """Nobody tells this wallet of either; the block does."""
    view = shell.json(f"{BUYER} payer open offer.toml 30000 --external")
    first = send(stranger, view["address"], view["amount_sat"])
    shell.ok(f"{BUYER} payer open offer.toml --funding {first}")
    bumped = stranger.call("bumpfee", first, {"fee_rate": 30}, wallet=STRANGER)["txid"]
    shell.ground.mine()
    watched = shell.run(f"{BUYER} watch --once --json")
    assert watched.code == 0, watched.out
    assert (what_of(shell, first), what_of(shell, bumped)) == ("replaced", "channel")


def test_dust_again_and_again(shell: Traders, stranger: Node) -> None:
    view = shell.json(LOOK)
    for _ in range(5):
        send(stranger, view["address"], 400)
    shell.ground.mine()
    found = shell.json(LOOK)
    assert [each["what"] for each in found["arrived"]] == ["dust"] * 5
    assert not list((shell.folder / "buyer" / "channels").iterdir())
    txid = send(stranger, view["address"], view["least_sat"])
    shell.ground.mine()
    assert what_of(shell, txid) == "channel"


def test_a_watch_without_keys_finds_it_and_says_what_it_needs(shell: Traders, stranger: Node) -> None:
    view = shell.json(LOOK)
    (shell.folder / "passphrase").write_text("a long passphrase\n")
    (shell.folder / "passphrase").chmod(0o600)
    given = {"MPCHAN_PASSPHRASE_FILE": "passphrase", "MPCHAN_NEW_PASSPHRASE_FILE": "passphrase"}
    shell.env.update(given)
    shell.in_process = False
    shell.ok(f"{BUYER} passphrase set")
    for name in given:
        del shell.env[name]
    txid = send(stranger, view["address"], view["least_sat"])
    shell.ground.mine()
    watched = shell.run(f"{BUYER} watch --once --json")
    [told] = [json.loads(line) for line in watched.out.splitlines()]
    assert (watched.code, told["alarm"]) == (7, "passphrase-needed")
    assert f"to the address of offer {view['offer_id']}" in told["message"]
    listed = shell.json(f"{BUYER} list")
    assert any("its refund is not signed yet" in text for text in listed["warnings"])
    shell.env.update(given)
    assert shell.run(f"{BUYER} watch --once").code == 0
    for name in given:  # from here on no key is needed any more
        del shell.env[name]
    lock_time = shell.json(f"{BUYER} show {txid}")["refund_lock_time"]
    shell.ground.mine(lock_time - shell.ground.tip().height)
    assert shell.run(f"{BUYER} watch --once").code == 0
    shell.ground.mine()
    assert shell.json(f"{BUYER} show {txid}")["status"] == "refunded"
