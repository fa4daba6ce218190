"""``mpchan bump`` as a program: what it prints, writes and leaves behind."""

from __future__ import annotations

import json

from support.transcript import Shell

from mpchan.bitcoin.tx import Transaction
from mpchan.units import FeeRate

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
KEYS = [
    "channel",
    "txid",
    "kind",
    "child_txid",
    "fee_sat",
    "fee_rate_sat_per_kvb",
    "broadcast",
    "hex",
    "parent_hex",
]


def settled(shell: Shell) -> str:
    """The settlement waits in the mempool; its txid."""
    shell.ok(f"{BUYER} settle --total 60000 -o settlement.psbt")
    return str(shell.json(f"{SELLER} settle settlement.psbt -o settlement.hex")["txid"])


def test_people_and_scripts(opened: Shell) -> None:
    opened.play(
        """
        $ mpchan --wallet buyer settle --total 60000 -q -o settlement.psbt
        + settlement.psbt
        $ mpchan --wallet seller settle settlement.psbt -q -o settlement.hex
        + settlement.hex
        $ mpchan --wallet seller bump --fee-rate 2
        2> mpchan: error: the settlement pays 2.<n> sat/vB already, which is no less than 2 sat/vB
        ? 5
        $ mpchan --wallet seller bump --fee-rate 10 -q -o child.hex
        + child.hex
        $ mpchan --wallet seller bump <channel> --fee-rate 10 -q
        <hex:child>
        $ cat child.hex
        <hex:child>
        $ mpchan --wallet seller bump --channel <channel> --fee-rate 30 --no-broadcast --json
        {"channel": "<channel>", "txid": "<txid:settlement>", "kind": "settlement", "child_txid": "<txid:better>",
        > "fee_sat": <n:fee>, "fee_rate_sat_per_kvb": <n:rate>, "broadcast": false, "hex": "<hex:better>", "parent_hex":
        > "<hex:settlement>"}
        $ cat settlement.hex
        <hex:settlement>
        $ mpchan --wallet seller bump <channel> --fee-rate 30 -q
        <hex:better>
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet seller bump <channel> --fee-rate 40
        2> mpchan: error: <txid:settlement>, which ended the channel, is in a block
        ? 5
        """
    )


def test_the_child_is_confirmed_with_its_parent_and_the_money_is_there(opened: Shell) -> None:
    txid = settled(opened)
    done = opened.json(f"{SELLER} bump --fee-rate 20")
    rate = FeeRate(done["fee_rate_sat_per_kvb"])
    assert FeeRate(20_000) <= rate < FeeRate(20_200)
    assert opened.ok(f"{SELLER} bump --fee-rate 20").err == (
        f"{done['child_txid']} pays {done['fee_sat']} sat for itself and the settlement of channel {done['channel']}: "
        f"{rate} together, broadcast\n"
    )
    assert list(done) == KEYS
    assert (done["txid"], done["kind"], done["broadcast"]) == (txid, "settlement", True)
    child = Transaction.from_hex(done["hex"])
    assert str(child.txid) == done["child_txid"]
    assert str(child.inputs[0].outpoint.txid) == txid
    opened.ok("mpchan regtest mine 1")
    assert opened.json("mpchan regtest status")["mempool"] == []
    assert opened.json(f"{SELLER} balance")["confirmed_sat"] == 60_000 - done["fee_sat"]


def test_its_own_usage(opened: Shell) -> None:
    assert "--fee-rate" in opened.fails(f"{SELLER} bump", 2, "usage")["message"]
    opened.fails(f"{SELLER} bump --fee-rate fast", 2, "malformed-fee-rate")
    opened.fails(f"{SELLER} bump abc --channel def --fee-rate 9", 2, "usage")
    opened.fails(f"{SELLER} bump abc --fee-rate 9", 5, "unknown-channel")
    opened.fails(f"{SELLER} bump --fee-rate 1001", 5, "fee-rate-high")
    opened.fails(f"{BUYER} bump --fee-rate 9", 5, "already-confirmed")


def test_warnings_are_words_for_people_and_a_key_for_scripts(wallets: Shell) -> None:
    outside = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    said = wallets.ok(f"{SELLER} payee offer --address {outside} -o offer.toml").err
    warning = f"{outside} is outside of this wallet: should the close get stuck, `mpchan bump` cannot help it from here"
    assert f"mpchan: warning: {warning}\n" in said
    assert wallets.json(f"{SELLER} payee offer --address {outside}")["warnings"] == [warning]
    assert wallets.ok(f"{SELLER} payee offer --address {outside} -q").err == ""
    opened = wallets.json(f"{BUYER} open offer.toml 5000 --address {address(wallets)}")
    assert opened["warnings"][0].startswith(address(wallets))
    assert "warnings" not in json.loads(wallets.ok(f"{SELLER} payee offer --json").out)


def address(shell: Shell) -> str:
    """An address of neither wallet."""
    return "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"
