"""How channels end: settled with nothing paid, by the payee alone, by the refund, or before they began."""

from __future__ import annotations

import pytest
from support.judge import judge_wallet
from support.transcript import WALLETS, Shell


def judged(shell: Shell) -> None:
    """Bitcoin Core's engine takes every complete transaction that the wallets hold."""
    for name in WALLETS:
        judge_wallet(shell.folder / name)


def test_a_cancelled_channel_gives_everything_back(opened: Shell) -> None:
    opened.play(
        """
        $ mpchan --wallet buyer settle -o settlement.psbt
        2> settlement of channel <channel>: 0 sat to the payee
        2> next: the payee runs `mpchan payee settle FILE`; should it not, `mpchan payer refund` works at its time
        + settlement.psbt
        $ mpchan --wallet seller settle settlement.psbt -o close.hex
        2> settlement <txid:close> of channel <channel>: 0 sat for you, broadcast
        + close.hex
        $ mpchan inspect close.hex
        kind        complete transaction
        txid        <txid:close>
        version     3
        lock time   none: final at once
        size        <n> vB
        input 0     <txid:funding>:0
                    nSequence 0xfffffffd
        output 0    100,000 sat to <address:buyer>
        signatures  2
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer show --json | grep -o '"payer_address": "<address:buyer>"'
        "payer_address": "<address:buyer>"
        $ mpchan --wallet buyer list
        channel           role   status  paid     left  updates  refund at
        <channel>  payer  closed     0  100,000        0  block 417
        $ mpchan --wallet buyer balance --json
        {"confirmed_sat": 99999356, "unconfirmed_sat": 0, "in_channels_sat": 0}
        $ mpchan --wallet seller balance --json
        {"confirmed_sat": 0, "unconfirmed_sat": 0, "in_channels_sat": 0}
        """
    )
    judged(opened)


def test_the_payer_disappears(paid: Shell) -> None:
    """The payee closes with its best update once that is final, which is before the refund."""
    paid.play(
        """
        $ mpchan regtest mine 159 -q
        $ mpchan --wallet seller payee settle --json
        2> {"error": "update-locked", "message": "update 1 is locked until block 272, the chain stands at 271",
        > "hint": "1 block to go; with a settlement from the payer it goes at once", "exit_code": 6}
        ? 6
        $ mpchan --wallet seller wait --for final --timeout 0
        2> mpchan: error: channel <channel> is open, not final, after 0 s
        ? 6
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet seller wait --for final --timeout 0
        channel <channel> is open
        $ mpchan --wallet seller payee settle -o close.hex
        2> update <txid:close> of channel <channel>: 1000 sat for you, broadcast
        + close.hex
        $ mpchan --wallet seller payee settle -o again.hex --json
        {"channel": "<channel>", "txid": "<txid:close>", "kind": "update", "paid_sat": 1000, "pending_sat": 0,
        > "broadcast": true,
        > "hex": "<hex:close>"}
        + again.hex
        $ cmp close.hex again.hex
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet seller payee settle --json
        {"channel": "<channel>", "txid": "<txid:close>", "kind": "update", "paid_sat": 1000, "pending_sat": 0,
        > "broadcast": true,
        > "hex": "<hex:close>"}
        $ mpchan --wallet seller wait --for closed
        channel <channel> is closed
        $ mpchan --wallet seller balance --json
        {"confirmed_sat": 1000, "unconfirmed_sat": 0, "in_channels_sat": 0}
        $ mpchan --wallet buyer balance --json
        {"confirmed_sat": 99998356, "unconfirmed_sat": 0, "in_channels_sat": 0}

        # too late for anything else
        $ mpchan --wallet buyer refund --json
        2> {"error": "channel-closed", "message": "the funding is spent by <txid:close>, not by the refund: the
        > payee closed the channel", "hint": null, "exit_code": 5}
        ? 5
        $ mpchan --wallet buyer pay 1 --json
        2> {"error": "channel-closed", "message": "the channel is closed", "hint": null, "exit_code": 5}
        ? 5
        """
    )
    judged(paid)


