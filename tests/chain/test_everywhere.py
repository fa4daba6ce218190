"""The whole story and the bad endings, on every backend: which one is a matter of the wallets' settings alone.

Every command is a process of its own. The heights differ from chain to chain, the rest is the same to the letter.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chain.grounds import COIN, LATER, Ground, Traders
from support.chain.story import CAPACITY, FUNDING_FEE, OPEN, REFUND_FEE, RESERVE, TERMS
from support.judge import judge_wallet
from support.transcript import WALLETS


@pytest.fixture
def traders(ground: Ground, tmp_path: Path) -> Traders:
    """Two wallets, the buyer's with a million satoshi."""
    shell = Traders(tmp_path / "folder", ground)
    shell.init()
    return shell


@pytest.fixture
def opened(traders: Traders) -> Traders:
    """With a channel of 100,000 sat, ready for payments."""
    offer = traders.json(f"mpchan --wallet seller payee offer {TERMS} -o offer.toml")
    request = traders.json(f"mpchan --wallet buyer {OPEN} -o request.psbt")
    traders.ok("mpchan --wallet seller payee sign-refund request.psbt -o signed.psbt")
    traders.ok("mpchan --wallet buyer payer fund signed.psbt -o funding.hex")
    traders.play("$ mine 1")
    refund = request["refund_lock_time"]
    traders.names.update(
        {
            "offer": offer["offer_id"],
            "channel": request["channel"],
            "txid:funding": request["funding_txid"],
            "n:refund": str(refund),
            "n:before-refund": str(refund - 1),
            "n:deadline": str(refund - 6),
            "n:update": str(refund - 7),
            "n:before-update": str(refund - 8),
        }
    )
    return traders


@pytest.fixture
def paid(opened: Traders) -> Traders:
    """After one payment of 1000 sat."""
    opened.ok("mpchan --wallet buyer pay 1000 -o update.psbt")
    opened.ok("mpchan --wallet seller payee accept update.psbt")
    return opened


def ended(shell: Traders, buyer: int, seller: int) -> None:
    """Both have exactly this, nothing is left in channels, and Bitcoin Core's engine takes all that they hold."""
    assert shell.sums() == (buyer, seller)
    for wallet in WALLETS:
        judge_wallet(shell.folder / wallet)


# the story ----------------------------------------------------------------------------------------


