"""Reorganisations of one, two and six blocks at every status of a channel, on every backend.

What is shown is what the chain says now; what must not be done any more is refused as too early; what was reorganised
away is sent again by the command that sent it; and every sum is right in the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.chain.electrum_server import eventually
from support.chain.grounds import COIN, Ground, Traders
from support.chain.story import (
    BUYER,
    CLAIMING,
    ENDINGS,
    FUNDING,
    OPEN,
    PAYING,
    REFUNDING,
    SELLER,
    SETTLING,
    ripen,
)
from support.judge import judge_wallet
from support.transcript import WALLETS

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain import open_chain
from mpchan.channel import payer
from mpchan.party.watch.watcher import Watcher
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

DEPTHS = pytest.mark.parametrize("depth", [1, 2, 6])
TERMS = "--fee-rate 2 --settle-window 6 --min-refund-delay 40 --max-refund-delay 90"


class Reorganised:
    """Two traders on a chain whose last blocks are going to be replaced.

    Args:
        depth: how many; as many confirmations does the offer ask for.
    """

    def __init__(self, folder: Path, ground: Ground, depth: int) -> None:
        self.shell = Traders(folder, ground, in_process=True)
        self.ground = ground
        self.depth = depth
        self.shell.init()

    def run(self, *commands: str) -> None:
        """Commands that work."""
        for command in commands:
            self.shell.ok(command)

    def mine(self, count: int) -> None:
        """Mine blocks that hold the mempool."""
        self.ground.mine(count)
        self.ground.settle_down()

    def reorganise(self, *instead: Transaction) -> None:
        """Replace the last blocks."""
        self.ground.reorganise(self.depth, instead)
        self.ground.settle_down()

    def requested(self) -> None:
        """The refund is signed, nothing is sent; the buyer's coin is just as deep as the reorganisation will be."""
        self.run(f"{SELLER} payee offer {TERMS} --min-confirmations {self.depth} -o offer.toml")
        self.mine(self.depth - 1)
        self.run(f"{BUYER} {OPEN} -o request.psbt", f"{SELLER} payee sign-refund request.psbt -o signed.psbt")

    def paid(self) -> None:
        """The channel is open and two updates are accepted; the funding is just deep enough."""
        self.requested()
        self.run(FUNDING[0])
        self.mine(self.depth)
        self.run(*PAYING)

    def shows(self, buyer: str, seller: str | None = None) -> None:
        """The status in the eyes of both, once a server has dropped what its node has dropped."""
        eventually(self.shell.statuses, (buyer, buyer if seller is None else seller))

    def too_early(self, *commands: str, slug: str = "unconfirmed") -> None:
        """Refused with exit code 6, and nothing is changed."""
        for command in commands:
            self.shell.fails(command, 6, slug)

    def sends_again(self, command: str) -> None:
        """Writes the same bytes as before, and the transaction waits for a block."""
        before = self.shell.files()
        done = self.shell.json(command)
        assert self.shell.changes(before) == []
        txid = done.get("txid", done.get("funding_txid"))
        assert txid in self.ground.mempool()

    def ends(self, ending: str) -> None:
        """With exactly the sums of this ending."""
        _, status, sums = ENDINGS[ending]
        self.shows(status)
        assert self.shell.sums() == sums
        for wallet in WALLETS:
            judge_wallet(self.shell.folder / wallet)

    def record(self, wallet: str) -> Any:
        """The channel as one of the wallets keeps it."""
        opened = Wallet.open(self.shell.folder / wallet)
        return opened.channels.load(opened.channels.names()[0])

    def refund(self) -> Transaction:
        """The buyer's."""
        return payer.funded_of(self.record("buyer").state).refund

    def double_spend(self) -> Transaction:
        """Of the funding's coin, by the buyer to itself."""
        state = self.record("buyer").state
        keys = Wallet.open(self.shell.folder / "buyer").keys
        outputs = (TxOut(Amount(COIN - 1000), keys.script("receive", 0)),)
        return keys.sign_coins(replace(state.funding.without_witness(), outputs=outputs), state.spent)


