"""Shutdown tells the truth (P9). Rows 3, 4, 5, 9, 26 and 42 of the faults to survive."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.broker_process import A_SECOND, ROOT
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import Raw, check_balance, packed
from tests.witness import notes


def ledger_of(report: dict[str, int]) -> dict[str, int]:
    """The ledger in a report line."""
    ledger = {key: value for key, value in report.items() if key not in {"outcome", "saved", "busy_workers"}}
    check_balance(ledger)
    return ledger


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_row_5_an_idle_broker_stops_at_once(start_broker: StartBroker, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM or a closed terminal on an idle broker: exit 0 within a second, with a report."""
    broker = start_broker()
    began = time.monotonic()
    broker.signal(number)
    assert broker.exit_code() == 0
    assert time.monotonic() - began < A_SECOND
    assert broker.report["outcome"] == "finished"


def test_closed_terminal_is_no_stop_under_nohup(tmp_path: Path) -> None:
    """Who starts a broker with SIGHUP ignored wants it to outlive the terminal: SIGHUP does nothing, SIGTERM drains."""
    endpoint = f"ipc://{tmp_path}/door"
    command = ["nohup", sys.executable, "-m", "broker", "--tasks", "tests.jobs", "--endpoint", endpoint]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--spill", "none"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT
        )
    try:
        with Raw(endpoint) as raw:
            raw.submit("noop")
            process.send_signal(signal.SIGHUP)
            assert raw.submit("noop")["verdict"] == "accepted"
            assert raw.ask("ping")["phase"] == "serving"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "SIGHUP" not in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


