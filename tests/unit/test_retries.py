"""What follows a failed attempt: the exact number of runs (P6), and the delay before each."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol import MAX_RETRIES
from broker.retries import Bury, DeathReason, RunAgain, decide, delay_before
from worker_host.contract import Failure
from worker_host.tasks import Backoff

FAILURE = Failure(error="ValueError: no", trace="")
PLAIN = Backoff(first_s=1.0, max_s=60.0, jitter=0.0)
SPREADS = st.floats(0, 1, exclude_max=True)


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    """Any backoff whose longest delay a person would still wait for."""
    first_s = draw(st.floats(0, 1e6))
    return Backoff(first_s, draw(st.floats(first_s, 1e6)), draw(st.floats(0, 1)))


@pytest.mark.parametrize("retries", range(MAX_RETRIES + 1))
def test_always_failing_task_runs_retries_plus_one_times(retries: int) -> None:
    """With `retries=r`, run r + 1 is the last, for every r that can be asked for."""
    runs = 1
    while isinstance(decide(runs, retries, PLAIN, FAILURE, 0.5), RunAgain):
        runs += 1
        assert runs <= retries + 1
    assert runs == retries + 1
    assert decide(runs, retries, PLAIN, FAILURE, 0.5) == Bury(DeathReason.RETRIES_EXHAUSTED)


@pytest.mark.parametrize("attempt", [1, 2, 4])
def test_final_failure_is_buried_whatever_is_left(attempt: int) -> None:
    """A failure that says "never again" costs all retries at once, and has its own reason."""
    final = Failure(error="NeverRetry: no", trace="", final=True)
    assert decide(attempt, 3, PLAIN, final, 0.5) == Bury(DeathReason.NEVER_RETRY)


def test_asked_delay_replaces_the_backoff_and_costs_a_retry() -> None:
    """`retry_after_s` is kept as asked, without jitter, and does not extend the number of runs."""
    asked = Failure(error="RetryAfter: busy", trace="", retry_after_s=7.5)
    jittery = Backoff(first_s=1.0, max_s=60.0, jitter=1.0)
    assert decide(1, 1, jittery, asked, 0.0) == RunAgain(7.5)
    assert decide(2, 1, jittery, asked, 0.0) == Bury(DeathReason.RETRIES_EXHAUSTED)


def test_zero_seconds_asked_for_are_zero_seconds() -> None:
    """A task that asks to be run again at once is, and not after its backoff."""
    now = Failure(error="RetryAfter: now", trace="", retry_after_s=0.0)
    assert decide(1, 3, PLAIN, now, 0.5) == RunAgain(0.0)


def test_delay_doubles_up_to_the_longest() -> None:
    """The second run waits the first delay, each further one twice as long, none longer than the longest."""
    assert [delay_before(attempt, PLAIN, 0.5) for attempt in range(2, 10)] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("attempt", [65, 66, 67, 100, MAX_RETRIES + 1])
def test_late_attempts_neither_overflow_nor_shrink(attempt: int) -> None:
    """At the last attempts that can be, the delay is the longest one, exactly."""
    assert delay_before(attempt, PLAIN, 0.5) == 60.0
    assert delay_before(attempt, Backoff(first_s=5e-324, max_s=1e-300, jitter=0.0), 0.5) == 5e-324 * 2.0 ** min(
        attempt - 2, 64
    )


@given(st.integers(2, MAX_RETRIES + 1), backoffs(), SPREADS)
def test_jitter_spreads_around_the_planned_delay(attempt: int, backoff: Backoff, spread: float) -> None:
    """A delay is finite, never negative, and within `jitter` of the planned one, which is never above `max_s`."""
    planned = delay_before(attempt, Backoff(backoff.first_s, backoff.max_s, 0.0), spread)
    assert planned == min(backoff.max_s, backoff.first_s * 2.0 ** min(attempt - 2, 64))
    delay = delay_before(attempt, backoff, spread)
    assert math.isfinite(delay)
    slack = 1e-9 * planned
    assert max(0, planned * (1 - backoff.jitter) - slack) <= delay <= planned * (1 + backoff.jitter) + slack


def test_jitter_reaches_both_of_its_ends() -> None:
    """A spread of 0 gives the shortest delay, of nearly 1 the longest: the whole width is used."""
    backoff = Backoff(first_s=10.0, max_s=60.0, jitter=0.2)
    assert delay_before(2, backoff, 0.0) == pytest.approx(8.0)
    assert delay_before(2, backoff, math.nextafter(1.0, 0.0)) == pytest.approx(12.0)
    assert delay_before(2, backoff, 0.5) == pytest.approx(10.0)
