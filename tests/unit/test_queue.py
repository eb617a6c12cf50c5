"""The queue's rules, one by one, for a reader. `tests/model` walks through their combinations."""

from __future__ import annotations

import pytest

from broker.handoff import Handoff
from broker.protocol import pack
from broker.queue import MemoryQueue, Offer
from broker.records import Lease
from broker.states import State
from tests.clock import HandClock


def wire(task_id: str, body: str = "") -> bytes:
    """A packed task of this id."""
    return pack({"id": task_id, "name": "n", "args": [body]})


SIZE = len(wire("a"))


def make(clock: HandClock, *, capacity: int = 10, capacity_bytes: int = 10_000, remember_ids: int = 10) -> MemoryQueue:
    """An empty queue on this clock."""
    return MemoryQueue(capacity, capacity_bytes, remember_ids, clock.monotonic)


def put(queue: MemoryQueue, *task_ids: str, delay_s: float = 0.0, expires_s: float | None = None) -> None:
    """Accepted and published."""
    for task_id in task_ids:
        assert queue.offer(task_id, wire(task_id), delay_s, expires_s) is Offer.ACCEPTED
    queue.publish()


def take(queue: MemoryQueue) -> Lease:
    """The next task; there is one."""
    lease = queue.take(wait=False)
    assert lease is not None
    return lease


def state_of(queue: MemoryQueue, task_id: str, *running: str) -> State | None:
    """Where a task is."""
    status = queue.status(task_id, running)
    return None if status is None else status.state


def test_tasks_come_out_in_the_order_of_their_acceptance(clock: HandClock) -> None:
    """First in, first out, over any number of publications; then there is nothing."""
    queue = make(clock)
    put(queue, "a", "b")
    put(queue, "c")
    assert [take(queue).id for _ in range(3)] == ["a", "b", "c"]
    assert queue.take(wait=False) is None


def test_task_is_not_handed_out_before_it_is_published(clock: HandClock) -> None:
    """An accepted task is ready, but no worker sees it before the reply is sent."""
    queue = make(clock)
    assert queue.offer("a", wire("a")) is Offer.ACCEPTED
    assert queue.ready == 1
    assert queue.take(wait=False) is None
    queue.publish()
    assert take(queue).id == "a"


def test_lease_has_the_task_as_it_came(clock: HandClock) -> None:
    """A lease knows the bytes that came in, and opens them afresh each time."""
    queue = make(clock)
    put(queue, "a")
    lease = take(queue)
    assert (lease.id, lease.attempt, lease.wire) == ("a", 1, wire("a"))
    name, args, kwargs = lease.open()
    args.append("mutated")
    assert lease.open() == (name, [""], kwargs) == ("n", [""], {})


def test_full_queue_rejects_and_keeps_its_depth(clock: HandClock) -> None:
    """The task after the last that fits is refused, and changes nothing."""
    queue = make(clock, capacity=2)
    put(queue, "a", "b")
    before = queue.counts()
    assert queue.offer("c", wire("c")) is Offer.FULL
    assert (queue.counts(), queue.held, queue.held_bytes) == (before, 2, 2 * SIZE)
    assert queue.status("c", ()) is None


@pytest.mark.parametrize(("capacity_bytes", "fits"), [(2 * SIZE - 1, 1), (2 * SIZE, 2), (2 * SIZE + 1, 2)])
def test_bound_in_bytes_is_exact(clock: HandClock, capacity_bytes: int, fits: int) -> None:
    """A task that fills the last byte is accepted; one byte less, and it is not."""
    queue = make(clock, capacity_bytes=capacity_bytes)
    offers = [queue.offer(task_id, wire(task_id)) for task_id in ("a", "b")]
    assert offers.count(Offer.ACCEPTED) == fits


def test_smaller_task_may_fit_where_a_larger_one_does_not(clock: HandClock) -> None:
    """Being full in bytes is a matter of the task's own size; a refusal does not shut the door for others."""
    queue = make(clock, capacity_bytes=2 * SIZE + 1)
    put(queue, "a")
    assert queue.offer("b", wire("b", "xxx")) is Offer.FULL
    assert queue.offer("b", wire("b", "x")) is Offer.ACCEPTED


