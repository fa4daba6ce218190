"""Channels of version 1 offers, begun by an older mpchan, come to their end: every way, in every phase."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from support.old_wallets import SECRET
from support.transcript import CHAIN, Shell

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.payer import Opening, refund_request
from mpchan.channel.terms import Terms
from mpchan.units import Height, OutPoint, Txid
from mpchan.wallet.wallet import Wallet

Old = Callable[[str], Shell]

PAYER, PAYEE = "mpchan --wallet buyer", "mpchan --wallet seller"
CAPACITY = 100_000
RESERVE = 338
REFUND_FEE = 276  # 138 vB at 2 sat/vB


def mine(shell: Shell, count: int = 1) -> None:
    shell.ok(f"mpchan -q regtest mine {count}")


def mine_to(shell: Shell, height: int) -> None:
    missing = height - shell.json("mpchan regtest status")["height"]
    if missing > 0:
        mine(shell, missing)


def status(shell: Shell) -> list[str]:
    """Of the story's only channel, in the eyes of payer and payee."""
    return [shell.json(f"{who} show")["status"] for who in (PAYER, PAYEE)]


def view(shell: Shell, who: str = PAYEE) -> dict[str, Any]:
    found: dict[str, Any] = shell.json(f"{who} show")
    return found


def confirmed(shell: Shell, who: str) -> int:
    return int(shell.json(f"{who} balance")["confirmed_sat"])


def settle(shell: Shell, total: int) -> None:
    """Both settle; the money is where it belongs, to the satoshi."""
    before = confirmed(shell, PAYER)
    shell.ok(f"{PAYER} -q payer settle --total {total} -o last.psbt")
    done = shell.json(f"{PAYEE} payee settle last.psbt")
    assert (done["kind"], done["paid_sat"], done["broadcast"]) == ("settlement", total, True)
    mine(shell)
    assert status(shell) == ["closed", "closed"]
    assert confirmed(shell, PAYEE) == total
    assert confirmed(shell, PAYER) - before == CAPACITY - total


def test_payments_go_on_and_are_settled(old: Old) -> None:
    """The message that was on its way, more of them, the whole capacity."""
    shell = old("open")
    assert status(shell) == ["open", "open"]
    assert shell.json(f"{PAYEE} payee accept late.psbt")["received_sat"] == 500
    assert shell.json(f"{PAYEE} payee accept late.psbt")["duplicate"]
    assert shell.json(f"{PAYER} payer pay --last")["hex"] == shell.text("late.psbt").strip()
    paid = shell.json(f"{PAYER} payer pay 700 -o next.psbt")
    assert (paid["update"], paid["paid_sat"]) == (5, 4_200)
    assert shell.json(f"{PAYEE} payee accept next.psbt")["paid_sat"] == 4_200
    settle(shell, CAPACITY)


def test_both_are_told_that_their_close_can_be_held_up(old: Old) -> None:
    """Its transactions keep version 2: ``list`` and ``watch`` advise to settle, as long as the channel goes on."""
    shell = old("open")
    for wallet in (PAYER, PAYEE):
        [warning] = shell.json(f"{wallet} list")["warnings"]
        assert "can hold up its close: settle it soon" in warning
        assert "settle it soon" in shell.run(f"{wallet} watch --once --json").out
    shell.ok(f"{PAYEE} payee accept late.psbt")
    settle(shell, CAPACITY)
    for wallet in (PAYER, PAYEE):
        assert "warnings" not in shell.json(f"{wallet} list")
        assert "settle it soon" not in shell.run(f"{wallet} watch --once --json").out


def test_streams_go_on(old: Old) -> None:
    for story in ("open", "seconds"):
        shell = old(story)
        if story == "open":
            shell.ok(f"{PAYEE} payee accept late.psbt")
        before = view(shell)["paid_sat"]
        shell.ok(
            f"printf '100\\n200\\n300\\n' | {PAYER} -q payer pay --stream | {PAYEE} -q payee accept --stream"
        )
        assert view(shell)["paid_sat"] == view(shell, PAYER)["paid_sat"] == before + 600
        settle(shell, 50_000)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_payee_alone_claims(old: Old, by_hand: bool) -> None:
    """The payer is gone: the latest update, by hand or by the watcher."""
    shell = old("open")
    latest = view(shell)["latest_lock_time"]
    if by_hand:
        shell.fails(f"{PAYEE} payee settle", 6, "update-locked")
        mine_to(shell, latest)
        assert shell.json(f"{PAYEE} payee settle")["kind"] == "update"
    else:
        mine_to(shell, view(shell)["refund_lock_time"] - 144)
        shell.ok(f"{PAYEE} -q watch --once")
    mine(shell)
    assert status(shell) == ["closed", "closed"]
    assert confirmed(shell, PAYEE) == 3_000


