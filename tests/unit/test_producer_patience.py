"""When a producer comes back: never earlier than asked, never after its deadline. Time is moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer import Accepted, BadReply, NoReply, Reason, Rejected, RequestRefused, Retry, Task, Unreachable
from producer.dialogue import Answer, Ask, Dialogue, Pause, Step, Unanswered
from producer.endpoint import Endpoint
from producer.errors import BadEndpoint, ProducerClosed
from producer.patience import at_once_s, next_try
from producer.policy import Policy
from producer.replies import Resent
from tests.clock import HandClock

FULL = Rejected("x", Reason.FULL, Retry.LATER, 2.0, "")


@given(
    after=st.floats(1e-3, 1e3),
    jitter=st.floats(0, 1),
    now=st.floats(0, 1e6),
    left=st.floats(0, 1e3),
    wait=st.booleans(),
)
def test_never_earlier_than_asked_and_never_after_the_deadline(
    after: float, jitter: float, now: float, left: float, wait: bool
) -> None:
    """A try, if there is one, is `retry_after` to 1.2 times that from now, and not after the deadline."""
    rejected = Rejected("x", Reason.FULL, Retry.LATER, after, "")
    moment = next_try(rejected, now, now + left, tried_s=0.0, jitter=jitter, wait=wait)
    if moment is None:
        assert not wait or now + after * (1 + 0.2 * jitter) > now + left
    else:
        assert wait
        assert now + after <= moment <= now + left
        assert moment - now <= after * 1.2 * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(
    ("rejected", "wait", "moment"),
    [
        (FULL, True, 102.0),
        (FULL, False, None),
        (Rejected("x", Reason.DRAINING, Retry.LATER, 2.0, ""), True, 102.0),
        (Rejected("x", "busy", Retry.LATER, 2.0, ""), True, 102.0),
        (Rejected("x", "busy", Retry.NOW, None, ""), True, 100.3),
        (Rejected("x", "busy", Retry.NOW, None, ""), False, None),
        (Rejected("x", Reason.UNKNOWN_TASK, Retry.NEVER, None, ""), True, None),
        (Rejected("x", Reason.INTERNAL_ERROR, Retry.NOW, None, ""), False, 100.3),
        (Rejected("x", Reason.INTERNAL_ERROR, Retry.NEVER, None, ""), True, 100.3),
    ],
)
def test_what_is_tried_again(rejected: Rejected, wait: bool, moment: float | None) -> None:
    """What is rejected for now, if the producer waits; and what is unknown, in any case."""
    assert next_try(rejected, 100.0, 200.0, tried_s=0.3, jitter=0.0, wait=wait) == moment


def test_at_once_is_soon_at_first_and_a_second_apart_in_the_end() -> None:
    """A broker that fails every time is asked 8 times in the first 1.3 seconds, and at last once a second."""
    tries = [0.0]
    while tries[-1] < 10:
        tries.append(tries[-1] + at_once_s(tries[-1]))
    assert tries[:8] == pytest.approx([0, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28])
    assert [later - earlier for earlier, later in pairwise(tries[7:])] == pytest.approx([1.0] * (len(tries) - 8))


@pytest.mark.parametrize("name", ["timeout_s", "reply_timeout_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_times_that_cannot_be(name: str, value: float) -> None:
    """The message names the setting, its value and what is allowed."""
    values = {"timeout_s": 1.0, "reply_timeout_s": 1.0, name: value}
    with pytest.raises(ValueError, match=f"{name} is a number of seconds above 0, not {value!r}"):
        Policy("wait", **values)


def test_on_full_is_one_of_two_words() -> None:
    """Anything else is told apart at once, not at the first full queue."""
    with pytest.raises(ValueError, match="'reject' or 'wait', not 'block'"):
        Policy("block", 1.0, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://127.0.0.1:5555",
        "tcp://localhost:1",
        "tcp://broker.example:65535",
        "tcp://[::1]:5555",
        "ipc:///run/t/door",
    ],
)
def test_endpoints_that_can_be(endpoint: str) -> None:
    """An address with a port, or a path."""
    Endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "127.0.0.1:5555", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:*",
        "tcp://:5555", "udp://127.0.0.1:5555", "inproc://x", "ipc://", "ipc://a\0b", "tcp://127.0.0.1:5555 ", "tcp://a;b:1",
    ],
)  # fmt: skip
def test_endpoints_that_cannot_be(endpoint: str) -> None:
    """ZeroMQ would take some of them, and connect to who knows what."""
    with pytest.raises(BadEndpoint, match="tcp://HOST:PORT"):
        Endpoint(endpoint)


class Conversation:
    """Takes the steps of a talk by hand: each ask is answered from a list, each pause moves the clock."""

    def __init__(self, on_full: Any = "wait", timeout_s: float = 10.0, reply_timeout_s: float = 1.0) -> None:
        self.clock = HandClock()
        policy = Policy(on_full, timeout_s, reply_timeout_s)
        self.dialogue = Dialogue("tcp://127.0.0.1:1", policy, self.clock.monotonic, lambda: 0.5)
        self.asked: list[dict[str, Any]] = []
        self.untils: list[float] = []
        self.pauses: list[float] = []

    def hold(self, talk: Generator[Step, Answer, Any], *answers: Callable[[dict[str, Any]], Answer]) -> Any:
        """What the talk comes to, when its asks are answered so."""
        waiting = iter(answers)
        try:
            step = next(talk)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.clock.advance(step.seconds)
                    step = talk.send({})
                    continue
                assert isinstance(step, Ask)
                self.asked.append(msgpack.unpackb(step.request.data))
                self.untils.append(step.until - self.clock.monotonic())
                step = talk.send(next(waiting)(self.asked[-1]))
        except StopIteration as end:
            assert next(waiting, None) is None, "it ended before all was said"
            return end.value


def pong(_: dict[str, Any]) -> Answer:
    """Who is there, and what it reads."""
    limits = {"message_bytes": 1_024, "tasks": 1_000}
    return {"v": 1, "server": "x", "phase": "serving", "limits": limits}


def accepted(request: dict[str, Any]) -> Answer:
    """Yes."""
    return {"v": 1, "verdicts": [{"id": msgpack.unpackb(request["tasks"][0])["id"], "verdict": "accepted"}]}


def full(retry_after: float) -> Callable[[dict[str, Any]], Answer]:
    """Not now."""
    verdict = {"verdict": "rejected", "reason": "full", "retry": "later", "retry_after": retry_after}
    return lambda request: {"v": 1, "verdicts": [{"id": msgpack.unpackb(request["tasks"][0])["id"], **verdict}]}


def failing(_: dict[str, Any]) -> Answer:
    """A fault of the broker."""
    return {"v": 1, "error": {"reason": "internal_error", "retry": "now", "detail": ""}}


def rejected(reason: str) -> Callable[[dict[str, Any]], Answer]:
    """No, for good."""
    verdict = {"verdict": "rejected", "reason": reason, "retry": "never"}
    return lambda request: {"v": 1, "verdicts": [{"id": msgpack.unpackb(request["tasks"][0])["id"], **verdict}]}


def refused(_: dict[str, Any]) -> Answer:
    """Not such a request."""
    return {"v": 1, "error": {"reason": "too_large", "retry": "never", "detail": ""}}


def resent(reply: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Answer]:
    """This, to a copy that was sent when an earlier one got no reply."""
    return lambda request: Resent(reply(request))


def lost(_: dict[str, Any]) -> Answer:
    """Sent, and nothing came back."""
    return Unanswered.LOST


def never_sent(_: dict[str, Any]) -> Answer:
    """No connection."""
    return Unanswered.NEVER_SENT


def test_a_full_queue_is_asked_again_when_it_said_with_the_same_bytes() -> None:
    """Half the jitter: a tenth later than asked. The tag and the task stay as they are."""
    talks = Conversation()
    task = Task.of("noop")
    assert talks.hold(talks.dialogue.submit(task), pong, full(1.0), full(2.0), accepted) == Accepted(task.id)
    assert talks.pauses == pytest.approx([1.1, 2.2])
    assert talks.asked[1] == talks.asked[2] == talks.asked[3]


def test_the_last_try_before_the_deadline_still_gets_its_time() -> None:
    """Tried 0.1 s before the deadline: the reply is waited for as long as any other's, not for 0.1 s."""
    talks = Conversation(timeout_s=10.0, reply_timeout_s=1.0)
    verdict = talks.hold(talks.dialogue.submit(Task.of("noop")), pong, full(9.0), full(0.001), full(0.5))
    assert isinstance(verdict, Rejected)
    assert verdict.retry_after == 0.5
    assert talks.untils[1:] == pytest.approx([10.0, 1.0, 1.0])
    assert sum(talks.pauses) <= 10.0