@pytest.mark.parametrize("delay_s", [0.0, 5.0])
def test_running_and_delayed_tasks_hold_their_room(clock: HandClock, delay_s: float) -> None:
    """Room appears when a task ends, not when it is taken, nor while it waits."""
    queue = make(clock, capacity=1)
    put(queue, "a", delay_s=delay_s)
    if not delay_s:
        take(queue)
    assert queue.offer("b", wire("b")) is Offer.FULL


def test_every_end_makes_room(clock: HandClock) -> None:
    """A task that succeeds, dies, expires or is returned gives its room back, in tasks and in bytes."""
    queue = make(clock, capacity=1)
    put(queue, "a")
    queue.ack(take(queue))
    put(queue, "b")
    queue.bury(take(queue))
    put(queue, "c", expires_s=1.0)
    clock.advance(1.0)
    queue.expire(take(queue))
    put(queue, "d")
    queue.close(())
    assert (queue.held, queue.held_bytes) == (0, 0)
    assert [state_of(queue, task_id) for task_id in "abc"] == [State.SUCCEEDED, State.DEAD, State.EXPIRED]


def test_retry_needs_no_room_and_counts_the_attempt(clock: HandClock) -> None:
    """A failed task goes back into a full queue, and comes out as its next attempt with the same bytes."""
    queue = make(clock, capacity=1)
    put(queue, "a")
    queue.retry(take(queue), 2.0)
    assert (queue.held, queue.delayed, queue.counts()["accepted"]) == (1, 1, 1)
    assert queue.offer("b", wire("b")) is Offer.FULL
    clock.advance(2.0)
    queue.promote()
    queue.publish()
    lease = take(queue)
    assert (lease.id, lease.attempt, lease.wire) == ("a", 2, wire("a"))


def test_delayed_task_is_ready_when_it_is_due_and_not_before(clock: HandClock) -> None:
    """At a hair before its due time it waits; at that time it is ready."""
    queue = make(clock)
    put(queue, "a", delay_s=4.0)
    assert queue.next_due == clock.monotonic() + 4.0
    clock.advance(3.999)
    queue.promote()
    assert (queue.delayed, queue.ready) == (1, 0)
    clock.advance(0.001)
    queue.promote()
    assert (queue.delayed, queue.ready) == (0, 1)
    assert queue.next_due is None


def test_delayed_tasks_come_out_by_due_time_then_by_acceptance(clock: HandClock) -> None:
    """Of tasks that are due together, the one whose time came first is first; at the same time, the older one."""
    queue = make(clock)
    put(queue, "late", delay_s=2.0)
    put(queue, "b", "a", delay_s=1.0)
    clock.advance(5.0)
    queue.promote()
    queue.publish()
    assert [take(queue).id for _ in range(3)] == ["b", "a", "late"]


def test_task_expires_at_its_time_and_only_before_its_first_attempt(clock: HandClock) -> None:
    """A first attempt that would begin at the expiry, or later, is too late; a second one never is."""
    queue = make(clock)
    put(queue, "in time", "late", expires_s=1.0)
    clock.advance(0.999)
    lease = take(queue)
    assert not queue.has_expired(lease)
    clock.advance(0.001)
    assert queue.has_expired(take(queue))
    queue.retry(lease, 5.0)
    clock.advance(5.0)
    queue.promote()
    queue.publish()
    assert not queue.has_expired(take(queue))


def test_resend_is_a_duplicate_while_held_and_while_remembered(clock: HandClock) -> None:
    """The same id with the same bytes adds nothing, wherever the task is; not even room is asked for."""
    queue = make(clock, capacity=1)
    put(queue, "a")
    assert queue.offer("a", wire("a")) is Offer.DUPLICATE
    lease = take(queue)
    assert queue.offer("a", wire("a")) is Offer.DUPLICATE
    queue.ack(lease)
    assert queue.offer("a", wire("a")) is Offer.DUPLICATE
    assert queue.counts()["accepted"] == 1
    assert queue.take(wait=False) is None


