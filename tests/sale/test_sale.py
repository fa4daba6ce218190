"""The manifest of a file on sale: its Merkle root, its spelling, and the offers that are made out under it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.protocol import (
    PAYEE,
    PAYEE_SECRET,
    STRANGER_SECRET,
    make_offer,
    payout,
    private_key,
    replace,
    with_high_s,
)

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST, SIGNET
from mpchan.bitcoin.signature import PrivateKey
from mpchan.channel.offer import MAX_MEMO_LENGTH, Offer
from mpchan.channel.rules import enforce
from mpchan.channel.signing import ChannelKey
from mpchan.errors import MpchanError, NotPossible, ParseError
from mpchan.party.offers.selling import Wish
from mpchan.sale.manifest import (
    MAX_LENGTH,
    MAX_NAME_LENGTH,
    MAX_PIECES,
    VOUCHER_TAG,
    Sale,
    made_out_rules,
    made_out_terms,
    pieces_from_text,
    pieces_text,
    published_sale,
    sale_of,
    tree_hash,
    voucher_text,
)
from mpchan.units import MAX_MESSAGE_BYTES, MAX_MONEY_SAT, Amount

# the Merkle root ----------------------------------------------------------------------------------

LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Certificate Transparency's reference vectors: the root over the first leaf, the first two, and so on."""


def by_the_rfc(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + by_the_rfc(leaves[:k]) + by_the_rfc(leaves[k:])).digest()


def test_the_reference_vectors() -> None:
    leaves = [bytes.fromhex(leaf) for leaf in LEAVES]
    assert [tree_hash(leaves[: count + 1]).hex() for count in range(8)] == ROOTS
    assert tree_hash([]) == sha256(b"").digest()


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_any_number_of_leaves(leaves: list[bytes]) -> None:
    assert tree_hash(leaves) == by_the_rfc(leaves)


def test_no_node_passes_for_a_leaf() -> None:
    """Nor does a tree with its last leaf doubled pass for the tree, as in Bitcoin's (CVE-2012-2459)."""
    leaves = [sha256(bytes([number])).digest() for number in range(7)]
    for count in range(2, 8):
        some = leaves[:count]
        left = 1 << (count - 1).bit_length() - 1
        node = by_the_rfc(some[:left]) + by_the_rfc(some[left:])
        roots = {
            tree_hash(some), tree_hash([node]), tree_hash([*some, some[-1]]), tree_hash(some[::-1])
        }  # fmt: skip
        assert len(roots) == 4


# lists of pieces ----------------------------------------------------------------------------------


@given(st.sets(st.integers(1, MAX_PIECES), min_size=1, max_size=200))
def test_pieces_read_back(numbers: set[int]) -> None:
    rising = tuple(sorted(numbers))
    text = pieces_text(rising)
    assert pieces_from_text(text, MAX_PIECES) == rising
    assert pieces_text(pieces_from_text(",".join(map(str, rising)), MAX_PIECES)) == text


