"""Task functions for the tour (docs/tour.md): each shows one thing, in the broker's own terminal."""

# ruff: noqa: T201 - they are there to be seen

from __future__ import annotations

import ctypes
import time

from worker_host import Backoff, NeverRetry, current_task, task


@task
def greet(name: str) -> None:
    """Say hello."""
    print(f"hello, {name}", flush=True)


@task
def nap(seconds: float) -> None:
    """Keep a worker busy, as slow input or output would."""
    time.sleep(seconds)


@task(retries=5, backoff=Backoff(first_s=0.5))
def flaky(succeeds_at: int) -> None:
    """Fail until attempt number `succeeds_at`."""
    attempt = current_task().attempt
    print(f"attempt {attempt} of {current_task().id}", flush=True)
    if attempt < succeeds_at:
        raise ConnectionError("the service is not there yet")


@task
def doomed() -> None:
    """Fail for good: no other attempt would fare better."""
    raise NeverRetry("no such customer")


@task(isolate=True, retries=1)
def segfault() -> None:
    """Take the process down, as a faulty extension does: it is a child of the broker's, and costs an attempt."""
    ctypes.string_at(0)
