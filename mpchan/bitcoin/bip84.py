"""Key paths of a wallet's own P2WPKH coins: ``m/84'/coin'/0'/change/index`` (BIP-0084)."""

from __future__ import annotations

from mpchan.bitcoin.hd import HARDENED
from mpchan.bitcoin.network import Network
from mpchan.units import checked_int

_PURPOSE = 84
_ACCOUNT = 0
_BRANCHES = {"receive": 0, "change": 1}


def account_path(network: Network) -> tuple[int, ...]:
    """Path of the account, ``m/84'/coin'/0'``, whose public key makes all addresses."""
    return (HARDENED + _PURPOSE, HARDENED + network.coin_type, HARDENED + _ACCOUNT)


def coin_steps(kind: str, index: int) -> tuple[int, ...]:
    """The steps from the account to the key number ``index`` (0 to 2**31 - 1) of a kind: ``receive`` or ``change``.

    Raises:
        ParseError: ``malformed-number``.
    """
    checked_int(index, 0, HARDENED - 1, "key index")
    return (_BRANCHES[kind], index)
