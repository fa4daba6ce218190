"""The demo's bad endings where nothing is exchanged before the funding, and the payee may close at any moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpchan.bitcoin.tx import Transaction, TxOut, total_of
from mpchan.channel import payer
from mpchan.channel.construction.base import REFUND
from mpchan.cli.demo.case import BAD_SCRIPT, SPENT, TOO_EARLY, Case, ending
from mpchan.cli.demo.cheats import refund_too_late
from mpchan.cli.demo.stage import PAYEE, PAYER
from mpchan.cli.demo.story import UNIT_SAT
from mpchan.units import Amount, Height
from mpchan.values import replace
from mpchan.wallet.storage import write_durably

if TYPE_CHECKING:
    from mpchan.bitcoin.psbt import Psbt


@ending(
    "earlier-refund",
    "the payer signs another refund, for the next block",
    "The payer signs its refund alone. So it signs one more, which may be in the next block. But the address of the "
    "channel says from which block on the payer alone is enough.",
    exchange=False,
)
def _earlier_refund(case: Case) -> None:
    case.pay(10, 1)
    record = case.record(PAYER)
    earlier = replace(record.terms, refund_lock_time=Height(case.stage.height))
    signature = case.wallet(PAYER).keys.key_of(record).sign_refund(earlier)
    forged = earlier.lock.complete(earlier.schedule.build(REFUND), {earlier.payer_key: signature})
    case.engine_refuses("a refund for the next block", forged, BAD_SCRIPT)


@ending(
    "payer-disappears",
    "the payer disappears",
    "Three payments were made, then the payer answers no more. The payee needs no help and does not wait: its latest "
    "update is complete, and good for the next block.",
    exchange=False,
)
def _payer_gone(case: Case) -> None:
    stage = case.stage
    case.pay(10, 1, 2, 3)
    before = stage.coins(PAYEE)
    paid_at = stage.height
    height = _closed(case)
    stage.expect(height == paid_at + 1, "the close to be in the next block", f"found {height}")
    gained = case.paid_out(before)
    case.numbers["update_height"] = height
    blocks = case.refund.lock_time - height
    stage.show.fact(
        f"The payee has its {gained:,} sat in the very next block, {blocks} blocks before the refund's time."
    )
    refund_too_late(case)


@ending(
    "older-update",
    "the payer would rather have an older update",
    "Update 1 pays the payee 10 units, update 3 pays it 30. Both are good at any time, so the payer would like update "
    "1 to win. But it holds its own signature alone, and needs the payee's.",
    exchange=False,
)
def _older_update(case: Case) -> None:
    stage = case.stage
    case.pay(10, 1)
    older = case.held
    case.pay(10, 2, 3)
    case.engine_refuses("update 1, signed by the payer alone", _without_payee(case, older), BAD_SCRIPT)
    stage.show.say(
        "And if the complete update 1 fell into its hands, which mpchan never lets happen? The payee closes at once "
        "with update 3. Then the coin is spent: two spends of one coin are a conflict."
    )
    before = stage.coins(PAYEE)
    case.numbers["newer_height"] = _closed(case)
    case.engine_refuses("the complete update 1", older, SPENT)
    gained = case.paid_out(before)
    stage.show.fact(f"The payee has its {gained:,} sat, all that it was paid.")


@ending(
    "double-spent-funding",
    "the payer takes the funding back before it is confirmed",
    "The payee hears of a channel from its first payment. The payer sends that while the funding waits for its block, "
    "and gives the same coins to itself meanwhile.",
    funded=False,
    exchange=False,
)
def _double_spent_funding(case: Case) -> None:
    stage = case.stage
    pay = ("pay", str(30 * UNIT_SAT), *case.selector)
    case.refuses(PAYER, *pay, code=TOO_EARLY, word="confirmations of the funding")
    stage.show.say("The payer's mpchan makes no payment yet. A cheat makes one otherwise, and sends it.")
    message = case.folder / "update-1.psbt"
    write_durably(stage.directory / message, _first_update(case).to_hex().encode())
    case.refuses(PAYEE, "payee", "accept", message, code=TOO_EARLY, word="confirmations of the funding")
    stage.show.say(
        "The payee takes nothing and delivers nothing. The cheat's other transaction gets into a block."
    )
    answer = stage.engine(_double_spend(case))
    stage.expect(answer == "accepted", "the double spend to be in a block", f"the answer was {answer}")
    case.refuses(
        PAYEE, "payee", "accept", message, code=TOO_EARLY, word="the chain does not show the funding"
    )
    stage.show.fact("The channel has never been there, and nobody has lost anything.")


def _closed(case: Case) -> int:
    """The payee closes with what it holds; the height of the block, which is the next one."""
    closing = case.folder / "closing.hex"
    case.stage.payee("payee", "settle", *case.selector, "-o", closing)
    case.stage.mine(1)
    return case.confirmed("update 3", closing)


def _without_payee(case: Case, complete: Transaction) -> Transaction:
    """An update with the payer's signature in the place of the payee's too."""
    terms = case.terms
    ours = terms.lock.signature_in(complete, terms.payer_key)
    return terms.lock.complete(complete, {terms.payer_key: ours, terms.offer.payee_key: ours})


def _funded(case: Case) -> payer.Funded:
    state = case.record(PAYER).state
    if not isinstance(state, payer.Funded) or state.funding is None:
        raise TypeError("the payer has funded this channel itself")
    return state


def _first_update(case: Case) -> Psbt:
    """A payment that the payer's own wallet would not make yet."""
    paid = replace(_funded(case), number=1, paid=Amount(30 * UNIT_SAT))
    return payer.update_message(paid, case.wallet(PAYER).keys.key_of(case.record(PAYER)))


def _double_spend(case: Case) -> Transaction:
    """The coins of the funding, all of them to where its change went."""
    state = _funded(case)
    funding = state.funding
    if funding is None:
        raise TypeError("it was just there")
    change = funding.outputs[1 - state.terms.outpoint.vout].script_pubkey
    spent = [case.stage.chain.output(source.outpoint) for source in funding.inputs]
    coins = [seen.output for seen in spent if seen is not None]
    outputs = (TxOut(total_of(coins) - Amount(1_000), change),)
    unsigned = Transaction(2, tuple(replace(one, witness=()) for one in funding.inputs), outputs, 0)
    return case.wallet(PAYER).keys.sign_coins(unsigned, coins)
