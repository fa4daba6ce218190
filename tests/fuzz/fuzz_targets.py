"""Every fuzz target, by its name."""

from __future__ import annotations

from fuzz_files import FILES
from fuzz_formats import FORMATS

TARGETS = {target.name: target for target in [*FORMATS, *FILES]}
