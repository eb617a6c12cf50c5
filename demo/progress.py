"""Shows how far the broker is: a few lines that refresh on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO

_PLAIN_EVERY_S: Final = 2.0  # to a file or a pipe
_BAR: Final = 32  # characters
_SHORT_BAR: Final = 12  # on a terminal of 80 columns, where the figures need the rest
_WIDE: Final = 100  # columns


class Progress:
    """The live view of one run, from now on. `expected`: how many tasks there will be in all."""

    def __init__(self, stream: TextIO, expected: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._expected = expected
        self._live = stream.isatty()
        self._clock = clock
        self._began = clock()
        self._last_plain = self._began
        self._drawn = 0  # lines on the screen that the next view goes over

    def show(self, stats: Mapping[str, Any], *, last: bool = False) -> None:
        """Show the broker's statistics of this moment; `last` leaves them standing, also where lines are plain."""
        now = self._clock()
        if self._live:
            columns = shutil.get_terminal_size().columns
            bar = _BAR if columns >= _WIDE else _SHORT_BAR
            lines = [line[: columns - 1] for line in self._view(stats, now - self._began, bar)]
            up = f"\x1b[{self._drawn}F" if self._drawn else ""
            self._stream.write(up + "".join(f"{line}\x1b[K\n" for line in lines))
            self._drawn = len(lines)
        elif last or now - self._last_plain >= _PLAIN_EVERY_S:
            self._last_plain = now
            self._stream.write(self._plain(stats, now - self._began) + "\n")
        self._stream.flush()

    def _view(self, stats: Mapping[str, Any], passed_s: float, bar: int) -> list[str]:
        ledger, ended, rate = stats["ledger"], _ended(stats), _ended(stats) / max(passed_s, 0.001)
        tasks = f"{ended:>6,} of {self._expected:,} have ended   {rate:,.0f}/s   {passed_s:.0f} s"
        rooms = f"{stats['held']:>6,} of {stats['capacity']:,} rooms: " + _listed(ledger, "ready", "delayed", "running")
        return [
            f"  tasks   {_bar(ended, self._expected, bar)} {tasks}",
            f"  queue   {_bar(stats['held'], stats['capacity'], bar)} {rooms}",
            f"  door    accepted {ledger['accepted']:,}; said no {_said_no(stats):,} times, and when to come back",
            f"  ends    {_listed(ledger, 'succeeded', 'dead')}, after {stats['retries']:,} retries",
        ]

    def _plain(self, stats: Mapping[str, Any], passed_s: float) -> str:
        states = _listed(stats["ledger"], "accepted", "ready", "delayed", "running", "succeeded", "dead")
        more = f"said no {_said_no(stats):,} times, retries {stats['retries']:,}"
        return f"  {passed_s:4.0f} s  {_ended(stats):,} of {self._expected:,} tasks have ended: {states}, {more}"


def _ended(stats: Mapping[str, Any]) -> int:
    return int(stats["ledger"]["accepted"] - stats["held"])


def _said_no(stats: Mapping[str, Any]) -> int:
    return int(stats["rejected"].get("full", 0))


def _bar(part: int, whole: int, characters: int) -> str:
    filled = min(characters, characters * part // max(whole, 1))
    return "█" * filled + "░" * (characters - filled)


def _listed(ledger: Mapping[str, int], *states: str) -> str:
    return ", ".join(f"{state} {ledger[state]:,}" for state in states)
