"""Witnesses: who saw what, and when, written down so that a writer's death loses nothing that it wrote.

One JSON line for each event, with one `os.write` on an `O_APPEND` file; the writer's name and its own counter, so that
a line that is missing is noticed; and the one clock that all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "TURNSTILE_TEST_HISTORY"  #: the folder, for processes that are told nothing else


@dataclass(frozen=True)
class Event:
    """One thing that one witness saw."""

    at: float  #: seconds, monotonic
    writer: str
    number: int  #: of this writer, from 1
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str) -> Any:
        """A field, or None."""
        return self.fields.get(name)

    @property
    def id(self) -> str:
        """The task that it is about."""
        return str(self.fields["id"])


class Witness:
    """Writes what it is told, numbered. Any thread may use it."""

    def __init__(self, folder: str | Path, name: str) -> None:
        self._name = f"{name}-{os.getpid()}-{time.monotonic_ns()}"
        self._path = Path(folder) / f"{self._name}.jsonl"
        self._number = 0
        self._guard = threading.Lock()  # of the counter: its order is the order of the lines
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, kind: str, /, **fields: Any) -> None:
        """Write one event."""
        with self._guard:
            self._number += 1
            line = {"at": time.monotonic_ns(), "w": self._name, "n": self._number, "e": kind, **fields}
            os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)


def read(folder: str | Path) -> list[Event]:
    """All events of all witnesses, in the order in which they happened. A torn last line was never written."""
    found = []
    for path in sorted(Path(folder).glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(json.JSONDecodeError):
                words = json.loads(line)
                at, writer, number, kind = (words.pop(name) for name in ("at", "w", "n", "e"))
                found.append(Event(at / 1e9, writer, number, kind, words))
    return sorted(found, key=lambda event: event.at)


def sha(args: list[Any]) -> str:
    """What a task's arguments are, so that a change on the way is seen."""
    return hashlib.sha256(json.dumps(args, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def fault(folder: str | Path, name: str, **fields: Any) -> Iterator[None]:
    """Witness that a fault begins and ends: what is injected in this block."""
    witness = Witness(folder, "injector")
    witness.note("fault", name=name, phase="begin", **fields)
    try:
        yield
    finally:
        witness.note("fault", name=name, phase="end", **fields)
        witness.close()
