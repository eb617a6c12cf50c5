"""The operator's door as its owner uses it: by the command line, on a real broker; and who else can."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from broker.operator_client import NoBrokerError, OperatorClient, OperatorError
from broker.settings import operator_path
from producer import Producer
from tests.e2e.broker_process import ROOT, BrokerProcess
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import Raw
from tests.faults.stops import stopped
from tests.witness import notes


class Operated:
    """A broker with an operator's door, and its command line."""

    def __init__(self, start_broker: StartBroker, folder: Path, *flags: str, tasks: str = "tests.jobs") -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path = folder / "door"
        self.broker: BrokerProcess = start_broker("--operator", str(self.path), *flags, tasks=tasks)

    def say(self, *words: str, code: int = 0) -> list[str]:
        """The lines that the command prints; its exit code is the one that is expected."""
        done = command(*words, "--operator", str(self.path))
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        return done.stdout.splitlines() or done.stderr.splitlines()


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m broker WORDS`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *words], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the door is."""
    return tmp_path / "owner"


@pytest.fixture
def operated(start_broker: StartBroker, folder: Path) -> Operated:
    """A broker that can be operated."""
    return Operated(start_broker, folder, "--workers", "2", "--capacity", "10")


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
    assert "paused by its operator" in operated.broker.output


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


def test_door_is_its_owners_alone(operated: Operated, connect: Connect) -> None:
    """The socket and its folder; producers get no further than to be told that there is no such request."""
    assert stat.S_IMODE(operated.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(operated.path.parent.stat().st_mode) == 0o700
    raw = connect(operated.broker)
    for op in ("pause", "cancel", "requeue", "discard", "letter"):
        assert raw.ask(op, ids=["a"], id="a")["error"]["reason"] == "unknown_request"


def test_operators_door_answers_what_producers_ask(operated: Operated) -> None:
    """Health and figures without a key, for a health check beside the broker."""
    with Producer(f"ipc://{operated.path}") as producer:
        assert producer.health()["state"] == "ok"
        assert producer.submit("noop").accepted


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o777])
def test_folder_that_others_can_enter_is_refused(start_broker: StartBroker, folder: Path, mode: int) -> None:
    """With the command that mends it; nothing is bound."""
    folder.mkdir()
    folder.chmod(mode)
    broker = start_broker("--operator", str(folder / "door"))
    assert broker.exit_code() == 2
    assert f"chmod 700 {folder}" in broker.output
    assert list(folder.iterdir()) == []


def test_usual_door_is_found_by_the_endpoint(start_broker: StartBroker, connect: Connect, tmp_path: Path) -> None:
    """By flag or environment; a broker on another port is not taken for it."""
    endpoint, state = f"ipc://{tmp_path}/door", {"XDG_STATE_HOME": str(tmp_path / "s")}
    broker = start_broker("--endpoint", endpoint, environment=state)
    with Raw(broker.endpoint) as raw:
        raw.ask("ping")
    assert command("pause", "--endpoint", endpoint, **state).returncode == 0
    assert command("resume", TURNSTILE_ENDPOINT=endpoint, **state).returncode == 0
    elsewhere = command("pause", "--endpoint", "tcp://127.0.0.1:1", **state)
    assert elsewhere.returncode == 9
    assert "is one running" in elsewhere.stderr
    unfindable = command("pause", "--endpoint", "tcp://127.0.0.1:0", **state)
    assert (unfindable.returncode, "--operator PATH is required" in unfindable.stderr) == (2, True)
    assert broker.stop() == 0
    assert "paused by its operator" in broker.output


def a_file_for_a_folder(folder: Path, endpoint: str) -> None:
    """Where the folder should be."""
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")


def a_file_for_the_socket(folder: Path, endpoint: str) -> None:
    """Where the socket should be."""
    folder.mkdir(parents=True, mode=0o700)
    door = operator_path("auto", endpoint, {"XDG_STATE_HOME": str(folder.parent.parent)})
    assert door is not None
    door.write_text("a file")


def a_folder_for_everybody(folder: Path, endpoint: str) -> None:
    """That others can enter."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)


@pytest.mark.parametrize("spoil", [a_file_for_a_folder, a_file_for_the_socket, a_folder_for_everybody])
def test_usual_door_that_cannot_be_degrades_the_broker(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, spoil: Callable[[Path, str], None]
) -> None:
    """It serves, and its health tells what is wrong, and how to mend it; what was in the way is as it was."""
    endpoint = f"ipc://{tmp_path}/door"
    spoil(tmp_path / "state" / "turnstile" / "operator", endpoint)
    broker = start_broker("--endpoint", endpoint, environment={"XDG_STATE_HOME": str(tmp_path / "state")})
    raw = connect(broker)
    (reason,) = raw.stats()["health"]["reasons"]
    assert reason["reason"] == "no_operator_door"
    assert "--operator" in reason["detail"]
    assert raw.submit("noop")["verdict"] == "accepted"
    assert broker.stop() == 0


def test_door_that_was_asked_for_and_cannot_be_ends_the_broker(start_broker: StartBroker, folder: Path) -> None:
    """With a line that names the setting; what is there stays, and the endpoint is free again."""
    folder.mkdir(mode=0o700)
    (folder / "door").write_text("a file")
    endpoint = f"ipc://{folder}/endpoint"
    broker = start_broker("--endpoint", endpoint, "--operator", str(folder / "door"))
    assert broker.exit_code() == 2
    assert "turnstile: --operator: " in broker.output
    assert (folder / "door").read_text() == "a file"
    assert not (folder / "endpoint").exists()


def test_row_17_a_second_broker_does_not_take_the_door(start_broker: StartBroker, operated: Operated) -> None:
    """Exit code 4, and the first one still answers."""
    second = start_broker("--operator", str(operated.path))
    assert (second.exit_code(), "another broker holds" in second.output) == (4, True)
    assert operated.say("resume") == ["resumed"]


def test_a_killed_brokers_door_is_bound_anew(start_broker: StartBroker, folder: Path, operated: Operated) -> None:
    """What it left behind answers nobody; the successor takes its place."""
    operated.broker.signal(signal.SIGKILL)
    operated.broker.exit_code()
    assert stat.S_ISSOCK(operated.path.stat().st_mode)
    (line,) = Operated(start_broker, folder).say("resume")
    assert line == "resumed"


def test_a_stopped_broker_is_told_from_none(operated: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a socket and nobody answers: the error says that what was asked may still be done."""
    monkeypatch.setattr("broker.operator_client._PATIENCE_MS", 300)
    with (
        stopped(operated.broker.pid),
        OperatorClient(operated.path) as client,
        pytest.raises(NoBrokerError, match="may still be done"),
    ):
        client.ask("resume")
    assert operated.say("resume") == ["resumed"]


def test_refusal_of_the_broker_is_shown(operated: Operated) -> None:
    """An id that cannot be one."""
    (line,) = operated.say("cancel", "no good", code=2)
    assert "not a task id" in line
    with OperatorClient(operated.path) as client, pytest.raises(OperatorError, match="no op"):
        client.ask("nonsense")


@pytest.mark.parametrize("words", [["dead"], ["dead", "requeue"], ["dead", "requeue", "a", "--all"], ["cancel"]])
def test_words_that_mean_nothing_are_refused(words: list[str]) -> None:
    """On one line, with exit code 2."""
    done = command(*words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_floods_at_the_producers_door_do_not_keep_the_operator_out(operated: Operated) -> None:
    """Each wait of the loop looks at both doors."""
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(Raw(operated.broker.endpoint)) for _ in range(20)]
        for raw in raws:
            raw.socket.send(b"\xc1")
        with OperatorClient(operated.path) as client:
            for _ in range(100):
                for raw in raws:
                    raw.socket.recv()
                    raw.socket.send(b"\xc1")
                assert client.ask("resume") == {"v": 1, "paused": False}
