"""What the payee finds on the chain, or is handed as the funding; and messages that come when it is too late.

The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hostile import Desk, Refusal, environment, same_verdict
from support.party import Pair
from support.protocol import bent, complete, message, payout, private_key, replace, scheme_of, sign, signed
from support.transcript import program

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.terms import Terms
from mpchan.party import payee
from mpchan.units import Amount, OutPoint


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(Pair(tmp_path, chain), folder)


def refused_update(desk: Desk, update: Psbt) -> Refusal:
    """What ``accept`` says of a flawless update, and ``verify`` too."""
    path = desk.file(update)
    found = desk.refused(desk.payee, "payee", "accept", path)
    same_verdict(desk, desk.payee, path, found)
    return found


def update_of(pair: Pair, terms: Terms, name: str, number: int = 1, paid: int = 1000) -> Psbt:
    """A flawless update under ``terms``, signed with the payer's key of channel ``name``."""
    return signed(terms, scheme_of(terms).update(number, Amount(paid)), pair.payer_secret(name))


# 16 and 17: what stands at the outpoint -----------------------------------------------------------


def other_outputs(
    desk: Desk, arrange: Callable[[tuple[TxOut, ...]], tuple[TxOut, ...]], vout: int
) -> Refusal:
    """A payer has a refund signed for one output and puts another one on the chain; then it pays flawlessly."""
    pair = desk.pair
    request = pair.request()
    name = f"{request.funding_txid}-0"
    record = pair.payer_record(name)
    planned = record.funding
    assert planned is not None
    transaction = replace(planned, outputs=arrange(planned.outputs))
    terms = replace(record.terms, outpoint=OutPoint(transaction.txid, vout))
    payee.sign_refund(pair.payee, pair.chain, message(terms, scheme_of(terms).refund()))
    spent = record.state.spent
    pair.chain.broadcast(pair.payer.keys.sign_coins(transaction, spent))
    pair.chain.mine(1)
    return refused_update(desk, update_of(pair, terms, name))


def first(**changes: object) -> Callable[[tuple[TxOut, ...]], tuple[TxOut, ...]]:
    return lambda outputs: (replace(outputs[0], **changes), *outputs[1:])


def one_key_changed(outputs: tuple[TxOut, ...]) -> tuple[TxOut, ...]:
    return (replace(outputs[0], script_pubkey=payout("p2wsh", "stranger")), *outputs[1:])


ON_CHAIN: dict[str, tuple[Callable[[tuple[TxOut, ...]], tuple[TxOut, ...]], int, str, int]] = {
    "16 another witness script": (one_key_changed, 0, "funding-script", 4),
    "16 a single key's script": (first(script_pubkey=payout("p2wpkh", "payer")), 0, "funding-script", 4),
    "16 the change instead": (lambda outputs: outputs[::-1], 0, "funding-script", 4),
    # the chain cannot tell an output that will never be from one that nobody has seen yet: so this is "too early"
    "16 no such output": (lambda outputs: outputs, 5, "funding-unseen", 6),
    "17 a satoshi less": (
        lambda outputs: first(value=outputs[0].value - Amount(1))(outputs),
        0,
        "funding-value",
        4,
    ),
    "17 a satoshi more, from the fee": (
        lambda outputs: first(value=outputs[0].value + Amount(1))(
            (outputs[0], replace(outputs[1], value=outputs[1].value - Amount(1)))
        ),
        0,
        "funding-value",
        4,
    ),
    "17 next to nothing": (
        lambda outputs: first(value=dust_limit(outputs[0].script_pubkey))(outputs),
        0,
        "funding-value",
        4,
    ),
}


@pytest.mark.parametrize("name", ON_CHAIN)
def test_hostile_funding_is_refused(desk: Desk, name: str) -> None:
    arrange, vout, slug, code = ON_CHAIN[name]
    error = other_outputs(desk, arrange, vout)
    assert (error.slug, error.exit_code) == (slug, code), error.message


# 18 and 19: how deep, and for how long ------------------------------------------------------------


def test_18_in_no_block_yet_and_not_deep_enough(desk: Desk) -> None:
    pair = desk.pair
    request = pair.request(min_confirmations=3, min_refund_delay=30)
    name = f"{request.funding_txid}-0"
    reply = pair.sign_refund(request.hex)
    update = update_of(pair, pair.terms(name), name)
    assert refused_update(desk, update).slug == "funding-unseen"
    pair.fund(reply)
    for depth in range(3):
        error = refused_update(desk, update)
        assert (error.slug, error.exit_code) == ("unconfirmed", 6)
        assert error.message == f"confirmations of the funding: expected at least 3, found {depth}"
        pair.chain.mine(1)
    assert desk.done(desk.payee, "payee", "accept", desk.file(update))["paid_sat"] == 1000