def test_the_payee_disappears(paid: Shell) -> None:
    paid.play(
        """
        $ mpchan regtest mine 304 -q
        $ mpchan --wallet buyer refund
        2> mpchan: error: the refund is locked until block 417, the chain stands at 416
        2> mpchan: hint: 1 block to go
        ? 6
        $ mpchan --wallet buyer pay 1
        2> mpchan: error: the chain has reached block 273: the payee takes no more updates
        2> mpchan: hint: close the channel with `mpchan payer settle`; its --total can carry a last payment
        ? 5
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer wait --for final
        channel <channel> is open
        $ mpchan --wallet buyer refund -o refund.hex
        2> refund <txid:refund> of channel <channel> is broadcast; it is done once it is confirmed
        + refund.hex
        $ mpchan --wallet buyer list
        channel           role   status      paid    left  updates  refund at
        <channel>  payer  refunding  1,000  99,000        1  block 417
        $ mpchan --wallet buyer wait --for closed --timeout 0.3
        2> mpchan: error: channel <channel> is refunding, not closed, after 0.3 s
        ? 6
        $ mpchan --wallet buyer refund --json
        {"channel": "<channel>", "txid": "<txid:refund>", "kind": "refund", "broadcast": true, "hex": "<hex:refund>"}
        $ cat refund.hex
        <hex:refund>
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer wait --for closed --json
        {"channel": "<channel>", "status": "refunded"}
        $ mpchan --wallet buyer refund -q -o again.hex
        + again.hex
        $ cmp refund.hex again.hex
        $ mpchan --wallet buyer balance --json
        {"confirmed_sat": 99999418, "unconfirmed_sat": 0, "in_channels_sat": 0}
        $ mpchan --wallet seller list --json
        {"channels": [{"channel": "<channel>", "role": "payee", "status": "refunded", "capacity_sat": 100000,
        > "paid_sat": 1000, "pending_sat": 0, "remaining_sat": 99000, "updates": 1, "refund_lock_time": 417}]}
        $ mpchan --wallet seller payee settle
        2> mpchan: error: the funding is spent by <txid:refund>, the channel is refunded
        ? 5
        """
    )
    judged(paid)


def test_the_payee_takes_no_settlement_and_the_payer_refunds(opened: Shell) -> None:
    """A settlement that was handed over does not bar the refund."""
    opened.play(
        """
        $ mpchan --wallet buyer settle --total 5000 -q -o settlement.psbt
        + settlement.psbt
        $ mpchan regtest mine 305 -q
        $ mpchan --wallet buyer refund --channel <channel> -q -o refund.hex
        + refund.hex
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer show --json | grep -o '"status": "[a-z]*"'
        "status": "refunded"
        $ mpchan --wallet seller settle settlement.psbt
        2> mpchan: error: the channel is refunded
        ? 5
        """
    )
    judged(opened)


def test_a_settlement_serves_the_payee_after_the_deadline(paid: Shell) -> None:
    """From L_0 on no update is taken, but a settlement is; before the close is mined the held one goes out again."""
    paid.play(
        """
        $ mpchan --wallet buyer pay 500 -q -o second.psbt
        + second.psbt
        $ mpchan regtest mine 161 -q
        $ mpchan --wallet seller payee accept second.psbt
        2> mpchan: error: the chain has reached block 273, from where on only a settlement is taken
        2> mpchan: hint: close the channel with `mpchan payee settle`
        ? 5
        $ mpchan --wallet buyer settle --total 1600 -q -o settlement.psbt
        + settlement.psbt
        $ mpchan --wallet seller payee accept settlement.psbt
        the settlement of channel <channel>: 0 sat received, 1000 in all, 99000 left; 600 more count once it
        > is confirmed, deliver nothing for them before
        next: `mpchan payee settle` broadcasts it
        $ mpchan --wallet seller payee accept settlement.psbt --json
        {"channel": "<channel>", "update": 1, "received_sat": 0, "paid_sat": 1000, "pending_sat": 600,
        > "remaining_sat": 99000,
        > "lock_time": 0, "duplicate": true, "kind": "settlement"}
        $ mpchan --wallet seller settle -q
        <hex:close>
        $ mpchan --wallet seller settle -q
        <hex:close>
        $ mpchan --wallet seller list
        channel           role   status     paid  pending    left  updates  refund at
        <channel>  payee  settling  1,000      600  99,000        1  block 417
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet seller payee accept settlement.psbt
        the settlement of channel <channel> is held already: 1600 sat in all
        """
    )
    judged(paid)


