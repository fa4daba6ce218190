"""Files of another wallet that must be refused: each test breaks one rule. Nothing changes on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import foreign_wallet as foreign
from support.external import CAPACITY, External, name_of, refused
from support.foreign_wallet import (
    OTHER_KEY,
    P2TR,
    P2WPKH,
    P2WSH,
    SEC,
    coin,
    finalized,
    partly_signed,
    payment,
    psbt_of,
    signed,
    spent_by,
)
from support.psbts import with_pairs

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.psbt_fields import IN_FINAL_SCRIPT_SIG, IN_FINAL_SCRIPT_WITNESS, IN_SIGHASH_TYPE
from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import segwit_v0_sighash
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.channel.foreign_funding import Message
from mpchan.party import payer
from mpchan.party.common import read_psbt
from mpchan.party.opening.external import open_funding
from mpchan.units import Amount, OutPoint, Txid
from mpchan.values import replace


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[External]:
    with EmbeddedChain(chain_directory) as chain:
        yield External(tmp_path, chain)


def refuses(pair: External, message: Message, slug: str, code: int = 4, **options: object) -> str:
    """It is refused for that reason, and nothing changes; the error's text."""
    before = pair.files()
    with pytest.raises(Exception) as error:  # noqa: PT011, the next line says which
        pair.take(message, **options)
    assert (getattr(error.value, "slug", repr(error.value)), error.value.exit_code) == (slug, code)  # type: ignore[attr-defined]
    assert pair.files() == before
    return str(error.value)


def funding_of(pair: External, script: bytes = P2WPKH, **options: int) -> Transaction:
    """A good one, but for what is asked for."""
    return payment(pair.chain, [coin(pair.chain, script)], pair.output(), **options)


# the output ---------------------------------------------------------------------------------------


def test_no_output_to_the_channel(pair: External) -> None:
    pair.plan()
    refuses(pair, payment(pair.chain, [coin(pair.chain, P2WPKH)]), "no-plan", 5)


def test_two_outputs_to_the_channel(pair: External) -> None:
    """The change must not pay to it either: the refund spends one of them only."""
    output = pair.output()
    refuses(pair, payment(pair.chain, [coin(pair.chain, P2WPKH)], output, output), "output-count")
    small = replace(output, value=Amount(1_000))
    refuses(pair, payment(pair.chain, [coin(pair.chain, P2WPKH)], output, small), "output-count")


def test_outputs_to_two_channels(pair: External) -> None:
    first = pair.output()
    plan = pair.plan(CAPACITY + 1)

    second = TxOut(Amount(plan.amount_sat), address_to_script(plan.address, REGTEST))
    refuses(pair, payment(pair.chain, [coin(pair.chain, P2WPKH)], first, second), "output-count")


@pytest.mark.parametrize("difference", [-1, 1, -338])
def test_another_value(pair: External, difference: int) -> None:
    output = pair.output()
    wrong = replace(output, value=Amount(output.value.sat + difference))
    text = refuses(pair, payment(pair.chain, [coin(pair.chain, P2WPKH)], wrong), "funding-value")
    assert f"expected {output.value}, found {wrong.value}" in text


def test_a_change_of_dust(pair: External) -> None:
    limited(pair, 10_000)
    rest = 1_000_000 - pair.output().value.sat - 293
    refuses(pair, funding_of(pair, fee=rest), "below-dust")
    pair.take(funding_of(pair, fee=rest - 1))


def test_another_offer_or_amount_than_named(pair: External) -> None:
    funding = funding_of(pair)
    refuses(pair, funding, "wrong-offer", 2, offer_text=pair.offer())
    refuses(pair, funding, "wrong-amount", 2, capacity=Amount(CAPACITY + 1))
    pair.take(funding, offer_text=pair.offer_text, capacity=Amount(CAPACITY))


