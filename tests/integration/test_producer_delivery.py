"""One task on its way: lost, late and bad replies, a full queue, no broker. Real sockets, a misbehaving broker."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest
import zmq

from producer import (
    Accepted,
    BadReply,
    Limits,
    NoReply,
    Producer,
    Reason,
    Rejected,
    RequestRefused,
    Retry,
    Task,
    TooLarge,
    Unreachable,
)
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


def accepting(heard: Heard) -> Sequence[bytes]:
    """Accept all."""
    return [accept(heard)]


def rejecting(**fields: Any) -> Callable[[Heard], Sequence[bytes]]:
    """Reject all."""
    return lambda heard: [reject(heard, **fields)]


def free_endpoint() -> str:
    """Where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def raised_by(call: Callable[[], object], raised: list[BaseException]) -> threading.Thread:
    """A thread, started, that makes this call; what that raises goes into the list."""

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_row_6_no_broker_is_an_error_by_the_deadline_and_no_ghost_comes_later() -> None:
    """Without a broker, submitting fails as `Unreachable`; a broker that comes up afterwards gets nothing of it."""
    endpoint = free_endpoint()
    task = Task.of("noop")
    with zmq.Context() as context, context.socket(zmq.DEALER) as ghost, Producer(endpoint, timeout_s=0.3) as producer:
        # What a socket with default options does: it keeps the request, and delivers it when it can.
        ghost.linger = 0
        ghost.connect(endpoint)
        wire = msgpack.packb({"id": "ghost", "name": "noop"})
        ghost.send_multipart([b"", msgpack.packb({"v": 1, "op": "submit", "tasks": [wire]})])
        began = time.monotonic()
        with pytest.raises(Unreachable, match=endpoint) as caught:
            producer.submit(task)
        assert 0.3 <= time.monotonic() - began < 5
        assert caught.value.unknown_ids == ()
        with FakeBroker(one_after_another(accepting), endpoint) as fake:
            assert fake.next_heard().ids == ["ghost"]
            assert producer.submit("noop").accepted
            assert task.id not in [task_id for heard in fake.all_heard() for task_id in heard.ids]


def test_a_task_that_was_never_sent_is_not_unknown() -> None:
    """Also when the producer knows the limits, and submits at once: nothing is queued."""
    with Producer(free_endpoint(), timeout_s=0.3) as producer:
        producer._dialogue._limits = Limits(message_bytes=65_536, tasks=1_000)
        with pytest.raises(Unreachable) as caught:
            producer.submit("noop")
    assert caught.value.unknown_ids == ()


def test_a_broker_that_comes_up_before_the_deadline_is_reached() -> None:
    """A call that began without a broker goes on as soon as there is one."""
    endpoint = free_endpoint()
    verdicts: list[object] = []
    with Producer(endpoint, timeout_s=WAIT_S) as producer:
        thread = threading.Thread(target=lambda: verdicts.append(producer.submit("noop").accepted), daemon=True)
        thread.start()
        with FakeBroker(one_after_another(accepting), endpoint) as fake:
            fake.next_heard()
            thread.join(WAIT_S)
    assert verdicts == [True]


def test_row_7_a_lost_reply_is_asked_for_again_with_the_same_bytes() -> None:
    """The resend is the same request, by a fresh connection, and its verdict says that it is a duplicate."""
    behaviour = one_after_another(lose, lambda heard: [accept(heard, duplicate=True, state="running")])
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, reply_timeout_s=0.1) as producer:
        task = Task.of("noop", 1)
        assert producer.submit(task) == Accepted(task.id, duplicate=True, state="running")
        first, second = fake.next_heard(), fake.next_heard()
        assert first.data == second.data
        assert first.peer != second.peer


def test_no_reply_by_the_deadline_is_unknown_and_says_whose() -> None:
    """A task that was sent and not answered is neither accepted nor rejected: `NoReply` has its id."""
    with (
        FakeBroker(one_after_another(lose)) as fake,
        Producer(fake.endpoint, timeout_s=0.35, reply_timeout_s=0.1) as producer,
    ):
        task = Task.of("noop")
        began = time.monotonic()
        with pytest.raises(NoReply, match=f"task {task.id} is held is unknown") as caught:
            producer.submit(task)
        assert 0.35 <= time.monotonic() - began < 5
        assert caught.value.ids == caught.value.unknown_ids == (task.id,)
        heard = fake.all_heard()
        assert len(heard) >= 2
        assert len({one.data for one in heard}) == 1


def test_a_task_that_was_sent_before_the_broker_vanished_is_unknown_not_unreachable() -> None:
    """Sent once and then never connected again: that it was not accepted is not certain, so it is not said."""
    raised: list[BaseException] = []
    with Producer(free_endpoint(), timeout_s=0.6, reply_timeout_s=0.1) as producer:
        fake = FakeBroker(one_after_another(lose), producer._dialogue.endpoint)
        thread = raised_by(lambda: producer.submit("noop"), raised)
        fake.next_heard()
        fake.close()
        thread.join(WAIT_S)
    assert [type(error) for error in raised] == [NoReply]


