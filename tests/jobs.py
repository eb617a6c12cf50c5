"""Task functions for tests with real processes. They witness what they do in a file that the test names."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

from tests.witness import note
from worker_host import Backoff, NeverRetry, RetryAfter, current_task, task

_AT_ONCE = Backoff(first_s=0.0, max_s=0.0)


@task(retries=0)
def noop(*_: object) -> None:
    """Nothing."""


@task(retries=0)
def record(path: str, *values: object) -> None:
    """One start, witnessed."""
    current = current_task()
    note(path, event="start", id=current.id, attempt=current.attempt, values=values)


@task(retries=0)
def hold(path: str, until: str) -> None:
    """Start, then run until the file `until` exists."""
    current = current_task()
    note(path, event="start", id=current.id, attempt=current.attempt)
    while not Path(until).exists():
        time.sleep(0.01)
    note(path, event="end", id=current.id)


@task(retries=0)
def goes_to(folder: str) -> None:
    """Change the current folder, of a thread's whole process."""
    os.chdir(folder)


@task(retries=0)
def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


@task(backoff=_AT_ONCE)
def always_fails(path: str) -> None:
    """Fail, witnessed."""
    note(path, event="start", id=current_task().id, attempt=current_task().attempt)
    raise ValueError("as ever")


@task(backoff=_AT_ONCE)
def fails_until(path: str, attempt: int) -> None:
    """Fail before attempt number `attempt`, then succeed."""
    note(path, event="start", id=current_task().id, attempt=current_task().attempt)
    if current_task().attempt < attempt:
        raise OSError("not yet")


@task(retries=5)
def asks_for_time(path: str, seconds: float) -> None:
    """The first attempt asks to be tried again in `seconds`."""
    note(path, event="start", id=current_task().id, attempt=current_task().attempt)
    if current_task().attempt == 1:
        raise RetryAfter(seconds)


@task(retries=5)
def gives_up(path: str) -> None:
    """Say that it is of no use."""
    note(path, event="start", id=current_task().id, attempt=current_task().attempt)
    raise NeverRetry("no such customer")


class _Unprintable(Exception):  # noqa: N818 - not an error but a nuisance
    def __str__(self) -> str:
        raise RuntimeError("even this")

    __repr__ = __str__


@task(retries=0)
def raises(what: str) -> None:
    """Raise what no worker should have to survive."""
    kinds: dict[str, type[BaseException]] = {
        kind.__name__: kind
        for kind in (
            SystemExit,
            KeyboardInterrupt,
            GeneratorExit,
            asyncio.CancelledError,
            BaseException,
            MemoryError,
            _Unprintable,
        )
    }
    if what == "RecursionError":
        raises(what)
    raise kinds[what]


_barriers: dict[str, threading.Barrier] = {}
_guard = threading.Lock()


@task(retries=0)
def meet(name: str, parties: int) -> None:
    """Wait until so many of these run at the same time: only if so many workers are alive do they ever end."""
    with _guard:
        barrier = _barriers.setdefault(name, threading.Barrier(parties))
    barrier.wait(timeout=30)


@task(retries=0)
async def awaits(path: str) -> None:
    """Really awaited: the note is written after the loop has turned."""
    await asyncio.sleep(0)
    note(path, event="start", id=current_task().id, attempt=current_task().attempt)


@task(retries=0)
def changes_its_arguments(path: str, values: list[int]) -> None:
    """Spoil the arguments after noting them; a second attempt must not see that."""
    note(path, event="start", id=current_task().id, attempt=current_task().attempt, values=list(values))
    values.clear()
    if current_task().attempt == 1:
        raise OSError("once more")


@task(retries=0)
def prints(text: str, times: int) -> None:
    """Write to standard error, as a chatty library does."""
    for _ in range(times):
        os.write(2, text.encode())


@task(retries=0)
def forks(path: str, comes_back: bool) -> None:
    """Fork; the child either lives on for a while, or returns from the task as if it were the worker."""
    child = os.fork()
    if child:
        note(path, event="forked", child=child)
    elif not comes_back:
        time.sleep(30)
        os._exit(0)


_lingers_at: str | None = None  #: a file, in a process that is about to fork


def _linger() -> None:
    """In a process that was just forked, before the broker's code there runs: wait for a SIGTERM to have come."""
    if _lingers_at is not None:
        note(_lingers_at, event="forked", child=os.getpid())
        until = time.monotonic() + 20
        while signal.SIGTERM not in signal.sigpending() and time.monotonic() < until:
            pass


os.register_at_fork(after_in_child=_linger)


@task(retries=0)
def forks_slowly(path: str) -> None:
    """Fork a process that takes long for its first steps, and tell what it ended of."""
    global _lingers_at
    _lingers_at = path
    child = os.fork()
    if not child:
        os._exit(0)
    _lingers_at = None
    note(path, event="ended", signal=os.WTERMSIG(os.waitpid(child, 0)[1]))


@task(retries=0)
def says(text: str) -> None:
    """Print, as a task would."""
    print(text, end="")  # noqa: T201 - this is the point


@task(retries=0)
def allocates(mebibytes: int) -> None:
    """Ask for memory, and give it back."""
    bytearray(mebibytes * 2**20)
