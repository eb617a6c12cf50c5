"""Starting: the ready line, settings from both places, and one clear line with its own exit code where it cannot be."""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.interpreter import keeps_every_key
from tests.e2e.broker_process import ROOT
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import Raw


def test_the_ready_line(start_broker: StartBroker) -> None:
    """One line tells the endpoint as bound, the workers, both capacities and the tasks."""
    broker = start_broker("--workers", "3", "--capacity", "7", environment={"TURNSTILE_CAPACITY_BYTES": "9999"})
    ready = [line for line in broker.output.splitlines() if line.startswith("turnstile ready")]
    assert len(ready) == 1
    assert re.search(r"endpoint=tcp://127\.0\.0\.1:[1-9]\d* workers=3 capacity=7 capacity_bytes=9999 tasks=", ready[0])


def test_row_19_a_python_that_keeps_every_key_is_told_of(start_broker: StartBroker) -> None:
    """Those from 3.12.0 to 3.12.6; a line, and nothing else: who cannot have another one can still use it."""
    assert keeps_every_key() is ((3, 12) <= sys.version_info < (3, 12, 7))
    broker = start_broker()
    assert broker.stop() == 0
    assert ("never frees the key of a map" in broker.output) is keeps_every_key()


@pytest.mark.parametrize(
    ("flags", "tasks", "code", "words"),
    [
        (("--workers", "0"), "tests.jobs", 2, "--workers is 1 to 1,000, not 0"),
        (("--workers", "many"), "tests.jobs", 2, "--workers is a whole number, not 'many'"),
        (("--colour",), "tests.jobs", 2, "--colour"),
        (("--drain-s", "nan"), "tests.jobs", 2, "--drain-s is 0"),
        (("--endpoint", "tcp://127.0.0.1:99999"), "tests.jobs", 2, "a port is 0 to 65535"),
        (("--endpoint", "tcp://0.0.0.0:0"), "tests.jobs", 2, "--insecure"),
        (("--spill", ""), "tests.jobs", 2, "--spill is auto, none or the path of a file"),
        (("--endpoint", "udp://127.0.0.1:1"), "tests.jobs", 2, "neither tcp"),
        ((), "", 2, "--tasks is required"),
        ((), "tests.no_such_module", 3, "cannot load task module 'tests.no_such_module'"),
        ((), "tests.e2e.broken_tasks", 3, "ZeroDivisionError"),
        ((), "json", 3, "no task function in json"),
        (("--spill", "/dev/null/spill"), "tests.jobs", 2, "no file can be written beside --spill /dev/null/spill"),
        (("--spill", "/proc/spill"), "tests.jobs", 2, "no file can be written beside --spill /proc/spill"),
        (("--endpoint", "ipc:///no/such/folder/door"), "tests.jobs", 4, "cannot listen on ipc:///no/such/folder/door"),
    ],
)
def test_what_cannot_start_says_why(
    start_broker: StartBroker, flags: tuple[str, ...], tasks: str, code: int, words: str
) -> None:
    """A bad flag, module or endpoint: one line, its own exit code, no traceback."""
    broker = start_broker(*flags, tasks=tasks)
    assert broker.exit_code() == code
    said = [line for line in broker.output.splitlines() if not line.startswith("@@")]
    assert len(said) == 1, broker.output
    assert said[0].startswith("turnstile: ")
    assert words in said[0]


def test_a_bad_environment_variable_is_named(start_broker: StartBroker) -> None:
    """A setting from the environment is checked as a flag is, and named as it was given."""
    broker = start_broker(environment={"TURNSTILE_CAPACITY": "lots"})
    assert broker.exit_code() == 2
    assert "TURNSTILE_CAPACITY is a whole number, not 'lots'" in broker.output


def test_a_misspelt_environment_variable_is_named(start_broker: StartBroker) -> None:
    """One warning, whatever else is logged; the broker starts."""
    variables = {"TURNSTILE_CAPASITY": "3", "TURNSTILE_SERVICE_PORT": "1"}
    broker = start_broker("--log-level", "error", environment=variables)
    assert broker.says(" TURNSTILE_CAPASITY is no setting, and ignored: TURNSTILE_CAPACITY is one\n")
    assert "capacity=10000 " in broker.output
    assert broker.stop() == 0
    assert broker.output.count("WARNING") == 1


def test_row_17_a_second_broker_on_the_same_port(start_broker: StartBroker, connect: Connect) -> None:
    """The second one ends with a clear line and exit code 4; the first is unharmed."""
    first = start_broker()
    second = start_broker("--endpoint", first.endpoint)
    assert second.exit_code() == 4
    assert f"cannot listen on {first.endpoint}: another process listens there" in second.output
    assert connect(first).submit("noop")["verdict"] == "accepted"


def test_row_17_a_second_broker_on_the_same_ipc_path(start_broker: StartBroker, tmp_path: Path) -> None:
    """ZeroMQ would let the second one steal the path; the lock does not. Only the owner may connect."""
    endpoint = f"ipc://{tmp_path}/door"
    first = start_broker("--endpoint", endpoint)
    second = start_broker("--endpoint", endpoint)
    assert second.exit_code() == 4
    assert f"another broker holds {tmp_path}/door.lock" in second.output
    assert stat.S_IMODE((tmp_path / "door").stat().st_mode) & 0o077 == 0
    with Raw(first.endpoint) as raw:
        assert raw.submit("noop")["verdict"] == "accepted"
    assert first.stop() == 0
    third = start_broker("--endpoint", endpoint)
    with Raw(third.endpoint) as raw:
        assert raw.submit("noop")["verdict"] == "accepted"


