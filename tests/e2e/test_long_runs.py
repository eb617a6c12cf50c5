"""The short forms of the long runs, so that the long ones can be trusted to start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.interpreter import keeps_every_key
from tests.history.history import Terms
from tests.long import connections, count, host_kills, kills, malformed, network, sigterm
from tests.long.tally import Tally, judged


def test_all_sides_count_the_same() -> None:
    """20,000 tasks from 3 producers, one in 20 failing: ledger, producers and task functions agree to the unit."""
    ledger = count.run(20_000, 3)
    assert (ledger["accepted"], ledger["dead"]) == (20_000, 500)


def test_row_3_stops_at_random_moments() -> None:
    """Ten stops under load: in time, balanced, and every accepted id accounted for."""
    sigterm.main(10, seed=1)


@pytest.mark.parametrize(
    ("run", "arguments"),
    [
        pytest.param(kills.run, (4, 9), id="row 9: the broker is killed, again and again"),
        pytest.param(host_kills.run, (8, 23), id="row 23: child hosts are killed under load"),
        pytest.param(network.run, (2, 26), id="rows 7 and 26: a bad network, and SIGSTOP"),
    ],
)
def test_rows_7_and_9_and_23_and_26_histories_under_faults(
    tmp_path: Path, run: Callable[..., Tally], arguments: tuple[Any, ...]
) -> None:
    """What producers were told is true, whatever happened: nothing is lost that should not be, nothing runs without a
    cause; and faults did happen.
    """
    tally = run(tmp_path, *arguments)
    assert tally.findings == ()
    assert tally.faults >= arguments[0]
    assert tally.accepted > 0
    assert (tally.lost, tally.uncaused) == (0, 0)


def test_row_19_broken_requests_in_process_and_on_the_wire() -> None:
    """30,000 and 3,000 of them: one reply each, nothing gets in, memory stays."""
    for found in (malformed.in_process(30_000, 19), malformed.on_the_wire(3_000, 19)):
        assert found.outcomes["malformed"] > 0.8 * found.broken > 0
        assert found.grown_bytes < malformed.GROWTH_BYTES


def test_row_19_keys_that_are_always_new() -> None:
    """Memory stays, unless this Python keeps them for ever; the broker says so then."""
    assert (malformed.of_new_keys(100) < malformed.GROWTH_BYTES) is not keeps_every_key()


def test_row_28_connections_at_once() -> None:
    """300 producers that ask at the same moment are all answered, and nothing is left of them."""
    found = connections.run(300)
    assert (found.answered, found.left) == (300, 0)


def test_a_run_that_shows_nothing_is_a_finding(tmp_path: Path) -> None:
    """No history, no proof."""
    assert judged(tmp_path, Terms(), (), faults=0).findings == ("vacuous: nothing ran",)