def test_a_channel_in_seconds(wallets: Shell) -> None:
    """Lock times are median times past; a block of the embedded chain takes 600 s."""
    wallets.play(
        """
        $ mpchan --wallet seller payee offer --lock-time-unit seconds --settle-window 600 --min-refund-delay
        > 12000 --max-refund-delay 22800 --step 2 -q -o offer.toml
        + offer.toml
        $ mpchan --wallet buyer open offer.toml 50000 --refund-delay 12000 -o request.psbt
        2> channel <channel> of 50000 sat, refund at median time 1296764202
        2> next: the payee runs `mpchan payee sign-refund FILE` on this message
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -o signed.psbt
        2> signed the refund of channel <channel>: 50000 sat, refund at median time 1296764202
        2> next: the payer runs `mpchan payer fund FILE` on this message
        + signed.psbt
        $ mpchan --wallet buyer payer fund signed.psbt -q -o funding.hex
        + funding.hex
        $ mpchan regtest mine 1
        height 112, median time 1296752802, tip <block>
        $ mpchan --wallet buyer pay 1000 --json -o update.psbt
        {"channel": "<channel>", "update": 1, "amount_sat": 1000, "paid_sat": 1000, "remaining_sat": 49000,
        > "lock_time": 1296763600, "hex": "<hex:one>"}
        + update.psbt
        $ mpchan --wallet seller payee accept update.psbt
        update 1 of channel <channel>: 1000 sat received, 1000 in all, 49000 left
        $ mpchan --wallet buyer pay 1000 --json -o late.psbt
        {"channel": "<channel>", "update": 2, "amount_sat": 1000, "paid_sat": 2000, "remaining_sat": 48000,
        > "lock_time": 1296763598, "hex": "<hex:two>"}
        + late.psbt
        $ mpchan --wallet seller settle
        2> mpchan: error: update 1 is locked until median time 1296763600, the chain stands at 1296752802
        2> mpchan: hint: 10799 seconds to go; with a settlement from the payer it goes at once
        ? 6

        # the payee's window: L_0 is reached, the best update is final, the refund is not
        $ mpchan regtest mine 17
        height 129, median time 1296763002, tip <block:before>
        $ mpchan --wallet seller wait --for final --timeout 0
        2> mpchan: error: channel <channel> is open, not final, after 0 s
        ? 6
        $ mpchan regtest mine 1
        height 130, median time 1296763602, tip <block:window>
        $ mpchan --wallet buyer pay 1000
        2> mpchan: error: the chain has reached median time 1296763602: the payee takes no more updates
        2> mpchan: hint: close the channel with `mpchan payer settle`; its --total can carry a last payment
        ? 5
        $ mpchan --wallet seller payee accept late.psbt
        2> mpchan: error: the chain has reached median time 1296763602, from where on only a settlement is taken
        2> mpchan: hint: close the channel with `mpchan payee settle`
        ? 5
        $ mpchan --wallet seller wait --for final --timeout 0
        channel <channel> is open
        $ mpchan --wallet buyer refund
        2> mpchan: error: the refund is locked until median time 1296764202, the chain stands at 1296763602
        2> mpchan: hint: 601 seconds to go
        ? 6
        """
    )
    ending = Shell(wallets.folder.with_name("ending"), wallets)
    wallets.play(
        """
        $ mpchan --wallet seller settle
        <hex:close>
        2> update <txid:close> of channel <channel>: 1000 sat for you, broadcast
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet seller wait --for closed -q
        """
    )
    # had the payee slept through its window: a time is final only when the median time is past it (BIP-0113)
    ending.play(
        """
        $ mpchan regtest mine 1
        height 131, median time 1296764202, tip <block:on-time>
        $ mpchan --wallet buyer refund
        2> mpchan: error: the refund is locked until median time 1296764202, the chain stands at 1296764202
        2> mpchan: hint: 1 second to go
        ? 6
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer refund
        <hex:refund>
        2> refund <txid:refund> of channel <channel> is broadcast; it is done once it is confirmed
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer wait --for closed
        channel <channel> is refunded
        """
    )
    judged(wallets)
    judged(ending)


