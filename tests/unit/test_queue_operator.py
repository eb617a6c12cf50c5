"""What an operator can do with the queue: pause and resume, cancel, requeue."""

from __future__ import annotations

import math
import sys

import pytest

from broker.queue import MemoryQueue, Offer
from broker.records import Status
from broker.states import State
from tests.clock import HandClock
from tests.unit.test_queue import SIZE, make, put, state_of, take, wire


@pytest.fixture
def queue(clock: HandClock) -> MemoryQueue:
    """An empty queue for ten tasks."""
    return make(clock)


def dead(queue: MemoryQueue, *ids: str) -> None:
    """These tasks were accepted, and died."""
    put(queue, *ids)
    for _ in ids:
        queue.bury(take(queue))


def nothing_to_take(queue: MemoryQueue) -> bool:
    """Whether no worker of either line finds a task."""
    return queue.take(wait=False) is None and queue.take(wait=False, isolated=True) is None


def test_pause_hides_what_is_ready_and_resume_shows_it_in_order(queue: MemoryQueue) -> None:
    """Of both lines, with what has become ready meanwhile behind it; what runs can end."""
    put(queue, "a", "b")
    assert queue.offer("i", wire("i"), isolated=True) is Offer.ACCEPTED
    queue.publish()
    running = take(queue)
    queue.pause()
    put(queue, "c")
    assert nothing_to_take(queue)
    assert (queue.ready, queue.counts()["running"]) == (3, 1)
    queue.ack(running)
    queue.resume()
    assert [take(queue).id for _ in range(2)] == ["b", "c"]
    isolated = queue.take(wait=False, isolated=True)
    assert isolated is not None
    assert isolated.id == "i"


def test_pause_lets_delayed_tasks_become_ready_and_no_further(clock: HandClock, queue: MemoryQueue) -> None:
    """Time goes on: what is due waits in the line of what was ready before."""
    put(queue, "a")
    put(queue, "later", delay_s=1.0)
    queue.pause()
    clock.advance(1.0)
    queue.promote()
    queue.publish()
    assert nothing_to_take(queue)
    assert state_of(queue, "later") is State.READY
    queue.resume()
    assert [take(queue).id for _ in range(2)] == ["a", "later"]


def test_look_at_the_oldest_forgets_how_deep_the_queue_was(clock: HandClock) -> None:
    """The places of tasks that have ended are not gone through again at each look, nor kept in memory."""
    queue = MemoryQueue(5_000, 10**6, 0, clock.monotonic)
    put(queue, *map(str, range(5_000)))
    for _ in range(4_999):
        queue.ack(take(queue))
    deep = sys.getsizeof(queue._held)
    clock.advance(2.0)
    assert queue.oldest_s() == 2.0
    assert sys.getsizeof(queue._held) < deep / 100
    assert take(queue).id == "4999"


def test_drain_of_a_paused_queue_waits_for_what_runs_alone(queue: MemoryQueue) -> None:
    """What is ready or delayed is held back by somebody's will: it is handed back."""
    put(queue, "running", "ready")
    put(queue, "delayed", delay_s=1.0)
    lease = take(queue)
    queue.pause()
    queue.draining = True
    assert queue.is_unfinished(math.inf)
    queue.ack(lease)
    assert not queue.is_unfinished(math.inf)
    assert [(one.id, one.was) for one in queue.close(())] == [("ready", State.READY), ("delayed", State.DELAYED)]


def test_pause_and_resume_can_be_said_twice(queue: MemoryQueue) -> None:
    """Nothing is lost by it, or comes twice."""
    put(queue, "a")
    queue.pause()
    queue.pause()
    assert nothing_to_take(queue)
    queue.resume()
    queue.resume()
    assert take(queue).id == "a"
    assert nothing_to_take(queue)


def test_cancel_takes_back_what_is_ready_or_delayed(clock: HandClock, queue: MemoryQueue) -> None:
    """Published or not, ordinary or isolated. Room and bytes are free at once, and the books say so."""
    put(queue, "first", "published", "last")
    assert queue.offer("isolated", wire("isolated"), isolated=True) is Offer.ACCEPTED
    put(queue, "delayed", delay_s=1.0)
    put(queue, "sooner", delay_s=0.5)
    assert queue.offer("hidden", wire("hidden")) is Offer.ACCEPTED
    queue.cancel(["published", "isolated", "hidden", "delayed", "never seen"])
    for task_id in ("published", "isolated", "hidden", "delayed"):
        assert state_of(queue, task_id) is State.CANCELLED
    assert state_of(queue, "never seen") is None
    assert (queue.held, queue.counts()["cancelled"], queue.counts()["accepted"]) == (3, 4, 7)
    assert queue.held_bytes == sum(len(wire(task_id)) for task_id in ("first", "last", "sooner"))
    assert queue.next_due == clock.monotonic() + 0.5
    clock.advance(5.0)
    queue.promote()
    queue.publish()
    assert [take(queue).id for _ in range(3)] == ["first", "last", "sooner"]
    assert nothing_to_take(queue)