def test_the_whole_story(ground: Ground, tmp_path: Path) -> None:
    """From an empty folder to coins that anybody could spend."""
    shell = Traders(tmp_path / "folder", ground)
    shell.play(
        f"""
        $ mpchan --wallet buyer init {ground.init}
        made a regtest wallet in <folder>/buyer (chain: {ground.name})
        $ mpchan --wallet seller init {ground.init}
        made a regtest wallet in <folder>/seller (chain: {ground.name})
        $ mpchan --wallet buyer address
        <address:coins>
        """
    )
    ground.pay(shell.names["address:coins"], COIN)
    ground.settle_down()
    shell.play(
        f"""
        $ mpchan --wallet buyer balance
        confirmed    0 sat
        unconfirmed  1,000,000 sat
        in channels  0 sat
        $ mine 1
        $ mpchan --wallet buyer balance --json
        {{"confirmed_sat": 1000000, "unconfirmed_sat": 0, "in_channels_sat": 0}}

        # the seller's offer, and the refund before the funding
        $ mpchan --wallet seller payee offer --memo 'two pieces' {TERMS} -o offer.toml
        2> offer <offer>, paid to <address:seller>
        2> next: the payer runs `mpchan payer open OFFER AMOUNT` on this text
        + offer.toml
        $ mpchan --wallet buyer {OPEN} -o request.psbt
        2> channel <channel> of 100000 sat, refund at block <n:refund>
        2> next: the payee runs `mpchan payee sign-refund FILE` on this message
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -o signed.psbt
        2> signed the refund of channel <channel>: 100000 sat, refund at block <n:refund>
        2> next: the payer runs `mpchan payer fund FILE` on this message
        + signed.psbt
        $ mpchan --wallet buyer list
        channel           role   status   paid     left  updates  refund at
        <channel>  payer  opening     0  100,000        0  block <n:refund>
        $ mpchan --wallet buyer payer fund signed.psbt --refund-out refund.hex -o funding.hex
        2> channel <channel>: the refund is stored, the funding <txid:funding> is signed and broadcast
        2> seed words alone do not recover an open channel, the refund does: keep a copy of it (--refund-out)
        2> next: wait with `mpchan wait CHANNEL --for confirmed`, then `mpchan payer pay AMOUNT`
        + funding.hex
        + refund.hex
        $ mpchan --wallet seller payee funding funding.hex
        channel <channel> is funded by <txid:funding>, once confirmed
        $ mpchan --wallet buyer list
        channel           role   status   paid     left  updates  refund at
        <channel>  payer  funding     0  100,000        0  block <n:refund>
        $ mpchan --wallet buyer pay 1000 -o update.psbt
        2> mpchan: error: confirmations of the funding: expected at least 1, found 0
        2> mpchan: hint: wait for it with `mpchan wait --for confirmed`
        ? 6
        $ mine 1
        $ mpchan --wallet seller wait --for confirmed --timeout 60
        channel <channel> is open

        # payments
        $ mpchan --wallet buyer pay 1000 -o update.psbt
        2> update 1 of channel <channel>: 1000 sat now, 1000 in all, 99000 left
        + update.psbt
        $ mpchan --wallet seller payee accept update.psbt
        update 1 of channel <channel>: 1000 sat received, 1000 in all, 99000 left
        $ mpchan --wallet seller payee accept update.psbt
        update 1 of channel <channel> is held already: 1000 sat in all
        $ mpchan --wallet buyer pay --total 3000 -o second.psbt
        2> update 2 of channel <channel>: 2000 sat now, 3000 in all, 97000 left
        + second.psbt
        $ mpchan --wallet seller payee accept second.psbt --json
        {{"channel": "<channel>", "update": 2, "received_sat": 2000, "paid_sat": 3000, "pending_sat": 0,
        > "remaining_sat": 97000,
        > "lock_time": <n:second>, "duplicate": false}}
        $ mpchan --wallet buyer refund
        2> mpchan: error: the refund is locked until block <n:refund>, the chain stands at <n:now>
        2> mpchan: hint: <n:missing> blocks to go
        ? 6
        $ mpchan --wallet seller settle
        2> mpchan: error: update 2 is locked until block <n:second>, the chain stands at <n:now>
        2> mpchan: hint: <n:wait> blocks to go; with a settlement from the payer it goes at once
        ? 6

        # the end
        $ mpchan --wallet buyer settle --total 100000 -o settlement.psbt
        2> settlement of channel <channel>: 100000 sat to the payee
        2> next: the payee runs `mpchan payee settle FILE`; should it not, `mpchan payer refund` works at its time
        + settlement.psbt
        $ mpchan --wallet seller settle settlement.psbt -o close.hex
        2> settlement <txid:close> of channel <channel>: 100000 sat for you, broadcast
        + close.hex
        $ mpchan --wallet buyer list
        channel           role   status       paid  left  updates  refund at
        <channel>  payer  settling  100,000     0        2  block <n:refund>
        $ mpchan --wallet seller balance
        confirmed    0 sat
        unconfirmed  100,000 sat
        in channels  0 sat
        $ mine 1
        $ mpchan --wallet seller wait --for closed --timeout 60
        channel <channel> is closed
        $ mpchan --wallet seller settle -o again.hex
        2> settlement <txid:close> of channel <channel>: 100000 sat for you, broadcast
        + again.hex
        $ cmp close.hex again.hex
        $ mpchan --wallet buyer pay 1000 --channel <channel>
        2> mpchan: error: the channel is closed
        ? 5
        $ mpchan --wallet buyer list
        channel           role   status     paid  left  updates  refund at
        <channel>  payer  closed  100,000     0        2  block <n:refund>
        """
    )
    # the settlement has one output less than the reserve was made for
    ended(shell, COIN - CAPACITY - RESERVE - FUNDING_FEE, CAPACITY)


# the bad endings ----------------------------------------------------------------------------------


def test_nothing_is_bought(opened: Traders) -> None:
    opened.play(
        """
        $ mpchan --wallet buyer settle -o settlement.psbt
        2> settlement of channel <channel>: 0 sat to the payee
        2> next: the payee runs `mpchan payee settle FILE`; should it not, `mpchan payer refund` works at its time
        + settlement.psbt
        $ mpchan --wallet seller settle settlement.psbt -o close.hex
        2> settlement <txid:close> of channel <channel>: 0 sat for you, broadcast
        + close.hex
        $ mine 1
        $ mpchan --wallet buyer wait --for closed --timeout 60
        channel <channel> is closed
        """
    )
    ended(opened, COIN - RESERVE - FUNDING_FEE, 0)


