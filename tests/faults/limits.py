"""The system says no: less of a resource, for a process that runs already."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    """While inside, process `pid` has this much of `what`: `resource.RLIMIT_NOFILE`, `RLIMIT_AS`."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            resource.prlimit(pid, what, before)
