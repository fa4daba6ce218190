"""The guide's page on the protocol, sentence by sentence: which tests fail when it is broken.

The four kinds of transaction
    Funding: one output of F, P2WSH, 2-of-2
        test_funding_output_is_the_sorted_two_of_two
    keys in BIP-0067 order
        test_funding_script_is_the_same_whichever_key_is_the_payers
    worth capacity and reserve
        test_funding_is_made_of_one_channel_output_worth_capacity_and_reserve
    signed only after the refund is verified and stored
        test_the_refund_is_stored_complete_before_the_funding_is_signed
        test_hostile_reply_is_refused
    no signature of it exists before
        test_no_signature_of_the_funding_exists_until_then
        test_no_signature_of_the_funding_exists_before_the_refund_is_complete
    every input native segwit, empty scriptSig
        test_every_input_is_native_segwit_and_signed_outside_the_txid
    no signature can change the txid
        test_a_signed_funding_with_another_txid_is_not_taken
    never replaced
        test_funding_does_not_signal_replacement
        test_its_coins_are_taken_in_every_phase
    Refund: all of it back to the payer, L_refund > 0
        test_refund_pays_everything_but_its_fee_back_to_the_payer
    sent unsigned
        test_refund_request_holds_no_signature
    the payee signs it first
        test_payee_signs_the_refund_first_and_alone
    verify, add, store, then sign and broadcast
        test_the_refund_is_stored_complete_before_the_funding_is_signed
        test_nothing_leaves_when_a_write_fails_and_the_repeat_succeeds
    security against a payee that disappears
        test_payee_disappears_and_the_payer_gets_everything_back
    Update: the refund, other outputs, lower lock time
        test_update_is_the_refund_with_other_outputs_and_a_lower_lock_time
    verified, signed, kept, not broadcast
        test_accept_broadcasts_nothing
    security against a payer that disappears
        test_payer_disappears_and_the_payee_collects_the_latest_update
    latest final first, refund last
        test_the_latest_update_is_final_first_and_the_refund_last
        test_refund_is_the_last_to_become_final
    Settlement: final balance, lock time 0
        test_settlement_is_the_final_balance_with_lock_time_0
    can carry the last payment
        test_settlement_can_carry_the_last_payment
    countersigned, stored, broadcast, money at once
        test_a_settlement_pays_at_once
        test_each_command_saves_before_it_sends
    nothing paid: cooperative cancel
        test_settlement_with_nothing_paid_gives_all_back
        test_nothing_paid_is_a_cancellation
    the payer signs updates first
        test_what_the_payer_sends_is_never_complete

Lock times
    L_refund, L_0, L_k
        test_lock_times_follow_the_formulas
        test_only_exact_lock_times_have_a_number
    L_refund chosen within the offer's limits
        test_a_chosen_delay_stays_within_the_offers_limits
        test_refund_lock_time_is_the_tip_plus_the_delay
    step >= 1
        test_offer_numbers_are_1_or_more
    both kinds exist
        test_the_threshold_tells_the_two_kinds_apart
    never compared with each other
        test_heights_and_times_are_never_compared
        test_a_height_looks_at_the_height_alone_and_a_time_at_the_median_time_alone
    height L final when the tip has it
        test_a_height_is_final_from_the_moment_that_the_tip_has_it
    time L final when the median time is greater
        test_a_time_is_final_only_when_the_median_time_is_greater
    both as the consensus engine has it
        test_payer_disappears_and_the_payee_collects_the_latest_update
    L_k already past is final at once
        test_a_lock_time_that_is_past_makes_the_update_final_at_once
    none below 1 or 500,000,000: exit 5, settle
        test_no_lock_time_falls_below_the_lowest_of_its_kind
        test_payer_out_of_updates_is_told_to_settle
    the payee refuses updates at L_0
        test_payee_takes_no_update_once_the_tip_has_reached_l_0
    the payer refuses to make them
        test_payer_makes_no_update_once_the_tip_has_reached_l_0
    a settlement is taken then
        test_a_settlement_is_made_and_taken_after_l_0
        test_26_after_l_0_a_settlement_still_serves
    nSequence 0xfffffffd and one version
        test_sequence_and_version_are_the_same_everywhere
    limits make sense, margin 18 blocks or 3 h
        test_offer_limits_must_make_sense
    default delay min(max, min + margin)
        test_default_delay_is_the_least_with_the_margin_on_top
    a block between does not spoil the request
        test_blocks_found_between_open_and_sign_refund_do_not_spoil_the_request
    fund refused when too little time is left
        test_fund_is_refused_when_too_little_time_is_left
        test_too_little_time_left_to_fund
    windows below 6 h need --force, regtest apart
        test_short_windows_need_force

Amounts and fees
    integers, 0 to 21e14, never floats
        test_amounts_out_of_range_or_of_another_type
    F = C + reserve
        test_funding_is_made_of_one_channel_output_worth_capacity_and_reserve
    ceil(rate * vsize / 1000)
        test_fees_are_rounded_up
    two signatures of 72 bytes; 169 and 138 vB
        test_sizes_that_the_design_names
        test_close_is_as_large_as_its_fee_says
        test_refund_is_as_large_as_its_fee_says
    the reserve always counts both outputs
        test_reserve_counts_both_outputs_also_where_one_is_left_out
    payer first, then payee, exactly
        test_update_is_the_refund_with_other_outputs_and_a_lower_lock_time
        test_exactly_the_allowed_transactions_pass
    an output of 0 is left out
        test_an_output_of_0_is_left_out
    the payer's dust is left out
        test_payers_change_below_dust_goes_to_the_fee
    paid below dust is refused
        test_first_payment_that_cannot_be
        test_31_the_first_update_must_reach_the_dust_limit
    dust limits are Bitcoin Core's
        test_dust_limits_are_bitcoin_cores
    the refund pays F - fee
        test_refund_pays_everything_but_its_fee_back_to_the_payer
    a funding change below dust
        test_a_change_below_dust_goes_to_the_fundings_fee
        test_a_funding_is_whole_paid_for_and_wastes_nothing
    an offer's rate within the payer's limits
        test_fee_rate_of_an_offer
        test_fee_rates_of_an_offer_by_the_payers_limits
    never below what the backend relays
        test_a_rate_that_the_backend_does_not_relay

Checking by rebuilding
    only the free variables are read
        test_a_request_establishes_exactly_the_payers_terms
        test_an_update_establishes_exactly_number_and_total
    the same bytes are required
        test_exactly_the_allowed_transactions_pass
        test_damaged_bytes_are_never_accepted
        test_every_single_bit_counts_or_is_ignored
    against the own sighash, not claimed amounts
        test_the_peers_claim_of_the_amount_is_never_used
    SIGHASH_ALL, strict DER, low S, the expected key
        test_hostile_update_is_refused
        test_hostile_settlement_is_refused
        test_hostile_reply_is_refused
    what must be refused
        test_hostile_request_is_refused
    required fields
        test_a_message_has_the_fields_that_the_design_names
        test_hostile_request_is_refused
    no signature in a request
        test_refund_request_holds_no_signature
    the payer's key is the one not the offer's
        test_the_payers_key_is_the_one_that_is_not_the_offers
    unknown and derivation fields ignored
        test_unknown_and_derivation_fields_are_ignored
    and not echoed
        test_unknown_fields_are_not_echoed
    the kind follows from the content
        test_lock_time_0_is_a_settlement_and_all_else_an_update
        test_settle_takes_no_update

What each party keeps
    what the files hold
        test_the_file_holds_what_the_design_says
        test_every_state_survives
    durable before the message leaves
        test_nothing_leaves_when_a_write_fails_and_the_repeat_succeeds
        test_each_command_saves_before_it_sends
        test_the_refund_is_saved_before_it_is_broadcast
    every command is idempotent, the same bytes
        test_every_step_twice_is_every_step_once
    except pay AMOUNT
        test_pay_amount_is_the_one_that_pays_again
    pay --last after a crash
        test_a_payment_by_amount_is_not_lost_when_its_message_is
    --total for scripts
        test_a_total_is_paid_once
    received_sat is 0 on a duplicate
        test_22_a_duplicate_counts_nothing
        test_40_one_update_accepted_by_many_is_counted_once
    only the payee holds a complete update
        test_62_only_a_broadcast_carries_the_payees_signature_of_a_payment
    exports carry the payer's signature alone
        test_what_the_payer_sends_is_never_complete
    the refund is signed once per channel
        test_10_one_offer_signs_one_refund
        test_the_scene_itself_is_good_and_then_used_up

Other constructions
    the construction is a value in the offer
        test_47_offers_that_make_no_sense
    one module per construction
        test_no_module_outside_knows_a_construction
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import mpchan

TESTS = Path(__file__).parent.parent
PAGE = Path(mpchan.__file__).parent / "guide" / "protocol.md"


def existing_tests() -> set[str]:
    """Every test function below the tests folder."""
    return {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_sentence_names_tests_that_exist() -> None:
    named = re.findall(r"test_\w+", __doc__ or "")
    assert len(named) > 100
    assert sorted(set(named) - existing_tests()) == []


def test_every_section_is_one_of_the_page() -> None:
    sections = [line for line in (__doc__ or "").splitlines()[1:] if line and not line.startswith(" ")]
    assert len(sections) == 6
    assert set(sections) <= set(re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE))


def test_every_sentence_names_a_test() -> None:
    lines = [line for line in (__doc__ or "").splitlines() if line.startswith("    ")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith("        "):
            assert following.startswith("        test_"), line
