"""The offer's TOML text (guide: protocol, "The offer"): what it holds, and what a hostile payee can write into it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tomli
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from support.protocol import make_offer, make_terms, payout

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import MAINNET, SIGNET
from mpchan.channel import payee
from mpchan.channel.offer import Offer
from mpchan.errors import MpchanError, ParseError
from mpchan.units import Amount, FeeRate
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.records import body_of, record_of

OFFER = make_offer(memo="a big file", sale={"price_sat": 1000, "pieces": [1, 2.5, "x", True]})
TABLE = OFFER.to_dict()

KEYS = {
    "version": 1,
    "offer_id": "0123456789abcdef",
    "network": "regtest",
    "scheme": "decrementing",
    "payee_pubkey": OFFER.payee_key.sec.hex(),
    "payee_address": OFFER.payee_address,
    "min_capacity_sat": 1000,
    "max_capacity_sat": 100_000_000,
    "fee_rate_sat_per_kvb": 2000,
    "lock_time_unit": "blocks",
    "min_refund_delay": 288,
    "max_refund_delay": 4320,
    "settle_window": 144,
    "step": 1,
    "min_increment_sat": 1,
    "min_confirmations": 1,
    "memo": "a big file",
}
"""Every key of the design, with its example's value where that is fixed."""

NUMBERS = [key for key, value in KEYS.items() if type(value) is int and key != "version"]
TEXTS = [key for key, value in KEYS.items() if type(value) is str]


def refused(table: dict[str, Any]) -> str:
    with pytest.raises(ParseError) as caught:
        Offer.from_toml(tomli_w.dumps(table))
    assert caught.value.exit_code == 3
    assert len(caught.value.message) < 400
    return caught.value.slug


def test_text_has_the_keys_of_the_design_in_its_order() -> None:
    text = OFFER.to_toml()
    parsed = tomli.loads(text)
    sale = parsed.pop("sale")
    assert list(parsed.items()) == list(KEYS.items())
    assert sale == {"price_sat": 1000, "pieces": [1, 2.5, "x", True]}


def test_text_reads_back_as_the_same_offer() -> None:
    assert Offer.from_toml(OFFER.to_toml()) == OFFER
    assert Offer.from_dict(json.loads(json.dumps(OFFER.to_dict()))) == OFFER


def test_attributes_are_the_keys_values() -> None:
    assert (OFFER.min_capacity, OFFER.max_capacity) == (Amount(1000), Amount(100_000_000))
    assert OFFER.fee_rate == FeeRate(2000)
    assert OFFER.min_increment == Amount(1)
    assert OFFER.payee_script == payout("p2wpkh", "payee")


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_needed(key: str) -> None:
    assert refused({name: value for name, value in TABLE.items() if name != key}) == "malformed-offer"


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [1.0, "1", True, -1, [1], {}, 2_100_000_000_000_001])
def test_numbers_are_integers_in_range(key: str, value: object) -> None:
    assert refused({**TABLE, key: value}) == "malformed-number"


@pytest.mark.parametrize("key", NUMBERS)
def test_huge_numbers_in_hex_are_refused_in_few_words(key: str) -> None:
    text = OFFER.to_toml().replace(f"{key} = {TABLE[key]}", f"{key} = 0x{'f' * 100_000}")
    with pytest.raises(ParseError) as caught:
        Offer.from_toml(text)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("key", NUMBERS)
