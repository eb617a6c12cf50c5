"""A crowd of client processes that take turns at one server or another, so that both are measured in the same minute.

They speak the protocol by hand: what is compared is servers, not client libraries.
"""

from __future__ import annotations

import multiprocessing
import secrets
import time
from multiprocessing.connection import Connection

import msgpack
import zmq

from producer import Keys


def submit_request(task_id: str, name: str = "noop", **fields: object) -> bytes:
    """The packed request that submits one task."""
    task = {"id": task_id, "name": name, "args": [1], **fields}
    return bytes(msgpack.packb({"v": 1, "op": "submit", "tasks": [msgpack.packb(task)]}))


def _client(endpoints: list[str], keys: dict[str, Keys], pipe: Connection) -> None:
    context = zmq.Context()
    sockets = []
    for endpoint in endpoints:
        socket = context.socket(zmq.REQ)
        if endpoint in keys:
            socket.setsockopt(zmq.CURVE_SERVERKEY, keys[endpoint].broker)
            socket.setsockopt(zmq.CURVE_SECRETKEY, keys[endpoint].secret)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(keys[endpoint].secret))
        socket.connect(endpoint)
        sockets.append(socket)
    prefix = secrets.token_hex(4)
    submitted = 0
    pipe.send(None)
    while (order := pipe.recv()) is not None:
        which, requests = order
        socket = sockets[which]
        for number in range(submitted, submitted + requests):
            socket.send(submit_request(f"{prefix}{number:07x}"))
            verdict = msgpack.unpackb(socket.recv())["verdicts"][0]["verdict"]
            assert verdict == "accepted", verdict
        submitted += requests
        pipe.send(None)
    context.destroy(linger=0)


class Crowd:
    """`size` client processes, connected to every endpoint. A context manager that ends them."""

    def __init__(self, size: int, endpoints: list[str], keys: dict[str, Keys] | None = None) -> None:
        """`keys`: for those of the endpoints that are closed."""
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(size):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_client, args=(endpoints, keys or {}, theirs))
            process.start()
            self._processes.append(process)
            self._pipes.append(ours)
        for pipe in self._pipes:
            pipe.recv()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()

    def per_second(self, which: int, requests: int) -> float:
        """Have each client make `requests` requests, in turn, to endpoint number `which`; the requests per second."""
        started = time.perf_counter()
        for pipe in self._pipes:
            pipe.send((which, requests))
        for pipe in self._pipes:
            pipe.recv()
        return len(self._pipes) * requests / (time.perf_counter() - started)
