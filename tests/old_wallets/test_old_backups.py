"""Backups of version 1, and wallets that were restored from them, go on."""

from __future__ import annotations

import shutil

import pytest
from support.transcript import WALLETS, Shell
from test_old_channels import PAYEE, PAYER, Old, confirmed, mine, mine_to, settle, status, view

from mpchan.bitcoin.script import key_to_p2wpkh_script
from mpchan.bitcoin.signature import PrivateKey
from mpchan.channel.offer import Offer
from mpchan.channel.payer import Opening, refund_request
from mpchan.channel.terms import Terms
from mpchan.units import Amount, Height, OutPoint, Txid


def payee_goes_on(shell: Shell) -> None:
    """The backup knows the first payment alone; the payer gives it the second one again."""
    assert view(shell)["paid_sat"] == 1_000
    assert shell.json(f"{PAYEE} payee accept paid-2000.psbt")["paid_sat"] == 2_000


def payer_goes_on(shell: Shell) -> None:
    """It takes no payment before it knows what it has paid."""
    shell.fails(f"{PAYER} pay 1000", 5, "needs-sync")
    shell.ok(f"{PAYEE} -q payee export-latest -o latest.psbt")
    assert shell.json(f"{PAYER} payer sync latest.psbt")["paid_sat"] == 2_000
    shell.ok(f"{PAYER} -q pay 1000 -o update.psbt")
    assert shell.json(f"{PAYEE} payee accept update.psbt")["paid_sat"] == 3_000


def test_restored_then(old: Old) -> None:
    """Both were restored by the old code."""
    shell = old("restored")
    payee_goes_on(shell)
    payer_goes_on(shell)
    settle(shell, 4_000)


def test_restored_now(old: Old) -> None:
    """Both are restored by the code of today, from what the old one has written."""
    shell = old("restored")
    for wallet in WALLETS:
        shutil.rmtree(shell.folder / wallet)
        shell.ok(f"mpchan --wallet {wallet} -q restore {wallet}.backup")
    payee_goes_on(shell)
    payer_goes_on(shell)
    settle(shell, 4_000)


@pytest.mark.parametrize("now", [False, True])
def test_an_offer_that_was_unused_is_void(old: Old, now: bool) -> None:
    shell = old("restored")
    if now:
        shutil.rmtree(shell.folder / "seller")
        shell.ok(f"{PAYEE} -q restore seller.backup")
    offer = Offer.from_toml(shell.text("unused.toml"))
    key = PrivateKey(bytes(31) + b"\x09").public_key
    lock_time = Height(shell.json("mpchan regtest status")["height"] + offer.default_refund_delay)
    outpoint = OutPoint(Txid.from_hex("ab" * 32), 0)
    terms = Terms(offer, outpoint, Amount(50_338), key, key_to_p2wpkh_script(key.sec), lock_time)
    request = refund_request(Opening(terms, None, (), external=True)).to_hex()
    (shell.folder / "request-2.psbt").write_text(request)
    shell.fails(f"{PAYEE} payee sign-refund request-2.psbt", 4, "offer-void")


def test_a_restored_payer_has_its_refund(old: Old) -> None:
    shell = old("restored")
    shutil.rmtree(shell.folder / "buyer")
    shell.ok(f"{PAYER} -q restore buyer.backup")
    before = confirmed(shell, PAYER)
    mine_to(shell, view(shell)["refund_lock_time"])
    shell.ok(f"{PAYER} -q payer refund -o sent.hex")
    mine(shell)
    assert status(shell) == ["refunded", "refunded"]
    assert confirmed(shell, PAYER) > before


def test_an_encrypted_backup(old: Old) -> None:
    shell = old("encrypted")
    shell.env["MPCHAN_PASSPHRASE_FILE"] = "secret"
    shutil.rmtree(shell.folder / "buyer")
    shell.ok(f"{PAYER} -q restore buyer.backup")
    shell.ok(f"{PAYER} -q payer sync --nothing-newer")
    shell.ok(f"{PAYER} -q pay 1000 -o update.psbt")
    assert shell.json(f"{PAYEE} payee accept update.psbt")["paid_sat"] == 2_000
    settle(shell, 2_500)


def test_an_old_wallet_is_backed_up_now(old: Old) -> None:
    """What the code of today writes of it, it reads."""
    shell = old("open")
    shell.ok(f"{PAYEE} -q payee accept late.psbt")
    for wallet in WALLETS:
        shell.ok(f"mpchan --wallet {wallet} -q backup -o {wallet}.backup")
        shutil.rmtree(shell.folder / wallet)
        shell.ok(f"mpchan --wallet {wallet} -q restore {wallet}.backup")
    shell.ok(f"{PAYER} -q payer sync --nothing-newer")
    shell.ok(f"{PAYER} -q pay 1000 -o update.psbt")
    assert shell.json(f"{PAYEE} payee accept update.psbt")["paid_sat"] == 4_500
    settle(shell, 5_000)
