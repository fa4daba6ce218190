"""Shared by the tests of pins: children that one party hangs on its own output of a close, to hold that up."""

from __future__ import annotations

import pytest

from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.channel import offer
from mpchan.units import Amount, OutPoint
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

CHILD_VSIZE = 110
"""One P2WPKH input and output."""


def own_vout(wallet: Wallet, parent: Transaction) -> int:
    """The output of a transaction that is the wallet's."""
    scripts = wallet.keys.scripts()
    [vout] = [vout for vout, out in enumerate(parent.outputs) if out.script_pubkey in scripts]
    return vout


def child_of(
    wallet: Wallet, parent: Transaction, fee: int, *, vsize: int = CHILD_VSIZE, version: int = 3
) -> Transaction:
    """A signed child of the wallet's own output, with this fee and about this size."""
    vout = own_vout(wallet, parent)
    output = parent.outputs[vout]
    padding = (TxOut(Amount(0), b"\x6a" + bytes(vsize - CHILD_VSIZE - 12)),) if vsize > CHILD_VSIZE else ()
    outputs = (TxOut(output.value - Amount(fee), output.script_pubkey), *padding)
    unsigned = Transaction(version, (TxIn(OutPoint(parent.txid, vout), 0xFFFF_FFFD),), outputs, 0)
    return wallet.keys.sign_coins(unsigned, [output])


def heir_of(wallet: Wallet, child: Transaction, fee: int) -> Transaction:
    """A child of a child: its first output moved on."""
    output = child.outputs[0]
    moved = replace(output, value=output.value - Amount(fee))
    unsigned = Transaction(child.version, (TxIn(OutPoint(child.txid, 0), 0xFFFF_FFFD),), (moved,), 0)
    return wallet.keys.sign_coins(unsigned, [output])


@pytest.fixture
def version3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels of every offer have version 3."""
    monkeypatch.setattr(offer, "_TRANSACTION_VERSIONS", {1: 3, 2: 3})
