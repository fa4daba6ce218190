"""The node of the tests is the node of the benchmarks, and so are its sellers and buyers."""

from __future__ import annotations

import sys
from pathlib import Path

for part in ("chain", "market"):
    sys.path.append(str(Path(__file__).parents[1] / part))
