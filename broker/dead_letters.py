"""The dead letters: tasks that used their retries or failed for good, kept for a person to look at. Pure.

Bounded twice, since stack traces of failing tasks are what fills a memory that only counts tasks.
"""

from __future__ import annotations

from collections import deque
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

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return _FIXED_BYTES + len(self.wire) + len(self.error) + len(self.trace)


class DeadLetters:
    """The latest dead letters: at most `limit` of them, and at most `limit_bytes`. Not thread-safe."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._letters: deque[DeadLetter] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, letter: DeadLetter) -> None:
        """Keep `letter`, and let go of the oldest ones that are over the bound."""
        self._letters.append(letter)
        self._bytes += letter.size_bytes
        while len(self._letters) > self._limit or self._bytes > self._limit_bytes:
            self._bytes -= self._letters.popleft().size_bytes

    def newest(self, limit: int, offset: int) -> list[DeadLetter]:
        """At most `limit` letters, newest first, the first `offset` left out."""
        offset = min(offset, len(self._letters))
        return list(islice(reversed(self._letters), offset, offset + limit))
