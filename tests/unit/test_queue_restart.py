"""Queues that follow each other: what one hands back at its end, the next one takes in."""

from __future__ import annotations

from dataclasses import replace

from broker.queue import MemoryQueue, Offer
from broker.records import LONGEST_AGE_S
from broker.states import State
from tests.clock import HandClock
from tests.unit.test_queue import put, take, wire


def restored(queue: MemoryQueue, clock: HandClock, *running: str) -> MemoryQueue:
    """The next broker's queue, which has taken in what this one hands back; these tasks are running."""
    successor = MemoryQueue(10, 10_000, 10, clock.monotonic)
    assert [successor.restore(one) for one in queue.close(running)].count(Offer.ACCEPTED) == successor.held
    successor.publish()
    return successor


def test_returned_tasks_go_on_where_they_were(clock: HandClock) -> None:
    """The next queue has them in their order, with the attempts that ended, and what they still wait for."""
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic)
    put(queue, "runs", "again", "ready")
    assert take(queue).id == "runs"
    queue.retry(take(queue), 3.0)
    clock.advance(1.0)
    successor = restored(queue, clock, "runs")
    assert [(one.id, one.attempt) for one in (take(successor), take(successor))] == [("runs", 1), ("ready", 1)]
    status = successor.status("again", ())
    assert status is not None
    assert (status.state, status.attempts, status.due) == (State.DELAYED, 1, clock.monotonic() + 2.0)
    clock.advance(2.0)
    successor.promote()
    successor.publish()
    lease = take(successor)
    assert (lease.id, lease.attempt, lease.wire) == ("again", 2, wire("again"))


def test_age_goes_on_in_the_next_queue(clock: HandClock) -> None:
    """What has waited for long is not young after a restart; what is older than can be told, counts as that old."""
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic)
    put(queue, "a", "b")
    clock.advance(5.0)
    successor = restored(queue, clock)
    clock.advance(2.0)
    assert (successor.oldest_s(), successor.age_s("b")) == (7.0, 7.0)
    returned = list(successor.close(()))
    assert [one.age_s for one in returned] == [7.0, 7.0]
    third = MemoryQueue(10, 10_000, 10, clock.monotonic)
    assert third.restore(replace(returned[0], age_s=1e12)) is Offer.ACCEPTED
    assert third.oldest_s() == LONGEST_AGE_S


def test_expiry_goes_on_in_the_next_queue(clock: HandClock) -> None:
    """A task that no attempt was begun of has the rest of its time there, and no more."""
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic)
    put(queue, "a", "b", expires_s=2.0)
    clock.advance(1.0)
    successor = restored(queue, clock)
    clock.advance(0.5)
    assert not successor.has_expired(take(successor))
    clock.advance(0.5)
    assert successor.has_expired(take(successor))


def test_task_that_was_cut_off_by_a_stop_does_not_expire_afterwards(clock: HandClock) -> None:
    """Its attempt was begun in time, so it must be run to its end (P5), although the number of its attempt is 1 again.

    Found by the model: offer with an expiry, take, close, restore; then time passes.
    """
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic)
    put(queue, "a", expires_s=1.0)
    assert not queue.has_expired(take(queue))
    clock.advance(1.0)
    successor = restored(queue, clock, "a")
    assert not successor.has_expired(take(successor))


def test_restore_keeps_the_bound_and_the_ids(clock: HandClock) -> None:
    """What does not fit is refused, and a task that is there already is not taken in twice."""
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic)
    put(queue, "a", "b")
    returned = list(queue.close(()))
    small = MemoryQueue(1, 10_000, 10, clock.monotonic)
    assert [small.restore(one) for one in [returned[0], *returned]] == [Offer.ACCEPTED, Offer.DUPLICATE, Offer.FULL]
    assert small.counts()["accepted"] == 1
