"""The backend ``none``: nothing is asked, the user tells where the chain stands and broadcasts by hand."""

from __future__ import annotations

import pytest
from support.judge import judge_wallet
from support.transcript import CHAIN, Shell

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"


def by_hand(shell: Shell, name: str, blocks: int = 1) -> str:
    """What the user does with a transaction's hex: hands it to a node of its own. Its txid."""
    transaction = Transaction.from_hex(shell.text(name).strip())
    with EmbeddedChain(shell.folder / CHAIN) as chain:
        chain.broadcast(transaction)
        chain.mine(blocks)
    return str(transaction.txid)


def blind(shell: Shell, wallet: str) -> None:
    """From here on this wallet asks no chain."""
    path = shell.folder / wallet / "wallet.toml"
    text = path.read_text()
    assert 'backend = "embedded"' in text
    path.write_text(text.replace('backend = "embedded"', 'backend = "none"'))


@pytest.fixture
def blind_seller(wallets: Shell) -> Shell:
    """The buyer is on the embedded chain, the seller asks none."""
    wallets.ok("rm -r seller")
    wallets.ok(f"{SELLER} init --chain none")
    return wallets


def test_the_life_of_a_payee(blind_seller: Shell) -> None:
    blind_seller.play(
        """
        $ mpchan --wallet seller payee offer -q -o offer.toml
        + offer.toml
        $ mpchan --wallet buyer open offer.toml 50000 -q -o request.psbt
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt
        2> mpchan: error: this wallet asks no chain, so the command needs to be told where it stands
        2> mpchan: hint: add --tip HEIGHT, or --tip HEIGHT:MEDIAN_TIME
        ? 2
        $ mpchan --wallet seller payee sign-refund request.psbt --tip 200
        2> mpchan: error: lock time of the refund: expected at least 488, found 417
        ? 4
        $ mpchan --wallet seller payee sign-refund request.psbt --tip 111 -o signed.psbt
        2> signed the refund of channel <channel>: 50000 sat, refund at block 417
        2> next: the payer runs `mpchan payer fund FILE` on this message
        + signed.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt --tip 500 -q -o again.psbt
        + again.psbt
        $ cmp signed.psbt again.psbt
        $ mpchan --wallet seller list
        channel           role   status   paid    left  updates  refund at
        <channel>  payee  opening     0  50,000        0  block 417
        $ mpchan --wallet buyer payer fund signed.psbt -q -o funding.hex
        + funding.hex
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet seller payee funding funding.hex
        channel <channel> is funded by <txid:funding>, once confirmed
        $ mpchan --wallet seller payee funding funding.hex --broadcast
        2> mpchan: error: this wallet asks no chain, so it broadcasts nothing
        ? 8

        # the payee's word counts for the confirmations, and must be given each time
        $ mpchan --wallet buyer pay 1000 -q -o update.psbt
        + update.psbt
        $ mpchan --wallet seller payee accept update.psbt
        2> mpchan: error: this wallet asks no chain, so the command needs to be told where it stands
        2> mpchan: hint: add --tip HEIGHT, or --tip HEIGHT:MEDIAN_TIME
        ? 2
        $ mpchan --wallet seller payee accept update.psbt --tip 112 --json
        2> {"error": "funding-unseen", "message": "the chain does not show the funding", "hint": "wait for it
        > with `mpchan wait --for confirmed`", "exit_code": 6}
        ? 6
        $ mpchan --wallet seller payee accept update.psbt --tip 112 --confirmations 0 --json
        2> {"error": "unconfirmed", "message": "confirmations of the funding: expected at least 1, found 0",
        > "hint": "wait for it with `mpchan wait --for confirmed`", "exit_code": 6}
        ? 6
        $ mpchan --wallet seller payee accept update.psbt --tip 273 --confirmations 1
        2> mpchan: error: the chain has reached block 273, from where on only a settlement is taken
        2> mpchan: hint: close the channel with `mpchan payee settle`
        ? 5
        $ mpchan --wallet seller payee accept update.psbt --tip 112 --confirmations 1
        update 1 of channel <channel>: 1000 sat received, 1000 in all, 49000 left
        $ mpchan --wallet seller wait <channel> --for confirmed --tip 112 --confirmations 1
        channel <channel> is open
        $ mpchan --wallet seller show --tip 112 --confirmations 6 --json | grep -o '"confirmations": [0-9]*'
        "confirmations": 6
        $ mpchan --wallet seller show --json | grep -o '"confirmations": [a-z0-9]*'
        "confirmations": null
        $ mpchan --wallet seller balance
        2> mpchan: error: this wallet asks no chain, so it knows no coins
        2> mpchan: hint: set chain.backend in wallet.toml
        ? 8

        # the payer is gone: the best update, at its time
        $ mpchan --wallet seller settle --json
        2> {"error": "tip-needed", "message": "this wallet asks no chain, so the command needs to be told where it
        > stands", "hint": "add --tip HEIGHT, or --tip HEIGHT:MEDIAN_TIME", "exit_code": 2}
        ? 2
        $ mpchan --wallet seller settle --tip 271
        2> mpchan: error: update 1 is locked until block 272, the chain stands at 271
        2> mpchan: hint: 1 block to go; with a settlement from the payer it goes at once
        ? 6
        $ mpchan --wallet seller settle --tip 272 -o close.hex
        2> update <txid:close> of channel <channel>: 1000 sat for you; broadcast it yourself
        + close.hex
        $ mpchan --wallet seller settle --tip 272 --json
        {"channel": "<channel>", "txid": "<txid:close>", "kind": "update", "paid_sat": 1000, "pending_sat": 0,
        > "broadcast": false,
        > "hex": "<hex:close>"}
        $ cat close.hex
        <hex:close>
        $ mpchan --wallet seller list
        channel           role   status     paid    left  updates  refund at
        <channel>  payee  settling  1,000  49,000        1  block 417
        $ mpchan regtest mine 160 -q
        """
    )
    assert by_hand(blind_seller, "close.hex") == blind_seller.names["txid:close"]
    assert blind_seller.json(f"{BUYER} show")["status"] == "closed"
    judge_wallet(blind_seller.folder / "seller")


