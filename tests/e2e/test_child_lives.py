"""How child hosts live and end with their broker: they start where it did, stop when it does, and never outlive it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.broker_process import ROOT
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.isolation import PATIENCE_S, TASKS, children, starts, wait_for_start, wait_until_gone
from tests.witness import notes


def test_row_9_no_child_host_outlives_a_killed_broker(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: object
) -> None:
    """After `kill -9` nothing runs on, and the endpoint is free."""
    broker = start_broker("--child-hosts", "2", tasks=TASKS)
    raw = connect(broker)
    raw.submit("holds", witness, f"{tmp_path}/never")
    raw.wait_for(running=1)
    hosts, endpoint = children(broker), broker.endpoint
    assert len(hosts) == 2
    broker.signal(signal.SIGKILL)
    broker.exit_code()
    for host in hosts:
        wait_until_gone(host.pid)
    assert connect(start_broker("--endpoint", endpoint, tasks=TASKS)).ask("ping")["phase"] == "serving"


def test_row_9_a_task_that_keeps_the_interpreter_does_not_outlive_a_killed_broker(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """Its child host cannot read that the broker is gone: the kernel ends it."""
    broker = start_broker("--child-hosts", "1", tasks=TASKS)
    connect(broker).submit("keeps_the_interpreter", witness, id="keeper")
    wait_for_start(witness, "keeper")
    (host,) = children(broker)
    broker.signal(signal.SIGKILL)
    wait_until_gone(host.pid)


def test_row_24_a_copy_of_a_killed_broker_keeps_no_child_host(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: Path
) -> None:
    """What a task forked on a thread of the broker holds the broker's ends of all sockets open."""
    broker = start_broker("--child-hosts", "2", tasks=TASKS)
    raw = connect(broker)
    raw.submit("leaves_a_copy", witness, f"{tmp_path}/until")
    raw.wait_for(succeeded=1)
    hosts = children(broker)
    assert len(hosts) == 2
    broker.signal(signal.SIGKILL)
    try:
        for host in hosts:
            wait_until_gone(host.pid)
    finally:
        (tmp_path / "until").touch()


def test_killed_broker_takes_its_child_hosts_along_in_silence(start_broker: StartBroker, connect: Connect) -> None:
    """After SIGKILL of the broker its child hosts end, and none of them writes a traceback."""
    broker = start_broker("--isolate", tasks=TASKS)
    connect(broker).stats()
    hosts = children(broker)
    assert hosts
    broker.process.kill()
    for host in hosts:
        wait_until_gone(host.pid)
    assert "Traceback" not in broker.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_of_the_whole_service_costs_no_attempt(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: Path, number: signal.Signals
) -> None:
    """A service manager sends the signal to the child hosts too: they go on, and what they run is finished."""
    broker = start_broker("--child-hosts", "1", tasks=TASKS)
    raw = connect(broker)
    raw.submit("holds", witness, f"{tmp_path}/until", id="held")
    wait_for_start(witness, "held")
    (host,) = children(broker)
    for _ in range(2):
        host.send_signal(number)
    broker.signal(number)
    while raw.ask("ping")["phase"] != "draining":
        pass
    (tmp_path / "until").touch()
    assert broker.exit_code() == 0
    assert (broker.report["succeeded"], broker.report["dead"]) == (1, 0)
    assert starts(witness, "held") == [1]