def test_a_late_reply_is_dropped() -> None:
    """A reply with the tag of another request is not taken for this one's, whatever it says."""

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        (task_id,) = heard.ids
        verdicts = [{"id": task_id, "verdict": "rejected", "reason": "full", "retry": "never"}]
        late = msgpack.packb({"v": 1, "tag": heard.fields["tag"] - 1, "verdicts": verdicts})
        return [late, accept(heard)]

    with FakeBroker(behave) as fake, Producer(fake.endpoint) as producer:
        assert producer.submit("noop").accepted


def _with(**changes: Any) -> Callable[[Heard], bytes]:
    def make(heard: Heard) -> bytes:
        verdict = {"id": heard.ids[0], "verdict": "accepted"}
        fields = {"v": 1, "tag": heard.fields["tag"], "verdicts": [verdict], **changes}
        return bytes(msgpack.packb({name: value for name, value in fields.items() if value is not ...}))

    return make


BAD_REPLIES: dict[str, Callable[[Heard], bytes]] = {
    "not msgpack": lambda _: b"\xc1",
    "nothing": lambda _: b"",
    "http": lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "no map": lambda _: bytes(msgpack.packb([1])),
    "no version": _with(v=...),
    "another version": _with(v=2),
    "version true": _with(v=True),
    "no tag": _with(tag=...),
    "tag of a kind that cannot be a key": _with(tag=[]),
    "no verdicts": _with(verdicts=...),
    "no list of verdicts": _with(verdicts={}),
    "too few verdicts": _with(verdicts=[]),
    "verdict that is no map": _with(verdicts=[1]),
    "verdict without fields": _with(verdicts=[{}]),
    "verdict on another task": _with(verdicts=[{"id": "other", "verdict": "accepted"}]),
    "accepted without id": _with(verdicts=[{"id": None, "verdict": "accepted"}]),
    "unknown verdict": lambda heard: _with(verdicts=[{"id": heard.ids[0], "verdict": "perhaps"}])(heard),
    "rejection without reason": lambda heard: _with(verdicts=[{"id": heard.ids[0], "verdict": "rejected"}])(heard),
    "later, but not when": lambda heard: reject(heard, retry_after=None),
    "later, in the past": lambda heard: reject(heard, retry_after=-1.0),
    "error that is no map": lambda heard: reply(heard, error="full"),
    "error without reason": lambda heard: reply(heard, error={}),
}


@pytest.mark.parametrize("bad", BAD_REPLIES.values(), ids=BAD_REPLIES.keys())
def test_a_reply_that_is_not_as_agreed_is_named_and_leaves_the_task_unknown(bad: Callable[[Heard], bytes]) -> None:
    """Whatever comes instead of a reply is a `BadReply` with the task's id, at once; the next call is not spoilt."""
    behaviour = one_after_another(lambda heard: [bad(heard)], accepting)
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, timeout_s=WAIT_S) as producer:
        task = Task.of("noop")
        with pytest.raises(BadReply) as caught:
            producer.submit(task)
        assert caught.value.unknown_ids == (task.id,)
        assert producer.submit(task) == Accepted(task.id)


def test_a_reply_without_its_delimiter_is_named() -> None:
    """Something that answers, but is no REP socket, is told apart from a broker that is silent."""

    def behave(fake: FakeBroker, heard: Heard) -> Sequence[bytes]:
        fake._socket.send_multipart([heard.peer, accept(heard)])
        return []

    with FakeBroker(behave) as fake, Producer(fake.endpoint) as producer, pytest.raises(BadReply, match="delimiter"):
        producer.submit("noop")


def test_a_delimiter_without_a_reply_is_named() -> None:
    """An empty frame, and nothing after it: nothing more of that reply is waited for, and the next call is clean."""

    def behave(fake: FakeBroker, heard: Heard) -> Sequence[bytes]:
        if len(tried) == 1:
            fake._socket.send_multipart([heard.peer, b""])
            return []
        return [accept(heard)]

    tried: list[Task] = []
    with FakeBroker(behave) as fake, Producer(fake.endpoint) as producer:
        tried.append(Task.of("noop"))
        with pytest.raises(BadReply, match="delimiter") as caught:
            producer.submit(tried[0])
        assert caught.value.unknown_ids == (tried[0].id,)
        tried.append(Task.of("noop"))
        assert producer.submit(tried[1]) == Accepted(tried[1].id)


def test_a_full_queue_rejects_at_once_unless_told_to_wait() -> None:
    """`on_full="reject"`, the default: the rejection is a value, with what the broker said; it was asked once."""
    with FakeBroker(one_after_another(rejecting(retry_after=0.25))) as fake, Producer(fake.endpoint) as producer:
        task = Task.of("noop")
        assert producer.submit(task) == Rejected(task.id, Reason.FULL, Retry.LATER, 0.25, "")
        assert len(fake.all_heard()) == 1


