"""The demo's bad endings: each on a channel of its own, each with the consensus engine's own answer."""

from __future__ import annotations

from mpchan.bitcoin.tx import Transaction
from mpchan.channel import payer
from mpchan.channel.construction.base import settlement
from mpchan.channel.terms import refund_fee
from mpchan.cli.demo.case import BAD_SCRIPT, NON_FINAL, NOT_POSSIBLE, SPENT, TOO_EARLY, Case, ending
from mpchan.cli.demo.stage import PAYEE, PAYER
from mpchan.cli.demo.story import CAPACITY_SAT
from mpchan.units import Amount


@ending(
    "early-refund",
    "the payer takes its refund right after opening",
    "The payer would like the goods and the money. But its refund is locked for a good while yet.",
)
def _early_refund(case: Case) -> None:
    case.refuses(PAYER, "refund", *case.selector, code=TOO_EARLY, word="locked until block")
    case.engine_refuses("the refund in it", case.refund, NON_FINAL)


@ending(
    "altered-settlement",
    "the payee raises its own share",
    "The payer settles for 30 units. The payee rewrites the complete settlement to all 100 units, and "
    "even signs the altered one anew. But the payer's signature covers every amount.",
)
def _altered_settlement(case: Case) -> None:
    stage = case.stage
    case.pay(30, 1)
    message = case.folder / "settlement.psbt"
    stage.payer("settle", *case.selector, "-o", message)
    stage.payee("payee", "accept", message)
    honest = case.held
    wanted = case.terms.schedule.build(settlement(Amount(CAPACITY_SAT))).outputs
    altered = Transaction(honest.version, honest.inputs, wanted, honest.lock_time)
    case.engine_refuses("the altered settlement", altered, BAD_SCRIPT)
    case.engine_refuses("the altered settlement, signed anew by the payee", _signed_anew(case), BAD_SCRIPT)
    stage.show.say("Only the settlement that both signed is good.")
    before = stage.coins(PAYEE)
    closing = case.folder / "settlement.hex"
    stage.payee("settle", message, "-o", closing)
    stage.mine(1)
    case.confirmed("the settlement that both signed", closing)
    gained = case.paid_out(before)
    stage.show.fact(f"The payee has {gained:,} sat more: the 30 units that it was paid.")


def _signed_anew(case: Case) -> Transaction:
    """A settlement of everything, with the payee's own good signature and the payer's of the honest one."""
    record, terms = case.record(PAYEE), case.terms
    key = case.wallet(PAYEE).keys.key_of(record)
    everything = Amount(CAPACITY_SAT)
    honest = case.stage.message(case.folder / "settlement.psbt")
    if isinstance(honest, Transaction):
        raise TypeError("a settlement travels as a PSBT")
    payers = terms.lock.signature_from(honest, terms.payer_key)
    ours = key.sign_settlement(terms, everything)
    return terms.lock.complete(
        terms.schedule.build(settlement(everything)), {terms.payer_key: payers, terms.offer.payee_key: ours}
    )


@ending(
    "payer-disappears",
    "the payer disappears",
    "Three payments were made, then the payer answers no more. The payee needs no help: its latest update is "
    "complete. It only has to wait for that update's lock time, which comes long before the refund's.",
    exchange=True,
)
def _payer_gone(case: Case) -> None:
    stage = case.stage
    case.pay(10, 1, 2, 3)
    case.refuses(PAYEE, "payee", "settle", *case.selector, code=TOO_EARLY, word="locked until block")
    lock_time = case.held.lock_time
    stage.show.say(f"So the payee waits until block {lock_time}, and tries again.")
    stage.mine_to(lock_time)
    before = stage.coins(PAYEE)
    closing = case.folder / "closing.hex"
    stage.payee("payee", "settle", *case.selector, "-o", closing)
    stage.mine(1)
    height = case.confirmed("update 3", closing)
    gained = case.paid_out(before)
    refund_lock = case.refund.lock_time
    case.numbers.update(update_lock_time=lock_time, update_height=height)
    stage.expect(
        height < refund_lock, "the update to be confirmed before the refund's time", f"found {height}"
    )
    stage.show.fact(
        f"The update was final at block {lock_time} and confirmed in block {height}, "
        f"{refund_lock - height} blocks before the refund's time, block {refund_lock}. "
        f"The payee has its {gained:,} sat."
    )
    refund_too_late(case)


