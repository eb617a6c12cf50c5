"""A broker in this very process, so that a test can reach into it: its loop on a thread, its child hosts as ever."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType, TracebackType

from broker.bell import Bell
from broker.log import LineLog
from broker.settings import Settings
from broker.supervisor import Report, Supervisor
from tests import jobs
from worker_host.tasks import task_functions

_PATIENCE_S = 60.0


class InnerBroker:
    """Built and bound; `start` starts it. A context manager, which ends it if that has not happened.

    What it leaves open by design, since a process ends with its broker, is closed at the end: the bell.
    """

    def __init__(
        self,
        *modules: ModuleType,
        spill: Path | None = None,
        drain_s: float = 10,
        workers: int = 2,
        capacity: int = 100,
    ) -> None:
        chosen = modules or (jobs,)
        settings = Settings(
            tasks=",".join(module.__name__ for module in chosen),
            endpoint="tcp://127.0.0.1:0",
            workers=workers,
            child_hosts=1,
            drain_s=drain_s,
            capacity=capacity,
        )
        self._sink = os.open("/dev/null", os.O_WRONLY)
        self._log = LineLog(self._sink)
        child = [sys.executable, "-m", "broker.child", "--tasks", settings.tasks, "--log-level", "error", "--nice", "0"]
        self.bell = Bell()
        self.supervisor = Supervisor(settings, task_functions(chosen), self._log, spill, child, bell=self.bell)
        self._reports: queue.SimpleQueue[Report | BaseException] = queue.SimpleQueue()
        self._report: Report | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return self.supervisor.endpoint

    def start(self) -> InnerBroker:
        """Start its hosts and its loop."""
        self.supervisor.start()
        self._thread.start()
        return self

    def signal(self, times: int = 1) -> None:
        """Ask it to drain, as a signal would; the second time, to be quick."""
        os.write(self.bell.writer, bytes([signal.SIGTERM]) * times)

    def report(self) -> Report:
        """Wait for its end; raises what its loop raised."""
        if self._report is None:
            report = self._reports.get(timeout=_PATIENCE_S)
            self._thread.join(_PATIENCE_S)
            if isinstance(report, BaseException):
                raise report
            self._report = report
        return self._report

    def stop(self) -> Report:
        """Drain, and the report of it."""
        self.signal()
        return self.report()

    def _run(self) -> None:
        try:
            self._reports.put(self.supervisor.run())
        except BaseException as error:  # noqa: BLE001 - for whoever waits for the report
            self._reports.put(error)

    def __enter__(self) -> InnerBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._report is None and self._reports.empty():
            self.signal(2)
        report = self.report()
        self._log.finish(5)
        os.close(self._sink)
        if not report.busy_workers:  # a worker that still runs may ring it
            self.bell.close()
