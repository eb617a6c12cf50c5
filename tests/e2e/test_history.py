"""Real runs under the history checker; and real brokers, each with one fault, of which it must find just that one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.history.broken import BROKEN
from tests.history.checker import check, findings
from tests.history.history import History
from tests.history.scenarios import SCENARIOS

SHOWN = {
    "mixed": ["retries", "dead", "duplicates"], "burst": ["rejections"], "full": ["rejections"], "cut": ["returned"],
    "drain": ["rejections"], "operated": ["pauses", "cancelled", "requeued", "rejections"],
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_real_broker_keeps_its_promises(name: str, tmp_path: Path) -> None:
    """No rule is broken, in any of the runs that the broken brokers go through."""
    terms = SCENARIOS[name].run(tmp_path)
    check(History.read(tmp_path), terms, SHOWN.get(name, []))


@pytest.mark.check_of_checks
@pytest.mark.parametrize("name", BROKEN)
def test_broken_broker_is_caught(name: str, tmp_path: Path) -> None:
    """Its anomaly is found, and nothing but what follows from its fault; a fault that needs luck gets three runs."""
    broken = BROKEN[name]
    for run in range(3):
        folder = tmp_path / str(run)
        folder.mkdir(mode=0o700)
        terms = SCENARIOS[broken.load].run(folder, broken=name)
        found = {one.anomaly for one in findings(History.read(folder), terms)}
        assert found <= {broken.anomaly, *broken.others}
        if broken.anomaly in found:
            return
    raise AssertionError(f"{name} went unnoticed")
