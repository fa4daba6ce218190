"""Offers of version 2: one offer has one canonical form, and its token covers all of it."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from support.protocol import make_offer

import mpchan.channel.key_paths as key_paths
from mpchan.bitcoin.network import REGTEST
from mpchan.channel.canonical import canonical_form, from_canonical_form
from mpchan.channel.offer import Offer
from mpchan.errors import ParseError
from mpchan.values import replace
from mpchan.wallet.keys import Keys

PIECES = ["ab" * 32, "cd" * 32]
SALE = {
    "name": "film — Übung.mkv",
    "length": 10,
    "price_sat": 1000,
    "merkle_root": "12" * 32,
    "pieces": PIECES,
    "buyer": "00" * 16,
    "sold": "1-2",
    "voucher": "3044",
}
WAYS = (
    {"kind": "tcp", "address": "[::]:7420", "certificate": "ab" * 32},
    {"kind": "pigeon", "loft": {"name": 'ｘ\U0001f54a\n\x7f\x01"\\/', "doors": [1, -2, (1 << 53) - 1]}},
)
OFFER = make_offer(version=2, memo="é", sale=SALE, ways=WAYS)
TABLE = OFFER.to_dict()

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEY = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=6)
NUMBER = st.integers(1 - (1 << 53), (1 << 53) - 1)
PLAIN = st.recursive(
    TEXT | NUMBER,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=8,
)
OFFERS = st.builds(
    lambda memo, sale, kinds, expires: make_offer(
        version=2,
        memo="".join(filter(str.isprintable, memo)),
        sale=sale,
        ways=tuple({**way, "kind": kind} for kind, way in kinds),
        expires=expires,
    ),
    TEXT,
    st.none() | st.dictionaries(KEY, PLAIN, max_size=3),
    st.lists(st.tuples(TEXT, st.dictionaries(KEY, PLAIN, max_size=2)), max_size=3),
    st.integers(0, (1 << 32) - 1),
)


def refused(table: dict[str, Any]) -> str:
    with pytest.raises(ParseError) as caught:
        Offer.from_dict(table)
    assert len(caught.value.message) < 400
    return caught.value.slug


def test_the_text_is_laid_out_as_designed() -> None:
    text = OFFER.to_toml()
    assert [line.split(" = ")[0] for line in text.splitlines() if not line.startswith((" ", "]"))][:21] == [
        *("version", "offer_id", "generation", "expires", "token", "network", "scheme", "payee_pubkey"),
        *("payee_address", "min_capacity_sat", "max_capacity_sat", "fee_rate_sat_per_kvb", "lock_time_unit"),
        *("min_refund_delay", "max_refund_delay", "settle_window", "min_increment_sat", "min_confirmations"),
        *("memo", "", "[decrementing]"),
    ]
    assert TABLE["decrementing"] == {"step": 1}
    assert Offer.from_toml(text) == OFFER
    assert Offer.from_toml(text).to_dict() == TABLE


def canonical_by_hand(table: dict[str, Any]) -> bytes:
    """By the sentence that specifies it, and nothing of the package."""
    table = json.loads(json.dumps(table))
    table.get("sale", {}).pop("pieces", None)
    return json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@given(offer=OFFERS)
def test_toml_and_canonical_form_are_two_writings_of_one_thing(offer: Offer) -> None:
    text = offer.to_toml()
    assert offer.canonical() == canonical_by_hand(tomli.loads(text))
    again, read = Offer.from_toml(text), Offer.from_canonical(offer.canonical())
    assert again == offer == read
    assert again.canonical() == offer.canonical() == read.canonical()
    if "pieces" not in (offer.sale or {}):
        assert tomli.loads(read.to_toml()) == tomli.loads(text)


@given(value=PLAIN)
def test_the_canonical_form_is_read_back_and_written_in_one_way(value: Any) -> None:
    data = canonical_form({"x": value})
    assert from_canonical_form(data) == {"x": value}
    spaced = json.dumps({"x": value}, indent=1, ensure_ascii=False).encode()
    with pytest.raises(ParseError):
        from_canonical_form(spaced)


def test_the_canonical_form_to_the_letter() -> None:
    """RFC 8785, section 3.2.2.2: what has a short escape is written so, other control characters in lower-case hex."""
    value = {"b": ['\b\t\n\f\r"\\/\x01\x1f\x7fé\u2028\U0001f54a'], "a": {"Z": -1, "B": 0}}
    assert canonical_form(value) == (
        '{"a":{"B":0,"Z":-1},"b":["\\b\\t\\n\\f\\r\\"\\\\/\\u0001\\u001f\x7fé\u2028\U0001f54a"]}'.encode()
    )


@pytest.mark.parametrize(
    "value", [1.5, True, None, 1 << 53, -(1 << 53), {"é": 1}, {"\n": 1}, {1: 1}, "\ud800", b"x", ("x",)]
)
def test_what_has_no_canonical_form(value: object) -> None:
    for wrapped in (value, [value], {"x": [{"y": value}]}):
        with pytest.raises(ParseError) as caught:
            canonical_form(wrapped)
        assert caught.value.slug == "malformed-offer"
    deep: Any = "x"
    for _ in range(20):
        deep = [deep]
    with pytest.raises(ParseError):
        canonical_form(deep)


@pytest.mark.parametrize(
    "bend",
    [
        lambda data: data.replace(b'"expires":', b'"expires": '),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data + b"\n",
        lambda data: data.replace(b'"version":2', b'"version":2.0'),
        lambda data: data.replace(b'"version":2', b'"version":1,"version":2'),
        lambda data: data.replace("é".encode(), b"\\u00e9"),
        lambda data: data.replace(b'"sold"', b'"pieces":[],"sold"'),
        lambda data: data.replace(b'"token":"0f', b'"token":"0F'),
        lambda data: data[:-1],
        lambda data: b"[" * 100_000,
        lambda data: b'"x"',
        lambda data: b"9" * 5000,
        lambda data: b"\xff",
        lambda data: data + b" ",
        lambda data: data.replace(b'"price_sat"', b'"pieces":[],"price_sat"'),
    ],
)
def test_another_way_to_write_the_same_is_refused(bend: Any) -> None:
    good = OFFER.canonical()
    assert Offer.from_canonical(good) == OFFER
    assert bend(good) != good
    with pytest.raises(ParseError):
        Offer.from_canonical(bend(good))


def test_the_hashes_of_the_pieces_are_left_to_the_merkle_root() -> None:
    read = Offer.from_canonical(OFFER.canonical())
    assert read == OFFER
    assert hash(read) == hash(OFFER)
    assert "pieces" not in (read.sale or {})
    assert replace(read, sale={**(read.sale or {}), "merkle_root": "13" * 32}) != OFFER
    assert replace(read, expires=OFFER.expires + 1) != OFFER
    assert make_offer() != make_offer(version=2)


@pytest.mark.parametrize("key", [key for key in TABLE if key not in ("sale", "ways")])
def test_every_key_is_needed(key: str) -> None:
    assert refused({name: value for name, value in TABLE.items() if name != key}) == "malformed-offer"


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"step": 1}, "malformed-offer"),
        ({"decrementing": {}}, "malformed-offer"),
        ({"decrementing": {"step": 1, "leap": 2}}, "malformed-offer"),
        ({"decrementing": 1}, "malformed-offer"),
        ({"decrementing": {"step": 0}}, "malformed-number"),
        ({"decrementing": {"step": 1.0}}, "malformed-number"),
        ({"scheme": "spilman"}, "unknown-scheme"),
        ({"scheme": "taproot", "taproot": {"made_at": 7}}, "malformed-offer"),  # and another's table
        ({"scheme": ["x"]}, "malformed-offer"),
        ({"offer_id": "0123456789abcdef"}, "malformed-offer"),
        ({"offer_id": "0123456789ABCDEF" * 2}, "malformed-offer"),
        ({"generation": ""}, "malformed-offer"),
        ({"generation": "g" * 16}, "malformed-offer"),
        ({"generation": 5}, "malformed-offer"),
        ({"token": "0f" * 31}, "malformed-offer"),
        ({"expires": -1}, "malformed-number"),
        ({"expires": 1 << 32}, "malformed-number"),
        ({"expires": "never"}, "malformed-number"),
        ({"ways": {}}, "malformed-offer"),
        ({"ways": [1]}, "malformed-offer"),
        ({"ways": [{"address": "x"}]}, "malformed-offer"),
        ({"ways": [{"kind": 1}]}, "malformed-offer"),
        ({"ways": [{"kind": "x"}] * 17}, "malformed-offer"),
        ({"ways": [{"kind": "x", "port": 1.5}]}, "malformed-offer"),
        ({"sale": {"x": True}}, "malformed-offer"),
        ({"sale": {"é": 1}}, "malformed-offer"),
        ({"sale": []}, "malformed-offer"),
        ({"colour": "blue"}, "malformed-offer"),
        ({"version": 3}, "offer-version"),
        ({"version": True}, "offer-version"),
    ],
)
def test_47_offers_that_cannot_be(changes: dict[str, Any], slug: str) -> None:
    assert refused({**TABLE, **changes}) == slug


def test_version_1_knows_nothing_of_it() -> None:
    table = make_offer().to_dict()
    for key in ("generation", "expires", "token", "ways", "decrementing"):
        assert refused({**table, key: TABLE[key]}) == "malformed-offer"
    with pytest.raises(ParseError):
        replace(make_offer(), expires=5)
    with pytest.raises(ParseError):
        Offer.from_canonical(canonical_form(table))


def test_terms_are_told_in_one_way_whatever_the_version() -> None:
    old, new = make_offer(step=3).terms(), make_offer(version=2, step=3).terms()
    assert old["step"] == new["step"] == 3
    assert "version" not in old
    assert new.keys() - old.keys() == {"generation", "expires", "token"}


# the token ----------------------------------------------------------------------------------------

WORDS = json.loads(Path(key_paths.__file__).with_suffix(".json").read_text())["words"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.restore(tmp_path_factory.mktemp("keys") / "keys.toml", REGTEST, WORDS)


def test_the_token_as_others_compute_it(keys: Keys) -> None:
    """The key by another library, the text by the sentence that specifies it."""
    bip32, bip39 = (pytest.importorskip(f"embit.{name}") for name in ("bip32", "bip39"))
    secret = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(WORDS)).derive("m/7420'/1'/3'").key.secret
    table = json.loads(canonical_by_hand(tomli.loads(OFFER.to_toml())))
    del table["token"], table["sale"]["voucher"]
    key = secret + bytes.fromhex("fedcba9876543210")
    assert keys.offer_token(OFFER) == hmac.new(key, canonical_by_hand(table), "sha256").hexdigest()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for at, item in enumerate(value) for leaf in leaves(item, (*path, at))]
    return [path]


def bent(path: tuple[Any, ...]) -> Any:
    """The offer's table with another value at one place."""
    table = tomli.loads(tomli_w.dumps(TABLE))
    place = table
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    place[path[-1]] = value + 1 if type(value) is int else value[:-1] + ("0" if value[-1:] != "0" else "1")
    return table