def test_the_payer_disappears(paid: Traders) -> None:
    """The payee closes with its best update once that is final, which is before the refund."""
    paid.play(
        """
        $ mine-to <n:before-update>
        $ mpchan --wallet seller settle
        2> mpchan: error: update 1 is locked until block <n:update>, the chain stands at <n:before-update>
        2> mpchan: hint: 1 block to go; with a settlement from the payer it goes at once
        ? 6
        $ mpchan --wallet seller wait --for final --timeout 0
        2> mpchan: error: channel <channel> is open, not final, after 0 s
        ? 6
        $ mine 1
        $ mpchan --wallet seller wait --for final --timeout 60
        channel <channel> is open
        $ mpchan --wallet seller settle -o close.hex
        2> update <txid:close> of channel <channel>: 1000 sat for you, broadcast
        + close.hex
        $ mpchan --wallet seller settle -o again.hex --json
        {"channel": "<channel>", "txid": "<txid:close>", "kind": "update", "paid_sat": 1000, "pending_sat": 0,
        > "broadcast": true,
        > "hex": "<hex:close>"}
        + again.hex
        $ cmp close.hex again.hex
        $ mine 1
        $ mpchan --wallet buyer refund
        2> mpchan: error: the funding is spent by <txid:close>, not by the refund: the payee closed the channel
        ? 5
        """
    )
    ended(paid, COIN - 1000 - RESERVE - FUNDING_FEE, 1000)


def test_the_payee_disappears(paid: Traders) -> None:
    paid.play(
        """
        $ mine-to <n:before-refund>
        $ mpchan --wallet buyer refund
        2> mpchan: error: the refund is locked until block <n:refund>, the chain stands at <n:before-refund>
        2> mpchan: hint: 1 block to go
        ? 6
        $ mine 1
        $ mpchan --wallet buyer wait --for final --timeout 60
        channel <channel> is open
        $ mpchan --wallet buyer refund -o refund.hex
        2> refund <txid:refund> of channel <channel> is broadcast; it is done once it is confirmed
        + refund.hex
        $ mpchan --wallet seller list
        channel           role   status      paid    left  updates  refund at
        <channel>  payee  refunding  1,000  99,000        1  block <n:refund>
        $ mpchan --wallet buyer wait --for closed --timeout 0
        2> mpchan: error: channel <channel> is refunding, not closed, after 0 s
        ? 6
        $ mine 1
        $ mpchan --wallet buyer wait --for closed --timeout 60
        channel <channel> is refunded
        $ mpchan --wallet buyer refund -o again.hex -q
        + again.hex
        $ cmp refund.hex again.hex
        $ mpchan --wallet seller settle
        2> mpchan: error: the funding is spent by <txid:refund>, the channel is refunded
        ? 5
        """
    )
    ended(paid, COIN - REFUND_FEE - FUNDING_FEE, 0)


def test_the_settlement_is_not_taken(opened: Traders) -> None:
    """A settlement that was handed over does not bar the refund; it comes too late then."""
    opened.play(
        """
        $ mpchan --wallet buyer settle --total 5000 -q -o settlement.psbt
        + settlement.psbt
        $ mpchan --wallet buyer pay 1000 --channel <channel>
        2> mpchan: error: the channel is settling
        ? 5
        $ mine-to <n:refund>
        $ mpchan --wallet buyer refund -q -o refund.hex
        + refund.hex
        $ mine 1
        $ mpchan --wallet seller settle settlement.psbt
        2> mpchan: error: the channel is refunded
        ? 5
        """
    )
    ended(opened, COIN - REFUND_FEE - FUNDING_FEE, 0)


def test_after_the_deadline_a_settlement_still_serves(paid: Traders) -> None:
    paid.play(
        """
        $ mpchan --wallet buyer pay 500 -q -o second.psbt
        + second.psbt
        $ mine-to <n:deadline>
        $ mpchan --wallet buyer pay 1000
        2> mpchan: error: the chain has reached block <n:deadline>: the payee takes no more updates
        2> mpchan: hint: close the channel with `mpchan payer settle`; its --total can carry a last payment
        ? 5
        $ mpchan --wallet seller payee accept second.psbt
        2> mpchan: error: the chain has reached block <n:deadline>, from where on only a settlement is taken
        2> mpchan: hint: close the channel with `mpchan payee settle`
        ? 5
        $ mpchan --wallet buyer settle --total 1600 -q -o settlement.psbt
        + settlement.psbt
        $ mpchan --wallet seller payee accept settlement.psbt
        the settlement of channel <channel>: 0 sat received, 1000 in all, 99000 left; 600 more count
        > once it is confirmed, deliver nothing for them before
        next: `mpchan payee settle` broadcasts it
        $ mpchan --wallet seller settle -q -o close.hex
        + close.hex
        $ mine 1
        $ mpchan --wallet seller wait --for closed --timeout 60
        channel <channel> is closed
        """
    )
    ended(paid, COIN - 1600 - RESERVE - FUNDING_FEE, 1600)


