"""Who gets in: each task's verdict, with its reason, its advice, and words that help."""

from __future__ import annotations

from typing import Any

import pytest

from broker.dispatcher import Dispatcher
from broker.protocol import ADVICE, MAX_DETAIL, Reason
from broker.queue import MemoryQueue, Offer
from tests.still_broker import FAILURE, StillBroker, wire
from worker_host import Backoff, task


@task(retries=0)
def send_email(to: str, subject: str = "") -> None:
    """Never called: no worker runs here."""


@task(retries=1, backoff=Backoff(5.0, 5.0, 0.0))
def build_report(month: int) -> None:
    """Never called."""


def email(task_id: str, **options: object) -> bytes:
    """A packed task that fits."""
    return wire(task_id, "send_email", "ada@example.org", **options)


def broker(*, capacity: int = 10, capacity_bytes: int = 10_000, remember_ids: int = 100) -> StillBroker:
    """A broker that knows these two."""
    return StillBroker(
        send_email, build_report, capacity=capacity, capacity_bytes=capacity_bytes, remember_ids=remember_ids
    )


def assert_rejected(verdict: dict[str, Any], reason: Reason, task_id: str | None = "a") -> None:
    """The verdict has this reason, that reason's advice, and all fields of a rejection."""
    assert (verdict["id"], verdict["verdict"], verdict["reason"]) == (task_id, "rejected", reason.value)
    assert verdict["retry"] == ADVICE[reason].value
    assert ("retry_after" in verdict) == (verdict["retry"] == "later")
    assert 0 < len(verdict["detail"]) <= MAX_DETAIL


def test_task_that_fits_is_accepted() -> None:
    """Nothing but the id and the verdict is said."""
    assert broker().submit(email("a")) == [{"id": "a", "verdict": "accepted"}]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("send_mail", "no task is named 'send_mail'; did you mean 'send_email'?"),
        ("build_reports", "no task is named 'build_reports'; did you mean 'build_report'?"),
        ("os.system", "no task is named 'os.system'"),
        ("__class__", "no task is named '__class__'"),
        ("Send_Email", "no task is named 'Send_Email'; did you mean 'send_email'?"),
        ("send_ema\u0456l", "no task is named 'send_ema\\u0456l'; did you mean 'send_email'?"),
        ("send_email ", "no task is named 'send_email '; did you mean 'send_email'?"),
    ],
)
def test_unknown_name_is_rejected_with_the_nearest_one(name: str, words: str) -> None:
    """A misspelt name is answered with the one that was meant; code and look-alikes are no names."""
    (verdict,) = broker().submit(wire("a", name))
    assert_rejected(verdict, Reason.UNKNOWN_TASK)
    assert verdict["detail"] == words


@pytest.mark.parametrize("name", ["x" * 128, "\U0001f600" * 128, "\x1b" * 128, "'; DROP TABLE"])
def test_detail_of_a_strange_name_is_short_and_printable(name: str) -> None:
    """A name from outside cannot blow up a reply or a log."""
    (verdict,) = broker().submit(wire("a", name))
    assert_rejected(verdict, Reason.UNKNOWN_TASK)
    assert verdict["detail"].isprintable()
    assert verdict["detail"].isascii()


@pytest.mark.parametrize(
    ("args", "options", "words"),
    [
        ([], {}, "parameter 'to' is missing"),
        (["x", "y", "z"], {}, "3 positional arguments; at most 2 fit"),
        (["x"], {"kwargs": {"to": "y"}}, "'to' is given by position and by keyword"),
        (["x"], {"kwargs": {"subjekt": "y"}}, "there is no parameter 'subjekt'"),
    ],
)
def test_wrong_arguments_are_rejected_by_the_parameters_name(
    args: list[str], options: dict[str, object], words: str
) -> None:
    """The broker knows the signatures: a call that would fail is refused before it is queued."""
    (verdict,) = broker().submit(wire("a", "send_email", *args, **options))
    assert_rejected(verdict, Reason.BAD_ARGUMENTS)
    assert verdict["detail"] == f"task 'send_email': {words}" or words in verdict["detail"]