def test_a_try_never_waits_longer_than_the_whole_call_may() -> None:
    """A `reply_timeout_s` above `timeout_s` would make the last try the longest."""
    assert Policy("wait", timeout_s=0.5, reply_timeout_s=3.0).try_s == 0.5


def test_a_wait_that_would_end_after_the_deadline_is_not_begun() -> None:
    """The rejection is returned at once."""
    talks = Conversation(timeout_s=10.0)
    verdict = talks.hold(talks.dialogue.submit(Task.of("noop")), pong, full(9.5))
    assert isinstance(verdict, Rejected)
    assert talks.pauses == []


def test_what_is_known_after_a_rejection_and_silence() -> None:
    """Rejected, tried again, no reply: unknown. Rejected, tried again, no connection: certainly not accepted."""
    for last, error in ((lost, NoReply), (never_sent, Unreachable)):
        talks = Conversation()
        task = Task.of("noop")
        with pytest.raises(error) as caught:
            talks.hold(talks.dialogue.submit(task), pong, full(1.0), last)
        assert caught.value.unknown_ids == ((task.id,) if error is NoReply else ())


def test_silence_at_the_first_ping_means_that_nothing_was_submitted() -> None:
    """Whether the ping was sent or not."""
    for first in (lost, never_sent):
        talks = Conversation()
        with pytest.raises(Unreachable) as caught:
            talks.hold(talks.dialogue.submit(Task.of("noop")), first)
        assert "nothing was" in str(caught.value)
        assert caught.value.unknown_ids == ()


