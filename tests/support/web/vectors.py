"""The vectors of the wire, from keys that everybody knows: what another implementation must read, write and sign alike.

    PYTHONPATH=tests python -m support.web.vectors > mpchan/http/wire/vectors.json

They come from the code that speaks, so a file that differs is stale, and a test says so. The channel of each
construction is whole: its funding pays from a coin of the payer, and every signature is over the transaction that
stands beside it.
"""

from __future__ import annotations

import json
from typing import Any

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import p2wpkh_script_code
from mpchan.bitcoin.sighash import segwit_v0_sighash
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.channel.carried import with_offer
from mpchan.channel.construction.base import REFUND, Meant, settlement
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms, funding_output
from mpchan.errors import MpchanError
from mpchan.http.wire.challenge import Challenge, named
from mpchan.http.wire.credential import Close, Credential, Open, Payload, Prepare, Signed, Voucher
from mpchan.http.wire.encoding import object_in, to_base64url, to_text
from mpchan.http.wire.problems import BY_SLUG, TYPES, Problem
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import SaleLink, SessionRequest, Snapshot
from mpchan.units import Amount, Height, OutPoint
from support.protocol import (
    CAPACITY,
    PAYEE,
    PAYEE_SECRET,
    PAYER,
    PAYER_SCRIPT,
    PAYER_SECRET,
    make_offer,
    payout,
    private_key,
    replace,
)

SECRET = b"a secret of the server, 32 bytes"
REALM, EXPIRES, TIME = "shop.example", "2026-12-01T12:00:00Z", "2026-12-01T11:30:00Z"
REFUND_AT = Height(4_320)
PRICE, FIRST, SPENT = 10, 1_000, 980
SALE = SaleLink("/.well-known/mpchan/offers/" + "0f" * 16, b"h" * 32, 14_000, 100, b"m" * 32)
SCHEMES = ("decrementing", "taproot")
OWN_TERMS = {"decrementing": {"step": 1}, "taproot": {"made_at": 1_000}}

ABOUT = (
    'Vectors of the "Payment" scheme with method "bitcoin" and intent "session". Amounts are satoshi. Bytes are '
    "lower-case hex, transactions in network byte order; digest is what signature signs (BIP-0143 or BIP-0341), under "
    "the payer's key. In a credential's header challenge and payload are canonical JSON (RFC 8785), base64url without "
    "padding; readers take any order. id is HMAC-SHA256 by challengeSecret. What stands under refused must be refused."
)


