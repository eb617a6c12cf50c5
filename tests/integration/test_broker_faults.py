"""Row 43 of the faults to survive: an exception at the n-th call of each seam of the broker.

Each is followed by a reply, or by a clean stop; never by a live broker that is deaf, and never by wrong books.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import broker.admission
import broker.answers
import worker_host.attempt
import worker_host.threads
from broker.dead_letters import DeadLetters
from broker.dispatcher import Dispatcher
from broker.door import Door
from broker.handed_back import HandedBack
from broker.handoff import Handoff
from broker.log import LineLog
from broker.queue import MemoryQueue
from broker.spill import load
from broker.supervisor import Outcome
from tests.e2e.raw import Raw, check_balance, packed
from tests.faults.inner_broker import InnerBroker
from tests.faults.seams import PlantedError, failing_at

StartInner = Callable[..., InnerBroker]


@pytest.fixture
def start_inner() -> Iterator[StartInner]:
    """Start brokers in this process; all are ended after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(InnerBroker(**options))


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    ("where", "name"),
    [(broker.answers, "decode_request"), (broker.answers, "tasks_of"), (broker.admission, "decode_task")],
)
def test_row_43_a_fault_before_the_queue_is_answered(
    monkeypatch: pytest.MonkeyPatch, start_inner: StartInner, where: ModuleType, name: str, number: int
) -> None:
    """A fault while a request is read is an `internal_error`; nothing got in, and the next one is served (P1)."""
    monkeypatch.setattr(where, name, failing_at(number, getattr(where, name)))
    running = start_inner()
    with Raw(running.endpoint) as raw:
        replies = [raw.ask("submit", tasks=[b"\x82\xa2id\xa2t%d\xa4name\xa4noop" % turn]) for turn in range(5)]
        errors = [reply["error"]["reason"] for reply in replies if "error" in reply]
        assert errors == ["internal_error"]
        assert replies[number - 1]["error"]["retry"] == "now"
    report = running.stop()
    assert report.outcome is Outcome.FINISHED
    assert report.ledger["succeeded"] == 4
    check_balance(report.ledger)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    ("where", "name"),
    [
        (MemoryQueue, "offer"),
        (MemoryQueue, "publish"),
        (MemoryQueue, "ack"),
        (MemoryQueue, "promote"),
        (Handoff, "put"),
    ],
)
def test_row_43_a_fault_inside_the_queue_stops_the_broker(
    monkeypatch: pytest.MonkeyPatch, start_inner: StartInner, where: type, name: str, number: int
) -> None:
    """When the queue itself fails, its books cannot be trusted: the broker stops, and says that it failed."""
    monkeypatch.setattr(where, name, failing_at(number, getattr(where, name)))
    running = start_inner()
    with Raw(running.endpoint) as raw:
        raw.socket.rcvtimeo = 400
        try:
            for _ in range(5_000):  # more than enough turns of the loop, which may answer several requests in one
                raw.submit("noop")
        except Exception as error:  # noqa: BLE001 - the door closes at some point: no reply, unknown
            assert "temporarily unavailable" in str(error)
    assert running.report().outcome is Outcome.FAILED


@pytest.mark.parametrize("number", [1, 2])
def test_row_43_a_fault_in_the_dead_letters_stops_the_broker(
    monkeypatch: pytest.MonkeyPatch, start_inner: StartInner, number: int
) -> None:
    """A dead letter that cannot be kept is not dropped in silence."""
    monkeypatch.setattr(DeadLetters, "add", failing_at(number, DeadLetters.add))
    running = start_inner()
    with Raw(running.endpoint) as raw:
        for _ in range(number):
            raw.submit("gives_up", "/dev/null")
    assert running.report().outcome is Outcome.FAILED


@pytest.mark.parametrize("number", [1, 2, 5])
def test_row_43_a_worker_that_dies_stops_the_broker(
    monkeypatch: pytest.MonkeyPatch, start_inner: StartInner, number: int
) -> None:
    """A fault of the host itself stops the broker, with a report of what was not finished; no silent shrinking."""
    monkeypatch.setattr(worker_host.threads, "run_attempt", failing_at(number, worker_host.attempt.run_attempt))
    running = start_inner()
    accepted = 0
    with Raw(running.endpoint) as raw:
        raw.socket.rcvtimeo = 400
        try:
            for turn in range(10):
                raw.submit("noop", id=f"task-{turn}")
                accepted += 1
        except Exception as error:  # noqa: BLE001 - as above
            assert "temporarily unavailable" in str(error)
    report = running.report()
    assert report.outcome is Outcome.FAILED
    check_balance(report.ledger)
    assert report.ledger["returned"] == len(report.returned) >= 1
    assert report.ledger["accepted"] >= accepted


