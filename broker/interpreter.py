"""What the Python that runs this broker does to it."""

from __future__ import annotations

import sys
from typing import Final

#: References that no string has, but one that is never freed: such a one tells 2**32 - 1 of them, or a few less.
_FOR_EVER: Final = 2**30

#: What that means, for the log.
KEPT_KEYS: Final = (
    f"Python {'.'.join(map(str, sys.version_info[:3]))} never frees the key of a map that it was sent once: memory "
    "grows with every new one, also of requests that are refused; 3.11, 3.12.7 and later ones free them"
)


def keeps_every_key() -> bool:
    """Whether each text that was ever the key of a map in a message stays in memory to the end.

    msgpack interns the keys that it reads (msgpack-python #612), and CPython 3.12.0 to 3.12.6 never frees a string that
    was interned (gh-113993). A look, and not the version's number: a distribution may have mended its own.
    """
    return sys.getrefcount(sys.intern(f"of nobody {object()}")) > _FOR_EVER