def test_silence_at_a_question_is_no_reply_and_nothing_is_unknown() -> None:
    """Questions submit nothing."""
    talks = Conversation()
    for ask in (talks.dialogue.ping(), talks.dialogue.stats(), talks.dialogue.status("x"), talks.dialogue.dead(1, 0)):
        with pytest.raises(NoReply) as caught:
            talks.hold(ask, lost)
        assert caught.value.ids == ()


def test_a_broker_that_fails_is_asked_again_until_the_deadline() -> None:
    """At short intervals, not as fast as it can; then the outcome is unknown."""
    talks = Conversation(timeout_s=0.1)
    task = Task.of("noop")
    with pytest.raises(NoReply, match="internal_error") as caught:
        talks.hold(talks.dialogue.submit(task), pong, *[failing] * 4)
    assert caught.value.ids == (task.id,)
    assert talks.pauses == pytest.approx([0.022, 0.0242, 0.05082])  # half the jitter each


def test_a_broker_that_fails_once_is_asked_again() -> None:
    """Also at the ping."""
    talks = Conversation()
    task = Task.of("noop")
    assert talks.hold(talks.dialogue.submit(task), failing, pong, failing, accepted) == Accepted(task.id)


def test_a_slow_answer_to_the_first_ping_takes_nothing_from_the_reply_to_the_task() -> None:
    """It is given the time of any try."""

    def slow_pong(request: dict[str, Any]) -> Answer:
        talks.clock.advance(9.9)
        return pong(request)

    talks = Conversation(timeout_s=10.0, reply_timeout_s=1.0)
    talks.hold(talks.dialogue.submit(Task.of("noop")), slow_pong, accepted)
    assert talks.untils == pytest.approx([10.0, 1.0])


