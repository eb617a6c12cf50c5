"""A greedy producer beside polite ones (P12). Rows 30 and 31 of the faults to survive."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgpack
import psutil
import pytest
import zmq

from benchmarks.crush import Manner, crush
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import Raw, packed

_POLITE, _TASKS = 5, 20
_PATIENCE = 60  # rejections: with room that is kept for them it takes 10 to 25, without it 100 to 200


class Greedy:
    """A DEALER that has as many requests in flight as it can, and takes no notice of the replies. A context manager."""

    def __init__(self, endpoint: str, tasks_in_request: int) -> None:
        self._endpoint = endpoint
        self._tasks = tasks_in_request
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flood, daemon=True)
        self.heard = threading.Event()  #: set after its first rejection
        self.accepted = 0
        self.rejected = 0

    def __enter__(self) -> Greedy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _requests(self) -> Iterator[bytes]:
        numbers = itertools.count()
        while True:
            tasks = [packed("sleep", 0.01, id=f"g{next(numbers)}") for _ in range(self._tasks)]
            yield msgpack.packb({"v": 1, "op": "submit", "tasks": tasks})

    def _flood(self) -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(self._endpoint)
            for request in self._requests():
                if self._stop.is_set():
                    return
                if socket.poll(100, zmq.POLLOUT):
                    socket.send_multipart([b"", request])
                while socket.poll(0):
                    self._count(msgpack.unpackb(socket.recv_multipart()[1])["verdicts"])

    def _count(self, verdicts: list[dict[str, str]]) -> None:
        for verdict in verdicts:
            if verdict["verdict"] == "accepted":
                self.accepted += 1
            else:
                self.rejected += 1
                self.heard.set()


def submit_politely(endpoint: str) -> tuple[int, int]:
    """Submit some tasks one after the other, and come back when told; (accepted tasks, rejected submits)."""
    accepted = rejected = 0
    with Raw(endpoint) as raw:
        while accepted < _TASKS and rejected < _PATIENCE:
            task = packed("sleep", 0.01)
            while (verdict := raw.ask("submit", tasks=[task])["verdicts"][0])["verdict"] == "rejected":
                rejected += 1
                if rejected == _PATIENCE:
                    break
                time.sleep(verdict["retry_after"])
            else:
                accepted += 1
    return accepted, rejected


@pytest.mark.parametrize("tasks_in_request", [1, 1_000])
def test_row_30_a_flood_does_not_starve_the_others(
    start_broker: StartBroker, connect: Connect, tasks_in_request: int
) -> None:
    """One floods a full queue without listening; who comes when told gets in, and memory is flat (P12)."""
    broker = start_broker("--capacity", "100")
    raw = connect(broker)
    process = psutil.Process(broker.pid)
    with Greedy(broker.endpoint, tasks_in_request) as greedy, ThreadPoolExecutor(_POLITE) as pool:
        assert greedy.heard.wait(60), "the queue never was full"
        before = process.memory_info().rss
        polite = list(pool.map(submit_politely, [broker.endpoint] * _POLITE))
        grown = process.memory_info().rss - before
    assert [accepted for accepted, _ in polite] == [_TASKS] * _POLITE, polite
    assert grown < 30 * 2**20
    stats = raw.stats()
    assert stats["rejected"]["full"] > 100
    assert stats["held"] <= 100


@pytest.mark.parametrize("manner", [Manner.ADVICE, Manner.DROP])
def test_row_31_ten_times_too_many_tasks(manner: Manner) -> None:
    """50 producers with ten times what the workers can do: both sides count the same, all get in, memory is flat."""
    seen = crush(manner, 4.0, "--capacity", "50", "--remember-ids", "100")
    assert seen.wasted > 50
    assert seen.stats["ledger"]["accepted"] == sum(seen.accepted)
    assert seen.stats["rejected"] == {"full": seen.wasted}
    assert seen.stats["held"] <= 50
    if manner is Manner.ADVICE:
        assert min(seen.accepted) > 0
    half = [size for _, size in seen.rss][len(seen.rss) // 2 :]
    assert max(half) - half[0] < 8 * 2**20
