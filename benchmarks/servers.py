"""The servers that are measured, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import IO, Any, cast

import msgpack
import zmq


class Server:
    """A process that prints its endpoint when it is ready. A context manager that ends it."""

    def __init__(self, *arguments: str) -> None:
        started = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True)
        line = cast("IO[str]", self.process.stdout).readline()
        self.seconds_to_ready = time.perf_counter() - started
        self.endpoint = next(word for word in line.replace("endpoint=", "").split() if word.startswith("tcp://"))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        cast("IO[str]", self.process.stdout).close()

    @property
    def rss_bytes(self) -> int:
        """Its resident memory."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def echo() -> Server:
    """The yardstick."""
    return Server("benchmarks.echo")


def broker(*flags: str) -> Server:
    """A broker with its default eight workers, and room for everything that is submitted."""
    room = ("--capacity", "4000000", "--capacity-bytes", "4000000000")
    return Server(
        "broker",
        "--tasks",
        "benchmarks.tasks",
        "--endpoint",
        "tcp://127.0.0.1:0",
        *room,
        "--log-level",
        "error",
        *flags,
    )


def ask(endpoint: str, request: dict[str, object]) -> Any:
    """The reply of a broker to one request."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(endpoint)
        socket.send(msgpack.packb({"v": 1, **request}))
        return msgpack.unpackb(socket.recv())


def wait_until_done(endpoint: str, succeeded: int) -> None:
    """Return when the broker has `succeeded` so many tasks since its start."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(endpoint)
        while True:
            socket.send(msgpack.packb({"v": 1, "op": "stats"}))
            if msgpack.unpackb(socket.recv())["stats"]["ledger"]["succeeded"] >= succeeded:
                return
            time.sleep(0.001)
