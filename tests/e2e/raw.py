"""A producer without the producer library: a socket, msgpack, and `docs/protocol.md`."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import msgpack
import zmq

_REPLY_MS = 20_000  # a reply that takes this long is no reply: the test fails
_MANY_REPLIES_MS = 120_000


class Raw:
    """A REQ socket to a broker. A context manager that closes it."""

    _numbers = itertools.count()

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.REQ)
        self.socket.linger = 0
        self.socket.rcvtimeo = _REPLY_MS
        self.socket.connect(endpoint)

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)

    def exchange(self, data: bytes) -> Any:
        """The unpacked reply to these bytes."""
        self.socket.send(data)
        return msgpack.unpackb(self.socket.recv())

    def ask(self, op: str, **fields: object) -> Any:
        """The reply to a request."""
        return self.exchange(msgpack.packb({"v": 1, "op": op, **fields}))

    def submit(self, name: str, *args: object, **fields: object) -> dict[str, Any]:
        """The verdict on one task; its id is new unless one is given."""
        verdicts: list[dict[str, Any]] = self.ask("submit", tasks=[packed(name, *args, **fields)])["verdicts"]
        return verdicts[0]

    def stats(self) -> dict[str, Any]:
        """The broker's figures; the ledger is checked on the way."""
        stats: dict[str, Any] = self.ask("stats")["stats"]
        check_balance(stats["ledger"])
        return stats

    def wait_for(self, **counts: int) -> dict[str, Any]:
        """Ask until the ledger has these counts; asking is all the waiting there is, and each question is answered."""
        for _ in range(100_000):
            stats = self.stats()
            if all(stats["ledger"][name] == count for name, count in counts.items()):
                return stats
        raise AssertionError(f"the ledger never had {counts}: {stats['ledger']}")


def packed(name: str, *args: object, **fields: object) -> bytes:
    """A packed task."""
    task = {"id": f"t{os.getpid()}-{next(Raw._numbers)}", "name": name, "args": list(args), **fields}
    return bytes(msgpack.packb(task))


def check_balance(ledger: dict[str, int]) -> None:
    """P2, word for word."""
    parts = ("ready", "delayed", "running", "succeeded", "dead", "cancelled", "expired", "returned")
    assert ledger["accepted"] == sum(ledger[part] for part in parts), ledger
    assert min(ledger.values()) >= 0, ledger


@contextlib.contextmanager
def askers(endpoint: str, count: int) -> Iterator[list[zmq.Socket[bytes]]]:
    """So many connections, each with a ping on its way."""
    with zmq.Context() as context:
        context.max_sockets = count + 10
        sockets = []
        for _ in range(count):
            socket = context.socket(zmq.REQ)
            socket.linger = 0
            socket.rcvtimeo = _MANY_REPLIES_MS
            socket.connect(endpoint)
            socket.send(msgpack.packb({"v": 1, "op": "ping"}))
            sockets.append(socket)
        try:
            yield sockets
        finally:
            context.destroy(linger=0)
