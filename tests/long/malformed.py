"""Broken requests without number: in process, against everything but the socket, and on the wire, against a broker.

Each gets one reply; whatever is not as agreed is said to be so; nothing gets in; and memory stays. The inputs are drawn
from a seed: noise, and good requests that were cut, had bytes changed, or lengths that lie; half of these go into the
task inside a good request.

`python -m tests.long.malformed [IN_PROCESS [ON_THE_WIRE [SEED]]]`
"""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack
import psutil
import zmq

from tests.e2e.raw import Raw
from tests.still_broker import StillBroker
from worker_host import task

ROOT = Path(__file__).parents[2]
GROWTH_BYTES = 5 * 2**20
#: What is said of an input that was not broken after all.
WHOLE = frozenset({"answered", "unknown_task"})
_BATCH = 2_000
_WARM_UP = 20_000  # inputs after which memory is looked at for the first time
_WINDOW = 8  # requests in flight on the wire: what the protocol asks for
_REPLY_MS = 60_000

_LYING = (
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xdc\xff\xff",
    b"\xde\xff\xff", b"\xc9\x00\x00\x10\x00\x01", b"\xd4\x01\x00", b"\xd6\xff\x00\x00\x00\x00", b"\xc1", b"\x91" * 60,
)  # fmt: skip


def _good_requests() -> list[bytes]:
    task = {"id": "order-17", "name": "greet", "args": ["ada", 17, 1.5], "kwargs": {"to": [1, {"a": b"x"}]}}
    more = {**task, "retries": 3, "delay_s": 0.5, "expires_s": 60}
    requests = [
        {"v": 1, "op": "submit", "tasks": [msgpack.packb(task)]},
        {"v": 1, "op": "submit", "tag": 7, "tasks": [msgpack.packb(task), msgpack.packb(more)]},
        {"v": 1, "op": "status", "id": "order-17"},
        {"v": 1, "op": "dead", "limit": 20, "offset": 0},
        {"v": 1, "op": "ping", "tag": "x" * 20},
    ]
    return [bytes(msgpack.packb(request)) for request in requests]


def _good_tasks() -> list[bytes]:
    return [
        bytes(wire)
        for request in _good_requests()
        for wire in msgpack.unpackb(request).get("tasks", ())
        if isinstance(wire, bytes)
    ]


def inputs(seed: int) -> Iterator[bytes]:
    """Broken requests, without end. Some are none by chance: who counts looks at the reply."""
    rng = random.Random(seed)
    requests, tasks, draw, number = _good_requests(), _good_tasks(), rng.random, rng.randrange
    head = bytes(msgpack.packb({"v": 1, "op": "submit"}))
    head = bytes([head[0] + 1]) + head[1:] + bytes(msgpack.packb("tasks")) + b"\x91\xc5"
    while True:
        kind = draw()
        if kind < 0.2:
            yield rng.randbytes(number(1, 64))
            continue
        inside = kind < 0.6
        good = rng.choice(tasks if inside else requests)
        at, how = number(len(good)), number(4)
        if how == 0:
            bad = good[:at]
        elif how == 1:
            bad = b"%b%c%b" % (good[:at], number(256), good[at + 1 :])
        elif how == 2:
            bad = good[:at] + _LYING[number(len(_LYING))] + good[at:]
        else:
            bad = good[:at] + rng.randbytes(number(1, 9)) + good[at + number(4) :]
        yield head + len(bad).to_bytes(2, "big") + bad if inside else bad


def outcome_of(reply: dict[str, object]) -> str:
    """What a reply says of its request: the reason of its error or of its verdicts, or that it was none."""
    error = reply.get("error")
    if isinstance(error, dict):
        return str(error["reason"])
    verdicts = reply.get("verdicts")
    if isinstance(verdicts, list):
        reasons = [verdict.get("reason", "accepted") for verdict in verdicts]
        return next((reason for reason in reasons if reason != "accepted"), "accepted")
    return "answered"


@dataclass(frozen=True)
class Found:
    """What came of it."""

    broken: int  #: inputs that were refused, one reply each
    outcomes: Counter[str]
    grown_bytes: int
    seconds: float