def test_waiting_submits_the_same_bytes_again_no_earlier_than_asked() -> None:
    """`on_full="wait"`: two rejections, two waits of at least `retry_after`, then accepted."""
    behaviour = one_after_another(rejecting(retry_after=0.1), rejecting(reason="draining", retry_after=0.2), accepting)
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, on_full="wait") as producer:
        began = time.monotonic()
        assert producer.submit("noop").accepted
        assert 0.3 <= time.monotonic() - began < 5
        assert len({heard.data for heard in fake.all_heard()}) == 1


def test_waiting_ends_with_the_last_rejection_when_the_broker_names_a_moment_after_the_deadline() -> None:
    """To come back too late is of no use, and so is to wait for it: the rejection is returned, before the deadline."""
    behaviour = one_after_another(rejecting(retry_after=0.01), rejecting(retry_after=60.0))
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, on_full="wait", timeout_s=WAIT_S) as producer:
        began = time.monotonic()
        verdict = producer.submit("noop")
        assert isinstance(verdict, Rejected)
        assert verdict.retry_after == 60.0
        assert time.monotonic() - began < WAIT_S / 2


def test_a_rejection_for_good_is_not_waited_for() -> None:
    """`never` is final also with `on_full="wait"`, and so is a `retry` that this version does not know."""
    behaviour = one_after_another(
        rejecting(reason="unknown_task", retry="never", retry_after=None),
        rejecting(reason="moon_phase", retry="at_full_moon", retry_after=None),
    )
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, on_full="wait") as producer:
        first, second = producer.submit("noop"), producer.submit("noop")
        assert isinstance(first, Rejected)
        assert (first.reason, first.retry) == (Reason.UNKNOWN_TASK, Retry.NEVER)
        assert isinstance(second, Rejected)
        assert (second.reason, second.retry) == ("moon_phase", Retry.NEVER)
        assert len(fake.all_heard()) == 2


@pytest.mark.parametrize(
    "fails",
    [
        lambda heard: [refuse(heard, "internal_error", "now")],
        rejecting(reason="internal_error", retry="now", retry_after=None),
    ],
    ids=["the request", "the task"],
)
def test_a_fault_of_the_broker_is_tried_again_and_unknown_at_last(fails: Callable[[Heard], Sequence[bytes]]) -> None:
    """`internal_error` says nothing of the task: the same bytes are sent again; until the deadline, then `NoReply`."""
    with FakeBroker(one_after_another(fails, accepting)) as fake, Producer(fake.endpoint) as producer:
        assert producer.submit("noop").accepted
        assert len({heard.data for heard in fake.all_heard()}) == 1
    with FakeBroker(one_after_another(fails)) as fake, Producer(fake.endpoint, timeout_s=0.3) as producer:
        task = Task.of("noop")
        with pytest.raises(NoReply, match="internal_error") as caught:
            producer.submit(task)
        assert caught.value.ids == (task.id,)
        assert 2 <= len(fake.all_heard()) <= 20  # "now" is not "as fast as you can"


def test_a_refused_request_is_an_error_with_its_reason() -> None:
    """An error reply means that none of the request's tasks was accepted, so nothing is unknown."""
    behaviour = one_after_another(lambda heard: [refuse(heard, "unsupported_version")])
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint) as producer:
        with pytest.raises(RequestRefused) as caught:
            producer.submit("noop")
        assert (caught.value.reason, caught.value.retry) == (Reason.UNSUPPORTED_VERSION, Retry.NEVER)
        assert (caught.value.detail, caught.value.unknown_ids) == ("on purpose", ())


def test_an_error_without_a_tag_is_nobodys_refusal() -> None:
    """It may be about a request that was given up, and this one be accepted: only that it is unknown is certain."""
    untagged = msgpack.packb({"v": 1, "error": {"reason": "too_large", "retry": "never", "detail": "of another one"}})
    with (
        FakeBroker(lambda _, heard: [untagged, accept(heard)]) as fake,
        Producer(fake.endpoint) as producer,
        pytest.raises(BadReply, match="without the tag") as caught,
    ):
        producer.submit(Task("noop", id="not-refused"))
    assert caught.value.unknown_ids == ("not-refused",)


def test_the_limits_are_asked_for_again_when_the_broker_finds_a_task_too_large() -> None:
    """Behind the same endpoint there may be another broker by now, which reads less: the next call knows."""
    behaviour = one_after_another(lambda heard: [refuse(heard, "too_large")])
    endpoint = free_endpoint()
    with Producer(endpoint) as producer:
        with FakeBroker(behaviour, endpoint, message_bytes=65_536), pytest.raises(RequestRefused):
            producer.submit("noop", "x" * 2_000)
        with FakeBroker(behaviour, endpoint, message_bytes=1_024) as fake:
            with pytest.raises(TooLarge, match="1024"):
                producer.submit("noop", "x" * 2_000)
            assert fake.all_heard() == []