def test_what_tasks_print_is_seen(start_broker: StartBroker, connect: Connect) -> None:
    """With standard output in a file, a printed line is there at once, and half a line at the latest after the stop."""
    broker = start_broker(environment={"PYTHONUNBUFFERED": ""})
    raw = connect(broker)
    raw.submit("says", "a line\n")
    raw.submit("says", "half a line")
    raw.wait_for(succeeded=2)
    assert "a line\n" in broker.output
    assert broker.stop() == 0
    assert "half a line" in broker.output


def test_spill_in_a_folder_that_is_not_there_is_no_wish_for_one(start_broker: StartBroker, tmp_path: Path) -> None:
    """Its path may be mistyped: the broker does not start, says what to do, and makes nothing."""
    broker = start_broker("--spill", str(tmp_path / "mistyped" / "spill"))
    assert broker.exit_code() == 2
    assert f"No such file or directory; make its folder first (mkdir -p {tmp_path}/mistyped), or" in broker.output
    assert list(tmp_path.iterdir()) == []


def test_home_that_cannot_be_written_is_a_warning(start_broker: StartBroker, connect: Connect, tmp_path: Path) -> None:
    """Nobody chose it, so the broker starts; it says at once, in its health and at the end what it cannot do."""
    home = {"XDG_STATE_HOME": "/dev/null"}
    broker = start_broker("--endpoint", f"ipc://{tmp_path}/door", "--drain-s", "0", environment=home)
    assert broker.says(
        "cannot be saved, and none that an earlier one left is loaded: no file can be written in /dev/null"
    )
    raw = connect(broker)
    health = raw.stats()["health"]
    assert (health["state"], [one["reason"] for one in health["reasons"]]) == (
        "degraded",
        ["no_spill", "no_operator_door"],
    )
    raw.submit("noop", id="left", delay_s=600)
    assert broker.stop() == 8
    assert broker.returned_ids == ["left"]


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m broker` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *words],
        cwd=ROOT, text=True, stderr=subprocess.PIPE, timeout=90, check=False, **{"stdout": subprocess.PIPE, **options},
    )  # fmt: skip


def test_help_is_no_failure() -> None:
    """On standard output, with exit code 0."""
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m broker")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dance",), "there is no command 'dance', but keys, dead, cancel, pause, resume; settings begin with --\n"),
        (("stats",), "there is no command 'stats' (python -m producer stats), but keys, dead, cancel, "),
        (("dead",), "say what to do: list, show, requeue, discard (python -m broker dead --help)\n"),
        (("keys",), "say what to do: create, list, revoke (python -m broker keys --help)\n"),
        (("keys", "dance"), "invalid choice: 'dance'"),
        (("keys", "revoke", "ada", "--keys", "/no/such/folder"), "no producer is named 'ada'"),
        (("keys", "create", "ada", "--keys", "/dev/null/keys"), "Not a directory: '/dev/null/keys'"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(words: tuple[str, ...], said: str) -> None:
    """One line, exit code 2, no traceback."""
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("turnstile: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_while_the_tasks_are_loaded_is_no_failure_of_theirs(tmp_path: Path) -> None:
    """The broker ends at once, and says so without a word of blame: it is no stop, since nothing had begun."""
    (tmp_path / "slow.py").write_text("raise KeyboardInterrupt")
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    done = run("--tasks", "slow", "--endpoint", "tcp://127.0.0.1:0", env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "turnstile: interrupted before it was ready\n")


def test_fault_in_the_stop_itself_is_a_failure_that_is_told(start_broker: StartBroker) -> None:
    """Exit code 1 and a traceback: nobody takes such an end for a good one."""
    broker = start_broker(tasks="tests.e2e.broken_stop")
    assert broker.stop() == 1
    assert "ZeroDivisionError" in broker.output
    assert "turnstile stopped" not in broker.output


def test_output_that_takes_nothing_costs_nothing_but_what_is_said(tmp_path: Path) -> None:
    """A full disk under standard output: the broker serves, what tasks print is lost, and the stop is a good one."""
    endpoint = f"ipc://{tmp_path}/door"
    command = [sys.executable, "-m", "broker", "--tasks", "tests.jobs", "--endpoint", endpoint, "--spill", "none"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "", "XDG_STATE_HOME": str(tmp_path)}
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(command, stdout=full, cwd=ROOT, env=environment) as process,
    ):
        try:
            with Raw(endpoint) as raw:
                assert raw.submit("says", "half a line, which is written at the end")["verdict"] == "accepted"
                raw.wait_for(succeeded=1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_closed_standard_streams(tmp_path: Path) -> None:
    """Started with descriptors 0, 1 and 2 closed: no socket takes their numbers, the broker serves, and drains."""
    endpoint = f"ipc://{tmp_path}/door"
    command = [sys.executable, "-m", "broker", "--tasks", "tests.jobs", "--endpoint", endpoint, "--spill", "none"]
    shell = f"{shlex.join(command)} 0<&- 1>&- 2>&- & echo $!; wait $!; echo $?"
    with subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        with Raw(endpoint) as raw:
            assert raw.submit("says", "nobody hears this\n")["verdict"] == "accepted"
            raw.wait_for(succeeded=1)
            assert {Path(f"/proc/{pid}/fd/{number}").readlink() for number in range(3)} == {Path("/dev/null")}
        os.kill(pid, signal.SIGTERM)
        assert process.stdout.read() == "0\n"
