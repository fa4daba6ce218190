"""The whole story of a channel, as both parties type it: every line that they see, every file that appears."""

from __future__ import annotations

from support.judge import judge_wallet
from support.transcript import Shell


def test_the_story_in_long_forms(bare: Shell) -> None:
    bare.forks = False  # each command is started, as a person does
    bare.play(
        """
        $ mpchan --wallet buyer init
        made a regtest wallet in <folder>/buyer (chain: embedded)
        $ mpchan --wallet seller init
        made a regtest wallet in <folder>/seller (chain: embedded)
        $ ls buyer
        channels
        keys.toml
        offers
        wallet.lock
        wallet.toml

        # play money for the buyer; it can be spent once it is in a block
        $ mpchan --wallet buyer address
        <address:coins>
        $ mpchan regtest faucet <address:coins> 0.01btc
        sent 1000000 sat in <txid:coins>; `mpchan regtest mine 1` confirms it
        $ mpchan regtest status
        height 110, median time 1296751602, tip <block>
        in the mempool: <txid:coins>
        $ mpchan --wallet buyer balance
        confirmed    0 sat
        unconfirmed  1,000,000 sat
        in channels  0 sat
        $ mpchan regtest mine 1
        height 111, median time 1296752202, tip <block:mined>

        # the seller's offer
        $ mpchan --wallet seller payee offer --memo '100 pieces' -o offer.toml
        2> offer <offer>, paid to <address:seller>
        2> next: the payer runs `mpchan payer open OFFER AMOUNT` on this text
        + offer.toml
        $ grep . offer.toml
        version = 2
        offer_id = "<offer>"
        generation = "<generation>"
        expires = 0
        token = "<token>"
        network = "regtest"
        scheme = "decrementing"
        payee_pubkey = "<key:seller>"
        payee_address = "<address:seller>"
        min_capacity_sat = 1000
        max_capacity_sat = 100000000
        fee_rate_sat_per_kvb = 2000
        lock_time_unit = "blocks"
        min_refund_delay = 288
        max_refund_delay = 4320
        settle_window = 144
        min_increment_sat = 1
        min_confirmations = 1
        memo = "100 pieces"
        [decrementing]
        step = 1

        # the refund before the funding
        $ mpchan --wallet buyer payer open offer.toml 100000 -o request.psbt
        2> channel <channel> of 100000 sat, refund at block 417
        2> next: the payee runs `mpchan payee sign-refund FILE` on this message
        + request.psbt
        $ mpchan inspect request.psbt
        kind        PSBT (lacks signatures)
        txid        <txid:refund>
        version     3
        lock time   block 417
        size        82 vB
        input 0     <txid:funding>:0
                    100,338 sat, nSequence 0xfffffffd
        output 0    100,062 sat to <address:buyer>
        signatures  0
        offer       <offer>
        $ mpchan --wallet seller payee sign-refund request.psbt -o signed.psbt
        2> signed the refund of channel <channel>: 100000 sat, refund at block 417
        2> next: the payer runs `mpchan payer fund FILE` on this message
        + signed.psbt
        $ mpchan --wallet buyer show
        channel   <channel>
        role      payer
        status    opening
        network   regtest, decrementing
        capacity  100,000 sat
        paid      0 sat
        left      100,000 sat
        updates   0
        funding   <txid:funding>:0
                  100,338 sat, not seen on the chain
        refund    block 417
        latest    none yet
        payer     <address:buyer>
                  <key:buyer>
        payee     <address:seller>
                  <key:seller>
        $ mpchan --wallet buyer payer fund signed.psbt --refund-out refund.hex -o funding.hex
        2> channel <channel>: the refund is stored, the funding <txid:funding> is signed and broadcast
        2> seed words alone do not recover an open channel, the refund does: keep a copy of it (--refund-out)
        2> next: wait with `mpchan wait CHANNEL --for confirmed`, then `mpchan payer pay AMOUNT`
        + funding.hex
        + refund.hex
        $ mpchan inspect refund.hex
        kind        complete transaction
        txid        <txid:refund>
        version     3
        lock time   block 417
        size        <n> vB
        input 0     <txid:funding>:0
                    nSequence 0xfffffffd
        output 0    100,062 sat to <address:buyer>
        signatures  2
        $ mpchan --wallet seller payee funding funding.hex
        channel <channel> is funded by <txid:funding>, once confirmed
        $ mpchan --wallet seller list
        channel           role   status   paid     left  updates  refund at
        <channel>  payee  funding     0  100,000        0  block 417

        # no payment yet
        $ mpchan --wallet buyer payer pay 1000 -o update.psbt
        2> mpchan: error: confirmations of the funding: expected at least 1, found 0
        2> mpchan: hint: wait for it with `mpchan wait --for confirmed`
        ? 6
        $ mpchan --wallet buyer wait <channel> --for confirmed --timeout 0
        2> mpchan: error: channel <channel> is funding, not confirmed, after 0 s
        ? 6
        $ mpchan regtest mine 1
        height 112, median time 1296752802, tip <block:funded>
        $ mpchan --wallet buyer wait <channel> --for confirmed --timeout 0
        channel <channel> is open

        # payments
        $ mpchan --wallet buyer payer pay 1000 -o update.psbt
        2> update 1 of channel <channel>: 1000 sat now, 1000 in all, 99000 left
        + update.psbt
        $ mpchan --wallet seller payee accept update.psbt
        update 1 of channel <channel>: 1000 sat received, 1000 in all, 99000 left
        $ mpchan --wallet seller payee accept update.psbt
        update 1 of channel <channel> is held already: 1000 sat in all
        $ mpchan --wallet buyer payer pay --last -o again.psbt
        2> update 1 of channel <channel>: 0 sat now, 1000 in all, 99000 left
        + again.psbt
        $ cmp update.psbt again.psbt
        $ mpchan --wallet buyer payer pay --total 3000sat > update.psbt
        2> update 2 of channel <channel>: 2000 sat now, 3000 in all, 97000 left
        ~ update.psbt
        $ mpchan --wallet seller payee accept - < update.psbt
        update 2 of channel <channel>: 2000 sat received, 3000 in all, 97000 left
        $ mpchan --wallet buyer balance
        confirmed    899,356 sat
        unconfirmed  0 sat
        in channels  97,000 sat
        $ mpchan --wallet seller balance
        confirmed    0 sat
        unconfirmed  0 sat
        in channels  3,000 sat

        # too early for what each could do alone
        $ mpchan --wallet buyer payer refund
        2> mpchan: error: the refund is locked until block 417, the chain stands at 112
        2> mpchan: hint: 305 blocks to go
        ? 6
        $ mpchan --wallet seller payee settle -o close.hex
        2> mpchan: error: update 2 is locked until block 271, the chain stands at 112
        2> mpchan: hint: 159 blocks to go; with a settlement from the payer it goes at once
        ? 6

        # the close, with a last payment in it
        $ mpchan --wallet buyer payer settle --total 0.00005btc -o settlement.psbt
        2> settlement of channel <channel>: 5000 sat to the payee
        2> next: the payee runs `mpchan payee settle FILE`; should it not, `mpchan payer refund` works at its time
        + settlement.psbt
        $ mpchan --wallet buyer payer pay 1
        2> mpchan: error: this wallet has no channel that is open
        2> mpchan: hint: see `mpchan list`
        ? 5
        $ mpchan --wallet buyer payer pay 1 --channel <channel>
        2> mpchan: error: the channel is settling
        ? 5
        $ mpchan --wallet seller payee settle settlement.psbt -o close.hex
        2> settlement <txid:close> of channel <channel>: 5000 sat for you, broadcast
        + close.hex
        $ mpchan inspect close.hex
        kind        complete transaction
        txid        <txid:close>
        version     3
        lock time   none: final at once
        size        <n> vB
        input 0     <txid:funding>:0
                    nSequence 0xfffffffd
        output 0    95,000 sat to <address:buyer>
        output 1    5,000 sat to <address:seller>
        signatures  2
        $ mpchan --wallet seller wait <channel> --for closed --timeout 0
        2> mpchan: error: channel <channel> is settling, not closed, after 0 s
        ? 6
        $ mpchan regtest mine 1
        height 113, median time 1296753402, tip <block:closed>
        $ mpchan --wallet buyer wait <channel> --for closed --timeout 0
        channel <channel> is closed
        $ mpchan --wallet buyer balance
        confirmed    994,356 sat
        unconfirmed  0 sat
        in channels  0 sat
        $ mpchan --wallet seller balance
        confirmed    5,000 sat
        unconfirmed  0 sat
        in channels  0 sat
        $ mpchan --wallet seller show <channel>
        channel   <channel>
        role      payee
        status    closed
        network   regtest, decrementing
        capacity  100,000 sat
        paid      5,000 sat
        left      95,000 sat
        updates   2
        funding   <txid:funding>:0
                  100,338 sat, 2 confirmations
        refund    block 417
        latest    none: final at once
        payer     <address:buyer>
                  <key:buyer>
        payee     <address:seller>
                  <key:seller>
        """
    )
    for name in ("buyer", "seller"):
        judge_wallet(bare.folder / name)


