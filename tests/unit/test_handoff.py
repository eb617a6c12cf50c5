"""The line between one thread and many: in order, each id once, and no worker sleeps beside an id."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from broker.handoff import Handoff

PATIENCE_S = 20.0


@pytest.fixture
def nervous_threads() -> Iterator[None]:
    """The interpreter switches threads as often as it can: races that are rare come often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Workers:
    """Threads that take until the line is closed, and say what they took."""

    def __init__(self, handoff: Handoff, count: int) -> None:
        self.taken: list[list[str]] = [[] for _ in range(count)]
        self._handoff = handoff
        self._expected = 0
        self._complete = threading.Event()
        self._count = 0
        self._guard = threading.Lock()  # of `_count`, which all of them change; `_complete` is set under it
        self.threads = [threading.Thread(target=self._work, args=(mine,), daemon=True) for mine in self.taken]
        for thread in self.threads:
            thread.start()

    def _work(self, mine: list[str]) -> None:
        while (taken := self._handoff.take()) is not None:
            mine.append(taken)
            with self._guard:
                self._count += 1
                if self._count == self._expected:
                    self._complete.set()

    def wait_for(self, count: int) -> None:
        """Until so many ids were taken in all. A lost wake-up shows here: an id lies in the line, and nobody comes."""
        with self._guard:
            self._expected = count
            self._complete.clear()
            if self._count == count:
                return
        assert self._complete.wait(PATIENCE_S), f"{self._count} of {count} were taken, {len(self._handoff)} wait"

    def join(self) -> None:
        """Until all of them have ended."""
        for thread in self.threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in self.threads)


def test_ids_come_out_in_order() -> None:
    """First in, first out, over several puts."""
    handoff = Handoff()
    handoff.put(["a", "b"])
    handoff.put(["c"])
    assert len(handoff) == 3
    assert [handoff.take(), handoff.try_take(), handoff.take()] == ["a", "b", "c"]
    assert len(handoff) == 0


def test_try_take_does_not_wait() -> None:
    """An empty line gives nothing, at once."""
    assert Handoff().try_take() is None


def test_recall_gives_what_nobody_has_taken_in_order() -> None:
    """And the line goes on after it."""
    handoff = Handoff()
    handoff.put(["a", "b", "c"])
    assert (handoff.take(), handoff.recall(), handoff.recall()) == ("a", ["b", "c"], [])
    handoff.put(["d"])
    assert handoff.take() == "d"


def test_recall_races_with_workers_and_loses_nothing(nervous_threads: None) -> None:
    """Each id is either taken or recalled, and what is put again is taken in the end."""
    handoff = Handoff()
    workers = Workers(handoff, 3)
    for first in range(0, 3_000, 10):
        handoff.put([str(number) for number in range(first, first + 10)])
        handoff.put(handoff.recall())
    workers.wait_for(3_000)
    handoff.close()
    workers.join()
    assert sorted(int(taken) for mine in workers.taken for taken in mine) == list(range(3_000))


def test_putting_nothing_is_nothing() -> None:
    """An empty put wakes nobody for long: the next real one is still taken."""
    handoff = Handoff()
    workers = Workers(handoff, 1)
    handoff.put([])
    handoff.put(["a"])
    workers.wait_for(1)
    handoff.close()
    workers.join()


@pytest.mark.parametrize("count", [1, 2, 8])
def test_waiting_workers_are_woken_one_id_at_a_time(count: int) -> None:
    """Each single id that is put is taken, though all workers sleep in between."""
    handoff = Handoff()
    workers = Workers(handoff, count)
    for number in range(200):
        handoff.put([str(number)])
        workers.wait_for(number + 1)
    handoff.close()
    workers.join()


