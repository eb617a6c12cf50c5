"""Ten times as many tasks as the workers can do: fifty producers, each with a task every 25 ms, for 8 workers of 40 ms.

The producers are coroutines with a connection each, in two processes: on few cores, fifty processes would measure the
system's scheduler. They speak the protocol by hand, so that what they do about a rejection is in plain sight here.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgpack
import zmq
import zmq.asyncio

from benchmarks.crowd import submit_request
from benchmarks.servers import Server, ask, broker

PRODUCERS = 50
WORKERS = 8
TASK_S = 0.04
PACE_S = PRODUCERS * TASK_S / WORKERS / 10  #: a producer has a new task this often: 10 times what the workers can do
_PROCESSES = 2
_BACKOFF_S = 0.1


class Manner(Enum):
    """What a producer does about a rejected task. While it has one, its next ones are not made."""

    ADVICE = "retry_after"  #: come back when told, up to a fifth later, as the library does
    BACKOFF = "fixed backoff of 0.1 s"  #: come back after 0.1 s
    DROP = "drop"  #: forget it, and go on to the next


@dataclass
class Crush:
    """What was seen of it."""

    seconds: float
    began_ns: int = field(default_factory=time.monotonic_ns)
    accepted: list[int] = field(default_factory=list)  #: tasks, by producer
    wasted: int = 0  #: submits that were rejected
    runs: list[tuple[int, int, int]] = field(default_factory=list)  #: submitted, began, ended, in ns; of tasks that ran
    rss: list[tuple[float, int]] = field(default_factory=list)  #: seconds since the begin, bytes
    stats: dict[str, Any] = field(default_factory=dict)  #: the broker's, at the end

    @property
    def busy(self) -> float:
        """Part of the time in which workers ran tasks, after the first tenth."""
        first, last = self.began_ns + int(self.seconds * 1e8), self.began_ns + int(self.seconds * 1e9)
        worked = sum(max(0, min(ended, last) - max(began, first)) for _, began, ended in self.runs)
        return worked / (WORKERS * (last - first))

    @property
    def jain(self) -> float:
        """Jain's index of fairness over the producers: 1 if all got the same, 1/n if one got everything."""
        return sum(self.accepted) ** 2 / (len(self.accepted) * sum(one * one for one in self.accepted))

    def waits(self) -> Iterator[tuple[float, float]]:
        """(when it began to run, seconds since it was first submitted), of each task; since the begin of all."""
        for submitted, began, _ in sorted(self.runs, key=lambda run: run[1]):
            yield (began - self.began_ns) / 1e9, (began - submitted) / 1e9


def crush(manner: Manner, seconds: float, *flags: str) -> Crush:
    """Let the producers behave like this for a while, at a broker that is started with these flags."""
    with tempfile.TemporaryDirectory() as folder, broker("--workers", str(WORKERS), *flags) as server:
        path = Path(folder) / "runs"
        seen = Crush(seconds)
        with _producers(server.endpoint, manner, seconds, str(path)) as pipes:
            seen.began_ns = time.monotonic_ns()
            for pipe in pipes:
                pipe.send(None)
            _watch(server, seen)
            for pipe in pipes:
                accepted, wasted = pipe.recv()
                seen.accepted += accepted
                seen.wasted += wasted
            seen.stats = ask(server.endpoint, {"op": "stats"})["stats"]
        lines = path.read_text().splitlines()
        seen.runs = [(int(one), int(two), int(three)) for one, two, three in (line.split() for line in lines)]
    return seen


def _watch(server: Server, seen: Crush) -> None:
    """Look at the broker's memory now and then, until the end."""
    for number in itertools.count():
        passed = (time.monotonic_ns() - seen.began_ns) / 1e9
        if passed >= seen.seconds:
            return
        seen.rss.append((passed, server.rss_bytes))
        time.sleep(max(0.0, (number + 1) * seen.seconds / 200 - passed))


@contextmanager
def _producers(endpoint: str, manner: Manner, seconds: float, path: str) -> Iterator[list[Connection]]:
    """The processes; each begins when something is sent to its pipe, and sends back what came of it."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(_PROCESSES):
        ours, theirs = spawn.Pipe()
        numbers = range(number, PRODUCERS, _PROCESSES)
        process = spawn.Process(target=_run, args=(endpoint, manner, seconds, path, numbers, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    try:
        for pipe in pipes:
            pipe.recv()
        yield pipes
    finally:
        for process in processes:
            process.join(30)
            process.kill()


def _run(endpoint: str, manner: Manner, seconds: float, path: str, numbers: range, pipe: Connection) -> None:
    pipe.send(None)
    pipe.recv()
    pipe.send(asyncio.run(_together(endpoint, manner, seconds, path, numbers)))


async def _together(endpoint: str, manner: Manner, seconds: float, path: str, numbers: range) -> tuple[list[int], int]:
    until = time.monotonic() + seconds
    with zmq.asyncio.Context() as context:
        counts = await asyncio.gather(*[_produce(context, endpoint, manner, until, path, one) for one in numbers])
    return [accepted for accepted, _ in counts], sum(wasted for _, wasted in counts)


async def _produce(
    context: zmq.asyncio.Context, endpoint: str, manner: Manner, until: float, path: str, number: int
) -> tuple[int, int]:
    """One producer's life: the numbers of its accepted tasks and of its rejected submits."""
    accepted = wasted = 0
    rng = random.Random(number)
    due = time.monotonic() + rng.random() * PACE_S  # not all at the same moment
    with context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        for task in itertools.count():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + PACE_S, time.monotonic() - PACE_S)  # what it had no time to make is never made
            args = [time.monotonic_ns(), TASK_S, path]
            request = submit_request(f"p{number}-{task}", "wait", args=args)
            while time.monotonic() < until:
                await socket.send(request)
                verdict = msgpack.unpackb(await socket.recv())["verdicts"][0]
                if verdict["verdict"] == "accepted":
                    accepted += 1
                    break
                wasted += 1
                if manner is Manner.DROP:
                    break
                wait_s = verdict["retry_after"] * (1 + 0.2 * rng.random()) if manner is Manner.ADVICE else _BACKOFF_S
                await asyncio.sleep(wait_s)
            if time.monotonic() >= until:
                return accepted, wasted
    raise AssertionError("there is always a next task")