def test_cancel_does_not_touch_what_runs_or_has_ended(queue: MemoryQueue) -> None:
    """A worker has it, or had it: it stays as it is."""
    put(queue, "ended", "running")
    queue.ack(take(queue))
    lease = take(queue)
    queue.cancel(["ended", "running"])
    assert (state_of(queue, "ended"), state_of(queue, "running", "running")) == (State.SUCCEEDED, State.RUNNING)
    queue.ack(lease)
    assert queue.counts()["succeeded"] == 2


def test_cancelled_task_is_a_duplicate_to_its_producer(queue: MemoryQueue) -> None:
    """A resend is not accepted anew: the owner has taken it back."""
    put(queue, "a")
    queue.cancel(["a"])
    assert queue.offer("a", wire("a")) is Offer.DUPLICATE
    assert nothing_to_take(queue)


def test_cancel_in_a_pause_keeps_it(queue: MemoryQueue) -> None:
    """What is left is still not shown."""
    put(queue, "a", "b")
    queue.pause()
    queue.cancel(["a"])
    assert nothing_to_take(queue)
    queue.resume()
    assert take(queue).id == "b"


def test_cancelled_task_leaves_neither_expiry_nor_crash_to_its_id(clock: HandClock) -> None:
    """Its id may be used again, once it is forgotten, as if it had never been."""
    queue = make(clock, remember_ids=0)
    put(queue, "a", expires_s=1.0)
    queue.cancel(["a"])
    put(queue, "a")
    clock.advance(2.0)
    lease = take(queue)
    assert not queue.has_expired(lease)
    assert queue.note_crash("a") == 1


def test_requeued_task_is_new_again(clock: HandClock, queue: MemoryQueue) -> None:
    """Ready, with the first attempt next; `accepted` counts it once; the ends so far do not fall."""
    dead(queue, "a")
    ended = queue.ledger.ended
    clock.advance(5.0)
    assert queue.requeue("a", wire("a"), isolated=False) is Offer.ACCEPTED
    queue.publish()
    assert queue.status("a", []) == Status(State.READY, 0, None)
    assert queue.oldest_s() == 0.0
    counts = queue.counts()
    assert (counts["accepted"], counts["ready"], counts["dead"]) == (1, 1, 0)
    assert (queue.ledger.ended, queue.ledger.requeued) == (ended, 1)
    lease = take(queue)
    assert (lease.attempt, lease.wire) == (1, wire("a"))
    queue.ack(lease)
    assert state_of(queue, "a") is State.SUCCEEDED
    assert queue.ledger.ended == ended + 1


def test_requeued_task_goes_to_its_line_and_can_die_again(queue: MemoryQueue) -> None:
    """As often as somebody asks for it."""
    dead(queue, "a")
    for turn in range(3):
        assert queue.requeue("a", wire("a"), isolated=True) is Offer.ACCEPTED
        queue.publish()
        assert queue.take(wait=False) is None
        lease = queue.take(wait=False, isolated=True)
        assert lease is not None
        queue.bury(lease)
        assert (queue.counts()["dead"], queue.ledger.requeued) == (1, turn + 1)


def test_requeue_needs_room_exactly(clock: HandClock) -> None:
    """In tasks and in bytes, like any new task."""
    for tight in ({"capacity": 1}, {"capacity_bytes": 2 * SIZE - 1}):
        queue = make(clock, **tight)
        dead(queue, "a")
        put(queue, "b")
        assert queue.requeue("a", wire("a"), isolated=False) is Offer.FULL
        assert state_of(queue, "a") is State.DEAD
        queue.ack(take(queue))
        assert queue.requeue("a", wire("a"), isolated=False) is Offer.ACCEPTED


def test_requeue_of_an_id_that_is_in_use_or_has_ended_otherwise_is_a_conflict(clock: HandClock) -> None:
    """The letter's id was forgotten, and used again: nothing is done twice under one id."""
    queue = make(clock, remember_ids=1)
    dead(queue, "a", "b")
    put(queue, "a")
    assert queue.requeue("a", wire("a"), isolated=False) is Offer.CONFLICT
    queue.ack(take(queue))
    assert queue.requeue("a", wire("a"), isolated=False) is Offer.CONFLICT
    assert queue.counts()["succeeded"] == 1


def test_requeue_of_a_forgotten_id_is_accepted(clock: HandClock) -> None:
    """The letter is kept longer than the id."""
    queue = make(clock, remember_ids=0)
    dead(queue, "a")
    assert queue.requeue("a", wire("a"), isolated=False) is Offer.ACCEPTED
    assert queue.counts()["ready"] == 1


def test_nothing_is_requeued_in_a_drain(queue: MemoryQueue) -> None:
    """As nothing is accepted."""
    dead(queue, "a")
    queue.draining = True
    assert queue.requeue("a", wire("a"), isolated=False) is Offer.DRAINING
    assert state_of(queue, "a") is State.DEAD
