"""The window of remembered ids: how ended tasks ended, for as long as a producer may send them again. Pure.

Bounded in number and in age, whichever is reached first. What has become too old is let go when an id comes in, or when
it is asked for itself: an id that was looked up and found is never older than the window. O(1) for each id.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple, TypeAlias

from broker.states import State

_MOST_VOID: Final = 100  # entries that were removed, beside as many as there are others, before the order is cleared

_Entry: TypeAlias = tuple[State, int, float, str]


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
        # An entry is a plain tuple, which the garbage collector does not look at: (state, hash of the bytes, when it
        # ended, id). The order also has entries that were removed: no id goes by them any more.
        self._ended: dict[str, _Entry] = {}
        self._order: deque[_Entry] = deque()  # the oldest first

    def __len__(self) -> int:
        """Ids that are remembered, as of the last call that was told the time."""
        return len(self._ended)

    def add(self, task_id: str, state: State, wire: bytes, now: float) -> None:
        """Remember the end of a task whose id is not in the window."""
        self._ended[task_id] = entry = state, hash(wire), now, task_id
        self._order.append(entry)
        while len(self._ended) > self._limit:
            self._drop_oldest()
        self.forget(now)

    def find(self, task_id: str, now: float) -> Ended | None:
        """How this task ended; None if it is not remembered."""
        entry = self._ended.get(task_id)
        if entry is None:
            return None  # as for every new task
        if entry[2] <= now - self._age_s:
            self.forget(now)
            return None
        return Ended(*entry[:2])

    def remove(self, task_id: str) -> None:
        """Remember this id no longer, if it is: the task has been taken up again."""
        self._ended.pop(task_id, None)
        if len(self._order) > 2 * len(self._ended) + _MOST_VOID:
            self._order = deque(entry for entry in self._order if self._ended.get(entry[3]) is entry)

    def forget(self, now: float) -> None:
        """Let go of what is too old."""
        too_old = now - self._age_s
        while self._order and self._order[0][2] <= too_old:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        entry = self._order.popleft()
        if self._ended.get(entry[3]) is entry:
            del self._ended[entry[3]]
