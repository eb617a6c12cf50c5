"""What an attempt is that has begun, and what one is that has not."""

from __future__ import annotations

from broker.queue import MemoryQueue
from broker.states import State
from tests.clock import HandClock
from tests.unit.test_queue import put, take
from tests.unit.test_queue_restart import restored


def test_task_that_was_displaced_does_not_expire(clock: HandClock) -> None:
    """Its attempt was begun in time, although it is made again with the number 1; in the next queue neither."""
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic)
    put(queue, "a", expires_s=1.0)
    queue.retry(take(queue), 0.0, spent=False)
    clock.advance(1.0)
    queue.promote()
    queue.publish()
    lease = take(queue)
    assert lease.attempt == 1
    assert not queue.has_expired(lease)
    queue.retry(lease, 0.0, spent=False)
    assert not queue.has_expired(take(restored(queue, clock)))


def test_task_that_is_given_back_is_as_if_it_had_not_been_taken(clock: HandClock) -> None:
    """Ready, before what has come since; no attempt was made, so it can still expire; and the books say so."""
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic)
    put(queue, "a", "b", expires_s=1.0)
    lease = take(queue)
    queue.offer("c", b"c")
    queue.give_back(lease)
    counts = queue.counts()
    assert (counts["ready"], counts["running"], counts["delayed"]) == (3, 0, 0)
    status = queue.status("a", ())
    assert status is not None
    assert (status.state, status.attempts) == (State.READY, 0)
    queue.publish()
    clock.advance(1.0)
    leases = [take(queue) for _ in range(3)]
    assert [(one.id, one.attempt, queue.has_expired(one)) for one in leases] == [
        ("b", 1, True),
        ("a", 1, True),
        ("c", 1, False),
    ]


def test_task_that_is_given_back_in_a_pause_waits_for_its_end(clock: HandClock) -> None:
    """Nobody takes it; a drain does not wait for it; and it is cancelled as any task that nobody has begun."""
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic)
    put(queue, "a", "b")
    lease = take(queue)
    queue.pause()
    assert queue.is_unfinished(clock.monotonic())
    queue.give_back(lease)
    queue.publish()
    assert queue.take(wait=False) is None
    assert not queue.is_unfinished(clock.monotonic())
    queue.cancel(["b"])
    queue.resume()
    assert take(queue).id == "a"
