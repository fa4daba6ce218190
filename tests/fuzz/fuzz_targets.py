"""Every fuzz target, by its name."""

from __future__ import annotations

from fuzz_answers import ANSWERS
from fuzz_files import FILES
from fuzz_formats import FORMATS
from fuzz_paths import PATHS

TARGETS = {target.name: target for target in [*FORMATS, *FILES, *ANSWERS, *PATHS]}
