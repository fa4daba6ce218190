"""The vectors of the wire that the package brings: they are what the code says, and other libraries agree."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from importlib.resources import files
from typing import Any

import pytest
from embit import ec, script
from embit.transaction import Transaction as TheirTransaction
from support.web import vectors

from mpchan.errors import ParseError
from mpchan.http.wire.challenge import challenges_in
from mpchan.http.wire.credential import Credential
from mpchan.http.wire.encoding import to_canonical
from mpchan.http.wire.problems import Problem
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import SessionRequest

TEXT = files("mpchan.http.wire").joinpath("vectors.json").read_text(encoding="utf-8")
TABLE: dict[str, Any] = json.loads(TEXT)
KEYS = {name: bytes.fromhex(value) for name, value in TABLE["keys"].items()}
SCHEMES = ("decrementing", "taproot")


def unpadded(text: str) -> Any:
    """JSON in base64url, by Python's own means."""
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def each(kind: str) -> list[Any]:
    return [
        pytest.param(scheme, entry, id=f"{scheme}-{entry.get('name', number)}")
        for scheme in SCHEMES
        for number, entry in enumerate(TABLE["constructions"][scheme][kind])
    ]


def test_they_are_what_the_code_says() -> None:
    """A stale file: ``PYTHONPATH=tests python -m support.web.vectors > mpchan/http/wire/vectors.json``."""
    assert vectors.text() == TEXT


@pytest.mark.parametrize(("scheme", "entry"), each("challenges"))
def test_challenges(scheme: str, entry: Any) -> None:
    [challenge] = challenges_in([entry["wwwAuthenticate"]])
    parameters = challenge.parameters()
    text = parameters.pop("request")
    assert parameters == entry["parameters"]
    assert unpadded(text) == entry["request"]
    assert to_canonical(entry["request"]) == base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    slots = [parameters["realm"], "bitcoin", "session", text]
    slots += [parameters.get(name, "") for name in ("expires", "digest", "opaque")]
    digest = hmac.new(KEYS["challengeSecret"], "|".join(slots).encode(), hashlib.sha256).digest()
    assert challenge.id == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    request = SessionRequest.decode(text)
    assert request.scheme == scheme
    assert request.encode() == text


@pytest.mark.parametrize(("scheme", "entry"), each("credentials"))
def test_credentials(scheme: str, entry: Any) -> None:
    credential = Credential.from_header(entry["authorization"])
    assert credential.header() == entry["authorization"]
    sent = unpadded(entry["authorization"].removeprefix("Payment "))
    assert sent["payload"] == entry["payload"]
    [answered] = [
        challenge["wwwAuthenticate"]
        for challenge in TABLE["constructions"][scheme]["challenges"]
        if challenge["name"] == entry["challenge"]
    ]
    assert challenges_in([answered])[0].parameters() == sent["challenge"]


@pytest.mark.parametrize(("scheme", "entry"), each("credentials"))
def test_signatures(scheme: str, entry: Any) -> None:
    """embit verifies them; and where it can make the digest, it makes the same."""
    if "signed" not in entry:
        assert entry["name"] == "prepare"
        return
    text = entry["payload"]["signature"]
    signature = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    digest = bytes.fromhex(entry["signed"]["digest"])
    key = ec.PublicKey.parse(KEYS["payerPubkey"])
    if scheme == "taproot":
        assert key.schnorr_verify(ec.SchnorrSig(signature), digest)
        return
    assert signature[-1:] == b"\x01"
    assert key.verify(ec.Signature.parse(signature[:-1]), digest)
    multisig = script.multisig(2, sorted(map(ec.PublicKey.parse, (KEYS["payerPubkey"], KEYS["payeePubkey"]))))
    channel = TABLE["constructions"][scheme]["channel"]
    assert script.p2wsh(multisig).data.hex() == channel["fundingScript"]
    theirs = TheirTransaction.parse(bytes.fromhex(entry["signed"]["transaction"]))
    assert theirs.sighash_segwit(0, multisig, int(channel["fundingValue"])) == digest


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fundings(scheme: str) -> None:
    """The channel's output is in the transaction of ``open``, which embit names alike."""
    table = TABLE["constructions"][scheme]
    [opening] = [entry["payload"] for entry in table["credentials"] if entry["name"] == "open"]
    theirs = TheirTransaction.parse(bytes.fromhex(opening["transaction"]))
    txid, vout = table["channel"]["channelId"].split(":")
    output = theirs.vout[int(vout)]
    assert theirs.txid().hex() == txid
    found = output.value, output.script_pubkey.data.hex()
    assert found == (int(table["channel"]["fundingValue"]), table["channel"]["fundingScript"])
    source = theirs.vin[0]
    key = ec.PublicKey.parse(source.witness.items[1])
    code = script.p2pkh(key)
    digest = theirs.sighash_segwit(0, code, output.value + 1_000)
    assert key.verify(ec.Signature.parse(source.witness.items[0][:-1]), digest)


