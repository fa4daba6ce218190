"""Where Electrum servers and a SOCKS5 proxy are: texts of wallet.toml."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from mpchan.chain.base import ChainConfig
from mpchan.errors import ParseError
from mpchan.values import frozen

PROXY_USER_VARIABLE = "MPCHAN_PROXY_USER"
PROXY_PASSWORD_VARIABLE = "MPCHAN_PROXY_PASSWORD"

_HOST = r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_SERVER = _HOST + r":([0-9]{1,5})(?::([st]))?"
_PROXY = r"socks5h?://" + _HOST + r":([0-9]{1,5})/?"
_PRIVATE_NAMES = r"localhost|.+\.(?:local|lan|internal)"
_ONION = ".onion"


@frozen
class Server:
    """One Electrum server.

    Attributes:
        host: name or address, in lower case.
        tls: whether it speaks TLS.
    """

    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Server:
        """Read ``HOST:PORT``, ``HOST:PORT:t`` (both TCP) or ``HOST:PORT:s`` (TLS).

        Raises:
            ParseError: ``malformed-config``.
        """
        match = re.fullmatch(_SERVER, text, re.ASCII)
        if match is None or not 1 <= int(match[2]) <= 65535:
            raise ParseError(
                "malformed-config",
                f"not an Electrum server: {text!r:.80}",
                hint="write HOST:PORT:s for TLS, HOST:PORT:t for plain TCP",
            )
        return cls(match[1].strip("[]").lower(), int(match[2]), match[3] == "s")

    @property
    def is_onion(self) -> bool:
        """Whether it is a Tor service, which only a proxy reaches."""
        return self.host.endswith(_ONION)

    @property
    def is_exposed(self) -> bool:
        """Whether others on the way read and can change what is said: plain TCP that leaves the private network."""
        if self.tls or self.is_onion or re.fullmatch(_PRIVATE_NAMES, self.host):
            return False
        from ipaddress import ip_address

        try:
            return ip_address(self.host).is_global
        except ValueError:
            return True  # a name, which may stand for any address

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}:{'s' if self.tls else 't'}"


@frozen
class Proxy:
    """A SOCKS5 proxy, such as Tor's; it resolves host names, so no name server here learns them."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read ``socks5://HOST:PORT``; a user or password in it is refused.

        Raises:
            ParseError: ``malformed-config``, which never repeats what may be a password.
        """
        if "@" in text:
            raise ParseError(
                "malformed-config",
                "proxy holds a user or a password, which would lie here in clear",
                hint=f"leave them out, and set {PROXY_USER_VARIABLE} and {PROXY_PASSWORD_VARIABLE}",
            )
        match = re.fullmatch(_PROXY, text, re.ASCII)
        if match is None or not 1 <= int(match[2]) <= 65535:
            raise ParseError(
                "malformed-config",
                f"proxy is not socks5://HOST:PORT: {text!r:.80}",
                hint="Tor listens at socks5://127.0.0.1:9050, its browser at socks5://127.0.0.1:9150",
            )
        return cls(match[1].strip("[]"), int(match[2]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"socks5://{host}:{self.port}"


def proxy_credentials() -> tuple[str, str] | None:
    """The user and password that the environment gives for the proxy.

    Raises:
        ParseError: ``malformed-config``: one without the other.
    """
    user, password = os.environ.get(PROXY_USER_VARIABLE), os.environ.get(PROXY_PASSWORD_VARIABLE)
    if user and password:
        return user, password
    if user or password:
        raise ParseError(
            "malformed-config",
            f"set both {PROXY_USER_VARIABLE} and {PROXY_PASSWORD_VARIABLE}, or none of them",
        )
    return None


def read_config(config: ChainConfig) -> tuple[Sequence[Server], Proxy | None]:
    """The servers and the proxy that wallet.toml names.

    Raises:
        ParseError: ``malformed-config``.
    """
    servers = [Server.parse(text) for text in config.electrum]
    proxy = None if config.proxy is None else Proxy.parse(config.proxy)
    if not servers:
        raise ParseError(
            "malformed-config",
            "no Electrum server is named",
            hint='add electrum = "HOST:PORT:s" under [chain]',
        )
    for server in servers:
        if server.is_onion and proxy is None:
            raise ParseError(
                "malformed-config",
                f"{server} is a Tor service, and no proxy is set",
                hint='with Tor running, add proxy = "socks5://127.0.0.1:9050" under [chain]',
            )
    return servers, proxy