@contextmanager
def watching(scene: Reorganised, who: str) -> Iterator[Watcher]:
    """A watcher of a wallet that stays, whatever happens to the chain."""
    wallet = Wallet.open(scene.shell.folder / who)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in scene.ground.env.items():
            patch.setenv(name, value)
        chain: Any = open_chain(wallet.config.chain, wallet.network, wallet.directory)
    with closing(chain):
        yield Watcher(wallet, chain)


def alarms(watcher: Watcher) -> list[str]:
    """What a round of it calls a person for."""
    done = watcher.round(lambda finding: None)
    assert done.whole
    return [alarm.slug for alarm in done.alarms]


@pytest.fixture
def scene(ground: Ground, tmp_path: Path, depth: int) -> Reorganised:
    """Two wallets, the buyer's with a coin."""
    return Reorganised(tmp_path / "folder", ground, depth)


# before the channel is open -----------------------------------------------------------------------


@DEPTHS
def test_opening(scene: Reorganised) -> None:
    """The coin that the funding will spend is unconfirmed again; the opening goes on all the same."""
    scene.requested()
    scene.reorganise()
    scene.shows("opening")
    assert scene.shell.json(f"{BUYER} balance")["unconfirmed_sat"] == COIN
    scene.run(FUNDING[0])
    scene.shows("funding")
    scene.mine(scene.depth)
    scene.run(*PAYING, *SETTLING)
    scene.mine(1)
    scene.ends("settlement")


@DEPTHS
def test_opening_with_a_coin_that_is_gone(scene: Reorganised) -> None:
    """The other branch has spent it: the funding is not even signed, and the opening can be given up."""
    scene.requested()
    scene.mine(1)  # so that the coin itself is on both branches
    scene.reorganise(scene.double_spend())
    scene.shell.fails(FUNDING[0], 5, "coin-spent")
    scene.shows("opening")
    scene.run(f"{BUYER} payer abandon", f"{SELLER} payee abandon")
    scene.shows("abandoned")
    assert scene.shell.sums() == (COIN - 1000, 0)


@DEPTHS
def test_funding(scene: Reorganised) -> None:
    """The funding waits in the mempool, and the coin that it spends is there again too."""
    scene.requested()
    scene.run(FUNDING[0])
    scene.shows("funding")
    scene.reorganise()
    scene.shows("funding")
    scene.too_early(f"{BUYER} pay --total 1000")
    scene.sends_again(FUNDING[0])
    for _ in range(scene.depth):
        scene.too_early(f"{BUYER} pay --total 1000")
        scene.mine(1)
    scene.run(*PAYING, *SETTLING)
    scene.mine(1)
    scene.ends("settlement")


# while it is open ---------------------------------------------------------------------------------


@DEPTHS
def test_open(scene: Reorganised) -> None:
    """Nothing is paid and nothing is accepted until the funding is as deep again as was agreed."""
    scene.paid()
    scene.shows("open")
    scene.run(f"{BUYER} pay --total 5000 -o late.psbt")
    scene.reorganise()
    scene.shows("funding")
    for _ in range(scene.depth):
        scene.too_early(f"{SELLER} payee accept late.psbt", f"{BUYER} pay --total 9000")
        scene.too_early(f"{BUYER} wait --for confirmed --timeout 0", slug="timeout")
        scene.mine(1)
    scene.shows("open")
    assert scene.shell.json(f"{SELLER} payee accept late.psbt")["received_sat"] == 2000
    scene.run(*SETTLING)
    scene.mine(1)
    scene.ends("settlement")


