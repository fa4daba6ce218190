"""How a plain connection to a server is made: directly, or through a SOCKS5 proxy.

Through the proxy the host name goes as it is: no name server on this side learns it, and Tor services can be reached.
Unless the environment gives a user and a password, each process and each server has random ones of its own: Tor keeps
connections with different ones on different routes (IsolateSOCKSAuth, which is its default), so nobody at the far
ends can tell that they belong together. A proxy that wants no credentials ignores them.
"""

from __future__ import annotations

import hashlib
import os
import socket

from mpchan.chain.electrum.address import Proxy, Server, proxy_credentials
from mpchan.errors import ChainError

_TOKEN_BYTES = 8


def dial(server: Server, proxy: Proxy | None, seconds: float) -> socket.socket:
    """A connection, with that limit on every further operation.

    Raises:
        OSError: nobody is reached.
        ChainError: ``proxy-missing``: the library for proxies is not installed.
    """
    if proxy is None:
        plain = socket.create_connection((server.host, server.port), seconds)
    else:
        plain = _through(proxy, server, seconds)
    plain.settimeout(seconds)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def _through(proxy: Proxy, server: Server, seconds: float) -> socket.socket:
    try:
        from python_socks import ProxyError, ProxyTimeoutError, ProxyType
        from python_socks.sync import Proxy as Connector
    except ImportError:
        raise ChainError(
            "proxy-missing",
            "this wallet asks through a proxy, and the package python-socks is not installed",
            hint="pip install 'mpchan[tor]'",
        ) from None
    user, password = proxy_credentials() or (_stream(server), _TOKEN)
    connector = Connector(ProxyType.SOCKS5, proxy.host, proxy.port, user, password, rdns=True)
    try:
        return connector.connect(server.host, server.port, timeout=seconds)
    except ProxyTimeoutError as error:
        raise TimeoutError(f"the proxy {proxy} does not answer in time") from error
    except (ProxyError, ValueError) as error:
        raise ConnectionError(f"the proxy {proxy} says: {error}") from error


def _stream(server: Server) -> str:
    """A name for the route to this server; short, as SOCKS5 wants it."""
    return f"mpchan-{hashlib.sha256(f'{_TOKEN} {server}'.encode()).hexdigest()[:16]}"


_TOKEN = os.urandom(_TOKEN_BYTES).hex()
"""Of this process."""
