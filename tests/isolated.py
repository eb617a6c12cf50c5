"""Task functions for tests with child hosts: what a broker's own threads could not survive, and what is beside it."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.witness import note
from worker_host import Backoff, current_task, task

_AT_ONCE = Backoff(first_s=0.0, max_s=0.0)


def _start(path: str) -> None:
    note(path, event="start", id=current_task().id, attempt=current_task().attempt)


@task(isolate=True, backoff=_AT_ONCE)
def dies(path: str, how: str) -> None:
    """Take the process down."""
    _start(path)
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@task(isolate=True, backoff=_AT_ONCE)
def dies_once(path: str) -> None:
    """Take the process down at the first attempt, and succeed at the second."""
    _start(path)
    if current_task().attempt == 1:
        os._exit(3)


@task(isolate=True, backoff=_AT_ONCE, time_limit=0.3)
def loops(path: str) -> None:
    """Never end."""
    _start(path)
    while True:
        pass


@task(isolate=True, retries=0)
def holds(path: str, until: str) -> None:
    """Run until the file `until` exists."""
    _start(path)
    while not Path(until).exists():
        time.sleep(0.01)
    note(path, event="end", id=current_task().id)


@task(isolate=True, retries=0)
def spins(path: str, seconds: float) -> None:
    """Use a core."""
    _start(path)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@task(isolate=True, retries=0)
def keeps_the_interpreter(path: str) -> None:
    """Let no other thread of the process run, ever: a regular expression that backtracks."""
    _start(path)
    re.match(r"(a+)+$", "a" * 100 + "b")


@task(isolate=True, retries=0)
def loses_its_channel(path: str) -> None:
    """Close what it did not open, and go on."""
    _start(path)
    os.closerange(3, 64)


@task(retries=0)
def leaves_a_copy(path: str, until: str) -> None:
    """On a thread of the broker: fork a process that stays until the file `until` exists."""
    if not os.fork():
        while not Path(until).exists():
            time.sleep(0.01)
        os._exit(0)
    _start(path)


@task(isolate=True, retries=0)
def child(path: str) -> None:
    """Say in which process this runs, and on which thread."""
    note(path, event="start", id=current_task().id, host=os.getpid(), thread=threading.current_thread().name)


@task(isolate=True, retries=1, backoff=_AT_ONCE)
def raises(path: str) -> None:
    """Fail as usual."""
    _start(path)
    raise ValueError("as ever")


@task(isolate=True, retries=0)
def leaves_a_process(path: str) -> None:
    """Start a process, which holds all that it can inherit, and take the host down."""
    _start(path)
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    note(path, event="left", left=left.pid)
    os._exit(3)


@task(isolate=True, retries=0)
def forks(path: str) -> None:
    """Fork; the copy returns from the task as if it were the worker."""
    _start(path)
    copy = os.fork()
    if copy:
        note(path, event="forked", child=copy)
        os.waitpid(copy, 0)


@task(time_limit=0.2, retries=0)
def sticks(path: str, until: str) -> None:
    """On a thread of the broker: run until the file `until` exists, past the time limit."""
    _start(path)
    while not Path(until).exists():
        time.sleep(0.01)


@task(retries=0)
def ordinary(path: str) -> None:
    """On a thread of the broker."""
    note(path, event="start", id=current_task().id, host=os.getpid(), thread=threading.current_thread().name)
