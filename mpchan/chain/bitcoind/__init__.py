"""The backend ``bitcoind``: a Bitcoin Core node, asked over JSON-RPC. Any network, no index, no wallet in the node."""

from mpchan.chain.base import Asked
from mpchan.chain.bitcoind.backend import BitcoindChain

__all__ = ["BitcoindChain"]


def opened(asked: Asked) -> BitcoindChain:
    """As ``Backend`` has it."""
    return BitcoindChain.from_config(asked.config, asked.network, asked.directory / "seen")
