"""A watcher beside a server.

In a thread of its own, so that neither clients nor its rounds wait for each other, with its own objects for the wallet
and the chain, as a process of its own would have. What it sees comes out of a queue, in the order in which it saw it;
so one thread alone tells people, and keeps the server's accounts.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Union

from mpchan.party.watch.watcher import Finding, Round, Watcher

Stop = Callable[[], bool]
MakeWatcher = Callable[[Stop], AbstractContextManager[Watcher]]
"""Called in the watcher's thread, with what is asked between two channels: True ends the round."""


class WatcherBeside:
    """Use it as a context manager: it watches from the beginning of the block to its end."""

    def __init__(self, make: MakeWatcher, *, interval: float, wake: threading.Event) -> None:
        self._make = make
        self._interval = interval
        self._wake = wake
        self._ending = threading.Event()
        self._seen: queue.SimpleQueue[Union[Finding, Round, BaseException]] = queue.SimpleQueue()
        # a daemon: whoever ends the program at once, by a second Ctrl-C, waits for no round
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> WatcherBeside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let the watcher finish the channel that it is at, and wait for that."""
        self._ending.set()
        self._thread.join()

    def seen(self) -> Iterator[Union[Finding, Round]]:
        """What was seen since the last call: each channel of a round, and then the round.

        Raises:
            BaseException: what has ended the watcher.
        """
        while True:
            try:
                found = self._seen.get_nowait()
            except queue.Empty:
                return
            if isinstance(found, BaseException):
                raise found
            yield found

    def _run(self) -> None:
        try:
            with self._make(self._ending.is_set) as watcher:
                while not self._ending.is_set():
                    self._tell(watcher.round(self._tell))
                    self._ending.wait(self._interval)
        except BaseException as error:  # noqa: BLE001  # the other thread raises it
            self._tell(error)

    def _tell(self, found: Union[Finding, Round, BaseException]) -> None:
        self._seen.put(found)
        self._wake.set()
