"""The rows of the table: each measures one thing, beside its yardstick, in alternating rounds of one run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import zmq

from benchmarks.crowd import Crowd, submit_request
from benchmarks.hostile import hostile
from benchmarks.overload import endless, overload, rejection
from benchmarks.row import Row, at_least, at_most
from benchmarks.servers import ask, broker, echo, wait_until_done
from broker.keys import KeyFolder
from producer import Keys


def submit_one_at_a_time(*, rounds: int = 9) -> Iterator[Row]:
    """Producers that take turns, against the same producers at a bare echo; a round is half a second or so each."""
    with echo() as bare, broker() as real:
        for clients, requests, bar in ((1, 4_000, 0.9), (16, 500, 0.7)):
            with Crowd(clients, [bare.endpoint, real.endpoint]) as crowd:
                pairs = [(crowd.per_second(0, requests), crowd.per_second(1, requests)) for _ in range(rounds + 1)][
                    1:
                ]  # the first round warms up
            noun = "one producer" if clients == 1 else f"{clients} producers"
            yield Row(f"echo, {noun}", statistics.median(pair[0] for pair in pairs), "requests/s", None, None)
            yield Row(f"submit, {noun}", statistics.median(pair[1] for pair in pairs), "tasks/s", None, None)
            ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
            yield at_least(f"submit / echo, {noun}", ratio, "x", bar)


def batch_to_executed(*, tasks: int = 200_000, batch: int = 100, window: int = 8) -> Iterator[Row]:
    """No-op tasks, 100 in a message, 8 messages in flight: until the last one has been run and acknowledged."""
    requests = [
        msgpack.packb({"v": 1, "op": "submit", "tasks": [_packed_noop(first + offset) for offset in range(batch)]})
        for first in range(0, tasks, batch)
    ]
    with broker() as real, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(real.endpoint)
        started = time.perf_counter()
        in_flight = 0
        for request in requests:
            socket.send_multipart([b"", request])
            in_flight += 1
            if in_flight == window:
                socket.recv_multipart()
                in_flight -= 1
        for _ in range(in_flight):
            socket.recv_multipart()
        wait_until_done(real.endpoint, tasks)
        seconds = time.perf_counter() - started
    started = time.perf_counter()
    for request in requests:
        for task in msgpack.unpackb(request)["tasks"]:
            fields = msgpack.unpackb(task)
            _noop(*fields["args"])
    bare = tasks / (time.perf_counter() - started)
    yield Row("bare loop: unpack and call", bare, "tasks/s", None, None)
    yield at_least("batch to executed", tasks / seconds, "tasks/s", 100_000)


def _noop(*_: object) -> None:
    """What a bare loop calls."""


def _packed_noop(number: int) -> bytes:
    return bytes(msgpack.packb({"id": f"batch{number:010d}", "name": "noop", "args": [number]}))


def submit_to_start(*, tasks: int = 300, pace_s: float = 0.01) -> Iterator[Row]:
    """From just before submit to the task's first line, idle broker, 100 tasks/s; against a round trip at that pace."""
    with (
        echo() as bare,
        broker() as real,
        tempfile.TemporaryDirectory() as folder,
        zmq.Context() as context,
        context.socket(zmq.REQ) as to_bare,
        context.socket(zmq.REQ) as to_real,
    ):
        path = Path(folder) / "starts"
        to_bare.connect(bare.endpoint)
        to_real.connect(real.endpoint)
        trips = []
        for number in range(tasks):
            time.sleep(pace_s / 2)
            began = time.monotonic_ns()
            to_bare.send(submit_request(f"trip{number}"))
            msgpack.unpackb(to_bare.recv())
            trips.append((time.monotonic_ns() - began) / 1_000)
            time.sleep(pace_s / 2)
            arguments = [time.monotonic_ns(), str(path)]
            to_real.send(submit_request(f"start{number}", "note_start", args=arguments))
            to_real.recv()
        wait_until_done(real.endpoint, tasks)
        starts = sorted(int(line) / 1_000 for line in path.read_text().split())
    trip, start = statistics.median(trips), statistics.median(starts)
    yield Row("echo round trip at 100/s, median", trip, "us", None, None)
    yield Row("submit to start at 100/s, median", start, "us", None, None)
    yield at_most("submit to start / echo round trip, medians", start / trip, "x", 1.0)
    yield at_most("submit to start at 100/s, 99th percentile", starts[int(len(starts) * 0.99)], "us", 1_000)


def memory_per_task(*, tasks: int = 200_000) -> Iterator[Row]:
    """Resident memory that each queued task with a 100-byte argument adds; its task message is some 140 bytes."""
    payload = b"x" * 100
    with broker() as real, zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(real.endpoint)
        _occupy_workers(socket)
        _queue(socket, 10_000, "warm", payload)
        before = real.rss_bytes
        _queue(socket, tasks, "task", payload)
        yield at_most("memory per queued task of 100 bytes", (real.rss_bytes - before) / tasks, "bytes", 300)


