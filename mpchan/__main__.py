"""``python -m mpchan`` and the ``mpchan`` script."""

from __future__ import annotations

import gc
import sys


def run() -> None:
    """Run the command line and leave with its exit code.

    A command lives for a moment: looking for garbage cycles while it imports, and once more when it ends, would cost it
    a sixth of its time. Those that live longer switch the collector on again.
    """
    gc.disable()
    try:
        from mpchan.cli.main import main

        code = main(sys.argv[1:])
    except KeyboardInterrupt:  # while it was still loading, or already leaving
        code = 130
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    run()
