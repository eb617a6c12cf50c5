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


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_no_figure_is_cut(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 80 columns on all of a line is seen; the bars are what gets shorter."""
    monkeypatch.setenv("COLUMNS", str(columns))
    out = _Terminal()
    ledger = {"accepted": 1_863, "ready": 191, "delayed": 130, "running": 4, "succeeded": 1_520, "dead": 18}
    stats = {"ledger": ledger, "held": 325, "capacity": 400, "rejected": {"full": 12_345}, "retries": 1_090}
    Progress(out, expected=1_831, clock=_a_second_a_look()).show(stats)
    ends = [line.removesuffix("\x1b[K") for line in out.getvalue().splitlines()]
    assert all(len(line) < columns for line in ends)
    assert [line.split()[-1] for line in ends] == ["s", "4", "back", "retries"]
