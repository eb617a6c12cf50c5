"""Returned tasks are saved, and loaded by the next broker (P9). What cannot be loaded is refused by name, and kept."""

from __future__ import annotations

import signal
import stat
import time
from pathlib import Path

import pytest

from broker.spill import load
from tests.e2e.broker_process import ROOT, BrokerProcess
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import packed
from tests.witness import notes


def stopped_with_tasks_left(
    start_broker: StartBroker, connect: Connect, spill: Path, witness: str, until: Path
) -> BrokerProcess:
    """A broker that was stopped with one task running, one delayed, one retried once, and two ready."""
    broker = start_broker("--workers", "1", "--drain-s", "0", "--spill", str(spill), "--log-level", "error")
    raw = connect(broker)
    raw.submit("asks_for_time", witness, 600, id="retried", retries=1)
    raw.wait_for(delayed=1, running=0)
    raw.submit("hold", witness, str(until), id="running")
    raw.wait_for(running=1)
    raw.submit("noop", id="delayed", delay_s=600)
    raw.submit("record", witness, 1, id="ready-1")
    raw.submit("record", witness, 2, id="ready-2", expires_s=600)
    assert broker.stop() == 5
    assert (broker.report["returned"], broker.report["saved"]) == (5, 5)
    assert f" saved 5 returned tasks in {spill}\n" in broker.output  # whatever is not logged
    return broker


def test_spill_file_that_cannot_be_locked_is_named(start_broker: StartBroker, tmp_path: Path) -> None:
    """A folder where its lock should be: the broker does not start, so that it shares the file with nobody."""
    (tmp_path / "spill.lock").mkdir()
    broker = start_broker("--spill", str(tmp_path / "spill"))
    assert broker.exit_code() == 7
    assert f"spill file {tmp_path}/spill cannot be locked: Is a directory" in broker.output


