"""What a meter, many payments in a row by one process, has in common on both sides."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from mpchan.channel.construction.base import Form
from mpchan.channel.facts import Facts
from mpchan.errors import MpchanError, StorageError
from mpchan.values import replace
from mpchan.wallet.channel_files import SNAPSHOT_SELDOM
from mpchan.wallet.seed_file import Unlocker, no_passphrase
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from typing_extensions import Self

    from mpchan.chain.base import Chain
    from mpchan.wallet.records import Record

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
    return Wallet.open(Path(wallet), unlocker_of(passphrase))


def unlocker_of(passphrase: str | None) -> Unlocker:
    """Who gives the passphrase where one is needed."""
    return no_passphrase if passphrase is None else lambda attempt: attempt(passphrase)


def chain_of(wallet: Wallet) -> Chain:
    """The backend that a wallet names."""
    from mpchan.chain import open_chain

    return open_chain(wallet.config.chain, wallet.network, wallet.directory)


class Meter:
    """A wallet whose channels are held for a batch and no longer; use it as a context manager."""

    def __init__(self, wallet: AnyWallet, chain: Chain | None, passphrase: str | None) -> None:
        self.wallet = opened(wallet, passphrase)
        self.wallet.keys.need_secret()
        self._chain = chain_of(self.wallet) if chain is None else chain

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the state files, so that whoever comes next has little to read. Nothing depends on it."""
        for name in self._names():
            with suppress(StorageError), self.wallet.channels.lock(name, in_turn=True):
                self.wallet.channels.catch_up(name)

    def _names(self) -> Iterable[str]:
        raise NotImplementedError


Q = TypeVar("Q")
A = TypeVar("A")


def in_batches(
    requests: Iterable[Q], most: int, batch: Callable[[list[Q]], list[A]], *, stop: bool
) -> list[A]:
    """The answers to all requests.

    Args:
        most: requests that are looked at together.
        batch: answers as many as it can, from the first on; durable on return.
        stop: leave out what follows the first error.
    """
    answers: list[A] = []
    waiting = iter(requests)
    while some := list(islice(waiting, most)):
        while some:
            done = batch(some)
            answers += done
            if stop and done and isinstance(done[-1], MpchanError):
                return answers
            some = some[len(done) :]
    return answers


def one_by_one(
    requests: Iterable[Q], answer: Callable[[Q], A | None], *, stop: bool
) -> list[A | MpchanError]:
    """The answers to requests, for so long as a batch may take; an error is an answer, but the wallet's own.

    Args:
        answer: None ends the batch before this request.
        stop: an error ends it.
    """
    answers: list[A | MpchanError] = []
    end = time.monotonic() + LONGEST_SECONDS
    for request in requests:
        if answers and time.monotonic() > end:
            break
        try:
            found = answer(request)
        except StorageError:
            raise
        except MpchanError as error:
            answers.append(error)
            if stop:
                break
        else:
            if found is None:
                break
            answers.append(found)
    return answers


class RecentFacts:
    """What the chain says of one channel, asked again batch by batch.

    An answer serves for twenty times as long as asking took, so that a quick backend is asked for every batch and a
    slow one holds up nobody; for ``MAX_AGE_SECONDS`` at the most.
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
    """Something that is worked out at its first need, and fails each time as it did then."""

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


class Run:
    """One batch in one channel, which is held. Without a form of its updates all goes the plain way."""

    def __init__(self, wallet: Wallet, record: Record, form: Form | None) -> None:
        self._files = wallet.channels
        self._key = wallet.keys.key_of(record)
        self._form = form
        self._record: Any = record
        self._terms = terms = record.terms
        self._batch = self._files.batch(terms.name)
        self._number = self._paid = 0
        self._channel, self._capacity = terms.channel_id, terms.capacity.sat
        self._least = terms.offer.min_increment.sat
        self._prepare = Once(self._look)
        self._free = False

    def _look(self) -> None:
        """Ask the chain, and whether any good further update would pass now."""
        raise NotImplementedError

    def _now(self) -> object:
        """The channel's state after what the batch has done so far."""
        raise NotImplementedError

    def commit(self) -> None:
        """Make the batch durable."""
        record = replace(self._record, state=self._now())
        self._files.commit(self._terms.name, self._batch, record, snapshot_every=SNAPSHOT_SELDOM)
