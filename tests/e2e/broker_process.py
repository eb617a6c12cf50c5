"""A broker as a user starts one, under pytest-xprocess, so that its output is shown where a test fails."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, cast

from xprocess import ProcessStarter, XProcess

ROOT = Path(__file__).parents[2]
#: What a promised second is given here: a test shares its machine, and shows that nothing longer was waited for. All is
#: slower where every line is noted (`make cover`).
A_SECOND = 5.0 if sys.gettrace() is None else 30.0
_numbers = itertools.count()


class BrokerProcess:
    """`python -m broker`, started and ready; or, if it could not start, ended. Ended for good by `end`."""

    def __init__(
        self,
        xprocess: XProcess,
        flags: tuple[str, ...],
        environment: dict[str, str],
        tasks: str,
        start: tuple[str, ...],
    ) -> None:
        # A name of its own for each: what a name stands for is reused in silence if it still runs.
        name = f"broker-{os.getpid()}-{next(_numbers)}"
        endpoint = () if "--endpoint" in flags else ("--endpoint", "tcp://127.0.0.1:0")

        state = {
            "XDG_STATE_HOME": str(Path(str(xprocess.rootdir)) / name)
        }  # and not where the user's own brokers keep it

        class Starter(ProcessStarter):  # type: ignore[misc] # it has no types
            pattern = "^turnstile"  # the ready line, or the line that says why there is none
            args = (sys.executable, *start, "--tasks", tasks, *endpoint, *flags)
            env: ClassVar[dict[str, str]] = {**os.environ, "PYTHONPATH": str(ROOT), **state, **environment}
            timeout = 30

        _, log = xprocess.ensure(name, Starter)
        self.log = Path(str(log))
        self.process = xprocess.resources[-1].popen  # its exit code is lost if xprocess ends it

    @property
    def pid(self) -> int:
        return cast("int", self.process.pid)

    @property
    def output(self) -> str:
        """Everything it has written so far."""
        return self.log.read_text(errors="replace")

    def says(self, text: str) -> bool:
        """Whether it writes this; waits for it, since a thread of its own writes the log."""
        deadline = time.monotonic() + 30
        while text not in self.output:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    @property
    def endpoint(self) -> str:
        """From its ready line."""
        match = re.search(r"^turnstile ready endpoint=(\S+)", self.output, re.MULTILINE)
        assert match is not None, self.output
        return match[1]

    @property
    def report(self) -> dict[str, Any]:
        """Its report line, as a map; numbers as numbers."""
        lines = re.findall(r"^turnstile stopped (.*)$", self.output, re.MULTILINE)
        assert len(lines) == 1, self.output
        words = dict(word.split("=", 1) for word in lines[0].split())
        return {key: int(value) if value.isdigit() else value for key, value in words.items()}

    @property
    def returned_ids(self) -> list[str]:
        """The ids that it named as returned."""
        return [task_id for ids in re.findall(r" returned ids?=(\S+)", self.output) for task_id in ids.split(",")]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def exit_code(self, timeout_s: float = 30) -> int:
        """Wait for its end."""
        return cast("int", self.process.wait(timeout_s))

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return self.exit_code()

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
