"""The log: one line per record, written by a thread of its own, so that nobody who logs ever waits for the reader.

A terminal that is stopped, a full disk or a slow pipe costs log lines, which are counted; it never costs an answer
(P1). What comes from outside (ids, names, error messages) is escaped and cut: a line is a line, and no colour codes get
through.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

_broker = logging.getLogger("turnstile.broker")

_WAITING: Final = 2_000  # lines that may wait for the writer
_LONGEST: Final = 4_000  # characters of a line
_ALIKE_PER_S: Final = 20  # records of ours of one kind (one message template) in a second; the rest is counted only
#: Records of one logger of a task, or of a library in it, in a second. Not of one template: each f-string is its own.
_OF_OTHERS_PER_S: Final = 1_000
_OTHERS_WAITING: Final = _WAITING // 2  # lines that may wait for one of theirs to join: they never crowd ours out
_KINDS_KEPT: Final = 100  # ours are few; the names of others' loggers may not be
_AT_ONCE: Final = 500  # lines written with one call

#: As `extra` of a record: write it in a flood too. For what is said once, however long it is.
ALWAYS: Final = {"always": True}


class LineLog(logging.Handler):
    """Writes records to a file descriptor, and drops what that cannot take."""

    def __init__(self, descriptor: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic  # not the time of the record: that clock can be set back
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._dropped = 0
        # Template, or others' logger → (when its second began, records in it).
        self._second_of: dict[str, tuple[float, int]] = {}
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock of other handlers: it would be held while a record is formatted, that is, while whatever
        `__str__` a task has logged runs, and the loop would wait for it.
        """
        kept: object = self.filter(record)  # from Python 3.12 on it may be another record
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    @property
    def dropped(self) -> int:
        """Lines that were not written: alike in a flood, or the reader too slow, or gone."""
        return self._dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or count it as dropped. Any thread may call this, at the same time as others."""
        if getattr(record, "always", False) or self._fits(record.name, record.msg):
            self._put(record)

    def _put(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - arguments that do not fit the template, or their own __str__
            line = f"{record.levelname} {record.name} <a record that cannot be formatted: {type(error).__name__}>"
        self._lines.put(one_line(line))

    def say(self, template: str, *args: object) -> None:
        """Write a line whatever the log's level is, and whatever a task did to the loggers."""
        self._put(_of_broker("WARNING", template, args))

    def inform(self, template: str, *args: object) -> None:
        """Write a line of level `info`, as a logger does, but make no record of one that is dropped: that would take
        longer than to settle the failure that it tells of.
        """
        if _broker.isEnabledFor(logging.INFO) and self._fits(_broker.name, template):
            self._put(_of_broker("INFO", template, args))

    def _fits(self, name: str, message: object) -> bool:
        fits = not self._is_too_much(name, message)
        self._dropped += not fits
        return fits

    def _is_too_much(self, name: str, message: object) -> bool:
        ours = name.startswith("turnstile.")
        if self._lines.qsize() >= (_WAITING if ours else _OTHERS_WAITING):
            return True
        kind = message if ours and isinstance(message, str) else name
        now = self._monotonic()
        since, alike = self._second_of.get(kind, (now, 0))
        if now - since >= 1:
            since, alike = now, 0
        if len(self._second_of) > _KINDS_KEPT:
            self._second_of.clear()
        self._second_of[kind] = since, alike + 1
        return alike >= (_ALIKE_PER_S if ours else _OF_OTHERS_PER_S)

    def finish(self, patience_s: float) -> None:
        """Wait for what is queued to be written, as long as some of it is, every `patience_s`."""
        self._lines.put(None)
        left = self._lines.qsize() + 1
        while self._thread.is_alive() and self._lines.qsize() < left:
            left = self._lines.qsize()
            self._thread.join(patience_s)

    def _write(self) -> None:
        finished = False
        while not finished:
            lines = [self._lines.get()]
            while self._lines.qsize() and len(lines) < _AT_ONCE:
                lines.append(self._lines.get())
            finished = None in lines
            written = [line for line in lines if line is not None]
            data = "".join(f"{line}\n" for line in written).encode("utf-8", "backslashreplace")
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # a full disk, a closed pipe: there is nowhere to say so but the counter
                self._dropped += len(written)


def _of_broker(level: str, template: str, args: tuple[object, ...]) -> logging.LogRecord:
    return logging.makeLogRecord({"name": _broker.name, "levelname": level, "msg": template, "args": args})


def one_line(text: str) -> str:
    """`text` as one line of printable characters: newlines, escape codes and the like are shown, not obeyed."""
    text = text[: _LONGEST + 1]  # first, so that a huge message costs no more than a long one
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def open_log(level: str, descriptor: int = 2) -> LineLog:
    """Send everything that is logged in this process through a `LineLog`."""
    log = LineLog(descriptor)
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[log], force=True)
    return log
