"""Backends of the chain, and how the one that a wallet names is opened."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan.chain.home import data_directory

if TYPE_CHECKING:
    from mpchan.bitcoin.network import Network
    from mpchan.chain.base import Chain, ChainConfig
    from mpchan.units import ChainTip


def regtest_directory(configured: str | None = None) -> Path:
    """Where the embedded chain stands: ``MPCHAN_REGTEST``, else the wallet's word, else beside the user's data."""
    named = os.environ.get("MPCHAN_REGTEST") or configured
    if named:
        return Path(named)
    return data_directory("mpchan-regtest", "MPCHAN_REGTEST to the directory of the embedded chain")


def open_chain(
    config: ChainConfig,
    network: Network,
    directory: Path,
    tip: ChainTip | None = None,
    confirmations: int | None = None,
    *,
    create: bool = False,
) -> Chain:
    """The backend that ``config`` names. Nothing is asked yet.

    Args:
        network: of the wallet.
        directory: of the wallet; a backend may keep there what it need not look up twice.
        tip, confirmations: what the user states, for the backend ``none``.
        create: whether an embedded chain is made where there is none yet.
    """
    from mpchan.chain.base import BACKENDS, Asked

    backend = import_module(f"mpchan.chain.{BACKENDS[config.backend].module}")
    opened: Chain = backend.opened(Asked(config, network, directory, tip, confirmations, create))
    return opened
