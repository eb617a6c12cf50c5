"""How long the loop may wait."""

from __future__ import annotations

import pytest

from broker.supervisor import _earliest


@pytest.mark.parametrize(
    ("one_s", "other_s", "earlier_s"),
    [(None, None, None), (2.0, None, 2.0), (None, 2.0, 2.0), (1.0, 2.0, 1.0), (0.0, None, 0.0), (-1.0, 2.0, 0.0)],
)
def test_earliest_of_two_times(one_s: float | None, other_s: float | None, earlier_s: float | None) -> None:
    """None is never; what has passed is now."""
    assert _earliest(one_s, other_s) == earlier_s
    assert _earliest(other_s, one_s) == earlier_s


@pytest.mark.parametrize("other_s", [None, -2.0])
def test_deadline_that_has_passed_is_now(other_s: float | None) -> None:
    """A poll takes a negative time for none at all, and would wait for ever."""
    assert _earliest(-0.001, other_s) == 0.0
