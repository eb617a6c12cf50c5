"""When to come back: appointments are as far apart as rooms appear, whoever asks and however often."""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.pressure import Pressure

CAPACITY = 100
LONGEST_S = 5.0
SHORTEST_S = 0.001


def steady(
    pressure: Pressure, *, room_per_s: float, rejected_per_s: float, seconds: float, begin: float = 0.0
) -> float:
    """A full queue in which tasks end at a steady rate, and rejections come at another one; the time at the end."""
    now = begin
    for number in range(int(seconds * rejected_per_s)):
        now = begin + number / rejected_per_s
        pressure.rejected(now, int(now * room_per_s), CAPACITY)
    return now


def appointments(pressure: Pressure, now: float, ended: int, count: int) -> list[float]:
    """What so many producers that are rejected in one moment are told."""
    return [pressure.rejected(now, ended, CAPACITY) for _ in range(count)]


def test_there_is_an_estimate_before_anything_was_seen() -> None:
    """Before anything was measured, everybody is told a tenth of a second."""
    assert appointments(Pressure(), 50.0, 0, 3) == pytest.approx([0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("room_per_s", "rejected_per_s"),
    [(5, 2), (5, 30), (5, 1_000), (50, 2), (50, 30), (50, 1_000), (800, 30), (800, 1_000)],
)
def test_rate_of_a_steady_system_is_found(room_per_s: float, rejected_per_s: float) -> None:
    """After some seconds the estimate is the true rate, at slow workers and fast ones, few rejections and a flood."""
    pressure = Pressure()
    steady(pressure, room_per_s=room_per_s, rejected_per_s=rejected_per_s, seconds=30.0)
    assert pressure.room_per_s == pytest.approx(room_per_s, rel=0.06)


def test_appointments_are_spaced_by_the_measured_rate() -> None:
    """Producers that are turned away together are told to come one by one, as rooms appear."""
    pressure = Pressure()
    now = steady(pressure, room_per_s=50.0, rejected_per_s=40.0, seconds=30.0)
    told = appointments(pressure, now + LONGEST_S, int(50 * (now + LONGEST_S)), 40)
    gaps = [later - earlier for earlier, later in pairwise(told)]
    assert gaps == pytest.approx([1 / pressure.room_per_s] * 39)
    assert gaps[0] == pytest.approx(0.02, rel=0.1)


def test_promised_rooms_are_promised_again_from_the_first_on() -> None:
    """Nobody is sent further than was looked at: a crowd larger than the rooms in sight comes evenly, and soon."""
    pressure = Pressure()
    now = steady(pressure, room_per_s=10.0, rejected_per_s=40.0, seconds=2.0)
    told = appointments(pressure, now, int(10 * now), 200)
    assert max(told) <= 2.0
    first_again = next(index for index, (earlier, later) in enumerate(pairwise(told)) if later < earlier) + 1
    told_so_often = Counter(round(wait, 6) for wait in told[first_again:]).values()
    assert len(told_so_often) > 10
    assert max(told_so_often) <= min(told_so_often) + 1


def test_flood_of_rejections_does_not_change_the_estimate() -> None:
    """Who asks a hundred times as often learns the same: rejections say nothing about the workers."""
    calm, flooded = Pressure(), Pressure()
    steady(calm, room_per_s=50.0, rejected_per_s=10.0, seconds=20.0)
    steady(flooded, room_per_s=50.0, rejected_per_s=1_000.0, seconds=20.0)
    assert flooded.room_per_s == pytest.approx(calm.room_per_s, rel=0.06)


def test_estimate_follows_a_change_within_seconds() -> None:
    """When workers become ten times slower, the estimate is there after some multiples of its memory."""
    pressure = Pressure()
    now = steady(pressure, room_per_s=100.0, rejected_per_s=50.0, seconds=30.0)
    ended = int(now * 100)
    for number in range(1_000):
        now += 0.02
        pressure.rejected(now, ended + int(number * 0.2), CAPACITY)
    assert pressure.room_per_s == pytest.approx(10.0, rel=0.2)


def test_estimate_falls_while_no_room_appears() -> None:
    """With stuck workers the advised wait grows, up to the longest there is."""
    pressure = Pressure()
    steady(pressure, room_per_s=50.0, rejected_per_s=50.0, seconds=10.0)
    rates, waits, now = [pressure.room_per_s], [0.0], 10.0
    for _ in range(8):
        now += 5.0
        waits.append(pressure.rejected(now, 500, CAPACITY))
        rates.append(pressure.room_per_s)
    assert rates == sorted(rates, reverse=True)
    assert waits == sorted(waits)
    assert waits[-1] > 1.0


def test_time_in_which_the_queue_ran_dry_is_not_counted() -> None:
    """If all that was held has ended since the last look, workers may have waited: that time tells no rate."""
    pressure = Pressure()
    now = steady(pressure, room_per_s=50.0, rejected_per_s=50.0, seconds=20.0)
    before = pressure.room_per_s
    pressure.rejected(now + 1_000.0, int(now * 50) + CAPACITY, CAPACITY)
    assert pressure.room_per_s == before


def test_past_appointments_do_not_delay_later_ones() -> None:
    """When the book has run out, the next rejection is told the time of one room, and not of all earlier ones."""
    pressure = Pressure()
    now = steady(pressure, room_per_s=50.0, rejected_per_s=500.0, seconds=10.0)
    later = now + 2 * LONGEST_S
    assert pressure.rejected(later, int(later * 50), CAPACITY) == pytest.approx(1 / pressure.room_per_s)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 10**7), st.integers(0, 10**7)), max_size=30))
def test_advice_is_always_within_its_bounds(steps: list[tuple[float, int, int]]) -> None:
    """Whatever happened before, the wait is at least a millisecond, at most five seconds, and never the same moment."""
    pressure, now, ended = Pressure(), 0.0, 0
    for passed, made, held in steps:
        now, ended = now + passed, ended + made
        assert SHORTEST_S <= pressure.rejected(now, ended, held) <= LONGEST_S + 1e-6
        assert pressure.room_per_s > 0


def test_producers_that_follow_the_advice_waste_few_submits() -> None:
    """50 producers that never stop, 8 workers of 10 ms, a queue of 20: at most one wasted submit an accepted task.

    A simulation in its own time. Every producer gets its share, and the workers do not wait for tasks.
    """
    producers, workers, task_s, capacity, until = 50, 8, 0.01, 20, 30.0
    pressure = Pressure()
    events = [(0.001 * number, number, "submit") for number in range(producers)]
    accepted, wasted, ended, waiting, running = [0] * producers, 0, 0, 0, 0
    while events:
        now, who, what = heapq.heappop(events)
        if now > until:
            break
        if what == "end":
            ended, running = ended + 1, running - 1
        elif waiting + running == capacity:
            wasted += 1
            heapq.heappush(events, (now + pressure.rejected(now, ended, waiting + running), who, "submit"))
        else:
            accepted[who], waiting = accepted[who] + 1, waiting + 1
            heapq.heappush(events, (now + 0.0001, who, "submit"))
        while waiting and running < workers:
            waiting, running = waiting - 1, running + 1
            heapq.heappush(events, (now + task_s, -1, "end"))
    most = workers / task_s * until
    assert ended >= 0.99 * most, "the workers waited"
    assert wasted <= sum(accepted), "more wasted submits than tasks"
    fairness = sum(accepted) ** 2 / (producers * sum(one * one for one in accepted))  # Jain's index
    assert fairness >= 0.95