def test_row_24_a_signal_to_what_a_child_host_forked_is_its_own(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """Its host outlives such signals; a process that was forked in it ends of them, also in its first moment."""
    raw = connect(start_broker("--isolate", "--child-hosts", "1"))
    raw.submit("forks_slowly", witness, id="forks")
    deadline = time.monotonic() + PATIENCE_S
    while not (forked := [one for one in notes(witness) if one["event"] == "forked"]):
        assert time.monotonic() < deadline
    os.kill(forked[0]["child"], signal.SIGTERM)
    raw.wait_for(succeeded=1)
    assert [one["signal"] for one in notes(witness) if one["event"] == "ended"] == [signal.SIGTERM]


#: As the installed command does it, from another folder than that of the package.
COMMAND = """
import os, sys
sys.path[0] = os.environ["PACKAGE"]
os.chdir(os.environ["FOLDER"])
from broker.__main__ import main
main()
"""


def test_child_hosts_start_in_the_folder_of_their_broker_and_find_its_package(
    start_broker: StartBroker, connect: Connect, tmp_path: Path
) -> None:
    """Also where a task has gone to another one; and a package of the user's that is called `broker` is no harm."""
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "__init__.py").write_text("raise AssertionError")
    lines = "import os", "from worker_host import task", "@task", "def leaves(): os.chdir('/')"
    isolated = "@task(isolate=True)", "def stays(): import beside"
    (tmp_path / "here.py").write_text("\n".join([*lines, *isolated]))
    (tmp_path / "beside.py").touch()
    environment = {"PYTHONPATH": "", "PACKAGE": str(ROOT), "FOLDER": str(tmp_path)}
    broker = start_broker(
        "--child-hosts", "1", "--workers", "1", tasks="here", environment=environment, start=("-c", COMMAND)
    )
    raw = connect(broker)
    raw.submit("stays")
    raw.wait_for(succeeded=1)
    raw.submit("leaves")
    raw.wait_for(succeeded=2)
    (host,) = children(broker)
    host.kill()
    raw.submit("stays")
    raw.wait_for(succeeded=3)


#: As where the folder that it was started in has been removed.
FOLDER_IS_GONE = """
import pathlib
def gone(): raise FileNotFoundError
pathlib.Path.cwd = gone
from broker.__main__ import main
main()
"""


def test_broker_whose_folder_is_gone_runs_what_comes_from_elsewhere(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """On its threads and in child hosts."""
    broker = start_broker("--child-hosts", "1", tasks=TASKS, start=("-c", FOLDER_IS_GONE))
    raw = connect(broker)
    raw.submit("ordinary", witness, id="on-a-thread")
    raw.submit("child", witness, id="in-a-child")
    raw.wait_for(succeeded=2)
    hosts = {one["id"]: one["host"] for one in notes(witness)}
    assert hosts == {"on-a-thread": broker.process.pid, "in-a-child": children(broker)[0].pid}


def test_tasks_wait_as_ready_ones_for_a_child_host_that_is_not(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: Path
) -> None:
    """While it imports, nothing runs: tasks expire, can be cancelled, and are not told to be running."""
    gate = tmp_path / "gate"
    broker = start_broker("--child-hosts", "1", tasks="tests.gated", environment={"GATE": str(gate)})
    raw = connect(broker)
    raw.submit("gated", witness, id="late", expires_s=0.2)
    raw.submit("gated", witness, id="patient")
    expired_at = time.monotonic() + 0.2
    while time.monotonic() < expired_at:
        stats = raw.stats()
        assert (stats["ledger"]["ready"], stats["busy"]) == (2, 0)
    assert raw.ask("status", id="patient")["task"]["state"] == "ready"
    gate.touch()
    raw.wait_for(expired=1, succeeded=1)
    assert (starts(witness, "late"), starts(witness, "patient")) == ([], [1])


def test_stop_does_not_wait_for_a_child_host_that_is_not_ready(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: Path
) -> None:
    """What no child host was there for is returned as it is: ready, without an attempt; and no worker was busy."""
    environment = {"GATE": str(tmp_path / "gate")}
    broker = start_broker("--child-hosts", "1", "--drain-s", "0.1", tasks="tests.gated", environment=environment)
    connect(broker).submit("gated", witness, id="waits")
    (host,) = children(broker)
    assert broker.stop() == 5
    assert "returned id=waits name=gated attempts=0 was=ready" in broker.output
    assert broker.report["busy_workers"] == 0
    wait_until_gone(host.pid)
