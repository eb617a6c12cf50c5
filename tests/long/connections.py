"""Thousands of producers at once: all are answered, and what a connection costs the broker."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgpack
import psutil

from tests.e2e.raw import Raw, askers

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Found:
    """What came of it."""

    answered: int
    bytes_each: float  #: resident memory of the broker, for each connection
    left: int  #: descriptors that it did not give back


def run(count: int) -> Found:
    """So many connections, all of them open, each with one request on its way at the same time."""
    command = [sys.executable, "-m", "broker", "--tasks", "tests.jobs", "--endpoint", "tcp://127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as broker:
        try:
            assert broker.stdout is not None
            endpoint = broker.stdout.readline().split("endpoint=")[1].split()[0]
            with Raw(endpoint) as raw:
                raw.ask("ping")
                process = psutil.Process(broker.pid)
                memory, descriptors = process.memory_info().rss, process.num_fds()
                answered = _ask_all(endpoint, count)
                bytes_each = (process.memory_info().rss - memory) / count
                for _ in range(100_000):
                    if process.num_fds() <= descriptors:
                        break
                    raw.ask("ping")
                left = max(0, process.num_fds() - descriptors)
            broker.terminate()
            assert broker.wait(60) == 0
        finally:
            broker.kill()
    return Found(answered, bytes_each, left)


def _ask_all(endpoint: str, count: int) -> int:
    with askers(endpoint, count) as sockets:
        return sum(msgpack.unpackb(socket.recv())["phase"] == "serving" for socket in sockets)
