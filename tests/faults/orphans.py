"""Producers that are killed while they submit: `python -m tests.faults.orphans ENDPOINT WITNESS COUNT SEED`.

A process of its own, with one thread, so that it can fork: each producer is a fork, which costs milliseconds and not an
interpreter's start. It submits one task after the other until it is killed, somewhere between two bytes of a request,
between request and reply, or between two tasks. Printed at the end: how many were killed.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time

from producer import Producer, Task

_AT_ONCE = 8  # so many live at the same time


def produce(endpoint: str, witness: str, number: int, begun: int) -> None:
    """Submit until the end comes; `begun` is told of the first verdict."""
    with Producer(endpoint, on_full="wait") as producer:
        for turn in itertools.count():
            producer.submit(Task.of("record", witness).but(id=f"orphan-{number}-{turn}"))
            if not turn:
                os.write(begun, b".")


def give_birth(endpoint: str, witness: str, number: int) -> tuple[int, int]:
    """A producer: its process, and where it tells of its first verdict."""
    told, begun = os.pipe()
    pid = os.fork()
    if pid:
        os.close(begun)
        return pid, told
    try:
        produce(endpoint, witness, number, begun)
    finally:
        os._exit(1)  # it was not killed: it ended


def main(endpoint: str, witness: str, count: int, seed: int) -> None:
    """Have so many producers die: three in four in the middle of their work, the rest at any time since their birth."""
    rng = random.Random(seed)
    for first in range(0, count, _AT_ONCE):
        living = [give_birth(endpoint, witness, number) for number in range(first, min(count, first + _AT_ONCE))]
        for pid, told in living:
            if rng.random() < 0.75:
                assert os.read(told, 1), "a producer ended before its first verdict"
            time.sleep(rng.uniform(0, 0.003))  # not for anything to happen: to hit any moment
            os.kill(pid, signal.SIGKILL)
            os.close(told)
            assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "a producer ended by itself"
    print(f"killed={count}")  # noqa: T201 - for the test


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