def test_zero_is_no_number_of_an_offer(key: str) -> None:
    assert refused({**TABLE, key: 0}) in ("malformed-number", "offer-limits")


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("value", [1, True, ["x"], {"x": 1}])
def test_texts_are_strings(key: str, value: object) -> None:
    assert refused({**TABLE, key: value}) == "malformed-offer"


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"version": 3}, "offer-version"),
        ({"version": 0}, "offer-version"),
        ({"version": True}, "offer-version"),
        ({"version": 1.0}, "offer-version"),
        ({"version": "1"}, "offer-version"),
        ({"surprise": 1}, "malformed-offer"),
        ({"sale": 1}, "malformed-offer"),
        ({"sale": [1]}, "malformed-offer"),
        ({"scheme": "spilman"}, "unknown-scheme"),
        ({"scheme": ""}, "unknown-scheme"),
        ({"network": "testnet3"}, "unknown-network"),
        ({"network": "mainnet"}, "wrong-network"),
        ({"network": "signet"}, "wrong-network"),
        ({"lock_time_unit": "days"}, "malformed-offer"),
        ({"offer_id": "0123456789ABCDEF"}, "malformed-offer"),
        ({"offer_id": "0123456789abcde"}, "malformed-offer"),
        ({"offer_id": "../../../etc/pw"}, "malformed-offer"),
        ({"offer_id": "0123456789abcdef\n"}, "malformed-offer"),
        ({"offer_id": "\uff10123456789abcdef"}, "malformed-offer"),
        ({"payee_pubkey": "02" + "00" * 32}, "malformed-public-key"),
        ({"payee_pubkey": "04" + "11" * 64}, "malformed-public-key"),
        ({"payee_pubkey": OFFER.payee_key.sec.hex()[:-2]}, "malformed-public-key"),
        ({"payee_pubkey": "00" * 33}, "malformed-public-key"),
        ({"payee_address": ""}, "malformed-address"),
        ({"payee_address": OFFER.payee_address[:-1]}, "malformed-address"),
        ({"memo": "two\nlines"}, "malformed-offer"),
        ({"memo": "\x1b[31mred"}, "malformed-offer"),
        ({"memo": "turn\u202earound"}, "malformed-offer"),
        ({"memo": "x" * 1001}, "malformed-offer"),
        ({"min_capacity_sat": 100_000_001}, "offer-limits"),
        ({"max_capacity_sat": 999}, "offer-limits"),
        ({"min_increment_sat": 100_000_001}, "offer-limits"),
        ({"min_refund_delay": 162}, "offer-limits"),
        ({"max_refund_delay": 305}, "offer-limits"),
        ({"settle_window": 270}, "offer-limits"),
        ({"min_confirmations": 127}, "offer-limits"),
        ({"min_confirmations": 1001}, "malformed-number"),
        ({"max_refund_delay": 500_001}, "malformed-number"),
        ({"fee_rate_sat_per_kvb": 100_000_001}, "malformed-number"),
    ],
)
def test_47_offers_that_make_no_sense(changes: dict[str, Any], slug: str) -> None:
    assert refused({**TABLE, **changes}) == slug


def test_47_just_within_the_limits() -> None:
    table = {**TABLE, "min_refund_delay": 163, "max_refund_delay": 181}
    assert Offer.from_dict(table).default_refund_delay == 181


@pytest.mark.parametrize("network", [MAINNET, SIGNET])
def test_address_and_network_belong_together(network: Any) -> None:
    address = script_to_address(payout("p2tr", "payee"), network)
    offer = Offer.from_dict({**TABLE, "network": network.name, "payee_address": address})
    assert offer.network is network
    assert refused({**TABLE, "payee_address": address}) == "wrong-network"


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-01",
        "12:00:00",
        "2026-01-01T12:00:00Z",
        "nan",
        "inf",
        "-inf",
        "0x8000000000000000",
        "0x" + "f" * 50_000,
        "[" * 30 + "]" * 30,
        "{ a = [{ b = 2026-01-01 }] }",
    ],
)
def test_sale_holds_only_what_a_channel_file_can_keep(value: str) -> None:
    """Such a table from a payee ended the payer's ``open`` with a traceback, or was never equal to itself."""
    text = make_offer().to_toml() + f"\n[sale]\nx = {value}\n"
    with pytest.raises(ParseError) as caught:
        Offer.from_toml(text)
    assert caught.value.slug == "malformed-offer"
    assert len(caught.value.message) < 200


PLAIN = st.recursive(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.booleans(),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("ab ."), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text("abc", min_size=1), PLAIN, max_size=3))
def test_any_plain_sale_survives_file_and_message(sale: dict[str, Any]) -> None:
    offer = make_offer(sale=sale)
    assert Offer.from_toml(offer.to_toml()) == offer
    record = PayeeRecord(0, payee.Active(make_terms(offer)))
    assert record_of(json.loads(json.dumps(body_of(record)))) == record


@pytest.mark.parametrize(
    "text",
    ["", "version", "version = ", "= 1", "[", "\x00", "version = 1\nversion = 1", "a" * 1000, "[" * 100_000],
)
def test_56_broken_toml(text: str) -> None:
    with pytest.raises(ParseError):
        Offer.from_toml(text)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_text_is_refused_or_another_valid_offer(data: st.DataObject) -> None:
    text = OFFER.to_toml()
    at = data.draw(st.integers(0, len(text) - 1))
    size = data.draw(st.integers(0, 40))
    new = data.draw(st.text(max_size=4))
    try:
        offer = Offer.from_toml(text[:at] + new + text[at + size :])
    except MpchanError:
        return
    assert Offer.from_toml(offer.to_toml()) == offer
    assert offer.min_refund_delay >= offer.settle_window + offer.confirmation_delay + offer.margin


def test_a_key_of_very_many_parts_is_refused_at_once() -> None:
    """Its parts are looked up again and again: without a limit, this text would take minutes."""
    with pytest.raises(ParseError) as caught:
        Offer.from_toml(".".join("a" * 199_999) + "=1")
    assert caught.value.slug == "malformed-toml"
