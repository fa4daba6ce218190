"""Every fuzz target, by its name."""

from __future__ import annotations

from support.fuzz.answers import ANSWERS
from support.fuzz.files import FILES
from support.fuzz.formats import FORMATS
from support.fuzz.paths import PATHS
from support.fuzz.sale import SALES
from support.fuzz.web import WEB

TARGETS = {target.name: target for target in [*FORMATS, *FILES, *ANSWERS, *SALES, *WEB, *PATHS]}