# the inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", [foreign.P2PKH, foreign.P2SH_P2WPKH, foreign.FUTURE], ids=["p2pkh", "p2sh", "witness-v2"]
)
def test_inputs_that_are_not_native_segwit(pair: External, script: bytes) -> None:
    """A scriptSig is part of the txid; and of a future witness version nobody knows the rules."""
    funding = funding_of(pair, script)
    refuses(pair, funding, "not-native-segwit")
    refuses(pair, psbt_of(pair.chain, funding), "not-native-segwit")
    mixed = payment(pair.chain, [coin(pair.chain, P2WPKH), coin(pair.chain, script)], pair.output())
    refuses(pair, mixed, "not-native-segwit")


def test_a_script_sig_in_the_transaction(pair: External) -> None:
    funding = funding_of(pair)
    with_script_sig = replace(funding, inputs=(replace(funding.inputs[0], script_sig=b"\x51"),))
    refuses(pair, with_script_sig, "script-sig")


def test_a_script_sig_in_the_psbt(pair: External) -> None:
    psbt = psbt_of(pair.chain, funding_of(pair))
    refuses(pair, with_field(psbt, IN_FINAL_SCRIPT_SIG, b"\x51"), "script-sig")
    pair.take(with_field(psbt, IN_FINAL_SCRIPT_SIG, b""))


def with_field(psbt: Psbt, kind: int, value: bytes, index: int = 0) -> Psbt:
    return with_pairs(psbt, index, {bytes([kind]): value})


@pytest.mark.parametrize("script", [P2WPKH, P2WSH, P2TR], ids=["p2wpkh", "p2wsh", "p2tr"])
@pytest.mark.parametrize("kind", [2, 3, 0x81, 0x82, 0x83])
def test_a_sighash_type_that_leaves_room(pair: External, script: bytes, kind: int) -> None:
    """NONE, SINGLE or ANYONECANPAY: asked for, in a signature, and in a final witness."""
    funding = funding_of(pair, script)
    psbt = psbt_of(pair.chain, funding)
    refuses(pair, with_field(psbt, IN_SIGHASH_TYPE, kind.to_bytes(4, "little")), "sighash-type")
    refuses(pair, partly_signed(pair.chain, psbt, kind), "sighash-type")
    complete = signed(pair.chain, funding, kind)
    refuses(pair, complete, "sighash-type")
    refuses(pair, finalized(psbt, complete), "sighash-type")


def test_default_is_taproots_alone(pair: External) -> None:
    for script, slug in ((P2TR, None), (P2WPKH, "sighash-type")):
        psbt = with_field(psbt_of(pair.chain, funding_of(pair, script)), IN_SIGHASH_TYPE, bytes(4))
        if slug is None:
            request = pair.take(psbt)

            payer.abandon(pair.payer, pair.chain, name_of(request))
        else:
            refuses(pair, psbt, slug)


def test_one_coin_twice(pair: External) -> None:
    outpoint = coin(pair.chain, P2WPKH)
    refuses(pair, payment(pair.chain, [outpoint, outpoint], pair.output()), "duplicate-input")


def test_a_psbt_that_lies_about_what_it_spends(pair: External) -> None:
    funding = funding_of(pair)
    psbt = psbt_of(pair.chain, funding)
    [output] = spent_by(pair.chain, funding)
    lies = (
        replace(output, value=output.value + Amount(1)),
        replace(output, script_pubkey=key_to_p2wpkh_script(OTHER_KEY.public_key.sec)),
    )
    for lie in lies:
        refuses(pair, psbt.with_input_fields(0, witness_utxo=lie), "psbt-mismatch")
        whole = psbt_of(pair.chain, funding, whole=True).with_input_fields(0, witness_utxo=lie)
        refuses(pair, whole, "psbt-mismatch")


def test_a_coin_that_is_not_there(pair: External) -> None:
    funding = funding_of(pair)
    elsewhere = OutPoint(Txid(b"\x05" * 32), 0)
    missing = replace(funding, inputs=(replace(funding.inputs[0], outpoint=elsewhere),))
    refuses(pair, missing, "coin-unknown", 5)