def test_task_that_ends_its_broker_is_not_run_for_ever(
    monkeypatch: pytest.MonkeyPatch, start_inner: StartInner, tmp_path: Path
) -> None:
    """Each broker that fails while it runs the task costs it an attempt; without one left it is a dead letter."""
    spill = tmp_path / "spill"
    poisoned = packed("fails_until", "/dev/null", 100, id="poison", retries=1)
    runs = []

    def die(lease: Any, *_: Any) -> None:
        runs.append((lease.id, lease.attempt))
        raise PlantedError

    monkeypatch.setattr(worker_host.threads, "run_attempt", die)
    running = start_inner(spill=spill)
    with Raw(running.endpoint) as raw:
        raw.ask("submit", tasks=[packed("noop", id="far", delay_s=600), poisoned])
        assert running.report().saved == 2
    assert start_inner(spill=spill).report().saved == 2
    assert runs == [("poison", 1), ("poison", 2)]
    survivor = start_inner(spill=spill)
    with Raw(survivor.endpoint) as raw:
        stats = raw.stats()
        assert (stats["ledger"]["dead"], stats["ledger"]["delayed"]) == (1, 1)
        (letter,) = raw.ask("dead")["dead"]
        assert (letter["id"], letter["reason"], letter["attempts"]) == ("poison", "retries_exhausted", 2)
        assert letter["error"] == "no attempt is left to the broker that loaded it"
        assert raw.ask("submit", tasks=[poisoned])["verdicts"][0]["state"] == "dead"
    assert survivor.stop().saved == 1
    assert len(runs) == 2


@pytest.mark.parametrize("signals", [1, 2])
def test_stop_that_leaves_nothing_is_finished(
    monkeypatch: pytest.MonkeyPatch, start_inner: StartInner, signals: int
) -> None:
    """The last task ends between the decision to stop and the end: nothing is returned, so nothing was cut short.

    1. The deadline has passed, or a second signal has come: the loop ends.  2. A worker ends the last task.  3. The
    owner settles it, and finds nothing to return.
    """
    running = start_inner(drain_s=0 if signals == 1 else 60)
    let_go, started = threading.Event(), threading.Event()

    def until_let_go(*_: Any) -> None:
        started.set()
        assert let_go.wait(20)

    def close_late(dispatcher: Dispatcher) -> HandedBack:
        let_go.set()
        while not dispatcher._ends:
            time.sleep(0.001)
        return close(dispatcher)

    close = Dispatcher.close
    monkeypatch.setattr(Dispatcher, "close", close_late)
    monkeypatch.setattr(worker_host.threads, "run_attempt", until_let_go)
    with Raw(running.endpoint) as raw:
        assert raw.submit("noop")["verdict"] == "accepted"
        assert started.wait(20)
    running.signal(signals)
    report = running.report()
    assert (report.outcome, len(report.returned), report.ledger["succeeded"]) == (Outcome.FINISHED, 0, 1)


def test_what_is_left_is_saved_and_named_before_a_door_closes(
    monkeypatch: pytest.MonkeyPatch, start_inner: StartInner, tmp_path: Path
) -> None:
    """To close a door is to wait for its authenticator, which may be waiting for a disk that does not answer."""
    said: list[str] = []
    found = []

    def look_and_close(door: Door) -> None:
        found.append(([one.id for one in load(tmp_path / "spill", time.time())], list(said)))
        close(door)

    close = Door.close
    monkeypatch.setattr(Door, "close", look_and_close)
    monkeypatch.setattr(LineLog, "say", lambda _, template, *args: said.append(template % args))
    running = start_inner(spill=tmp_path / "spill")
    with Raw(running.endpoint) as raw:
        raw.submit("noop", id="far", delay_s=600)
    assert running.stop().saved == 1
    lines = [f"saved 1 returned tasks in {tmp_path}/spill", "returned id=far name=noop attempts=0 was=delayed"]
    assert found == [(["far"], lines)]