def test_malformed_task_is_rejected_with_its_id_if_it_has_one() -> None:
    """A producer can match the verdict, if the id can be read at all."""
    with_id, without = broker().submit(email("a", priority=1), b"\xc1")
    assert_rejected(with_id, Reason.MALFORMED)
    assert_rejected(without, Reason.MALFORMED, None)


def test_each_task_of_a_request_has_its_own_verdict() -> None:
    """A bad task between good ones spoils nothing; verdicts come in the order of the tasks."""
    verdicts = broker().submit(email("a"), 7, wire("b", "nope"), email("c"))
    assert [verdict["verdict"] for verdict in verdicts] == ["accepted", "rejected", "rejected", "accepted"]
    assert [verdict.get("reason") for verdict in verdicts] == [None, "malformed", "unknown_task", None]


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_task_larger_than_the_whole_queue_is_never_accepted(over: int) -> None:
    """At exactly `capacity_bytes` a task fits; one byte more would never, so nobody is told to come back with it."""
    packed = email("a")
    (verdict,) = broker(capacity_bytes=len(packed) - over).submit(packed)
    if over <= 0:
        assert verdict["verdict"] == "accepted"
    else:
        assert_rejected(verdict, Reason.TOO_LARGE)


def test_full_queue_rejects_with_a_time_to_come_back() -> None:
    """`full` is not for ever: the verdict says in how many seconds to ask again."""
    still = broker(capacity=1)
    accepted, rejected = still.submit(email("a"), email("b"))
    assert accepted["verdict"] == "accepted"
    assert_rejected(rejected, Reason.FULL, "b")
    assert 0 < rejected["retry_after"] <= 5


def test_room_that_has_appeared_is_given_to_the_next_one() -> None:
    """A task that has ended holds no room, although the owner has not come round since to note it."""
    still = broker(capacity=1)
    still.submit(email("a"))
    lease = still.take()
    assert still.submit(email("b"))[0]["verdict"] == "rejected"
    still.dispatcher.ack(lease)
    assert still.submit(email("b")) == [{"id": "b", "verdict": "accepted"}]


def test_draining_broker_says_when_its_successor_may_be_there() -> None:
    """The advice is to come back after the drain deadline, however far that is still away."""
    still = broker()
    still.dispatcher.drain(still.clock.monotonic() + 25.0)
    (first,) = still.submit(email("a"))
    still.clock.advance(10.0)
    (second,) = still.submit(email("a"))
    still.clock.advance(100.0)
    (third,) = still.submit(email("a"))
    for verdict in (first, second, third):
        assert_rejected(verdict, Reason.DRAINING)
    assert [verdict["retry_after"] for verdict in (first, second, third)] == [26.0, 16.0, 1.0]


def test_resend_is_a_duplicate_with_the_tasks_state() -> None:
    """A resend is told that the task is held, and where it is; nothing is added (P8)."""
    still = broker()
    packed = wire("a", "build_report", 5)
    states = []

    def resend() -> None:
        (verdict,) = still.submit(packed)
        assert (verdict["id"], verdict["verdict"], verdict["duplicate"]) == ("a", "accepted", True)
        states.append(verdict["state"])

    still.submit(packed)
    resend()
    lease = still.take()
    resend()
    still.dispatcher.fail(lease, FAILURE)
    still.dispatcher.turn()
    resend()
    still.clock.advance(5.0)
    still.run(FAILURE)
    resend()
    assert states == ["ready", "running", "delayed", "dead"]
    assert still.admission.duplicates == 4
    assert still.queue.counts()["accepted"] == 1


def test_resend_of_a_task_that_ends_meanwhile_is_answered_although_nothing_is_remembered() -> None:
    """The task was held when the resend came; how it ended is forgotten, so nobody is told that it succeeded."""
    still = broker(remember_ids=0)
    still.submit(email("a", retries=0))
    still.dispatcher.fail(still.take(), FAILURE)
    (verdict,) = still.submit(email("a", retries=0))
    assert (verdict["verdict"], verdict["duplicate"], verdict["state"]) == ("accepted", True, "running")
    assert still.queue.counts()["dead"] == 1