def test_a_coin_that_is_spent(pair: External) -> None:
    outpoint, output = coin(pair.chain, P2WPKH), pair.output()
    funding = payment(pair.chain, [outpoint], output)
    pair.chain.broadcast(signed(pair.chain, payment(pair.chain, [outpoint])))
    refuses(pair, funding, "coin-spent", 5)
    pair.chain.mine(1)
    refuses(pair, funding, "coin-spent", 5)


def test_a_coin_that_is_not_confirmed(pair: External) -> None:
    """Whoever sent it could replace it, and the funding would vanish with it."""
    outpoint = coin(pair.chain, P2WPKH, mine=False)
    funding = payment(pair.chain, [outpoint], pair.output())
    refuses(pair, funding, "coin-unconfirmed", 6)
    pair.chain.mine(1)
    pair.take(funding)


def test_a_coin_of_another_channel(pair: External) -> None:
    outpoint = coin(pair.chain, P2WPKH)
    pair.take(payment(pair.chain, [outpoint], pair.output()))
    pair.offer_text = pair.offer()
    refuses(pair, payment(pair.chain, [outpoint], pair.output()), "coin-reserved", 5)


# lock times and fees ------------------------------------------------------------------------------


def test_a_lock_time_that_has_not_come(pair: External) -> None:
    height = pair.chain.tip().height + 1
    for lock_time in (height + 1, 4_000_000_000):
        refuses(pair, funding_of(pair, lock_time=lock_time), "non-final", 6)
    final = funding_of(pair, lock_time=height + 10, sequence=0xFFFFFFFF)  # no input lets it bind
    pair.take(final)


def test_a_lock_time_that_has_come(pair: External) -> None:
    """As Bitcoin Core sets it against fee sniping."""
    funding = payment(
        pair.chain, [coin(pair.chain, P2WPKH)], pair.output(), lock_time=pair.chain.tip().height
    )
    request = pair.take(funding)
    assert pair.fund(pair.sign_refund(request.hex), signed=signed(pair.chain, funding)).broadcast


def test_a_relative_lock_time(pair: External) -> None:
    outpoint = coin(pair.chain, P2WPKH)  # one confirmation
    for sequence in (2, 1 << 22 | 1):
        refuses(pair, payment(pair.chain, [outpoint], pair.output(), sequence=sequence), "non-final", 6)
    pair.take(payment(pair.chain, [outpoint], pair.output(), sequence=1))


def test_a_relative_lock_time_binds_from_version_2_on(pair: External) -> None:
    funding = funding_of(pair, sequence=2, version=1)
    request = pair.take(funding)
    assert pair.fund(pair.sign_refund(request.hex), signed=signed(pair.chain, funding)).broadcast


def test_a_fee_below_what_is_relayed(pair: External) -> None:
    refuses(pair, funding_of(pair, fee=-1), "funding-fee")
    refuses(pair, funding_of(pair, fee=100), "funding-fee")


def test_a_fee_that_the_signatures_make_too_low(pair: External) -> None:
    funding = funding_of(pair, fee=0)
    vsize = signed(pair.chain, funding).vsize
    [change, output] = funding.outputs
    low = replace(funding, outputs=(replace(change, value=Amount(change.value.sat - vsize + 5)), output))
    reply = pair.sign_refund(pair.take(low).hex)
    before = pair.files()
    assert refused(lambda: pair.fund(reply, signed=signed(pair.chain, low))) == ("funding-fee", 4)
    assert pair.files() == before


def priced(pair: External, rate: int, vsize: int, more: int = 0) -> Transaction:
    """A funding that pays ``rate`` sat/vB for a size, and so much more."""
    return funding_of(pair, fee=rate * vsize + more)