class Vectors:
    """One channel, and what is said of it."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.offer = _offer(scheme)
        output = funding_output(self.offer, CAPACITY, PAYER.public_key, PAYER_SCRIPT, REFUND_AT)
        self.funding = _signed_funding(output)
        self.terms = Terms(
            *(self.offer, OutPoint(self.funding.txid, 0), output.value),
            *(PAYER.public_key, PAYER_SCRIPT, REFUND_AT),
        )
        self.channel = str(self.terms.outpoint)
        form = construction_of(self.offer).form(self.terms)
        if form is None:
            raise ValueError("the channel's updates have no form")
        self.is_numbered = form.last is not None

    # challenges -----------------------------------------------------------------------------------

    def challenge(self, **more: Any) -> Challenge:
        """A challenge of a request that costs 10 sat."""
        given = {name: more.pop(name) for name in ("opaque", "description", "digest") if name in more}
        request = SessionRequest(PRICE, "request", 100_000, self.offer.payee_address, self.offer, **more)
        return named(SECRET, Challenge("", REALM, "bitcoin", "session", request.encode(), EXPIRES, **given))

    def snapshot(self) -> Snapshot:
        """Where the server says that the channel stands."""
        number = 2 if self.is_numbered else None
        signature = PAYER.sign_update(self.terms, 2, Amount(FIRST + PRICE))
        deposit = self.terms.capacity.sat
        return Snapshot(self.channel, FIRST + PRICE, SPENT, SPENT + PRICE, deposit, number, signature)

    def challenges(self) -> dict[str, Challenge]:
        """By their names."""
        return {
            "terms": self.challenge(),
            "all": self.challenge(
                sale=SALE,
                channel=self.channel,
                snapshot=self.snapshot(),
                opaque=to_text({"server": "a"}),
                description='one "request"',
                digest="sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
            ),
        }

    # credentials ----------------------------------------------------------------------------------

    def update(self, number: int, total: int) -> Signed:
        """The payer's word for a total."""
        signature = PAYER.sign_update(self.terms, number, Amount(total))
        return Signed(total, number if self.is_numbered else None, signature)

    def payloads(self) -> dict[str, tuple[Payload, Meant | None]]:
        """What a payer says, and what it signs for with it."""
        schedule = self.terms.schedule
        total = SPENT + PRICE
        first = schedule.update(1, Amount(FIRST))
        opening = Open(
            *(self.channel, self.funding.to_bytes(), PAYER.public_key, PAYER_SCRIPT, REFUND_AT.value),
            *(self.offer.offer_id, self.offer.token, self.update(1, FIRST)),
        )
        close = Signed(total, None, PAYER.sign_settlement(self.terms, Amount(total)))
        found: dict[str, tuple[Payload, Meant | None]] = {
            "open": (opening, first),
            "open by hash": (replace(opening, transaction=None), first),
            "voucher": (
                Voucher(self.channel, self.update(2, FIRST + PRICE)),
                schedule.update(2, Amount(FIRST + PRICE)),
            ),
            "close": (Close(self.channel, close), settlement(Amount(total))),
        }
        if construction_of(self.offer).has_exchange:
            asked = with_offer(self.terms.lock.message(schedule.build(REFUND)), self.offer)
            found = {"prepare": (Prepare(asked.to_bytes()), None), **found}
        return found

    def credentials(self, answered: Challenge) -> list[dict[str, Any]]:
        """Each payload as it is sent."""
        found = []
        for name, (payload, meant) in self.payloads().items():
            header = Credential(answered.echo(), payload).header()
            table = {
                "name": name,
                "challenge": "terms",
                "payload": payload.to_table(),
                "authorization": header,
            }
            found.append(table if meant is None else {**table, "signed": self._signed(meant)})
        return found

    def _signed(self, meant: Meant) -> dict[str, str]:
        transaction = self.terms.schedule.build(meant)
        return {"transaction": transaction.to_hex(), "digest": self._digest(transaction).hex()}

    def _digest(self, transaction: Transaction) -> bytes:
        digest: bytes = self.terms.lock.sighash(transaction)  # type: ignore[attr-defined]  # both locks have it
        return digest

    # all ------------------------------------------------------------------------------------------

    def table(self) -> dict[str, Any]:
        """Everything of this construction."""
        challenges = self.challenges()
        answered = challenges["terms"]
        receipts = [
            Receipt(answered.id, self.channel, FIRST + PRICE, SPENT + PRICE, TIME),
            Receipt(answered.id, self.channel, FIRST + PRICE, SPENT + PRICE, TIME, units=1),
            Receipt(answered.id, self.channel, SPENT + PRICE, SPENT + PRICE, TIME, tx_hash="cd" * 32),
        ]
        return {
            "channel": {
                "channelId": self.channel,
                "fundingValue": str(self.terms.funding_value.sat),
                "fundingScript": self.terms.funding_txout.script_pubkey.hex(),
                "refundLockTime": REFUND_AT.value,
                "refund": self._signed(REFUND),
            },
            "challenges": [_challenge(name, each) for name, each in challenges.items()],
            "credentials": self.credentials(answered),
            "receipts": [{"receipt": each.to_table(), "paymentReceipt": each.header()} for each in receipts],
        }

    def refused(self) -> dict[str, list[dict[str, str]]]:
        """What no reader may take."""
        wrong = _wrong_challenges(self.challenge())
        return {
            "challenges": [{"why": why, "wwwAuthenticate": each.header()} for why, each in wrong],
            "credentials": [_refused_credential(why, table) for why, table in _wrong_credentials(self)],
        }


def _offer(scheme: str) -> Offer:
    return make_offer(
        version=2,
        scheme=scheme,
        own_terms=OWN_TERMS[scheme],
        max_refund_delay=4_320,
        payee_address=script_to_address(payout("p2wpkh", "payee"), REGTEST),
    )


def _signed_funding(output: TxOut) -> Transaction:
    """It spends a coin that was never there; its signature is good."""
    key = private_key("payer payout")
    coin = TxOut(Amount(output.value.sat + 1_000), PAYER_SCRIPT)
    source = OutPoint.parse("11" * 32 + ":1")
    funding = Transaction(2, (TxIn(source, 0xFFFF_FFFD),), (output,), 0)
    digest = segwit_v0_sighash(funding, 0, p2wpkh_script_code(PAYER_SCRIPT), coin.value, 1)
    return funding.with_witness(0, (key.sign(digest) + b"\x01", key.public_key.sec))


def _challenge(name: str, challenge: Challenge) -> dict[str, Any]:
    return {
        "name": name,
        "parameters": {name: value for name, value in challenge.parameters().items() if name != "request"},
        "request": object_in(challenge.request),
        "wwwAuthenticate": challenge.header(),
    }


