"""A copy of a task that is held up on its way is overtaken by the one that was sent after it, and arrives after all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from producer import Accepted, AsyncProducer, NoReply, Producer, Task, TurnstileError, Verdict
from tests import jobs
from tests.faults.barrier import Barrier
from tests.integration.test_producer_delivery import rejecting
from tests.integration.test_producer_fake_broker import (
    WAIT_S,
    FakeBroker,
    Heard,
    accept,
    lose,
    one_after_another,
    refuse,
)
from tests.integration.test_producer_real_broker import RunningBroker, running_broker, starts, wait_for_end

SETTINGS: Final[dict[str, Any]] = {"timeout_s": WAIT_S, "reply_timeout_s": 0.2}

#: Has the first task accepted, shuts the barrier, submits the second task, alone or as a batch; what that raises.
Attempt = Callable[[Barrier, Task, Task, bool], TurnstileError]


def with_producer(barrier: Barrier, first: Task, second: Task, as_batch: bool) -> TurnstileError:
    """`Producer`."""
    with Producer(barrier.endpoint, **SETTINGS) as producer:
        assert producer.submit(first).accepted
        assert barrier.shut() > 0
        with pytest.raises(TurnstileError) as caught:
            producer.submit_many([second]) if as_batch else producer.submit(second)
    return caught.value


def with_async_producer(barrier: Barrier, first: Task, second: Task, as_batch: bool) -> TurnstileError:
    """`AsyncProducer`."""

    async def use() -> TurnstileError:
        async with AsyncProducer(barrier.endpoint, **SETTINGS) as producer:
            assert (await producer.submit(first)).accepted
            assert barrier.shut() > 0
            with pytest.raises(TurnstileError) as caught:
                await (producer.submit_many([second]) if as_batch else producer.submit(second))
        return caught.value

    return asyncio.run(use())


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    """One that holds a single task."""
    with running_broker("--capacity", "1", "--workers", "1") as running:
        yield running


@pytest.mark.parametrize("attempt", [with_producer, with_async_producer])
@pytest.mark.parametrize("as_batch", [False, True], ids=["alone", "as a batch"])
def test_row_7_a_resend_is_rejected_and_the_copy_that_it_overtook_is_accepted(
    broker: RunningBroker, tmp_path: Path, attempt: Attempt, as_batch: bool
) -> None:
    """The producer does not say that the task is rejected: nobody holds it then, but it is accepted and runs later."""
    witness, until = str(tmp_path / "witness"), tmp_path / "until"
    first, second = Task.of(jobs.hold, witness, str(until)), Task.of(jobs.record, witness)
    with Barrier(broker.endpoint) as barrier, Producer(broker.endpoint, timeout_s=WAIT_S) as other:
        error = attempt(barrier, first, second, as_batch)
        assert (type(error), error.unknown_ids) == (NoReply, (second.id,))
        assert "rejected a copy (full)" in str(error)
        until.touch()
        assert wait_for_end(other, first.id) == {"succeeded"}
        assert other.status(second.id) is None
        barrier.open()
        for _ in range(100_000):
            if other.status(second.id) is not None:
                break
        assert wait_for_end(other, second.id) == {"succeeded"}
        assert starts(witness) == {first.id: 1, second.id: 1}
        assert other.submit(second) == Accepted(second.id, duplicate=True, state="succeeded")


def submit_alone(producer: Producer, task: Task) -> Verdict:
    """`submit`."""
    return producer.submit(task)


def submit_as_batch(producer: Producer, task: Task) -> Verdict:
    """`submit_many`."""
    return producer.submit_many([task])[0]


@pytest.mark.parametrize("submit", [submit_alone, submit_as_batch])
@pytest.mark.parametrize(
    "rejects",
    [
        rejecting(),
        rejecting(reason="draining", retry_after=60.0),
        rejecting(reason="unknown_task", retry="never", retry_after=None),
        rejecting(reason="duplicate_conflict", retry="never", retry_after=None),
        lambda heard: [refuse(heard, "too_large")],
    ],
    ids=["full", "draining", "unknown_task", "duplicate_conflict", "the request"],
)
def test_no_reason_makes_a_rejection_certain_after_a_resend(
    submit: Callable[[Producer, Task], Verdict], rejects: Callable[[Heard], Sequence[bytes]]
) -> None:
    """The earlier copy may have been read by another broker than the one that says so: its predecessor."""
    task = Task.of("noop")
    with FakeBroker(one_after_another(lose, rejects)) as fake, Producer(fake.endpoint, **SETTINGS) as producer:
        with pytest.raises(NoReply) as caught:
            submit(producer, task)
        assert caught.value.ids == (task.id,)
        assert len(fake.all_heard()) >= 2


@pytest.mark.parametrize("submit", [submit_alone, submit_as_batch])
def test_row_7_who_waits_for_room_finds_that_the_overtaken_copy_was_accepted(
    submit: Callable[[Producer, Task], Verdict],
) -> None:
    """Lost, sent again, rejected for now, and a duplicate when it comes back: accepted."""
    task = Task.of("noop")
    behaviour = one_after_another(lose, rejecting(), lambda heard: [accept(heard, duplicate=True, state="running")])
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, on_full="wait", **SETTINGS) as producer:
        assert submit(producer, task) == Accepted(task.id, duplicate=True, state="running")