def test_a_payee_with_a_settlement(blind_seller: Shell) -> None:
    """The close of both parties needs a tip and no word on confirmations once a payment was taken with one."""
    shell = blind_seller
    shell.ok(f"{SELLER} payee offer -o offer.toml")
    shell.ok(f"{BUYER} open offer.toml 50000 -o request.psbt")
    shell.ok(f"{SELLER} payee sign-refund request.psbt --tip 111 -o signed.psbt")
    shell.ok(f"{BUYER} payer fund signed.psbt")
    shell.ok("mpchan regtest mine 1")
    shell.ok(f"{BUYER} settle --total 2000 -o settlement.psbt")
    shell.fails(f"{SELLER} settle settlement.psbt --tip 112", 6, "funding-unseen")
    done = shell.ok(f"{SELLER} settle settlement.psbt --tip 112 --confirmations 1")
    assert done.err.endswith(": 2000 sat for you; broadcast it yourself\n")
    (shell.folder / "close.hex").write_text(done.out)
    by_hand(shell, "close.hex")
    assert shell.json(f"{BUYER} show")["status"] == "closed"
    judge_wallet(shell.folder / "seller")


def test_a_payee_in_seconds_says_the_median_time(blind_seller: Shell) -> None:
    """A height alone says nothing about a lock time in seconds."""
    shell = blind_seller
    shell.ok(f"{SELLER} payee offer --lock-time-unit seconds -o offer.toml")
    shell.ok(f"{BUYER} open offer.toml 50000 -o request.psbt")
    shell.fails(f"{SELLER} payee sign-refund request.psbt --tip 111", 2, "tip-needed")
    shell.ok(f"{SELLER} payee sign-refund request.psbt --tip 111:1296752202 -o signed.psbt")
    shell.ok(f"{BUYER} payer fund signed.psbt")
    shell.ok("mpchan regtest mine 1")
    shell.ok(f"{BUYER} pay 1000 -o update.psbt")
    shell.fails(f"{SELLER} payee accept update.psbt --tip 112 --confirmations 1", 2, "tip-needed")
    shell.ok(f"{SELLER} payee accept update.psbt --tip 112:1296752802 --confirmations 1")
    error = shell.fails(f"{SELLER} settle --tip 112:1296752802", 6, "update-locked")
    assert error["hint"].startswith("96600 seconds to go; ")


