"""Row 43 of the faults to survive, beyond the seams of reading and of the queue: an exception at the n-th call.

What follows each is one of three things. A reply, and the broker serves on; or nothing at all but a delay, where there
is a second try; or a clean stop, with books that balance and every unfinished task handed back. In each case no task
that was accepted is lost, none that was rejected runs, and none runs twice without a cause.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

import broker.door
import broker.supervisor
import worker_host.child_host
import worker_host.child_process
import worker_host.threads
from broker.bell import Bell
from broker.dispatcher import Dispatcher
from broker.pressure import Pressure
from broker.queue import MemoryQueue
from broker.supervisor import Outcome
from tests import isolated
from tests.e2e.raw import Raw, check_balance, packed
from tests.faults.inner_broker import InnerBroker
from tests.faults.seams import PlantedError, failing_at
from tests.witness import notes
from worker_host.child_host import ChildHost

_TURNS = 12
#: A broker that was stopped by a fault answers nothing; one that only is slow is asked again, or found to have stopped.
_STOPPED_MS = 300


class Told:
    """What a producer was told of its tasks."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.rejected: set[str] = set()
        self.unknown: set[str] = set()

    def submit(self, raw: Raw, task_id: str, name: str, *args: object, **fields: object) -> bool:
        """Submit, and once more if the broker says that this can help at once; False if no reply came."""
        for _ in range(3):
            try:
                reply = raw.ask("submit", tasks=[packed(name, *args, id=task_id, **fields)])
            except zmq.Again:
                self.unknown.add(task_id)
                return False
            if "error" not in reply:
                verdict = reply["verdicts"][0]["verdict"]
                (self.accepted if verdict == "accepted" else self.rejected).add(task_id)
                return True
            assert (reply["error"]["reason"], reply["error"]["retry"]) == ("internal_error", "now")
        raise AssertionError("one fault was planted, and three were met")


def judge(inner: InnerBroker, told: Told, witness: str) -> None:
    """What holds whatever happened: P2, P3 and P5, from what all sides have seen."""
    report = inner.report()
    check_balance(report.ledger)
    returned = {task.id for task in report.returned}
    starts = [note["id"] for note in notes(witness) if note["event"] == "start"]
    assert report.ledger["returned"] == len(returned)
    assert len(told.accepted) <= report.ledger["accepted"] <= len(told.accepted | told.unknown)
    assert not told.rejected & set(starts)
    ended = report.ledger["succeeded"] + report.ledger["dead"]
    assert report.ledger["accepted"] == ended + len(returned)
    dead = {letter.id for letter in inner.supervisor._dispatcher._dead_letters.newest(50, 0)}
    assert told.accepted <= set(starts) | returned | dead  # a child host may die between *begun* and the first line
    assert (report.outcome is Outcome.FINISHED) == (not returned) or report.outcome is Outcome.FAILED


def submit_all(
    inner: InnerBroker, told: Told, witness: str, *, isolate: bool = False, patience_ms: int = 20_000
) -> None:
    """Tasks that succeed, that fail and are tried again, and that die; until no reply comes for so long."""
    with Raw(inner.endpoint) as raw:
        raw.socket.rcvtimeo = patience_ms
        for turn in range(_TURNS):
            kind = turn % 3
            name = ("child", "raises", "child") if isolate else ("record", "always_fails", "record")
            fields: dict[str, Any] = {"retries": 1} if kind == 1 else {}
            if not told.submit(raw, f"task-{turn}", name[kind], witness, **fields):
                return


@pytest.mark.parametrize("number", [1, 2, 5])
def test_row_43_a_reply_that_cannot_be_packed(monkeypatch: pytest.MonkeyPatch, witness: str, number: int) -> None:
    """The task may be in: the producer is told to send it again, is told `duplicate`, and it runs once."""
    told = Told()
    with InnerBroker() as inner:
        answers = inner.supervisor._door._answer.__self__  # type: ignore[attr-defined]
        monkeypatch.setattr(answers, "_pack", failing_at(number, answers._pack))
        submit_all(inner, told, witness)
        report = inner.stop()
    assert (report.outcome, len(told.accepted)) == (Outcome.FINISHED, _TURNS)
    assert report.ledger["accepted"] == _TURNS
    judge(inner, told, witness)


