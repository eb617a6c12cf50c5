"""The terminal that the demo writes to: how wide it is, and text folded to that."""

from __future__ import annotations

import shutil
from textwrap import wrap
from typing import Final

_MOST: Final = 120  # longer lines are hard to read
_UNKNOWN: Final = 100  # into a file or a pipe


def columns() -> int:
    """How long a line may be."""
    return min(shutil.get_terminal_size((_UNKNOWN, 24)).columns, _MOST)


def folded(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most `width` characters, all but the first indented. No word is cut: a path can be copied."""
    return wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
