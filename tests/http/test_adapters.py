"""Programs of others' libraries pay: ``requests`` through an adapter, ``httpx2`` through an authentication."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from support.web.buying import Both, Given, buying

from mpchan.errors import MpchanError
from mpchan.http.certificates import split_pin
from mpchan.http.client.dialogue import Done
from mpchan.http.client.for_httpx2 import PaymentAuth
from mpchan.http.client.for_requests import PaymentAdapter
from mpchan.http.client.purse import Purse
from mpchan.http.wire.problems import MAX_PROBLEM_BYTES

PRICE = 1_000


@pytest.fixture(params=("decrementing", "taproot"))
def both(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Both]:
    with buying(tmp_path, chain_directory, request.param, PRICE) as found:
        yield found


def session_of(both: Both, purse: Purse) -> requests.Session:
    """A session that pays; its certificates are those of the pin."""
    _, pin = split_pin(both.url)
    session = requests.Session()
    session.mount("https://", PaymentAdapter(purse, pin=pin, wait=both.wait))
    return session


def url_of(both: Both) -> str:
    return both.url.partition("#")[0]


def trusting(both: Both) -> ssl.SSLContext:
    """Trust in the server's own certificate and in no other."""
    found = ssl.create_default_context(cafile=str(both.pair.payee.directory / "listening.pem"))
    found.check_hostname = False
    return found


def client_of(both: Both, purse: Purse, **options: Any) -> httpx2.Client:
    """A client of httpx2 that pays."""
    return httpx2.Client(auth=PaymentAuth(purse, wait=both.wait), verify=trusting(both), **options)


def leads(given: Given, asked: Any, target: str) -> Given:
    """A paid answer to ``/`` that leads to another address."""
    if given[0] == 402 or asked["path"] != "/":
        return given
    return 302, [*given[1], ("location", target)], b""


def test_a_session_of_requests_pays(both: Both) -> None:
    with both.purse() as purse, session_of(both, purse) as session:
        for count in range(1, 4):
            response = session.post(url_of(both), data=b"%d" % count)
            assert (response.status_code, response.text) == (200, f"hello {count}")
            payment = response.__dict__["payment"]
            assert isinstance(payment, Done)
            assert payment.charged is not None
            assert (payment.charged.charged, payment.charged.spent) == (PRICE, count * PRICE)
    assert both.record().spent.sat == 3 * PRICE


def test_a_bare_request_opens_a_channel(both: Both) -> None:
    """Where the refund is asked for first, that is by GET: its answer has a body."""
    with both.purse() as purse, session_of(both, purse) as session:
        response = session.head(url_of(both))
        assert (response.status_code, response.content) == (200, b"")
    with both.purse() as purse, client_of(both, purse) as client:
        assert client.head(url_of(both)).status_code == 200
    assert both.record().spent.sat == 0
    assert both.service.served == []


def test_a_bare_request_of_httpx2_opens_a_channel(both: Both) -> None:
    with both.purse() as purse, client_of(both, purse) as client:
        assert client.head(url_of(both)).status_code == 200
    with both.purse() as purse:

        async def story() -> None:
            auth = PaymentAuth(purse, wait=both.wait)
            async with httpx2.AsyncClient(auth=auth, verify=trusting(both)) as web:
                assert (await web.head(url_of(both))).status_code == 200

        asyncio.run(story())
    assert both.record().spent.sat == 0
    assert both.service.served == []


def test_requests_sends_a_file_again_from_its_beginning(both: Both) -> None:
    with both.purse() as purse, session_of(both, purse) as session:
        assert session.post(url_of(both), data=io.BytesIO(b"file")).text == "hello file"
        with pytest.raises(MpchanError) as caught:
            session.post(url_of(both) + "other/", data=iter([b"once"]))
        assert caught.value.slug == "body-not-repeatable"
    assert both.record().paid.sat == PRICE


