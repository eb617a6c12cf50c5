"""Dispatchers that are broken on purpose, each in one way, as `broken_queues` are."""

# ruff: noqa: ARG002 - as there
from __future__ import annotations

from broker.dispatcher import Dispatcher
from broker.pressure import NOTHING_KEPT
from broker.protocol import TaskMessage
from broker.queue import Offer
from broker.records import Lease
from worker_host.contract import Failure


class RefusesWhereRoomIs(Dispatcher):
    """Says that it is full without a look at what has ended meanwhile."""

    def offer(self, task: TaskMessage, wire: bytes, kept: tuple[int, int] = NOTHING_KEPT) -> Offer:
        return self._queue.offer(task.id, wire, task.delay_s, task.expires_s)


class NeverRings(Dispatcher):
    """Lets the owner sleep while a failed task waits to be run again: a lost wake-up."""

    def fail(self, lease: Lease, failure: Failure) -> None:
        self._ends.append((lease, failure))
        self._out.discard(lease)


class NeverRingsInADrain(Dispatcher):
    """Lets the owner sleep when the last task has ended, until the drain deadline."""

    def ack(self, lease: Lease) -> None:
        deadline, self._drain_deadline = self._drain_deadline, None
        super().ack(lease)
        self._drain_deadline = deadline


class NeverRingsForWhatIsGivenBack(Dispatcher):
    """Lets the owner sleep while a task is ready again: a lost wake-up."""

    def give_back(self, lease: Lease) -> None:
        super().give_back(lease)
        self._bell.listen()


class LosesFailures(Dispatcher):
    """Never hears of a failed attempt: the task is neither run again nor buried."""

    def fail(self, lease: Lease, failure: Failure) -> None:
        self._out.discard(lease)
        self._bell.ring()


class SettlesTheLastAlone(Dispatcher):
    """Of the attempts that have ended since the last look, it sees one."""

    def settle(self) -> None:
        while len(self._ends) > 1:
            self._ends.popleft()
        super().settle()


class StaysRunning(Dispatcher):
    """Takes a task for running whose attempt has failed."""

    def fail(self, lease: Lease, failure: Failure) -> None:
        super().fail(lease, failure)
        self._out.add(lease)


class DrainsTooSoon(Dispatcher):
    """Is done with a drain as soon as it was asked for it."""

    @property
    def drained(self) -> bool:
        return self.phase == "draining"


BROKEN_DISPATCHERS: list[type[Dispatcher]] = [
    RefusesWhereRoomIs, NeverRings, NeverRingsInADrain, NeverRingsForWhatIsGivenBack, LosesFailures,
    SettlesTheLastAlone, StaysRunning, DrainsTooSoon,
]  # fmt: skip