def test_same_id_with_other_bytes_is_a_conflict(clock: HandClock) -> None:
    """An id stands for one task; another one under it is refused, held or ended."""
    queue = make(clock)
    put(queue, "a")
    assert queue.offer("a", wire("a", "other")) is Offer.CONFLICT
    queue.ack(take(queue))
    assert queue.offer("a", wire("a", "other")) is Offer.CONFLICT


def test_window_of_remembered_ids_is_exact(clock: HandClock) -> None:
    """The ids of the most recently ended tasks are known; the one that ended before them is a new task again."""
    queue = make(clock, remember_ids=2)
    put(queue, "a", "b", "c")
    for _ in range(3):
        queue.ack(take(queue))
    assert queue.remembered == 2
    assert [queue.offer(task_id, wire(task_id)) for task_id in "cba"] == [
        Offer.DUPLICATE,
        Offer.DUPLICATE,
        Offer.ACCEPTED,
    ]


def test_held_tasks_are_known_whatever_the_window(clock: HandClock) -> None:
    """Unfinished tasks are never forgotten, even if no ended one is remembered."""
    queue = make(clock, remember_ids=0)
    put(queue, "a", "b")
    queue.ack(take(queue))
    assert queue.remembered == 0
    assert queue.status("a", ()) is None
    assert queue.offer("b", wire("b")) is Offer.DUPLICATE


def test_draining_queue_knows_its_tasks_and_accepts_none(clock: HandClock) -> None:
    """A drain refuses new tasks, still answers for the known ones, and lets them run and be retried."""
    queue = make(clock)
    put(queue, "a")
    queue.draining = True
    assert queue.offer("b", wire("b")) is Offer.DRAINING
    assert queue.offer("a", wire("a")) is Offer.DUPLICATE
    assert queue.offer("a", wire("a", "other")) is Offer.CONFLICT
    queue.retry(take(queue), 0.0)
    queue.promote()
    queue.publish()
    assert take(queue).attempt == 2


def test_drain_waits_for_what_can_still_run(clock: HandClock) -> None:
    """Ready and running tasks, and those due by the deadline, are unfinished; later ones are not waited for."""
    queue = make(clock)
    deadline = clock.monotonic() + 5.0
    assert not queue.is_unfinished(deadline)
    put(queue, "a")
    assert queue.is_unfinished(deadline)
    lease = take(queue)
    assert queue.is_unfinished(deadline)
    queue.retry(lease, 5.0)
    assert queue.is_unfinished(deadline)
    assert not queue.is_unfinished(deadline - 0.001)


def test_close_gives_back_all_that_is_held(clock: HandClock) -> None:
    """Ready, delayed and running tasks come back in order of acceptance, with attempts begun and where they were."""
    queue = make(clock)
    put(queue, "runs", "again")
    put(queue, "delayed", delay_s=9.0)
    lease = take(queue)
    queue.retry(take(queue), 1.0)
    assert lease.id == "runs"
    queue.offer("unpublished", wire("unpublished"))
    returned = queue.close(["runs"])
    assert [(one.id, one.attempts, one.was) for one in returned] == [
        ("runs", 1, State.RUNNING),
        ("again", 1, State.DELAYED),
        ("delayed", 0, State.DELAYED),
        ("unpublished", 0, State.READY),
    ]
    assert [one.wire for one in returned] == [wire(one.id) for one in returned]
    assert len(returned) == queue.counts()["returned"] == queue.counts()["accepted"] == 4
    assert list(returned.ids()) == [one.id for one in returned]  # it can be gone through again


def test_nothing_starts_after_close(clock: HandClock) -> None:
    """A closed queue hands out no lease, to those who wait and to those who do not."""
    queue = make(clock)
    put(queue, "a")
    queue.offer("unpublished", wire("unpublished"))
    queue.close(())
    queue.publish()
    assert queue.ready == 0
    assert queue.take(wait=False) is None
    assert queue.take(wait=True) is None


