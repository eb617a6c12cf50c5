"""Task functions that witness what they do: start, the arguments that they see, and how they end."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.history.events import VARIABLE, Witness, sha
from worker_host import Backoff, current_task, task

SHORT = Backoff(first_s=0.02, max_s=0.02, jitter=0.0)


@functools.cache
def _witness_of(pid: int) -> Witness:  # one for each process: a forked one counts anew
    return Witness(os.environ[VARIABLE], "jobs")


@contextmanager
def witnessed(args: list[Any]) -> Iterator[None]:
    """Witness the start of the current attempt, and its end."""
    witness, current, pid, thread = _witness_of(os.getpid()), current_task(), os.getpid(), threading.get_ident()
    seen = {"id": current.id, "attempt": current.attempt, "pid": pid, "thread": thread}
    witness.note("start", sha=sha(args), **seen)
    try:
        yield
    except BaseException:
        witness.note("end", outcome="raised", **seen)
        raise
    witness.note("end", outcome="ok", **seen)


@task(backoff=SHORT)
def ok(values: list[int], seconds: float = 0.0) -> None:
    """Succeed, and spoil the arguments."""
    with witnessed([values, seconds]):
        time.sleep(seconds)
        values.clear()


@task(backoff=SHORT)
def fails(values: list[int], seconds: float = 0.0) -> None:
    """Fail, always, and spoil the arguments."""
    with witnessed([values, seconds]):
        time.sleep(seconds)
        values.clear()
        raise ValueError("as ever")


@task(backoff=SHORT)
def flaky(values: list[int], until: int) -> None:
    """Fail before attempt number `until`."""
    with witnessed([values, until]):
        values.clear()
        if current_task().attempt < until:
            raise OSError("not yet")


@task(backoff=SHORT)
def exits(values: list[int], until: int) -> None:
    """The same, with what `except Exception` does not catch."""
    with witnessed([values, until]):
        if current_task().attempt < until:
            raise SystemExit


@task(backoff=SHORT)
async def awaits(values: list[int], seconds: float) -> None:
    """Wait, on a loop."""
    with witnessed([values, seconds]):
        await asyncio.sleep(seconds)


@task(backoff=SHORT, isolate=True)
def isolated(values: list[int], seconds: float = 0.0) -> None:
    """Succeed, in a child host."""
    with witnessed([values, seconds]):
        time.sleep(seconds)


@task(backoff=SHORT, isolate=True)
def crashes(values: list[int], until: int) -> None:
    """Take its child host down before attempt number `until`."""
    with witnessed([values, until]):
        if current_task().attempt < until:
            os._exit(3)


#: Those that run in child hosts.
ISOLATED = frozenset({"isolated", "crashes"})