def test_resend_of_a_task_that_is_forgotten_meanwhile_is_a_new_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id leaves the window between two looks: the rest of its request gets its verdicts, too (P8)."""
    still = StillBroker(send_email, queue=lambda *bounds: MemoryQueue(*bounds, remember_s=5.0))
    still.submit(email("a"))
    still.run()

    def offer(*of_task: Any) -> Offer:
        found = Dispatcher.offer(still.dispatcher, *of_task)
        still.clock.advance(5.0)
        return found

    monkeypatch.setattr(still.dispatcher, "offer", offer)
    accepted = [{"id": task_id, "verdict": "accepted"} for task_id in ("a", "b")]
    assert still.submit(email("a"), email("b")) == accepted
    assert (still.queue.counts()["accepted"], still.admission.duplicates) == (3, 0)


@pytest.mark.parametrize("state", ["serving", "full", "draining"])
def test_same_id_with_other_bytes_is_a_conflict_in_every_state(state: str) -> None:
    """Before room is looked at: asking again later would not help."""
    still = broker(capacity=1)
    still.submit(email("a"))
    if state == "serving":
        still.run()
    if state == "draining":
        still.dispatcher.drain(0.0)
    (verdict,) = still.submit(wire("a", "send_email", "bob@example.org"))
    assert_rejected(verdict, Reason.DUPLICATE_CONFLICT)


def test_resend_is_a_duplicate_in_every_state() -> None:
    """Full or draining, a known task is known."""
    still = broker(capacity=1)
    still.submit(email("a"))
    assert still.submit(email("a"))[0]["verdict"] == "accepted"
    still.dispatcher.drain(0.0)
    assert still.submit(email("a"))[0]["duplicate"] is True


@pytest.mark.parametrize("state", ["full", "draining"])
def test_what_could_never_run_is_told_so_in_every_state(state: str) -> None:
    """A wrong task is wrong for good: nobody is told to come back with it."""
    still = broker(capacity=1)
    still.submit(email("held"))
    if state == "draining":
        still.dispatcher.drain(0.0)
    verdicts = still.submit(wire("a", "nope"), wire("a", "send_email"), b"")
    assert [verdict["reason"] for verdict in verdicts] == ["unknown_task", "bad_arguments", "malformed"]


def test_rejection_is_not_remembered() -> None:
    """A rejected id can be submitted again, with whatever bytes (P3)."""
    still = broker(capacity=1)
    still.submit(email("a"))
    still.submit(email("b"))
    still.run()
    assert still.submit(wire("b", "build_report", 5)) == [{"id": "b", "verdict": "accepted"}]
    assert still.take().open()[0] == "build_report"


def test_rejections_are_counted_by_reason() -> None:
    """For the statistics: each rejected task once, no accepted one."""
    still = broker(capacity=1)
    still.submit(email("a"), email("b"), email("c"), wire("d", "nope"), b"")
    assert still.admission.rejected == {"full": 2, "unknown_task": 1, "malformed": 1}


def test_hints_take_a_tenth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request full of wrong names must not keep others waiting: after a search of 1 s there is none for 9 s."""
    still = broker()
    searched: list[str] = []

    def slow(name: str, *_: object, **__: object) -> list[str]:
        searched.append(name)
        still.clock.advance(1.0)
        return ["send_email"]

    monkeypatch.setattr("broker.admission.difflib.get_close_matches", slow)
    details = [verdict["detail"] for verdict in still.submit(*(wire(name, name) for name in ("one", "two", "one")))]
    assert details == [
        "no task is named 'one'; did you mean 'send_email'?",
        "no task is named 'two'",
        "no task is named 'one'; did you mean 'send_email'?",
    ]
    assert searched == ["one"]
    still.clock.advance(9.0)
    still.submit(wire("two", "two"))
    assert searched == ["one", "two"]
