"""The demo's story with the good ending: a hundred pieces, a hundred payments, two transactions on the chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.cli.demo.stage import PAYEE, PAYER, Stage
from mpchan.results.demo import Coins, TransactionSeen
from mpchan.values import frozen

UNIT_SAT = 1000
"""The price of a piece. Above the dust limit, so that the payee could collect the first payment alone."""

UNITS = 100
CAPACITY_SAT = UNITS * UNIT_SAT

_BITCOIN = 100_000_000
_OFFER = Path("offer.toml")
_REQUEST, _SIGNED = Path("request.psbt"), Path("signed.psbt")
_FUNDING, _REFUND, _UPDATE = Path("funding.hex"), Path("refund.hex"), Path("update.psbt")
_SETTLEMENT = Path("settlement.psbt")


@frozen
class Ending:
    """What the chain saw, and who has what."""

    channel: str
    transactions: tuple[TransactionSeen, ...]
    payer: Coins
    payee: Coins

    @property
    def fees_sat(self) -> int:
        """What the miners got."""
        return sum(seen.fee_sat for seen in self.transactions)


def tell(stage: Stage) -> Ending:
    """Play the story.

    Raises:
        ExpectationError: ``demo-failed``.
    """
    _two_wallets(stage)
    before = stage.coins(PAYER), stage.coins(PAYEE)
    stage.expect(before == (_BITCOIN, 0), "1 bitcoin for the payer and none for the payee", f"found {before}")
    opened_at = stage.height
    _offer(stage)
    if stage.has_exchange:
        _refund_first(stage)
        _fund(stage)
    else:
        _open_at_once(stage)
    _pay(stage, 5 if stage.has_exchange else 4)
    _settle(stage, 6 if stage.has_exchange else 5)
    ending = Ending(
        str(stage.transaction(_FUNDING).txid)[:16],
        tuple(_on_chain(stage, opened_at)),
        Coins(before[0], stage.coins(PAYER)),
        Coins(before[1], stage.coins(PAYEE)),
    )
    _conclude(stage, ending)
    return ending


def _two_wallets(stage: Stage) -> None:
    stage.show.scene("1. Two wallets, and a coin for the payer")
    stage.show.say("Each party has a wallet of its own. They share nothing but the messages that follow.")
    stage.payer("init")
    stage.payee("init")
    stage.show.say("The payer receives play money, and a block confirms it.")
    address = stage.payer("address").said
    stage.type("regtest", "faucet", address, "1btc")
    stage.mine(1)


def _offer(stage: Stage) -> None:
    stage.show.scene("2. The payee makes an offer")
    stage.show.say(
        "The offer says on which terms the payee takes a channel: its key, its limits, its fees. "
        "The file goes to the payer by mail, by web, by hand."
    )
    stage.offer(_OFFER)


def _refund_first(stage: Stage) -> None:
    stage.show.scene("3. The way back comes first")
    stage.show.say(
        f"The payer wants a channel of {UNITS} units. It builds the funding transaction, does not sign it, "
        "and asks the payee to sign the refund: the transaction that one day gives everything back. "
        "Without it, a payee that disappears would take the money with it."
    )
    stage.payer("payer", "open", _OFFER, CAPACITY_SAT, "-o", _REQUEST)
    stage.payee("payee", "sign-refund", _REQUEST, "-o", _SIGNED)


def _fund(stage: Stage) -> None:
    stage.show.scene("4. Only now the money moves")
    stage.show.say(
        "With the complete refund stored, the payer signs the funding and broadcasts it. "
        "This is the first of the two transactions that the chain will see."
    )
    stage.fund(_SIGNED, _REFUND, _FUNDING)
    stage.show.say("A block confirms it, and the payee waits until it has seen that for itself.")
    stage.mine(1)
    stage.payee("wait", "--for", "confirmed")


def _open_at_once(stage: Stage) -> None:
    stage.show.scene("3. One command opens the channel")
    stage.show.say(
        f"The payer wants a channel of {UNITS} units. The money goes to an address that can be spent in two ways: by "
        "both together at any time, or by the payer alone once the refund's time has come. So the refund needs nobody "
        "else. The payer signs it, stores it, and only then signs the funding and broadcasts it: the first of the two "
        "transactions that the chain will see. The payee has nothing to do yet, and need not even be there."
    )
    stage.open_at_once(_OFFER, CAPACITY_SAT, _REFUND, _FUNDING)
    stage.show.say("A block confirms it, and the payer waits until it has seen that.")
    stage.mine(1)
    stage.payer("wait", "--for", "confirmed")


def _pay(stage: Stage, number: int) -> None:
    stage.show.scene(f"{number}. {UNITS} payments of {UNIT_SAT:,} sat")
    stage.show.say(
        "For every piece the payer signs an update and sends it as a file: the same coin, split anew. "
        "The payee checks it, adds its signature, keeps it, and delivers the piece. None of them is broadcast."
    )
    updates = UNITS - 1
    locks = [_pay_once(stage, shown=True), _pay_once(stage, shown=True)]
    stage.show.say("…")
    with stage.show.progress("payments", len(locks), updates) as advance:
        while len(locks) < updates - 1:
            locks.append(_pay_once(stage, shown=False))
            advance()
    locks.append(_pay_once(stage, shown=True))
    refund = stage.transaction(_REFUND).lock_time
    if not any(locks):
        stage.show.fact(
            f"No update has a lock time: the payee could close with the newest one at any moment, and the one that "
            f"pays most is the best for it. The refund has to wait until block {refund}."
        )
        return
    falling = all(earlier > later for earlier, later in zip([refund, *locks], locks, strict=False))
    stage.expect(falling, "every update to be final before all that came before it", f"found {locks}")
    stage.show.fact(
        f"Each update is final earlier than the one before: update 1 at block {locks[0]}, update 2 at block "
        f"{locks[1]}, update {updates} at block {locks[-1]}. The refund comes last, at block {refund}. "
        "So the newest one can always be first."
    )


def _pay_once(stage: Stage, *, shown: bool) -> int:
    """One payment by an update; the update's nLockTime."""
    stage.payer("pay", UNIT_SAT, "-o", _UPDATE, shown=shown)
    stage.payee("payee", "accept", _UPDATE, shown=shown)
    return stage.transaction(_UPDATE).lock_time


