"""One request in, one reply out, whatever the bytes (P1); and what each reply holds."""

from __future__ import annotations

import importlib.metadata
import logging
import runpy
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import broker.answers
from broker.protocol import MAX_TASKS, Reason, pack
from tests.still_broker import FAILURE, StillBroker, wire
from worker_host import Backoff, task
from worker_host.attempt import failure_of
from worker_host.contract import Failure


@task(retries=1, backoff=Backoff(5.0, 5.0, 0.0))
def send_email(to: str) -> None:
    """Never called: no worker runs here."""


def email(task_id: str, **options: object) -> bytes:
    """A packed task that fits."""
    return wire(task_id, "send_email", "ada@example.org", **options)


@pytest.fixture
def still() -> StillBroker:
    """A broker that knows one task function."""
    return StillBroker(send_email)


def assert_error(reply: dict[str, Any], reason: Reason, retry: str = "never") -> None:
    """The reply is an error of this reason, and nothing else."""
    assert reply.keys() - {"tag"} == {"v", "error"}
    error = reply["error"]
    assert error.keys() == {"reason", "retry", "detail"}
    assert (error["reason"], error["retry"]) == (reason.value, retry)


@pytest.mark.parametrize("op", ["submit", "status", "stats", "dead", "ping"])
@pytest.mark.parametrize("tag", [None, 0, 7, "r-1"])
def test_every_reply_has_version_and_tag(op: str, tag: object, still: StillBroker) -> None:
    """The tag comes back untouched, if there was one."""
    own: dict[str, dict[str, object]] = {"submit": {"tasks": [email("a")]}, "status": {"id": "a"}}
    fields = own.get(op, {})
    reply = still.ask(op, **fields, **({} if tag is None else {"tag": tag}))
    assert "error" not in reply
    assert reply["v"] == 1
    assert reply.get("tag") == tag
    assert ("tag" in reply) == (tag is not None)


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [
        ({"v": 2, "op": "ping"}, Reason.UNSUPPORTED_VERSION),
        ({"op": "ping"}, Reason.MALFORMED),
        ({"v": 1, "op": "dance"}, Reason.UNKNOWN_REQUEST),
        ({"v": 1}, Reason.MALFORMED),
        ({"v": 1, "op": "submit"}, Reason.MALFORMED),
        ({"v": 1, "op": "submit", "tasks": []}, Reason.MALFORMED),
        ({"v": 1, "op": "submit", "tasks": [b""] * (MAX_TASKS + 1)}, Reason.MALFORMED),
        ({"v": 1, "op": "status"}, Reason.MALFORMED),
        ({"v": 1, "op": "dead", "limit": 0}, Reason.MALFORMED),
    ],
)
def test_bad_request_gets_an_error_with_its_tag(
    request_fields: dict[str, Any], reason: Reason, still: StillBroker
) -> None:
    """The error can be matched to its request, and the broker is unharmed."""
    reply = still.ask_bytes(pack(request_fields | {"tag": 7}))
    assert_error(reply, reason)
    assert reply["tag"] == 7
    assert still.submit(email("a")) == [{"id": "a", "verdict": "accepted"}]


def test_request_that_is_no_msgpack_gets_an_error(still: StillBroker) -> None:
    """Without a tag, for there is none."""
    reply = still.ask_bytes(b"GET / HTTP/1.1\r\n\r\n")
    assert_error(reply, Reason.MALFORMED)
    assert "tag" not in reply


@pytest.mark.parametrize("frames", [[b"", b""], [pack({"v": 1, "op": "ping"})] * 2, [b"x"] * 100, [b""]])
def test_request_of_other_than_one_frame_gets_an_error(frames: list[bytes], still: StillBroker) -> None:
    """One frame is one request; what comes in several, or is empty, is malformed, and gets one reply."""
    assert_error(still.ask_bytes(*frames), Reason.MALFORMED)