def memory_per_id(*, ids: int = 100_000, turnovers: int = 20) -> Iterator[Row]:
    """Resident memory that each remembered id of 15 characters adds, in a window of the default size.

    When it is full for the first time; and at most, as ids come and go: then the window's dict is built anew now and
    then, and the memory of the old one is not always given back.
    """
    window, none = (_sizes(remember, ids, turnovers) for remember in (ids, 0))
    yield Row("memory per remembered id, window just full", (window[0] - none[0]) / ids, "bytes", None, None)
    yield Row("memory per remembered id, at most", (max(window) - max(none)) / ids, "bytes", None, None)


def _sizes(remember: int, ids: int, turnovers: int) -> list[int]:
    """Resident bytes of a broker that remembers so many ids, after `ids` tasks, and after each quarter more."""
    sizes = []
    with broker("--remember-ids", str(remember)) as real, zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(real.endpoint)
        for turn in range(4 * turnovers):
            _queue(socket, ids // 4, f"t{turn:03d}", b"")
            wait_until_done(real.endpoint, (turn + 1) * (ids // 4))
            sizes.append(real.rss_bytes)
        assert ask(real.endpoint, {"op": "stats"})["stats"]["remembered"] == remember
    return sizes[3:]


def depth(*, deep: int = 1_000_000, rounds: int = 9) -> Iterator[Row]:
    """Cost of a submit with a million tasks queued, against one with ten."""
    with broker() as shallow, broker() as filled, zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(filled.endpoint)
        _occupy_workers(socket)
        _queue(socket, deep, "deep", b"")
        with Crowd(1, [shallow.endpoint, filled.endpoint]) as crowd:
            pairs = [(crowd.per_second(0, 3_000), crowd.per_second(1, 3_000)) for _ in range(rounds + 1)][1:]
    cost = statistics.median(pair[0] / pair[1] for pair in pairs)
    yield at_most("cost of submit at depth 1,000,000 / at depth 10", cost, "x", 1.1)


def _occupy_workers(socket: zmq.Socket[bytes]) -> None:
    """Give each of the eight workers an hour's sleep, so that what is queued after this stays queued."""
    for number in range(8):
        socket.send(submit_request(f"occupy{number}", "sleep", args=[3_600]))
        socket.recv()


def _queue(socket: zmq.Socket[bytes], tasks: int, prefix: str, payload: bytes) -> None:
    for first in range(0, tasks, 250):
        batch = [
            msgpack.packb({"id": f"{prefix}{number:011d}", "name": "noop", "args": [payload]})
            for number in range(first, first + 250)
        ]
        socket.send(msgpack.packb({"v": 1, "op": "submit", "tasks": batch}))
        verdicts = msgpack.unpackb(socket.recv())["verdicts"]
        assert all(verdict["verdict"] == "accepted" for verdict in verdicts), verdicts[0]


def start(*, rounds: int = 7) -> Iterator[Row]:
    """From `exec` to the ready line."""
    seconds = []
    for _ in range(rounds):
        with broker() as real:
            seconds.append(real.seconds_to_ready)
    yield at_most("start to ready line, median", statistics.median(seconds) * 1_000, "ms", 200)


def closed_door(*, requests: int = 4_000, rounds: int = 9) -> Iterator[Row]:
    """A producer that takes turns at a closed door, which encrypts, and at an open one."""
    with tempfile.TemporaryDirectory() as path:
        folder = KeyFolder(Path(path))
        folder.create("bench", if_missing=False)
        own = Keys.read(folder.secret_of("bench"), folder.path / "broker.public")
        with (
            broker() as plain,
            broker("--keys", path) as closed,
            Crowd(1, [plain.endpoint, closed.endpoint], {closed.endpoint: own}) as crowd,
        ):
            pairs = [(crowd.per_second(0, requests), crowd.per_second(1, requests)) for _ in range(rounds + 1)][1:]
    yield Row("submit at a closed door", statistics.median(pair[1] for pair in pairs), "tasks/s", None, None)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    yield Row("submit at a closed door / at an open one", ratio, "x", None, None)


ROWS: dict[str, Callable[[], Iterator[Row]]] = {
    "submit": submit_one_at_a_time,
    "batch": batch_to_executed,
    "latency": submit_to_start,
    "memory": memory_per_task,
    "window": memory_per_id,
    "start": start,
    "depth": depth,
    "curve": closed_door,
    "rejection": rejection,
    "hostile": hostile,
    "overload": overload,
    "endless": endless,
}

__all__ = ["ROWS", "Row", "ask"]