def _settle(stage: Stage, number: int) -> None:
    stage.show.scene(f"{number}. The settlement")
    stage.show.say(
        f"Payment {UNITS} travels in the settlement: the final balance without any lock time. The payee "
        "countersigns it and broadcasts it, the second transaction that the chain sees."
    )
    stage.payer("settle", "--total", CAPACITY_SAT, "-o", _SETTLEMENT)
    stage.payee("settle", _SETTLEMENT, "-o", Path("settlement.hex"))
    stage.mine(1)
    stage.payer("wait", "--for", "closed")


def _on_chain(stage: Stage, opened_at: int) -> Iterator[TransactionSeen]:
    """Every transaction in the blocks since the channel was opened, by the engine's own account; coinbases apart."""
    update = stage.message(_UPDATE)
    utxo = update.inputs[0].witness_utxo if isinstance(update, Psbt) else None
    stage.expect(utxo is not None, "the last update to name the channel's output", "found none")
    for height in range(opened_at + 1, stage.height + 1):
        for transaction in stage.chain.block_transactions(height)[1:]:
            kind = "another's"
            if utxo in transaction.outputs:
                kind = "funding"
            elif transaction.inputs[0].outpoint.txid == stage.transaction(_FUNDING).txid:
                closes = transaction.txid == stage.transaction(_SETTLEMENT).txid
                kind = "settlement" if closes else "update or refund"
            yield TransactionSeen(height, str(transaction.txid), kind, _fee(stage, transaction))


def _fee(stage: Stage, transaction: Transaction) -> int:
    spent = [stage.chain.output(source.outpoint) for source in transaction.inputs]
    incoming = sum(seen.output.value.sat for seen in spent if seen is not None)
    return incoming - sum(output.value.sat for output in transaction.outputs)


def _conclude(stage: Stage, ending: Ending) -> None:
    show = stage.show
    show.scene("What the chain saw")
    seen = ending.transactions
    kinds = [transaction.kind for transaction in seen]
    stage.expect(kinds == ["funding", "settlement"], "funding and settlement on the chain", f"found {kinds}")
    show.say(f"{UNITS} payments, and {len(seen)} transactions in all blocks since the channel was opened:")
    rows = [(str(item.height), item.txid, item.kind, f"{item.fee_sat:,}") for item in seen]
    show.table(("block", "transaction", "kind", "fee (sat)"), rows)
    show.scene("Who has what")
    gained = ending.payee.after_sat - ending.payee.before_sat
    stage.expect(gained == CAPACITY_SAT, f"the payee to gain {CAPACITY_SAT} sat", f"it gained {gained}")
    spent, total = ending.payer.before_sat - ending.payer.after_sat, CAPACITY_SAT + ending.fees_sat
    stage.expect(spent == total, f"the payer to have spent {total} sat with the fees", f"it spent {spent}")
    rows_of_coins = [
        (name, f"{has.before_sat:,}", f"{has.after_sat:,}", f"{has.after_sat - has.before_sat:+,}")
        for name, has in (("payer", ending.payer), ("payee", ending.payee))
    ]
    show.table(("", "before (sat)", "after (sat)", "change"), rows_of_coins)
    show.fact(
        f"The channel ended 0 : {UNITS}. The payee has exactly {UNITS} units more. The payer has paid them, "
        f"and {ending.fees_sat} sat of fees for {len(seen)} transactions instead of {UNITS}."
    )
