"""Where a node listens, and who we are to it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from mpchan.bitcoin.network import Network
from mpchan.chain.home import expanded, home_directory
from mpchan.errors import ChainError, ParseError, system_reason
from mpchan.values import frozen

USER_VARIABLE = "MPCHAN_RPC_USER"
PASSWORD_VARIABLE = "MPCHAN_RPC_PASSWORD"

_MAX_COOKIE_BYTES = 4096
_URL = r"(https?)://([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?(/[!-~]*)?"
_STANDARD_PORT = {"http": 80, "https": 443}

# Bitcoin Core's defaults for each network: port of the JSON-RPC, and folder below the data directory
_INSTEAD = "name the cookie in full as chain.rpc_cookie in wallet.toml"
_PORTS = {"mainnet": 8332, "testnet4": 48332, "signet": 38332, "regtest": 18443}
_FOLDERS = {"mainnet": "", "testnet4": "testnet4", "signet": "signet", "regtest": "regtest"}


@frozen
class Endpoint:
    """Where the JSON-RPC listens.

    Attributes:
        tls: whether a proxy before the node speaks HTTPS; the node itself never does.
        path: of the requests, with its slash.
    """

    host: str
    port: int
    tls: bool = False
    path: str = "/"

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read ``http://HOST:PORT`` or ``https://HOST/PATH``; a user or password in it is refused.

        Raises:
            ParseError: ``malformed-config``, which never repeats what may be a password.
        """
        if "@" in url:
            raise ParseError(
                "malformed-config",
                "rpc_url holds a user or a password, which would lie here in clear",
                hint=f"leave them out, and set {USER_VARIABLE} and {PASSWORD_VARIABLE} or use the node's cookie",
            )
        match = re.fullmatch(_URL, url, re.ASCII)
        port = 0 if match is None else int(match[3] or _STANDARD_PORT[match[1]])
        if match is None or not 1 <= port <= 65535:
            raise ParseError("malformed-config", f"rpc_url is not http://HOST:PORT: {url!r:.80}")
        return cls(match[2].strip("[]"), port, match[1] == "https", match[4] or "/")

    @classmethod
    def usual(cls, network: Network) -> Endpoint:
        """A node on this machine, at the network's own port."""
        return cls("127.0.0.1", _PORTS[network.name])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = "" if self.path == "/" else self.path
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"


def usual_cookie(network: Network) -> Path:
    """Where a node of this user writes its cookie unless it is told otherwise."""
    home = home_directory(_INSTEAD)
    if sys.platform == "darwin":
        data = home / "Library" / "Application Support" / "Bitcoin"
    else:
        data = home / ".bitcoin"
    return data / _FOLDERS[network.name] / ".cookie"


def named_cookie(path: str) -> Path:
    """A cookie's file as wallet.toml names it, ``~`` being the user's home."""
    return expanded(path, _INSTEAD)


@frozen
class Credentials:
    """User and password: from the environment where it has them, else from the cookie that a node writes at its start.

    Both are read when they are needed: a node that was restarted has a new cookie.
    """

    cookie: Path

    def read(self) -> str:
        """``user:password``.

        Raises:
            ChainError: ``rpc-credentials``.
        """
        user, password = os.environ.get(USER_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
        if user and password:
            return f"{user}:{password}"
        if user or password:
            there, missing = (
                (USER_VARIABLE, PASSWORD_VARIABLE) if user else (PASSWORD_VARIABLE, USER_VARIABLE)
            )
            raise ChainError("rpc-credentials", f"the variable {there} is set, but not {missing}")
        return self._from_cookie()

    def _from_cookie(self) -> str:
        try:
            with self.cookie.open("rb") as file:
                text = file.read(_MAX_COOKIE_BYTES + 1).decode().strip()
        except OSError as error:
            raise ChainError(
                "rpc-credentials",
                f"cannot read the node's cookie {self.cookie}: {system_reason(error)}",
                hint="is the node running? name its cookie as chain.rpc_cookie in wallet.toml, "
                f"or set {USER_VARIABLE} and {PASSWORD_VARIABLE}",
            ) from None
        except UnicodeDecodeError:
            text = ""
        if not text.isprintable() or ":" not in text or len(text) > _MAX_COOKIE_BYTES:
            raise ChainError("rpc-credentials", f"{self.cookie} is no cookie of a node")
        return text

    def __str__(self) -> str:
        return (
            f"the user of {USER_VARIABLE}" if os.environ.get(USER_VARIABLE) else f"the cookie {self.cookie}"
        )
