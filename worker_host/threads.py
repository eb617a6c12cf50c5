"""A host whose workers are threads of this process.

Responsible for the life of its worker threads. What they take, and what becomes of a failed task, is the source's
affair.

A thread cannot be ended. A task that is past its time limit is *stuck*: its stack is logged, it stays what it is, a
running task, and a spare worker takes its worker's place, as long as there are spares. Should it end after all, its
worker ends with it, so that the number of those that work stays the same.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from worker_host.attempt import CALLERS, MAX_TRACE, Awaiter, run_attempt
from worker_host.contract import Lease, Source, StuckTask, Trouble
from worker_host.tasks import TaskFunction

_log = logging.getLogger("turnstile.worker_host")

_SHOWN: Final = 10  # stuck tasks that are shown with their stacks


@dataclass
class _Limited:
    """An attempt that runs under a time limit."""

    lease: Lease
    name: str
    thread: int  #: the identifier of the thread that runs it
    began: float
    deadline: float
    is_stuck: bool = False
    is_replaced: bool = False  #: a spare works in its worker's place


class ThreadHost:
    """`workers` threads that take, run and settle tasks until the source has no more.

    The threads are daemons: a task that never ends must not keep the process alive. `on_death` is called, on the dying
    thread, if a worker ends for any other reason than a closed source; it means a defect of the host or the source,
    never of a task.
    """

    def __init__(
        self,
        source: Source[Any],
        functions: Mapping[str, TaskFunction],
        workers: int,
        on_death: Callable[[BaseException], None],
        *,
        spares: int = 0,
    ) -> None:
        self._source = source
        self._functions = functions
        self._on_death = on_death
        self._spares = spares
        self._made = 0
        self._threads = [self._worker() for _ in range(workers)]
        # Guards the two below, and the flags of a `_Limited`: a worker adds and removes its attempt, the owner looks.
        self._guard = threading.Lock()
        self._limited: dict[int, _Limited] = {}  # by thread
        self._replaced = 0  # spares at work

    def start(self) -> None:
        """Start every worker; returns when all of them run."""
        for thread in self._threads:
            thread.start()

    def end(self, patience_s: float) -> int:
        """Wait up to `patience_s` in all for the workers to end; the number of those that still run a task."""
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.alive

    @property
    def alive(self) -> int:
        """Workers that have not ended."""
        return sum(thread.is_alive() for thread in self._threads)

    def watch(self) -> float | None:
        """See which attempts are past their limit; seconds until the next one could be, None: none runs under one.

        Spares that are free, also since another stuck task has ended, take the places of workers that are stuck.
        """
        if not self._limited:
            return None
        now = time.monotonic()
        with self._guard:
            stuck = [one for one in self._limited.values() if one.is_stuck or now >= one.deadline]
            late = [one for one in stuck if not one.is_stuck]
            for one in late:
                one.is_stuck = True
            replaced = [one for one in stuck if not one.is_replaced][: self._spares - self._replaced]
            for one in replaced:
                one.is_replaced = True
            self._replaced += len(replaced)
            left = [one.deadline - now for one in self._limited.values() if not one.is_stuck]
        for one in late:
            _log.error(
                "stuck task id=%s name=%s attempt=%d: past its time limit, on a thread nobody can end; %s; at: %s",
                one.lease.id, one.name, one.lease.attempt,
                "a spare worker takes its place" if one.is_replaced else "no spare worker is left", _stack(one.thread),
            )  # fmt: skip
        for one in replaced:
            if one not in late:
                _log.warning(
                    "stuck task id=%s name=%s: a spare worker that is free again takes its place",
                    one.lease.id, one.name,
                )  # fmt: skip
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(self._worker())
            self._threads[-1].start()
        return max(0.0, min(left)) if left else None

    def stuck(self) -> list[StuckTask]:
        """The tasks that are past their time limit and still run, with their stacks: the longest-running ones."""
        now = time.monotonic()
        with self._guard:
            found = sorted((one for one in self._limited.values() if one.is_stuck), key=lambda one: one.began)
        return [
            StuckTask(one.lease.id, one.name, one.lease.attempt, now - one.began, _stack(one.thread))
            for one in found[:_SHOWN]
        ]

    def troubles(self) -> list[Trouble]:
        """Stuck tasks, and workers that nobody can replace."""
        with self._guard:
            stuck = sum(one.is_stuck for one in self._limited.values())
            lost = sum(one.is_stuck and not one.is_replaced for one in self._limited.values())
        found = []
        if stuck:
            detail = f"tasks past their time limit, on threads that cannot be ended: {stuck}"
            found.append(Trouble("stuck_tasks", detail))
        if lost:
            found.append(Trouble("workers_lost", f"workers that are stuck and have no spare: {lost}"))
        return found

    def _worker(self) -> threading.Thread:
        self._made += 1
        return threading.Thread(target=self._work, name=f"worker-{self._made}", daemon=True)

    def _work(self) -> None:
        source, functions, awaiter = self._source, self._functions, Awaiter()
        begun = self._begun if any(one.time_limit_s is not None for one in functions.values()) else None
        try:
            while (lease := source.take()) is not None:
                failure = run_attempt(lease, functions, awaiter, begun)
                if failure is None:
                    source.ack(lease)
                else:
                    source.fail(lease, failure)
                if begun is not None and self._ended():
                    break
            awaiter.close()
        # A worker that dies in silence shrinks the pool for good; the owner must hear of it and stop the process.
        except BaseException as error:  # noqa: BLE001
            self._on_death(error)

    def _begun(self, lease: Lease, function: TaskFunction) -> None:
        if function.time_limit_s is not None:
            thread, now = threading.get_ident(), time.monotonic()
            with self._guard:
                self._limited[thread] = _Limited(lease, function.name, thread, now, now + function.time_limit_s)

    def _ended(self) -> bool:
        """Note that this worker's attempt has ended; whether a spare works in its place, so that this one must go."""
        thread = threading.get_ident()
        if thread not in self._limited:  # nobody else makes or removes this entry; workers that lock queue up behind it
            return False
        with self._guard:
            one = self._limited.pop(thread)
            if not one.is_stuck:
                return False
            self._replaced -= one.is_replaced
        ran_s = time.monotonic() - one.began
        _log.warning("task id=%s name=%s, which was stuck, has ended after %.1f s", one.lease.id, one.name, ran_s)
        return one.is_replaced


def _stack(thread: int) -> str:
    """Where this thread is now, from the task function on."""
    frame = sys._current_frames().get(thread)  # documented, and the only way
    if frame is None:
        return "(it has just ended)"
    of_task = takewhile(lambda one: one[0].f_code not in CALLERS, traceback.walk_stack(frame))  # the innermost first
    stack = traceback.StackSummary.extract(of_task, limit=12)
    stack.reverse()
    return "".join(stack.format())[-MAX_TRACE:]