@pytest.mark.parametrize("number", [1, 2])
def test_row_43_advice_that_cannot_be_computed(monkeypatch: pytest.MonkeyPatch, witness: str, number: int) -> None:
    """A full queue whose `retry_after` fails: an error reply, and the same task is rejected when it is sent again."""
    monkeypatch.setattr(Pressure, "rejected", failing_at(number, Pressure.rejected))
    told = Told()
    with InnerBroker(capacity=1) as inner, Raw(inner.endpoint) as raw:
        told.submit(raw, "first", "record", witness, delay_s=0.3)
        for turn in range(3):
            told.submit(raw, f"full-{turn}", "record", witness)
        assert (len(told.accepted), len(told.rejected)) == (1, 3)
        assert inner.stop().outcome is Outcome.FINISHED
    judge(inner, told, witness)


#: (what is patched, its function): each is a part of the loop or of a worker that nobody can do without.
_VITAL: list[tuple[object, str]] = [
    (Dispatcher, "turn"),
    (Dispatcher, "take"),
    (Dispatcher, "ack"),
    (Dispatcher, "fail"),
    (MemoryQueue, "take"),
    (MemoryQueue, "retry"),
    (MemoryQueue, "bury"),
    (Bell, "ring"),
    (broker.door.Door, "_receive"),
    (broker.door.Door, "_look_out"),
]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(("where", "name"), _VITAL, ids=lambda part: getattr(part, "__name__", part))
def test_row_43_a_vital_part_that_fails_stops_the_broker(
    monkeypatch: pytest.MonkeyPatch, witness: str, where: type, name: str, number: int
) -> None:
    """The broker stops, whoever's thread it was on; the books balance, and what was not finished is handed back."""
    told = Told()
    original = getattr(where, name)
    patched = failing_at(number, original)
    with monkeypatch.context() as planted:
        planted.setattr(where, name, staticmethod(patched) if name == "_look_out" else patched)
        with InnerBroker() as inner:
            for _ in range(10):  # the same ids again: resends, until the door is closed
                if not told.unknown:
                    submit_all(inner, told, witness, patience_ms=_STOPPED_MS)
            assert inner.report().outcome is Outcome.FAILED
    judge(inner, told, witness)


@pytest.mark.parametrize("op", ["stats", "status", "dead"])
def test_row_43_an_end_that_cannot_be_settled_for_a_request_stops_the_broker(
    monkeypatch: pytest.MonkeyPatch, witness: str, op: str
) -> None:
    """The books are brought up to date before figures are told; where that fails they are wrong, and nobody is told."""
    told = Told()
    with InnerBroker() as inner, Raw(inner.endpoint) as raw:
        monkeypatch.setattr(inner.supervisor._dispatcher, "turn", lambda: inner.supervisor._queue.publish())
        monkeypatch.setattr(MemoryQueue, "ack", failing_at(1, MemoryQueue.ack))
        told.submit(raw, "only", "record", witness)
        while not inner.supervisor._dispatcher._ends:
            time.sleep(0.001)
        raw.socket.rcvtimeo = _STOPPED_MS
        with pytest.raises(zmq.Again):
            raw.ask(op, **({"id": "only"} if op == "status" else {}))
        assert inner.report().outcome is Outcome.FAILED
    check_balance(inner.report().ledger)


@pytest.mark.parametrize("name", ["send", "recv"])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_row_43_a_socket_that_fails_stops_the_broker(
    monkeypatch: pytest.MonkeyPatch, witness: str, name: str, number: int
) -> None:
    """A door that cannot receive or send is closed: never a live, deaf broker. A task whose reply was lost is held."""
    failing = type("Failing", (zmq.Socket,), {name: failing_at(number, getattr(zmq.Socket, name))})
    told = Told()
    with monkeypatch.context() as planted:
        planted.setattr(zmq.Context, "_socket_class", failing)
        inner = InnerBroker()
    with inner:
        submit_all(inner, told, witness, patience_ms=_STOPPED_MS)
        assert inner.report().outcome is Outcome.FAILED
    assert told.unknown
    judge(inner, told, witness)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_row_43_a_child_host_that_cannot_be_spawned_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, witness: str, number: int
) -> None:
    """No process to be had at the n-th spawn: its tasks wait for the next try, and every one ends."""
    out_of_processes = failing_at(number, subprocess.Popen, lambda: BlockingIOError(11, "no process to be had"))
    monkeypatch.setattr(subprocess, "Popen", out_of_processes)
    told = Told()
    with InnerBroker(isolated, drain_s=50) as inner, Raw(inner.endpoint) as raw:
        for turn in range(3):
            told.submit(raw, f"killer-{turn}", "dies_once", witness, retries=1)
        raw.wait_for(succeeded=3)
        assert inner.stop().outcome is Outcome.FINISHED
    judge(inner, told, witness)


