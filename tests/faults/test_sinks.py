"""Nobody reads what the broker has to say. Row 34 of the faults to survive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.raw import Raw
from tests.faults.sinks import KINDS, Kind, sink

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", KINDS)
def test_row_34_nobody_reads_the_log(kind: Kind, witness: str) -> None:
    """With standard error on a full disk, or a pipe that nobody reads, submits are answered and the exit is clean."""
    command = [sys.executable, "-m", "broker", "--tasks", "tests.jobs", "--endpoint", "tcp://127.0.0.1:0"]
    with (
        sink(kind) as nowhere,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=nowhere, text=True, cwd=ROOT) as broker,
    ):
        try:
            assert broker.stdout is not None
            endpoint = broker.stdout.readline().split("endpoint=")[1].split()[0]
            with Raw(endpoint) as raw:
                for number in range(1_000):
                    assert raw.submit("gives_up", witness, id=f"{'long' * 12}-{number}")["verdict"] == "accepted"
                assert raw.wait_for(dead=1_000)["log_dropped"] > 0
            broker.terminate()
            assert broker.wait(20) == 0
        finally:
            broker.kill()


def test_sinks_take_nothing() -> None:
    """The full one refuses, the one without a reader too, and the stopped one keeps a writer waiting."""
    with sink("full") as full, pytest.raises(OSError, match="No space left"):
        os.write(full, b"x")
    with sink("gone") as gone, pytest.raises(BrokenPipeError):
        os.write(gone, b"x")
    with sink("stopped") as stopped:
        os.set_blocking(stopped, False)
        with pytest.raises(BlockingIOError):
            os.write(stopped, b"x")
        os.set_blocking(stopped, True)
