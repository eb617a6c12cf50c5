"""A clock for tests: it stands still until somebody moves it. It must not look at the real one."""

from __future__ import annotations

from typing import Final

_UNIX_TIME: Final = 1_750_000_000.0


class HandClock:
    """A `broker.clock.Clock` whose two faces move together, by hand."""

    def __init__(self, now: float = 1_000.0) -> None:
        self._begin = now
        self._now = now

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return self._now

    def time(self) -> float:
        """Unix time, in seconds."""
        return _UNIX_TIME + self._now - self._begin

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; they are never negative."""
        assert seconds >= 0
        self._now += seconds
