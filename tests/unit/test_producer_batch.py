"""What a batch asks, and when; what it makes of any answers. Pure: a broker of a few lines, a clock moved by hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol import MAX_IN_FLIGHT
from producer import Accepted, BadTask, Limits, NoReply, Rejected, Task, TooLarge, Unreachable, Verdict
from producer.batch import Batch
from producer.dialogue import Answer, Dialogue, Unanswered
from producer.policy import Policy
from producer.replies import Resent
from tests.clock import HandClock

ROUND_TRIP_S = 0.001


def batch_of(tasks: Iterable[Task], clock: HandClock, **changes: Any) -> Batch:
    """A batch whose time is moved by hand."""
    settings = {"on_full": "wait", "timeout_s": 5.0, "reply_timeout_s": 1.0, **changes}
    dialogue = Dialogue("tcp://127.0.0.1:1", Policy(**settings), clock.monotonic, lambda: 0.0)
    return Batch(tasks, dialogue, Limits(message_bytes=65_536, tasks=1_000))


def ids_in(request: bytes) -> list[str]:
    """The tasks that a request submits."""
    return [msgpack.unpackb(wire)["id"] for wire in msgpack.unpackb(request)["tasks"]]


def accepted(ids: list[str]) -> dict[str, Any]:
    """All of them."""
    return {"v": 1, "verdicts": [{"id": task_id, "verdict": "accepted"} for task_id in ids]}


def rejected(ids: list[str], *after: float, reason: str = "full") -> dict[str, Any]:
    """All of them, each for a time of its own; the last time stands for the rest."""
    times = [*after, *[after[-1]] * len(ids)]
    verdict = {"verdict": "rejected", "reason": reason, "retry": "later"}
    return {"v": 1, "verdicts": [{"id": one, **verdict, "retry_after": times[n]} for n, one in enumerate(ids)]}


def tasks_named(*names: str) -> list[Task]:
    """Tasks with these ids."""
    return [Task("noop", id=name) for name in names]


def test_the_window_opens_while_all_is_accepted_and_closes_at_a_rejection() -> None:
    """1, 2, 4, 8 requests in flight, and no more; after a rejection one, until nothing waits any more."""
    clock = HandClock()
    batch = batch_of([Task("noop", id=f"t{number}") for number in range(6_000)], clock)

    def asks() -> list[tuple[int, list[str]]]:
        asked = []
        while (ask := batch.next_ask()) is not None:
            asked.append((ask.request.tag, ids_in(ask.request.data)))
        return asked

    flying = asks()
    for expected in (1, 2, 4, MAX_IN_FLIGHT, MAX_IN_FLIGHT):
        assert len(flying) == expected
        for tag, ids in flying:
            batch.answered(tag, accepted(ids))
        flying = asks()
    (tag, ids), *others = flying
    assert batch.answered(tag, rejected(ids, 2.0)) == []
    for other_tag, other_ids in others:
        batch.answered(other_tag, accepted(other_ids))
    assert asks() == []  # nothing new while they wait
    assert batch.wake_at == clock.monotonic() + 2.0
    clock.advance(2.0)
    ((tag, again),) = asks()
    assert again == ids
    batch.answered(tag, accepted(again))
    assert len(asks()) == 2


def test_each_task_comes_back_at_its_own_moment() -> None:
    """Three appointments: three requests, each with the tasks that are due, in the order of the input."""
    clock = HandClock()
    batch = batch_of(tasks_named("a", "b", "c", "d"), clock)
    first = batch.next_ask()
    assert first is not None
    batch.answered(first.request.tag, rejected(["a", "b", "c", "d"], 0.3, 0.1, 0.2, 0.1))
    came: list[list[str]] = []
    for _ in range(3):
        clock.advance(batch.wake_at - clock.monotonic())
        ask = batch.next_ask()
        assert ask is not None
        came.append(ids_in(ask.request.data))
        batch.answered(ask.request.tag, accepted(came[-1]))
    assert came == [["b", "d"], ["c"], ["a"]]
    assert [verdict.id for verdict in batch.result()] == ["a", "b", "c", "d"]


def test_a_wait_is_bounded_for_each_task_from_when_it_was_first_sent() -> None:
    """A task that was taken later may wait longer than one that was taken first."""
    clock = HandClock()
    tasks = [Task("noop", id=f"t{number}") for number in range(101)]
    batch = batch_of(tasks, clock, timeout_s=5.0)
    ask = batch.next_ask()
    assert ask is not None
    first_ids = ids_in(ask.request.data)
    batch.answered(ask.request.tag, rejected(first_ids, 4.0))
    clock.advance(4.0)
    ask = batch.next_ask()
    assert ask is not None
    settled = batch.answered(ask.request.tag, rejected(first_ids, 4.0))  # at 8, when 5 are over
    assert [verdict.id for verdict in settled] == first_ids
    ask = batch.next_ask()
    assert ask is not None
    assert ids_in(ask.request.data) == ["t100"]
    assert batch.answered(ask.request.tag, rejected(["t100"], 4.0)) == []  # it has until 9, and comes back at 8
    clock.advance(4.0)
    ask = batch.next_ask()
    assert ask is not None
    batch.answered(ask.request.tag, accepted(["t100"]))
    verdicts = batch.result()
    assert [type(verdict) for verdict in verdicts] == [Rejected] * 100 + [Accepted]


def test_silence_is_noticed_at_the_requests_deadline() -> None:
    """`wake_at` says when to look; `overdue` names the request; its tasks are unknown."""
    clock = HandClock()
    batch = batch_of(tasks_named("a"), clock, timeout_s=5.0)
    ask = batch.next_ask()
    assert ask is not None
    assert batch.overdue() == []
    clock.advance(batch.wake_at - clock.monotonic())
    assert batch.overdue() == [ask.request.tag]
    batch.answered(ask.request.tag, Unanswered.LOST)
    assert batch.is_over
    with pytest.raises(NoReply) as caught:
        batch.result()
    assert (caught.value.ids, caught.value.verdicts) == (("a",), [None])


def test_when_the_broker_is_gone_what_waits_for_room_keeps_its_rejection() -> None:
    """Rejected is known: such tasks are not unknown, nor without a verdict."""
    clock = HandClock()
    batch = batch_of(tasks_named("a", "b"), clock)
    ask = batch.next_ask()
    assert ask is not None
    batch.answered(ask.request.tag, rejected(["a", "b"], 1.0, 2.0))
    clock.advance(1.0)
    ask = batch.next_ask()
    assert ask is not None
    batch.answered(ask.request.tag, Unanswered.NEVER_SENT)
    with pytest.raises(Unreachable) as caught:
        batch.result()
    first, second = caught.value.verdicts
    assert first is None  # its last word was "not now", and then there was no way to ask
    assert isinstance(second, Rejected)
    assert batch.left == [second]  # no answer settled it
    assert caught.value.unknown_ids == ()


def test_a_rejection_after_a_resend_stops_the_batch_and_leaves_its_tasks_unknown() -> None:
    """An earlier copy got no verdict. The other task of the request is accepted, and the one before stays rejected."""
    clock = HandClock()
    batch = batch_of([Task("noop", id=f"t{number}") for number in range(300)], clock, on_full="reject")
    first = batch.next_ask()
    assert first is not None
    ids = ids_in(first.request.data)
    batch.answered(first.request.tag, rejected(ids, 1.0))
    second, third = batch.next_ask(), batch.next_ask()
    assert second is not None
    assert third is not None
    again = ids_in(second.request.data)
    mixed = [*accepted(again[:1])["verdicts"], *rejected(again[1:], 1.0)["verdicts"]]
    settled = batch.answered(second.request.tag, Resent(v=1, verdicts=mixed))
    assert settled == [Accepted(again[0])]
    assert batch.next_ask() is None
    batch.answered(third.request.tag, Resent(accepted(ids_in(third.request.data))))
    assert batch.is_over
    with pytest.raises(NoReply, match=r"full.*99 tasks are held is unknown") as caught:
        batch.result()
    assert caught.value.ids == tuple(again[1:])
    said = [verdict and verdict.accepted for verdict in caught.value.verdicts]
    assert said == [False] * 100 + [True] + [None] * 99 + [True] * 100


@pytest.mark.parametrize("is_duplicate", [False, True])
def test_a_copy_that_is_accepted_ends_the_doubt(is_duplicate: bool) -> None:
    """Rejected after a resend, and come back: the stray copy was accepted meanwhile, or this one is."""
    clock = HandClock()
    batch = batch_of(tasks_named("a"), clock)
    first = batch.next_ask()
    assert first is not None
    assert batch.answered(first.request.tag, Resent(rejected(["a"], 1.0))) == []
    clock.advance(1.0)
    second = batch.next_ask()
    assert second is not None
    fields = {"duplicate": True, "state": "running"} if is_duplicate else {}
    batch.answered(second.request.tag, {"v": 1, "verdicts": [{"id": "a", "verdict": "accepted", **fields}]})
    assert batch.next_ask() is None
    assert batch.result() == [Accepted("a", is_duplicate, "running" if is_duplicate else None)]


def test_what_is_no_task_shifts_no_verdict() -> None:
    """None is no end of the input: it is named, by its number, and what stood before it keeps its place."""
    tasks: list[Any] = [*tasks_named("a", "b"), None, *tasks_named("d")]
    batch = batch_of(tasks, HandClock())
    ask = batch.next_ask()
    assert ask is not None
    assert ids_in(ask.request.data) == ["a", "b"]
    batch.answered(ask.request.tag, accepted(["a", "b"]))
    assert batch.is_over
    with pytest.raises(BadTask, match=r"^task number 2 \(from 0\) of the batch: a NoneType is no Task") as caught:
        batch.result()
    assert caught.value.verdicts == [Accepted("a"), Accepted("b")]


def test_a_task_that_the_input_cannot_make_stops_the_batch_as_one_that_cannot_be_sent() -> None:
    """What is in flight is still waited for, and known."""

    def tasks() -> Iterator[Task]:
        yield Task("noop", id="a")
        yield Task.of(print)

    batch = batch_of(tasks(), HandClock())
    ask = batch.next_ask()
    assert ask is not None
    batch.answered(ask.request.tag, Unanswered.LOST)
    with pytest.raises(BadTask, match=r"^task number 1 \(from 0\) of the batch: print is no task function") as caught:
        batch.result()
    assert (caught.value.verdicts, caught.value.unknown_ids) == ([None], ("a",))


def test_a_wait_for_room_begins_when_a_request_is_full_however_slow_the_input() -> None:
    """The first task of a request was read a minute ago: it was not offered, and so not turned away, before now."""
    clock = HandClock()

    def tasks() -> Iterator[Task]:
        for task in tasks_named("a", "b"):
            clock.advance(30.0)
            yield task

    batch = batch_of(tasks(), clock, timeout_s=5.0)
    ask = batch.next_ask()
    assert ask is not None
    assert ask.until == clock.monotonic() + 5.0
    assert batch.answered(ask.request.tag, rejected(["a", "b"], 1.0)) == []
    clock.advance(1.0)
    ask = batch.next_ask()
    assert ask is not None
    batch.answered(ask.request.tag, accepted(["a", "b"]))
    assert [verdict.accepted for verdict in batch.result()] == [True, True]


def test_a_task_that_is_too_large_makes_the_next_call_ask_for_the_limits() -> None:
    """By then there may be a broker that reads more."""
    batch = batch_of([Task("noop", ("x" * 70_000,))], HandClock())
    batch._dialogue._limits = batch._limits
    assert batch.next_ask() is None
    with pytest.raises(TooLarge):
        batch.result()
    assert batch._dialogue._limits is None


REFUSED = {"v": 1, "error": {"reason": "too_large", "retry": "never", "detail": ""}}


@pytest.mark.parametrize("last", [Unanswered.NEVER_SENT, REFUSED, Resent(REFUSED), rejected(["a"], 60.0)])
def test_what_comes_after_a_resend_that_was_rejected_does_not_make_it_certain(last: Answer) -> None:
    """The earlier copies still got no verdict, so both tasks are unknown: the one that asks, and the one that waits."""
    clock = HandClock()
    batch = batch_of(tasks_named("a", "b"), clock)
    first = batch.next_ask()
    assert first is not None
    batch.answered(first.request.tag, Resent(rejected(["a", "b"], 1.0, 2.0)))
    clock.advance(1.0)
    second = batch.next_ask()
    assert second is not None
    assert ids_in(second.request.data) == ["a"]
    assert batch.answered(second.request.tag, last) == []
    with pytest.raises(NoReply) as caught:
        batch.result()
    assert (caught.value.ids, caught.value.verdicts) == (("a", "b"), [None, None])


@dataclass
class PureBroker:
    """Answers requests as dice fall: it accepts, rejects, fails, loses requests and replies, reads some late."""

    dice: random.Random
    clock: HandClock
    capacity: int
    held: set[str] = field(default_factory=set)
    told: dict[str, float] = field(default_factory=dict)  # id → not before
    submits: Counter[str] = field(default_factory=Counter)
    strays: list[bytes] = field(default_factory=list)  # requests that it has not read yet; nobody waits for the reply

    def answer(self, request: bytes) -> dict[str, Any] | None:
        """None: no reply."""
        if self.strays and self.dice.random() < 0.3:
            self.read_stray()
        if self.dice.random() < 0.1:
            if self.dice.random() < 0.5:
                self.strays.append(request)
            return None
        if self.dice.random() < 0.05:
            return {"v": 1, "error": {"reason": "internal_error", "retry": "now", "detail": ""}}
        reply = {"v": 1, "verdicts": [self.judge(task_id) for task_id in ids_in(request)]}
        return reply if self.dice.random() < 0.95 else None

    def read_stray(self) -> None:
        """Take the tasks of one that there is room for by now. Nobody hears of it."""
        for task_id in ids_in(self.strays.pop()):
            if len(self.held) < self.capacity:
                self.held.add(task_id)

    def judge(self, task_id: str) -> dict[str, Any]:
        """The verdict on one task. A task that comes back before it was told to is a fault of the batch."""
        self.submits[task_id] += 1
        assert self.clock.monotonic() >= self.told.pop(task_id, 0.0)
        if task_id in self.held:
            return {"id": task_id, "verdict": "accepted", "duplicate": True, "state": "ready"}
        if self.dice.random() < 0.1:
            return {"id": task_id, "verdict": "rejected", "reason": "bad_arguments", "retry": "never"}
        if len(self.held) >= self.capacity:
            after = self.dice.uniform(0.001, 0.5)
            self.told[task_id] = self.clock.monotonic() + after
            return {"id": task_id, "verdict": "rejected", "reason": "full", "retry": "later", "retry_after": after}
        self.held.add(task_id)
        return {"id": task_id, "verdict": "accepted"}


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32), count=st.integers(0, 700), capacity=st.integers(0, 800), waits=st.booleans(),
    sizes=st.sampled_from([(0, 10), (0, 3_000), (30_000, 65_000)]),
)  # fmt: skip
def test_whatever_the_broker_does_each_task_gets_one_true_verdict(
    seed: int, count: int, capacity: int, waits: bool, sizes: tuple[int, int]
) -> None:
    """Verdicts in order, one each; what is accepted is held, what is rejected is not; the rest is named as unknown."""
    dice, clock = random.Random(seed), HandClock()
    broker = PureBroker(dice, clock, capacity)
    count = min(count, 40) if sizes[1] > 10_000 else count
    tasks = [Task("noop", (bytes(dice.randint(*sizes)),), id=f"t{number}") for number in range(count)]
    batch = batch_of(tasks, clock, on_full="wait" if waits else "reject", timeout_s=2.0, reply_timeout_s=0.5)
    flying: dict[int, bytes] = {}
    resent: set[int] = set()
    settled: list[Verdict] = []
    for _ in range(100_000):
        while (ask := batch.next_ask()) is not None:
            assert len(ask.request.data) <= 65_536
            flying[ask.request.tag] = ask.request.data
        assert len(flying) <= MAX_IN_FLIGHT
        if batch.is_over:
            break
        assert batch.wake_at >= clock.monotonic()
        tag = next(iter(flying), None)  # a REP socket answers in order
        reply = None if tag is None else broker.answer(flying[tag])
        if tag is not None and reply is not None:
            clock.advance(ROUND_TRIP_S)
            del flying[tag]
            settled += batch.answered(tag, Resent(reply) if tag in resent else reply)
        elif tag is not None and dice.random() < 0.9:
            clock.advance(0.5)  # no reply: the channel sends the same bytes again
            resent |= {*flying}
            broker.capacity += dice.choice((0, 50))  # meanwhile some of the tasks have run
        else:
            clock.advance(max(0.0, batch.wake_at - clock.monotonic()))
        for overdue in batch.overdue():
            del flying[overdue]
            assert batch.answered(overdue, Unanswered.LOST) == []
    else:
        pytest.fail("the batch did not end")
    while broker.strays:
        broker.capacity += 100
        broker.read_stray()
    try:
        verdicts: list[Verdict | None] = list(batch.result())
        assert len(verdicts) == len(tasks)
        unknown: set[str] = set()
    except NoReply as error:
        verdicts, unknown = error.verdicts, set(error.unknown_ids)
        assert unknown
    for task, verdict in zip(tasks, verdicts, strict=False):
        if verdict is None:
            assert task.id in unknown or not broker.submits[task.id]  # taken from the input, and never sent
            continue
        assert task.id not in unknown
        assert verdict.id == task.id
        assert verdict.accepted == (task.id in broker.held)
    known = [verdict for verdict in verdicts if verdict is not None]
    settled += batch.left
    assert {verdict.id for verdict in settled} == {verdict.id for verdict in known}
    assert len(settled) == len({verdict.id for verdict in settled})
    assert broker.held <= {verdict.id for verdict in known if verdict.accepted} | unknown
