"""The guide's page on HTTP: its commands, settings and programs, as they stand there."""

from __future__ import annotations

import re
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.market.processes import Program, awaited
from support.transcript import Shell, copy_folder
from support.web.served import served

import mpchan
from mpchan.chain.embedded import EmbeddedChain
from mpchan.http.certificates import split_pin
from mpchan.http.server.price_list import PriceList
from mpchan.http.server.prices import Asked, Price
from mpchan.http.wire.problems import table
from mpchan.wallet.config import Config

PAGE = (Path(mpchan.__file__).parent / "guide" / "web.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_table_is_the_codes() -> None:
    assert PAGE.endswith("\n\n" + table())


def test_the_settings_are_read(wallets: Shell) -> None:
    prices, limits = blocks("toml")
    found = PriceList(prices)
    assert found(Asked("GET", "/status", "/status")) is None
    assert found(Asked("POST", "/images/a", "/images/a")) == Price(25)
    assert found(Asked("GET", "/files/a", "/files/a")) == Price(2, "kib", 1_024, 2_000)
    text = (wallets.folder / "buyer" / "wallet.toml").read_text().partition("[spending]")[0]
    assert Config.from_toml(text + limits).spending.per_day_sat == 10_000


@contextmanager
def mining(shell: Shell) -> Iterator[None]:
    """Blocks come."""
    ended = threading.Event()

    def mine() -> None:
        with EmbeddedChain(shell.folder / "chain") as chain:
            while not ended.wait(0.3):
                chain.mine(1)

    thread = threading.Thread(target=mine)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_paid_service_and_its_client(wallets: Shell, tmp_path: Path) -> None:
    """With other ports, and with a client that has money; ``init`` of a wallet that is there is left out."""
    serving, fetching = blocks("sh")
    origin, service, served_at = tmp_path / "origin", tmp_path / "shop", tmp_path / "serve"
    origin.mkdir()
    (origin / "index.html").write_text("hello\n")
    copy_folder(wallets.folder / "seller", service)
    _, started, words = serving.strip().split("\n")
    port = free_port()
    assert started == "python3 -m http.server 8000 --bind 127.0.0.1 &"
    shell = f"cd {origin} && exec python3 -m http.server {port} --bind 127.0.0.1"
    web = Program(["-c", shell], wallets.env, tmp_path / "web", ["/bin/sh"])
    listed = words.replace("8000", str(port)).split()[1:]
    assert listed[:4] == ["payee", "serve", "--wallet", "shop"]
    listed[3] = str(service)
    program = Program([*listed, "--listen", f"127.0.0.1:{free_port()}", "--json"], wallets.env, served_at)
    [line] = program.until(lambda: program.events("serving"), "the start")
    wallets.env["URL"] = line["url"]
    awaited(lambda: wallets.run(f"curl -s http://127.0.0.1:{port}/").code == 0, "the service")
    with mining(wallets):
        for command in fetching.strip().split("\n")[1:]:
            done = wallets.run(command.replace("--wallet me", "--wallet buyer"))
            assert done.code == 0, done
    assert wallets.text("page.html") == "hello\n"
    assert "is closed by" in done.out
    assert program.ended(signal.SIGTERM) == 0
    web.ended(signal.SIGTERM)


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("client", [0, 1, 2], ids=["urllib3", "requests", "httpx2"])
def test_programs_that_pay_and_are_paid(
    wallets: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], client: int
) -> None:
    application, *clients = blocks("python")
    monkeypatch.setenv("MPCHAN_REGTEST", str(wallets.folder / "chain"))
    for name in ("shop", "me"):
        (wallets.folder / {"shop": "seller", "me": "buyer"}[name]).rename(wallets.folder / name)
    monkeypatch.chdir(wallets.folder)
    place: dict[str, Any] = {}
    breath = threading.Event()
    exec(application, place)
    with served(place["app"], wallets.folder / "shop") as url, mining(wallets):
        bare, pin = split_pin(url)
        context = ssl.create_default_context(cafile=str(wallets.folder / "shop" / "listening.pem"))
        context.check_hostname = False
        names = {"URL": url if client == 0 else bare, "PIN": pin, "TLS": context}
        monkeypatch.setattr("time.sleep", lambda seconds: breath.wait(min(seconds, 0.3)))
        exec(clients[client], names)
    assert "paid from " in capsys.readouterr().out
