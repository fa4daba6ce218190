"""Draws what ``speed.py --json FILE`` has measured, in text: payments a second on a logarithmic scale.

python tests/benchmarks/plot.py speed.json
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

WIDTH = 50
"""Columns of the longest bar."""


def bars(found: dict[str, Any]) -> list[tuple[str, float]]:
    """What was measured, as payments a second; what was not is left out."""
    rows: list[tuple[str, float | None]] = [
        (f"libsecp256k1 alone, {scheme}", found["a"].get(scheme, {}).get("per_second"))
        for scheme in ("decrementing", "taproot")
    ]
    for what, measured in found["b"].items():
        rows.append((f"pay --stream | accept --stream, {what}", measured["per_second"]))
    processes = found["d"]
    pair = processes["mpchan pay"]["p50"] + processes["mpchan payee accept"]["p50"]
    rows.append(("one pay and one accept, as processes", 1e3 / pair))
    core = found.get("c")
    rows.append(("bitcoin-cli and Core's wallet", None if core is None else core["per_second"]))
    return [(name, value) for name, value in rows if value is not None]


def drawn(rows: list[tuple[str, float]]) -> list[str]:
    """One line for each, on a logarithmic scale that begins at 1."""
    decades = math.ceil(math.log10(max(value for _, value in rows)))
    longest = max(len(name) for name, _ in rows)
    marks = "".join(f"{10**at:<{WIDTH // decades},}" for at in range(decades)) + f"{10**decades:,}"
    lines = [f"{'payments/s':<{longest}}  {marks}"]
    for name, value in rows:
        bar = "#" * max(1, round(WIDTH // decades * math.log10(max(value, 1.0))))
        lines.append(f"{name:<{longest}}  {bar} {value:,.0f}")
    return lines


if __name__ == "__main__":
    print("\n".join(drawn(bars(json.loads(Path(sys.argv[1]).read_text())))))