def test_returned_tasks_go_on_in_the_next_broker(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """Ids, attempts and due times survive the stop; the attempt that was cut off costs no retry."""
    spill, until = tmp_path / "spill", tmp_path / "until"
    stopped_with_tasks_left(start_broker, connect, spill, witness, until)
    assert stat.S_IMODE(spill.stat().st_mode) == 0o600
    until.touch()
    successor = start_broker("--workers", "1", "--spill", str(spill))
    raw = connect(successor)
    stats = raw.wait_for(accepted=5, succeeded=3, delayed=2)
    assert stats["duplicates"] == 0
    starts = [(note["id"], note["attempt"]) for note in notes(witness) if note["event"] == "start"]
    assert starts == [("retried", 1), ("running", 1), ("running", 1), ("ready-1", 1), ("ready-2", 1)]
    retried = raw.ask("status", id="retried")["task"]
    assert (retried["state"], retried["attempt"]) == ("delayed", 1)
    assert 500 < retried["due_in_s"] <= 600
    assert raw.ask("submit", tasks=[packed("record", witness, 1, id="ready-1")])["verdicts"][0]["duplicate"] is True
    assert not spill.exists()
    assert (tmp_path / "spill.loaded").exists()


def test_nothing_is_written_when_nothing_is_left(start_broker: StartBroker, connect: Connect, tmp_path: Path) -> None:
    """A broker that finished everything leaves no file."""
    broker = start_broker("--spill", str(tmp_path / "spill"))
    connect(broker).submit("noop")
    assert broker.stop() == 0
    assert not (tmp_path / "spill").exists()
    assert "returned tasks" not in broker.output


@pytest.mark.parametrize("fault", ["flipped", "cut", "foreign", "newer", "empty", "a folder"])
def test_a_file_that_is_no_good_is_refused_and_kept(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str, fault: str
) -> None:
    """Damaged, cut, foreign, of another version: exit 7, the file named, not one byte of it changed."""
    spill = tmp_path / "spill"
    stopped_with_tasks_left(start_broker, connect, spill, witness, tmp_path / "never")
    data = spill.read_bytes()
    if fault == "a folder":
        spill.unlink()
        spill.mkdir()
    else:
        spill.write_bytes(
            {
                "flipped": data[:-1] + bytes([data[-1] ^ 1]),
                "cut": data[: len(data) // 2],
                "foreign": b"my thesis",
                "newer": data.replace(b"spill 1", b"spill 2", 1),
                "empty": b"",
            }[fault]
        )
        data = spill.read_bytes()
    refused = start_broker("--spill", str(spill))
    assert refused.exit_code() == 7
    assert str(spill) in refused.output
    assert fault == "a folder" or spill.read_bytes() == data


@pytest.mark.parametrize(
    ("flags", "tasks", "words"),
    [
        (("--capacity", "4"), "tests.jobs", "larger --capacity"),
        (("--capacity-bytes", "100"), "tests.jobs", "larger --capacity"),
        ((), "demo.lessons", "no task has this name"),
    ],
)
def test_tasks_that_do_not_fit_are_refused_and_kept(
    start_broker: StartBroker,
    connect: Connect,
    tmp_path: Path,
    witness: str,
    flags: tuple[str, ...],
    tasks: str,
    words: str,
) -> None:
    """A broker that has no room, or no function, for a saved task does not start; the next one that has can."""
    spill = tmp_path / "spill"
    stopped_with_tasks_left(start_broker, connect, spill, witness, tmp_path / "until")
    refused = start_broker("--spill", str(spill), *flags, tasks=tasks)
    assert refused.exit_code() == 7
    assert words in refused.output
    (tmp_path / "until").touch()
    connect(start_broker("--spill", str(spill))).wait_for(succeeded=3, delayed=2)


def test_a_spill_that_cannot_be_written_is_said(start_broker: StartBroker, connect: Connect, tmp_path: Path) -> None:
    """If the folder has gone by the time of the stop: exit 8, the ids still named, and saved=0."""
    folder = tmp_path / "state"
    folder.mkdir()
    broker = start_broker("--drain-s", "0", "--spill", str(folder / "spill"))
    connect(broker).submit("noop", id="left", delay_s=600)
    (folder / "spill.lock").unlink()
    folder.rmdir()
    assert broker.stop() == 8
    assert broker.report["saved"] == 0
    assert broker.returned_ids == ["left"]
    assert "could not be saved" in broker.output


def test_two_brokers_cannot_share_a_spill_file(start_broker: StartBroker, tmp_path: Path) -> None:
    """The second would load, and save over, the first one's tasks."""
    start_broker("--spill", str(tmp_path / "spill"))
    second = start_broker("--spill", str(tmp_path / "spill"))
    assert second.exit_code() == 4
    assert "another broker" in second.output


def test_by_default_the_file_is_found_by_the_endpoint(
    start_broker: StartBroker, connect: Connect, tmp_path: Path
) -> None:
    """Without `--spill`, a broker with a fixed endpoint finds what the last one there left, in its user's state.

    And the task has been held since before the first one stopped, as far as anybody can see.
    """
    endpoint = f"ipc://{tmp_path}/door"
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    first = start_broker("--endpoint", endpoint, "--drain-s", "0", environment=state)
    connect(first).submit("noop", id="left", delay_s=600)
    assert first.stop() == 5
    stopped = time.monotonic()
    second = start_broker("--endpoint", endpoint, environment=state)
    assert connect(second).ask("status", id="left")["task"]["state"] == "delayed"
    since_the_stop_s = time.monotonic() - stopped
    assert connect(second).stats()["oldest_s"] > since_the_stop_s


def test_paths_stay_where_they_were_when_a_task_goes_elsewhere(
    start_broker: StartBroker, connect: Connect, tmp_path: Path
) -> None:
    """Relative ones are those from where the broker was started: the tasks are saved there, and no socket is left."""
    flags = ("--endpoint", "ipc://d", "--spill", "returned", "--operator", "o/door")
    broker = start_broker(*flags, "--drain-s", "0")
    raw = connect(broker)
    raw.submit("goes_to", str(tmp_path))
    raw.wait_for(succeeded=1)
    raw.submit("noop", id="left", delay_s=600)
    assert broker.stop() == 5
    start = broker.log.parent
    assert [one.id for one in load(start / "returned", time.time())] == ["left"]
    assert not (start / "d").exists()
    assert not (start / "o" / "door").exists()
    assert list(tmp_path.iterdir()) == []


def test_other_task_modules_at_the_same_endpoint(start_broker: StartBroker, connect: Connect, tmp_path: Path) -> None:
    """A broker with other task functions starts, leaves the file alone, and says where it is; its operator finds it."""
    endpoint = f"ipc://{tmp_path}/door"
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    first = start_broker("--endpoint", endpoint, "--drain-s", "0", environment=state)
    connect(first).submit("noop", id="left", delay_s=600)
    assert first.stop() == 5
    other = start_broker("--endpoint", endpoint, tasks="demo.lessons", environment=state)
    (spill,) = (tmp_path / "state" / "turnstile").glob("*.spill")
    assert other.says(f"{spill} holds tasks of this endpoint for other task modules")
    assert other.stop() == 0
    third = start_broker("--endpoint", endpoint, environment=state)
    assert connect(third).ask("status", id="left")["task"]["state"] == "delayed"


def test_tasks_are_not_lost_between_load_and_start(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """A broker that loads the file, and ends before it runs anything, has left it where it was."""
    spill = tmp_path / "spill"
    stopped_with_tasks_left(start_broker, connect, spill, witness, tmp_path / "until")
    killer = tmp_path / "killer"
    killer.mkdir()
    (killer / "sitecustomize.py").write_text(
        "import os, signal, broker.supervisor as s\n"
        "def start(self):\n"
        "    os.write(1, b'turnstile holds %d\\n' % self._queue.held)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "s.Supervisor.start = start\n"
    )
    killed = start_broker("--spill", str(spill), environment={"PYTHONPATH": f"{killer}:{ROOT}"})
    assert killed.exit_code() == -9
    assert "turnstile holds 5" in killed.output
    (tmp_path / "until").touch()
    connect(start_broker("--spill", str(spill))).wait_for(succeeded=3, delayed=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_that_comes_while_tasks_are_loaded_is_a_drain(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str, number: signal.Signals
) -> None:
    """A signal between load and start: the broker starts, drains, and saves what that leaves."""
    spill = tmp_path / "spill"
    stopped_with_tasks_left(start_broker, connect, spill, witness, tmp_path / "until")
    impatient = tmp_path / "impatient"
    impatient.mkdir()
    (impatient / "sitecustomize.py").write_text(
        "import os, broker.supervisor as s\n"
        "load = s.load\n"
        "def signalled(*args):\n"
        f"    os.kill(os.getpid(), {number.value})\n"
        "    return load(*args)\n"
        "s.load = signalled\n"
    )
    (tmp_path / "until").touch()
    flags = ("--spill", str(spill), "--drain-s", "20")
    stopped = start_broker(*flags, environment={"PYTHONPATH": f"{impatient}:{ROOT}"})
    assert stopped.exit_code() == 5
    assert (stopped.report["succeeded"], stopped.report["returned"], stopped.report["saved"]) == (3, 2, 2)
