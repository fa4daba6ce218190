"""Bringing the own chain of headers up to what a server shows."""

from __future__ import annotations

import threading

from mpchan.bitcoin.block import HEADER_SIZE, Header
from mpchan.bitcoin.network import Network
from mpchan.chain.electrum.headers import HeaderChain
from mpchan.chain.electrum.questions import MAX_HEADERS, Questions
from mpchan.chain.electrum.rules import RULES
from mpchan.chain.steady import moved
from mpchan.errors import ChainError, ParseError

_FIRST_LOOK_BACK = 8


_REACHING = threading.Lock()
"""Several servers may be asked at once, and all of them prove what they say against one chain."""


class Behind(ChainError):
    """A server whose chain has less work in it than one that was seen before (``node-behind``)."""


def begin(network: Network, server: Questions) -> HeaderChain:
    """The chain up to the checkpoint, from a server."""
    rules = RULES[network.name]
    first, last = HeaderChain.first_height(rules), rules.checkpoint[0]
    raw = _fetch(server, first, last)
    try:
        return HeaderChain.begin(rules, raw)
    except ParseError as error:
        raise _refused(server, error) from None


def follow(chain: HeaderChain, server: Questions) -> HeaderChain:
    """The chain that ends with the server's tip, every header checked; ``chain`` itself where that is its tip.

    Raises:
        Behind: the server's chain has less work in it than ``chain``.
        ChainError: ``headers-refused``: a header breaks a rule; ``chain-moving``: it changed meanwhile; as
            ``Questions``.
    """
    height, header = server.tip()
    if height < chain.checkpoint:
        raise _behind(chain, server, height)
    if height != chain.height or header != chain.raw(height):
        return _grown(chain, server, height, header)
    return chain


def reach(chain: HeaderChain, server: Questions, height: int) -> None:
    """Fetch the headers from ``height`` on that stand before the beginning of ``chain``."""
    with _REACHING:
        while chain.base > height:
            raw = _fetch(server, max(0, chain.base - MAX_HEADERS), chain.base - 1)
            try:
                chain.prepend(raw)
            except ParseError as error:
                raise _refused(server, error) from None


def _grown(chain: HeaderChain, server: Questions, height: int, header: bytes) -> HeaderChain:
    """A chain from ``chain`` to this tip of the server."""
    if height == chain.height + 1 and Header.from_bytes(header).parent == chain.tip.hash:
        fork = chain.height
    else:
        fork = _fork(chain, server, min(height, chain.height))
    grown = chain.until(fork)
    try:
        while grown.height < height:
            left = height - grown.height
            grown.append(header if left == 1 else server.headers(grown.height + 1, min(left, MAX_HEADERS)))
    except ParseError as error:
        if server.tip() != (height, header):
            raise moved() from None  # it may have given headers of two chains in good faith
        raise _refused(server, error) from None
    if grown.work_after(fork) < chain.work_after(fork):
        raise _behind(chain, server, height)
    return grown


def _fork(chain: HeaderChain, server: Questions, highest: int) -> int:
    """The last height up to ``highest`` at which the server has the same block."""
    count = _FIRST_LOOK_BACK
    while highest >= chain.checkpoint:
        lowest = max(chain.checkpoint, highest - count + 1)
        raw = _fetch(server, lowest, highest)
        for height in range(highest, lowest - 1, -1):
            start = (height - lowest) * HEADER_SIZE
            if raw[start : start + HEADER_SIZE] == chain.raw(height):
                return height
        highest, count = lowest - 1, min(count * 8, MAX_HEADERS)
    reason = f"its chain does not contain block {chain.checkpoint}, which is known"
    raise _refused(server, ParseError("malformed-header", reason))


def _fetch(server: Questions, first: int, last: int) -> bytes:
    """The headers of these heights."""
    raw = b""
    while (start := first + len(raw) // HEADER_SIZE) <= last:
        raw += server.headers(start, min(MAX_HEADERS, last - start + 1))
    return raw


def _refused(server: Questions, error: ParseError) -> ChainError:
    return ChainError(
        "headers-refused",
        f"the server {server.name} shows a chain that breaks the rules: {error.message}",
        hint="name another server in chain.electrum of wallet.toml",
    )


def _behind(chain: HeaderChain, server: Questions, height: int) -> Behind:
    hint = "it may catch up; name another server too in chain.electrum of wallet.toml"
    if not chain.rules.ahead:
        hint += "; where the chain was started anew, delete seen/headers in the wallet"
    return Behind(
        "node-behind",
        f"the server {server.name} stands at block {height} of a chain with less work than the one seen before, "
        f"which ends at {chain.height}",
        hint=hint,
    )
