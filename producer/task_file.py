"""A file of tasks on its way to the broker: its lines are read, and what became of them is told."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from io import TextIOBase
from typing import BinaryIO, Final

from producer.errors import BadTask
from producer.progress import Progress
from producer.replies import Limits
from producer.tables import verdict_line
from producer.task import Task
from producer.task_lines import task_of_line
from producer.verdicts import Verdict

_NAMED: Final = 20  # bad lines, and rejected tasks, that are named; a million of them would hide everything else


class TaskFile:
    """Yields the tasks of a file, once. Lines that are none are named on `errors`, and skipped."""

    def __init__(self, file: BinaryIO, limits: Limits, errors: TextIOBase) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size  # 0 if there is no telling, as for a pipe
        self._limits = limits
        self._errors = errors
        self._progress = Progress(errors, time.monotonic)
        self._lines: dict[str, int] = {}  # id → number of the line, of the tasks without a verdict
        self._bad = 0

    def __iter__(self) -> Iterator[Task]:
        read = 0
        for number, line in enumerate(self._read(), 1):
            read += len(line)
            if line.isspace():
                continue
            try:
                task = task_of_line(line, self._limits)
            except BadTask as error:
                self._bad += 1
                self._name(self._bad, f"line {number}: {error}")
                continue
            self._lines[task.id] = number
            self._progress.took(read / self._size if self._size else None)
            yield task

    def _read(self) -> Iterator[bytes]:
        try:
            yield from self._file
        except OSError as error:
            raise BadTask(f"the file cannot be read on: {error.strerror}") from None

    def settled(self, verdict: Verdict) -> None:
        """A verdict stands; a rejection is named on `errors`."""
        self._progress.settled(verdict)
        number = self._lines.pop(verdict.id, 0)  # 0: the second one of an id that is in the file twice
        if not verdict.accepted:
            self._name(sum(self._progress.rejected.values()), f"line {number}: {verdict_line(verdict)}")

    @property
    def without_verdict(self) -> int:
        """How many tasks of those that were read have none."""
        return self._progress.taken - self._progress.accepted - sum(self._progress.rejected.values())

    @property
    def is_good(self) -> bool:
        """Whether every line so far was a task, and accepted."""
        return not self._bad and self._progress.accepted == self._progress.taken

    def report(self) -> str:
        """A line that tells what became of the tasks."""
        progress = self._progress
        progress.clear()
        rejected = sum(progress.rejected.values())
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(progress.rejected.items()))
        without = self.without_verdict
        return (
            f"accepted={progress.accepted} duplicates={progress.duplicates} rejected={rejected}"
            f"{f' ({reasons})' if reasons else ''} bad_lines={self._bad}"
            f"{f' without_verdict={without}' if without else ''} seconds={progress.seconds:.2f}"
        )

    def _name(self, count: int, text: str) -> None:
        if count <= _NAMED:
            self._progress.clear()
            self._errors.write(text + "\n" + ("(further ones are not named)\n" if count == _NAMED else ""))
