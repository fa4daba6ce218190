"""What passes over HTTP: written, read back, and refused where it is anything else."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.protocol import PAYER_SCRIPT, PAYER_SECRET, make_offer, replace

from mpchan.errors import ParseError
from mpchan.http.wire.challenge import (
    Challenge,
    challenge_id,
    challenge_of,
    challenges_in,
    named,
    timestamp,
    timestamp_text,
)
from mpchan.http.wire.credential import (
    MAX_CREDENTIAL_BYTES,
    Close,
    Credential,
    Open,
    Payload,
    Prepare,
    Signed,
    Voucher,
)
from mpchan.http.wire.encoding import from_base64url, object_in, to_base64url, to_canonical, to_text
from mpchan.http.wire.fields import payment_parameters, written
from mpchan.http.wire.problems import BY_SLUG, READ_ALONE, TYPES, Problem
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import SaleLink, SessionRequest, Snapshot

SECRET = b"s" * 32
CHANNEL = "ab" * 32 + ":1"
OFFERS = {
    "decrementing": make_offer(version=2),
    "taproot": make_offer(version=2, scheme="taproot", own_terms={"made_at": 1000}, max_refund_delay=4320),
}
SALE = SaleLink("/.well-known/mpchan/offers/" + "0f" * 16, b"h" * 32, 14_000, 100, b"m" * 32)
SNAPSHOT = Snapshot(CHANNEL, 250_000, 240_000, 250_010, 1_000_000, 17, b"S" * 64)
SIGNED = Signed(250_010, 18, b"S" * 64)


def request_for(scheme: str, **changes: Any) -> SessionRequest:
    offer = OFFERS[scheme]
    return replace(SessionRequest(10, "request", 100_000, offer.payee_address, offer), **changes)


def challenge_for(scheme: str = "taproot", **changes: Any) -> Challenge:
    request = request_for(scheme, **changes).encode()
    return named(
        SECRET,
        Challenge("x", "shop.example", "bitcoin", "session", request, expires="2026-12-01T12:00:00Z"),
    )


def slug_of(call: Any) -> str:
    with pytest.raises(ParseError) as error:
        call()
    return error.value.slug


# headers ------------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True),
        st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        min_size=1,
    )
)
def test_parameters_are_read_as_they_were_written(parameters: dict[str, str]) -> None:
    header = written("Payment", parameters)
    assert payment_parameters([f'Basic realm="a, b", {header}, Digest abc==', header]) == [parameters] * 2


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Payment id=a", [{"id": "a"}]),
        ('payment ID = "a" ,realm=b,, Payment id="c"', [{"id": "a", "realm": "b"}, {"id": "c"}]),
        ('Bearer, Payment id="\\"\\\\"', [{"id": '"\\'}]),
        ('Newauth realm="Payment id=x", Negotiate abc=', []),
        ("", []),
    ],
)
def test_lists_of_challenges(value: str, found: list[dict[str, str]]) -> None:
    assert payment_parameters([value]) == found


@pytest.mark.parametrize(
    "value",
    [
        'Payment id="a',
        "Payment id=a, id=b",
        'Payment id="a" realm="b"',
        "Payment id=a\x00",
        "=",
        "Payment " + "a=b, " * 4000,
    ],
)
def test_what_is_no_list_of_challenges(value: str) -> None:
    assert slug_of(lambda: payment_parameters([value])) == "malformed-challenge"


def test_what_is_wrong_hides_nothing_that_is_right() -> None:
    """Several challenges in one value, as a proxy or a client joins them, and in several."""
    right = challenge_for()
    parameters = right.parameters()
    without = {name: value for name, value in parameters.items() if name != "realm"}
    twice = written("Payment", parameters) + ', ID="again"'
    for wrong in (written("Payment", without), twice, 'Payment id=""', "Payment", "Payment abc=="):
        assert challenges_in([f"{wrong}, {right.header()}, {wrong}"]) == [right]
        assert challenges_in([wrong, right.header()]) == [right]
        assert slug_of(lambda wrong=wrong: challenges_in([wrong, "Basic x"])) == "malformed-challenge"
    assert challenges_in([f'{right.header()}, Payment id="']) == [right]
    assert challenges_in(['Payment id="', right.header(), "=" * 20_000]) == [right]


@pytest.mark.parametrize("name", ["expires", "digest", "opaque"])
def test_what_the_id_cannot_tell_from_absent(name: str) -> None:
    challenge = replace(challenge_for(), expires=None)
    added = {**challenge.parameters(), "id": challenge_id(SECRET, challenge), name: ""}
    assert slug_of(lambda: challenge_of(added)) == "malformed-challenge"
    header = "Payment " + to_text({"challenge": added, "payload": PAYLOADS["voucher"].to_table()})
    assert slug_of(lambda: Credential.from_header(header)) == "malformed-credential"


@pytest.mark.parametrize("missing", ["id", "realm", "method", "intent", "request"])
def test_a_challenge_without(missing: str) -> None:
    parameters = challenge_for().parameters()
    del parameters[missing]
    assert slug_of(lambda: challenges_in([written("Payment", parameters)])) == "malformed-challenge"
    parameters["id"] = ""
    assert slug_of(lambda: challenges_in([written("Payment", parameters)])) == "malformed-challenge"


# challenges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", OFFERS)
@pytest.mark.parametrize(
    "more", [{}, {"sale": SALE}, {"channel": CHANNEL, "snapshot": SNAPSHOT}, {"suggested_deposit": None}]
)
def test_a_challenge_is_read_as_it_was_written(scheme: str, more: dict[str, Any]) -> None:
    challenge = replace(challenge_for(scheme, **more), opaque=to_text({"server": "a"}), others={"later": "x"})
    [found] = challenges_in([challenge.header()])
    assert found == challenge
    assert SessionRequest.decode(found.request) == request_for(scheme, **more)
    assert object_in(found.request)["methodDetails"]["terms"]["token"] == OFFERS[scheme].token


@pytest.mark.parametrize("name", ["realm", "method", "intent", "request", "expires", "digest", "opaque"])
def test_a_challenge_that_was_altered_is_known(name: str) -> None:
    challenge = challenge_for()
    assert challenge.is_named(SECRET)
    assert not replace(challenge, **{name: "other"}).is_named(SECRET)
    assert not challenge.is_named(b"t" * 32)
    assert replace(challenge, description="words").is_named(SECRET)


REQUEST_ERRORS: dict[str, Any] = {
    "amount of a number": lambda t: t.update(amount=10),
    "amount zero": lambda t: t.update(amount="0"),
    "amount with zeros": lambda t: t.update(amount="010"),
    "amount beyond all money": lambda t: t.update(amount="2100000000000001"),
    "currency": lambda t: t.update(currency="usd"),
    "recipient": lambda t: t.update(recipient="bcrt1qother"),
    "network": lambda t: t["methodDetails"].update(network="bip122:" + "0" * 32),
    "network of another chain": lambda t: t["methodDetails"].update(
        network="bip122:000000000019d6689c085ae165831e93"
    ),
    "scheme": lambda t: t["methodDetails"].update(scheme="decrementing"),
    "terms": lambda t: t["methodDetails"].update(terms=None),
    "no details": lambda t: t.pop("methodDetails"),
    "unit": lambda t: t.update(unitType="\n"),
    "snapshot": lambda t: t["methodDetails"].update(sessionSnapshot=[]),
    **{
        f"sale at {url}": lambda t, url=url: t["methodDetails"].update(sale={**SALE.to_table(), "url": url})
        for url in (
            *(
                "//evil.example/x",
                "/\\evil.example/x",
                "/a b",
                "/a ",
                " /a",
                "/a\\b",
                "/a?b",
                "/a#b",
                "/",
                "",
            ),
            *("a", "https://evil.example/", "/%2", "/%", "/\t/evil.example", "/\u00e9", "/" + "a" * 501),
        )
    },
    "channel": lambda t: t["methodDetails"].update(channelId="ab" * 32 + "-1"),
}


@pytest.mark.parametrize("error", REQUEST_ERRORS)
def test_what_is_no_request(error: str) -> None:
    table = object_in(challenge_for().request)
    REQUEST_ERRORS[error](table)
    text = to_base64url(json.dumps(table).encode())
    assert slug_of(lambda: SessionRequest.decode(text)) == "malformed-challenge"


@pytest.mark.parametrize(
    "text",
    ["", "e30=", "W10", "e30 ", "eyJhIjoxLCJhIjoyfQ", "eyJhIjoxLjV9", "eyJhIjpOYU59", "e31", "_w"]
    + [to_base64url(text.encode()) for text in (r'{"a":"\ud800"}', '{"a":9007199254740992}')],
)
def test_what_is_no_object(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # every reader names it
        object_in(text)


def test_canonical_json_is_what_offers_have() -> None:
    for offer in OFFERS.values():
        assert to_canonical(offer.to_dict()) == offer.canonical()


@given(st.binary())
def test_base64url(data: bytes) -> None:
    assert from_base64url(to_base64url(data)) == data


@pytest.mark.parametrize("text", ["2026-12-01T12:00:00Z", "2026-12-01T13:00:00.0+01:00"])
def test_times(text: str) -> None:
    assert timestamp_text(timestamp(text)) == "2026-12-01T12:00:00Z"
    loose = ("20261201T120000Z", "2026-W49-2T12:00:00Z", "2026-12-01T12Z", "2026-12-01T12:00:00+0000")
    for other in (text[:-1], "x", "2026-12-01", "9" * 50, *loose):
        assert slug_of(lambda other=other: timestamp(other)) == "malformed-challenge"


# credentials --------------------------------------------------------------------------------------

PAYLOADS: dict[str, Payload] = {
    "prepare": Prepare(b"psbt\xff" + bytes(600)),
    "open": Open(
        *(CHANNEL, b"\x02" + bytes(190), PAYER_SECRET.public_key, PAYER_SCRIPT, 1800),
        *("0f" * 16, "0e" * 32, Signed(10, 1, b"S" * 71)),
    ),
    "open by hash": Open(
        *(CHANNEL, None, PAYER_SECRET.public_key, PAYER_SCRIPT, 1800),
        *("0f" * 16, "0e" * 32, Signed(10, None, b"S" * 64)),
    ),
    "voucher": Voucher(CHANNEL, SIGNED),
    "close": Close(CHANNEL, SIGNED),
}


@pytest.mark.parametrize("action", PAYLOADS)
def test_a_credential_is_read_as_it_was_written(action: str) -> None:
    echo = {**challenge_for(sale=SALE).echo(), "later": "kept"}
    credential = Credential(echo, PAYLOADS[action], "did:example:1")
    header = credential.header()
    assert len(header) <= MAX_CREDENTIAL_BYTES
    assert Credential.from_header(header) == credential
    assert Credential.from_header("payment  " + header[8:]) == credential


CREDENTIAL_ERRORS: dict[str, Any] = {
    "no challenge": lambda t: t.pop("challenge"),
    "a number in the challenge": lambda t: t["challenge"].update(expires=1),
    "no id": lambda t: t["challenge"].update(id=""),
    "no payload": lambda t: t.pop("payload"),
    "no signature": lambda t: t["payload"].pop("signature"),
    "an empty signature": lambda t: t["payload"].update(signature=""),
    "a long signature": lambda t: t["payload"].update(signature="A" * 400),
    "a padded signature": lambda t: t["payload"].update(signature="AA=="),
    "a total of a number": lambda t: t["payload"].update(cumulativeAmount=5),
    "a negative total": lambda t: t["payload"].update(cumulativeAmount="-5"),
    "a total of zero": lambda t: t["payload"].update(cumulativeAmount="0"),
    "a number that is true": lambda t: t["payload"].update(number=True),
    "half of a surrogate pair": lambda t: t["challenge"].update(realm="\ud800"),
    "channel by its file": lambda t: t["payload"].update(channelId="ab" * 32 + "-1"),
    "source": lambda t: t.update(source=5),
    "hex with blanks": lambda t: t.update(payload={**PAYLOADS["open"].to_table(), "payerScript": "ab cd"}),
    **{
        f"{name} of {value!r:.10}": lambda t, name=name, value=value: t.update(
            payload={**PAYLOADS["open"].to_table(), name: value}
        )
        for name in ("transaction", "payerScript", "payerPubkey", "offerId", "token")
        for value in ("", "a", "0F" * 16, None)
    },
    "a token that is too short": lambda t: t.update(
        payload={**PAYLOADS["open"].to_table(), "token": "0e" * 31}
    ),
    "an offer id that is too long": lambda t: t.update(
        payload={**PAYLOADS["open"].to_table(), "offerId": "0f" * 17}
    ),
    "an empty psbt": lambda t: t.update(payload={"action": "prepare", "psbt": ""}),
}


@pytest.mark.parametrize("error", CREDENTIAL_ERRORS)
def test_what_is_no_credential(error: str) -> None:
    table = object_in(Credential(challenge_for().echo(), PAYLOADS["voucher"]).header()[8:])
    CREDENTIAL_ERRORS[error](table)
    header = "Payment " + to_base64url(json.dumps(table).encode())
    assert slug_of(lambda: Credential.from_header(header)) == "malformed-credential"


@pytest.mark.parametrize(
    "header", ["", "Payment", "Payment ", "Basic abc", "Payment !", "Payment " + "A" * 9000]
)
def test_what_is_not_even_a_credential(header: str) -> None:
    assert slug_of(lambda: Credential.from_header(header)) == "malformed-credential"


def test_a_top_up_is_named_for_what_it_is() -> None:
    table = {"challenge": challenge_for().echo(), "payload": {"action": "topUp", "channelId": CHANNEL}}
    assert slug_of(lambda: Credential.from_header("Payment " + to_text(table))) == "action-unsupported"


def test_a_credential_that_no_header_should_hold_is_not_written() -> None:
    large = Credential(challenge_for().echo(), Prepare(bytes(6000)))
    assert slug_of(large.header) == "credential-too-long"


# receipts and problems ----------------------------------------------------------------------------

SPECIFIED = (
    *("payment-required", "payment-insufficient", "payment-expired", "verification-failed"),
    *("method-unsupported", "malformed-credential", "invalid-challenge"),
    *("session/invalid-signature", "session/signer-mismatch", "session/amount-exceeds-deposit"),
    *("session/delta-too-small", "session/channel-not-found", "session/channel-finalized"),
    *("session/challenge-not-found", "session/insufficient-balance"),
)


@pytest.mark.parametrize("more", [{}, {"units": 3}, {"tx_hash": "cd" * 32}])
def test_a_receipt(more: dict[str, Any]) -> None:
    receipt = replace(Receipt("id", CHANNEL, 250_010, 250_000, "2026-12-01T12:00:00Z"), **more)
    assert Receipt.from_header(receipt.header()) == receipt
    wrong = dict.fromkeys(("method", "status", "channelId", "reference", "timestamp", "txHash"), "\x1b[2J")
    for name, value in {**wrong, "spent": "250011", "challengeId": ""}.items():
        table = {**receipt.to_table(), name: value}
        assert slug_of(lambda table=table: Receipt.from_header(to_text(table))) == "malformed-receipt"


def test_a_problem() -> None:
    problem = Problem("voucher-low", "10 is below 20", members={"requiredCumulative": "20"})
    table = json.loads(problem.body())
    assert table["type"] == "https://paymentauth.org/problems/session/insufficient-balance"
    assert Problem.from_body(problem.body(), 402) == problem
    assert Problem("channel-settling", "x").type == "session/channel-finalized"
    assert set(BY_SLUG.values()) | set(READ_ALONE) | {
        "session/channel-finalized",
        "verification-failed",
    } == set(TYPES)


def test_no_member_takes_the_place_of_what_the_type_says() -> None:
    names = ("type", "title", "status", "detail", "slug", "hint")
    problem = Problem("voucher-low", "words", members={**dict.fromkeys(names, "other"), "later": 1})
    plain = json.loads(Problem("voucher-low", "words").body())
    assert json.loads(problem.body()) == {**plain, "later": 1}


@pytest.mark.parametrize("name", SPECIFIED)
def test_every_type_of_the_specifications_is_read(name: str) -> None:
    """draft-httpauth-payment, "Error Codes"; draft-tempo-session, "Rejection and Error Responses"."""
    assert TYPES[name][1] == (400 if name == "method-unsupported" else 402)
    body = json.dumps({"type": f"https://paymentauth.org/problems/{name}", "title": TYPES[name][0]}).encode()
    assert Problem.from_body(body, 402).slug == name.rpartition("/")[2]


def test_a_problem_of_a_stranger() -> None:
    body = b'{"type":"https://paymentauth.org/problems/session/bad","detail":"\\u001b[31m","slug":5}'
    found = Problem.from_body(body, 402)
    assert (found.slug, found.detail) == ("bad", "?[31m")
    for name in ("\\u001b[2J", "x" * 60_000 + "!"):
        body = b'{"type":"https://paymentauth.org/problems/%s"}' % name.encode()
        assert Problem.from_body(body, 402).slug == "payment-required"
    for data in (b"", b"[]", b"\xff", b'{"a":1.5}', b"{}" + b" " * 70_000):
        assert slug_of(lambda data=data: Problem.from_body(data, 402)) == "malformed-answer"


# another implementation ---------------------------------------------------------------------------

if sys.version_info >= (3, 11):
    import mpp

    @pytest.mark.parametrize("scheme", OFFERS)
    def test_the_sdk_reads_our_challenge_and_names_it_alike(scheme: str) -> None:
        ours = replace(challenge_for(scheme, sale=SALE), opaque=to_text({"server": "a"}))
        ours = named(SECRET, ours)
        theirs = mpp.Challenge.from_www_authenticate(ours.header())
        assert theirs.id == ours.id
        assert theirs.request == object_in(ours.request)
        assert theirs.verify(SECRET.decode(), ours.realm)
        [again] = challenges_in([theirs.to_www_authenticate(ours.realm)])
        assert again == ours
        assert challenge_id(SECRET, again) == ours.id

    @pytest.mark.parametrize("action", PAYLOADS)
    def test_the_sdk_reads_and_writes_our_credentials(action: str) -> None:
        ours = Credential(challenge_for().echo(), PAYLOADS[action])
        theirs = mpp.Credential.from_authorization(ours.header())
        assert theirs.payload == object_in(ours.header()[8:])["payload"]
        assert Credential.from_header(theirs.to_authorization()) == ours

    def test_the_sdk_reads_our_receipt() -> None:
        ours = Receipt("id", CHANNEL, 250_010, 250_000, "2026-12-01T12:00:00Z", 1)
        theirs = mpp.Receipt.from_payment_receipt(ours.header())
        assert (theirs.status, theirs.method, theirs.reference) == ("success", "bitcoin", CHANNEL)
