"""When to come back: appointments are as far apart as rooms appear, whoever asks and however often."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.pressure import Pressure

CAPACITY = 100
CAPACITY_BYTES = 10_000
SPACING = 1.1
LONGEST_S = 5.0
SHORTEST_S = 0.001


def steady(
    pressure: Pressure, *, room_per_s: float, rejected_per_s: float, seconds: float, begin: float = 0.0
) -> float:
    """A full queue in which tasks end at a steady rate, and rejections come at another one; the time at the end."""
    now = begin
    for number in range(int(seconds * rejected_per_s)):
        now = begin + number / rejected_per_s
        pressure.rejected(now, int(now * room_per_s), CAPACITY, number)
    return now


def appointments(pressure: Pressure, now: float, ended: int, count: int) -> list[float]:
    """What so many producers that are rejected in one moment are told."""
    return [pressure.rejected(now, ended, CAPACITY, -1 - number) for number in range(count)]


def test_there_is_an_estimate_before_anything_was_seen() -> None:
    """Before anything was measured, everybody is told a tenth of a second."""
    assert appointments(Pressure(CAPACITY, CAPACITY_BYTES), 50.0, 0, 3) == pytest.approx([0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("room_per_s", "rejected_per_s"),
    [(5, 2), (5, 30), (5, 1_000), (50, 2), (50, 30), (50, 1_000), (800, 30), (800, 1_000)],
)
def test_rate_of_a_steady_system_is_found(room_per_s: float, rejected_per_s: float) -> None:
    """After some seconds the estimate is the true rate, at slow workers and fast ones, few rejections and a flood."""
    pressure = Pressure(CAPACITY, CAPACITY_BYTES)
    steady(pressure, room_per_s=room_per_s, rejected_per_s=rejected_per_s, seconds=30.0)
    assert pressure.room_per_s == pytest.approx(room_per_s, rel=0.06)


def test_appointments_are_spaced_by_the_measured_rate() -> None:
    """Producers that are turned away together are told to come one by one, as rooms appear."""
    pressure = Pressure(CAPACITY, CAPACITY_BYTES)
    now = steady(pressure, room_per_s=50.0, rejected_per_s=40.0, seconds=30.0)
    told = appointments(pressure, now + LONGEST_S, int(50 * (now + LONGEST_S)), 40)
    gaps = [later - earlier for earlier, later in pairwise(told)]
    assert gaps == pytest.approx([SPACING / pressure.room_per_s] * 39)
    assert gaps[0] == pytest.approx(SPACING * 0.02, rel=0.1)


def test_promised_rooms_are_promised_again_from_the_first_on() -> None:
    """Nobody is sent further than was looked at: a crowd larger than the rooms in sight comes evenly, and soon."""
    pressure = Pressure(CAPACITY, CAPACITY_BYTES)
    now = steady(pressure, room_per_s=10.0, rejected_per_s=40.0, seconds=2.0)
    told = appointments(pressure, now, int(10 * now), 200)
    assert max(told) <= 2.0
    first_again = next(index for index, (earlier, later) in enumerate(pairwise(told)) if later < earlier) + 1
    told_so_often = Counter(round(wait, 6) for wait in told[first_again:]).values()
    assert len(told_so_often) > 10
    assert max(told_so_often) <= min(told_so_often) + 1


def test_flood_of_rejections_does_not_change_the_estimate() -> None:
    """Who asks a hundred times as often learns the same: rejections say nothing about the workers."""
    calm, flooded = Pressure(CAPACITY, CAPACITY_BYTES), Pressure(CAPACITY, CAPACITY_BYTES)
    steady(calm, room_per_s=50.0, rejected_per_s=10.0, seconds=20.0)
    steady(flooded, room_per_s=50.0, rejected_per_s=1_000.0, seconds=20.0)
    assert flooded.room_per_s == pytest.approx(calm.room_per_s, rel=0.06)


def test_estimate_follows_a_change_within_seconds() -> None:
    """When workers become ten times slower, the estimate is there after some multiples of its memory."""
    pressure = Pressure(CAPACITY, CAPACITY_BYTES)
    now = steady(pressure, room_per_s=100.0, rejected_per_s=50.0, seconds=30.0)
    ended = int(now * 100)
    for number in range(1_000):
        now += 0.02
        pressure.rejected(now, ended + int(number * 0.2), CAPACITY)
    assert pressure.room_per_s == pytest.approx(10.0, rel=0.2)


def test_estimate_falls_while_no_room_appears() -> None:
    """With stuck workers the advised wait grows, up to the longest there is."""
    pressure = Pressure(CAPACITY, CAPACITY_BYTES)
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
    pressure = Pressure(CAPACITY, CAPACITY_BYTES)
    now = steady(pressure, room_per_s=50.0, rejected_per_s=50.0, seconds=20.0)
    before = pressure.room_per_s
    pressure.rejected(now + 1_000.0, int(now * 50) + CAPACITY, CAPACITY)
    assert pressure.room_per_s == before


def test_past_appointments_do_not_delay_later_ones() -> None:
    """When the book has run out, the next rejection is told the time of one room, and not of all earlier ones."""
    pressure = Pressure(CAPACITY, CAPACITY_BYTES)
    now = steady(pressure, room_per_s=50.0, rejected_per_s=500.0, seconds=10.0)
    later = now + 2 * LONGEST_S
    assert pressure.rejected(later, int(later * 50), CAPACITY) == pytest.approx(SPACING / pressure.room_per_s)


STEPS = st.tuples(st.floats(0, 1e4), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 3))


@given(st.lists(STEPS, max_size=30))
def test_advice_is_always_within_its_bounds(steps: list[tuple[float, int, int, int]]) -> None:
    """Whatever happened before, the wait is at least a millisecond, at most five seconds, and never the same moment."""
    pressure, now, ended = Pressure(CAPACITY, CAPACITY_BYTES), 0.0, 0
    for passed, made, held, connection in steps:
        now, ended = now + passed, ended + made
        assert SHORTEST_S <= pressure.rejected(now, ended, held, connection, 100) <= LONGEST_S + 1e-6
        assert pressure.room_per_s > 0


def full_for(*connections: int, size: int = 100) -> tuple[Pressure, float]:
    """After a while of 50 rooms a second these connections are turned away, in this order; when that was."""
    pressure = Pressure(CAPACITY, CAPACITY_BYTES)
    now = steady(pressure, room_per_s=50.0, rejected_per_s=50.0, seconds=20.0) + 2 * LONGEST_S
    for connection in connections:
        pressure.rejected(now, int(50 * now), CAPACITY, connection, size)
    return pressure, now


def test_room_is_kept_for_those_who_are_expected() -> None:
    """A newcomer must leave free what others were turned away with; who comes when told, nothing."""
    pressure, now = full_for(1001, 1002, 1003)
    assert pressure.kept(now, 1004) == (3, 300)
    assert pressure.kept(now, 1001) == (2, 200), "it comes before its time"
    due = now + SPACING / pressure.room_per_s
    assert pressure.kept(due + 0.001, 1001) == (0, 0)
    assert pressure.kept(due + 0.001, 1002) == (2, 200), "it comes before its time"


def test_a_quarter_of_the_bound_is_kept_at_most() -> None:
    """However many are expected, and with however many bytes: workers must not wait for who does not come."""
    pressure, now = full_for(*range(1001, 1101), size=5_000)
    assert pressure.kept(now, 999) == (CAPACITY // 4, CAPACITY_BYTES // 4)
    tiny = Pressure(3, 100)
    tiny.rejected(now, 0, 3, 1)
    assert tiny.kept(now, 2)[0] == 0


def test_nothing_is_kept_for_who_does_not_come() -> None:
    """Whoever is a quarter of its wait late, or a tenth of a second, is not expected any more."""
    pressure, now = full_for(1001)
    due = now + SPACING / pressure.room_per_s
    assert pressure.kept(due + 0.09, 999) == (1, 100)
    assert pressure.kept(due + 0.12, 999) == (0, 0)
    assert not pressure.is_anyone_expected


def test_who_got_in_is_not_expected_any_more() -> None:
    """One turned away, one room; the next task of that connection is a newcomer's."""
    pressure, now = full_for(1001, 1002)
    pressure.accepted(now + 0.05, 1001)
    assert pressure.kept(now + 0.05, 1001) == (1, 100)
    pressure.accepted(now + 0.05, 1002)
    assert not pressure.is_anyone_expected


def test_one_connection_has_one_appointment_at_a_time() -> None:
    """A thousand tasks in one request move nobody else's turn; they are told to come a turn of everybody apart."""
    pressure, now = full_for(1001, 1002)
    told = [pressure.rejected(now, int(50 * now), CAPACITY, 1003, 100) for _ in range(1_000)]
    lap_s = 3 * SPACING / pressure.room_per_s
    assert [later - earlier for earlier, later in pairwise(told[:20])] == pytest.approx([lap_s] * 19)
    assert pressure.rejected(now, int(50 * now), CAPACITY, 1004) == pytest.approx(4 * SPACING / pressure.room_per_s)
    assert pressure.kept(now, 999) == (4, 300)


def test_after_its_turn_a_connection_with_more_to_come_waits_for_the_others() -> None:
    """A connection with many tasks outside is expected for one of them at a time."""
    pressure, now = full_for(1001, 1002, 1003, 1003)
    room_s = SPACING / pressure.room_per_s
    due = now + 3 * room_s + 0.001
    assert pressure.kept(due, 1003) == (0, 0)
    pressure.accepted(due, 1003)
    assert pressure.kept(due, 1003) == (2, 200)
    assert pressure.kept(due + 3 * room_s, 1003) == (0, 0)
