"""What a meter, many payments in a row by one process, has in common on both sides."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Union

from mpchan.channel.facts import Facts
from mpchan.errors import MpchanError
from mpchan.wallet.keys import no_passphrase
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.chain.base import Chain

AT_ONCE = 512
"""Payments that become durable together, at the most: the first of them waits for the last."""

MAX_AGE_SECONDS = 5.0
"""What the chain has said is asked again after this at the latest, before the next batch."""

LONGEST_SECONDS = 4.0
"""A batch ends after this, on a slow machine with a slow signer: nothing is judged by what the chain said 10 s ago."""

_ASKING_SHARE = 1 / 20
"""Of the time, asking the chain takes no more than this, up to that age."""

AnyWallet = Union[Wallet, str, "os.PathLike[str]"]


def opened(wallet: AnyWallet, passphrase: str | None) -> Wallet:
    """A wallet that is open, or that stands in a directory.

    Args:
        passphrase: of encrypted keys; None for plain ones, or where the wallet that is open knows it.
    """
    if isinstance(wallet, Wallet):
        return wallet
    if passphrase is None:
        return Wallet.open(Path(wallet), no_passphrase)
    return Wallet.open(Path(wallet), lambda attempt: attempt(passphrase))


def chain_of(wallet: Wallet) -> Chain:
    """The backend that a wallet names."""
    from mpchan.chain import open_chain

    return open_chain(wallet.config.chain, wallet.network, wallet.directory)


class RecentFacts:
    """What the chain says of one channel, asked again batch by batch.

    An answer serves for twenty times as long as asking took, so that a quick backend is asked for every batch and a
    slow one holds up nobody; for ``MAX_AGE_SECONDS`` at the most.

    Args:
        ask: asks the chain.
        clock: seconds, from any beginning.
    """

    def __init__(self, ask: Callable[[], Facts], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._facts: Facts | None = None
        self._asked = 0.0
        self._serves = 0.0

    def latest(self) -> Facts:
        """The latest answer, or a new one where it is too old."""
        now = self._clock()
        if self._facts is None or now - self._asked >= self._serves:
            self._facts = None
            self._facts = self._ask()
            self._serves = min(MAX_AGE_SECONDS, (self._clock() - now) / _ASKING_SHARE)
            if (
                self._facts.tip.lag is not None
            ):  # nothing is taken on it, and the node may catch up at any moment
                self._serves = 0.0
            self._asked = now
        return self._facts


class Once:
    """Something that is worked out at its first need, and fails each time as it did then.

    Args:
        work: is done once.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work
        self._failure: MpchanError | None = None

    def __call__(self) -> None:
        """Do it, unless it is done.

        Raises:
            MpchanError: the failure of the first time.
        """
        if self._work is not None:
            work, self._work = self._work, None
            try:
                work()
            except MpchanError as error:
                self._failure = error
        if self._failure is not None:
            raise self._failure
