"""A broker that stands still: all its parts as the supervisor puts them together, but for sockets, threads and time.

A test submits, lets a worker take and end a task, and moves the clock, each by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from broker.admission import Admission
from broker.answers import Answers
from broker.bell import Bell
from broker.dead_letters import DeadLetters
from broker.dispatcher import Dispatcher
from broker.pressure import Pressure
from broker.protocol import DEFAULT_MESSAGE_BYTES, pack
from broker.queue import MemoryQueue
from broker.records import Lease
from tests.clock import HandClock
from worker_host.contract import Failure
from worker_host.tasks import DECLARATION, TaskFunction

FAILURE = Failure(error="ValueError: no", trace="Traceback: no")


class CountingBell(Bell):
    """A bell without a pipe: it counts how often it was rung since somebody listened."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        """Count."""
        self.rings += 1

    def listen(self) -> bytes:
        """Forget."""
        self.rings = 0
        return b""


def declared(*functions: Callable[..., Any]) -> dict[str, TaskFunction]:
    """The declarations of these task functions, by name."""
    found = [getattr(function, DECLARATION) for function in functions]
    return {one.name: one for one in found}


def wire(task_id: str, name: str, *args: object, **options: object) -> bytes:
    """A packed task."""
    return pack({"id": task_id, "name": name, "args": list(args)} | options)


class StillBroker:
    """The parts, and what a test does with them."""

    def __init__(
        self,
        *functions: Callable[..., Any],
        capacity: int = 10,
        capacity_bytes: int = 10_000,
        remember_ids: int = 100,
        dead_letters: int = 10,
        message_bytes: int = DEFAULT_MESSAGE_BYTES,
        queue: Callable[[int, int, int, Callable[[], float]], MemoryQueue] = MemoryQueue,
        dispatcher: type[Dispatcher] = Dispatcher,
    ) -> None:
        tasks = declared(*functions)
        self.clock = HandClock()
        self.bell = CountingBell()
        self.queue = queue(capacity, capacity_bytes, remember_ids, self.clock.monotonic)
        letters = DeadLetters(dead_letters, 10**6)
        self.dispatcher = dispatcher(self.queue, letters, tasks, self.clock, self.bell)
        pressure = Pressure(capacity, capacity_bytes)
        self.admission = Admission(self.dispatcher, tasks, pressure, self.clock, capacity_bytes)
        self.log_dropped = 0
        self.answers = Answers(
            self.dispatcher,
            self.admission,
            self.clock,
            message_bytes=message_bytes,
            workers=3,
            log_dropped=lambda: self.log_dropped,
        )

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        """The reply to a request."""
        return self.ask_bytes(pack({"v": 1, "op": op} | fields))

    def ask_bytes(self, *frames: bytes) -> dict[str, Any]:
        """The reply to a request of these frames."""
        reply = msgpack.unpackb(self.answers.answer(frames))
        assert type(reply) is dict
        assert reply["v"] == 1
        return reply

    def operate(self, op: str, **fields: object) -> dict[str, Any]:
        """The reply to a request at the operator's door, after which the loop comes round."""
        reply: dict[str, Any] = msgpack.unpackb(self.answers.answer_operator([pack({"v": 1, "op": op} | fields)]))
        self.dispatcher.turn()
        return reply

    def outcomes(self, op: str, *ids: str) -> list[str]:
        """What the operator is told of these tasks, in their order."""
        told = self.operate(op, ids=list(ids))["outcomes"]
        assert [one["id"] for one in told] == list(ids)
        return [one["outcome"] for one in told]

    def submit(self, *wires: object) -> list[dict[str, Any]]:
        """The verdicts on these packed tasks."""
        verdicts = self.ask("submit", tasks=list(wires))["verdicts"]
        assert type(verdicts) is list
        return verdicts

    def take(self) -> Lease:
        """A worker's lease on the next task; there must be one, since nobody could wait here."""
        self.dispatcher.turn()
        assert self.queue.ready, "no task is ready: a worker would wait for ever"
        lease = self.dispatcher.take()
        assert lease is not None
        return lease

    def run(self, failure: Failure | None = None) -> Lease:
        """A worker runs the next task, which succeeds, or fails in this way; the lease it had."""
        lease = self.take()
        if failure is None:
            self.dispatcher.ack(lease)
        else:
            self.dispatcher.fail(lease, failure)
        self.dispatcher.turn()
        return lease
