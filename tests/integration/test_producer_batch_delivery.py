"""Many tasks on their way: order, window, lost replies, errors in the middle. Real sockets, a misbehaving broker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from broker.protocol import MAX_IN_FLIGHT
from producer import (
    Accepted,
    AsyncProducer,
    BadReply,
    BadTask,
    Limits,
    NoReply,
    Producer,
    Rejected,
    RequestRefused,
    Task,
    TooLarge,
    Unreachable,
    Verdict,
)
from tests.integration.test_producer_delivery import accepting, free_endpoint, raised_by, rejecting
from tests.integration.test_producer_fake_broker import (
    WAIT_S,
    FakeBroker,
    Heard,
    accept,
    lose,
    one_after_another,
    refuse,
    reject,
    reply,
)


def some_tasks(count: int) -> list[Task]:
    """Tasks that can be told apart."""
    return [Task.of("noop", number).but(id=f"task-{number}") for number in range(count)]


def test_verdicts_come_in_the_order_of_the_input() -> None:
    """250 tasks in three requests, every third one rejected: each verdict stands where its task stood."""

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        verdicts = [
            {"id": task["id"], "verdict": "rejected", "reason": "unknown_task", "retry": "never"}
            if task["args"][0] % 3 == 0
            else {"id": task["id"], "verdict": "accepted"}
            for task in heard.tasks
        ]
        return [reply(heard, verdicts=verdicts)]

    seen: list[Verdict] = []
    tasks = some_tasks(250)
    with FakeBroker(behave) as fake, Producer(fake.endpoint) as producer:
        verdicts = producer.submit_many(iter(tasks), on_verdict=seen.append)
        assert [len(heard.ids) for heard in fake.all_heard()] == [100, 100, 50]
    assert [verdict.id for verdict in verdicts] == [task.id for task in tasks]
    assert [verdict.accepted for verdict in verdicts] == [number % 3 != 0 for number in range(250)]
    assert seen == verdicts


def test_nothing_to_submit_is_no_verdicts() -> None:
    """An empty input is no error."""
    with FakeBroker(one_after_another(lose)) as fake, Producer(fake.endpoint) as producer:
        assert producer.submit_many([]) == []
        assert fake.all_heard() == []


def test_no_more_requests_are_in_flight_than_the_protocol_allows() -> None:
    """A broker that answers only when eight requests wait gets eight, never a ninth."""
    waiting: list[Heard] = []
    most = 0

    def behave(fake: FakeBroker, heard: Heard) -> Sequence[bytes]:
        nonlocal most
        if len(heard.ids) == 100 and heard.tasks[0]["args"][0] < 700:
            return [accept(heard)]  # until the producer has seen enough room to open its window
        waiting.append(heard)
        most = max(most, len(waiting))
        if len(waiting) == MAX_IN_FLIGHT:
            for one in waiting:
                fake.send(one, accept(one))
            waiting.clear()
        return []

    tasks = some_tasks(700 + 100 * 2 * MAX_IN_FLIGHT)
    with FakeBroker(behave) as fake, Producer(fake.endpoint, timeout_s=600, reply_timeout_s=600) as producer:
        verdicts = producer.submit_many(tasks)
    assert all(verdict.accepted for verdict in verdicts)
    assert most == MAX_IN_FLIGHT


def test_requests_keep_to_the_brokers_limit_in_bytes() -> None:
    """Tasks of 300 bytes, a broker that reads 1,024: three go in a request, and no request is longer."""
    tasks = [Task.of("noop", "x" * 260).but(id=f"task-{number}") for number in range(7)]
    with FakeBroker(one_after_another(accepting), message_bytes=1_024) as fake, Producer(fake.endpoint) as producer:
        assert all(verdict.accepted for verdict in producer.submit_many(tasks))
        heard = fake.all_heard()
    assert [len(one.ids) for one in heard] == [3, 3, 1]
    assert max(len(one.data) for one in heard) <= 1_024


def test_row_7_lost_replies_in_a_batch_are_asked_for_again() -> None:
    """Every second reply is lost: all tasks get their verdicts, and a resend is the same request as before."""
    answers = [accepting, lose] * 6
    with FakeBroker(one_after_another(*answers, accepting)) as fake:
        with Producer(fake.endpoint, reply_timeout_s=0.1) as producer:
            verdicts = producer.submit_many(some_tasks(500))
        heard = fake.all_heard()
    assert [verdict.id for verdict in verdicts] == [f"task-{number}" for number in range(500)]
    assert all(verdict.accepted for verdict in verdicts)
    assert len(heard) > len({one.data for one in heard}) == 5


def test_tasks_that_are_turned_away_come_back_first_and_alone() -> None:
    """With `on_full="wait"`, no new task is taken from the input while others wait for room."""
    taken = 0

    def tasks() -> Iterator[Task]:
        nonlocal taken
        for task in some_tasks(300):
            taken += 1
            yield task

    taken_at: list[int] = []

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        taken_at.append(taken)
        return [reject(heard, retry_after=0.01) if len(taken_at) <= 3 else accept(heard)]

    with FakeBroker(behave) as fake, Producer(fake.endpoint, on_full="wait") as producer:
        verdicts = producer.submit_many(tasks())
        heard = fake.all_heard()
    assert all(verdict.accepted for verdict in verdicts)
    again = [
        number for number, one in zip(taken_at, heard, strict=True) if one.ids[0] in {f"task-{n}" for n in range(100)}
    ]
    assert set(again) == {100}
    assert len(again) >= 4


def test_a_task_without_room_is_rejected_when_its_time_is_up() -> None:
    """With `on_full="wait"`, `timeout_s` bounds the wait of each task; then the last rejection is its verdict."""
    with FakeBroker(one_after_another(rejecting(retry_after=0.02))) as fake:
        with Producer(fake.endpoint, on_full="wait", timeout_s=0.3) as producer:
            verdicts = producer.submit_many(some_tasks(3))
        assert len(fake.all_heard()) >= 3
    assert [(type(verdict), verdict.id) for verdict in verdicts] == [(Rejected, f"task-{n}") for n in range(3)]


def test_rejections_are_final_at_once_unless_told_to_wait() -> None:
    """`on_full="reject"`: each task is submitted once."""
    with FakeBroker(one_after_another(rejecting())) as fake, Producer(fake.endpoint) as producer:
        assert not any(verdict.accepted for verdict in producer.submit_many(some_tasks(250)))
        assert sum(len(heard.ids) for heard in fake.all_heard()) == 250


def test_a_task_that_cannot_be_sent_stops_the_input_and_says_which() -> None:
    """What came before it is submitted, and its verdicts are in the error; what comes after is never taken."""
    tasks = some_tasks(120)
    unsendable = Task.of("noop", {"when": {1, 2}})
    source = iter([*tasks, unsendable, *some_tasks(5)])
    with FakeBroker(one_after_another(accepting)) as fake, Producer(fake.endpoint) as producer:
        with pytest.raises(BadTask, match=r"task number 120 .* args\[0\]\['when'\]: a set cannot be sent") as caught:
            producer.submit_many(source)
        assert [task_id for heard in fake.all_heard() for task_id in heard.ids] == [task.id for task in tasks]
    assert caught.value.verdicts == [Accepted(task.id) for task in tasks]
    assert caught.value.unknown_ids == ()
    assert len(list(source)) == 5


def test_a_task_that_is_too_large_stops_the_input_and_says_which() -> None:
    """The class tells it from other faults; the message, by how much."""
    tasks = [Task.of("noop"), Task.of("noop", "x" * 1_024)]
    with (
        FakeBroker(one_after_another(accepting), message_bytes=1_024) as fake,
        Producer(fake.endpoint) as producer,
        pytest.raises(TooLarge, match=r"task number 1 .* 1024") as caught,
    ):
        producer.submit_many(tasks)
    assert [verdict and verdict.accepted for verdict in caught.value.verdicts] == [True]


def test_when_replies_stop_coming_the_error_has_what_is_known() -> None:
    """Two requests are answered, the others never: their tasks are unknown, by id, and the first 200 are accepted."""
    behaviour = one_after_another(accepting, accepting, lose)
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, timeout_s=0.4, reply_timeout_s=0.1) as producer:
        with pytest.raises(NoReply) as caught:
            producer.submit_many(some_tasks(1_000))
        sent = {task_id for heard in fake.all_heard() for task_id in heard.ids}
    error = caught.value
    assert error.verdicts[:200] == [Accepted(f"task-{number}") for number in range(200)]
    assert set(error.verdicts[200:]) == {None}
    assert set(error.ids) == sent - {f"task-{number}" for number in range(200)}
    assert len(error.ids) == len(set(error.ids)) >= 100


def test_without_a_broker_a_batch_is_unreachable() -> None:
    """Nothing was sent, so nothing is unknown."""
    with Producer(free_endpoint(), timeout_s=0.2) as producer, pytest.raises(Unreachable) as caught:
        producer.submit_many(some_tasks(3))
    assert (caught.value.verdicts, caught.value.unknown_ids) == ([], ())


def test_tasks_that_were_taken_and_never_sent_are_not_unknown() -> None:
    """A producer that knows the limits already takes tasks before it finds that there is no broker any more."""
    with Producer(free_endpoint(), timeout_s=0.3) as producer:
        producer._dialogue._limits = Limits(message_bytes=65_536, tasks=1_000)
        with pytest.raises(Unreachable) as caught:
            producer.submit_many(some_tasks(3))
    assert caught.value.verdicts == [None] * 3
    assert caught.value.unknown_ids == ()


def test_a_bad_reply_ends_a_batch_with_what_is_known() -> None:
    """After garbage, nothing more is believed: what is in flight is unknown."""
    behaviour = one_after_another(accepting, lambda _: [b"\xc1"])
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint) as producer, pytest.raises(BadReply) as caught:
        producer.submit_many(some_tasks(300))
    assert caught.value.verdicts == [Accepted(f"task-{number}") for number in range(100)] + [None] * 200
    assert set(caught.value.unknown_ids) == {f"task-{number}" for number in range(100, 300)}


def test_a_refused_request_ends_a_batch_after_what_is_in_flight() -> None:
    """The refused tasks were not accepted, so they are not unknown; the other request in flight gets its verdicts."""
    behaviour = one_after_another(accepting, lambda heard: [refuse(heard, "malformed")], accepting)
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint) as producer, pytest.raises(RequestRefused) as caught:
        producer.submit_many(some_tasks(600))
    known = [f"task-{number}" for number in range(600) if number < 100 or 200 <= number < 300]
    assert [verdict.id for verdict in caught.value.verdicts if verdict is not None] == known
    assert caught.value.unknown_ids == ()


def test_a_fault_of_the_broker_in_a_batch_is_tried_again_and_unknown_at_last() -> None:
    """`internal_error` for a request, or for a task in it: submitted again until the deadline."""
    fails = rejecting(reason="internal_error", retry="now", retry_after=None)
    behaviour = one_after_another(lambda heard: [refuse(heard, "internal_error", "now")], fails, accepting)
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint) as producer:
        assert all(verdict.accepted for verdict in producer.submit_many(some_tasks(150)))
    with (
        FakeBroker(one_after_another(accepting, fails)) as fake,
        Producer(fake.endpoint, timeout_s=0.3) as producer,
        pytest.raises(NoReply, match="internal_error") as caught,
    ):
        producer.submit_many(some_tasks(150))
    assert [verdict is not None for verdict in caught.value.verdicts] == [True] * 100 + [False] * 50
    assert set(caught.value.ids) == {f"task-{number}" for number in range(100, 150)}


def submit_in_thread(endpoint: str, tasks: list[Task], on_verdict: Callable[[Verdict], None]) -> None:
    """With `Producer`."""
    with Producer(endpoint, on_full="wait", timeout_s=0.6, reply_timeout_s=0.6) as producer:
        producer.submit_many(tasks, on_verdict=on_verdict)


def submit_in_loop(endpoint: str, tasks: list[Task], on_verdict: Callable[[Verdict], None]) -> None:
    """With `AsyncProducer`."""

    async def use() -> None:
        async with AsyncProducer(endpoint, on_full="wait", timeout_s=0.6, reply_timeout_s=0.6) as producer:
            await producer.submit_many(tasks, on_verdict=on_verdict)

    asyncio.run(use())


@pytest.mark.parametrize("submit", [submit_in_thread, submit_in_loop])
def test_the_callback_hears_of_a_rejection_that_stands_because_the_batch_was_stopped(
    submit: Callable[[str, list[Task], Callable[[Verdict], None]], None],
) -> None:
    """The second task waits for room when the first one's reply is lost for good: it is not asked about again."""

    def turn_away(heard: Heard) -> Sequence[bytes]:
        verdict = {"verdict": "rejected", "reason": "full", "retry": "later"}
        times = zip(heard.ids, (0.01, 0.45), strict=True)
        return [reply(heard, verdicts=[{"id": one, **verdict, "retry_after": after} for one, after in times])]

    seen: list[Verdict] = []
    with FakeBroker(one_after_another(turn_away, lose)) as fake:
        with pytest.raises(NoReply) as caught:
            submit(fake.endpoint, some_tasks(2), seen.append)
        assert [heard.ids for heard in fake.all_heard()] == [["task-0", "task-1"], ["task-0"]]
    assert caught.value.ids == ("task-0",)
    assert [verdict.id for verdict in seen] == ["task-1"]
    assert caught.value.verdicts == [None, *seen]


