"""Health is one word, with its reasons."""

from __future__ import annotations

import pytest

from broker.health import HealthState, health_of
from worker_host.contract import Trouble

STUCK = Trouble("stuck_tasks", "one of them")


@pytest.mark.parametrize(
    ("troubles", "draining", "state"),
    [
        ([], False, HealthState.OK),
        ([STUCK], False, HealthState.DEGRADED),
        ([], True, HealthState.DRAINING),
        ([STUCK], True, HealthState.DRAINING),
    ],
)
def test_state_follows_from_the_troubles(troubles: list[Trouble], draining: bool, state: HealthState) -> None:
    """Any trouble degrades; a drain outranks it, and hides no reason."""
    health = health_of(troubles, draining=draining)
    assert (health.state, list(health.reasons)) == (state, troubles)


def test_health_for_the_wire() -> None:
    """Codes and words."""
    assert health_of([STUCK], draining=False).as_map() == {
        "state": "degraded",
        "reasons": [{"reason": "stuck_tasks", "detail": "one of them"}],
    }
