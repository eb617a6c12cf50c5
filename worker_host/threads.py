"""A host whose workers are threads of this process.

Responsible for the life of its worker threads. What they take, and what becomes of a failed task, is the source's
affair.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from worker_host.attempt import Awaiter, run_attempt
from worker_host.contract import Source
from worker_host.tasks import TaskFunction


class ThreadHost:
    """`workers` threads that take, run and settle tasks until the source has no more.

    The threads are daemons: a task that never ends cannot be ended in a thread, and must not keep the process alive.
    `on_death` is called, on the dying thread, if a worker ends for any other reason than a closed source; it means a
    defect of the host or the source, never of a task.
    """

    def __init__(
        self,
        source: Source[Any],
        functions: Mapping[str, TaskFunction],
        workers: int,
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._source = source
        self._functions = functions
        self._on_death = on_death
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(1, workers + 1)
        ]

    def start(self) -> None:
        """Start every worker; returns when all of them run."""
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> int:
        """Wait up to `timeout_s` in all for the workers to end; the number of those that still run."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.alive

    @property
    def alive(self) -> int:
        """Workers that have not ended."""
        return sum(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        source, functions, awaiter = self._source, self._functions, Awaiter()
        try:
            while (lease := source.take()) is not None:
                failure = run_attempt(lease, functions, awaiter)
                if failure is None:
                    source.ack(lease)
                else:
                    source.fail(lease, failure)
            awaiter.close()
        # A worker that dies in silence shrinks the pool for good; the owner must hear of it and stop the process.
        except BaseException as error:  # noqa: BLE001
            self._on_death(error)
