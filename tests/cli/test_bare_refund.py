"""``payer refund FILE``: the file that ``fund --refund-out`` wrote is all that it takes."""

from __future__ import annotations

import shutil

import pytest
from support.transcript import Shell

from mpchan.bitcoin.tx import Transaction

BUYER = "mpchan --wallet buyer"
STRANGER = "mpchan --wallet stranger"
REFUND_AT = 417
TIP = 112


@pytest.fixture
def lost(opened: Shell) -> Shell:
    """A channel whose payer has nothing left but ``refund.hex``."""
    opened.ok(f"{BUYER} payer fund signed.psbt --refund-out refund.hex")
    shutil.rmtree(opened.folder / "buyer")
    return opened


def settled(shell: Shell) -> None:
    """The payee's settlement of 1000 sat goes to the chain."""
    shell.ok(f"{BUYER} payer settle --total 1000 -o settlement.psbt")
    shell.ok("mpchan --wallet seller payee settle settlement.psbt -o settlement.hex")


def test_no_wallet_at_all(lost: Shell) -> None:
    """Too early it says when; at its time it goes out, and once more is no error, in a block neither."""
    error = lost.fails(f"{STRANGER} payer refund refund.hex", 6, "refund-locked")
    assert f"block {REFUND_AT}" in error["message"]
    assert str(REFUND_AT - TIP) in error["hint"]
    lost.ok(f"mpchan regtest mine {REFUND_AT - TIP}")
    before = lost.files()
    first = lost.json(f"{STRANGER} payer refund refund.hex")
    assert list(first) == ["channel", "txid", "kind", "broadcast", "hex"]
    assert first["channel"] == lost.names["channel"]
    assert (first["kind"], first["broadcast"]) == ("refund", True)
    assert first["hex"] == lost.text("refund.hex").strip()
    assert lost.json("mpchan regtest status")["mempool"] == [first["txid"]]
    assert lost.json(f"{STRANGER} refund refund.hex") == first
    lost.ok("mpchan regtest mine 1")
    assert lost.json(f"{STRANGER} refund - < refund.hex") == first
    assert lost.changes(before) == []  # no wallet was made for it
    assert lost.json("mpchan --wallet seller show")["status"] == "refunded"


def test_a_new_wallet_is_enough(lost: Shell) -> None:
    lost.ok(f"{STRANGER} init")
    lost.fails(f"{STRANGER} payer refund refund.hex", 6, "refund-locked")
    lost.ok(f"mpchan regtest mine {REFUND_AT - TIP}")
    assert lost.json(f"{STRANGER} payer refund refund.hex -o again.hex")["broadcast"]
    assert lost.text("again.hex") == lost.text("refund.hex")


def test_the_wallet_that_made_it_takes_its_note(opened: Shell) -> None:
    opened.ok(f"{BUYER} payer fund signed.psbt --refund-out refund.hex")
    opened.fails(f"{BUYER} payer refund refund.hex", 6, "refund-locked")
    opened.ok(f"mpchan regtest mine {REFUND_AT - TIP}")
    by_file = opened.json(f"{BUYER} payer refund refund.hex")
    assert opened.json(f"{BUYER} show")["status"] == "refunding"
    assert opened.json(f"{BUYER} payer refund") == by_file


def test_on_the_users_word_alone(lost: Shell) -> None:
    """Nothing can be verified then, nor sent; that is said."""
    lost.fails(
        f"{STRANGER} payer refund refund.hex --tip {REFUND_AT - 1}", 6, "refund-locked", MPCHAN_REGTEST=None
    )
    result = lost.json(f"{STRANGER} payer refund refund.hex --tip {REFUND_AT}", MPCHAN_REGTEST=None)
    assert result["broadcast"] is False
    assert result["warnings"] == ["no chain was asked, so nothing has verified the signatures of this refund"]


def test_no_chain_is_named(lost: Shell) -> None:
    error = lost.fails(f"{STRANGER} payer refund refund.hex", 7, "no-wallet", MPCHAN_REGTEST=None)
    assert "mpchan init" in error["hint"]


def test_what_is_no_refund(paid: Shell) -> None:
    settled(paid)
    for file in ("settlement.hex", "funding.hex"):
        paid.fails(f"{STRANGER} payer refund {file}", 3, "not-a-refund")
    paid.fails(f"{STRANGER} payer refund signed.psbt", 7, "no-wallet")
    paid.fails(f"{BUYER} payer refund settlement.hex --channel {paid.names['channel']}", 2, "usage")
    paid.ok(f"{BUYER} payer fund signed.psbt --refund-out refund.hex")
    paid.fails("mpchan --wallet seller payer refund refund.hex", 2, "wrong-role")


def test_another_refund_of_the_channel(opened: Shell) -> None:
    """The wallet that made the channel knows what its refund is."""
    opened.ok(f"{BUYER} payer fund signed.psbt --refund-out refund.hex")
    refund = Transaction.from_hex(opened.text("refund.hex").strip())
    (opened.folder / "other.hex").write_text(changed(refund, lock_time=REFUND_AT - 1).to_hex() + "\n")
    opened.fails(f"{BUYER} payer refund other.hex", 3, "not-a-refund")


def changed(refund: Transaction, *, lock_time: int) -> Transaction:
    """The same with a lock time that nobody signed."""
    data = refund.to_bytes()
    return Transaction.from_bytes(data[:-4] + lock_time.to_bytes(4, "little"))


def test_signatures_of_something_else(lost: Shell) -> None:
    """They are verified against what the chain shows before anything is sent."""
    refund = Transaction.from_hex(lost.text("refund.hex").strip())
    (lost.folder / "other.hex").write_text(changed(refund, lock_time=TIP - 1).to_hex() + "\n")
    lost.fails(f"{STRANGER} payer refund other.hex", 4, "signature")
    assert lost.json("mpchan regtest status")["mempool"] == []


def test_the_payee_was_first(paid: Shell) -> None:
    paid.ok(f"{BUYER} payer fund signed.psbt --refund-out refund.hex")
    settled(paid)
    shutil.rmtree(paid.folder / "buyer")
    paid.fails(f"{STRANGER} payer refund refund.hex", 5, "channel-settling")
    paid.ok("mpchan regtest mine 1")
    paid.fails(f"{STRANGER} payer refund refund.hex", 5, "channel-closed")


def test_a_funding_that_the_chain_does_not_show(lost: Shell) -> None:
    """As on another network than its own."""
    elsewhere = str(lost.folder / "chain" / "elsewhere")
    lost.ok("mpchan regtest status", MPCHAN_REGTEST=elsewhere)
    error = lost.fails(f"{STRANGER} payer refund refund.hex", 6, "funding-unseen", MPCHAN_REGTEST=elsewhere)
    assert "network" in error["hint"]
