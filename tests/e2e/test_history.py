"""Real runs under the history checker; and real brokers, each with one fault, of which it must find just that one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.history.broken import BROKEN
from tests.history.checker import check, findings
from tests.history.history import History
from tests.history.scenarios import SCENARIOS

SHOWN = {
    "mixed": ["retries", "dead", "duplicates"], "burst": ["rejections"], "cut": ["returned"],
    "drain": ["rejections"],
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_real_broker_keeps_its_promises(name: str, tmp_path: Path) -> None:
    """No rule is broken, in any of the runs that the broken brokers go through."""
    terms = SCENARIOS[name].run(tmp_path)
    check(History.read(tmp_path), terms, SHOWN.get(name, []))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_broker_is_caught(name: str, tmp_path: Path) -> None:
    """Its anomaly is found, and nothing that does not follow from its fault."""
    broken = BROKEN[name]
    terms = SCENARIOS[broken.load].run(tmp_path, broken=name)
    found = {one.anomaly for one in findings(History.read(tmp_path), terms)}
    assert broken.anomaly in found
    assert found <= {broken.anomaly, *broken.others}
