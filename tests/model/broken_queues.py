"""Queues that are broken on purpose, each in one way. The model must catch every one of them, or it proves nothing.

A fault cannot be planted through the front door, so these reach into the queue. When one of them no longer breaks,
because the queue has changed inside, its test fails and says so.
"""

# ruff: noqa: ARG002 - who does the wrong thing often needs no argument for it
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from broker.handoff import Handoff
from broker.ledger import Ledger
from broker.queue import MemoryQueue, Offer
from broker.records import Lease, Returned
from broker.states import Event, State
from broker.window import Ended, Window

Clock = Callable[[], float]


class AcceptsWhenFull(MemoryQueue):
    """Has no bound."""

    def offer(self, task_id: str, wire: bytes, delay_s: float = 0.0, *rest: Any, **options: Any) -> Offer:
        self.capacity = self.capacity_bytes = 10**9
        return super().offer(task_id, wire, delay_s, *rest, **options)


class HoldsOneMore(MemoryQueue):
    """Its bound in tasks is off by one."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity + 1, capacity_bytes, remember_ids, clock, **rest)


class HoldsOneByteMore(MemoryQueue):
    """Its bound in bytes is off by one."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity, capacity_bytes + 1, remember_ids, clock, **rest)


class RefusesTheLastByte(MemoryQueue):
    """Says that it is full when a task fits exactly."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity, capacity_bytes - 1, remember_ids, clock, **rest)


class KeepsBytesOfTheDead(MemoryQueue):
    """Never gives back the bytes of a task that died: room is lost for ever."""

    def bury(self, lease: Lease) -> None:
        super().bury(lease)
        self._held_bytes += len(lease.wire)


class AdmitsRetriesAgain(MemoryQueue):
    """Counts a retry as one more accepted task."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        super().retry(lease, delay_s, spent=spent)
        self.ledger.move(State.NEW, Event.DEFER)


class RefusesRetriesWhenFull(MemoryQueue):
    """Needs room for a retry, and buries the task if there is none."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        if self.held >= self.capacity:
            self.bury(lease)
        else:
            super().retry(lease, delay_s, spent=spent)


class DropsOnRetry(MemoryQueue):
    """Forgets a task that is to be run again."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        self.ack(lease)


class ForgetsTheDelay(MemoryQueue):
    """Runs a failed task again at once."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        super().retry(lease, 0.0, spent=spent)


class ForgetsTheAttempt(MemoryQueue):
    """Does not count attempts, so that a task that always fails never dies."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        record = self._held[lease.id]
        super().retry(lease, delay_s, spent=spent)
        self._held[lease.id] = record


class ChangesTheTask(MemoryQueue):
    """Gives a second attempt other bytes than the first one had."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        super().retry(lease, delay_s, spent=spent)
        self._held[lease.id] = self._held[lease.id].replace(b"a", b"b")


class _Stack(Handoff):
    def try_take(self) -> str | None:
        return self._line.pop() if self._line else None


class LastInFirstOut(MemoryQueue):
    """Hands out the task first that came last."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity, capacity_bytes, remember_ids, clock, **rest)
        self._lines = (_Stack(), _Stack())


class _Slippery(Handoff):
    def put(self, ids: Iterable[str]) -> None:
        super().put(list(ids)[:2])


class LosesTheThird(MemoryQueue):
    """Of three tasks that are published together, one falls off the line."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity, capacity_bytes, remember_ids, clock, **rest)
        self._lines = (_Slippery(), _Slippery())


class ForgetsIds(MemoryQueue):
    """Remembers no ended task: a resend runs a second time."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity, capacity_bytes, 0, clock, **rest)


class ForgetsOneIdTooEarly(MemoryQueue):
    """Its window of remembered ids is one too small."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity, capacity_bytes, max(0, remember_ids - 1), clock, **rest)


class RemembersOneIdMore(MemoryQueue):
    """Its window of remembered ids is one too large: its memory is not what was asked for."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity, capacity_bytes, remember_ids + 1, clock, **rest)


class ForgetsIdsTooYoung(MemoryQueue):
    """Lets go of an id half a second before its age: a resend that is in time runs again."""

    def __init__(self, *bounds: Any, remember_s: float) -> None:
        super().__init__(*bounds, remember_s=max(0.0, remember_s - 0.5))


