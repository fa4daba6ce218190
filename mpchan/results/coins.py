"""The wallet's own coins."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class FreshAddress(Result):
    """A receiving address that nobody was told before.

    Attributes:
        address: of this wallet, P2WPKH
    """

    address: str


@frozen
class Balance(Result):
    """The wallet's coins, and its share of its open channels.

    What is reserved counts among the confirmed or unconfirmed coins as long as the chain has it there; what is
    immature counts nowhere else.

    Attributes:
        confirmed_sat: coins that are in a block, in satoshi
        unconfirmed_sat: coins that wait for a block, in satoshi
        in_channels_sat: the wallet's share of the channels that are open, in satoshi
        reserved_sat: what an opening or a transaction on its way needs, in satoshi
        immature_sat: coins of young blocks, which cannot be spent yet, in satoshi
    """

    confirmed_sat: int
    unconfirmed_sat: int
    in_channels_sat: int
    reserved_sat: int = 0
    immature_sat: int = 0


@frozen
class Sent(Result):
    """A transaction of the wallet's own coins.

    Attributes:
        amount_sat: what the address gets, in satoshi
        fee_sat: what the transaction pays for its block, in satoshi
        change_sat: what comes back, in satoshi
        hex: the complete transaction
    """

    txid: str
    amount_sat: int
    fee_sat: int
    change_sat: int
    broadcast: bool
    hex: str
    warnings: tuple[str, ...] = ()


@frozen
class Forgotten(Result):
    """A transaction that was given up; its coins are free again.

    Attributes:
        status: forgotten
    """

    txid: str
    status: str


@frozen
class Scanned(Result):
    """The used addresses that a search has found.

    Attributes:
        receive: index of the next receiving address
        change: index of the next change address
        found: how many used addresses there are
        coins_sat: what they hold, in satoshi
    """

    receive: int
    change: int
    found: int
    coins_sat: int