@given(st.text("0123456789,-", max_size=12) | st.text(max_size=6))
def test_any_text_is_a_list_or_refused(text: str) -> None:
    try:
        numbers = pieces_from_text(text, 20)
    except ParseError:
        return
    assert list(numbers) == sorted(set(numbers))
    assert set(numbers) <= set(range(1, 21))
    assert set(text) <= set("0123456789,-")


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "1,", ",1", "1,,2", "0", "0-1", "-1", "1-", "-", "1--2", "1-2-3", "01", "1-02", "1,02", "2,1", "1,1",
        "3-1", "1-3,3", "1-3,2-4", "4,1-3", "6", "1-6", "5,6", "10000", "9" * 400, "1-" + "9" * 400, " 1", "1 ",
        "1, 2", "1\n", "1\n2", "\t1", "+1", "1.0", "1e0", "0x1", "1_2", "1;2", "1..3", "1\N{EN DASH}3", "\0", "all",
        "\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT ONE}", "\N{SUPERSCRIPT TWO}", "1," * 200_000,
    ],
)  # fmt: skip
def test_what_is_no_list_of_five_pieces(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        pieces_from_text(text, 5)
    assert caught.value.slug == "malformed-pieces"
    assert len(caught.value.message) < 150
    assert caught.value.message.isprintable()


# the table ----------------------------------------------------------------------------------------

PRICE = 1000
HASHES = tuple(sha256(bytes([number])).digest() for number in range(5))
SALE = Sale("film.mkv", 4_999, 1_000, Amount(PRICE), 1, HASHES, "127.0.0.1:7420", "ab" * 32)
SESSION = "00112233445566778899aabbccddeeff"
MADE_OUT = replace(SALE, buyer=SESSION, sold=(2, 3, 5), voucher=b"\x30" * 70)
TABLE = MADE_OUT.to_table()


def refused(table: dict[str, Any]) -> str:
    with pytest.raises(ParseError) as caught:
        Sale.from_table(table)
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()
    return caught.value.slug


@pytest.mark.parametrize(
    "sale",
    [
        SALE,
        MADE_OUT,
        replace(SALE, address=None, certificate=None),
        Sale("x", 1, 1, Amount(1), 0, HASHES[:1]),
        Sale("film", MAX_LENGTH, MAX_LENGTH, Amount(MAX_MONEY_SAT), 0, HASHES[:1]),
    ],
)
def test_a_sale_reads_back(sale: Sale) -> None:
    assert Sale.from_table(sale.to_table()) == sale
    assert Sale.from_table(json.loads(json.dumps(sale.to_table()))) == sale


def test_pieces_of_a_sale() -> None:
    assert (SALE.count, SALE.sold, SALE.whole_price) == (5, (2, 3, 4, 5), Amount(4 * PRICE))
    assert [SALE.start_of(number) for number in range(1, 6)] == [0, 1000, 2000, 3000, 4000]
    assert [SALE.length_of(number) for number in range(1, 6)] == [1000, 1000, 1000, 1000, 999]
    assert [SALE.is_free(number) for number in range(7)] == [False, True, False, False, False, False, False]
    assert SALE.root == by_the_rfc(HASHES)
    assert [MADE_OUT.paid_pieces(Amount(paid)) for paid in (0, 999, 1000, 1999, 3000, 9000)] == [
        (), (), (2,), (2,), (2, 3, 5), (2, 3, 5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "key", ["name", "length", "piece_length", "price_sat", "free_pieces", "merkle_root", "pieces"]
)
def test_every_key_is_needed(key: str) -> None:
    assert refused({name: value for name, value in TABLE.items() if name != key}) == "malformed-sale"


@pytest.mark.parametrize("key", ["address", "certificate", "buyer", "sold"])
def test_some_keys_come_in_pairs(key: str) -> None:
    assert refused({name: value for name, value in TABLE.items() if name != key}) == "malformed-sale"


def test_nothing_else_stands_in_it() -> None:
    assert refused({**TABLE, "discount": 1}) == "malformed-sale"
    assert refused({**TABLE, "\x1b[2J" * 100: 1}) == "malformed-sale"
    assert refused({**SALE.to_table(), "voucher": "30"}) == "malformed-sale"


NUMBERS = ("length", "piece_length", "price_sat", "free_pieces")


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [True, 1.0, 1e300, "1", None, [], {}, -1, 1 << 63, 10**4000])
def test_numbers_are_whole_numbers(key: str, value: object) -> None:
    assert refused({**TABLE, key: value}) in ("malformed-number", "malformed-sale")


@pytest.mark.parametrize("key", [key for key in TABLE if key not in (*NUMBERS, "pieces")])
@pytest.mark.parametrize(
    "value", [True, 1, 0, 1.5, [], {}, "", "\0", "g" * 64, "AB" * 32, "ab" * 31, "a" * 100_000]
)
def test_texts_are_texts(key: str, value: object) -> None:
    if key == "address" and type(value) is str and len(value) in (62, 64):
        return  # what a way is called is for the way to know
    if key == "name" and type(value) is str and 0 < len(value) <= MAX_NAME_LENGTH and value.isprintable():
        return
    if key == "certificate" and value == "ab" * 32:
        return
    if key == "voucher" and value in ("AB" * 32, "ab" * 31):
        return  # no good signature, which is told where it is verified
    assert refused({**TABLE, key: value}) in ("malformed-sale", "malformed-pieces")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../film"), ("name", "/etc/passwd"), ("name", "a/b"), ("name", "a\nb"), ("name", "\x1b[2J"),
        ("name", "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"), ("name", "x" * 256), ("address", "\x1b]0;\x07"),
        ("address", "x" * 256), ("length", 5_001), ("length", 4_000), ("piece_length", 999), ("piece_length", 1_250),
        ("piece_length", 5_000), ("free_pieces", 5), ("free_pieces", 2), ("merkle_root", "00" * 32), ("sold", "1-3"),
        ("sold", "2-6"), ("sold", "2,3,5"), ("sold", "2-2,3,5"), ("sold", "5,2"), ("buyer", SESSION.upper()),
        ("buyer", SESSION[:-2]), ("voucher", "00" * 73), ("voucher", "0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(key: str, value: object) -> None:
    assert refused({**TABLE, key: value}) in ("malformed-sale", "malformed-pieces", "malformed-number")


@pytest.mark.parametrize(
    "pieces",
    [
        None, "", [], {}, [1], [None], ["ab" * 32], ["AB" * 32] * 5, ["ab" * 31] * 5, ["zz" * 32] * 5, [b"x" * 32] * 5,
        [*TABLE["pieces"][:4], 7], TABLE["pieces"][:4], [*TABLE["pieces"], "ab" * 32], TABLE["pieces"][::-1],
        ["ab" * 32] * (MAX_PIECES + 1),
    ],
)  # fmt: skip
def test_hashes_are_those_of_the_root(pieces: object) -> None:
    assert refused({**SALE.to_table(), "pieces": pieces}) == "malformed-sale"


def test_so_many_pieces_and_no_more() -> None:
    hashes = tuple(sha256(b"%d" % number).digest() for number in range(MAX_PIECES + 1))
    assert Sale("x", MAX_PIECES, 1, Amount(1), 0, hashes[:-1]).count == MAX_PIECES
    with pytest.raises(ParseError):
        Sale("x", MAX_PIECES + 1, 1, Amount(1), 0, hashes)


def test_the_largest_offer_is_still_a_message() -> None:
    """As many pieces, as long a list of them, a memo and a name as there can be, in the longest characters."""
    wide = "\N{MATHEMATICAL SCRIPT CAPITAL X}"
    hashes = tuple(sha256(b"%d" % number).digest() for number in range(MAX_PIECES))
    sold = tuple(number for number in range(1, MAX_PIECES + 1) if number % 3)
    assert len(pieces_text(sold)) > 15_900
    price = Amount(MAX_MONEY_SAT // MAX_PIECES)
    whole = Sale(
        wide * MAX_NAME_LENGTH,
        MAX_LENGTH,
        -(-MAX_LENGTH // MAX_PIECES),
        price,
        0,
        hashes,
        wide * 255,
        "ab" * 32,
    )
    longest = replace(whole, buyer=SESSION, sold=sold, voucher=b"\xff" * 72)
    offer = make_offer(
        memo=wide * MAX_MEMO_LENGTH,
        sale=longest.to_table(),
        min_capacity=Amount(MAX_MONEY_SAT),
        max_capacity=Amount(MAX_MONEY_SAT),
        min_increment=price,
    )
    text = offer.to_toml().encode()
    assert len(text) <= MAX_MESSAGE_BYTES
    assert sale_of(Offer.from_toml(text.decode())) == longest
    assert len(Wish(offer.offer_id, SESSION, pieces_text(sold)).to_bytes()) < MAX_MESSAGE_BYTES


# offers that are made out -------------------------------------------------------------------------

PUBLISHED = make_offer(
    memo="a film", sale=SALE.to_table(), min_increment=Amount(PRICE), max_capacity=Amount(4 * PRICE)
)
SOLD = (2, 3, 5)
OWN_SECRET = private_key("of one buyer")
OWN = {
    "version": 1,
    "offer_id": "fedcba9876543210",
    "payee_pubkey": OWN_SECRET.public_key.sec.hex(),
    "payee_address": script_to_address(payout("p2wpkh", "of one buyer"), REGTEST),
}


def vouched(table: dict[str, Any], secret: PrivateKey = PAYEE_SECRET) -> Offer:
    """The offer of a table with a good voucher by a key."""
    offer = Offer.from_dict(table)
    voucher = ChannelKey(secret).sign_tagged(VOUCHER_TAG, voucher_text(offer)).hex()
    return replace(offer, sale={**(offer.sale or {}), "voucher": voucher})


def table_for(buyer: str = SESSION, sold: Sequence[int] = SOLD) -> dict[str, Any]:
    return {**made_out_terms(PUBLISHED, buyer, sold), **OWN}


GOOD = vouched(table_for())


def judged(offer: Offer, published: Offer = PUBLISHED) -> str:
    """The slug with which a buyer refuses an offer."""
    with pytest.raises(MpchanError) as caught:
        enforce(made_out_rules(published, offer, SESSION, SOLD))
    assert caught.value.exit_code == 4
    assert len(caught.value.message) < 700
    assert caught.value.message.isprintable()
    return caught.value.slug


def test_a_good_one() -> None:
    sale = enforce(made_out_rules(PUBLISHED, GOOD, SESSION, SOLD))
    assert (sale.buyer, sale.sold, sale.hashes) == (SESSION, SOLD, HASHES)
    assert (GOOD.min_capacity, GOOD.max_capacity, GOOD.min_increment) == (
        Amount(3 * PRICE),
        Amount(3 * PRICE),
        Amount(PRICE),
    )
    again = Offer.from_toml(GOOD.to_toml())
    assert enforce(made_out_rules(Offer.from_toml(PUBLISHED.to_toml()), again, SESSION, SOLD)) == sale


RAISED = {**SALE.to_table(), "price_sat": 2 * PRICE}
OTHER_HASHES = replace(SALE, hashes=HASHES[::-1]).to_table()
SECONDS = {
    name: PUBLISHED.to_dict()[name] * 600
    for name in ("min_refund_delay", "max_refund_delay", "settle_window")
}

OFFER_CHANGES: dict[str, dict[str, Any]] = {
    "network": {"network": "signet", "payee_address": script_to_address(payout("p2wpkh", "x"), SIGNET)},
    "min_capacity_sat": {"min_capacity_sat": 2 * PRICE},
    "max_capacity_sat": {"max_capacity_sat": 4 * PRICE},
    "fee_rate_sat_per_kvb": {"fee_rate_sat_per_kvb": 2001},
    "lock_time_unit": {"lock_time_unit": "seconds", **SECONDS},
    "min_refund_delay": {"min_refund_delay": 289},
    "max_refund_delay": {"max_refund_delay": 4319},
    "settle_window": {"settle_window": 143},
    "step": {"step": 2},
    "min_increment_sat": {"min_increment_sat": PRICE + 1},
    "min_confirmations": {"min_confirmations": 2},
    "memo": {"memo": ""},
}
SALE_CHANGES: dict[str, dict[str, Any]] = {
    "name": {"name": "film"},
    "length": {"length": 4_998},
    "piece_length": {"piece_length": 1_001},
    "price_sat": {"price_sat": PRICE - 1},
    "free_pieces": {"free_pieces": 0},
    "merkle_root": {name: OTHER_HASHES[name] for name in ("merkle_root", "pieces")},
    "pieces": {name: OTHER_HASHES[name] for name in ("pieces", "merkle_root")},
    "address": {"address": "127.0.0.1:7421"},
    "certificate": {"certificate": "cd" * 32},
    "buyer": {"buyer": SESSION[::-1]},
    "sold": {"sold": "2-4"},
}


@pytest.mark.parametrize("key", OFFER_CHANGES)
def test_no_term_may_change(key: str) -> None:
    """Whatever the seller changes, and vouches for."""
    assert judged(vouched({**table_for(), **OFFER_CHANGES[key]})) == "offer-differs"


@pytest.mark.parametrize("key", SALE_CHANGES)
def test_nothing_on_sale_may_change(key: str) -> None:
    table = table_for()
    offer = vouched({**table, "sale": {**table["sale"], **SALE_CHANGES[key]}})
    assert judged(offer) == "offer-differs"
    with pytest.raises(MpchanError) as caught:
        enforce(made_out_rules(PUBLISHED, offer, SESSION, SOLD))
    assert any(caught.value.message.startswith(f"{name} of the sale") for name in SALE_CHANGES[key])


def test_every_key_was_changed() -> None:
    table = GOOD.to_dict()
    own = {"version", "offer_id", "payee_pubkey", "payee_address"}
    assert set(OFFER_CHANGES) == set(table) - own - {"scheme", "sale"}  # there is one scheme
    assert set(SALE_CHANGES) == set(table["sale"]) - {"voucher"}


def test_a_price_that_is_raised_everywhere() -> None:
    """Such an offer fits together."""
    dear = replace(PUBLISHED, sale=RAISED, min_increment=Amount(2 * PRICE), max_capacity=Amount(8 * PRICE))
    offer = vouched({**made_out_terms(dear, SESSION, SOLD), **OWN})
    assert enforce(made_out_rules(dear, offer, SESSION, SOLD)).price == Amount(2 * PRICE)
    assert judged(offer) == "offer-differs"


@pytest.mark.parametrize("key", ["address", "certificate"])
def test_a_way_that_was_not_published(key: str) -> None:
    """The certificate of somebody else, where the published offer names none at all."""
    bare = replace(PUBLISHED, sale=replace(SALE, address=None, certificate=None).to_table())
    assert key not in (bare.sale or {})
    assert judged(GOOD, bare) == "offer-differs"
    assert judged(vouched({**made_out_terms(bare, SESSION, SOLD), **OWN})) == "offer-differs"


def test_the_published_offer_serves_nobody() -> None:
    with pytest.raises(MpchanError) as caught:
        enforce(made_out_rules(PUBLISHED, PUBLISHED, SESSION, SOLD))
    assert caught.value.slug == "offer-differs"
    for own in ("offer_id", "payee_pubkey"):
        assert judged(vouched({**table_for(), own: PUBLISHED.to_dict()[own]})) == "offer-differs"


def test_an_offer_without_a_sale() -> None:
    with pytest.raises(NotPossible) as caught:
        enforce(made_out_rules(PUBLISHED, make_offer(), SESSION, SOLD))
    assert caught.value.slug == "nothing-sold"


def test_an_offer_for_one_buyer_is_published_to_nobody() -> None:
    assert published_sale(PUBLISHED) == SALE
    for use in (lambda: published_sale(GOOD), lambda: made_out_terms(GOOD, SESSION[::-1], SOLD)):
        with pytest.raises(NotPossible) as caught:
            use()
        assert (caught.value.slug, caught.value.exit_code) == ("made-out", 5)


# vouchers -----------------------------------------------------------------------------------------


def with_voucher(voucher: bytes) -> Offer:
    return replace(GOOD, sale={**(GOOD.sale or {}), "voucher": voucher.hex()})


@pytest.mark.parametrize("secret", [OWN_SECRET, STRANGER_SECRET], ids=["its own", "a stranger's"])
def test_a_voucher_of_another_key(secret: PrivateKey) -> None:
    assert judged(vouched(table_for(), secret)) == "not-vouched"


def test_a_voucher_that_is_missing_or_no_signature() -> None:
    assert judged(Offer.from_dict(table_for())) == "not-vouched"
    good = bytes.fromhex((GOOD.sale or {})["voucher"])
    assert with_voucher(good) == GOOD
    for bad in (good[:-1], good + b"\x01", b"\x00" * 70, b"\x30", with_high_s(good + b"\x01")[:-1]):
        assert judged(with_voucher(bad)) == "not-vouched"


def test_a_voucher_of_another_sessions_offer() -> None:
    other = vouched(table_for(SESSION[::-1]))
    assert judged(with_voucher(bytes.fromhex((other.sale or {})["voucher"]))) == "not-vouched"


@pytest.mark.parametrize("key", ["offer_id", "payee_pubkey", "payee_address"])
def test_a_voucher_covers_what_is_the_offers_own(key: str) -> None:
    """Somebody in between cannot put in keys and addresses of its own."""
    stranger = {
        "offer_id": "0000000000000000",
        "payee_pubkey": STRANGER_SECRET.public_key.sec.hex(),
        "payee_address": script_to_address(payout("p2wpkh", "stranger"), REGTEST),
    }
    changed = {**GOOD.to_dict(), key: stranger[key]}
    assert judged(Offer.from_dict(changed)) == "not-vouched"


@settings(max_examples=30)
@given(st.sampled_from(sorted(OFFER_CHANGES) + sorted(SALE_CHANGES)))
def test_a_digest_covers_every_key(key: str) -> None:
    table = table_for()
    if key in OFFER_CHANGES:
        changed = {**table, **OFFER_CHANGES[key]}
    else:
        changed = {**table, "sale": {**table["sale"], **SALE_CHANGES[key]}}
    assert voucher_text(Offer.from_dict(changed)) != voucher_text(Offer.from_dict(table))


def test_a_digest_is_the_same_for_everybody() -> None:
    """The tagged hash of BIP-0340 over the table as JSON, whatever the voucher, and after any way there and back."""
    table = GOOD.to_dict()
    table["sale"] = {key: value for key, value in table["sale"].items() if key != "voucher"}
    tag = sha256(b"mpchan/voucher").digest()
    text = json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
    assert voucher_text(GOOD) == text
    assert voucher_text(Offer.from_toml(GOOD.to_toml())) == text
    assert voucher_text(with_voucher(b"other")) == text
    digest = sha256(tag + tag + text).digest()
    assert PAYEE.public_key.verify(bytes.fromhex((GOOD.sale or {})["voucher"]), digest)


def test_a_key_signs_no_tag_but_its_own() -> None:
    """Least of all one of BIP-0341's, which would make a transaction's digest of what it signs."""
    for tag in ("TapSighash", "voucher", ""):
        with pytest.raises(ValueError, match="no tag"):
            ChannelKey(PAYEE_SECRET).sign_tagged(tag, b"data")
