"""How far producers have got, for whoever wants to interrupt them in the middle."""

from __future__ import annotations

import threading

_PATIENCE_S = 60.0


class Progress:
    """A count, of all producers together. Any thread may use it."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()  # guards the count; who waits for progress waits on it

    def more(self, count: int) -> None:
        """So many more were submitted."""
        with self._changed:
            self._count += count
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        """Until so many more were submitted."""
        with self._changed:
            goal = self._count + count
            assert self._changed.wait_for(lambda: self._count >= goal, _PATIENCE_S), "no producer gets on"
