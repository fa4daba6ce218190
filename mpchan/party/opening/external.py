"""Channels that another wallet funds: the payer's ``open --external`` and ``open --funding``."""

from __future__ import annotations

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.script import is_p2tr
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.bitcoin.uri import decimal_btc, payment_uri
from mpchan.chain.base import Chain, OutputStatus
from mpchan.channel import payer
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.foreign_funding import (
    Message,
    Rates,
    channel_output_rules,
    final_rules,
    is_complete,
    spent_rules,
    unsigned_fee_rules,
    unsigned_rules,
)
from mpchan.channel.offer import Offer
from mpchan.channel.offer_rules import is_current, lasting_rules, version_rules
from mpchan.channel.opening import capacity_rules, offer_rules, refund_lock_time
from mpchan.channel.rules import enforce
from mpchan.channel.terms import Terms
from mpchan.errors import NotPossible, Refused, TooEarly, UsageError
from mpchan.party.check.payer_rules import new_offer_rules, opened_under
from mpchan.party.common import counted_spend, current_tip, exchange_rules, facts_if_any, now_by
from mpchan.party.fees import outside_warning
from mpchan.party.opening.funding import replaceable_warnings, signed_already_warning, warnings_about
from mpchan.party.opening.request import offer_is_taken, opened, opened_so
from mpchan.results.opening import Opened, Planned
from mpchan.units import Amount, ChainTip, Height, OutPoint
from mpchan.wallet.payer_record import Asked, PayerRecord
from mpchan.wallet.plans import Plan
from mpchan.wallet.wallet import Wallet

_LOOK_BACK_BLOCKS = 288
"""How far back a coin's spender is looked for that nobody told mpchan of: so many blocks even a pruned node keeps."""


def plan_channel(
    wallet: Wallet, chain: Chain, offer_text: str, capacity: Amount, *, address: str | None = None
) -> Planned:
    """``payer open --external``: where another wallet pays, and exactly how much.

    The keys behind the address are on disk when this returns. The same call again gives the same answer.
    """
    offer = Offer.from_toml(offer_text)
    enforce(exchange_rules(offer))
    with wallet.lock():
        planned = any(plan.offer == offer for plan in wallet.plans)
        enforce(version_rules(offer, "TXID:VOUT" if planned else None))
        for plan in wallet.plans:
            if (plan.offer, plan.capacity, plan.address) == (offer, capacity, address):
                return _planned(plan)
        records = opened_under(wallet, offer)
        for record in records:
            if not isinstance(record.state, payer.Abandoned):
                raise offer_is_taken(record)
        enforce(new_offer_rules(wallet, chain, offer, [record.terms.name for record in records]))
        plan = _new_plan(wallet, offer, capacity, address)
    return _planned(plan)


def _new_plan(wallet: Wallet, offer: Offer, capacity: Amount, address: str | None) -> Plan:
    """A plan, which takes the place of an earlier one under this offer: both have one key, and so one address."""
    keys = wallet.fresh_keys()
    payer_key = keys.payer_key(offer.payee_key).public_key
    earlier = next((plan for plan in wallet.plans if plan.payer_key == payer_key), None)
    fresh = address is None and (earlier is None or earlier.address is not None)
    if address is not None:
        script = address_to_script(address, wallet.network)
    elif earlier is None or fresh:
        script = keys.script("receive", keys.next_index("receive"))
    else:
        script = earlier.payer_script
    enforce(capacity_rules(offer, capacity, script))
    restored = earlier is not None and earlier.restored
    plan = Plan(offer, capacity, None, payer_key, script, address, restored)
    if fresh:
        keys.allocate("receive")
    wallet.plans.save(plan)
    return plan


def _planned(plan: Plan) -> Planned:
    offer, output = plan.offer, plan.output
    address = str(script_to_address(output.script_pubkey, offer.network))
    return Planned(
        offer_id=offer.offer_id,
        capacity_sat=plan.capacity.sat,
        address=address,
        amount_sat=output.value.sat,
        amount_btc=decimal_btc(output.value),
        descriptor=construction_of(offer).descriptor(offer, plan.payer_key, None),
        uri=payment_uri(address, output.value, f"mpchan {offer.offer_id}"),
        payer_pubkey=plan.payer_key.sec.hex(),
        payee_pubkey=offer.payee_key.sec.hex(),
        payer_address=script_to_address(plan.payer_script, offer.network),
        warnings=() if plan.address is None else (outside_warning(plan.address),),
    )


