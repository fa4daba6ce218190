"""The backend ``bitcoind``: a Bitcoin Core node, asked over JSON-RPC. Any network, no index, no wallet in the node."""

from mpchan.chain.bitcoind.backend import BitcoindChain

__all__ = ["BitcoindChain"]