def test_row_43_health_tells_of_a_child_host_only_while_there_is_none(
    monkeypatch: pytest.MonkeyPatch, witness: str
) -> None:
    """Degraded until a process is to be had, and well again as soon as a child host lives in its place."""
    asked, granted = threading.Event(), threading.Event()

    def none_yet(*args: Any, **options: Any) -> Any:
        if granted.is_set():
            return real(*args, **options)
        asked.set()
        raise BlockingIOError(11, "no process to be had")

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", none_yet)
    told = Told()
    with InnerBroker(isolated, drain_s=50) as inner, Raw(inner.endpoint) as raw:
        assert asked.wait(30)
        told.submit(raw, "waits", "child", witness)
        for _ in range(100_000):  # between the failure and its note
            if (health := raw.stats()["health"])["reasons"]:
                break
        assert (health["state"], [one["reason"] for one in health["reasons"]]) == ("degraded", ["child_hosts_down"])
        granted.set()
        assert raw.wait_for(succeeded=1)["health"] == {"state": "ok", "reasons": []}
        assert inner.stop().outcome is Outcome.FINISHED
    judge(inner, told, witness)


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("name", ["send", "receive"])
def test_row_43_a_channel_that_breaks_costs_its_child_host(
    monkeypatch: pytest.MonkeyPatch, witness: str, name: str, number: int
) -> None:
    """The way to a worker in a child host fails: that child is replaced, and every task ends."""
    where = worker_host.child_process
    broken = failing_at(number, getattr(where, name), lambda: OSError(105, "no buffer space available"))
    monkeypatch.setattr(where, name, broken)
    told = Told()
    with InnerBroker(isolated, drain_s=50) as inner:
        submit_all(inner, told, witness, isolate=True)
        assert inner.stop().outcome is Outcome.FINISHED
    assert len(told.accepted) == _TURNS
    judge(inner, told, witness)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("where", "name"), [(worker_host.child_process, "pack_attempt"), (Dispatcher, "ack")])
def test_row_43_a_lender_that_dies_stops_the_broker(
    monkeypatch: pytest.MonkeyPatch, witness: str, where: object, name: str, number: int
) -> None:
    """A defect of the child host itself: no worker is lost in silence."""
    told = Told()
    monkeypatch.setattr(where, name, failing_at(number, getattr(where, name)))
    with InnerBroker(isolated) as inner:
        submit_all(inner, told, witness, isolate=True, patience_ms=_STOPPED_MS)
        assert inner.report().outcome is Outcome.FAILED
    judge(inner, told, witness)


def test_row_43_a_keeper_of_child_hosts_that_dies_stops_the_broker(
    monkeypatch: pytest.MonkeyPatch, witness: str
) -> None:
    """Nobody would start a child host in its place: tasks for it are returned, and do not wait for ever."""
    monkeypatch.setattr(ChildHost, "_one_child", failing_at(1, ChildHost._one_child))
    told = Told()
    with InnerBroker(isolated) as inner:
        submit_all(inner, told, witness, isolate=True, patience_ms=_STOPPED_MS)
        report = inner.report()
    assert (report.outcome, report.busy_workers) == (Outcome.FAILED, 0)
    assert [task.id for task in report.returned if task.id in told.accepted] == sorted(
        told.accepted, key=lambda one: int(one.split("-")[1])
    )
    judge(inner, told, witness)


@pytest.mark.parametrize("error", [OSError(28, "no space left on device"), MemoryError()], ids=repr)
def test_row_43_returned_tasks_that_cannot_be_saved_are_named(
    monkeypatch: pytest.MonkeyPatch, witness: str, tmp_path: Path, error: Exception
) -> None:
    """No space for the spill file, or no memory to write it: every unfinished task is in the report, and none saved."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(broker.supervisor, "save", fail)
    with InnerBroker(spill=tmp_path / "spill", drain_s=0) as inner, Raw(inner.endpoint) as raw:
        raw.submit("record", witness, id="far", delay_s=1_000)
        report = inner.stop()
    assert ([task.id for task in report.returned], report.saved) == (["far"], 0)
    check_balance(report.ledger)


def test_row_43_the_planted_fault_is_met() -> None:
    """`failing_at` fails at its number and at no other, so that a test that meets no fault cannot pass for long."""
    calls: list[int] = []
    planted: Callable[[int], None] = failing_at(2, calls.append)
    planted(1)
    with pytest.raises(PlantedError):
        planted(2)
    planted(3)
    assert calls == [1, 3]