def of_that_size(pair: External, vsize: int, more: int = 0) -> Transaction:
    """One that pays 50 sat/vB, and so much more, and has that size: one signature in a hundred is a byte shorter."""
    made = (priced(pair, 50, vsize, more) for _ in range(50))
    return next(funding for funding in made if signed(pair.chain, funding).vsize == vsize)


def limited(pair: External, rate: int) -> None:
    """The payer's wallet allows so much, in sat/vB."""
    path = pair.payer.directory / "wallet.toml"
    text = re.sub(r"max_fee_rate = \d+", f"max_fee_rate = {rate * 1000}", path.read_text())
    path.write_text(text)
    pair.restart()


def test_a_fee_far_above_the_limit_because_the_change_was_forgotten(pair: External) -> None:
    """919,155 sat for a channel of 80,000 were taken, and broadcast."""
    plan = pair.plan(80_000)
    output = TxOut(Amount(plan.amount_sat), address_to_script(plan.address, REGTEST))
    bare = payment(pair.chain, [coin(pair.chain, P2WPKH, 1_000_000)], output)
    forgetful = replace(bare, outputs=(output,))
    text = refuses(pair, psbt_of(pair.chain, forgetful), "funding-fee-high")
    assert "919662" in text
    refuses(pair, forgetful, "funding-fee-high")
    refuses(pair, signed(pair.chain, forgetful), "funding-fee-high")
    limited(pair, 10_000)  # the user's word, where it is meant so
    request = pair.take(forgetful)
    assert pair.fund(pair.sign_refund(request.hex), signed=signed(pair.chain, forgetful)).broadcast


@pytest.mark.parametrize("script", [P2WPKH, P2TR, P2WSH], ids=["p2wpkh", "p2tr", "p2wsh"])
def test_the_highest_fee_while_signatures_are_missing(pair: External, script: bytes) -> None:
    """110 vB stand for the witness of an input; with the signatures the limit holds exactly."""
    limited(pair, 50)
    bare = len(funding_of(pair, script).to_bytes(include_witness=False))
    refuses(pair, priced(pair, 50, bare + 110, 1), "funding-fee-high")
    generous = funding_of(pair, script, fee=50 * (bare + 110))
    reply = pair.sign_refund(pair.take(psbt_of(pair.chain, generous)).hex)
    before = pair.files()
    complete = signed(pair.chain, generous)
    for given in (complete, partly_signed(pair.chain, psbt_of(pair.chain, generous))):
        assert refused(lambda given=given: pair.fund(reply, signed=given)) == ("funding-fee-high", 4)  # type: ignore[misc]
    assert pair.files() == before
    limited(pair, 300)
    assert pair.fund(reply, signed=complete).broadcast


def test_the_highest_fee_of_what_is_signed(pair: External) -> None:
    limited(pair, 50)
    vsize = max(signed(pair.chain, funding_of(pair)).vsize for _ in range(3))
    exact = of_that_size(pair, vsize)
    whole = finalized(psbt_of(pair.chain, exact), signed(pair.chain, exact))
    above = of_that_size(pair, vsize, 1)
    refuses(pair, signed(pair.chain, above), "funding-fee-high")
    refuses(pair, finalized(psbt_of(pair.chain, above), signed(pair.chain, above)), "funding-fee-high")
    assert signed(pair.chain, exact).vsize == vsize
    reply = pair.sign_refund(pair.take(whole).hex)
    assert pair.fund(reply, signed=whole).broadcast


@pytest.mark.parametrize("mined", [0, 1])
def test_of_a_funding_that_has_left_the_fee_is_no_reason_to_leave_it_without_refund(
    pair: External, mined: int
) -> None:
    limited(pair, 50)
    funding = funding_of(pair, fee=20_000)
    pair.chain.broadcast(signed(pair.chain, funding))
    pair.chain.mine(mined)
    request = pair.take(funding)
    assert pair.fund(pair.sign_refund(request.hex)).broadcast


# where no chain is asked --------------------------------------------------------------------------