def test_19_spent_already(desk: Desk) -> None:
    """Only the payee's own signature could have spent it so: an older copy of its wallet meets this."""
    pair = desk.pair
    name = pair.open()
    terms = pair.terms(name)
    closing = scheme_of(terms).settlement(Amount(5000))
    signatures = [
        sign(secret, terms, closing) for secret in (pair.payer_secret(name), pair.payee_secret(name))
    ]
    pair.chain.broadcast(complete(terms, closing, *signatures))
    update = update_of(pair, terms, name)
    for _ in range(2):  # in the mempool and in a block
        error = refused_update(desk, update)
        assert (error.slug, error.exit_code) == ("funding-spent", 4)
        pair.chain.mine(1)


def test_19_spent_by_the_refund(desk: Desk) -> None:
    pair = desk.pair
    name = pair.open()
    terms = pair.terms(name)
    update = update_of(pair, terms, name)
    pair.mine_to(terms.refund_lock_time.value)
    pair.refund(name)
    for status in ("refunding", "refunded"):
        error = refused_update(desk, update)
        assert (error.slug, error.exit_code) == (f"channel-{status}", 5)
        pair.chain.mine(1)


@pytest.mark.parametrize("replaced", [False, True])
def test_19_reorganised_away_since(chain_directory: Path, tmp_path: Path, replaced: bool) -> None:
    """The block is gone: the funding waits again, or a rival took its coin and it will never come."""
    (tmp_path / "desk").mkdir()
    with EmbeddedChain(tmp_path / "chain") as chain:  # of its own: nobody else's blocks go away
        desk = Desk(Pair(tmp_path, chain), tmp_path / "desk")
        pair = desk.pair
        name = pair.open()
        update = update_of(pair, pair.terms(name), name)
        chain.reorganise(1, [_rival(pair, name)] if replaced else [])
        error = refused_update(desk, update)
        assert (error.slug, error.exit_code) == ("funding-unseen" if replaced else "unconfirmed", 6)


def _rival(pair: Pair, name: str) -> Transaction:
    """Another spend of the coin that the funding spends."""
    record = pair.payer_record(name)
    funding = record.funding
    assert funding is not None
    back = TxOut(Amount(500_000), payout("p2wpkh", "payer"))
    rival = replace(funding.without_witness(), outputs=(back,))
    return pair.payer.keys.sign_coins(rival, record.state.spent)


# 20: by file --------------------------------------------------------------------------------------


def test_20_a_funding_by_file_that_is_not_the_refunds(desk: Desk) -> None:
    """A txid commits to every output, so another output of the same txid cannot be; only the number can be wrong."""
    pair = desk.pair
    request = pair.request()
    record = pair.payer_record(f"{request.funding_txid}-0")
    planned = record.funding
    assert planned is not None
    terms = replace(record.terms, outpoint=OutPoint(planned.txid, len(planned.outputs)))
    payee.sign_refund(pair.payee, pair.chain, message(terms, scheme_of(terms).refund()))
    cases = {
        "an output that it has not": (planned, "funding-output"),
        "another lock time": (bent(planned, lock_time=7), "unknown-channel"),
        "another value": (
            replace(planned, outputs=first(value=Amount(9999))(planned.outputs)),
            "unknown-channel",
        ),
        "somebody's transaction": (
            Transaction(2, planned.inputs, (TxOut(Amount(1), b"\x51"),), 0),
            "unknown-channel",
        ),
    }
    for name, (transaction, slug) in cases.items():
        path = desk.file(transaction)
        error = desk.refused(desk.payee, "payee", "funding", path)
        assert (error.slug, error.exit_code) == (slug, 4), name
        same_verdict(desk, desk.payee, path, error)


@pytest.mark.parametrize("change", ["script", "value"])
def test_20_the_refund_names_an_output_that_is_no_channel(desk: Desk, change: str) -> None:
    pair = desk.pair
    request = pair.request()
    record = pair.payer_record(f"{request.funding_txid}-0")
    planned = record.funding
    assert planned is not None
    bend = {"script_pubkey": payout("p2wsh", "x")} if change == "script" else {"value": Amount(99_999)}
    transaction = replace(planned, outputs=first(**bend)(planned.outputs))
    terms = replace(record.terms, outpoint=OutPoint(transaction.txid, 0))
    payee.sign_refund(pair.payee, pair.chain, message(terms, scheme_of(terms).refund()))
    path = desk.file(transaction)
    error = desk.refused(desk.payee, "payee", "funding", path)
    assert (error.slug, error.exit_code) == (f"funding-{change}", 4)
    same_verdict(desk, desk.payee, path, error)


# 22, 26 and 39: twice, and too late ---------------------------------------------------------------


def test_22_the_same_update_again_counts_nothing(desk: Desk) -> None:
    pair = desk.pair
    name = pair.open()
    path = desk.file(pair.pay(name, 1000))
    taken = desk.done(desk.payee, "payee", "accept", path)
    assert (taken["received_sat"], taken["paid_sat"], taken["duplicate"]) == (1000, 1000, False)
    after = pair.files()
    again = desk.done(desk.payee, "payee", "accept", path)
    assert (again["received_sat"], again["paid_sat"], again["duplicate"]) == (0, 1000, True)
    assert pair.files() == after