@pytest.mark.parametrize("path", leaves(TABLE), ids=lambda path: ".".join(map(str, path)))
def test_77_the_token_covers_every_value(keys: Keys, path: tuple[Any, ...]) -> None:
    """All but itself, the voucher that is signed behind it, and hashes for which the Merkle root stands."""
    uncovered = path == ("token",) or path[:2] in (("sale", "voucher"), ("sale", "pieces"))
    try:
        other = Offer.from_dict(bent(path))
    except ParseError:
        assert not uncovered
        return  # no offer at all
    assert (keys.offer_token(other) == keys.offer_token(OFFER)) is uncovered


def test_77_a_key_that_is_added_or_taken_away_changes_the_token(keys: Keys) -> None:
    more = replace(OFFER, ways=(*WAYS, {"kind": "x"}))
    less = replace(OFFER, sale=None)
    again = replace(OFFER, ways=WAYS[::-1])
    tokens = {keys.offer_token(offer) for offer in (OFFER, more, less, again)}
    assert len(tokens) == 4


def test_77_another_wallet_makes_another_token(keys: Keys, tmp_path: Path) -> None:
    other = Keys.create(tmp_path / "keys.toml", REGTEST)
    assert other.offer_token(OFFER) != keys.offer_token(OFFER)


# the key ------------------------------------------------------------------------------------------


def test_a_published_sale_keeps_its_key_when_it_is_renewed(keys: Keys) -> None:
    public = {key: value for key, value in SALE.items() if key not in ("buyer", "sold", "voucher")}
    first = make_offer(version=2, sale=public)
    renewed = replace(first, offer_id="ff" * 16, expires=first.expires + 1, token="ee" * 32)
    assert keys.offer_key(first).public_key == keys.offer_key(renewed).public_key
    for other in (
        replace(first, sale={**public, "merkle_root": "13" * 32}),
        replace(first, generation="00" * 8),
        replace(first, sale=SALE),
        replace(first, sale=None),
    ):
        assert keys.offer_key(other).public_key != keys.offer_key(first).public_key
    made_out = replace(first, sale=SALE)
    assert keys.offer_key(made_out).public_key == keys.offer_key(replace(first, sale=None)).public_key
    assert keys.offer_key(made_out) != keys.offer_key(replace(made_out, offer_id="ff" * 16))