def open_funding(
    wallet: Wallet,
    chain: Chain,
    message: Message,
    *,
    offer_text: str | None = None,
    capacity: Amount | None = None,
    refund_delay: int | None = None,
) -> Opened:
    """``payer open --funding``: take what the other wallet made, and ask for the refund. Nothing is sent.

    A second call gives the same request again, also after the opening was given up.
    """
    funding = enforce(unsigned_rules(message))
    with wallet.lock():
        plan = _plan_of(wallet, funding)
        _check_named(plan, offer_text, capacity)
        vout = enforce(channel_output_rules(funding, plan.output))
        outpoint = OutPoint(funding.txid, vout)
        asked = Asked(refund_delay, None, plan.address)
        given_up = None
        for other in opened_under(wallet, plan.offer):
            abandoned = isinstance(other.state, payer.Abandoned) and payer.ever_funded(other.state) is None
            if other.terms.outpoint != outpoint and not abandoned:
                raise offer_is_taken(
                    other, f"where it left, its refund is for `mpchan payer open --again {outpoint}`"
                )
            if other.terms.outpoint == outpoint:
                if isinstance(other.state, payer.Opening):
                    _require_current(chain, plan.offer, outpoint)
                if not abandoned:
                    known = opened_so(other, plan.capacity, asked, external=True)
                    wallet.channels.make_sure(known.terms.name)
                    return _answer(wallet, chain, known, message)
                given_up = other
        record = _opening(wallet, chain, message, plan, outpoint, asked, given_up)
        answer = _answer(wallet, chain, record, message)
        wallet.channels.save(record, "opened", answer.hex)
        return answer


def _opening(
    wallet: Wallet,
    chain: Chain,
    message: Message,
    plan: Plan,
    outpoint: OutPoint,
    asked: Asked,
    given_up: PayerRecord | None,
) -> PayerRecord:
    """The opening that this funding makes; one that was given up keeps its terms, which the payee may have signed."""
    limits = wallet.config.limits
    rates = Rates(chain.min_fee_rate(), limits.max_fee_rate)
    _require_current(chain, plan.offer, outpoint)
    enforce(offer_rules(plan.offer, wallet.network.name, limits, rates.relay))
    chain.require_version(plan.offer.transaction_version)
    tip = current_tip(chain, plan.offer.lock_time_unit)
    seen = chain.output(outpoint, not_before=_back(tip))
    coins = _Coins(wallet, chain, message, tip)
    spent = coins.of_sent() if seen is not None else coins.of_unsent()
    if seen is None or not seen.confirmations:  # what a block holds cannot change any more
        enforce(spent_rules(message, spent))
    if seen is None:  # of what was sent nothing but the refund can be had back any more
        enforce(lasting_rules(plan.offer, now_by(tip)))
        enforce(unsigned_fee_rules(message, spent, rates))
    if given_up is not None:
        terms, asked = given_up.terms, given_up.asked
    else:
        lock_time = refund_lock_time(plan.offer, tip, asked.refund_delay, limits)
        value, key, script = plan.output.value, plan.payer_key, plan.payer_script
        terms = Terms(plan.offer, outpoint, value, key, script, lock_time)
    funding = enforce(unsigned_rules(message))
    return PayerRecord(
        plan.key_index, payer.Opening(terms, funding, spent, external=True), asked, plan.restored
    )


def _require_current(chain: Chain, offer: Offer, outpoint: OutPoint) -> None:
    """No opening begins under an offer of an older version, nor goes on before its refund is signed."""
    if not is_current(offer):
        paid = chain.output(outpoint, not_before=_back(chain.tip())) is not None
        enforce(version_rules(offer, outpoint if paid else None))


def _back(tip: ChainTip) -> Height:
    return Height(max(1, tip.height - _LOOK_BACK_BLOCKS))


def _plan_of(wallet: Wallet, funding: Transaction) -> Plan:
    """The plan that the funding pays."""
    scripts = {output.script_pubkey for output in funding.outputs}
    plans = [plan for plan in map(wallet.plans.find, sorted(scripts)) if plan is not None]
    if not plans:
        raise NotPossible(
            "no-plan",
            f"no output of transaction {funding.txid} pays to a channel that was planned here",
            hint="`mpchan payer open OFFER AMOUNT --external` tells where to pay",
        )
    if len(plans) > 1:
        raise Refused("output-count", f"transaction {funding.txid} pays to {len(plans)} channels, not to one")
    return plans[0]


