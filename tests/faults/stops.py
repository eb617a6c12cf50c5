"""A process that is stopped for a while, as a debugger, a laptop's lid or a starved machine does it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_STOPS_WITHIN_S = 20.0


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """While inside, process `pid` is stopped, every thread of it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + _STOPS_WITHIN_S
        while _state(pid) not in {"T", "Z"}:
            assert time.monotonic() < deadline, f"process {pid} does not stop"
            time.sleep(0.001)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
            os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