def refund_too_late(case: Case) -> None:
    """The payer comes back for a refund of what the payee has closed."""
    case.stage.show.say("The payer comes back when the refund's time has come. It is too late.")
    case.stage.mine_to(case.refund.lock_time)
    case.refuses(PAYER, "refund", *case.selector, code=NOT_POSSIBLE, word="the payee closed the channel")
    case.engine_refuses("the refund, now past its lock time", case.refund, SPENT)


@ending(
    "payee-disappears-before-funding",
    "the payee disappears after it signed the refund",
    "The payer has signed nothing yet, so it just gives the opening up. Its coins never left the wallet.",
    funded=False,
    exchange=True,
)
def _payee_gone_before_funding(case: Case) -> None:
    stage = case.stage
    before = case.numbers["payer_before_sat"]
    state = case.record(PAYER).state
    stage.payer("payer", "abandon", *case.selector)
    after = stage.coins(PAYER)
    stage.expect(after == before, f"the payer to keep {before} sat", f"it has {after} sat")
    case.numbers["payer_after_sat"] = after
    stage.show.fact(f"The payer has {after:,} sat, as before.")
    if not isinstance(state, payer.Opening) or state.funding is None:
        raise TypeError("a channel that was just opened is an opening")
    case.engine_refuses("the funding, which nobody signed", state.funding, BAD_SCRIPT)


@ending(
    "payee-disappears-after-funding",
    "the payee disappears after the funding",
    "The payer waits for the refund's lock time, and broadcasts the refund. It asks nobody.",
)
def _payee_gone_after_funding(case: Case) -> None:
    _take_refund(case)


@ending(
    "payee-disappears-after-payments",
    "the payee disappears after some payments",
    "The payee could have collected 20 units in time, and did not. What nobody collects goes "
    "back to the payer: all of it, the paid units included.",
)
def _payee_gone_after_payments(case: Case) -> None:
    case.pay(10, 1, 2)
    _take_refund(case)


def _take_refund(case: Case) -> None:
    """The payer recovers exactly F less the refund's fee."""
    stage, terms = case.stage, case.terms
    before = stage.coins(PAYER)
    stage.mine_to(case.refund.lock_time)
    sent = case.folder / "refund-sent.hex"
    stage.payer("refund", *case.selector, "-o", sent)
    stage.mine(1)
    case.confirmed("the refund", sent)
    after = stage.coins(PAYER)
    funded, fee = terms.funding_value.sat, refund_fee(terms.offer, terms.payer_script).sat
    back = after - before
    stage.expect(back == funded - fee, f"{funded} - {fee} sat back for the payer", f"it got {back} sat")
    case.numbers.update(
        funding_sat=funded,
        refund_fee_sat=fee,
        payer_before_sat=before,
        payer_after_sat=after,
        payer_recovered_sat=back,
    )
    stage.show.fact(
        f"The payer's balance went from {before:,} to {after:,} sat: all {funded:,} sat of the funding are back, "
        f"less the refund's fee of {fee} sat."
    )


@ending(
    "older-update",
    "an older update turns up after a newer one",
    "Update 1 pays the payee 10 units, update 3 pays it 30. Suppose that the complete update 1 fell into the "
    "payer's hands, which mpchan never lets happen: could it still win?",
    exchange=True,
)
def _older_update(case: Case) -> None:
    stage = case.stage
    case.pay(10, 1)
    older = case.held
    case.pay(10, 2, 3)
    newer = case.held
    stage.mine_to(newer.lock_time)
    stage.show.say("Update 3 is final now. Update 1 has a later lock time, so it cannot come first.")
    case.engine_refuses("update 1", older, NON_FINAL)
    closing = case.folder / "closing.hex"
    stage.payee("payee", "settle", *case.selector, "-o", closing)
    stage.mine(1)
    height = case.confirmed("update 3", closing)
    stage.show.say(
        "And once its own time has come, the coin is spent: two spends of one coin are a conflict."
    )
    stage.mine_to(older.lock_time)
    case.engine_refuses("update 1, now past its lock time", older, SPENT)
    case.numbers.update(older_lock_time=older.lock_time, newer_lock_time=newer.lock_time, newer_height=height)


@ending(
    "held-up-close",
    "the payer holds up the payee's close",
    "The payer settles, and hangs a large and cheap child on its own share of the close, so that no miner takes "
    "either before the refund is final. Then all would be the payer's again.",
)
def _held_up_close(case: Case) -> None:
    from mpchan.cli.demo.pin import play

    play(case)