# what is refused ----------------------------------------------------------------------------------


def _wrong_challenges(right: Challenge) -> list[tuple[str, Challenge]]:
    request = object_in(right.request)

    def with_request(**changes: Any) -> Challenge:
        return named(SECRET, replace(right, request=to_text({**request, **changes})))

    def with_details(**changes: Any) -> Challenge:
        return with_request(methodDetails={**request["methodDetails"], **changes})

    terms = request["methodDetails"]["terms"]
    return [
        ("an empty id", replace(right, id="")),
        ("an amount that is no string", with_request(amount=10)),
        ("an amount of zero", with_request(amount="0")),
        ("an amount with a zero before it", with_request(amount="010")),
        ("another currency", with_request(currency="usd")),
        ("another recipient than the terms have", with_request(recipient="bcrt1qother")),
        ("another network than the terms have", with_details(network="bip122:" + "0" * 32)),
        ("another construction than the terms have", with_details(scheme="other")),
        ("terms that sell something", with_details(terms={**terms, "sale": {}})),
        ("a sale elsewhere", with_details(sale={**SALE.to_table(), "url": "//evil.example/x"})),
        ("a channel that is no outpoint", with_details(channelId="ab" * 32)),
    ]


def _wrong_credentials(vectors: Vectors) -> list[tuple[str, dict[str, Any]]]:
    echo = {"id": "x", "realm": REALM, "method": "bitcoin", "intent": "session", "request": to_text({})}
    opening = vectors.payloads()["open"][0].to_table()
    voucher = vectors.payloads()["voucher"][0].to_table()
    right = {"challenge": echo, "payload": voucher}
    Credential.from_header(f"Payment {to_text(right)}")  # so it is nothing but the change that is refused
    found: list[tuple[str, dict[str, Any]]] = [
        ("no challenge", {"payload": voucher}),
        ("no payload", {"challenge": echo}),
        ("a challenge without an id", {**right, "challenge": {**echo, "id": ""}}),
        ("an unknown action", {**right, "payload": {**voucher, "action": "topUp"}}),
        ("a member of the challenge that is no string", {**right, "challenge": {**echo, "x": 1}}),
        ("a source that is no string", {**right, "source": 1}),
    ]
    for name, value in (
        *(("cumulativeAmount", 1_010), ("cumulativeAmount", "0"), ("cumulativeAmount", "01010")),
        *(("signature", ""), ("signature", "AA=="), ("channelId", "ab" * 32 + "-1"), ("number", "2")),
    ):
        found.append((f"{name} is {value!r}", {**right, "payload": {**voucher, name: value}}))
    for name, value in (
        *(("transaction", ""), ("payerScript", ""), ("token", ""), ("offerId", "0F" * 16)),
        *(("payerPubkey", "02" + "ff" * 32), ("refundLockTime", "4320"), ("type", "other")),
    ):
        found.append((f"{name} is {value!r}", {**right, "payload": {**opening, name: value}}))
    return found


def _refused_credential(why: str, table: dict[str, Any]) -> dict[str, str]:
    header = f"Payment {to_base64url(json.dumps(table).encode())}"
    try:
        Credential.from_header(header)
    except MpchanError as error:
        return {"why": why, "authorization": header, "slug": error.slug}
    raise ValueError(f"it is taken: {why}")


def _problems() -> list[dict[str, Any]]:
    members = {"requiredCumulative": "990", "acceptedCumulative": "980"}
    slugs = [*BY_SLUG, "channel-settling", "update-number"]
    problems = [Problem(slug, "words", 402, "more words", members) for slug in slugs]
    return [{"slug": each.slug, "body": json.loads(each.body())} for each in problems]


def table() -> dict[str, Any]:
    """All vectors."""
    return {
        "about": ABOUT,
        "keys": {
            "payerSecret": PAYER_SECRET.to_bytes().hex(),
            "payerPubkey": PAYER.public_key.sec.hex(),
            "payeeSecret": PAYEE_SECRET.to_bytes().hex(),
            "payeePubkey": PAYEE.public_key.sec.hex(),
            "challengeSecret": SECRET.hex(),
        },
        "constructions": {scheme: Vectors(scheme).table() for scheme in SCHEMES},
        "refused": Vectors(SCHEMES[-1]).refused(),
        "problemTypes": [{"type": name, "status": status} for name, (_, status) in TYPES.items()],
        "problems": _problems(),
    }


def text() -> str:
    """The file."""
    return json.dumps(table(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
