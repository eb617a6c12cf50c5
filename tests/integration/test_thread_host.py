"""Threads and time limits: a stuck task is shown, its worker replaced, and the number of workers stays what it was."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.still_broker import declared
from worker_host import task
from worker_host.contract import Failure
from worker_host.threads import ThreadHost

PATIENCE_S = 30.0


class Lease:
    """A lease on one call of a task function."""

    attempt = 1

    def __init__(self, name: str, number: int) -> None:
        self.id = f"{name}-{number}"
        self._name = name

    def open(self) -> tuple[str, list[Any], dict[str, Any]]:
        """What to call."""
        return self._name, [], {}


class Line:
    """A source: leases that the test puts in, and what is reported of them."""

    def __init__(self) -> None:
        self.leases: queue.SimpleQueue[Lease | None] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[tuple[str, Failure | None]] = queue.SimpleQueue()

    def take(self, *, isolated: bool = False) -> Lease | None:
        """The next."""
        assert not isolated
        return self.leases.get()

    def ack(self, lease: Lease) -> None:
        """Noted."""
        self.ended.put((lease.id, None))

    def fail(self, lease: Lease, failure: Failure) -> None:
        """Noted."""
        self.ended.put((lease.id, failure))

    def give_back(self, lease: Lease) -> None:
        """A thread begins what it takes."""
        raise AssertionError(lease)


class Stage:
    """A host of two workers and one spare, and what its tasks wait for."""

    def __init__(self) -> None:
        self.free, self.inside = threading.Event(), threading.Semaphore(0)
        self.free_too = threading.Event()

        @task(time_limit=0.05)
        def late() -> None:
            self.inside.release()
            assert self.free.wait(PATIENCE_S)

        @task(time_limit=0.05)
        def late_too() -> None:
            self.inside.release()
            assert self.free_too.wait(PATIENCE_S)

        @task(time_limit=0.05)
        async def late_coroutine() -> None:
            self.inside.release()
            assert self.free.wait(PATIENCE_S)

        @task
        def quick() -> None:
            pass

        self.line = Line()
        self.deaths: list[BaseException] = []
        self.host = ThreadHost(
            self.line, declared(late, late_too, late_coroutine, quick), 2, self.deaths.append, spares=1
        )
        self.host.start()

    def put(self, *names: str) -> None:
        """Submit."""
        for number, name in enumerate(names):
            self.line.leases.put(Lease(name, number))

    def watch_until_stuck(self, count: int) -> None:
        """Look as the broker's loop does, when it was told to, until so many tasks are stuck."""
        deadline = time.monotonic() + PATIENCE_S
        while sum(1 for _ in self.host.stuck()) < count:
            threading.Event().wait(self.host.watch() or 0.001)
            assert time.monotonic() < deadline


@pytest.fixture
def stage() -> Iterator[Stage]:
    """The host, ended after the test."""
    stage = Stage()
    yield stage
    stage.free.set()
    stage.free_too.set()
    for _ in range(10):
        stage.line.leases.put(None)
    assert stage.host.end(PATIENCE_S) == 0
    assert stage.deaths == []


def test_nothing_is_watched_without_a_limit(stage: Stage) -> None:
    """The loop is not woken for tasks that may take their time."""
    stage.put("quick")
    assert stage.line.ended.get(timeout=PATIENCE_S) == ("quick-0", None)
    assert stage.host.watch() is None
    assert stage.host.troubles() == []


def test_stuck_task_is_shown_with_its_stack(stage: Stage) -> None:
    """Its id, name and attempt, and the line that its thread is at, from the task function on."""
    stage.put("late")
    assert stage.inside.acquire(timeout=PATIENCE_S)
    assert stage.host.stuck() == []
    stage.watch_until_stuck(1)
    (stuck,) = stage.host.stuck()
    assert (stuck.id, stuck.name, stuck.attempt) == ("late-0", "late", 1)
    assert stuck.running_s >= 0.05
    function, line, *inner = stuck.stack.splitlines()
    assert function.endswith(", in late")
    assert line == "    assert self.free.wait(PATIENCE_S)"
    assert any("threading.py" in one for one in inner)
    assert [one.reason for one in stage.host.troubles()] == ["stuck_tasks"]


def test_stack_of_a_coroutine_begins_at_the_coroutine(stage: Stage) -> None:
    """What runs it is no part of it."""
    stage.put("late_coroutine")
    stage.watch_until_stuck(1)
    assert stage.host.stuck()[0].stack.splitlines()[0].endswith(", in late_coroutine")


def test_spare_works_in_place_of_the_stuck(stage: Stage) -> None:
    """With one worker of two stuck, two tasks still run at the same time; with both, one, and that is said."""
    stage.put("late", "late")
    assert stage.inside.acquire(timeout=PATIENCE_S)
    assert stage.inside.acquire(timeout=PATIENCE_S)
    stage.watch_until_stuck(2)
    assert stage.host.alive == 3
    assert [one.reason for one in stage.host.troubles()] == ["stuck_tasks", "workers_lost"]
    stage.put("quick")
    assert stage.line.ended.get(timeout=PATIENCE_S) == ("quick-0", None)


def test_pool_is_as_large_as_before_when_the_stuck_have_ended(stage: Stage) -> None:
    """What was stuck counts as ended, in its way; the replaced worker goes, the other one stays."""
    stage.put("late", "late")
    stage.watch_until_stuck(2)
    stage.free.set()
    ended = {stage.line.ended.get(timeout=PATIENCE_S)[0] for _ in range(2)}
    assert ended == {"late-0", "late-1"}
    deadline = time.monotonic() + PATIENCE_S
    while stage.host.alive != 2 or stage.host.troubles():
        assert time.monotonic() < deadline
    assert stage.host.stuck() == []


def test_spare_that_is_free_again_works_in_place_of_another_that_is_stuck(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two that are stuck one had a spare. As that one ends, the other gets it: two tasks run at a time again."""
    stage.put("late")
    stage.watch_until_stuck(1)
    stage.put("late_too")
    stage.watch_until_stuck(2)
    assert [one.reason for one in stage.host.troubles()] == ["stuck_tasks", "workers_lost"]
    stage.free.set()
    assert stage.line.ended.get(timeout=PATIENCE_S)[0] == "late-0"
    deadline = time.monotonic() + PATIENCE_S
    while len(stage.host.troubles()) > 1:  # its worker is about to say that it has ended
        stage.host.watch()
        assert time.monotonic() < deadline
    assert "id=late_too-0 name=late_too: a spare worker that is free again takes its place" in caplog.text
    stage.free.clear()
    stage.put("late", "late")
    for _ in range(4):
        assert stage.inside.acquire(timeout=PATIENCE_S)
    stage.free.set()
    stage.free_too.set()
    assert {stage.line.ended.get(timeout=PATIENCE_S)[0] for _ in range(3)} == {"late-0", "late-1", "late_too-0"}
    while stage.host.alive != 2 or stage.host.troubles():
        assert time.monotonic() < deadline