def test_openings_that_are_given_up(wallets: Shell) -> None:
    """The coins are free again; the payee never signs a second refund under the offer."""
    wallets.play(
        """
        $ mpchan --wallet seller payee offer -q --min-capacity 20000 --memo first -o first.toml
        + first.toml
        $ mpchan --wallet buyer open first.toml 99990000 -o request.psbt
        2> channel <channel:first> of 99990000 sat, refund at block 417
        2> next: the payee runs `mpchan payee sign-refund FILE` on this message
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        + signed.psbt
        $ mpchan --wallet seller payee offer --like $(sed -n 's/offer_id = "\\(.*\\)"/\\1/p' first.toml) -q -o
        > second.toml
        + second.toml
        $ diff first.toml second.toml | grep -c '^[<>] [opq]'
        6
        $ mpchan --wallet buyer open second.toml 50000000
        2> mpchan: error: 50000338 sat and a fee are needed, the wallet can spend 0 sat; 100000000 sat are reserved by
        > channels and sends that are not in a block yet
        2> mpchan: hint: send coins to the address that `mpchan address` prints, and wait for a confirmation
        ? 5

        # a second opening under the same offer is the first one again, or refused
        $ mpchan --wallet buyer open first.toml 99990000 -q -o again.psbt
        + again.psbt
        $ cmp request.psbt again.psbt
        $ mpchan --wallet buyer open first.toml 50000 --json | wc -c
        0
        2> {"error": "offer-used", "message": "offer <offer:first> serves channel <channel:first> of 99990000 sat
        > already", "hint": "an offer serves one channel: ask the payee for another, or `mpchan payer abandon`
        > the first", "exit_code": 5}

        $ mpchan --wallet buyer payer abandon
        channel <channel:first> is abandoned
        $ mpchan --wallet buyer payer abandon --channel <channel:first> --json
        {"channel": "<channel:first>", "status": "abandoned"}
        $ mpchan --wallet buyer payer fund signed.psbt
        2> mpchan: error: this opening was abandoned
        ? 5
        $ mpchan --wallet seller payee abandon
        channel <channel:first> is abandoned
        $ mpchan --wallet seller payee abandon --channel <channel:first> --json
        {"channel": "<channel:first>", "status": "abandoned"}

        # the used-up offer is void, the next one with the same terms serves
        $ mpchan --wallet buyer open first.toml 50000 --funding-fee-rate 0.999 --json
        2> {"error": "funding-fee-rate", "message": "a funding at 0.999 sat/vB is not relayed, the least is 1
        > sat/vB", "hint": null, "exit_code": 5}
        ? 5
        $ mpchan --wallet buyer open first.toml 50000 --funding-fee-rate 1 -q -o other.psbt
        + other.psbt
        $ mpchan --wallet seller payee sign-refund other.psbt --json
        2> {"error": "offer-used", "message": "offer <offer:first> serves channel <channel:first> already",
        > "hint": "make another with `mpchan payee offer --like <offer:first>`", "exit_code": 4}
        ? 4
        $ mpchan --wallet buyer payer abandon -q
        $ mpchan --wallet buyer open second.toml 99990000 -q -o request.psbt
        ~ request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        ~ signed.psbt
        $ mpchan --wallet buyer payer fund signed.psbt -q -o funding.hex
        + funding.hex
        $ mpchan --wallet buyer payer abandon --json
        2> {"error": "no-channel", "message": "this wallet has no channel that is being opened", "hint": "see
        > `mpchan list`", "exit_code": 5}
        ? 5
        $ mpchan --wallet seller payee abandon
        2> mpchan: error: the channel's funding was seen, so it cannot be abandoned
        ? 5
        """
    )
    judged(wallets)


def test_a_signed_refund_stays_remembered(wallets: Shell) -> None:
    """The payee gave up, and still gives the same answer to the same request, and no other."""
    wallets.play(
        """
        $ mpchan --wallet seller payee offer -q -o offer.toml
        + offer.toml
        $ mpchan --wallet buyer open offer.toml 50000 -q -o request.psbt
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        + signed.psbt
        $ mpchan --wallet seller payee abandon -q
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o again.psbt
        + again.psbt
        $ cmp signed.psbt again.psbt
        $ mpchan --wallet seller list | tail -n 1
        <channel>  payee  abandoned     0  50,000        0  block 417
        """
    )


@pytest.mark.parametrize("broadcast", [False, True])
def test_the_funding_handed_over_by_file(wallets: Shell, broadcast: bool) -> None:
    """The payee checks it against the refund, keeps it, and broadcasts it when asked."""
    wallets.play(
        f"""
        $ mpchan --wallet seller payee offer -q -o offer.toml
        + offer.toml
        $ mpchan --wallet buyer open offer.toml 50000 -q -o request.psbt
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        + signed.psbt
        $ mpchan --wallet buyer payer fund signed.psbt --no-broadcast -o funding.hex
        2> channel <channel>: the refund is stored, the funding <txid:funding> is signed; broadcast it yourself,
        > and never bump its fee by replacement
        2> seed words alone do not recover an open channel, the refund does: keep a copy of it (--refund-out)
        2> next: wait with `mpchan wait CHANNEL --for confirmed`, then `mpchan payer pay AMOUNT`
        + funding.hex
        $ mpchan --wallet seller payee funding signed.psbt
        2> mpchan: error: this is a PSBT, not a complete transaction
        ? 3
        $ mpchan --wallet seller payee funding funding.hex {"--broadcast" if broadcast else ""} --json
        {{"channel": "<channel>", "funding_txid": "<txid:funding>"}}
        $ mpchan --wallet seller list --json | grep -o '"status": "[a-z]*"'
        "status": "funding"
        $ mpchan regtest status --json | grep -c <txid:funding>
        {1 if broadcast else 0}
        {"" if broadcast else "? 1"}
        """
    )