class RemembersIdsTooLong(MemoryQueue):
    """Still knows an id at the very moment at which it has become too old."""

    def __init__(self, *bounds: Any, remember_s: float) -> None:
        super().__init__(*bounds, remember_s=remember_s)
        self._window = _LateWindow(bounds[2], remember_s)


class _LateWindow(Window):
    def find(self, task_id: str, now: float) -> Ended | None:
        return super().find(task_id, math.nextafter(now, 0.0))

    def forget(self, now: float) -> None:
        super().forget(math.nextafter(now, 0.0))


class AnswersFromMemory(MemoryQueue):
    """Forgets the old ids when it counts them, and not when it is asked for one."""

    def __init__(self, *bounds: Any, remember_s: float) -> None:
        super().__init__(*bounds, remember_s=remember_s)
        self._window = _StaleWindow(bounds[2], remember_s)


class _StaleWindow(Window):
    def find(self, task_id: str, now: float) -> Ended | None:
        return super().find(task_id, 0.0)


class CountsTheAgeFromTheAcceptance(MemoryQueue):
    """Forgets a task that took long as soon as it has ended."""

    def _end(self, task_id: str, state: State, event: Event) -> None:
        clock, accepted = self._clock, self._clock() - self.age_s(task_id)
        self._clock = lambda: accepted
        super()._end(task_id, state, event)
        self._clock = clock


class RunsDuplicatesTwice(MemoryQueue):
    """Answers a resend rightly, and puts the task into the line once more."""

    def offer(self, task_id: str, wire: bytes, delay_s: float = 0.0, *rest: Any, **options: Any) -> Offer:
        offer = super().offer(task_id, wire, delay_s, *rest, **options)
        if offer is Offer.DUPLICATE and task_id in self._held:
            self._unpublished[False].append(task_id)
        return offer


class SwallowsConflicts(MemoryQueue):
    """Takes another task under a known id for a resend: its producer believes that it will run."""

    def offer(self, task_id: str, wire: bytes, delay_s: float = 0.0, *rest: Any, **options: Any) -> Offer:
        offer = super().offer(task_id, wire, delay_s, *rest, **options)
        return Offer.DUPLICATE if offer is Offer.CONFLICT else offer


class _RacyLedger(Ledger):
    """Loses every third end, as two threads that count without a lock do."""

    ends = 0

    def move(self, state: State, event: Event) -> State:
        before = dict(self._counts)
        target = super().move(state, event)
        if event is Event.ACK:
            self.ends += 1
            if self.ends % 3 == 0:
                self._counts = before
        return target


