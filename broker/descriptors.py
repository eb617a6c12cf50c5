"""File descriptors: all that the system grants, and a word when none is left.

Without one nobody can connect any more. libzmq, which accepts connections, says nothing of it and goes on trying; those
who are connected are served. So the loop looks, every now and then, whether one could be had.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import time
from typing import Final

from worker_host.contract import Trouble

_log = logging.getLogger("turnstile.broker")

_LOOK_S: Final = 1.0  # a look takes a microsecond or two
_NONE_LEFT: Final = (errno.EMFILE, errno.ENFILE)


def raise_limit() -> None:
    """Take as many as the system grants: each connection needs one, and the usual 1,024 are not many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # refused: then it is as it was
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Descriptors:
    """Whether any is left. On the owner's thread."""

    def __init__(self) -> None:
        self._look_at = time.monotonic()
        self._exhausted = False

    def watch(self) -> float:
        """Look, if it is time to; seconds until the next look. A warning is logged when there is none left."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            was, self._exhausted = self._exhausted, not _is_one_left()
            if self._exhausted and not was:
                most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                _log.warning("no file descriptor is left of %d: nobody else can connect, until some are free", most)
        return max(0.0, self._look_at - now)

    def troubles(self) -> list[Trouble]:
        """What health has to say about it."""
        if not self._exhausted:
            return []
        detail = "no file descriptor is left, so nobody else can connect; see `ulimit -n`"
        return [Trouble("descriptors_exhausted", detail)]


def _is_one_left() -> bool:
    try:
        descriptor = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno not in _NONE_LEFT
    os.close(descriptor)
    return True