def test_25_numbers_may_be_left_out(desk: Desk) -> None:
    """The payee need not have seen every update: this is no hostile input."""
    pair = desk.pair
    name = pair.open(step=2)
    terms = pair.terms(name)
    for number, paid in ((3, 1000), (9, 1001)):
        update = desk.file(update_of(pair, terms, name, number, paid))
        assert desk.done(desk.payee, "payee", "accept", update)["update"] == number


@pytest.mark.parametrize("held", [False, True])
def test_26_an_update_at_the_deadline(desk: Desk, held: bool) -> None:
    pair = desk.pair
    name = pair.open()
    terms = pair.terms(name)
    deadline = scheme_of(terms).deadline.value
    pair.mine_to(deadline - 1)
    if held:  # one block earlier it is taken
        taken = desk.done(desk.payee, "payee", "accept", desk.file(update_of(pair, terms, name)))
        assert taken["paid_sat"] == 1000
    pair.mine_to(deadline)
    late = update_of(pair, terms, name, 2, 2000)
    error = refused_update(desk, late)
    assert (error.slug, error.exit_code) == ("past-deadline", 5)
    # a settlement still serves the payee, and is taken; what is new in it counts once it is confirmed
    settlement = signed(terms, scheme_of(terms).settlement(Amount(2000)), pair.payer_secret(name))
    closed = desk.done(desk.payee, "payee", "settle", desk.file(settlement))
    sure = 1000 if held else 0
    assert (closed["kind"], closed["broadcast"]) == ("settlement", True)
    assert (closed["paid_sat"], closed["pending_sat"]) == (sure, 2000 - sure)
    pair.chain.mine(1)
    shown = desk.done(desk.payee, "show", name)
    assert (shown["paid_sat"], shown["pending_sat"]) == (2000, 0)


@pytest.mark.parametrize("kind", ["update", "settlement"])
def test_39_a_message_for_a_channel_that_has_ended(desk: Desk, kind: str) -> None:
    """Settling, and closed: nothing more is taken, be it ever so generous."""
    pair = desk.pair
    name = pair.open()
    terms = pair.terms(name)
    pair.settle(pair.settlement(name, 1000))
    generous = scheme_of(terms).update(5, Amount(90_000))
    if kind == "settlement":
        generous = scheme_of(terms).settlement(Amount(90_000))
    hostile = signed(terms, generous, pair.payer_secret(name))
    for status in ("settling", "closed"):
        error = refused_update(desk, hostile)
        assert (error.slug, error.exit_code) == (f"channel-{status}", 5)
        pair.chain.mine(1)


@pytest.mark.parametrize("kind", ["update", "settlement"])
def test_39_a_message_for_a_channel_that_was_refunded(desk: Desk, kind: str) -> None:
    pair = desk.pair
    name = pair.open()
    terms = pair.terms(name)
    pair.accept(update_of(pair, terms, name).to_hex())
    pair.mine_to(terms.refund_lock_time.value)
    pair.refund(name)
    pair.chain.mine(1)
    late = (
        scheme_of(terms).update(5, Amount(90_000))
        if kind == "update"
        else scheme_of(terms).settlement(Amount(90_000))
    )
    error = refused_update(desk, signed(terms, late, pair.payer_secret(name)))
    assert (error.slug, error.exit_code) == ("channel-refunded", 5)


def test_39_a_message_for_an_opening_that_was_given_up(desk: Desk) -> None:
    pair = desk.pair
    request = pair.request()
    pair.sign_refund(request.hex)
    name = f"{request.funding_txid}-0"
    payee.abandon(pair.payee, pair.chain, name)
    error = refused_update(desk, update_of(pair, pair.terms(name), name))
    assert (error.slug, error.exit_code) == ("channel-abandoned", 5)


# 40: two at once ----------------------------------------------------------------------------------


def test_40_one_file_taken_by_processes_at_once(desk: Desk) -> None:
    """All of them end well, and one of them counts it."""
    pair = desk.pair
    name = pair.open()
    path = desk.file(pair.pay(name, 1000))
    words = [str(program()), "--wallet", str(desk.payee), "payee", "accept", str(path), "--json"]
    running = [
        subprocess.Popen(words, env=environment(desk.chain), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    answers = []
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, b"")
        answers.append(json.loads(out))
    assert [answer["paid_sat"] for answer in answers] == [1000] * 4
    assert sorted(answer["received_sat"] for answer in answers) == [0, 0, 0, 1000]
    assert [answer["duplicate"] for answer in answers].count(False) == 1
    assert pair.payee_record(name).paid == Amount(1000)


def test_35_another_payers_update_is_none_of_this_channel(desk: Desk) -> None:
    """The right transaction under a key that is not in the script."""
    pair = desk.pair
    name = pair.open()
    terms = pair.terms(name)
    foreign = signed(terms, scheme_of(terms).update(1, Amount(1000)), private_key("another payer"))
    error = refused_update(desk, foreign)
    assert (error.slug, error.exit_code) == ("missing-signature", 4)
