"""Task functions for measuring: they do next to nothing, or tell when they began."""

from __future__ import annotations

import time
from pathlib import Path

from worker_host import task


@task(retries=0)
def noop(*_: object) -> None:
    """Do nothing: what remains is the queue's own cost."""


@task(retries=0)
def sleep(seconds: float) -> None:
    """Wait as slow input or output would, without the interpreter."""
    time.sleep(seconds)


@task(retries=0)
def note_start(submitted_ns: int, path: str) -> None:
    """Append the nanoseconds from submit to start; one clock counts for all processes of a machine."""
    passed = time.monotonic_ns() - submitted_ns
    with Path(path).open("a", encoding="ascii") as file:
        file.write(f"{passed}\n")
