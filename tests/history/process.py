"""A broker process with a witness in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.history.events import VARIABLE, fault
from tests.history.history import Terms

ROOT = Path(__file__).parents[2]


class WitnessedBroker:
    """Started, and ready. Its witnesses write to `folder`, its log to `folder/broker.log`."""

    def __init__(
        self, folder: Path, terms: Terms, *settings: str, broken: str = "", endpoint: str = "tcp://127.0.0.1:0"
    ) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "tests.history.broker", *(["--broken", broken] if broken else [])]
        command += ["--tasks", "tests.history.jobs", "--endpoint", endpoint, "--capacity", str(terms.capacity)]
        command += ["--workers", str(terms.workers), *settings]
        environment = {**os.environ, VARIABLE: str(folder), "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder)}
        with (folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=ROOT
            )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        if "endpoint=" not in ready:
            self.close()
            raise AssertionError(f"no broker: {ready!r} {(folder / 'broker.log').read_text()[-2_000:]}")
        self.endpoint = ready.split("endpoint=")[1].split()[0]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def kill(self) -> None:
        """`kill -9`, witnessed."""
        with fault(self.folder, "kill", pid=self.pid):
            self.process.kill()
            self.process.wait()

    def stop(self, timeout_s: float = 60, signals: Sequence[signal.Signals] = (signal.SIGTERM,)) -> int:
        """Ask it to stop; its exit code."""
        for number in signals:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        finally:
            self.close()

    def close(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
