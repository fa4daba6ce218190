"""A payer's own signatures, given back by the payee and taken by an older copy of the payer."""

from __future__ import annotations

from typing import Any

import pytest
from support.protocol import (
    PAYEE_SECRET,
    PAYER,
    PAYER_SECRET,
    STRANGER_SECRET,
    facts_of,
    make_funded,
    make_offer,
    make_opening,
    make_secured,
    make_terms,
    private_key,
    replace,
    scheme_of,
    settlement_psbt,
    signed,
    signed_message,
    update_psbt,
    with_output,
)

from mpchan.bitcoin.psbt import Psbt
from mpchan.channel import payee, payer
from mpchan.channel.payer import Abandoned, Funded, PayerState, Refunding, Settling
from mpchan.channel.rules import enforce
from mpchan.channel.signing import ChannelKey
from mpchan.channel.syncing import Synced, latest_message, sync_rules
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError, NotPossible, Refused
from mpchan.units import Amount

TERMS = make_terms()
LAST = scheme_of(TERMS).last_update


def at(number: int, paid: int, terms: Terms = TERMS) -> Funded:
    """A payer that has made this update last."""
    return replace(make_funded(terms), number=number, paid=Amount(paid))


def synced(state: PayerState, psbt: Psbt) -> Synced:
    return enforce(sync_rules(state, psbt))


def reached(state: PayerState) -> tuple[int, int]:
    funded = payer.ever_funded(state)
    assert funded is not None
    return funded.number, funded.paid.sat


# giving back --------------------------------------------------------------------------------------


def payee_keys() -> dict[str, ChannelKey]:
    """One that stands behind the payer's key in the script, and one before it."""
    found = {}
    for number in range(64):
        key = ChannelKey(private_key(f"payee {number}"))
        before = key.public_key.sec < PAYER.public_key.sec
        found["before" if before else "behind"] = key
    return found


def sent(terms: Terms, number: int, paid: Amount) -> Psbt:
    """The payer's message, with any payee; number 0 is the settlement."""
    if number == 0:
        return signed_message(
            terms, scheme_of(terms).settlement(paid), PAYER.public_key, PAYER.sign_settlement(terms, paid)
        )
    signature = PAYER.sign_update(terms, number, paid)
    return signed_message(terms, scheme_of(terms).update(number, paid), PAYER.public_key, signature)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_the_payers_very_bytes_come_back(place: str) -> None:
    """Of every update and of the settlement, with the payer's signature alone, wherever its key stands."""
    key = payee_keys()[place]
    terms = make_terms(make_offer(payee_key=key.public_key))
    state: payee.PayeeState = payee.Active(terms)
    for number, paid in ((1, 1000), (2, 1001), (0, 5000)):
        message = sent(terms, number, Amount(paid))
        state, _ = payee.accept(state, message, facts_of(terms), key)
        incoming, given = latest_message(state)
        assert given.to_bytes() == message.to_bytes()
        assert set(given.inputs[0].partial_sigs) == {PAYER.public_key.sec}
        assert given.inputs[0].final_script_witness is None
        assert incoming.transaction == message.tx


@pytest.mark.parametrize(
    "state", [payee.Active(TERMS), payee.Closing(payee.Active(TERMS), None), payee.Abandoned(TERMS)]
)
def test_nothing_to_give_back(state: payee.PayeeState) -> None:
    with pytest.raises(NotPossible) as caught:
        latest_message(state)
    assert caught.value.slug == "no-update"


# taking -------------------------------------------------------------------------------------------


def test_a_later_update_is_adopted_as_it_is() -> None:
    """Whereupon the payer signs the very same update, and the next number is the one behind it."""
    for number, paid in ((6, 501), (20, 2000), (LAST, 100_000)):
        found = synced(at(5, 500), update_psbt(TERMS, number, paid))
        assert found.conflict is False
        assert found.state == at(number, paid)
        assert (
            payer.update_message(at(number, paid), PAYER).to_bytes()
            == update_psbt(TERMS, number, paid).to_bytes()
        )
    assert (
        payer.pay(synced(at(5, 500), update_psbt(TERMS, 20, 2000)).state, Amount(1), facts_of(TERMS)).number
        == 21
    )


@pytest.mark.parametrize("held", [(5, 500), (4, 400), (4, 500), (1, 400)])
def test_nothing_goes_backwards(held: tuple[int, int]) -> None:
    """The own latest update, and earlier ones, change nothing."""
    for state in (at(5, 500), Settling(at(5, 500), Amount(700)), Refunding(at(5, 500), None)):
        found = synced(state, update_psbt(TERMS, *held))
        assert found.state == state
        assert found.conflict is False


