"""How Electrum servers and the proxy are written in wallet.toml."""

from __future__ import annotations

import pytest

from mpchan.chain.base import ChainConfig
from mpchan.chain.electrum.address import Proxy, Server, read_config
from mpchan.errors import ParseError


@pytest.mark.parametrize(
    ("text", "host", "port", "tls"),
    [
        ("electrum.example:50002:s", "electrum.example", 50002, True),
        ("electrum.example:50001:t", "electrum.example", 50001, False),
        ("Electrum.Example:50001", "electrum.example", 50001, False),
        ("127.0.0.1:1:s", "127.0.0.1", 1, True),
        ("[::1]:65535", "::1", 65535, False),
        ("some_box-2.lan:50001", "some_box-2.lan", 50001, False),
    ],
)
def test_servers(text: str, host: str, port: int, tls: bool) -> None:
    server = Server.parse(text)
    assert (server.host, server.port, server.tls) == (host, port, tls)
    assert Server.parse(str(server)) == server


@pytest.mark.parametrize(
    "text",
    [
        "", "host", "host:", ":1", "host:0", "host:65536", "host:1:", "host:1:x", "host:1:s:t", "host:-1", "host: 1",
        "ho st:1", "host:1\n", "::1:1", "[::1]", "http://host:1", "user@host:1", "host:٣", "../up:1", ".hidden:1",
        "ä:1", "host/../x:1",
    ],
)  # fmt: skip
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        Server.parse(text)
    assert caught.value.slug == "malformed-config"


@pytest.mark.parametrize(
    ("text", "exposed"),
    [
        ("electrum.example:50001", True),
        ("electrum.example:50001:s", False),
        ("8.8.8.8:50001", True),
        ("127.0.0.1.example.com:1", True),
        ("172.32.0.1:1", True),
        ("172.31.0.1:1", False),
        ("192.168.1.5:1", False),
        ("10.0.0.9:1", False),
        ("127.0.0.1:1", False),
        ("localhost:1", False),
        ("[::1]:1", False),
        ("[fd00::7]:1", False),
        ("[2a00::1]:1", True),
        ("umbrel.local:1", False),
        ("x.onion:1", False),
    ],
)
def test_who_is_asked_in_clear(text: str, exposed: bool) -> None:
    assert Server.parse(text).is_exposed == exposed


def test_proxies() -> None:
    for text in ("socks5://127.0.0.1:9050", "socks5h://127.0.0.1:9050", "socks5://127.0.0.1:9050/"):
        assert Proxy.parse(text) == Proxy("127.0.0.1", 9050)
    assert str(Proxy.parse("socks5://[::1]:9050")) == "socks5://[::1]:9050"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:9050",
        "http://127.0.0.1:9050",
        "socks4://a:1",
        "socks5://a",
        "socks5://a:0",
        "socks5://a:1/x",
    ],
)
def test_what_is_no_proxy(text: str) -> None:
    with pytest.raises(ParseError):
        Proxy.parse(text)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(ParseError) as caught:
        Proxy.parse("socks5://me:hunter2@127.0.0.1:9050")
    assert "hunter2" not in caught.value.message + str(caught.value.hint)
    assert "MPCHAN_PROXY_PASSWORD" in str(caught.value.hint)


def test_config() -> None:
    servers, proxy = read_config(ChainConfig("electrum", electrum=("a:1", "b:2:s"), proxy="socks5://c:3"))
    assert (list(servers), proxy) == ([Server("a", 1), Server("b", 2, True)], Proxy("c", 3))
    for config in (ChainConfig("electrum"), ChainConfig("electrum", electrum=("a.onion:1",))):
        with pytest.raises(ParseError):
            read_config(config)