@task(retries=0)
def welcome() -> None:
    """The only task function there is; the good requests call another one, so that nothing can get in by chance."""


def in_process(count: int, seed: int) -> Found:
    """So many broken inputs, against all but the socket."""
    still = StillBroker(welcome)
    process, outcomes, broken, before = psutil.Process(), Counter[str](), 0, 0
    source, answer, began = inputs(seed), still.answers.answer, time.monotonic()
    while broken < count:
        for _ in range(_BATCH):
            outcome = outcome_of(msgpack.unpackb(answer((next(source),))))
            outcomes[outcome] += 1
            broken += outcome not in WHOLE
        if not before and broken >= min(_WARM_UP, count // 4):
            before = process.memory_info().rss
    grown = process.memory_info().rss - before
    assert still.queue.ledger.counts()["accepted"] == 0
    assert not outcomes["internal_error"], outcomes
    return Found(broken, outcomes, grown, time.monotonic() - began)


def of_new_keys(count: int) -> int:
    """The bytes that memory has grown by after so many refused requests, each of 3,000 keys that are new."""
    still, process, before = StillBroker(welcome), psutil.Process(), 0
    for number in range(-count // 4, count):
        if not number:
            before = process.memory_info().rss
        request = bytes(msgpack.packb({f"{number}-{key}-nobody": None for key in range(3_000)}))
        assert outcome_of(msgpack.unpackb(still.answers.answer((request,)))) == "malformed"
    return process.memory_info().rss - before


def on_the_wire(count: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> Found:
    """So many broken inputs, several in flight, against a broker of its own."""
    command = [sys.executable, "-m", "broker", "--tasks", "tests.jobs", "--endpoint", "tcp://127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as broker:
        try:
            assert broker.stdout is not None
            endpoint = broker.stdout.readline().split("endpoint=")[1].split()[0]
            found = _exchange(endpoint, broker.pid, count, seed, progress)
            with Raw(endpoint) as raw:
                stats = raw.stats()
                assert stats["ledger"]["accepted"] == 0, stats["ledger"]
            broker.terminate()
            _, log = broker.communicate(timeout=30)
        finally:
            broker.kill()
    assert broker.returncode == 0
    assert len(log.splitlines()) < 100, "the log is not rate-limited"
    return found


def _exchange(endpoint: str, pid: int, count: int, seed: int, progress: Callable[[int], None]) -> Found:
    process, outcomes, broken, before = psutil.Process(pid), Counter[str](), 0, 0
    source, began = inputs(seed), time.monotonic()
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.rcvtimeo = _REPLY_MS
        socket.connect(endpoint)
        for _ in range(_WINDOW):
            socket.send_multipart([b"", next(source)])
        while broken < count:
            for _ in range(min(_BATCH, count)):
                outcome = outcome_of(msgpack.unpackb(socket.recv_multipart()[1]))
                outcomes[outcome] += 1
                broken += outcome not in WHOLE
                socket.send_multipart([b"", next(source)])
            if not before and broken >= min(_WARM_UP, count // 4):
                before = process.memory_info().rss
            progress(broken)
        for _ in range(_WINDOW):
            outcomes[outcome_of(msgpack.unpackb(socket.recv_multipart()[1]))] += 1
        grown = process.memory_info().rss - before
    assert not outcomes["internal_error"], outcomes
    return Found(broken, outcomes, grown, time.monotonic() - began)


def _part(arguments: tuple[int, int]) -> Found:
    return in_process(*arguments)


def spread(count: int, seed: int, parts: int, beside: int = 2) -> Iterator[Found]:
    """`in_process`, in parts that are processes, some beside each other; what came of each as it ends."""
    each = -(-count // parts)
    with multiprocessing.get_context("spawn").Pool(beside) as pool:
        yield from pool.imap_unordered(_part, [(each, seed * 1_000 + part) for part in range(parts)])


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]] + [10_000_000, 100_000, 1][len(sys.argv[1:]) :]
    for one in spread(given[0], given[2], 8):
        print(one)
    print(on_the_wire(given[1], given[2]))