def test_row_3_a_drain_finishes_what_was_accepted(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """After SIGTERM nothing new is accepted, the door answers, and what was accepted is finished; exit 0."""
    broker = start_broker("--workers", "2")
    raw = connect(broker)
    until = tmp_path / "until"
    for number in range(5):
        raw.submit("hold", witness, str(until), id=f"held-{number}")
    raw.submit("record", witness, id="delayed", delay_s=0.2)
    raw.wait_for(running=2)
    broker.signal(signal.SIGTERM)
    while raw.ask("ping")["phase"] != "draining":
        pass
    refused = raw.submit("noop")
    assert (refused["reason"], refused["retry"]) == ("draining", "later")
    assert refused["retry_after"] > 20
    known = raw.ask("submit", tasks=[packed("hold", witness, str(until), id="held-0")])["verdicts"][0]
    assert (known["verdict"], known["state"]) == ("accepted", "running")
    until.touch()
    assert broker.exit_code() == 0
    ledger = ledger_of(broker.report)
    assert (ledger["accepted"], ledger["succeeded"]) == (6, 6)
    assert len([note for note in notes(witness) if note["event"] == "start"]) == 6


def test_row_3_what_the_deadline_leaves_is_returned_by_name(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """When the drain deadline passes: exit 5 within a second more, every unfinished id named, none started after."""
    broker = start_broker("--workers", "2", "--drain-s", "0.3")
    raw = connect(broker)
    ids = [f"held-{number}" for number in range(6)]
    for task_id in ids:
        raw.submit("hold", witness, str(tmp_path / "never"), id=task_id)
    raw.submit("noop", id="far-away", delay_s=1_000)
    raw.wait_for(running=2)
    began = time.monotonic()
    broker.signal(signal.SIGTERM)
    assert broker.exit_code() == 5
    assert time.monotonic() - began < 0.3 + A_SECOND
    ledger = ledger_of(broker.report)
    assert (ledger["accepted"], ledger["returned"], broker.report["busy_workers"]) == (7, 7, 2)
    assert broker.returned_ids == [*ids, "far-away"]
    assert len(notes(witness)) == 2


def test_a_drain_does_not_wait_for_tasks_that_are_due_after_its_deadline(
    start_broker: StartBroker, connect: Connect
) -> None:
    """With nothing but far delayed tasks left, the broker stops at once and names them: exit 5, not all is done."""
    broker = start_broker("--drain-s", "20")
    raw = connect(broker)
    raw.submit("noop", id="far-away", delay_s=1_000)
    began = time.monotonic()
    broker.signal(signal.SIGTERM)
    assert broker.exit_code() == 5
    assert time.monotonic() - began < A_SECOND
    assert broker.returned_ids == ["far-away"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_row_4_a_second_signal_hastens_the_end(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str, second: signal.Signals
) -> None:
    """A second signal while draining: exit 6 within a second, the report still written."""
    broker = start_broker()
    raw = connect(broker)
    raw.submit("hold", witness, str(tmp_path / "never"), id="stuck")
    raw.wait_for(running=1)
    broker.signal(signal.SIGTERM)
    while raw.ask("ping")["phase"] != "draining":
        pass
    began = time.monotonic()
    broker.signal(second)
    assert broker.exit_code() == 6
    assert time.monotonic() - began < A_SECOND
    assert ledger_of(broker.report)["returned"] == 1
    assert broker.returned_ids == ["stuck"]


def test_every_returned_id_is_named_however_many_there_are(start_broker: StartBroker, connect: Connect) -> None:
    """The log's protection against floods and its level do not swallow the names of returned tasks (P9)."""
    broker = start_broker("--workers", "1", "--drain-s", "0", "--log-level", "error")
    raw = connect(broker)
    ids = [f"task-{number}" for number in range(3_000)]
    raw.submit("sleep", 60, id="first")
    for start in range(0, len(ids), 500):
        raw.ask("submit", tasks=[packed("noop", id=task_id) for task_id in ids[start : start + 500]])
    assert broker.stop() == 5
    assert broker.returned_ids == ["first", *ids]


def test_row_4_a_second_signal_is_in_time_however_much_is_left(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """100,000 tasks are saved and named, each of them, and the broker has ended soon after the second signal."""
    count = 100_000
    broker = start_broker("--workers", "1", "--capacity", "200000", "--spill", str(tmp_path / "spill"))
    raw = connect(broker)
    raw.submit("hold", witness, str(tmp_path / "never"), id="first")
    ids = [f"task-{number}" for number in range(count)]
    for start in range(0, count, 1_000):
        raw.ask("submit", tasks=[packed("noop", id=task_id) for task_id in ids[start : start + 1_000]])
    broker.signal(signal.SIGTERM)
    while raw.ask("ping")["phase"] != "draining":
        pass
    began = time.monotonic()
    broker.signal(signal.SIGTERM)
    assert broker.exit_code() == 6
    took = time.monotonic() - began
    assert broker.returned_ids == ["first", *ids]
    assert broker.report["saved"] == count + 1
    assert took < A_SECOND, took


def test_row_9_a_killed_broker_loses_what_was_unfinished_and_its_port_is_free(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """kill -9: finished work is done, unfinished work is gone, no more, and the same port can be bound at once."""
    broker = start_broker("--workers", "1")
    raw = connect(broker)
    for number in range(10):
        raw.submit("record", witness, id=f"done-{number}")
    raw.wait_for(succeeded=10)
    raw.submit("hold", witness, str(tmp_path / "never"), id="running")
    raw.submit("record", witness, id="waiting")
    raw.wait_for(running=1)
    broker.signal(signal.SIGKILL)
    broker.exit_code()
    successor = start_broker("--endpoint", broker.endpoint)
    assert successor.endpoint == broker.endpoint
    with Raw(successor.endpoint) as again:
        assert again.stats()["ledger"]["accepted"] == 0
    started = [note["id"] for note in notes(witness) if note["event"] == "start"]
    assert started == [*(f"done-{number}" for number in range(10)), "running"]


def test_row_26_a_stopped_broker_goes_on_where_it_was(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """SIGSTOP, a request that nobody answers, SIGCONT: the request is answered after all, and nothing runs twice."""
    broker = start_broker()
    raw = connect(broker)
    raw.submit("record", witness, id="before")
    broker.signal(signal.SIGSTOP)
    task = packed("record", witness, id="meanwhile")
    with Raw(broker.endpoint) as impatient:
        impatient.socket.rcvtimeo = 200
        with pytest.raises(Exception, match="Resource temporarily unavailable"):
            impatient.ask("submit", tasks=[task])  # unknown, to this producer
        broker.signal(signal.SIGCONT)
        assert raw.ask("submit", tasks=[task])["verdicts"][0]["verdict"] == "accepted"
    raw.wait_for(succeeded=2)
    assert sorted(note["id"] for note in notes(witness)) == ["before", "meanwhile"]


def test_row_42_starts_and_stops(start_broker: StartBroker) -> None:
    """Brokers that are started and stopped with two signals in a row leave neither a hang nor a wrong code behind."""
    for _ in range(5):
        broker = start_broker()
        broker.signal(signal.SIGTERM)
        broker.signal(signal.SIGTERM)
        assert broker.exit_code() in {0, 6}  # the second may come when all is done