@pytest.mark.parametrize(
    ("held", "number", "paid"),
    [
        pytest.param((5, 700), 6, 700, id="one number, more"),
        pytest.param((5, 400), 6, 500, id="one number, less"),
        pytest.param((4, 700), 6, 700, id="an earlier one that pays more"),
        pytest.param((7, 500), 8, 500, id="a later one that pays the same"),
        pytest.param((7, 400), 8, 500, id="a later one that pays less"),
    ],
)
def test_a_contradiction(held: tuple[int, int], number: int, paid: int) -> None:
    """The higher total counts, under a number that neither has: no number gets two. Once more changes nothing."""
    found = synced(at(5, 500), update_psbt(TERMS, *held))
    assert found.conflict is True
    assert reached(found.state) == (number, paid)
    assert number > max(5, held[0])
    assert synced(found.state, update_psbt(TERMS, *held)).state == found.state
    assert synced(found.state, update_psbt(TERMS, 5, 500)).state == found.state


def test_a_contradiction_under_the_last_number() -> None:
    """No number is left to go on with: said, not guessed."""
    with pytest.raises(NotPossible) as caught:
        synced(at(LAST, 500), update_psbt(TERMS, LAST, 600))
    assert caught.value.slug == "out-of-updates"


def test_a_settlement_ends_the_payments() -> None:
    for total in (500, 700):
        found = synced(at(5, 500), settlement_psbt(TERMS, total))
        assert found == Synced(Settling(at(5, 500), Amount(total)), found.incoming, conflict=False)
        assert (
            payer.settlement_message(Settling(at(5, 500), Amount(total)), PAYER).to_bytes()
            == settlement_psbt(TERMS, total).to_bytes()
        )
        assert synced(found.state, settlement_psbt(TERMS, total)) == found
        with pytest.raises(NotPossible):
            payer.pay(found.state, Amount(1), facts_of(TERMS))


def test_two_settlements() -> None:
    """The one that pays more counts; so does the best update where it pays more than the settlement."""
    for state, total, counts in (
        (Settling(at(5, 500), Amount(700)), 800, 800),
        (Settling(at(5, 500), Amount(700)), 600, 700),
        (at(5, 500), 400, 500),
    ):
        found = synced(state, settlement_psbt(TERMS, total))
        assert found.conflict is True
        assert found.state == Settling(at(5, 500), Amount(counts))


def test_the_phase_goes_on() -> None:
    later = update_psbt(TERMS, 9, 900)
    assert synced(Settling(at(5, 500), Amount(600)), later).state == Settling(at(9, 900), Amount(900))
    assert synced(Settling(at(5, 500), Amount(1000)), later).state == Settling(at(9, 900), Amount(1000))
    assert synced(Refunding(at(5, 500), None), later).state == Refunding(at(9, 900), None)
    assert synced(Refunding(at(5, 500), Amount(600)), later).state == Refunding(at(9, 900), Amount(900))
    assert synced(Abandoned(TERMS, at(0, 0)), later).state == at(9, 900)
    given = settlement_psbt(TERMS, 800)
    assert synced(Refunding(at(5, 500), None), given).state == Refunding(at(5, 500), Amount(800))
    assert synced(Abandoned(TERMS, at(5, 500)), given).state == Settling(at(5, 500), Amount(800))


@pytest.mark.parametrize("state", [make_opening(TERMS), make_secured(TERMS), Abandoned(TERMS)])
def test_the_refund_comes_first(state: PayerState) -> None:
    with pytest.raises(NotPossible) as caught:
        synced(state, update_psbt(TERMS, 9, 900))
    assert caught.value.slug == "not-funded"


def forged() -> dict[str, tuple[Psbt, str]]:
    """What this payer has never signed, and the rule that says so."""
    update = scheme_of(TERMS).update(9, Amount(900))
    sibling = make_terms(salt=1)
    both: Any = signed(TERMS, update).with_input_fields(
        0,
        partial_sigs={
            key.public_key.sec: signed(TERMS, update, key).inputs[0].partial_sigs[key.public_key.sec]
            for key in (PAYER_SECRET, PAYEE_SECRET)
        },
    )
    moved = signed(TERMS, with_output(update, 1, value=901))
    return {
        "by the payee": (signed(TERMS, update, PAYEE_SECRET), "missing-signature"),
        "by a stranger": (signed(TERMS, update, STRANGER_SECRET), "missing-signature"),
        "by both": (both, "extra-signature"),
        "of another update": (
            Psbt.from_bytes(
                update_psbt(TERMS, 9, 900)
                .with_input_fields(0, partial_sigs=dict(update_psbt(TERMS, 8, 900).inputs[0].partial_sigs))
                .to_bytes()
            ),
            "signature",
        ),
        "of another channel": (signed(sibling, scheme_of(sibling).update(9, Amount(900))), "outpoint"),
        "a transaction that the terms do not allow": (moved, "output-value"),
        "the refund": (signed(TERMS, scheme_of(TERMS).refund()), "lock-time"),
    }


@pytest.mark.parametrize("name", list(forged()))
def test_only_the_own_signature_counts(name: str) -> None:
    message, slug = forged()[name]
    with pytest.raises(MpchanError) as caught:
        synced(at(5, 500), message)
    assert isinstance(caught.value, Refused)
    assert caught.value.slug == slug
