"""The demo's attack on a close: a child that holds it up, and the payee's answer."""

from __future__ import annotations

from mpchan.bitcoin.tx import MAX_REPLACEABLE, TRUC_VERSION, Transaction, TxIn, TxOut, total_of
from mpchan.channel.watch.bidding import Paying, rate_of
from mpchan.cli.demo.case import Case
from mpchan.cli.demo.stage import PAYEE, PAYER
from mpchan.cli.demo.story import UNIT_SAT
from mpchan.durability import step
from mpchan.errors import ChainError
from mpchan.units import Amount, OutPoint

_RATE = 20
_LARGE_VSIZE, _LARGE_FEE = 900, 1_000
_SMALL_VSIZE = 110


def play(case: Case) -> None:
    """The payer hangs a large and cheap child on its own output of the payee's close."""
    stage = case.stage
    case.pay(30, 1)
    settlement, closing = case.folder / "settlement.psbt", case.folder / "closing.hex"
    stage.payer("settle", *case.selector, "-o", settlement)
    before = stage.coins(PAYEE)
    stage.payee("settle", settlement, "-o", closing)
    close = stage.transaction(closing)
    child = _child(case, close)
    step("emit", stage.chain.broadcast, child)
    paid = (case.terms.funding_value - total_of(close.outputs)).sat
    together = rate_of(Paying(close.vsize, Amount(paid)), Paying(child.vsize, Amount(_LARGE_FEE)))
    stage.show.fact(
        f"The payer's child has {child.vsize} virtual bytes and pays {_LARGE_FEE} sat: {together} with the close."
    )
    if close.version == TRUC_VERSION:
        _refused(case, child)
    stage.show.say(
        "What a miner takes may be far above that. The payee's own child takes the place of the payer's, and pays for "
        "both. `mpchan watch` does so by itself, block after block, within half of what is at stake."
    )
    stage.payee("bump", *case.selector, "--fee-rate", _RATE)
    if close.version == TRUC_VERSION:
        gone = child.txid not in stage.chain.mempool()
        stage.expect(gone, "the payer's child to be replaced", "it is still there")
    stage.mine(1)
    case.confirmed("the settlement", closing)
    gained = stage.coins(PAYEE) - before
    most = 30 * UNIT_SAT
    stage.expect(
        most // 2 < gained < most, f"at least half of {most} sat for the payee", f"it gained {gained} sat"
    )
    case.numbers.update(payee_gained_sat=gained, bump_fee_sat=most - gained)
    stage.show.fact(
        f"The payee has {gained:,} sat more: the 30 units, less {most - gained:,} sat for the block."
    )


def _child(case: Case, close: Transaction) -> Transaction:
    """A child that spends the payer's output and carries nothing, but takes room."""
    wallet = case.wallet(PAYER)
    vout = [output.script_pubkey for output in close.outputs].index(case.terms.payer_script)
    output = close.outputs[vout]
    ballast = TxOut(Amount(0), b"\x6a" + bytes(_LARGE_VSIZE - _SMALL_VSIZE - 12))
    outputs = (TxOut(output.value - Amount(_LARGE_FEE), output.script_pubkey), ballast)
    unsigned = Transaction(close.version, (TxIn(OutPoint(close.txid, vout), MAX_REPLACEABLE),), outputs, 0)
    return wallet.keys.sign_coins(unsigned, [output])


def _refused(case: Case, child: Transaction) -> None:
    """Where there is room for one child, there is none for its own."""
    output = child.outputs[0]
    moved = (TxOut(output.value - Amount(_LARGE_FEE), output.script_pubkey),)
    unsigned = Transaction(child.version, (TxIn(OutPoint(child.txid, 0), MAX_REPLACEABLE),), moved, 0)
    try:
        step("emit", case.stage.chain.broadcast, case.wallet(PAYER).keys.sign_coins(unsigned, [output]))
    except ChainError as error:
        word = error.message.partition(": ")[2].partition(",")[0]
    else:
        word = "accepted"
    case.stage.expect(word == "TRUC-violation", "a child of that child to be refused", f"it was {word}")
    case.stage.show.fact(
        "One child is all that the close has room for: a child of that child is refused (TRUC-violation)."
    )
