"""The window of remembered ids: how ended tasks ended, for as long as a producer may send them again. Pure.

Bounded in number and in age, whichever is reached first. What has become too old is let go when an id comes in, or when
it is asked for itself: an id that was looked up and found is never older than the window. O(1) for each id.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from broker.states import State


class Ended(NamedTuple):
    """What is remembered of a task."""

    state: State  #: how it ended
    digest: int  #: hash of its bytes


class Window:
    """The ids of the tasks that ended last. Time is passed in, in seconds, and never goes back."""

    def __init__(self, limit: int, age_s: float) -> None:
        """Remember `limit` ids at most, each for less than `age_s` seconds."""
        self._limit = limit
        self._age_s = age_s
        # Plain tuples, which the garbage collector does not look at: (state, hash of the bytes, when it ended).
        self._ended: dict[str, tuple[State, int, float]] = {}
        self._order: deque[str] = deque()  # the oldest first

    def __len__(self) -> int:
        """Ids that are remembered, as of the last call that was told the time."""
        return len(self._ended)

    def add(self, task_id: str, state: State, wire: bytes, now: float) -> None:
        """Remember the end of a task whose id is not in the window."""
        self._ended[task_id] = state, hash(wire), now
        self._order.append(task_id)
        if len(self._order) > self._limit:
            del self._ended[self._order.popleft()]
        self.forget(now)

    def find(self, task_id: str, now: float) -> Ended | None:
        """How this task ended; None if it is not remembered."""
        ended = self._ended.get(task_id)
        if ended is None:
            return None  # as for every new task
        if ended[2] <= now - self._age_s:
            self.forget(now)
            return None
        return Ended(*ended[:2])

    def forget(self, now: float) -> None:
        """Let go of what is too old."""
        ended, order, too_old = self._ended, self._order, now - self._age_s
        while order and ended[order[0]][2] <= too_old:
            del ended[order.popleft()]
