"""Channel files: every state survives, damage and newer schemas are named and left in place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.party import Pair
from support.protocol import (
    PAYEE,
    facts_of,
    make_funded,
    make_offer,
    make_opening,
    make_secured,
    make_terms,
    replace,
    settlement_psbt,
    update_psbt,
)

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee, payer
from mpchan.errors import MpchanError, ParseError, StorageError
from mpchan.party import payee as payee_party
from mpchan.party import payer as payer_party
from mpchan.party import views
from mpchan.units import Amount, FeeRate
from mpchan.wallet import records
from mpchan.wallet.journal import beginning
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import Asked, PayerRecord
from mpchan.wallet.records import SCHEMA, body_of, record_of

TERMS = make_terms(make_offer(memo="ünïcode ✓", sale={"a": [1, "x"]}))
SECONDS = make_terms(make_offer(lock_time_unit="seconds"))
FUNDED = replace(make_funded(TERMS), number=3, paid=Amount(5000))
HOLDING, _ = payee.accept(payee.Active(TERMS), update_psbt(TERMS, 1, 1000), facts_of(TERMS), PAYEE)
SETTLED, _ = payee.accept(HOLDING, settlement_psbt(TERMS, 2000), facts_of(TERMS), PAYEE)
ONLY_SETTLED, _ = payee.accept(payee.Active(TERMS), settlement_psbt(TERMS, 2000), facts_of(TERMS), PAYEE)

RECORDS = {
    "opening": PayerRecord(0, make_opening(TERMS)),
    "secured": PayerRecord(1, make_secured(TERMS)),
    "funded": PayerRecord(2, make_funded(TERMS)),
    "paid": PayerRecord(2**31 - 1, FUNDED),
    "settling": PayerRecord(0, payer.Settling(FUNDED, Amount(6000))),
    "cancelled": PayerRecord(0, payer.Settling(make_funded(TERMS), Amount(0))),
    "refunding": PayerRecord(0, payer.Refunding(FUNDED, None)),
    "refunding after a settlement": PayerRecord(0, payer.Refunding(FUNDED, Amount(6000))),
    "payer abandoned": PayerRecord(0, payer.Abandoned(TERMS)),
    "a void funding": PayerRecord(0, payer.Abandoned(TERMS, FUNDED)),
    "in seconds": PayerRecord(0, make_funded(SECONDS)),
    "as asked": PayerRecord(0, make_opening(TERMS), Asked(300, FeeRate(1500), "bcrt1q…")),
    "active": PayeeRecord(0, payee.Active(TERMS)),
    "funding by file": PayeeRecord(0, payee.Active(TERMS, make_funded(TERMS).funding)),
    "holding": PayeeRecord(0, HOLDING),
    "closing": PayeeRecord(0, payee.Closing(payee.active_of(HOLDING), None)),
    "settled": PayeeRecord(0, SETTLED),
    "only settled": PayeeRecord(0, ONLY_SETTLED),
    "payee abandoned": PayeeRecord(0, payee.Abandoned(TERMS)),
}


def dump(record: PayerRecord | PayeeRecord) -> str:
    """The state file of a channel whose journal is yet to begin."""
    return records.dump(body_of(record), beginning(record.terms.name))


def load(text: str) -> PayerRecord | PayeeRecord:
    return record_of(records.load(text)[0])


@pytest.mark.parametrize("name", RECORDS)
def test_every_state_survives(name: str) -> None:
    record = RECORDS[name]
    text = dump(record)
    assert load(text) == record
    assert dump(load(text)) == text
    assert text.count("\n") == 1
    assert "seed" not in text


def test_the_file_holds_what_the_design_says() -> None:
    """Guide: protocol, "What each party keeps"."""
    ours = json.loads(dump(PayerRecord(4, FUNDED)))["channel"]
    assert ours["offer"] == TERMS.offer.to_dict()
    assert ours["funding_tx"] == FUNDED.funding.to_hex()
    assert ours["refund_tx"] == FUNDED.refund.to_hex()
    assert ours["update"] == {"number": 3, "paid_sat": 5000}
    assert ours["key_index"] == 4
    assert FUNDED.refund.has_witness
    # no complete update, and nothing that the payee signed but the refund
    assert payee.best_of(HOLDING) is not None
    theirs = json.loads(dump(PayeeRecord(4, SETTLED)))["channel"]
    best = payee.best_of(SETTLED)
    assert best is not None
    assert theirs["update"] == {"number": 1, "paid_sat": 1000, "tx": best.transaction.to_hex()}
    assert theirs["settlement"]["paid_sat"] == 2000
    assert theirs["offer"] == TERMS.offer.to_dict()
    for key in ("outpoint", "funding_value_sat", "payer_pubkey", "payer_script", "refund_lock_time"):
        assert theirs[key] == ours[key]  # the signed refund's fields, to sign it again


def rewritten(record: Any, **changes: Any) -> str:
    """The file with other values, and a checksum that fits."""
    body = {**json.loads(dump(record))["channel"], **changes}
    body = {key: value for key, value in body.items() if value != "gone"}
    return records.dump(body, beginning(record.terms.name))


def refused(text: str) -> ParseError:
    with pytest.raises(ParseError) as caught:
        load(text)
    return caught.value


@pytest.mark.parametrize("schema", [SCHEMA + 1, 99, 10**30])
def test_a_newer_schema_is_named(schema: int) -> None:
    text = dump(RECORDS["paid"]).replace('"schema": 1', f'"schema": {schema}')
    error = refused(text)
    assert error.slug == "channel-schema"
    assert str(schema) in error.message
    # whatever it holds: this program cannot know
    assert refused(json.dumps({"schema": schema, "channel": None})).slug == "channel-schema"


@pytest.mark.parametrize("name", RECORDS)
def test_the_schema_says_whether_the_key_has_an_index(name: str) -> None:
    """An older program reads what it can go on with, and says of all else that it is too new for it."""
    counted, derived = dump(RECORDS[name]), dump(replace(RECORDS[name], key_index=None))
    assert counted.startswith('{"schema": 1, ')
    assert derived.startswith('{"schema": 2, ')
    assert load(derived) == replace(RECORDS[name], key_index=None)
    assert dump(load(derived)) == derived
    spaced = json.dumps(json.loads(derived), indent=1)  # not as it was written, but the same
    assert load(spaced) == load(derived)
    for text, schema in ((counted, 2), (derived, 1)):
        assert refused(f'{{"schema": {schema}{text[len(counted.split(",")[0]) :]}').slug == "channel-damaged"
        assert refused(json.dumps({**json.loads(text), "schema": schema})).slug == "channel-damaged"


@pytest.mark.parametrize("schema", [0, -1, 1.5, "1", None, True])
def test_an_unknown_schema_is_damage(schema: object) -> None:
    envelope = {**json.loads(dump(RECORDS["paid"])), "schema": schema}
    assert refused(json.dumps(envelope)).slug == "channel-damaged"


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"x"', "{}", '{"schema": 1}', "[" * 100_000])
def test_another_text_is_damage(text: str) -> None:
    assert refused(text).slug == "channel-damaged"


@pytest.mark.parametrize("name", ["paid", "settled"])
def test_every_changed_character_is_noticed(name: str) -> None:
    """The checksum stands over the content; the one of the schema has its own slug."""
    record = RECORDS[name]
    text = dump(record)
    start = text.index('"channel"')
    for at in range(start, len(text) - 2, 7):
        other = "0" if text[at] != "0" else "1"
        error = refused(text[:at] + other + text[at + 1 :])
        assert error.slug == "channel-damaged"


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "other"},
        {"role": None},
        {"phase": "dreaming"},
        {"phase": "settling"},
        {"outpoint": "x"},
        {"outpoint": 5},
        {"funding_value_sat": -1},
        {"funding_value_sat": 1.5},
        {"payer_pubkey": "00" * 33},
        {"payer_script": "zz"},
        {"payer_script": None},
        {"refund_lock_time": 0},
        {"refund_lock_time": "1"},
        {"refund_tx": "00"},
        {"refund_tx": None},
        {"funding_tx": 7},
        {"update": None},
        {"update": {"number": 1}},
        {"update": {"number": 1, "paid_sat": "1"}},
        {"offer": {}},
        {"offer": []},
        {"offer": "x"},
        {"offer": {**TERMS.offer.to_dict(), "step": 0}},
        {"key_index": "gone"},
        {"phase": "gone"},
    ],
)
def test_nonsense_with_a_fitting_checksum_is_damage(changes: dict[str, Any]) -> None:
    if changes == {"phase": "settling"}:
        changes = {"phase": "settling", "settlement_sat": None}
    assert refused(rewritten(RECORDS["paid"], **changes)).slug == "channel-damaged"


@settings(max_examples=60)
@given(st.data())
def test_random_damage_never_becomes_another_channel(data: st.DataObject) -> None:
    text = dump(RECORDS["settled"])
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.text(max_size=3))
    spoiled = text[:at] + new + text[at + data.draw(st.integers(0, 60)) :]
    try:
        record = load(spoiled)
    except ParseError:
        return
    assert record == RECORDS["settled"]


# in a wallet --------------------------------------------------------------------------------------


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, coins=3)


DAMAGE = {
    "empty": b"",
    "half": None,
    "not UTF-8": b"\xff\xfe\x00",
    "newer": json.dumps({"schema": SCHEMA + 1, "checksum": "", "channel": {"x": 1}}).encode(),
    "text": b"a diary",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_57_other_channels_go_on_working(pair: Pair, kind: str) -> None:
    broken, good = pair.open(), pair.open()
    for wallet in (pair.payer, pair.payee):
        path = wallet.directory / "channels" / f"{broken}.json"
        content = DAMAGE[kind]
        path.write_bytes(path.read_bytes()[:300] if content is None else content)
    pair.restart()
    spoiled = {path: data for path, data in pair.files().items() if path.endswith(f"{broken}.json")}

    told: list[str] = []
    listed = views.list_channels(
        pair.payer, pair.chain, lambda name, error: told.append(f"{name} {error.slug}")
    )
    assert [channel.channel for channel in listed.channels] == [good[:16]]
    assert len(told) == 1
    assert told[0].startswith(broken)
    with pytest.raises(StorageError) as caught:
        views.show(pair.payer, pair.chain, broken)
    assert caught.value.exit_code == 7
    assert broken in caught.value.message
    assert caught.value.slug in ("channel-damaged", "channel-schema", "malformed-file")

    # the good one pays, and another one opens
    pair.accept(pair.pay(good, 1000))
    third = pair.open()
    pair.accept(pair.pay(third, 2000))
    assert pair.settle(pair.settlement(good)).paid_sat == 1000
    pair.chain.mine(1)
    with pytest.raises(StorageError):
        pair.pay(broken, 1000)
    assert {path: pair.files()[path] for path in spoiled} == spoiled


def test_57_a_damaged_channel_is_not_as_if_there_were_none(pair: Pair) -> None:
    """Commands that name no channel, and the balance, say what they could not read."""
    name = pair.open()
    for wallet in (pair.payer, pair.payee):
        (wallet.directory / "channels" / f"{name}.json").write_bytes(b"a diary")
    pair.restart()
    told: list[str] = []
    assert (
        views.balance(pair.payer, pair.chain, lambda _, error: told.append(error.slug)).in_channels_sat == 0
    )
    assert told == ["channel-damaged"]
    for command in (
        lambda: payer_party.pay(pair.payer, pair.chain, None, Amount(1000)),
        lambda: payer_party.settle(pair.payer, pair.chain, None),
        lambda: payer_party.refund(pair.payer, pair.chain, None),
        lambda: payer_party.abandon(pair.payer, pair.chain, None),
        lambda: views.show(pair.payer, pair.chain, None),
        lambda: payee_party.settle(pair.payee, pair.chain, None),
        lambda: payee_party.abandon(pair.payee, pair.chain, None),
    ):
        with pytest.raises(StorageError) as caught:
            command()
        assert (caught.value.slug, name in caught.value.message) == ("channel-damaged", True)


def test_a_file_under_another_channels_name_is_damage(pair: Pair) -> None:
    first, second = pair.open(), pair.open()
    folder = pair.payee.directory / "channels"
    (folder / f"{first}.json").write_bytes((folder / f"{second}.json").read_bytes())
    pair.restart()
    with pytest.raises(StorageError) as caught:
        pair.accept(pair.pay(first, 1000))
    assert caught.value.slug == "channel-damaged"


def test_a_damaged_offer_stops_nobody(pair: Pair) -> None:
    """The payer brings it back; only who asks for the file itself is told."""
    bad = pair.offer()
    for path in (pair.payee.directory / "offers").glob("*.toml"):
        path.write_bytes(b"\xff" + path.read_bytes())
        with pytest.raises(MpchanError) as caught:
            pair.payee.offers.load(path.stem)
        assert (caught.value.slug, caught.value.exit_code) == ("offer-damaged", 7)
    request = pair.request(offer=bad)
    pair.fund(pair.sign_refund(request.hex))


def test_a_file_that_cannot_be_read_stops_no_other_channel(pair: Pair) -> None:
    broken, good = pair.open(), pair.open()
    for wallet in (pair.payer, pair.payee):
        path = wallet.directory / "channels" / f"{broken}.json"
        path.unlink()
        path.mkdir()  # as good as unreadable, for every user
    pair.restart()
    pair.accept(pair.pay(good, 1000))
    pair.open()