def _check_named(plan: Plan, offer_text: str | None, capacity: Amount | None) -> None:
    """The offer and amount on the command line, which may be left out, are the plan's."""
    if offer_text is not None and Offer.from_toml(offer_text) != plan.offer:
        raise UsageError("wrong-offer", f"this funding is for offer {plan.offer.offer_id}, not for that one")
    if capacity is not None and capacity != plan.capacity:
        raise UsageError(
            "wrong-amount", f"this funding is for a channel of {plan.capacity}, not of {capacity}"
        )


class _Coins:
    """The coins that a funding spends, as its file and the chain tell of them."""

    def __init__(self, wallet: Wallet, chain: Chain, message: Message, tip: ChainTip) -> None:
        self._wallet = wallet
        self._chain = chain
        self._message = message
        self._psbt = message if isinstance(message, Psbt) else None
        self._funding = message.tx if isinstance(message, Psbt) else message
        self._tip = tip

    def of_unsent(self) -> tuple[TxOut, ...]:
        """Each is unspent, confirmed and not meant for another channel, and no lock time binds."""
        reserved = self._wallet.channels.reserved_outpoints()
        outputs, depths = [], []
        for index, source in enumerate(self._funding.inputs):
            if source.outpoint in reserved:
                raise NotPossible("coin-reserved", f"another channel's funding spends {source.outpoint}")
            said, seen = self._said(index), self._seen(index)
            if not self._chain.sends:
                outputs.append(self._proven(index, said))
                depths.append(0)
                continue
            outputs.append(self._unspent(index, seen))
            depths.append(0 if seen is None else seen.confirmations)
        enforce(final_rules(self._funding, self._tip, depths))
        return tuple(outputs)

    def of_sent(self) -> tuple[TxOut, ...]:
        """The same of a funding that the chain holds already: nothing is left to be judged."""
        outputs = []
        for index in range(len(self._funding.inputs)):
            seen = self._seen(index)
            outputs.append(self._known(index, self._said(index)) if seen is None else seen.output)
        return tuple(outputs)

    def _said(self, index: int) -> TxOut | None:
        if self._psbt is None:
            return None
        fields = self._psbt.inputs[index]
        if fields.witness_utxo is None and fields.non_witness_utxo is None:
            return None
        return self._psbt.spent_output(index)

    def _seen(self, index: int) -> OutputStatus | None:
        """What the chain knows; what it says differs from what the file says only where the file is wrong."""
        outpoint, said = self._funding.inputs[index].outpoint, self._said(index)
        seen = self._chain.output(outpoint, not_before=_back(self._tip))
        if seen is not None and said is not None and seen.output != said:
            raise Refused("psbt-mismatch", f"input {index} spends another output than the PSBT says")
        return seen

    def _known(self, index: int, said: TxOut | None) -> TxOut:
        if said is None:
            raise NotPossible(
                "missing-utxo",
                f"neither the file nor the chain says what input {index} spends",
                hint="export the funding as a PSBT, which says it",
            )
        return said

    def _proven(self, index: int, said: TxOut | None) -> TxOut:
        """Where no chain is asked: what the whole earlier transaction proves. A taproot coin cannot be another kind."""
        known = self._known(index, said)
        whole = self._psbt is not None and self._psbt.inputs[index].non_witness_utxo is not None
        if not whole and not is_p2tr(known.script_pubkey):
            raise NotPossible(
                "coin-unproven",
                f"nothing proves what input {index} spends: no chain is asked, and the PSBT lacks the transaction",
                hint="export the PSBT with its previous transactions (non_witness_utxo)",
            )
        return known

    def _unspent(self, index: int, seen: OutputStatus | None) -> TxOut:
        outpoint = self._funding.inputs[index].outpoint
        if seen is None:
            raise NotPossible("coin-unknown", f"the chain has no coin {outpoint}, which input {index} spends")
        spend = counted_spend(outpoint, seen, self._tip)
        if spend is not None:
            raise NotPossible("coin-spent", f"{spend.txid} spends {outpoint}, which this funding needs")
        if not seen.confirmations or not seen.mature:
            raise TooEarly(
                "coin-unconfirmed",
                f"{outpoint}, which input {index} spends, is not confirmed, or not mature",
                hint="a coin that can still vanish would take the funding with it: wait for a block",
            )
        return seen.output


def _answer(wallet: Wallet, chain: Chain, record: PayerRecord, message: Message) -> Opened:
    """The request for the refund, and what the person should know."""
    funding = record.funding
    warnings = warnings_about(chain, record, facts_if_any(chain, record.terms))
    if funding is not None and isinstance(record.state, payer.Opening) and not warnings:
        warnings = replaceable_warnings(funding)
        if is_complete(message):
            warnings.append(signed_already_warning(funding))
    return opened(wallet, record, warnings)
