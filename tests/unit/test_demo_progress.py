"""What the demo shows while it runs."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from demo.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _stats(succeeded: int) -> dict[str, Any]:
    ledger = {"accepted": 90, "ready": 80 - succeeded, "delayed": 5, "running": 4, "succeeded": succeeded, "dead": 1}
    return {"ledger": ledger, "held": 89 - succeeded, "capacity": 89, "rejected": {"full": 1_234}, "retries": 7}


def _a_second_a_look() -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: float(next(ticks))


def test_plain_lines_are_few() -> None:
    """Where nothing can refresh, a line comes every two seconds, without control codes, and one at the end."""
    out = io.StringIO()
    progress = Progress(out, expected=100, clock=_a_second_a_look())
    for succeeded in range(5):
        progress.show(_stats(succeeded))
    progress.show(_stats(50), last=True)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in out.getvalue()
    assert "51 of 100 tasks have ended" in lines[-1]
    assert "said no 1,234 times" in lines[-1]


def test_live_view_goes_over_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each view goes over the last one, and no line is longer than the terminal is wide."""
    monkeypatch.setenv("COLUMNS", "40")
    out = _Terminal()
    progress = Progress(out, expected=100, clock=_a_second_a_look())
    progress.show(_stats(1))
    first = out.getvalue()
    progress.show(_stats(2))
    second = out.getvalue()[len(first) :]
    assert "\x1b[4F" not in first
    assert second.startswith("\x1b[4F")
    assert first.count("\n") == second.count("\n") == 4
    assert all(len(line.removesuffix("\x1b[K")) < 40 for line in first.splitlines())
