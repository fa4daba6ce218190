"""The keys of a command's JSON, at the end of its help."""

from __future__ import annotations

import click
from click.formatting import wrap_text

from mpchan.results.documented import all_inside, answers, keys, title


def write_keys(command: str, formatter: click.HelpFormatter) -> None:
    """What ``--json`` prints."""
    for kind in all_inside(answers(command)):
        with formatter.section(f"JSON {kind.__name__}"):
            formatter.write(wrap_text(title(kind), formatter.width, "  ", "  ") + "\n")
            rows = [(key.name, f"{key.json_type}: {key.meaning}") for key in keys(kind)]
            formatter.write_dl(rows, col_max=24)
