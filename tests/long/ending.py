"""Task functions that witness their start and their end."""

from __future__ import annotations

import time

from tests.witness import note
from worker_host import Backoff, current_task, task


@task(retries=0)
def ends(path: str, seconds: float) -> None:
    """Start, take a while, end."""
    note(path, event="start", id=current_task().id)
    time.sleep(seconds)
    note(path, event="end", id=current_task().id)


@task(backoff=Backoff(first_s=0.02, max_s=0.1))
def fails(path: str, retries: int) -> None:
    """Fail at every attempt; submitted with so many retries, the last attempt is the task's death."""
    current = current_task()
    note(path, event="start", id=current.id)
    if current.attempt == retries + 1:
        note(path, event="dead", id=current.id)
    raise ValueError("as planned")