@pytest.mark.parametrize("workers_count", [1, 3, 8])
def test_every_id_is_taken_once(workers_count: int, nervous_threads: None) -> None:
    """Thousands of ids, in puts of all sizes, racing with workers that sleep and wake: none is lost or comes twice."""
    handoff = Handoff()
    workers = Workers(handoff, workers_count)
    put = 0
    for size in [1, 1, 2, 1, 50, 1, 3, 200, 1, 1] * 8:
        handoff.put([str(number) for number in range(put, put + size)])
        put += size
    workers.wait_for(put)
    handoff.close()
    workers.join()
    everything = [int(taken) for mine in workers.taken for taken in mine]
    assert sorted(everything) == list(range(put))
    for mine in workers.taken:
        assert [int(taken) for taken in mine] == sorted(int(taken) for taken in mine), "a worker went backwards"


@pytest.mark.parametrize("event", ["put", "close"])
def test_worker_looks_again_before_it_sleeps(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens between a worker's look at the line and its sleep is not slept over.

    1. A worker finds the line empty.  2. The owner puts an id, or closes, and finds nobody to wake.  3. The worker
    enters itself as waiting: it must look once more.
    """
    handoff = Handoff()
    events = [lambda: handoff.put(["a"]) if event == "put" else handoff.close()]

    def make_lock_late() -> threading.Lock:
        if events:
            events.pop()()
        return threading.Lock()

    monkeypatch.setattr("broker.handoff.threading", SimpleNamespace(Lock=make_lock_late))
    taken: list[str | None] = []
    worker = threading.Thread(target=lambda: taken.append(handoff.take()), daemon=True)
    worker.start()
    worker.join(PATIENCE_S)
    assert taken == (["a"] if event == "put" else [None])


def test_all_workers_get_to_work_when_there_is_enough() -> None:
    """One put of as many ids as workers wakes all of them, each through the last: they can all meet."""
    handoff = Handoff()
    everybody = threading.Barrier(8)
    met: list[str | None] = []

    def work() -> None:
        taken = handoff.take()
        everybody.wait(PATIENCE_S)
        met.append(taken)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    handoff.put([str(number) for number in range(8)])
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(map(str, met)) == [str(number) for number in range(8)]


def test_close_gives_back_the_line_and_lets_everybody_go() -> None:
    """What nobody has taken comes back in order; who waits, and who comes later, gets None."""
    handoff = Handoff()
    workers = Workers(handoff, 4)
    handoff.put(["a"])
    workers.wait_for(1)
    assert handoff.close() == []
    workers.join()
    assert handoff.take() is None
    other = Handoff()
    other.put(["a", "b"])
    assert other.close() == ["a", "b"]
    assert other.take() is None
    assert other.try_take() is None
    assert other.close() == []


def test_close_in_the_middle_of_it_loses_nothing(nervous_threads: None) -> None:
    """Whatever workers were at, every id was either taken or is given back, and all workers end."""
    for round_number in range(20):
        handoff = Handoff()
        workers = Workers(handoff, 4)
        ids = [str(number) for number in range(50 + round_number)]
        handoff.put(ids[:30])
        handoff.put(ids[30:])
        left = handoff.close()
        workers.join()
        taken = [one for mine in workers.taken for one in mine]
        assert sorted(taken + left) == sorted(ids)


def test_worker_that_is_woken_before_it_sleeps_does_not_sleep() -> None:
    """The wake-up that it was given is not lost, and it lays down the baton, so that the next one is woken too.

    1. A worker finds the line empty, and enters itself as waiting.  2. The owner puts an id, and pops that worker to
    wake it.  3. The worker sees the id, and wants to take its name off the list: it is gone.
    """
    handoff = Handoff()

    class Watched(list[threading.Lock]):
        def append(self, worker: threading.Lock) -> None:
            super().append(worker)
            if len(handoff) == 0:
                handoff.put(["a"])

    handoff._waiting = Watched()
    taken: list[str | None] = []
    worker = threading.Thread(target=lambda: taken.extend([handoff.take(), handoff.take()]), daemon=True)
    worker.start()
    worker.join(PATIENCE_S)
    assert taken == ["a", "a"]
    assert handoff._waiting == []
    assert not handoff._baton_out
