"""The log: one line per record, written by a thread of its own, so that nobody who logs ever waits for the reader.

A terminal that is stopped, a full disk or a slow pipe costs log lines, which are counted; it never costs an answer (P1).
What comes from outside (ids, names, error messages) is escaped and cut: a line is a line, and no colour codes get through.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from typing import Final

_WAITING: Final = 2_000  # lines that may wait for the writer
_LONGEST: Final = 4_000  # characters of a line
_ALIKE_PER_S: Final = 20  # records of one kind (one message template) in a second; a flood says so instead
_QUIET_LOOK_S: Final = 1.0


class LineLog(logging.Handler):
    """Writes records to a file descriptor, and drops what that cannot take."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._dropped = 0
        self._window: dict[str, tuple[float, int]] = {}  # template → (its second's begin, records in it)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were not written: alike in a flood, or the reader too slow, or gone."""
        return self._dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or count it as dropped. Called with the handler's own lock held."""
        since, alike = self._window.get(record.msg, (record.created, 0))
        if record.created - since >= _QUIET_LOOK_S:
            since, alike = record.created, 0
        if len(self._window) > 100:  # templates are the code's own, so few; a library's in a task may not be
            self._window.clear()
        self._window[record.msg] = since, alike + 1
        if alike >= _ALIKE_PER_S or self._lines.qsize() >= _WAITING:
            self._dropped += 1
            return
        self._lines.put(one_line(self.format(record)))

    def finish(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for what is queued to be written."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            data = line.encode("utf-8", "backslashreplace") + b"\n"
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # a full disk, a closed pipe: there is nowhere to say so but the counter
                self._dropped += 1


def one_line(text: str) -> str:
    """`text` as one line of printable characters: newlines, escape codes and the like are shown, not obeyed."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def open_log(level: str, descriptor: int = 2) -> LineLog:
    """Send everything that is logged in this process through a `LineLog`."""
    log = LineLog(descriptor)
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[log], force=True)
    return log