def test_the_story_in_short_forms_and_json(wallets: Shell) -> None:
    """Every JSON object whole, its keys in their order."""
    wallets.forks = False  # each command is started, as a person does
    wallets.play(
        """
        $ mpchan --json --wallet seller payee offer --max-capacity 0.5btc -o offer.toml
        {"offer_id": "<offer>", "payee_pubkey": "<key:seller>", "payee_address": "<address:seller>", "toml":
        > "version = 2\\noffer_id = \\"<offer>\\"\\ngeneration = \\"<generation>\\"\\nexpires = 0\\ntoken =
        > \\"<token>\\"\\nnetwork = \\"regtest\\"\\nscheme =
        > \\"decrementing\\"\\npayee_pubkey = \\"<key:seller>\\"\\npayee_address =
        > \\"<address:seller>\\"\\nmin_capacity_sat = 1000\\nmax_capacity_sat = 50000000\\nfee_rate_sat_per_kvb =
        > 2000\\nlock_time_unit = \\"blocks\\"\\nmin_refund_delay = 288\\nmax_refund_delay = 4320\\nsettle_window
        > = 144\\nmin_increment_sat = 1\\nmin_confirmations = 1\\nmemo =
        > \\"\\"\\n\\n[decrementing]\\nstep = 1\\n"}
        + offer.toml
        $ mpchan --wallet buyer open offer.toml 100000sat --json
        {"channel": "<channel>", "capacity_sat": 100000, "funding_txid": "<txid:funding>", "funding_vout": 0,
        > "funding_sat": 100338, "refund_lock_time": 417, "hex": "<hex:request>"}
        $ mpchan --json --wallet buyer open offer.toml 100000 -o request.psbt
        {"channel": "<channel>", "capacity_sat": 100000, "funding_txid": "<txid:funding>", "funding_vout": 0,
        > "funding_sat": 100338, "refund_lock_time": 417, "hex": "<hex:request>"}
        + request.psbt
        $ cat request.psbt
        <hex:request>
        $ mpchan --wallet seller payee --json sign-refund request.psbt
        {"channel": "<channel>", "capacity_sat": 100000, "refund_lock_time": 417, "hex": "<hex:signed>"}
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        + signed.psbt
        $ cat signed.psbt
        <hex:signed>
        $ mpchan --wallet buyer --json payer fund signed.psbt --no-broadcast
        {"channel": "<channel>", "funding_txid": "<txid:funding>", "broadcast": false, "hex": "<hex:funding>"}
        $ mpchan --wallet buyer payer fund signed.psbt --json -o funding.hex
        {"channel": "<channel>", "funding_txid": "<txid:funding>", "broadcast": true, "hex": "<hex:funding>"}
        + funding.hex
        $ mpchan --wallet seller payee funding funding.hex --json
        {"channel": "<channel>", "funding_txid": "<txid:funding>"}
        $ mpchan regtest mine 1 --json
        {"height": 112, "tip": "<block>", "median_time": 1296752802, "mempool": []}
        $ mpchan --json --wallet buyer wait --for confirmed
        {"channel": "<channel>", "status": "open"}
        $ mpchan --wallet buyer pay 0.00001btc --json
        {"channel": "<channel>", "update": 1, "amount_sat": 1000, "paid_sat": 1000, "remaining_sat": 99000,
        > "lock_time": 272, "hex": "<hex:one>"}
        $ mpchan --json --wallet buyer pay --total 2500 -o update.psbt
        {"channel": "<channel>", "update": 2, "amount_sat": 1500, "paid_sat": 2500, "remaining_sat": 97500,
        > "lock_time": 271, "hex": "<hex:two>"}
        + update.psbt
        $ mpchan --json --wallet buyer pay --total 2500
        {"channel": "<channel>", "update": 2, "amount_sat": 0, "paid_sat": 2500, "remaining_sat": 97500,
        > "lock_time": 271, "hex": "<hex:two>"}
        $ mpchan --wallet buyer pay --last --json
        {"channel": "<channel>", "update": 2, "amount_sat": 0, "paid_sat": 2500, "remaining_sat": 97500,
        > "lock_time": 271, "hex": "<hex:two>"}
        $ mpchan --json --wallet seller payee accept update.psbt
        {"channel": "<channel>", "update": 2, "received_sat": 2500, "paid_sat": 2500, "pending_sat": 0,
        > "remaining_sat": 97500,
        > "lock_time": 271, "duplicate": false}
        $ mpchan --wallet seller payee accept update.psbt --json
        {"channel": "<channel>", "update": 2, "received_sat": 0, "paid_sat": 2500, "pending_sat": 0,
        > "remaining_sat": 97500,
        > "lock_time": 271, "duplicate": true}
        $ mpchan --wallet buyer settle --json -o settlement.psbt
        {"channel": "<channel>", "paid_sat": 2500, "lock_time": 0, "hex": "<hex:settlement>"}
        + settlement.psbt
        $ mpchan --wallet buyer settle --json
        {"channel": "<channel>", "paid_sat": 2500, "lock_time": 0, "hex": "<hex:settlement>"}
        $ mpchan --json --wallet seller settle settlement.psbt
        {"channel": "<channel>", "txid": "<txid:close>", "kind": "settlement", "paid_sat": 2500, "pending_sat": 0,
        > "broadcast":
        > true, "hex": "<hex:close>"}
        $ mpchan --json --wallet seller settle
        {"channel": "<channel>", "txid": "<txid:close>", "kind": "settlement", "paid_sat": 2500, "pending_sat": 0,
        > "broadcast":
        > true, "hex": "<hex:close>"}
        $ mpchan regtest status --json
        {"height": 112, "tip": "<block>", "median_time": 1296752802, "mempool": ["<txid:close>"]}
        $ mpchan regtest mine 1 -q
        $ mpchan --json --wallet buyer show
        {"channel": "<channel>", "role": "payer", "status": "closed", "scheme": "decrementing", "network":
        > "regtest", "capacity_sat": 100000, "paid_sat": 2500, "pending_sat": 0,
        > "remaining_sat": 97500, "updates": 2, "funding":
        > {"txid": "<txid:funding>", "vout": 0, "value_sat": 100338, "confirmations": 2}, "refund_lock_time":
        > 417, "latest_lock_time": 0, "payer_pubkey": "<key:buyer>", "payee_pubkey": "<key:seller>",
        > "payer_address": "<address:buyer>", "payee_address": "<address:seller>"}
        $ mpchan --wallet seller list --json
        {"channels": [{"channel": "<channel>", "role": "payee", "status": "closed", "capacity_sat": 100000,
        > "paid_sat": 2500, "pending_sat": 0, "remaining_sat": 97500, "updates": 2, "refund_lock_time": 417}]}
        $ mpchan --wallet seller balance --json
        {"confirmed_sat": 2500, "unconfirmed_sat": 0, "in_channels_sat": 0}
        $ mpchan --wallet seller address --json
        {"address": "<address:fresh>"}
        $ mpchan --json regtest faucet <address:fresh> 1500
        {"txid": "<txid:gift>"}
        $ mpchan --wallet third init --json
        {"wallet": "<folder>/third", "network": "regtest", "chain": "embedded"}
        + third/keys.toml
        + third/wallet.lock
        + third/wallet.toml
        """
    )
    for name in ("buyer", "seller"):
        judge_wallet(wallets.folder / name)
