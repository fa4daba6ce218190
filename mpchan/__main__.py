"""``python -m mpchan`` and the ``mpchan`` script."""

from __future__ import annotations

import gc
import os
import sys


def run() -> None:
    """Run the command line and leave with its exit code.

    A command lives for a moment: looking for garbage cycles while it imports, and once more when it ends, would cost it
    a sixth of its time. Those that live longer switch the collector on again.
    """
    gc.disable()
    _occupy_standard_streams()
    try:
        from mpchan.cli.main import main

        code = main(sys.argv[1:])
    except KeyboardInterrupt:  # while it was still loading, or already leaving
        code = 130
    gc.freeze()
    sys.exit(code)


def _occupy_standard_streams() -> None:
    """Where a standard stream is closed, see that no file is opened under its number.

    What a library prints would go into that file, which may be the wallet's or the chain's. Python has noticed by now
    that the stream is closed, and goes on saying so.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


if __name__ == "__main__":
    run()
