"""The embedded chain: a private regtest chain in a directory, judged by Bitcoin Core's own consensus engine.

Play money only. Both parties' wallets and the ``mpchan regtest`` commands share the directory; it appears
at the first use, with coins that can be spent.
"""

from mpchan.chain import regtest_directory
from mpchan.chain.base import Asked
from mpchan.chain.embedded.chain import EmbeddedChain

__all__ = ["EmbeddedChain"]


def opened(asked: Asked) -> EmbeddedChain:
    """As ``Backend`` has it."""
    return EmbeddedChain(regtest_directory(asked.config.directory), create=asked.create)