def test_both_come_late_and_the_first_one_wins(paid: Traders) -> None:
    """Past the refund's time each could end the channel alone; the other one is told why it is too late."""
    paid.play(
        """
        $ mine-to <n:refund>
        $ mpchan --wallet seller settle -q -o close.hex
        + close.hex
        $ mpchan --wallet buyer refund --json | wc -c
        0
        2> {"error": "channel-settling", "message": "the funding is spent by <txid:close>, not by the refund: the
        > payee closed the channel", "hint": null, "exit_code": 5}
        $ mine 1
        $ mpchan --wallet buyer wait --for closed --timeout 60
        channel <channel> is closed
        """
    )
    ended(paid, COIN - 1000 - RESERVE - FUNDING_FEE, 1000)


def test_an_opening_is_given_up(traders: Traders) -> None:
    """Before the funding was signed: the coins are free again, and nothing is left to pay."""
    traders.play(
        f"""
        $ mpchan --wallet seller payee offer -q {TERMS} -o offer.toml
        + offer.toml
        $ mpchan --wallet buyer open offer.toml 990000 --funding-fee-rate 2 -q -o request.psbt
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        + signed.psbt
        $ mpchan --wallet buyer payer abandon --json
        {{"channel": "<channel:first>", "status": "abandoned"}}
        $ mpchan --wallet buyer payer fund signed.psbt
        2> mpchan: error: this opening was abandoned
        ? 5
        $ mpchan --wallet seller payee abandon --json
        {{"channel": "<channel:first>", "status": "abandoned"}}
        $ mpchan --wallet seller payee offer -q {TERMS} -o next.toml
        + next.toml
        $ mpchan --wallet buyer open next.toml 990000 --funding-fee-rate 2 -q -o request.psbt
        ~ request.psbt
        """
    )
    ended(traders, COIN, 0)


def test_the_funding_travels_by_file(traders: Traders) -> None:
    """The payer broadcasts nothing; the payee takes the funding by file and does it."""
    traders.play(
        f"""
        $ mpchan --wallet seller payee offer -q {TERMS} -o offer.toml
        + offer.toml
        $ mpchan --wallet buyer {OPEN} -q -o request.psbt
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        + signed.psbt
        $ mpchan --wallet buyer payer fund signed.psbt --no-broadcast -q -o funding.hex
        + funding.hex
        """
    )
    assert traders.ground.mempool() == set()
    traders.play(
        """
        $ mpchan --wallet seller payee funding funding.hex --broadcast --json
        {"channel": "<channel>", "funding_txid": "<txid:funding>"}
        """
    )
    assert traders.ground.mempool() == {traders.names["txid:funding"]}
    traders.play(
        """
        $ mine 1
        $ mpchan --wallet seller wait --for confirmed --timeout 60
        channel <channel> is open
        """
    )


@pytest.mark.parametrize("ending", ["update", "refund"])
def test_a_channel_in_seconds(traders: Traders, ending: str) -> None:
    """A time is final only when the median time is past it (BIP-0113): to the second, by each backend's own clock."""
    ground = traders.ground
    ground.mine_past(LATER if ground.name != "embedded" else 0)
    traders.play(
        """
        $ mpchan --wallet seller payee offer --fee-rate 2 --lock-time-unit seconds --settle-window 600
        > --min-refund-delay 12000 --max-refund-delay 22800 -q -o offer.toml
        + offer.toml
        $ mpchan --wallet buyer open offer.toml 100000 --refund-delay 12000 --funding-fee-rate 2 -q -o request.psbt
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        + signed.psbt
        $ mpchan --wallet buyer payer fund signed.psbt -q -o funding.hex
        + funding.hex
        $ mine 1
        $ mpchan --wallet buyer pay 1000 -q -o update.psbt
        + update.psbt
        $ mpchan --wallet seller payee accept update.psbt -q
        """
    )
    shown = traders.json("mpchan --wallet seller show")
    lock_time = shown["latest_lock_time" if ending == "update" else "refund_lock_time"]
    command = "mpchan --wallet seller settle" if ending == "update" else "mpchan --wallet buyer refund"
    ground.mine_past(lock_time)
    ground.settle_down()
    if ground.tip().median_time == lock_time:  # the embedded chain may step over that very second
        error = traders.fails(command, 6, f"{ending}-locked")
        assert error["hint"].startswith("1 second to go")
    ground.mine_past(lock_time + 1)
    ground.settle_down()
    assert traders.json(f"{command} -o close.hex")["kind"] == ending
    traders.play("$ mine 1")
    if ending == "update":
        ended(traders, COIN - 1000 - RESERVE - FUNDING_FEE, 1000)
    else:
        ended(traders, COIN - REFUND_FEE - FUNDING_FEE, 0)
