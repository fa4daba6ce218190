"""A funding that another wallet makes, from the command line."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from embit import ec
from embit.psbt import PSBT
from support.external import External
from support.foreign_wallet import P2WPKH, SECRET, coin, payment, psbt_of, signed
from support.hostile import Desk

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Amount
from mpchan.values import replace


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(External(tmp_path, chain), tmp_path)


def _funding(desk: Desk, fee: int) -> Transaction:
    pair = desk.pair
    assert isinstance(pair, External)
    return payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output(), fee=fee)


FEES = [
    ("70 a fee below what nodes relay", 50, "funding-fee"),
    ("70 a fee above the limit", 60_000, "funding-fee-high"),
]


@pytest.mark.parametrize(("case", "fee", "slug"), FEES)
def test_a_fee_out_of_bounds_is_refused_at_the_opening(desk: Desk, case: str, fee: int, slug: str) -> None:
    funding = _funding(desk, fee)
    for message in (psbt_of(desk.pair.chain, funding), funding, signed(desk.pair.chain, funding)):
        path = desk.file(message)
        refused = desk.refused_writing(desk.payer, "payer", "open", "--funding", path)
        assert (refused.slug, refused.exit_code) == (slug, 4)


def test_70_a_funding_that_no_node_relays(desk: Desk) -> None:
    """Found out before anybody signs a refund, and not by the broadcast."""
    funding = _funding(desk, 1_000)
    more = (TxOut(Amount(330), funding.outputs[0].script_pubkey),) * 3_300
    path = desk.file(replace(funding, outputs=(*funding.outputs, *more)))
    refused = desk.refused_writing(desk.payer, "payer", "open", "--funding", path)
    assert (refused.slug, refused.exit_code) == ("funding-size", 4)


def test_70_a_change_that_was_forgotten(desk: Desk) -> None:
    """The whole coin but for the channel goes to the miner; the error says how much that is, and where the limit is."""
    funding = _funding(desk, 0)
    channel = funding.outputs[1]
    path = desk.file(replace(funding, outputs=(channel,)))
    refused = desk.refused_writing(desk.payer, "payer", "open", "--funding", path)
    assert (refused.slug, refused.exit_code) == ("funding-fee-high", 4)
    assert str(1_000_000 - channel.value.sat) in refused.message
    assert "max_fee_rate" in str(refused.hint)


def test_70_the_signed_one_is_judged_by_its_very_size(desk: Desk) -> None:
    """What the opening allows for signatures that are yet to come is no allowance for those that are there."""
    pair = desk.pair
    bare = len(_funding(desk, 0).to_bytes(include_witness=False))
    funding = _funding(desk, 200 * (bare + 110))
    opened = desk.done(desk.payer, "payer", "open", "--funding", desk.file(psbt_of(pair.chain, funding)))
    reply = desk.folder / "reply"
    reply.write_text(pair.sign_refund(opened["hex"]))
    path = desk.file(signed(pair.chain, funding))
    refused = desk.refused_writing(desk.payer, "payer", "fund", reply, "--funding", path)
    assert (refused.slug, refused.exit_code) == ("funding-fee-high", 4)


# 72: PSBTs of version 2, made and signed by another library -------------------------------------------


def _version_2(psbt: Psbt) -> PSBT:
    """The same in version 2, as embit has it."""
    other = PSBT.parse(psbt.to_bytes())
    other.version = 2
    return other


def _of_version_2(other: PSBT) -> bytes:
    data = other.serialize()
    assert b"\xfb\x04\x02\x00\x00\x00" in data
    return bytes(data)


@pytest.mark.parametrize("form", ["72 binary", "72 base64", "72 hex"])
def test_a_funding_of_version_2_is_read(desk: Desk, form: str) -> None:
    """Unsigned it opens the channel, signed it funds it: the transaction is the one that was agreed on."""
    pair = desk.pair
    funding = _funding(desk, 1_000)
    write = {
        "72 binary": lambda data: data,
        "72 base64": base64.encodebytes,
        "72 hex": lambda data: data.hex().encode(),
    }[form]
    other = _version_2(psbt_of(pair.chain, funding))
    opened = desk.done(desk.payer, "payer", "open", "--funding", desk.file(write(_of_version_2(other))))
    assert opened["funding_txid"] == str(funding.txid)
    reply = desk.folder / "reply"
    reply.write_text(pair.sign_refund(opened["hex"]))
    assert other.sign_with(ec.PrivateKey(SECRET)) == len(funding.inputs)
    path = desk.file(write(_of_version_2(other)))
    assert desk.done(desk.payer, "inspect", path)["txid"] == str(funding.txid)
    funded = desk.done(desk.payer, "payer", "fund", reply, "--funding", path)
    assert (funded["funding_txid"], funded["broadcast"]) == (str(funding.txid), True)
    pair.chain.mine(1)
    update = desk.done(desk.payer, "pay", "1000")["hex"]
    assert desk.done(desk.payee, "payee", "accept", desk.file(update))["paid_sat"] == 1000


def test_72_a_funding_of_version_2_that_was_changed(desk: Desk) -> None:
    """Who may still add to it has: that is another transaction than the refund's."""
    pair = desk.pair
    funding = _funding(desk, 1_000)
    other = _version_2(psbt_of(pair.chain, funding))
    opened = desk.done(desk.payer, "payer", "open", "--funding", desk.file(_of_version_2(other)))
    reply = desk.folder / "reply"
    reply.write_text(pair.sign_refund(opened["hex"]))
    changed = _version_2(psbt_of(pair.chain, replace(funding, lock_time=1)))
    changed.sign_with(ec.PrivateKey(SECRET))
    path = desk.file(_of_version_2(changed))
    refused = desk.refused_writing(desk.payer, "payer", "fund", reply, "--funding", path)
    assert (refused.slug, refused.exit_code) == ("funding-changed", 5)


def test_72_a_message_of_version_2_is_none(desk: Desk) -> None:
    """The error names what converts it; converted, it is taken."""
    pair = desk.pair
    funding = _funding(desk, 1_000)
    opened = desk.done(desk.payer, "payer", "open", "--funding", desk.file(psbt_of(pair.chain, funding)))
    other = _version_2(Psbt.from_bytes(bytes.fromhex(opened["hex"])))
    path = desk.file(_of_version_2(other))
    for words in (("payee", "sign-refund", path), ("payee", "accept", path), ("verify", path)):
        refused = desk.refused(desk.payee, *words)
        assert (refused.slug, refused.exit_code) == ("psbt-version", 3)
        for tool in ("setpsbtversion", "HWI", "caravan", "signed transaction"):
            assert tool in str(refused.hint)
        assert "Bitcoin Core" not in str(refused.hint)
    refused = desk.refused(desk.payee, "payee", "funding", path)
    assert (refused.slug, refused.exit_code) == ("not-a-transaction", 3)
    other.version = None
    desk.done(desk.payee, "payee", "sign-refund", desk.file(other.serialize()))
