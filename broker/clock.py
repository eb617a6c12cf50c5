"""Time, as the broker's parts are given it: the `time` module in life, a hand-moved one in tests."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for every duration and deadline, one for showing to people."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""

    def time(self) -> float:
        """Unix time, in seconds."""
