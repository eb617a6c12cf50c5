"""The rows about a full queue: how soon a rejection comes, what ten times too many tasks do, and to whom."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator

import msgpack
import zmq

from benchmarks.crowd import submit_request
from benchmarks.crush import Manner, crush
from benchmarks.row import Row, at_least, at_most
from benchmarks.servers import broker

_CAPACITY = 100


def rejection(*, requests: int = 4_000, pace_s: float = 0.001) -> Iterator[Row]:
    """The reply time of rejections, a thousand a second, while all workers are busy: waiting, or computing."""
    for name, flags, task, bar in (
        ("8 threads wait", (), "wait_often", 5.0),
        ("child hosts compute", ("--isolate",), "compute", 5.0),
        ("8 threads compute", (), "compute", None),
    ):
        with broker("--capacity", "40", *flags) as real, zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.connect(real.endpoint)
            for number in range(40):  # as many as there are workers run, whatever their number; the others wait
                socket.send(submit_request(f"busy{number}", task, args=[3_600]))
                assert msgpack.unpackb(socket.recv())["verdicts"][0]["verdict"] == "accepted"
            _wait_until_busy(socket)
            trips = []
            for number in range(requests):
                request = submit_request(f"no{number}")
                began = time.perf_counter()
                socket.send(request)
                verdict = msgpack.unpackb(socket.recv())["verdicts"][0]
                trips.append((time.perf_counter() - began) * 1_000)
                assert verdict["reason"] == "full", verdict
                time.sleep(pace_s)
        trips.sort()
        yield Row(f"rejection while {name}, median", statistics.median(trips), "ms", None, None)
        worst = trips[int(len(trips) * 0.99)]
        what = f"rejection while {name}, 99th percentile"
        yield Row(what, worst, "ms", None, None) if bar is None else at_most(what, worst, "ms", bar)


def _wait_until_busy(socket: zmq.Socket[bytes]) -> None:
    """Return when all workers run a task."""
    while True:
        socket.send(msgpack.packb({"v": 1, "op": "stats"}))
        stats = msgpack.unpackb(socket.recv())["stats"]
        if stats["busy"] >= stats["workers"]:
            return
        time.sleep(0.01)


def overload(*, seconds: float = 30.0) -> Iterator[Row]:
    """Fifty producers with ten times as many tasks as the workers can do, that come back when they are told."""
    seen = crush(Manner.ADVICE, seconds, "--capacity", str(_CAPACITY))
    yield at_least("overload x 10: workers busy", 100 * seen.busy, "%", 99)
    yield at_most("overload x 10: wasted submits per accepted task", seen.wasted / sum(seen.accepted), "", 1)
    yield at_least("overload x 10: fairness over 50 producers (Jain)", seen.jain, "", 0.95)
    waits = sorted(wait for _, wait in seen.waits())
    yield Row("overload x 10: first submit to start, median", statistics.median(waits), "s", None, None)
    yield Row("overload x 10: first submit to start, 99th", waits[int(len(waits) * 0.99)], "s", None, None)


def endless(*, seconds: float = 600.0) -> Iterator[Row]:
    """Ten minutes of that, or `SCALE` times so long, with producers that never wait: what it does to memory.

    The remembered ids fill up within seconds; by default that takes up to 46 MB and, at this pace, 8 minutes.
    """
    seconds *= float(os.environ.get("SCALE", "1"))
    seen = crush(Manner.DROP, seconds, "--capacity", str(_CAPACITY), "--remember-ids", "100")
    early = [size for passed, size in seen.rss if seconds / 10 <= passed < seconds * 3 / 10]
    late = [size for passed, size in seen.rss if passed >= seconds * 8 / 10]
    grown = (statistics.median(late) - statistics.median(early)) / 2**20
    yield Row("endless overload x 10: lasted", seconds, "s", None, None)
    yield Row("endless overload x 10: tasks rejected", float(seen.wasted), "tasks", None, None)
    yield Row("endless overload x 10: resident memory", max(late) / 2**20, "MiB", None, None)
    yield at_most("endless overload x 10: memory grew by", grown, "MiB", 1)