def test_an_offer_that_says_where_the_chain_stands(blind_seller: Shell) -> None:
    """What is said without `--tip` is true: with it the offer is made, and its first payment taken."""
    blind_seller.play(
        """
        $ mpchan --wallet seller payee offer --scheme taproot -o offer.toml
        2> mpchan: error: this wallet asks no chain, so the command needs to be told where it stands
        2> mpchan: hint: add --tip HEIGHT, or --tip HEIGHT:MEDIAN_TIME
        ? 2
        $ mpchan --wallet seller payee offer --scheme taproot --tip 111 -q -o offer.toml
        + offer.toml
        $ grep made_at offer.toml
        made_at = 111
        """
    )
    blind_seller.ok(f"{BUYER} open offer.toml 50000 -o funding.hex")
    blind_seller.ok("mpchan regtest mine 1")
    blind_seller.ok(f"{BUYER} pay 700 -o update.psbt")
    taken = blind_seller.json(f"{SELLER} payee accept update.psbt --tip 112 --confirmations 1")
    assert taken["received_sat"] == 700
    assert [warning.split(":")[0] for warning in taken["warnings"]] == ["not-looked-up"]


def test_the_life_of_a_payer(wallets: Shell) -> None:
    """Coins it cannot know, so the opening needs a chain; all that follows works on the user's word."""
    wallets.ok(f"{SELLER} payee offer -o offer.toml")
    wallets.ok(f"{BUYER} open offer.toml 50000 -o request.psbt")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    blind(wallets, "buyer")
    wallets.fails(f"{BUYER} open other.toml 50000 --tip 111", 3, "unreadable-file")
    wallets.ok(f"{SELLER} payee offer -o other.toml")
    wallets.fails(f"{BUYER} open other.toml 50000 --tip 111", 8, "no-backend")
    wallets.fails(f"{BUYER} open other.toml 50000", 2, "tip-needed")
    wallets.fails(f"{BUYER} payer fund signed.psbt", 2, "tip-needed")
    wallets.fails(f"{BUYER} payer fund signed.psbt --tip 272", 5, "too-little-time")
    funded = wallets.json(f"{BUYER} payer fund signed.psbt --tip 111 --refund-out refund.hex -o funding.hex")
    assert funded["broadcast"] is False
    assert funded["hex"] + "\n" == wallets.text("funding.hex")
    wallets.fails(f"{BUYER} pay 1000", 2, "tip-needed")
    wallets.fails(f"{BUYER} pay 1000 --tip 111", 6, "unconfirmed")
    by_hand(wallets, "funding.hex")
    update = wallets.json(f"{BUYER} pay 1000 --tip 112 --confirmations 1 -o update.psbt")
    assert update["lock_time"] == 272
    assert wallets.ok(f"{BUYER} pay --last -q").out == wallets.text("update.psbt")
    assert wallets.json(f"{SELLER} payee accept update.psbt")["paid_sat"] == 1000
    wallets.fails(f"{BUYER} pay 1000 --tip 273 --confirmations 100", 5, "past-deadline")
    error = wallets.fails(f"{BUYER} refund --tip 416", 6, "refund-locked")
    assert error["hint"] == "1 block to go"
    wallets.fails(f"{BUYER} wait --for final --tip 416 --timeout 0", 6, "timeout")
    wallets.ok(f"{BUYER} wait --for final --tip 417 --timeout 0")
    branch = Shell(wallets.folder.with_name("branch"), wallets)

    # the close by both
    settled = wallets.json(f"{BUYER} settle --total 1500 --tip 113 --confirmations 2 -o settlement.psbt")
    assert settled["paid_sat"] == 1500
    assert wallets.json(f"{SELLER} settle settlement.psbt")["broadcast"] is True

    # or the refund, by hand
    refund = branch.json(f"{BUYER} refund --tip 417 -o mine.hex")
    assert (refund["kind"], refund["broadcast"]) == ("refund", False)
    assert branch.text("mine.hex") == branch.text("refund.hex")
    assert branch.json(f"{BUYER} show")["status"] == "refunding"
    branch.ok("mpchan regtest mine 305")
    by_hand(branch, "mine.hex")
    assert branch.json(f"{SELLER} show")["status"] == "refunded"
    for shell in (wallets, branch):
        judge_wallet(shell.folder / "buyer")


def test_what_needs_no_tip(opened: Shell) -> None:
    """Own phases alone tell the status, as far as they can."""
    for wallet, status in (("buyer", "funding"), ("seller", "opening")):
        blind(opened, wallet)
        view = opened.json(f"mpchan --wallet {wallet} show")
        assert (view["status"], view["funding"]["confirmations"]) == (status, None)
        assert opened.json(f"mpchan --wallet {wallet} list")["channels"][0]["status"] == status
    view = opened.json(f"{BUYER} show --tip 112 --confirmations 1")
    assert view["status"] == "open"
    opened.ok(f"{BUYER} address")
    opened.ok(f"{SELLER} payee offer -q")
    opened.ok(f"{SELLER} payee sign-refund request.psbt -q")
