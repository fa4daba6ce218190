"""``payee serve`` and ``payer fetch`` as real processes, in front of a web server that knows nothing of payments."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.processes import Program, awaited
from support.transcript import Shell, copy_folder

BUYER = "mpchan --wallet buyer"
ORIGIN_FILE = "hello of the origin\n"


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """A web server of the standard library, with one file."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "a.txt").write_text(ORIGIN_FILE)
    (folder / "free.txt").write_text("free\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "http.server",
        str(port),
        "--bind",
        "127.0.0.1",
        "--directory",
        str(folder),
    ]
    with (tmp_path / "web.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        awaited(answers, "the origin")
        yield f"http://127.0.0.1:{port}"
        process.terminate()


class Service:
    """``payee serve`` in front of it.

    Attributes:
        url: of the service, with the pin of its certificate.
    """

    def __init__(self, shell: Shell, origin: str, *words: str) -> None:
        self.shell = shell
        place = shell.folder.parent / "serve"
        wallet = shell.folder.parent / "service"  # apart from where commands are held to change nothing
        copy_folder(shell.folder / "seller", wallet)
        arguments = ["payee", "serve", "--wallet", str(wallet), "--json"]
        listening = ["--upstream", origin, "--listen", f"127.0.0.1:{free_port()}", *words]
        self.program = Program([*arguments, *listening], shell.env, place)
        [started] = self.program.until(lambda: self.program.events("serving"), "the start")
        self.url = started["url"]

    def at(self, path: str) -> str:
        """The address of a file, with the pin."""
        place, hash_, pin = self.url.partition("#")
        return f"{place}{path}{hash_}{pin}"

    def mined(self) -> None:
        """A block, once a funding waits for it."""
        self.program.until(lambda: self.shell.json("mpchan regtest status")["mempool"], "the funding")
        self.shell.ok("mpchan regtest mine 1")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def service(wallets: Shell, origin: str) -> Iterator[Service]:
    found = Service(wallets, origin, "--price", "10")
    yield found
    if found.program.is_running:
        assert found.program.ended(signal.SIGTERM) == 0


def opened(service: Service) -> None:
    """A channel with the service."""
    program = Program(
        [
            *("payer", "fetch", service.at("a.txt"), "--wallet", str(service.shell.folder / "buyer")),
            *("--deposit", "50000", "--open-only", "-q"),
        ],
        service.shell.env,
        service.shell.folder.parent / "opening",
    )
    service.mined()
    assert program.ended() == 0


def test_nothing_is_locked_without_a_word(service: Service) -> None:
    service.shell.fails(f"{BUYER} payer fetch '{service.at('a.txt')}' -o got", 5, "limit-needed")
    assert not (service.shell.folder / "got").exists()


def test_a_service_is_paid_by_the_request_and_its_channel_closed(service: Service) -> None:
    opened(service)
    for count in range(1, 4):
        answer = service.shell.json(f"{BUYER} payer fetch '{service.at('a.txt')}' -o got")
        assert (answer["http_status"], answer["charged_sat"], answer["spent_sat"]) == (200, 10, 10 * count)
        assert answer["remaining_sat"] == 50_000 - 10 * count
        assert service.shell.text("got") == ORIGIN_FILE
    shown = service.shell.run(f"{BUYER} payer fetch '{service.at('a.txt')}'")
    assert (shown.code, shown.out) == (0, ORIGIN_FILE)
    missing = service.shell.run(f"{BUYER} payer fetch '{service.at('b.txt')}' --fail")
    assert missing.code == 8
    assert "nothing was paid" in missing.err
    channel = service.shell.json(f"{BUYER} show")
    assert channel["origin"] == service.url.partition("/#")[0]
    assert "for requests" in service.shell.ok(f"{BUYER} show").out
    closed = service.shell.json(f"{BUYER} payer fetch '{service.url}' --close")
    spent = service.shell.json(f"{BUYER} payer spending")
    assert (spent["charged_sat"], [line["origin"] for line in spent["lines"]]) == (40, [channel["origin"]])
    assert service.shell.ok(f"{BUYER} payer spending --csv").out.count("\n") == 2
    assert closed["paid_sat"] == 294
    [event] = service.program.until(lambda: service.program.events("closed"), "the close")
    assert event["txid"] == closed["txid"]


def test_a_browser_and_curl_meet_the_price(service: Service) -> None:
    place, _, _ = service.at("a.txt").partition("#")
    result = service.shell.run(f"curl -sk -i {place}")
    head, _, body = result.out.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 402 ")
    assert "www-authenticate: Payment id=" in head
    assert json.loads(body)["slug"] == "payment-required"


def test_another_certificate_is_not_believed(service: Service) -> None:
    place, _, pin = service.at("a.txt").partition("#pin-sha256=")
    other = f"{int(pin[0], 16) ^ 1:x}{pin[1:]}"
    for url in (place, f"{place}#pin-sha256={other}"):
        service.shell.fails(f"{BUYER} payer fetch '{url}' -o got", 4, "wrong-certificate")
    service.shell.fails(f"{BUYER} payer fetch '{place}' --pin {pin} -o got", 5, "limit-needed")


def test_prices_by_path(wallets: Shell, origin: str) -> None:
    prices = '[[price]]\npath = "/free*"\namount = 0\n\n[[price]]\npath = "*"\namount = 25\n'
    (wallets.folder / "prices.toml").write_text(prices)
    service = Service(wallets, origin, "--prices", str(wallets.folder / "prices.toml"))
    shown = wallets.run(f"{BUYER} payer fetch '{service.at('free.txt')}'")
    assert (shown.code, shown.out) == (0, "free\n")
    asked = wallets.run(f"{BUYER} payer fetch '{service.at('a.txt')}' --max-price 24 --deposit 1000")
    assert asked.code == 5
    assert "asks for 25 sat" in asked.err
    hidden = wallets.run(f"{BUYER} payer fetch --json -o got '{service.at('free/../a.txt')}'")
    assert hidden.code in (0, 5)
    curled = wallets.run(f"curl -sk --path-as-is {service.at('free/../a.txt').partition('#')[0]}")
    assert json.loads(curled.out)["slug"] == "ambiguous-path"
    assert service.program.ended(signal.SIGINT) == 130


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--price 10 --prices x",
        "--price 0",
        "--price 10 --listen 0.0.0.0:8402",
        "--price 10 --listen nowhere",
        "--price 10 --certificate x",
        "--price 10 --plain --listen 192.0.2.1:80",
        "--price 10 --url shop",
    ],
)
def test_usage_of_serve(wallets: Shell, words: str) -> None:
    wallets.fails(f"mpchan --wallet seller payee serve --upstream http://127.0.0.1:1 {words}", 2, "usage")


@pytest.mark.parametrize(
    ("words", "code", "slug"),
    [
        ("ftp://x/ -o got", 3, "malformed-url"),
        ("http://shop.example/ -o got", 4, "plain-http"),
        ("https://x/ -o got --budget 5", 2, "usage"),
        ("https://x/ -o got -H nothing", 2, "usage"),
        ("https://x/ --close --open-only", 2, "usage"),
        ("https://x/", 2, "usage"),
        ("https://x/#pin-sha256=12 -o got", 3, "malformed-pin"),
        ("https://x/ -o got --pin 12", 3, "malformed-pin"),
        ("https://x/ -o got -d @missing", 3, "unreadable-file"),
    ],
)
def test_usage_of_fetch(wallets: Shell, words: str, code: int, slug: str) -> None:
    wallets.fails(f"{BUYER} payer fetch {words}", code, slug)


@pytest.mark.parametrize("words", ["--since 2026-99-99", "--until today", "--csv"])
def test_usage_of_spending(wallets: Shell, words: str) -> None:
    wallets.fails(f"{BUYER} payer spending {words}", 2, "usage")
