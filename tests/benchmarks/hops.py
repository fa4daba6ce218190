"""Through how much of the source one payment passes, one acceptance, and one settlement of the payee.

    python tests/benchmarks/hops.py

Counted are the calls of mpchan's own functions, the times that the caller stands in another file (hops), the files, and
how often three things are done that once would do: a transaction is built from the terms, a state file is read, and a
transaction is serialised, by the embedded chain that takes the close too. Nothing is timed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.party import Pair

import mpchan
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.construction import decrementing

HOME = str(Path(mpchan.__file__).parent)
WATCHED = {
    ("channel/construction/decrementing.py", "_built"): "built",
    ("wallet/channel_files.py", "_read"): "state read",
    ("bitcoin/tx.py", "_serialised"): "serialised",
}


class Counted:
    """What was passed through."""

    def __init__(self) -> None:
        self.calls = self.hops = 0
        self.files: set[str] = set()
        self.done = dict.fromkeys(WATCHED.values(), 0)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """For ``sys.setprofile``."""
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(HOME):
            return
        self.calls += 1
        self.files.add(file)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(HOME):
            caller = caller.f_back
        self.hops += caller is not None and caller.f_code.co_filename != file
        what = WATCHED.get((file[len(HOME) + 1 :], frame.f_code.co_name))
        if what is not None:
            self.done[what] += 1

    def __str__(self) -> str:
        done = ", ".join(f"{what} {count}" for what, count in self.done.items())
        return f"{len(self.files):3} files, {self.hops:5} hops, {self.calls:5} calls; {done}"


@contextmanager
def counted(what: str) -> Iterator[None]:
    """Print what a block passes through."""
    found = Counted()
    sys.setprofile(found)
    try:
        yield
    finally:
        sys.setprofile(None)
        print(f"{what:12} {found}")


def main() -> None:
    """One of each, in a channel that has had some before."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedChain(Path(folder) / "chain") as chain:
        pair = Pair(Path(folder), chain)
        name = pair.open(100_000)
        for _ in range(3):
            pair.accept(pair.pay(name, 1000))
        steps: dict[str, Callable[[Any], Any]] = {
            "payment": lambda _: pair.pay(name, 1000),
            "acceptance": pair.accept,
            "close": lambda _: pair.settle(name=name),
        }
        pair.mine_to(pair.terms(name).refund_lock_time.value - 7)
        pair.restart()
        answer = None
        for what, step in steps.items():
            decrementing._built.cache_clear()  # as in a process of its own
            with counted(what):
                answer = step(answer)


if __name__ == "__main__":
    main()
