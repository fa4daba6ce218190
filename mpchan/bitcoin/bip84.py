"""Key paths of a wallet's own P2WPKH coins: ``m/84'/coin'/0'/change/index`` (BIP-0084)."""

from __future__ import annotations

from mpchan.bitcoin.hd import HARDENED
from mpchan.bitcoin.network import Network
from mpchan.units import checked_int

_PURPOSE = 84
_ACCOUNT = 0
_RECEIVE, _CHANGE = 0, 1


def account_path(network: Network) -> tuple[int, ...]:
    """Path of the account, ``m/84'/coin'/0'``, whose public key makes all addresses."""
    return (HARDENED + _PURPOSE, HARDENED + network.coin_type, HARDENED + _ACCOUNT)


def receive_steps(index: int) -> tuple[int, ...]:
    """The steps from the account to the receiving key number ``index`` (0 to 2**31 - 1).

    Raises:
        ParseError: ``malformed-number``.
    """
    return _steps(_RECEIVE, index)


def change_steps(index: int) -> tuple[int, ...]:
    """The steps from the account to the change key number ``index`` (0 to 2**31 - 1).

    Raises:
        ParseError: ``malformed-number``.
    """
    return _steps(_CHANGE, index)


def receive_path(network: Network, index: int) -> tuple[int, ...]:
    """Path of the receiving key number ``index`` (0 to 2**31 - 1).

    Raises:
        ParseError: ``malformed-number``.
    """
    return (*account_path(network), *receive_steps(index))


def change_path(network: Network, index: int) -> tuple[int, ...]:
    """Path of the change key number ``index`` (0 to 2**31 - 1).

    Raises:
        ParseError: ``malformed-number``.
    """
    return (*account_path(network), *change_steps(index))


def _steps(branch: int, index: int) -> tuple[int, ...]:
    checked_int(index, 0, HARDENED - 1, "key index")
    return (branch, index)
