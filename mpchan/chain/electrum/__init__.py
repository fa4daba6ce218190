"""The backend ``electrum``: Electrum servers, whose word on confirmations is checked here. Any network, no node."""

from mpchan.chain.electrum.backend import ElectrumChain

__all__ = ["ElectrumChain"]
