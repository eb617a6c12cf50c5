"""The processes that the demo starts, and ends again: each by its own id, in whatever way the demo itself ends."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class DemoError(Exception):
    """The demo cannot go on; the message is one clear line for the terminal."""


class Child:
    """One process, `python ARGUMENTS...`. The demo reads its standard output; its errors go into a log file."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,  # what is read here line by line must not take from what is read at the end
                # A group of its own: Ctrl-C is for the demo alone, which then ends its children in order.
                process_group=0,
            )

    def first_line(self, timeout_s: float) -> str:
        """The line by which it says that it is ready; `DemoError` if it ends instead, or takes too long."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe: see above
        readable, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if readable else b""
        if not line:
            raise DemoError(f"the {self.name} did not get ready; {self._last_words()}")
        return line.decode().strip()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def finish(self, timeout_s: float) -> str:
        """Wait for its end; what else it printed. `DemoError` if it takes too long, or did not end well."""
        try:
            output, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the {self.name} did not end within {timeout_s:g} s; {self._last_words()}") from None
        if self._process.returncode != 0:
            raise DemoError(f"the {self.name} ended with exit code {self._process.returncode}; {self._last_words()}")
        return output.decode(errors="replace").strip()

    def terminate(self) -> None:
        """Ask it to end (SIGTERM). Does not wait."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, if it still runs, and wait until it is gone."""
        self._process.kill()
        self._process.communicate()

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"its last words: {lines[-1][:300]}" if lines else f"it said nothing in {self.log}"


class Children:
    """All children of one run of the demo. Leaving the `with` block ends those that still run."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    def start(self, name: str, *arguments: str) -> Child:
        """Start `python ARGUMENTS...`; its errors go into the log file of this name."""
        child = Child(name, list(arguments), self._logs / f"{name.replace(' ', '_')}.log")
        self._children.append(child)
        return child

    def check(self) -> None:
        """`DemoError` if one of them has ended badly."""
        for child in self._children:
            if child.exit_code:
                child.finish(timeout_s=1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = [child for child in reversed(self._children) if child.exit_code is None]
        for child in running:
            child.terminate()
        for child in running:
            with contextlib.suppress(DemoError):  # however it ends now, the demo has its result, or its error, already
                child.finish(timeout_s=2.0)
            child.kill()