@pytest.mark.parametrize("story", ["open", "settled"])
@pytest.mark.parametrize("by_hand", [True, False])
def test_a_payer_alone_takes_its_money_back(old: Old, story: str, by_hand: bool) -> None:
    """The payee is gone, perhaps with a settlement in its hands."""
    shell = old(story)
    before = confirmed(shell, PAYER)
    if by_hand:
        shell.fails(f"{PAYER} payer refund", 6, "refund-locked")
    mine_to(shell, view(shell)["refund_lock_time"])
    shell.run(f"{PAYER} -q payer refund -o sent.hex" if by_hand else f"{PAYER} -q watch --once")
    mine(shell)
    assert status(shell) == ["refunded", "refunded"]
    assert confirmed(shell, PAYER) - before == CAPACITY + RESERVE - REFUND_FEE


def test_the_kept_refund_alone_takes_it_back(old: Old) -> None:
    shell = old("open")
    mine_to(shell, view(shell)["refund_lock_time"])
    assert shell.json("mpchan --wallet nobody payer refund refund.hex")["broadcast"]
    mine(shell)
    assert status(shell) == ["refunded", "refunded"]


def test_lock_times_in_seconds(old: Old) -> None:
    """An update that is final by the median time alone."""
    shell = old("seconds")
    latest = view(shell)["latest_lock_time"]
    now = shell.json("mpchan regtest status")["median_time"]
    mine(shell, (latest - now) // 600 + 1)
    assert shell.json(f"{PAYEE} payee settle")["paid_sat"] == 1_000
    mine(shell)
    assert status(shell) == ["closed", "closed"]


def test_a_settlement_that_waits(old: Old) -> None:
    shell = old("settling")
    assert status(shell) == ["settling", "settling"]
    done = shell.json(f"{PAYEE} payee settle")
    assert done["hex"] == shell.text("settlement.hex").strip()
    mine(shell)
    assert status(shell) == ["closed", "closed"]
    assert confirmed(shell, PAYEE) == 5_000


def test_a_settlement_on_its_way(old: Old) -> None:
    shell = old("settled")
    assert status(shell) == ["settling", "open"]
    assert shell.json(f"{PAYER} payer settle")["hex"] == shell.text("settlement.psbt").strip()
    assert shell.json(f"{PAYEE} payee settle settlement.psbt")["paid_sat"] == 5_000
    mine(shell)
    assert status(shell) == ["closed", "closed"]


@pytest.mark.parametrize("again", [False, True])
def test_a_signed_refund_counts_as_a_channel(old: Old, again: bool) -> None:
    """Signed and not funded: the same bytes are given again, and the channel is funded, paid in and settled."""
    shell = old("signed")
    if again:
        assert (
            shell.json(f"{PAYEE} payee sign-refund request.psbt")["hex"] == shell.text("signed.psbt").strip()
        )
    shell.ok(f"{PAYER} -q payer fund signed.psbt --refund-out refund.hex -o funding.hex")
    mine(shell)
    shell.ok(f"{PAYER} -q pay 1000 -o update.psbt")
    assert shell.json(f"{PAYEE} payee accept update.psbt")["paid_sat"] == 1_000
    settle(shell, 1_500)


def test_a_funding_that_waits_for_its_block(old: Old) -> None:
    shell = old("funding")
    assert status(shell) == ["funding", "funding"]
    shell.fails(f"{PAYER} pay 1000", 6, "unconfirmed")
    mine(shell)
    shell.ok(f"{PAYER} -q pay 1000 -o update.psbt")
    shell.ok(f"{PAYEE} -q payee accept update.psbt")
    settle(shell, 1_000)


def test_an_opening_that_was_only_asked_for(old: Old) -> None:
    """Nothing new begins in the old way; what was asked for is given up, and the same terms are offered anew."""
    shell = old("asked")
    shell.fails(f"{PAYEE} payee sign-refund request.psbt", 3, "offer-version")
    shell.fails(f"{PAYER} payer open offer.toml 100000", 3, "offer-version")
    shell.ok(f"{PAYER} -q payer abandon")
    [like] = (shell.folder / "seller" / "offers").glob("*.toml")
    shell.ok(f"{PAYEE} -q payee offer --like {like.stem} -o offer.toml")
    shell.ok(f"{PAYER} -q payer open offer.toml 100000 -o request.psbt")
    shell.ok(f"{PAYEE} -q payee sign-refund request.psbt -o signed.psbt")
    shell.ok(f"{PAYER} -q payer fund signed.psbt --refund-out refund.hex -o funding.hex")
    mine(shell)
    shell.ok(f"{PAYER} -q pay 1000 -o update.psbt")
    assert shell.json(f"{PAYEE} payee accept update.psbt")["paid_sat"] == 1_000
    shell.ok(f"{PAYER} -q settle -o settlement.psbt")
    assert shell.json(f"{PAYEE} settle settlement.psbt")["kind"] == "settlement"


def test_a_plan_is_not_paid_any_more(old: Old) -> None:
    """Nothing new begins in the old way; whoever has paid already is told the way back."""
    shell = old("plan")
    error = shell.fails(f"{PAYER} payer open offer.toml 100000 --external", 3, "offer-version")
    assert "ask for a new offer" in error["hint"]
    assert "mpchan payer open --again TXID:VOUT" in error["hint"]
    (shell.folder / "buyer" / "plans").rename(shell.folder / "elsewhere")
    error = shell.fails(f"{PAYER} payer open offer.toml 100000 --external", 3, "offer-version")
    assert "--again" not in error["hint"]


def pay_the_plan(shell: Shell, *, mined: bool = True) -> str:
    """Another wallet pays the old plan's address; the output."""
    [plan] = Wallet.open(shell.folder / "buyer").plans
    address, value = script_to_address(plan.output.script_pubkey, plan.offer.network), plan.output.value
    txid = shell.json(f"mpchan regtest faucet {address} {value.sat}")["txid"]
    if mined:
        mine(shell)
    with EmbeddedChain(shell.folder / CHAIN) as chain:
        found = chain.transaction(Txid.from_hex(txid))
    assert found is not None
    (shell.folder / "paid.hex").write_text(found[0].to_hex())
    return f"{txid}:{found[0].outputs.index(plan.output)}"


def test_a_plan_that_was_paid_comes_back(old: Old) -> None:
    """By somebody who read the old advice to the end: the refund of what is there, in version 2, and no payment."""
    shell = old("plan")
    before = confirmed(shell, PAYER)
    outpoint = pay_the_plan(shell)
    again = f"`mpchan payer open --again {outpoint}`"
    assert again in shell.fails(f"{PAYER} payer open --funding paid.hex", 3, "offer-version")["hint"]
    asked = shell.json(f"{PAYER} payer open --again {outpoint}")
    (shell.folder / "request.psbt").write_text(asked["hex"])
    assert [warning.split(":")[0] for warning in asked["warnings"]] == ["refund-only"]
    assert shell.json(f"{PAYER} payer open --again {outpoint}") == asked
    assert shell.json(f"{PAYEE} verify request.psbt")["accepted"] is True
    signed = shell.json(f"{PAYEE} payee sign-refund request.psbt")
    assert signed["warnings"][0].startswith("refund-only: ")
    assert shell.json(f"{PAYEE} payee sign-refund request.psbt")["hex"] == signed["hex"]
    (shell.folder / "signed.psbt").write_text(signed["hex"])
    shell.ok(f"{PAYER} -q payer fund signed.psbt --refund-out refund.hex")
    assert Transaction.from_hex(shell.text("refund.hex").strip()).version == 2
    assert status(shell) == ["open", "abandoned"]
    shell.ok(f"{PAYER} -q pay 1000 -o update.psbt")
    shell.fails(f"{PAYEE} payee accept update.psbt", 5, "channel-abandoned")
    assert "warnings" not in shell.json(f"{PAYER} list")  # no settlement is taken: nothing is advised
    assert "settle it soon" not in shell.run(f"{PAYER} watch --once --json").out
    mine_to(shell, asked["refund_lock_time"])
    shell.ok(f"{PAYER} -q watch --once")
    mine(shell)
    assert status(shell)[0] == "refunded"
    assert confirmed(shell, PAYER) - before == CAPACITY + RESERVE - REFUND_FEE
    for who in (PAYER, PAYEE):
        shell.ok(f"{who} -q fsck")


def as_asked(shell: Shell, outpoint: str) -> None:
    """``request.psbt``, as a payer asks for it that knows no rule."""
    [plan] = Wallet.open(shell.folder / "buyer").plans
    lock_time = Height(shell.json("mpchan regtest status")["height"] + plan.offer.default_refund_delay)
    txid, vout = outpoint.split(":")
    terms = Terms(
        *(plan.offer, OutPoint(Txid.from_hex(txid), int(vout)), plan.output.value, plan.payer_key),
        *(plan.payer_script, lock_time),
    )
    (shell.folder / "request.psbt").write_text(
        refund_request(Opening(terms, None, (), external=True)).to_hex()
    )


def test_a_plan_whose_payment_waits_is_not_refunded_yet(old: Old) -> None:
    """The payee signs for what a block holds, and for nothing that may come."""
    shell = old("plan")
    outpoint = pay_the_plan(shell, mined=False)
    shell.fails(f"{PAYER} payer open --again {outpoint}", 6, "unconfirmed")
    as_asked(shell, outpoint)
    error = shell.fails(f"{PAYEE} payee sign-refund request.psbt", 3, "offer-version")
    assert f"`mpchan payer open --again {outpoint}`, once a block holds it" in error["hint"]
    as_asked(shell, f"{'ab' * 32}:0")
    error = shell.fails(f"{PAYEE} payee sign-refund request.psbt", 3, "offer-version")
    assert "--again" not in error["hint"]
    assert view_of_all(shell, PAYEE) == []


def view_of_all(shell: Shell, who: str) -> list[Any]:
    found: list[Any] = shell.json(f"{who} list")["channels"]
    return found


@pytest.mark.parametrize("lost", ["wallet", "channel"])
def test_a_payee_that_may_have_signed_a_refund_already_signs_none(old: Old, lost: str) -> None:
    """Hostile input 61: it was restored from a backup of today, or its channel's files are gone."""
    shell = old("plan")
    outpoint = pay_the_plan(shell)
    shell.ok(f"{PAYER} -q payer open --again {outpoint} -o request.psbt")
    if lost == "wallet":
        shell.ok(f"{PAYEE} -q backup -o seller.backup")
        shutil.rmtree(shell.folder / "seller")
        assert shell.json(f"{PAYEE} restore seller.backup")["void_offers"] == 1
    else:
        [state] = (shell.folder / "seller" / "offers").glob("*.json")
        state.write_text(json.dumps({**json.loads(state.read_text()), "used_by": outpoint}))
    shell.fails(f"{PAYEE} payee sign-refund request.psbt", 4, "offer-void")
    assert view_of_all(shell, PAYEE) == []


def test_an_opening_can_be_given_up(old: Old) -> None:
    for story in ("asked", "signed"):
        shell = old(story)
        shell.ok(f"{PAYER} -q payer abandon")
        assert view(shell, PAYER)["status"] == "abandoned"


def test_encrypted_wallets(old: Old) -> None:
    """The passphrase that the old code took opens them."""
    shell = old("encrypted")
    shell.fails(f"{PAYER} pay 1000", 7, "passphrase-needed")
    (shell.folder / "wrong").write_text(f"{SECRET}!\n")
    (shell.folder / "wrong").chmod(0o600)
    shell.fails(f"{PAYER} pay 1000", 7, "passphrase-wrong", MPCHAN_PASSPHRASE_FILE="wrong")
    shell.env["MPCHAN_PASSPHRASE_FILE"] = "secret"
    shell.ok(f"{PAYER} -q pay 1000 -o update.psbt")
    assert shell.json(f"{PAYEE} payee accept update.psbt")["paid_sat"] == 2_000
    settle(shell, 2_500)


def test_the_files_are_in_order(old: Old) -> None:
    for story in ("open", "asked", "signed", "settling", "restored", "sale", "plan"):
        shell = old(story)
        for who in (PAYER, PAYEE):
            shell.ok(f"{who} -q fsck")