@DEPTHS
def test_open_with_a_funding_that_is_gone(scene: Reorganised) -> None:
    """The other branch has spent its coin: nothing more is delivered, and nothing is lost that was not paid for."""
    scene.paid()
    scene.run(f"{BUYER} pay --total 5000 -o late.psbt")
    scene.reorganise(scene.double_spend())
    scene.shows("funding", "opening")
    scene.too_early(f"{SELLER} payee accept late.psbt", slug="funding-unseen")
    scene.shell.fails(f"{BUYER} pay --total 9000", 5, "funding-void")
    scene.too_early(f"{SELLER} settle", slug="update-locked")
    scene.shell.fails(FUNDING[0], 5, "funding-void")
    scene.run(f"{BUYER} payer abandon --channel {scene.shell.json(f'{BUYER} show')['channel']}")
    scene.shows("abandoned", "opening")
    assert scene.shell.json(f"{BUYER} balance")["confirmed_sat"] == COIN - 1000


# on its way to the end ----------------------------------------------------------------------------


@DEPTHS
def test_settling(scene: Reorganised) -> None:
    """Funding and settlement wait together, and come into the same block."""
    scene.paid()
    scene.run(*SETTLING)
    scene.reorganise()
    scene.shows("settling")
    scene.sends_again(SETTLING[-1])
    scene.mine(1)
    scene.ends("settlement")


@DEPTHS
@pytest.mark.parametrize("ending", ["update", "refund"])
def test_an_end_that_waits_and_is_too_early_again(scene: Reorganised, ending: str) -> None:
    """A branch that is shorter at first drops what has a lock time from some mempools; it is sent again."""
    scene.paid()
    ripen(scene.shell, ending)
    command, underway = (CLAIMING[0], "settling") if ending == "update" else (REFUNDING[0], "refunding")
    scene.run(command)
    scene.shows(underway)
    scene.reorganise()
    if scene.ground.mempool():
        scene.shows(underway)
    else:  # who has sent it knows of it, the other one sees what the chain shows
        scene.shows(*(("open", "settling") if ending == "update" else ("refunding", "open")))
    scene.sends_again(command)
    scene.shows(underway)
    scene.mine(1)
    scene.ends(ending)


# after the end ------------------------------------------------------------------------------------


@DEPTHS
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_end_that_was_reorganised_away(scene: Reorganised, ending: str) -> None:
    """Closed or refunded, then not any more, then again: by repeating the command, or by the miners alone."""
    scene.paid()
    ripen(scene.shell, ending)
    commands = ENDINGS[ending][0]
    scene.run(*commands)
    scene.mine(scene.depth)
    scene.ends(ending)
    scene.reorganise()
    scene.shows("refunding" if ending == "refund" else "settling")
    assert scene.shell.json(f"{SELLER} balance")["confirmed_sat"] == 0
    scene.too_early(f"{BUYER} wait --for closed --timeout 0", slug="timeout")
    scene.sends_again(commands[-1])
    scene.mine(1)
    scene.ends(ending)


@DEPTHS
@pytest.mark.parametrize(("first", "second"), [("update", "refund"), ("refund", "update")])
def test_69_another_end_on_the_other_branch(scene: Reorganised, first: str, second: str) -> None:
    """Past the refund's time both could end the channel: the chain has the last word, whatever was seen before.

    A watcher that runs all the time says so too, and a payee whose close was replaced by the refund is called.
    """
    scene.paid()
    ripen(scene.shell, "refund")
    scene.run(ENDINGS[first][0][-1])
    scene.mine(scene.depth)
    scene.ends(first)
    other = scene.refund() if second == "refund" else scene.record("seller").state.best.transaction
    with watching(scene, "buyer") as buyers, watching(scene, "seller") as sellers:
        assert [alarms(watcher) for watcher in (buyers, sellers)] == [
            [],
            ["refunded-unclaimed"] if first == "refund" else [],
        ]
        scene.reorganise(other)
        scene.ends(second)
        assert [alarms(watcher) for watcher in (buyers, sellers)] == [
            [],
            ["refunded-unclaimed"] if second == "refund" else [],
        ]
    error = scene.shell.run(f"{ENDINGS[first][0][-1]} --json")
    assert error.code == 5, error
    scene.mine(1)
    scene.ends(second)
