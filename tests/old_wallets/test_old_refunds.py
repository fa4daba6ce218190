"""Seed words and the payee's signed refund bring the money of an older channel back: by mpchan, and without it."""

from __future__ import annotations

import pytest
from support.other_libraries import LIBRARIES, counted_path
from support.transcript import Shell
from test_old_channels import CAPACITY, REFUND_FEE, RESERVE, Old, confirmed, mine, mine_to

from mpchan.bitcoin.network import REGTEST
from mpchan.wallet.keys import Keys

AGAIN = "mpchan --wallet again"


def words_of(shell: Shell) -> str:
    return Keys.load(shell.folder / "buyer" / "keys.toml", REGTEST).seed_words()


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_library_completes_it(old: Old, library: str) -> None:
    """To the same bytes that this wallet has stored: both sign as RFC 6979 has it, with a low R."""
    shell = old("open")
    signed = bytes.fromhex(shell.text("signed.psbt"))
    made = LIBRARIES[library](words_of(shell), counted_path(0), signed)
    assert made == shell.text("refund.hex").strip()


def test_a_wallet_of_the_words_does_it(old: Old) -> None:
    """The key has an index that no word tells; the address has one that the chain has not shown."""
    shell = old("open")
    words = words_of(shell)
    shell.ok(f"{AGAIN} init --restore", stdin=words.encode())
    shell.fails(f"{AGAIN} payer refund signed.psbt", 6, "refund-locked")
    mine_to(shell, 418)
    before = confirmed(shell, AGAIN)
    done = shell.json(f"{AGAIN} payer refund signed.psbt -o sent.hex")
    assert (done["kind"], done["broadcast"]) == ("refund", True)
    assert shell.text("sent.hex") == shell.text("refund.hex")
    mine(shell)
    assert shell.json(f"{AGAIN} payer refund signed.psbt")["txid"] == done["txid"]
    assert confirmed(shell, AGAIN) - before == CAPACITY + RESERVE - REFUND_FEE
