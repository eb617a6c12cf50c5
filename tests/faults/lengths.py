"""How often: a short form for every run of the tests, a long one for `make torture`, which says so in `TORTURE`."""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "TORTURE"  #: the scale of the long form, such as 1 or 0.05


def times(short: int, long: int) -> int:
    """`short`, or in the long form `long` times its scale, at least `short`."""
    return max(short, round(long * float(os.environ.get(VARIABLE, "0"))))
