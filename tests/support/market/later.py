"""``mpchan`` as it runs some hours later: so many as a file says, which a test may change at any time.

Usage: ``python later.py HOURS_FILE WORDS…``. The clock of the machine alone is moved, never that of the chain.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_real = time.time
_hours = Path(sys.argv[1])


def _later() -> float:
    return _real() + 3600 * float(_hours.read_text())


time.time = _later

from mpchan.cli.main import main  # noqa: E402 (whoever keeps the clock's function takes this one)

sys.exit(main(sys.argv[2:]))
