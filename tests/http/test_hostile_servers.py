"""Servers that want more than they say: a payer signs for the price that it was asked for, once, and no more."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.web.buying import Both, Given, buying, text

from mpchan.channel import payer as protocol
from mpchan.errors import MpchanError, NotPossible, Refused
from mpchan.http.client.dialogue import MOST_TRIES, Answer, Dialogue
from mpchan.http.server.prices import Price
from mpchan.http.wire.challenge import Challenge, challenges_in
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import SessionRequest, Snapshot
from mpchan.party.spending.limits import Question
from mpchan.values import replace

PRICE = 1_000
DEPOSIT = 50_000


@pytest.fixture(params=("decrementing", "taproot"))
def both(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Both]:
    with buying(tmp_path, chain_directory, request.param, PRICE) as found:
        yield found


def opened(both: Both) -> None:
    """A channel in which one request was paid for."""
    with both.purse(deposit=DEPOSIT) as purse, both.client(purse) as client:
        assert text(client.request("GET", both.url)) == "hello "
    both.between.asked.clear()


def challenge_of(given: Given) -> Challenge:
    """The challenge of an answer."""
    return challenges_in([value for name, value in given[1] if name == "www-authenticate"])[0]


def with_challenge(given: Given, *values: str) -> Given:
    """An answer with these challenges instead of its own."""
    status, headers, body = given
    others = [each for each in headers if each[0] != "www-authenticate"]
    return status, [*others, *(("www-authenticate", value) for value in values)], body


def asking(given: Given, **changes: Any) -> Given:
    """A challenge that asks for something else."""
    challenge = challenge_of(given)
    request = replace(SessionRequest.decode(challenge.request), **changes)
    return with_challenge(given, replace(challenge, request=request.encode()).header())


def refuses(both: Both, slug: str, **options: Any) -> MpchanError:
    """A request that fails so."""
    with both.purse(**{"deposit": DEPOSIT, **options}) as purse, both.client(purse) as client:
        with pytest.raises(MpchanError) as caught:
            client.request("GET", both.url)
        assert caught.value.slug == slug, caught.value.message
    return caught.value


def test_a_bad_challenge_beside_a_good_one_hides_it_not(both: Both) -> None:
    foreign = 'Payment id="x", realm="r", method="tempo", intent="charge", request="e30"'
    nonsense = 'Payment id="x", realm="r", method="bitcoin", intent="session", request="!"'

    def change(scope: Any, given: Given) -> Given:
        if given[0] != 402:
            return given
        good = challenge_of(given).header()
        return with_challenge(given, 'Basic realm="a"', "Payment id=", nonsense, foreign, good)

    both.between.change = change
    opened(both)
    assert both.record().spent.sat == PRICE


def test_what_cannot_be_paid_locks_nothing(both: Both) -> None:
    both.between.change = lambda scope, given: with_challenge(given, 'Payment id="x"')
    refuses(both, "nothing-payable")
    assert both.records() == []

    def of_mainnet(scope: Any, given: Given) -> Given:
        challenge = challenge_of(given)
        padded = challenge.request + "=" * (-len(challenge.request) % 4)
        from base64 import urlsafe_b64decode, urlsafe_b64encode

        table = json.loads(urlsafe_b64decode(padded))
        table["methodDetails"]["network"] = "bip122:000000000019d6689c085ae165831e93"
        made = urlsafe_b64encode(json.dumps(table).encode()).decode().rstrip("=")
        return with_challenge(given, replace(challenge, request=made).header())

    both.between.change = of_mainnet
    refuses(both, "nothing-payable")
    assert both.records() == []


def test_prices_and_deposits_above_the_limits_lock_nothing(both: Both) -> None:
    refuses(both, "price-too-high", max_price=PRICE - 1)
    refuses(both, "limit-needed", deposit=None)
    both.between.change = lambda scope, given: asking(given, amount=DEPOSIT + 1)
    refuses(both, "limit-needed")
    assert both.records() == []


def test_a_price_that_rises_on_the_way_is_held_to_the_limit(both: Both) -> None:
    opened(both)
    calls: list[int] = []

    def change(scope: Any, given: Given) -> Given:
        if given[0] != 402:
            return 402, [("www-authenticate", calls_for[0])], b'{"slug": "price-changed"}'
        calls.append(1)
        calls_for[:] = [
            value for _, value in asking(given, amount=5 * PRICE)[1] if value.startswith("Payment")
        ]
        return given

    calls_for: list[str] = []
    both.between.change = change
    refuses(both, "price-too-high", max_price=PRICE)
    assert both.record().paid.sat == 2 * PRICE


def test_a_receipt_is_not_believed_beyond_what_was_signed(both: Both) -> None:
    def change(scope: Any, given: Given) -> Given:
        status, headers, body = given
        if status == 200:
            receipt = Receipt.from_header(dict(headers)["payment-receipt"])
            lie = replace(receipt, accepted=40_000, spent=40_000).header()
            headers = [(name, lie if name == "payment-receipt" else value) for name, value in headers]
        return status, headers, body

    both.between.change = change
    with both.purse(deposit=DEPOSIT) as purse, both.client(purse) as client:
        for count in range(1, 4):
            response = client.request("GET", both.url)
            response.release()
            assert response.paid is not None
            assert response.paid.charged == PRICE
            assert response.paid.spent == count * PRICE
    assert both.record().paid.sat == 3 * PRICE


def test_receipts_that_cannot_be_read_or_are_of_another_channel_change_nothing(both: Both) -> None:
    opened(both)
    other = Receipt("x", f"{'0' * 64}:0", PRICE * 9, PRICE * 9, "2026-01-01T00:00:00Z").header()
    for receipt in ("nonsense", other, ""):

        def change(scope: Any, given: Given, receipt: str = receipt) -> Given:
            status, headers, body = given
            return (
                status,
                [(name, receipt if name == "payment-receipt" else value) for name, value in headers],
                body,
            )

        both.between.change = change
        with both.purse() as purse, both.client(purse) as client:
            response = client.request("GET", both.url)
            assert (text(response), response.paid) == ("hello ", None)
    both.between.change = None
    with both.purse() as purse, both.client(purse) as client:
        response = client.request("GET", both.url)
        assert text(response) == "hello "
    assert both.record().paid.sat == 5 * PRICE


def short(both: Both, given: Given, **changes: Any) -> Given:
    """A 402 with a snapshot."""
    record = both.record()
    terms = record.terms
    snapshot = Snapshot(str(terms.outpoint), record.paid.sat, record.spent.sat, None, terms.capacity.sat)
    snapshot = replace(snapshot, **changes)
    given = asking(given, channel=snapshot.channel, snapshot=snapshot)
    return given[0], given[1], b'{"slug": "voucher-low"}'


@pytest.mark.parametrize("signature", [None, bytes(64), bytes.fromhex("30440220") + bytes(67)])
def test_a_snapshot_counts_by_our_own_signature_alone(both: Both, signature: bytes | None) -> None:
    """A server that shows a total that was never signed gets nothing for it."""
    opened(both)
    first: list[Given] = []

    def change(scope: Any, given: Given) -> Given:
        if given[0] != 402:
            return short(both, first[0], accepted=30_000, spent=30_000, number=9, signature=signature)
        first[:] = [given]
        return given

    both.between.change = change
    refuses(both, "foreign-signature")
    assert both.record().paid.sat == 2 * PRICE


def test_a_snapshot_of_another_channel_is_refused(both: Both) -> None:
    opened(both)

    def change(scope: Any, given: Given) -> Given:
        if given[0] != 402:
            return short(both, first[0], channel=f"{'ab' * 32}:1")
        first[:] = [given]
        return given

    first: list[Given] = []
    both.between.change = change
    refuses(both, "other-channel")
    assert both.record().paid.sat == 2 * PRICE


def test_what_a_server_says_to_have_charged_is_paid_for_once(both: Both) -> None:
    """It says that whatever is signed is spent already, and asks for more: one price, and no more."""
    opened(both)

    def change(scope: Any, given: Given) -> Given:
        if given[0] == 402:
            first[:] = [given]
            return given
        record = both.record()
        return short(both, first[0], spent=record.paid.sat)

    first: list[Given] = []
    both.between.change = change
    refuses(both, "required-too-high")
    assert both.record().paid.sat == 2 * PRICE


@pytest.mark.parametrize("slug", ["challenge-expired", "payment-required", "voucher-low"])
def test_a_server_that_always_asks_is_left(both: Both, slug: str) -> None:
    """Whatever it says, so that the client tries again: the tries end, and one price is signed for."""
    opened(both)
    first: list[Given] = []

    def change(scope: Any, given: Given) -> Given:
        if given[0] == 402:
            first[:] = [given]
        return 402, first[0][1], json.dumps({"slug": slug}).encode()

    both.between.change = change
    with both.purse() as purse, both.client(purse) as client, pytest.raises(MpchanError):
        client.request("GET", both.url)
    assert len(both.between.asked) <= MOST_TRIES + 1
    assert both.record().paid.sat == 2 * PRICE


def test_waits_are_bounded(both: Both) -> None:
    opened(both)
    waits: list[float] = []

    def change(scope: Any, given: Given) -> Given:
        if "authorization" not in both.between.asked[-1]:
            return given
        return 402, [("retry-after", texts[len(waits) % len(texts)])], b""

    texts = ("0", "-5", "999999999999999999999", "1e9", "soon", "9" * 5_000)
    both.between.change = change
    from mpchan.http.client.blocking import Client

    with both.purse() as purse, Client(purse, wait=waits.append) as client, pytest.raises(MpchanError):
        client.request("GET", both.url)
    assert min(waits) >= 0.5
    assert max(waits) <= 60
    assert sum(waits) <= 7_200 + 60
    assert both.record().paid.sat == 2 * PRICE


def test_long_answers_are_not_read_to_their_end(both: Both) -> None:
    both.between.change = lambda scope, given: (402, given[1], b"{" + b" " * 5_000_000)
    with (
        both.purse(deposit=None) as purse,
        both.client(purse) as client,
        pytest.raises(NotPossible) as caught,
    ):
        client.request("GET", both.url)
    assert caught.value.slug == "limit-needed"


def test_an_opening_is_not_repeated_for_a_server_that_refuses_it(both: Both) -> None:
    """It refuses every opening: one channel is begun and no second one, whatever the client asks."""

    def change(scope: Any, given: Given) -> Given:
        if given[0] == 402 and "authorization" in both.between.asked[-1] and b"psbt" not in given[2]:
            return (
                given[0],
                [each for each in given[1] if each[0] != "retry-after"],
                b'{"slug": "unknown-channel"}',
            )
        return given

    both.between.change = change
    for _ in range(3):
        refuses(both, "seller-refused")
    funded = [each for each in both.records() if isinstance(each.state, protocol.Funded)]
    assert len(funded) == 1


def test_a_server_that_disowns_channels_locks_no_second_deposit(both: Both) -> None:
    """One word for a deposit is none for another one beside it."""
    opened(both)

    def change(scope: Any, given: Given) -> Given:
        if "authorization" not in both.between.asked[-1]:
            first[:] = [given]
            return given
        return 402, first[0][1], b'{"slug": "unknown-channel"}'

    first: list[Given] = []
    both.between.change = change
    error = refuses(both, "limit-needed")
    assert f"{2 * DEPOSIT - both.record().paid.sat} sat in both" in error.message
    agreed: list[str] = []

    def ask(question: Question) -> bool:
        agreed.append(question.what)
        return False

    refuses(both, "limit-needed", ask=ask)
    assert agreed == ["another"]
    assert both.record().paid.sat <= 3 * PRICE


def test_a_channel_that_the_server_has_closed_makes_way_for_another(both: Both) -> None:
    opened(both)
    both.pair.coin()
    with both.purse() as purse, both.client(purse) as client:
        client.close_channel(both.url)
    with both.purse(deposit=DEPOSIT) as purse, both.client(purse) as client:
        assert text(client.request("GET", both.url)) == "hello "
    assert len(both.records()) == 2


def test_a_lost_answer_to_an_opening_is_made_good(both: Both) -> None:
    """The server has taken the channel and charged for the request, and nobody heard of it."""

    def change(scope: Any, given: Given) -> Given:
        return given if given[0] == 402 else (500, [], b"")

    both.between.change = change
    with both.purse(deposit=DEPOSIT) as purse, both.client(purse) as client:
        assert client.request("GET", both.url).status == 500
    both.between.change = None
    with both.purse() as purse, both.client(purse) as client:
        response = client.request("GET", both.url)
        assert text(response) == "hello "
        assert response.receipt is not None
        assert response.receipt.spent == 2 * PRICE
    assert both.record().paid.sat == 2 * PRICE


def test_the_same_key_after_a_lost_answer_costs_nothing(both: Both) -> None:
    opened(both)
    both.between.change = lambda scope, given: given if given[0] == 402 else (500, [], b"")
    for change in (both.between.change, None):
        both.between.change = change
        with both.purse() as purse, both.client(purse) as client:
            response = client.request("POST", both.url, body=b"you", headers={"idempotency-key": "mine"})
            text_ = text(response)
    assert text_ == "hello you"
    assert len(both.service.served) == 2
    assert response.receipt is not None
    assert response.receipt.spent == 2 * PRICE


class Elsewhere:
    """Another origin, in clear on the loopback; what it was sent is kept."""

    def __init__(self, status: int = 200, lines: tuple[tuple[str, str], ...] = ()) -> None:
        heard: list[dict[str, str]] = []
        self.heard = heard

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(status)
                for name, value in lines:
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Elsewhere:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_redirect_out_of_tls_is_not_followed(both: Both) -> None:
    opened(both)
    with Elsewhere() as other:
        both.between.change = lambda scope, given: (302, [("location", other.url)], b"")
        refuses(both, "redirected-to-plain")
        assert other.heard == []


def test_nothing_of_a_payment_is_sent_to_another_origin(tmp_path: Path, chain_directory: Path) -> None:
    """A server leads elsewhere: no credential, cookie or key comes there, and its word for a pin is none."""
    with buying(tmp_path, chain_directory, "taproot", PRICE) as both, Elsewhere() as other:
        opened(both)
        lines = (("Location", f"{other.url}#pin-sha256={'ab' * 32}"),)
        sent = {"authorization": "Bearer secret", "Cookie": "a=b", "Idempotency-KEY": "k", "X-Own": "1"}
        with Elsewhere(302, lines) as first, both.purse() as purse, both.client(purse) as client:
            response = client.request("GET", first.url, headers=sent)
            response.release()
        assert (response.status, response.url) == (200, other.url)
        [heard] = other.heard
        assert heard["x-own"] == "1"
        assert not {"authorization", "cookie", "idempotency-key"} & set(heard)


def test_a_channel_is_used_for_its_own_origin_and_realm(both: Both) -> None:
    opened(both)
    both.between.change = lambda scope, given: (
        with_challenge(given, replace(challenge_of(given), realm="another").header())
        if given[0] == 402
        else given
    )
    refuses(both, "limit-needed", deposit=None)
    [asked] = both.between.asked
    assert "authorization" not in asked
    assert both.record().paid.sat == PRICE


def test_nothing_is_paid_in_clear(both: Both) -> None:
    opened(both)
    with both.purse() as purse:
        dialogue = Dialogue(purse, "http://shop.example/")
        assert dialogue.begin() == {}
        with pytest.raises(Refused) as caught:
            dialogue.answered(Answer(402))
    assert caught.value.slug == "plain-http"


def test_many_requests_at_once_sign_for_each_once(both: Both) -> None:
    """Each request's own price is signed for, however vouchers overtake each other and answers cross."""
    opened(both)

    def ask(_: int) -> str:
        return text(client.request("GET", both.url))

    with both.purse() as purse, both.client(purse) as client, ThreadPoolExecutor(10) as threads:
        assert list(threads.map(ask, range(40))) == ["hello "] * 40
    record = both.record()
    assert (record.paid.sat, record.spent.sat) == (41 * PRICE, 41 * PRICE)


@pytest.mark.parametrize("scheme", ["decrementing", "taproot"])
def test_more_than_the_price_is_authorised_by_a_word_of_the_user_alone(
    tmp_path: Path, chain_directory: Path, scheme: str
) -> None:
    """A price by the byte: what an answer comes to at the most is not signed for unasked."""
    price = Price(1, unit="byte", per_bytes=1, most=2 * PRICE)
    with buying(tmp_path, chain_directory, scheme, price) as both:
        refused = refuses(both, "prepay-needed")
        assert f"--prepay {2 * PRICE - 1}" in (refused.hint or "")
        assert both.record().paid.sat < PRICE
        with both.purse() as purse, both.client(purse) as client:
            response = client.request("POST", both.url, body=b"you", ahead=2 * PRICE - 1)
            assert text(response) == "hello you"
