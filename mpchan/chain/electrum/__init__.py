"""The backend ``electrum``: Electrum servers, whose word on confirmations is checked here. Any network, no node."""

from mpchan.chain.base import Asked
from mpchan.chain.electrum.backend import ElectrumChain

__all__ = ["ElectrumChain"]


def opened(asked: Asked) -> ElectrumChain:
    """As ``Backend`` has it."""
    return ElectrumChain.from_config(asked.config, asked.network, asked.directory)