class CountsWrong(MemoryQueue):
    """Its books miss a success now and then."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, clock: Clock, **rest: float) -> None:
        super().__init__(capacity, capacity_bytes, remember_ids, clock, **rest)
        self.ledger = _RacyLedger()


class AcceptsWhileDraining(MemoryQueue):
    """Lets tasks in that it will have no time for."""

    def offer(self, task_id: str, wire: bytes, delay_s: float = 0.0, *rest: Any, **options: Any) -> Offer:
        self.draining = False
        return super().offer(task_id, wire, delay_s, *rest, **options)


class StartsAfterClose(MemoryQueue):
    """Hands out a lease on a task that it has given back."""

    _late: Lease | None = None

    def close(self, running: Any) -> Any:
        for task_id in self._held:
            self._late = Lease(task_id, self._held[task_id])
        return super().close(running)

    def take(self, *, wait: bool, isolated: bool = False) -> Lease | None:
        return self._late or super().take(wait=wait, isolated=isolated)


class ReturnsOnlyTheReady(MemoryQueue):
    """Hands back what waits in the line, and forgets what runs or is delayed."""

    def close(self, running: Any) -> Any:
        return [task for task in super().close(running) if task.was is State.READY]


class CountsTheAttemptThatWasCutOff(MemoryQueue):
    """Lets a stop cost the tasks that were running a retry."""

    def restore(self, task: Returned, *, isolated: bool = False) -> Offer:
        return super().restore(replace(task, was=State.READY), isolated=isolated)


class ForgetsAttemptsAtARestart(MemoryQueue):
    """Runs a task that was handed back as if it were new."""

    def restore(self, task: Returned, *, isolated: bool = False) -> Offer:
        return super().restore(replace(task, attempts=0, was=State.READY), isolated=isolated)


class ForgetsTheAgeAtARestart(MemoryQueue):
    """Takes a task that was handed back for one that was just accepted."""

    def restore(self, task: Returned, *, isolated: bool = False) -> Offer:
        return super().restore(replace(task, age_s=0.0), isolated=isolated)


class LosesDelayedTasks(MemoryQueue):
    """Accepts a task for later, and does not keep it."""

    def offer(self, task_id: str, wire: bytes, delay_s: float = 0.0, *rest: Any, **options: Any) -> Offer:
        offer = super().offer(task_id, wire, delay_s, *rest, **options)
        if offer is Offer.ACCEPTED and delay_s:
            self._delayed.clear()
        return offer


class PromotesTooEarly(MemoryQueue):
    """Makes a delayed task ready half a second before it is due."""

    def promote(self) -> None:
        clock = self._clock
        self._clock = lambda: clock() + 0.5
        super().promote()
        self._clock = clock


class PromotesOneAtATime(MemoryQueue):
    """Leaves the second of two tasks that are due where it is."""

    def promote(self) -> None:
        delayed, self._delayed = self._delayed, self._delayed[:1]
        super().promote()
        self._delayed = self._delayed or delayed[1:]


class AcknowledgesBeforeItRuns(MemoryQueue):
    """Counts a task as done when it is taken: if the worker dies, it is lost."""

    def take(self, *, wait: bool, isolated: bool = False) -> Lease | None:
        lease = super().take(wait=wait, isolated=isolated)
        if lease is not None:
            super().ack(lease)
        return lease

    def ack(self, lease: Lease) -> None:
        """Done already, as far as it knows; and what failed is not heard of either."""

    bury = ack

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        """Too late."""


class ForgetsTheLine(MemoryQueue):
    """Runs the second attempt of an isolated task in the broker's own process."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        super().retry(lease, delay_s, spent=spent)
        record = self._held[lease.id]
        self._held[lease.id] = record[:4] + bytes([record[4] & 0x7F]) + record[5:]


class HasOneLine(MemoryQueue):
    """Gives isolated tasks to whoever comes."""

    def take(self, *, wait: bool, isolated: bool = False) -> Lease | None:
        return super().take(wait=wait, isolated=isolated) or super().take(wait=wait, isolated=not isolated)


class CountsDisplacedAttempts(MemoryQueue):
    """Lets an attempt that was cut off for another task cost a retry."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        super().retry(lease, delay_s)


class RemembersCrashesTooLong(MemoryQueue):
    """Holds against a task what another one of its id did."""

    def _end(self, task_id: str, state: State, event: Event) -> None:
        crashes = dict(self._crashes)
        super()._end(task_id, state, event)
        self._crashes = crashes


BROKEN_QUEUES: list[type[MemoryQueue]] = [
    AcceptsWhenFull, HoldsOneMore, HoldsOneByteMore, RefusesTheLastByte, KeepsBytesOfTheDead, AdmitsRetriesAgain,
    RefusesRetriesWhenFull, DropsOnRetry, ForgetsTheDelay, ForgetsTheAttempt, ChangesTheTask, LastInFirstOut,
    LosesTheThird, ForgetsIds, ForgetsOneIdTooEarly, RemembersOneIdMore, ForgetsIdsTooYoung, RemembersIdsTooLong,
    AnswersFromMemory, CountsTheAgeFromTheAcceptance, RunsDuplicatesTwice, SwallowsConflicts, CountsWrong,
    AcceptsWhileDraining, CountsTheAttemptThatWasCutOff, ForgetsAttemptsAtARestart,
    ForgetsTheAgeAtARestart,
    StartsAfterClose, ReturnsOnlyTheReady, LosesDelayedTasks, PromotesTooEarly,
    PromotesOneAtATime, AcknowledgesBeforeItRuns,
    ForgetsTheLine, HasOneLine, CountsDisplacedAttempts, RemembersCrashesTooLong,
]  # fmt: skip
