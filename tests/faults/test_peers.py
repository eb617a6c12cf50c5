"""Producers that die, connections without number, and a system that grants no more: no descriptor, no memory.

Rows 8, 28, 29, 32 and 47 of the faults to survive.
"""

from __future__ import annotations

import collections
import contextlib
import resource
import subprocess
import sys
import time

import msgpack
import psutil

from tests.e2e.broker_process import ROOT
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import askers
from tests.faults.lengths import times
from tests.faults.limits import limited
from tests.witness import notes

_PATIENCE_S = 60.0


def wait_for_descriptors(process: psutil.Process, most: int) -> None:
    """Until the process has no more than so many open."""
    deadline = time.monotonic() + _PATIENCE_S
    while process.num_fds() > most:
        assert time.monotonic() < deadline, f"{process.num_fds()} descriptors, not {most}"
        time.sleep(0.01)


def test_row_8_killed_producers_leave_nothing_behind(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """Whatever moment they are killed at: each of their tasks runs once, and their descriptors are given back."""
    broker = start_broker("--log-level", "error")
    raw = connect(broker)
    process = psutil.Process(broker.pid)
    before, count = process.num_fds(), times(100, 1_000)
    command = [sys.executable, "-m", "tests.faults.orphans", broker.endpoint, witness, str(count), "8"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=True)
    assert f"killed={count}" in ended.stdout
    accepted = raw.stats()["ledger"]["accepted"]
    raw.wait_for(ready=0, running=0)
    runs = collections.Counter(note["id"] for note in notes(witness))
    assert set(runs.values()) == {1}
    assert len(runs) == accepted > 0
    wait_for_descriptors(process, before + 1)
    assert raw.ask("ping")["phase"] == "serving"


def test_row_28_a_storm_of_connections_is_answered(start_broker: StartBroker, connect: Connect) -> None:
    """Hundreds that connect at the same moment, again and again: all are answered, and nothing is left of them."""
    broker = start_broker()
    raw = connect(broker)
    process = psutil.Process(broker.pid)
    before = process.num_fds()
    for _ in range(times(5, 50)):
        with askers(broker.endpoint, 200) as sockets:
            for socket in sockets:
                assert msgpack.unpackb(socket.recv())["phase"] == "serving"
    wait_for_descriptors(process, before + 1)
    assert raw.stats()["requests"] >= 1_000


def test_row_29_without_descriptors_those_inside_are_served(start_broker: StartBroker, connect: Connect) -> None:
    """With no file descriptor left, producers that are connected are served, one line warns, and the health tells; the
    others wait, and are answered as soon as there are descriptors again."""
    broker = start_broker()
    raw = connect(broker)
    raw.ask("ping")
    process = psutil.Process(broker.pid)
    before = process.num_fds()
    with contextlib.ExitStack() as stack:
        with limited(broker.pid, resource.RLIMIT_NOFILE, before):
            sockets = stack.enter_context(askers(broker.endpoint, 20))
            deadline = time.monotonic() + _PATIENCE_S
            while raw.stats()["health"]["state"] != "degraded":
                assert time.monotonic() < deadline, "nobody was told"
            for _ in range(200):
                assert raw.submit("noop")["verdict"] == "accepted"
            assert not any(socket.poll(0) for socket in sockets)
            (reason,) = raw.stats()["health"]["reasons"]
            assert reason["reason"] == "descriptors_exhausted"
        for socket in sockets:
            assert msgpack.unpackb(socket.recv())["phase"] == "serving"
        deadline = time.monotonic() + _PATIENCE_S
        while raw.stats()["health"]["state"] != "ok":
            assert time.monotonic() < deadline, "it does not recover"
    raw.wait_for(succeeded=200)
    wait_for_descriptors(process, before + 1)
    assert broker.stop() == 0
    assert broker.output.count("no file descriptor is left") == 1


def test_row_32_a_task_asks_for_more_memory_than_there_is(start_broker: StartBroker, connect: Connect) -> None:
    """The process may have no more address space: the task has failed, and the broker serves on."""
    broker = start_broker("--workers", "2")
    raw = connect(broker)
    process = psutil.Process(broker.pid)
    with limited(broker.pid, resource.RLIMIT_AS, process.memory_info().vms + 200 * 2**20):
        for _ in range(4):
            raw.submit("allocates", 2_000)
        raw.wait_for(dead=4)
        assert {letter["error"].partition(":")[0] for letter in raw.ask("dead")["dead"]} == {"MemoryError"}
        for _ in range(2):
            raw.submit("meet", "after it", 2)
        raw.wait_for(succeeded=2)
    assert broker.stop() == 0