def test_requests_follows_a_redirect_and_pays_for_both(both: Both) -> None:
    both.between.change = lambda scope, given: leads(given, scope, "/b")
    with both.purse() as purse, session_of(both, purse) as session:
        response = session.get(url_of(both))
        assert (response.status_code, response.text) == (200, "hello ")
    assert both.record().spent.sat == 2 * PRICE


def test_requests_does_not_take_another_certificate(both: Both) -> None:
    with both.purse() as purse, requests.Session() as session:
        session.mount("https://", PaymentAdapter(purse, pin="ab" * 32))
        with pytest.raises(requests.exceptions.SSLError):
            session.get(url_of(both))
        session.mount("https://", PaymentAdapter(purse))
        with pytest.raises(requests.exceptions.SSLError):
            session.get(url_of(both))
    assert both.records() == []


def test_a_client_of_httpx2_pays(both: Both) -> None:
    with both.purse() as purse, client_of(both, purse) as client:
        for count in range(1, 4):
            response = client.post(url_of(both), content=b"%d" % count)
            assert (response.status_code, response.text) == (200, f"hello {count}")
            payment = response.extensions["mpchan"]
            assert isinstance(payment, Done)
            assert payment.charged is not None
            assert (payment.charged.charged, payment.charged.spent) == (PRICE, count * PRICE)
    assert both.record().spent.sat == 3 * PRICE


def test_a_client_of_httpx2_pays_for_what_a_redirect_leads_to(both: Both) -> None:
    both.between.change = lambda scope, given: leads(given, scope, "/b")
    with both.purse() as purse, client_of(both, purse, follow_redirects=True) as client:
        for _ in range(2):
            response = client.get(url_of(both))
            assert (response.status_code, response.text, response.url.path) == (200, "hello ", "/b")
    assert both.record().spent.sat == 4 * PRICE


def test_a_client_of_asyncio_pays_for_many_requests_at_once(both: Both) -> None:
    async def wait(seconds: float) -> None:
        both.wait(seconds)

    async def ask() -> list[str]:
        auth = PaymentAuth(purse, wait_async=wait)
        async with httpx2.AsyncClient(auth=auth, verify=trusting(both)) as client:
            first = await client.get(url_of(both))
            others = await asyncio.gather(
                *(client.post(url_of(both), content=b"%d" % each) for each in range(6))
            )
            return [first.text, *(each.text for each in others)]

    with both.purse() as purse:
        assert asyncio.run(ask()) == ["hello ", *(f"hello {each}" for each in range(6))]
    assert both.record().spent.sat == 7 * PRICE


def test_clients_of_httpx2_read_no_long_402(both: Both) -> None:
    both.between.change = lambda scope, given: (402, given[1], b" " * (MAX_PROBLEM_BYTES + 1))

    async def ask() -> None:
        async with httpx2.AsyncClient(auth=PaymentAuth(purse), verify=trusting(both)) as client:
            await client.get(url_of(both))

    with both.purse() as purse:
        with client_of(both, purse) as client:
            with pytest.raises(MpchanError) as caught:
                client.get(url_of(both))
            assert caught.value.slug == "malformed-answer"
        with pytest.raises(MpchanError) as caught:
            asyncio.run(ask())
        assert caught.value.slug == "malformed-answer"
    assert both.records() == []


def test_a_limit_ends_the_request_of_every_library(both: Both) -> None:
    async def ask() -> None:
        async with httpx2.AsyncClient(auth=PaymentAuth(purse), verify=trusting(both)) as client:
            await client.get(url_of(both))

    with (
        both.purse(deposit=None) as purse,
        session_of(both, purse) as session,
        client_of(both, purse) as client,
    ):
        acts = (
            lambda: session.get(url_of(both)),
            lambda: client.get(url_of(both)),
            lambda: asyncio.run(ask()),
        )
        for act in acts:
            with pytest.raises(MpchanError) as caught:
                act()
            assert caught.value.slug == "limit-needed"
    assert both.records() == []
