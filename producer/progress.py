"""A progress bar on a terminal: how many tasks were accepted and rejected, how many wait, and how fast it goes."""

from __future__ import annotations

from collections.abc import Callable
from io import TextIOBase
from typing import Final

from producer.verdicts import Verdict

_BAR: Final = 24  # characters
_REDRAWN_S: Final = 0.1  # oftener than one can read costs time that the tasks could have


class Progress:
    """Counts, and draws the bar if `stream` is a terminal."""

    def __init__(self, stream: TextIOBase, clock: Callable[[], float]) -> None:
        self.taken = 0  #: tasks that were read
        self.accepted = 0
        self.duplicates = 0  #: of the accepted ones
        self.rejected: dict[str, int] = {}  #: by reason
        self._stream = stream if stream.isatty() else None
        self._clock = clock
        self._began = clock()
        self._drawn_at = float("-inf")
        self._width = 0  # of what is on the screen
        self._done = 0.0  # part of the input that was read, 0 to 1

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._began

    def took(self, done: float | None) -> None:
        """A task was read; `done` is how much of the input that makes, 0 to 1, or None if there is no telling."""
        self.taken += 1
        self._done = -1.0 if done is None else done
        self._draw()

    def settled(self, verdict: Verdict) -> None:
        """A verdict stands."""
        if verdict.accepted:
            self.accepted += 1
            self.duplicates += verdict.duplicate
        else:
            self.rejected[verdict.reason] = self.rejected.get(verdict.reason, 0) + 1
        self._draw()

    def clear(self) -> None:
        """Take the bar off the screen."""
        if self._stream is not None and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def line(self) -> str:
        """What the bar says now."""
        settled = self.accepted + sum(self.rejected.values())
        bar = ""
        if self._done >= 0:
            full = round(self._done * _BAR)
            bar = f"[{'#' * full}{'.' * (_BAR - full)}] {self._done:4.0%}  "
        return (
            f"{bar}accepted {self.accepted:,}  rejected {settled - self.accepted:,}  "
            f"waiting {self.taken - settled:,}  {settled / max(self.seconds, 1e-3):,.0f}/s"
        )

    def _draw(self) -> None:
        if self._stream is None or self._clock() - self._drawn_at < _REDRAWN_S:
            return
        self._drawn_at = self._clock()
        text = self.line()
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)