def test_what_the_callback_raises_ends_the_call_and_not_the_producer() -> None:
    """The caller's own error comes out as it is; the connection it left in the middle is not used again."""

    def stop(_: Verdict) -> None:
        raise LookupError("enough")

    with FakeBroker(one_after_another(accepting)) as fake, Producer(fake.endpoint) as producer:
        with pytest.raises(LookupError, match="enough"):
            producer.submit_many(some_tasks(1_000), on_verdict=stop)
        assert producer.submit("noop").accepted


def test_what_an_interrupted_call_left_in_flight_is_never_sent_again() -> None:
    """The next call's reply is lost, and only its own request is sent again."""
    verdicts = 0

    def stop(_: Verdict) -> None:
        nonlocal verdicts
        verdicts += 1
        if verdicts > 100:  # the second request is answered, and the third is in flight
            raise LookupError("enough")

    behaviour = one_after_another(accepting, accepting, lose, lose, accepting)
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, timeout_s=WAIT_S, reply_timeout_s=0.2) as producer:
        with pytest.raises(LookupError, match="enough"):
            producer.submit_many(some_tasks(300), on_verdict=stop)
        assert [len(fake.next_heard().ids) for _ in range(3)] == [100, 100, 100]
        task = Task.of("noop")
        assert producer.submit(task).accepted
        assert [heard.ids for heard in fake.all_heard()] == [[task.id]] * 2


