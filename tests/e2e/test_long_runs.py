"""The short forms of the long runs, so that the long ones can be trusted to start."""

from __future__ import annotations

from tests.long import count, sigterm


def test_all_sides_count_the_same() -> None:
    """20,000 tasks from 3 producers, one in 20 failing: ledger, producers and task functions agree to the unit."""
    ledger = count.run(20_000, 3)
    assert (ledger["accepted"], ledger["dead"]) == (20_000, 500)


def test_stops_at_random_moments() -> None:
    """Ten stops under load: in time, balanced, and every accepted id accounted for."""
    sigterm.run(10, seed=1)
