"""The row about the worst three: a task that crashes, one that never ends, one that spins, beside ordinary ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import zmq

from benchmarks.crowd import submit_request
from benchmarks.row import Row, at_most
from benchmarks.servers import broker

#: The task functions, and what should be said of them when they are dead.
_WORST = {"segfaults": "crashed", "loops": "timed_out", "spins": "timed_out"}
_TASK_S = 0.01  #: of an ordinary task
_PACE_S = 0.001
_LONGEST_S = 60.0  #: until all should have ended, whatever the machine


def hostile(*, ordinary: int = 1_000, rounds: int = 5) -> Iterator[Row]:
    """The reply time of a submit or of another request, a thousand a second, until all of them have ended."""
    trips = sorted(trip for _ in range(rounds) for trip in _round(ordinary))
    what = f"reply beside the worst three and {ordinary:,} ordinary tasks"
    yield Row(f"{what}, median", statistics.median(trips), "ms", None, None)
    yield at_most(f"{what}, 99th", trips[int(len(trips) * 0.99)], "ms", 5)


def _round(ordinary: int) -> list[float]:
    """All of it once, at a fresh broker; the milliseconds of each reply."""
    trips: list[float] = []
    with broker() as real, zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(real.endpoint)

        def ask(request: bytes) -> Any:
            time.sleep(_PACE_S)
            began = time.perf_counter()
            socket.send(request)
            reply = msgpack.unpackb(socket.recv())
            trips.append((time.perf_counter() - began) * 1_000)
            return reply

        for name in _WORST:
            assert ask(submit_request(name, name, args=[]))["verdicts"][0]["verdict"] == "accepted"
        for number in range(ordinary):
            verdict = ask(submit_request(f"ordinary{number}", "sleep", args=[_TASK_S]))["verdicts"][0]
            assert verdict["verdict"] == "accepted", verdict
        deadline = time.monotonic() + _LONGEST_S
        while (ledger := ask(_request("stats"))["stats"]["ledger"])["succeeded"] + ledger["dead"] < ledger["accepted"]:
            assert time.monotonic() < deadline, ledger
        assert (ledger["succeeded"], ledger["dead"]) == (ordinary, len(_WORST)), ledger
        reasons = {letter["name"]: letter["reason"] for letter in ask(_request("dead"))["dead"]}
        assert reasons == _WORST, reasons
    return trips


def _request(op: str) -> bytes:
    return bytes(msgpack.packb({"v": 1, "op": op}))