@pytest.mark.parametrize(("scheme", "entry"), each("receipts"))
def test_receipts(scheme: str, entry: Any) -> None:
    assert unpadded(entry["paymentReceipt"]) == entry["receipt"]
    found = Receipt.from_header(entry["paymentReceipt"])
    assert found.to_table() == entry["receipt"]
    assert found.channel == TABLE["constructions"][scheme]["channel"]["channelId"]


def test_every_action_and_answer_is_there() -> None:
    for scheme in SCHEMES:
        table = TABLE["constructions"][scheme]
        actions = {entry["payload"]["action"] for entry in table["credentials"]}
        assert actions == {"open", "voucher", "close", *(["prepare"] if scheme == "decrementing" else [])}
        shown = [
            SessionRequest.decode(challenges_in([e["wwwAuthenticate"]])[0].request)
            for e in table["challenges"]
        ]
        assert [request.snapshot is not None for request in shown] == [False, True]
        assert [request.sale is not None for request in shown] == [False, True]


@pytest.mark.parametrize("entry", TABLE["problems"], ids=lambda entry: entry["slug"])
def test_problems(entry: Any) -> None:
    found = Problem.from_body(json.dumps(entry["body"]).encode(), entry["body"]["status"])
    assert found.slug == entry["slug"]
    assert json.loads(found.body()) == entry["body"]
    types = [each["type"] for each in TABLE["problemTypes"]]
    assert entry["body"]["type"].removeprefix("https://paymentauth.org/problems/") in types


@pytest.mark.parametrize("entry", TABLE["refused"]["challenges"], ids=lambda entry: entry["why"])
def test_challenges_that_are_refused(entry: Any) -> None:
    with pytest.raises(ParseError):
        SessionRequest.decode(challenges_in([entry["wwwAuthenticate"]])[0].request)


@pytest.mark.parametrize("entry", TABLE["refused"]["credentials"], ids=lambda entry: entry["why"])
def test_credentials_that_are_refused(entry: Any) -> None:
    with pytest.raises(ParseError) as error:
        Credential.from_header(entry["authorization"])
    assert error.value.slug == entry["slug"]


# another implementation ---------------------------------------------------------------------------

if sys.version_info >= (3, 11):
    import mpp

    @pytest.mark.parametrize(("scheme", "entry"), each("challenges"))
    def test_the_sdk_reads_the_challenges(scheme: str, entry: Any) -> None:
        theirs = mpp.Challenge.from_www_authenticate(entry["wwwAuthenticate"])
        assert theirs.request == entry["request"]
        assert theirs.verify(KEYS["challengeSecret"].decode(), theirs.realm)

    @pytest.mark.parametrize(("scheme", "entry"), each("credentials"))
    def test_the_sdk_reads_the_credentials(scheme: str, entry: Any) -> None:
        theirs = mpp.Credential.from_authorization(entry["authorization"])
        assert theirs.payload == entry["payload"]

    @pytest.mark.parametrize(("scheme", "entry"), each("receipts"))
    def test_the_sdk_reads_the_receipts(scheme: str, entry: Any) -> None:
        theirs = mpp.Receipt.from_payment_receipt(entry["paymentReceipt"])
        assert (theirs.status, theirs.reference) == ("success", entry["receipt"]["channelId"])
