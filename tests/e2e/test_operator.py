"""What an operator can do with a real broker, by the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from broker.operator_client import OperatorClient
from tests.e2e.broker_process import ROOT
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.operated import Operated, folder, operated
from tests.e2e.raw import Raw
from tests.faults.stops import stopped
from tests.witness import notes

__all__ = ["folder", "operated"]  # the fixtures


def test_dead_letters_are_listed_shown_requeued_and_discarded(
    operated: Operated, connect: Connect, witness: str
) -> None:
    """Each command tells what it did; who names what is not there hears so, and by the exit code."""
    raw = connect(operated.broker)
    for number in range(3):
        raw.submit("always_fails", witness, id=f"t{number}", retries=0)
        raw.wait_for(dead=number + 1)
    *lines, total = operated.say("dead", "list")
    assert [line.split()[2] for line in lines] == ["t2", "t1", "t0"]
    assert all("always_fails  retries_exhausted after 1 attempt: ValueError: as ever" in line for line in lines)
    assert total == "3 of 3 dead letters, newest first"
    assert operated.say("dead", "list", "--limit", "1", "--offset", "1")[0].split()[2] == "t1"
    shown = operated.say("dead", "show", "t1")
    assert f"args ['{witness}']" in shown
    assert shown[-1].startswith("| ValueError: as ever")
    assert operated.say("dead", "requeue", "t0", "nope", code=1) == ["t0: requeued", "nope: no_letter"]
    raw.wait_for(dead=3)
    assert len([one for one in notes(witness) if one["id"] == "t0"]) == 2
    assert operated.say("dead", "discard", "t1") == ["t1: discarded"]
    assert operated.say("dead", "show", "t1", code=1) == ["t1: no dead letter of this id is kept"]
    assert raw.stats()["requeued"] == 1
    assert operated.broker.stop() == 0
    assert operated.broker.report["dead"] == 3


def test_requeue_of_all_goes_through_the_pages_and_stops_at_no_room(
    start_broker: StartBroker, connect: Connect, folder: Path, witness: str
) -> None:
    """The oldest first; those that found no room are dead letters as before."""
    operated = Operated(start_broker, folder, "--workers", "1", "--capacity", "100")
    raw = connect(operated.broker)
    for number in range(120):
        raw.submit("always_fails", witness, id=f"t{number}", retries=0)
        if number % 60 == 59:
            raw.wait_for(dead=number + 1)
    operated.say("pause")
    lines = operated.say("dead", "requeue", "--all", code=1)
    assert lines == [f"t{number}: {'requeued' if number < 100 else 'full'}" for number in range(120)]
    stats = raw.stats()
    assert (stats["held"], stats["ledger"]["dead"], stats["dead_letters"]) == (100, 20, 20)
    operated.say("resume")
    raw.wait_for(dead=120)
    discarded = operated.say("dead", "discard", "--all")
    assert (len(discarded), operated.say("dead", "list")) == (120, ["0 of 0 dead letters, newest first"])
    assert operated.say("dead", "requeue", "--all") == []


@pytest.mark.parametrize("verb", ["requeue", "discard"])
def test_all_letters_are_meant_although_more_come_meanwhile(
    start_broker: StartBroker, connect: Connect, folder: Path, witness: str, verb: str
) -> None:
    """Each of those that were there is named once, while tasks die and push it from page to page."""
    operated = Operated(start_broker, folder, "--capacity", "1000", "--dead-letters", "100000")
    raw = connect(operated.broker)
    first = [f"t{number}" for number in range(200)]
    for number, task_id in enumerate(first, 1):
        raw.submit("always_fails", witness, id=task_id, retries=0)
        raw.wait_for(dead=number)
    stop = threading.Event()

    def keep_dying() -> None:
        with Raw(operated.broker.endpoint) as another:
            while not stop.is_set():
                another.submit("always_fails", witness, retries=0)

    dying = threading.Thread(target=keep_dying)
    dying.start()
    try:
        lines = operated.say("dead", verb, "--all")
    finally:
        stop.set()
        dying.join(30)
    told = [line.partition(":")[0] for line in lines]
    assert len(told) == len(set(told))
    assert [task_id for task_id in told if task_id in first] == first


def test_command_whose_reader_goes_away_does_all_the_same(operated: Operated, connect: Connect, witness: str) -> None:
    """`… | head -1`: no traceback, and nothing left undone."""
    raw = connect(operated.broker)
    for number in range(30):
        raw.submit("always_fails", witness, id=f"t{number}", retries=0)
        raw.wait_for(dead=number + 1)
    words = [sys.executable, "-m", "broker", "dead", "discard", "--all", "--operator", str(operated.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert (command.wait(60), command.stderr.read()) == (0, "")
    assert raw.stats()["dead_letters"] == 0


def test_interrupted_command_says_so(operated: Operated) -> None:
    """Ctrl-C while the broker does not answer: an exit code of its own, and no traceback."""
    words = [sys.executable, "-m", "broker", "resume", "--operator", str(operated.path)]
    with stopped(operated.broker.pid), subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) as command:
        process, deadline = psutil.Process(command.pid), time.monotonic() + 30
        while process.num_threads() == 1:  # until it asks: ZeroMQ has threads of its own
            assert time.monotonic() < deadline
        command.send_signal(signal.SIGINT)
        assert command.stderr is not None
        assert (command.wait(60), "Traceback" in command.stderr.read()) == (130, False)


def test_isolated_task_is_requeued_to_a_child_host(
    start_broker: StartBroker, connect: Connect, folder: Path, witness: str
) -> None:
    """It died for having killed its hosts; asked for again, it runs in one again, and never in the broker."""
    operated = Operated(start_broker, folder, "--child-hosts", "1", tasks="tests.isolated")
    raw = connect(operated.broker)
    raw.submit("dies_once", witness, id="killer", retries=0)
    raw.wait_for(dead=1)
    assert "crashed" in operated.say("dead", "list")[0]
    assert operated.say("dead", "requeue", "killer") == ["killer: requeued"]
    for _ in range(10_000):
        if len(starts := [one for one in notes(witness) if one["event"] == "start"]) == 2:
            break
        raw.stats()
    assert [one["attempt"] for one in starts] == [1, 1]
    raw.wait_for(dead=1)
    assert operated.broker.stop() == 0


def test_cancelled_tasks_do_not_run(operated: Operated, connect: Connect, tmp_path: Path, witness: str) -> None:
    """Ready and delayed ones; one that runs is told to, and ends as it would."""
    raw = connect(operated.broker)
    until = tmp_path / "until"
    for number in range(2):
        raw.submit("hold", witness, str(until), id=f"holds-{number}")
    raw.wait_for(running=2)
    raw.submit("record", witness, id="ready")
    raw.submit("record", witness, id="stays")
    raw.submit("record", witness, id="later", delay_s=3_600)
    lines = operated.say("cancel", "holds-0", "ready", "later", "unheard", code=1)
    assert lines == ["holds-0: running", "ready: cancelled", "later: cancelled", "unheard: unknown"]
    until.touch()
    raw.wait_for(succeeded=3, cancelled=2)
    assert operated.broker.stop() == 0
    assert {one["id"] for one in notes(witness)} == {"holds-0", "holds-1", "stays"}
    assert operated.broker.report["cancelled"] == 2


def test_paused_broker_begins_nothing_and_still_says_no_when_it_is_full(
    operated: Operated, connect: Connect, witness: str
) -> None:
    """Health, figures and log tell of it; resumed, everything that was accepted runs."""
    raw = connect(operated.broker)
    (line,) = operated.say("pause")
    assert "until resume" in line
    verdicts = [raw.submit("record", witness)["verdict"] for _ in range(11)]
    assert verdicts == ["accepted"] * 10 + ["rejected"]
    health = raw.stats()["health"]
    assert (health["state"], [one["reason"] for one in health["reasons"]]) == ("degraded", ["paused"])
    assert raw.stats()["ledger"]["ready"] == 10
    assert operated.say("resume") == ["resumed"]
    raw.wait_for(succeeded=10)
    assert raw.stats()["health"]["state"] == "ok"
    assert operated.broker.says("paused by its operator")


def test_drain_of_a_paused_broker_returns_and_saves_what_waits(
    start_broker: StartBroker, connect: Connect, folder: Path, tmp_path: Path, witness: str
) -> None:
    """It waits for what runs, and not for the deadline; the next broker, which knows of no pause, runs the rest."""
    spill, until = tmp_path / "spill", tmp_path / "until"
    flags = ("--workers", "1", "--spill", str(spill), "--drain-s", "3600")
    operated = Operated(start_broker, folder, *flags)
    raw = connect(operated.broker)
    raw.submit("hold", witness, str(until), id="runs")
    raw.wait_for(running=1)
    operated.say("pause")
    for number in range(3):
        raw.submit("record", witness, id=f"waits-{number}")
    operated.broker.signal(signal.SIGTERM)
    until.touch()
    assert operated.broker.exit_code() == 5
    report = operated.broker.report
    assert (report["succeeded"], report["returned"], report["saved"]) == (1, 3, 3)
    connect(Operated(start_broker, folder, *flags).broker).wait_for(succeeded=3)


def test_pause_during_a_drain_and_resume_of_it(
    operated: Operated, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """The door answers until the end: a drain that was paused goes on when it is resumed in time."""
    raw = connect(operated.broker)
    until = tmp_path / "until"
    for number in range(2):
        raw.submit("hold", witness, str(until), id=f"holds-{number}")
    raw.submit("record", witness, id="waits")
    raw.wait_for(running=2)
    operated.say("pause")
    operated.broker.signal(signal.SIGTERM)
    with OperatorClient(operated.path) as client:
        for _ in range(10_000):
            if client.ask("stats")["stats"]["phase"] == "draining":
                break
        client.ask("resume")
    until.touch()
    assert operated.broker.exit_code() == 0
    assert operated.broker.report["succeeded"] == 3