def manual(pair: External) -> ManualChain:
    return ManualChain(pair.chain.tip())


def test_without_a_chain_the_file_itself_must_prove_its_coins(pair: External) -> None:

    funding, chain = funding_of(pair), manual(pair)
    for message, slug in (
        (funding, "missing-utxo"),
        (Psbt.create(funding), "missing-utxo"),
        (psbt_of(pair.chain, funding), "coin-unproven"),
    ):
        assert refused(lambda given=message: open_funding(pair.payer, chain, given)) == (slug, 5)  # type: ignore[misc]
    assert open_funding(pair.payer, chain, psbt_of(pair.chain, funding, whole=True)).funding_vout == 1


def test_without_a_chain_to_the_signed_funding(pair: External) -> None:
    """A wallet that asks no chain can be payer now; its user broadcasts."""

    funding, chain = funding_of(pair, P2TR), manual(pair)
    request = open_funding(pair.payer, chain, psbt_of(pair.chain, funding))
    reply = read_psbt(pair.sign_refund(request.hex).encode())
    result = payer.fund(pair.payer, chain, reply, signed=signed(pair.chain, funding, 0))
    assert result.broadcast is False
    pair.chain.broadcast(Transaction.from_hex(result.hex))  # type: ignore[arg-type]
    pair.chain.mine(1)
    assert pair.status(name_of(request)) == ("open", "open")


def test_without_a_chain_a_coin_of_the_old_kind(pair: External) -> None:

    whole = psbt_of(pair.chain, funding_of(pair, foreign.P2PKH), whole=True)
    assert refused(lambda: open_funding(pair.payer, manual(pair), whole)) == ("not-native-segwit", 4)


# the signed funding -------------------------------------------------------------------------------


@pytest.fixture
def asked(pair: External) -> tuple[External, Transaction, str]:
    """A funding that spends three kinds of coins, and the payee's answer."""
    coins = [coin(pair.chain, script) for script in (P2WPKH, P2WSH, P2TR)]
    funding = payment(pair.chain, coins, pair.output())
    return pair, funding, pair.sign_refund(pair.take(funding).hex)


def test_a_good_one_is_taken(asked: tuple[External, Transaction, str]) -> None:
    pair, funding, reply = asked
    assert pair.fund(reply, signed=signed(pair.chain, funding)).broadcast is True


def test_none_at_all(asked: tuple[External, Transaction, str]) -> None:
    pair, _, reply = asked
    before = pair.files()
    assert refused(lambda: pair.fund(reply)) == ("funding-needed", 5)
    assert pair.files() == before


def test_one_where_this_wallet_signs(pair: External) -> None:
    pair.coin()
    reply = pair.sign_refund(pair.request(offer=pair.offer()).hex)
    own = funding_of(pair)
    before = pair.files()
    assert refused(lambda: pair.fund(reply, signed=own)) == ("own-funding", 2)
    assert pair.files() == before


def _other_output(funding: Transaction) -> Transaction:
    [change, output] = funding.outputs
    return replace(funding, outputs=(replace(change, value=Amount(change.value.sat - 1)), output))


def _other_sequence(funding: Transaction) -> Transaction:
    return replace(funding, inputs=tuple(replace(source, sequence=0) for source in funding.inputs))


def _fewer_inputs(funding: Transaction) -> Transaction:
    return replace(funding, inputs=funding.inputs[:2])


@pytest.mark.parametrize("change", [_other_output, _other_sequence, _fewer_inputs])
def test_another_transaction(
    asked: tuple[External, Transaction, str], change: Callable[[Transaction], Transaction]
) -> None:
    """Another fee makes another txid, and the refund is for the first."""
    pair, funding, reply = asked
    other = change(funding)
    before = pair.files()
    for message in (signed(pair.chain, other), psbt_of(pair.chain, other)):
        assert refused(lambda given=message: pair.fund(reply, signed=given)) == ("funding-changed", 5)  # type: ignore[misc]
    assert pair.files() == before