def test_closing_ends_a_batch_of_another_thread_with_what_is_known() -> None:
    """The verdicts that were there are in the error; what was in flight is unknown."""
    raised: list[BaseException] = []
    with FakeBroker(one_after_another(accepting, lose)) as fake:
        producer = Producer(fake.endpoint, timeout_s=600, reply_timeout_s=600)
        thread = raised_by(lambda: producer.submit_many(some_tasks(150)), raised)
        assert [len(fake.next_heard().ids) for _ in range(2)] == [100, 50]
        producer.close()
        thread.join(WAIT_S)
    (error,) = raised
    assert isinstance(error, NoReply)
    assert [verdict is not None for verdict in error.verdicts] == [True] * 100 + [False] * 50
    assert set(error.ids) == {f"task-{number}" for number in range(100, 150)}


def test_replies_that_came_while_the_input_was_slow_are_not_lost() -> None:
    """The next task takes longer than any time limit: replies that lie there meanwhile count, nothing is resent."""
    answered = threading.Semaphore(0)

    def behave(fake: FakeBroker, heard: Heard) -> Sequence[bytes]:
        fake.send(heard, accept(heard))
        answered.release()
        return []

    def tasks() -> Iterator[Task]:
        for number, task in enumerate(some_tasks(301)):
            if number == 300:  # the second and the third request are in flight: the window is two by now
                for _ in range(3):
                    assert answered.acquire(timeout=WAIT_S)
                time.sleep(0.5)  # not to wait for something, but to be slow
            yield task

    with FakeBroker(behave) as fake, Producer(fake.endpoint, timeout_s=0.2, reply_timeout_s=0.1) as producer:
        assert all(verdict.accepted for verdict in producer.submit_many(tasks()))
        assert sum(len(heard.ids) for heard in fake.all_heard()) == 301
