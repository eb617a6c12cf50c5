"""What polite producers and greedy ones experience of a full queue, simulated in its own time."""

from __future__ import annotations

import heapq
import random

import pytest

from broker.pressure import NOTHING_KEPT, Pressure

_TRIP_S = 0.0001  # for one task to be judged, one after the other
_PART = 0.2  # a producer comes up to this part of its wait later than told, as the library does
_WORKERS, _TASK_S = 8, 0.01


class Crowd:
    """Ten seconds of producers at a broker whose 8 workers take 10 ms a task; each has always one more to submit.

    Polite ones submit one at a time, and follow the advice. Greedy ones submit `at_once` in a request, again and again.
    """

    def __init__(self, polite: int, *, greedy: int = 0, at_once: int = 1, capacity: int = 100) -> None:
        self.polite = polite
        self.at_once = at_once
        self.capacity = capacity
        self.accepted = [0] * (polite + greedy)  #: by producer; the polite ones come first
        self.wasted = 0  #: submits of polite ones
        self.longest_wait_s = 0.0  #: of a polite one, from its first submit of a task to its acceptance
        self._first_tries: dict[int, float] = {}
        self._rng = random.Random(12)
        self._pressure = Pressure(capacity, 10**9)
        self._held = self._ended = 0
        self.busy = self._run(10.0) / (_WORKERS / _TASK_S * 10.0)  #: part of the time that workers worked

    def _run(self, seconds: float) -> int:
        running = 0
        events: list[tuple[float, int]] = [(0.001 * who, who) for who in range(len(self.accepted))]
        while events:
            now, who = heapq.heappop(events)
            if now > seconds:
                break
            if who < 0:  # a task has ended
                running -= 1
                self._held -= 1
                self._ended += 1
            elif who < self.polite:
                heapq.heappush(events, (now + self._polite(now, who), who))
            else:
                for _ in range(self.at_once):
                    self._advice(now, who)
                heapq.heappush(events, (now + _TRIP_S * self.at_once * (len(self.accepted) - self.polite), who))
            while running < min(self._held, _WORKERS):
                running += 1
                heapq.heappush(events, (now + _TASK_S, -1))
        return self._ended

    def _polite(self, now: float, who: int) -> float:
        advice_s = self._advice(now, who)
        first = self._first_tries.setdefault(who, now)
        if advice_s is None:
            self.longest_wait_s = max(self.longest_wait_s, now - first)
            del self._first_tries[who]
            return _TRIP_S
        self.wasted += 1
        return advice_s * (1 + _PART * self._rng.random())

    def _advice(self, now: float, who: int) -> float | None:
        """One submit, as `Admission` judges it; None if the task is accepted."""
        kept, _ = self._pressure.kept(now, who) if self._pressure.is_anyone_expected else NOTHING_KEPT
        if self._held + kept >= self.capacity:
            return self._pressure.rejected(now, self._ended, self._held, who)
        self._pressure.accepted(now, who)
        self.accepted[who] += 1
        self._held += 1
        return None

    @property
    def jain(self) -> float:
        """Jain's index of fairness over the polite ones: 1 if all got the same, 1/n if one got everything."""
        got = self.accepted[: self.polite]
        return sum(got) ** 2 / (len(got) * sum(one * one for one in got))


@pytest.mark.parametrize("capacity", [20, 100, 200])
def test_producers_that_follow_the_advice_waste_few_submits(capacity: int) -> None:
    """50 producers: at most one wasted submit a task, equal shares, short waits, and workers that never wait."""
    crowd = Crowd(50, capacity=capacity)
    assert crowd.busy >= 0.99
    assert crowd.wasted <= sum(crowd.accepted)
    assert crowd.jain >= 0.98
    assert crowd.longest_wait_s < 1.0, "50 rooms appear in a sixteenth of a second"


@pytest.mark.parametrize(("at_once", "capacity"), [(1, 100), (1, 20), (1_000, 100), (1_000, 1_000)])
def test_a_greedy_producer_does_not_take_what_is_the_others(at_once: int, capacity: int) -> None:
    """It asks all the time, for one task or a thousand: five polite ones get more than half of all room (P12)."""
    crowd = Crowd(5, greedy=1, at_once=at_once, capacity=capacity)
    assert crowd.busy >= 0.99
    assert sum(crowd.accepted[:5]) > 0.5 * sum(crowd.accepted)
    assert crowd.jain >= 0.98
    assert crowd.longest_wait_s < 0.5


def test_many_polite_producers_leave_a_greedy_one_little() -> None:
    """Beside 50 polite ones a greedy one gets a few shares of 51."""
    crowd = Crowd(50, greedy=1)
    assert crowd.accepted[50] < 0.15 * sum(crowd.accepted)
    assert crowd.jain >= 0.98


def test_greedy_connections_get_a_share_each() -> None:
    """Ten greedy connections beside five polite ones: what each polite one gets is not far from a fifteenth."""
    crowd = Crowd(5, greedy=10)
    assert min(crowd.accepted[:5]) > 0.5 * sum(crowd.accepted) / 15