def test_it_comes_back_unsigned(asked: tuple[External, Transaction, str]) -> None:
    pair, funding, reply = asked
    before = pair.files()
    for message in (funding, psbt_of(pair.chain, funding)):
        assert refused(lambda given=message: pair.fund(reply, signed=given)) == ("missing-signature", 5)  # type: ignore[misc]
    assert pair.files() == before


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_input_is_not_signed(asked: tuple[External, Transaction, str], index: int) -> None:
    pair, funding, reply = asked
    complete = signed(pair.chain, funding)
    psbt = psbt_of(pair.chain, funding)
    ready = partly_signed(pair.chain, psbt)
    inputs = list(ready.inputs)
    inputs[index] = psbt.inputs[index]
    before = pair.files()
    for message in (complete.with_witness(index, ()), replace(ready, inputs=tuple(inputs))):
        assert refused(lambda given=message: pair.fund(reply, signed=given)) == ("missing-signature", 5)  # type: ignore[misc]
    assert pair.files() == before


def test_a_script_sig_beside_the_signatures(asked: tuple[External, Transaction, str]) -> None:
    """It would make another txid than the refund spends, and no signature covers it."""
    pair, funding, reply = asked
    psbt = psbt_of(pair.chain, funding)
    before = pair.files()
    for index in range(3):
        for ready in (partly_signed(pair.chain, psbt), finalized(psbt, signed(pair.chain, funding))):
            bad = with_field(ready, IN_FINAL_SCRIPT_SIG, b"\x51", index)
            assert refused(lambda given=bad: pair.fund(reply, signed=given)) == ("script-sig", 4)  # type: ignore[misc]
        complete = signed(pair.chain, funding)
        inputs = list(complete.inputs)
        inputs[index] = replace(inputs[index], script_sig=b"\x51")
        other = replace(complete, inputs=tuple(inputs))
        assert refused(lambda given=other: pair.fund(reply, signed=given)) == ("funding-changed", 5)  # type: ignore[misc]
    assert pair.files() == before


def _flipped(item: bytes) -> bytes:
    return item[:20] + bytes([item[20] ^ 1]) + item[21:]


def _of_other_key(stack: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (stack[0], OTHER_KEY.public_key.sec)


WRONG_STACKS: list[tuple[int, Callable[[tuple[bytes, ...]], tuple[bytes, ...]], str]] = [
    (0, lambda stack: (_flipped(stack[0]), stack[1]), "signature"),
    (0, _of_other_key, "signature"),
    (0, lambda stack: (*stack, b""), "signature"),
    (0, lambda stack: (stack[0][:-1] + b"\x02", stack[1]), "sighash-type"),
    (0, lambda stack: (b"", stack[1]), "sighash-type"),
    (1, lambda stack: (b"", _flipped(stack[1]), stack[2]), "signature"),
    (1, lambda stack: (b"\x01", stack[1], stack[2]), "signature"),
    (1, lambda stack: (b"", stack[1], stack[1], stack[2]), "signature"),
    (1, lambda stack: (b"", stack[1], b"\x51"), "witness-script"),
    (1, lambda stack: (b"", stack[1][:-1] + b"\x81", stack[2]), "sighash-type"),
    (2, lambda stack: (_flipped(stack[0]),), "signature"),
    (2, lambda stack: (stack[0][:-1] + b"\x00",), "sighash-type"),
    (2, lambda stack: (stack[0][:-1],), "signature"),  # DEFAULT signs another digest
    (2, lambda stack: (stack[0][:63],), "signature"),
    (2, lambda stack: (*stack, b"\x50"), "signature"),  # an annex
    (2, lambda stack: (stack[0][:-1] + b"\x03",), "sighash-type"),
]


@pytest.mark.parametrize(("index", "change", "slug"), WRONG_STACKS)
def test_a_witness_that_is_wrong(
    asked: tuple[External, Transaction, str],
    index: int,
    change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]],
    slug: str,
) -> None:
    pair, funding, reply = asked
    complete = signed(pair.chain, funding)
    wrong = complete.with_witness(index, change(complete.inputs[index].witness))
    psbt = finalized(psbt_of(pair.chain, funding), wrong)
    before = pair.files()
    for message in (wrong, psbt):
        assert refused(lambda given=message: pair.fund(reply, signed=given)) == (slug, 4)  # type: ignore[misc]
    assert pair.files() == before
    assert pair.fund(reply, signed=complete).broadcast is True