def test_request_over_message_bytes_is_too_large() -> None:
    """To the byte. The error has the request's tag, as any: it is nobody else's."""
    request = pack({"v": 1, "op": "ping", "tag": 7, "x": "y" * 100})
    fits, over = StillBroker(message_bytes=len(request)), StillBroker(message_bytes=len(request) - 1)
    assert "error" not in fits.ask_bytes(request)
    reply = over.ask_bytes(request)
    assert_error(reply, Reason.TOO_LARGE)
    assert reply["tag"] == 7


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=3))
def test_any_bytes_get_one_reply(frames: list[bytes]) -> None:
    """Garbage is answered, and the answer is a reply of the protocol."""
    still = StillBroker(send_email)
    reply = still.ask_bytes(*frames)
    assert ("error" in reply) or reply.keys() & {"verdicts", "task", "stats", "dead", "server"}
    assert still.queue.held == 0


def test_fault_of_ours_is_an_internal_error_and_the_door_stays_open(
    still: StillBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect gives `internal_error` with the tag, a record in the log, and no end of the broker."""

    def fail(*_: object) -> object:
        raise RuntimeError("defect")

    with monkeypatch.context() as patch:
        patch.setattr(still.dispatcher, "status", fail)
        reply = still.ask("status", id="a", tag=5)
    assert_error(reply, Reason.INTERNAL_ERROR, "now")
    assert reply["tag"] == 5
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert still.ask("status", id="a")["task"] is None


def test_status_follows_a_task(still: StillBroker) -> None:
    """Ready, running, delayed with the time that is left, running again, dead; each with its attempts."""
    assert still.ask("status", id="a")["task"] is None
    still.submit(email("a"))
    assert still.ask("status", id="a")["task"] == {"id": "a", "state": "ready", "attempt": 0}
    lease = still.take()
    assert still.ask("status", id="a")["task"] == {"id": "a", "state": "running", "attempt": 1}
    still.dispatcher.fail(lease, FAILURE)
    still.clock.advance(1.0)
    assert still.ask("status", id="a")["task"] == {"id": "a", "state": "delayed", "attempt": 1, "due_in_s": 5.0}
    still.clock.advance(4.0)
    assert still.ask("status", id="a")["task"]["due_in_s"] == 1.0
    still.clock.advance(9.0)
    assert still.ask("status", id="a")["task"]["due_in_s"] == 0.0
    still.run(FAILURE)
    assert still.ask("status", id="a")["task"] == {"id": "a", "state": "dead"}


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda still: still.run(), "succeeded"),
        (lambda still: still.run(Failure("E", "", final=True)), "dead"),
    ],
)
def test_status_of_an_ended_task_is_its_end(
    end: Callable[[StillBroker], object], state: str, still: StillBroker
) -> None:
    """Without an attempt: that is for tasks that are held."""
    still.submit(email("a"))
    end(still)
    assert still.ask("status", id="a")["task"] == {"id": "a", "state": state}


def test_expired_task_is_not_run(still: StillBroker) -> None:
    """A worker passes over a task whose time is up, and takes the next one."""
    still.submit(email("a", expires_s=1), email("b"))
    still.clock.advance(1.0)
    assert still.run().id == "b"
    assert still.ask("status", id="a")["task"] == {"id": "a", "state": "expired"}


def test_stats_are_of_one_instant_and_balance(still: StillBroker) -> None:
    """The ledger and every gauge, after one task of each kind."""
    for task_id, failure in (("s", None), ("d", Failure("E", "", final=True)), ("again", FAILURE)):
        still.submit(email(task_id))
        still.run(failure)
    still.submit(email("x", expires_s=1))
    still.clock.advance(2.0)
    still.submit(email("runs"), email("waits"), wire("no", "nope"), email("s"))
    still.take()
    still.ask_bytes(b"garbage")
    still.log_dropped = 4
    still.clock.advance(1.0)
    stats = still.ask("stats")["stats"]
    ledger = stats["ledger"]
    assert ledger == {
        "accepted": 6, "ready": 1, "delayed": 1, "running": 1, "succeeded": 1, "dead": 1,
        "cancelled": 0, "expired": 1, "returned": 0,
    }  # fmt: skip
    assert ledger["accepted"] == sum(count for name, count in ledger.items() if name != "accepted")
    sizes = [len(email(task_id)) for task_id in ("again", "runs", "waits")]
    assert (stats["capacity"], stats["held"]) == (10, 3)
    assert (stats["capacity_bytes"], stats["held_bytes"]) == (10_000, sum(sizes))
    assert (stats["workers"], stats["busy"]) == (3, 1)
    assert (stats["retries"], stats["duplicates"], stats["rejected"]) == (1, 1, {"unknown_task": 1})
    assert (stats["dead_letters"], stats["remembered"]) == (1, 3)
    assert (stats["requests"], stats["errors"], stats["log_dropped"]) == (7, 1, 4)
    assert (stats["phase"], stats["uptime_s"]) == ("serving", 3.0)
    assert stats["oldest_s"] == pytest.approx(3.0, abs=0.02)
    assert stats["room_per_s"] > 0


def test_phase_is_told_by_stats_and_ping(still: StillBroker) -> None:
    """Serving, then draining."""
    assert (still.ask("stats")["stats"]["phase"], still.ask("ping")["phase"]) == ("serving", "serving")
    still.dispatcher.drain(0.0)
    assert (still.ask("stats")["stats"]["phase"], still.ask("ping")["phase"]) == ("draining", "draining")


def test_dead_letters_tell_why(still: StillBroker) -> None:
    """Each field of a letter: after all retries, or because the task said never."""
    still.submit(email("a"), email("b"))
    born = still.clock.time()
    still.run(FAILURE)
    still.run(Failure("NeverRetry: no such customer", "trace of b", final=True))
    still.clock.advance(7.0)
    still.run(FAILURE)
    page = still.ask("dead")
    assert page["total"] == 2
    newest, oldest = page["dead"]
    assert newest == {
        "id": "a", "name": "send_email", "reason": "retries_exhausted", "error": FAILURE.error, "trace": FAILURE.trace,
        "attempts": 2, "accepted_at": pytest.approx(born, abs=0.02), "died_at": born + 7.0,
    }  # fmt: skip
    assert (oldest["id"], oldest["reason"], oldest["attempts"]) == ("b", "never_retry", 1)
    assert (oldest["error"], oldest["trace"]) == ("NeverRetry: no such customer", "trace of b")


def test_dead_letters_are_paged(still: StillBroker) -> None:
    """Newest first, as many as asked for, from where asked for; the total is of all."""
    for number in range(7):
        still.submit(email(f"t{number}"))
        still.run(Failure("E", "", final=True))
    page = still.ask("dead", limit=3, offset=2)
    assert ([letter["id"] for letter in page["dead"]], page["total"]) == (["t4", "t3", "t2"], 7)
    assert still.ask("dead", offset=7) == {"v": 1, "dead": [], "total": 7}


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_any_uint_is_an_offset(offset: int, still: StillBroker) -> None:
    """Up to the largest that msgpack has: an empty page, no fault of the broker."""
    assert still.ask("dead", offset=offset)["dead"] == []


@pytest.mark.parametrize("text", ["caf\udce9.txt", "\ud83d", "\x00\x1b[31m"])
def test_dead_letter_of_any_exception_can_be_told(text: str, still: StillBroker) -> None:
    """An error whose text has no UTF-8, such as a file name in other bytes, does not end the broker that tells it."""
    still.submit(email("a"))
    for _ in range(2):
        still.run(failure_of(OSError(text)))
        still.clock.advance(5.0)
    (letter,) = still.ask("dead")["dead"]
    assert letter["error"].startswith("OSError: ")


def test_ping_tells_the_limits() -> None:
    """What a producer needs to know before it sends."""
    reply = StillBroker(message_bytes=4_096).ask("ping")
    assert reply["limits"] == {"message_bytes": 4_096, "tasks": MAX_TASKS}
    assert reply["versions"] == [1]
    assert reply["server"].startswith("turnstile/")


def test_thousand_tasks_travel_in_one_request() -> None:
    """As many verdicts as tasks, in their order; the reply unpacks as any other."""
    still = StillBroker(send_email, capacity=600, capacity_bytes=10**6)
    reply = msgpack.unpackb(
        still.answers.answer([pack({"v": 1, "op": "submit", "tasks": [email(f"t{n}") for n in range(MAX_TASKS)]})])
    )
    verdicts = [verdict["verdict"] for verdict in reply["verdicts"]]
    assert verdicts == ["accepted"] * 600 + ["rejected"] * 400
    assert [verdict["id"] for verdict in reply["verdicts"]] == [f"t{n}" for n in range(MAX_TASKS)]


def test_broker_that_was_not_installed_has_a_name_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout has no version of a package: a ping names an unreleased one."""

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert runpy.run_path(broker.answers.__file__)["_SERVER"] == "turnstile/unreleased"
