"""Task functions for measuring: they do next to nothing, or tell when they began."""

from __future__ import annotations

import ctypes
import os
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


@task(retries=0)
def wait(submitted_ns: int, seconds: float, path: str) -> None:
    """Wait as slow input or output would, and append when this was submitted, began and ended, in nanoseconds."""
    began = time.monotonic_ns()
    time.sleep(seconds)
    line = f"{submitted_ns} {began} {time.monotonic_ns()}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # one write each: eight threads write here
    os.write(descriptor, line)
    os.close(descriptor)


@task(retries=0)
def wait_often(seconds: float) -> None:
    """Wait for a millisecond again and again, as a thread does that reads from a socket."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.001)


@task(retries=0)
def compute(seconds: float) -> None:
    """Keep a core busy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1_000))


@task(isolate=True, retries=0)
def segfaults() -> None:
    """Take the process down, as a faulty extension does."""
    ctypes.string_at(0)


@task(isolate=True, retries=0, time_limit=1.0)
def loops() -> None:
    """Wait for what never comes."""
    while True:
        time.sleep(0.001)


@task(isolate=True, retries=0, time_limit=1.0)
def spins() -> None:
    """Use a core, for ever."""
    while True:
        pass
