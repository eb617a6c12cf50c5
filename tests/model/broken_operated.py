"""Queues that are broken where an operator acts on them, each in one way; see `broken_queues`."""

from __future__ import annotations

from collections.abc import Collection

from broker.queue import MemoryQueue, Offer
from broker.states import Event, State


class IgnoresThePause(MemoryQueue):
    """Says that it is paused."""

    def pause(self) -> None:
        pass


class PausesWhatComes(MemoryQueue):
    """Leaves in the line what stood there when it was paused."""

    def pause(self) -> None:
        self.is_paused = True


class PutsThePausedLast(MemoryQueue):
    """Has what was ready first come out last."""

    def _recall(self) -> None:
        for hidden, line in zip(self._unpublished, self._lines, strict=True):
            hidden.extend(line.recall())


class ForgetsToGoOn(MemoryQueue):
    """Shows after a pause only what becomes ready then."""

    def resume(self) -> None:
        self.is_paused = False


class WaitsForThePaused(MemoryQueue):
    """Has a drain wait for tasks that nobody may begin."""

    def is_unfinished(self, deadline: float) -> bool:
        paused, self.is_paused = self.is_paused, False
        try:
            return super().is_unfinished(deadline)
        finally:
            self.is_paused = paused


class CancelsWhatRuns(MemoryQueue):
    """Takes a task back that a worker has begun."""

    def cancel(self, ids: Collection[str]) -> None:
        super().cancel(ids)
        for task_id in [task_id for task_id in ids if task_id in self._held]:
            self._end(task_id, State.READY, Event.CANCEL)


class KeepsTheRoomOfTheCancelled(MemoryQueue):
    """Does not give back what a cancelled task held."""

    def cancel(self, ids: Collection[str]) -> None:
        before = self._held_bytes
        super().cancel(ids)
        self._held_bytes = before


class CancelsTheReadyAlone(MemoryQueue):
    """Runs a task that waited for its time when it was cancelled."""

    def cancel(self, ids: Collection[str]) -> None:
        super().cancel([task_id for task_id in ids if task_id not in self._due])


class LosesTheOrderOfTheDelayed(MemoryQueue):
    """Takes a task out of its heap so that it is none any more."""

    def cancel(self, ids: Collection[str]) -> None:
        super().cancel(ids)
        self._delayed.sort(reverse=True)


class RequeuesWithoutRoom(MemoryQueue):
    """Finds room for every dead task."""

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        bounds = self.capacity, self.capacity_bytes
        self.capacity = self.capacity_bytes = 10**9
        try:
            return super().requeue(task_id, wire, isolated=isolated)
        finally:
            self.capacity, self.capacity_bytes = bounds


class RequeuesInADrain(MemoryQueue):
    """Takes dead tasks in that it will have no time for."""

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        draining, self.draining = self.draining, False
        try:
            return super().requeue(task_id, wire, isolated=isolated)
        finally:
            self.draining = draining


class RequeuesTwice(MemoryQueue):
    """Has a task run twice that was asked for once."""

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        offer = super().requeue(task_id, wire, isolated=isolated)
        if offer is Offer.ACCEPTED:
            self._unpublished[isolated].append(task_id)
        return offer


class RequeuesInTheWrongLine(MemoryQueue):
    """Runs an isolated task in the broker's own process, if it was requeued while nothing much else was held."""

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        return super().requeue(task_id, wire, isolated=isolated and len(self._held) > 1)


class RequeuesWhatIsHeld(MemoryQueue):
    """Has two tasks of one id."""

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        self._held.pop(task_id, None)
        return super().requeue(task_id, wire, isolated=isolated)


class CountsTheRequeuedTwice(MemoryQueue):
    """Accepts it once more in its books."""

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        offer = super().requeue(task_id, wire, isolated=isolated)
        if offer is Offer.ACCEPTED:
            self.ledger.move(State.NEW, Event.ACCEPT)
        return offer


class RemembersTheRequeuedAsDead(MemoryQueue):
    """Keeps the end of a task that goes on in its window."""

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        ended = dict(self._window._ended)
        offer = super().requeue(task_id, wire, isolated=isolated)
        self._window._ended = ended
        return offer


BROKEN_OPERATED: list[type[MemoryQueue]] = [
    IgnoresThePause, PausesWhatComes, PutsThePausedLast, ForgetsToGoOn, WaitsForThePaused, CancelsWhatRuns,
    KeepsTheRoomOfTheCancelled, CancelsTheReadyAlone, LosesTheOrderOfTheDelayed, RequeuesWithoutRoom, RequeuesInADrain,
    RequeuesTwice, RequeuesInTheWrongLine, RequeuesWhatIsHeld, CountsTheRequeuedTwice, RemembersTheRequeuedAsDead,
]  # fmt: skip
