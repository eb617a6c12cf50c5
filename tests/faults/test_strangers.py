"""Who is not meant to get in, or to make tables grow. Rows S2 and S10 of the faults to survive."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

from broker.protocol import DEFAULT_ENDPOINT
from tests.e2e.conftest import Connect, StartBroker
from tests.faults.lengths import times
from tests.still_broker import StillBroker, wire
from worker_host import task

_AS_NOBODY = """
import os, socket, sys
door = socket.socket(socket.AF_UNIX)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
door.connect(sys.argv[1])
"""
_GROWTH_BYTES = 200_000


@task(retries=0)
def noop(*_: object) -> None:
    """Nothing."""


def test_row_s2_an_ipc_door_is_its_owners_alone(start_broker: StartBroker, connect: Connect, tmp_path: Path) -> None:
    """The socket is a file that its owner alone may use; by default the door is on loopback."""
    path = tmp_path / "door"
    broker = start_broker("--endpoint", f"ipc://{path}")
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & 0o077 == 0
    assert connect(broker).ask("ping")["phase"] == "serving"
    if os.geteuid() == 0:  # then one can be somebody else, to whom the folder is open
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)
        other = subprocess.run([sys.executable, "-c", _AS_NOBODY, str(path)], capture_output=True, text=True)
        assert "PermissionError" in other.stderr
    with socket.socket(socket.AF_UNIX) as owner:
        owner.connect(str(path))
    assert DEFAULT_ENDPOINT.startswith("tcp://127.0.0.1:")


def test_row_s10_nothing_that_is_sent_makes_a_table_grow() -> None:
    """Names, ids, tags, operations and connections without number: a full broker remembers none of them."""
    still = StillBroker(noop, capacity=10, remember_ids=50)
    for number in range(10):
        still.submit(wire(f"held-{number}", "noop"))
    numbers = itertools.count()

    def strange_requests(count: int) -> None:
        for _ in range(count):
            number = next(numbers)
            still.submit(wire(f"id-{number}", f"name-{number}"))
            still.submit(wire(f"id-{number}", "noop", number))
            still.submit(wire("held-1", "noop", number))
            still.submit(wire(f"id-{number}", "noop", b"%d" % number) + b"\xc0")
            still.ask("status", id=f"id-{number}", tag=f"tag-{number}")
            still.ask(f"op-{number}", tag=number)
            still.clock.advance(0.001)
            still.run()
            still.submit(wire(f"ran-{number}", "noop"))

    strange_requests(1_000)  # until every window is full
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        strange_requests(times(2_000, 20_000))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < _GROWTH_BYTES
    assert still.queue.held == 10