def test_status_tells_where_a_task_is(clock: HandClock) -> None:
    """Ready, delayed with its due time, running with its attempt; nil for what was never accepted."""
    queue = make(clock)
    put(queue, "a")
    put(queue, "b", delay_s=3.0)
    a, b = queue.status("a", ()), queue.status("b", ())
    assert a is not None
    assert b is not None
    assert (a.state, a.attempts, a.due) == (State.READY, 0, None)
    assert (b.state, b.attempts, b.due) == (State.DELAYED, 0, clock.monotonic() + 3.0)
    take(queue)
    a = queue.status("a", ["a"])
    assert a is not None
    assert (a.state, a.attempts, a.due) == (State.RUNNING, 1, None)
    assert queue.status("c", ()) is None


def test_oldest_is_counted_from_its_first_acceptance(clock: HandClock) -> None:
    """The age of the oldest held task goes on through a retry, and passes to the next one when it ends."""
    queue = make(clock)
    assert queue.oldest_s() == 0
    put(queue, "a")
    clock.advance(2.0)
    put(queue, "b")
    queue.retry(take(queue), 0.0)
    clock.advance(1.0)
    assert queue.oldest_s() == pytest.approx(3.0, abs=0.02)
    take(queue)
    queue.promote()
    queue.publish()
    queue.ack(take(queue))
    assert queue.oldest_s() == pytest.approx(1.0, abs=0.02)


def test_many_tasks_that_are_due_at_once_become_ready_by_and_by(clock: HandClock) -> None:
    """A turn promotes a thousand, in their order, and says that more are due; so no turn takes long."""
    queue = make(clock, capacity=3_000, capacity_bytes=10**6)
    put(queue, *map(str, range(2_500)), delay_s=1.0)
    clock.advance(1.0)
    depths = []
    while queue.next_due is not None and queue.next_due <= clock.monotonic():
        queue.promote()
        queue.publish()
        depths.append(queue.ready)
    assert depths == [1_000, 2_000, 2_500]
    assert [take(queue).id for _ in range(2_500)] == list(map(str, range(2_500)))


def test_retry_that_cannot_be_is_not_booked() -> None:
    """If anything fails while a retry is worked out, the books and the task are as before."""
    moments = [0.0, 0.0]  # for the making of the queue, and the offer; a third look raises
    queue = MemoryQueue(10, 10_000, 10, moments.pop)
    put(queue, "a")
    lease = take(queue)
    before = queue.counts()
    with pytest.raises(IndexError):
        queue.retry(lease, 1.0)
    assert (queue.counts(), queue.delayed, lease.attempt) == (before, 0, 1)
    moments.append(0.0)
    queue.ack(lease)
    assert queue.counts()["succeeded"] == 1


def test_most_retries_fit_the_record(clock: HandClock) -> None:
    """A task can be retried as often as the protocol allows; the number of its attempt stays right."""
    queue = make(clock)
    put(queue, "a")
    for attempt in range(1, 101):
        lease = take(queue)
        assert lease.attempt == attempt
        queue.retry(lease, 0.0)
        queue.promote()
        queue.publish()
    assert take(queue).attempt == 101


def test_take_that_meets_a_close_gets_nothing(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has an id in its hand when the queue is closed gets no lease, and is not killed by it.

    1. A worker pops the id off the line.  2. The owner closes the queue, and gives the task back.  3. The worker looks
    the task up.
    """

    class Interrupted(Handoff):
        def try_take(self) -> str | None:
            task_id = super().try_take()
            if task_id is not None and not returned:
                returned.append("closing")
                returned[:] = [one.id for one in queue.close(())]
            return task_id

    returned: list[str] = []
    monkeypatch.setattr("broker.queue.Handoff", Interrupted)
    queue = make(clock)
    put(queue, "a")
    assert queue.take(wait=False) is None
    assert returned == ["a"]


def test_id_is_forgotten_at_its_age(clock: HandClock) -> None:
    """Up to `remember_s` after its end a resend is a duplicate; then the same id is a new task."""
    queue = MemoryQueue(10, 10_000, 10, clock.monotonic, remember_s=5.0)
    put(queue, "a")
    queue.ack(take(queue))
    clock.advance(4.75)
    assert (queue.offer("a", wire("a")), queue.remembered) == (Offer.DUPLICATE, 1)
    clock.advance(0.25)
    assert (state_of(queue, "a"), queue.remembered) == (None, 0)
    assert queue.offer("a", wire("a")) is Offer.ACCEPTED
