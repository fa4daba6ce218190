"""What a node says of itself: whether it is up to date with its network, and whether it is new enough."""

from __future__ import annotations

from mpchan.bitcoin.network import REGTEST, Network
from mpchan.bitcoin.tx import TRUC_VERSION
from mpchan.chain.answer import Answer
from mpchan.chain.bitcoind.rpc import Rpc
from mpchan.chain.lag import MOST_HEADERS_AHEAD, by_clock, by_headers
from mpchan.chain.reasons import too_old
from mpchan.units import LOCK_TIME_THRESHOLD, MAX_LOCK_TIME, ChainTip, Lag

_TRUC_NODES = 28_00_00  # as getnetworkinfo counts


def lag_of(rpc: Rpc, network: Network, tip: ChainTip, info: Answer) -> Lag | None:
    """How the node is behind its network.

    Args:
        info: its answer to ``getblockchaininfo``.
        tip: what that says of its last block.
    """
    who, headers = f"the node at {rpc.endpoint}", _headers(info)
    if headers > tip.height + MOST_HEADERS_AHEAD:
        return by_headers(who, tip, _last_header(rpc, tip, headers))
    return by_clock(who, network, tip, info["time"].time()) or catching_up(network, info)


def catching_up(network: Network, info: Answer) -> Lag | None:
    """The lag of a node that has not been up to date since its start, by its own word."""
    # on regtest a node that was started with old blocks says so for ever
    if not info["initialblockdownload"].flag() or network == REGTEST:
        return None
    blocks, headers = info["blocks"].height(), _headers(info)
    why = f"the node is still catching up with its network: it has block {blocks} of {headers}"
    return Lag(why, max(blocks, headers), info["mediantime"].time())


def require_truc(rpc: Rpc) -> None:
    """The node relays transactions of version 3."""
    number = rpc.call("getnetworkinfo")["version"].integer(0, MAX_LOCK_TIME)
    if number < _TRUC_NODES:
        own = f"{number // 10_000}.{number // 100 % 100}"
        raise too_old(
            f"the node at {rpc.endpoint} is Bitcoin Core {own}, too old for transactions of version {TRUC_VERSION}"
        )


def _headers(info: Answer) -> int:
    return info["headers"].integer(-1, LOCK_TIME_THRESHOLD - 1)


def _last_header(rpc: Rpc, tip: ChainTip, height: int) -> ChainTip:
    """The last header that the node knows, which is of this height; its median time where the node can say it."""
    for known in rpc.call("getchaintips").items():
        if known["height"].height() == height and known["status"].text() != "invalid":
            header = rpc.call("getblockheader", known["hash"].block_hash())
            return ChainTip(height, header["mediantime"].time())
    return ChainTip(height, tip.median_time)