def test_a_reply_that_is_none_leaves_the_task_unknown() -> None:
    """Whether the channel or the decoding finds out."""
    talks = Conversation()
    task = Task.of("noop")
    with pytest.raises(BadReply) as caught:
        talks.hold(talks.dialogue.submit(task), pong, lambda _: {"v": 1, "verdicts": [{"verdict": "perhaps"}]})
    assert caught.value.unknown_ids == (task.id,)
    talk = talks.dialogue.submit(task)
    next(talk)
    with pytest.raises(BadReply) as caught:
        talk.throw(BadReply("garbage"))
    assert caught.value.unknown_ids == (task.id,)


def test_a_refusal_is_raised_with_its_reason() -> None:
    """And nothing is unknown: the request as such was not taken."""
    talks = Conversation()
    error = {"reason": "unknown_request", "retry": "never", "detail": "no op 'ping'"}
    with pytest.raises(RequestRefused, match="no op 'ping'") as caught:
        talks.hold(talks.dialogue.submit(Task.of("noop")), lambda _: {"v": 1, "error": error})
    assert (caught.value.reason, caught.value.unknown_ids) == (Reason.UNKNOWN_REQUEST, ())


@pytest.mark.parametrize(
    "answers",
    [
        [resent(full(9.5))],
        [resent(rejected("unknown_task"))],
        [resent(rejected("duplicate_conflict"))],
        [resent(refused)],
        [resent(full(1.0)), full(9.5)],
        [resent(full(1.0)), rejected("unknown_task")],
        [resent(full(1.0)), refused],
        [resent(full(1.0)), never_sent],
        [resent(failing), full(9.5)],
        [failing, rejected("unknown_task")],
        [failing, never_sent],
    ],
)
def test_a_task_is_unknown_as_long_as_a_copy_got_no_verdict(answers: list[Callable[[dict[str, Any]], Answer]]) -> None:
    """Whatever is said of the others, and why: the one copy may be held, or be read yet, by this broker or another."""
    talks = Conversation(timeout_s=10.0)
    task = Task.of("noop")
    with pytest.raises(NoReply, match=f"task {task.id} is held is unknown") as caught:
        talks.hold(talks.dialogue.submit(task), pong, *answers)
    assert caught.value.ids == (task.id,)
    assert "nothing was" not in str(caught.value)


@pytest.mark.parametrize("first", [resent(full(1.0)), resent(failing), failing])
@pytest.mark.parametrize("again", [False, True])
def test_a_copy_that_is_accepted_ends_the_doubt(first: Callable[[dict[str, Any]], Answer], again: bool) -> None:
    """Also when it is the copy without a verdict that was: the next one is its duplicate."""
    talks = Conversation()
    task = Task.of("noop")
    fields = {"duplicate": True, "state": "running"} if again else {}
    verdict = {"id": task.id, "verdict": "accepted", **fields}
    answer = talks.hold(talks.dialogue.submit(task), pong, first, lambda _: {"v": 1, "verdicts": [verdict]})
    assert answer == Accepted(task.id, again, "running" if again else None)


def test_closing_while_a_task_waits_for_room_leaves_it_unknown_only_if_a_copy_got_no_verdict() -> None:
    """A rejection of every copy is certain, and closing the producer does not make it less so."""
    for answer, error in ((full(1.0), ProducerClosed), (resent(full(1.0)), NoReply)):
        talks = Conversation()
        talks.hold(talks.dialogue.submit(Task.of("noop")), pong, accepted)
        task = Task.of("noop")
        talk = talks.dialogue.submit(task)
        step = next(talk)
        assert isinstance(step, Ask)
        assert isinstance(talk.send(answer(msgpack.unpackb(step.request.data))), Pause)
        with pytest.raises(error) as caught:
            talk.throw(ProducerClosed("closed"))
        assert caught.value.unknown_ids == ((task.id,) if error is NoReply else ())
