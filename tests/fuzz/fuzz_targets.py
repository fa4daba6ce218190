"""Every fuzz target, by its name."""

from __future__ import annotations

from fuzz_answers import ANSWERS
from fuzz_files import FILES
from fuzz_formats import FORMATS
from fuzz_paths import PATHS
from fuzz_sale import SALES

TARGETS = {target.name: target for target in [*FORMATS, *FILES, *ANSWERS, *SALES, *PATHS]}