def test_a_stranger_signs_with_a_key_of_its_own(asked: tuple[External, Transaction, str]) -> None:
    """Its signature is right, but the coin is not its."""
    pair, funding, reply = asked
    [output, *_] = spent_by(pair.chain, funding)
    digest = segwit_v0_sighash(funding, 0, p2wpkh_script_code(output.script_pubkey), output.value)
    stack = (OTHER_KEY.sign(digest) + b"\x01", OTHER_KEY.public_key.sec)
    wrong = signed(pair.chain, funding).with_witness(0, stack)
    assert refused(lambda: pair.fund(reply, signed=wrong)) == ("signature", 4)


def test_the_signature_of_another_key_in_a_psbt(asked: tuple[External, Transaction, str]) -> None:
    pair, funding, reply = asked
    psbt = partly_signed(pair.chain, psbt_of(pair.chain, funding))
    wrong = psbt.with_input_fields(0, partial_sigs={SEC: psbt.inputs[1].partial_sigs[SEC]})
    before = pair.files()
    assert refused(lambda: pair.fund(reply, signed=wrong)) == ("signature", 4)
    assert pair.files() == before


def test_a_script_of_an_unknown_kind_is_left_to_the_chain(pair: External) -> None:
    """Its signatures cannot be verified here; better ones can be handed in later."""
    funding = funding_of(pair, foreign.P2WSH_ANYONES)
    reply = pair.sign_refund(pair.take(funding).hex)
    bad = funding.with_witness(0, (b"\x01", foreign.ANYONES))  # not a clean stack
    assert refused(lambda: pair.fund(reply, signed=bad)) == ("rejected", 8)
    assert refused(lambda: pair.fund(reply)) == ("rejected", 8)
    good = signed(pair.chain, funding)
    assert pair.fund(reply, signed=good).hex == good.to_hex()
    pair.chain.mine(1)


def test_what_looks_like_a_signature_in_an_unknown_script(pair: External) -> None:
    funding = funding_of(pair, foreign.P2WSH_ANYONES)
    reply = pair.sign_refund(pair.take(funding).hex)
    der = foreign.KEY.sign(bytes(32))
    for kind in (b"\x81", b"\x00"):
        bad = funding.with_witness(0, (der + kind, foreign.ANYONES))
        assert refused(lambda given=bad: pair.fund(reply, signed=given)) == ("sighash-type", 4)  # type: ignore[misc]


def test_a_script_path_to_which_no_coin_commits(pair: External) -> None:
    funding = funding_of(pair, P2TR)
    reply = pair.sign_refund(pair.take(funding).hex)
    bad = funding.with_witness(0, (bytes(64) + b"\x01", b"\x51", b"\xc0" + bytes(32)))
    assert refused(lambda: pair.fund(reply, signed=bad))[0] == "witness-script"


def test_a_psbt_of_no_inputs(pair: External) -> None:
    output = pair.output()
    refuses(pair, Psbt.create(Transaction(2, (), (output,), 0)), "input-count")


def test_a_final_witness_that_is_empty(pair: External) -> None:
    funding = funding_of(pair)
    psbt = with_field(psbt_of(pair.chain, funding), IN_FINAL_SCRIPT_WITNESS, b"\x00")
    reply = pair.sign_refund(pair.take(psbt).hex)
    assert refused(lambda: pair.fund(reply, signed=psbt)) == ("missing-signature", 5)
