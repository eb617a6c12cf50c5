"""The dead letters: tasks that used their retries or failed for good, kept for a person to look at. Pure.

Bounded twice, since stack traces of failing tasks are what fills a memory that only counts tasks.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from typing import Final

from broker.retries import DeathReason

_FIXED_BYTES: Final = 500  # about what one letter costs beyond its texts and its task


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One task that will not run again, and why. Times are Unix times, for showing."""

    id: str
    name: str
    wire: bytes  #: the task as it was received
    reason: DeathReason
    error: str
    trace: str
    attempts: int
    accepted_at: float
    died_at: float

    def as_map(self) -> dict[str, object]:
        """For the wire; without the task."""
        fields = ("id", "name", "error", "trace", "attempts", "accepted_at", "died_at")
        return {**{field: getattr(self, field) for field in fields}, "reason": self.reason.value}

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return _FIXED_BYTES + len(self.wire) + self.error.__sizeof__() + self.trace.__sizeof__()


class DeadLetters:
    """The latest dead letters: at most `limit` of them, and at most `limit_bytes`. Not thread-safe.

    An id has one letter, its last: one that was forgotten, used again and died again, or died again after a requeue.
    """

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._letters: OrderedDict[str, DeadLetter] = OrderedDict()  # by id, the oldest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, letter: DeadLetter) -> None:
        """Keep `letter`, and let go of the oldest ones that are over the bound."""
        self.remove(letter.id)
        self._letters[letter.id] = letter
        self._bytes += letter.size_bytes
        while len(self._letters) > self._limit or self._bytes > self._limit_bytes:
            self.remove(next(iter(self._letters)))

    def get(self, task_id: str) -> DeadLetter | None:
        """The letter of this task; None if there is none."""
        return self._letters.get(task_id)

    def remove(self, task_id: str) -> bool:
        """Keep the letter of this task no longer; whether there was one."""
        letter = self._letters.pop(task_id, None)
        if letter is not None:
            self._bytes -= letter.size_bytes
        return letter is not None

    def newest(self, limit: int, offset: int) -> list[DeadLetter]:
        """At most `limit` letters, newest first, the first `offset` left out."""
        offset = min(offset, len(self._letters))
        return list(islice(reversed(self._letters.values()), offset, offset + limit))
