"""Brokers that are broken on purpose, each in one way, and what the checker must find of each: or it proves nothing.

Most faults sit in the queue, and the model's broken queues are used here too, now in a real broker with real workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import broker.dispatcher
import broker.supervisor
import worker_host.threads
from broker.dispatcher import Dispatcher
from broker.handed_back import HandedBack
from broker.handoff import Handoff
from broker.protocol import pack, unpack
from broker.queue import MemoryQueue, Offer
from broker.records import Lease
from broker.states import Event, State
from broker.window import Window
from tests.model.broken_decisions import runs_once_too_often
from tests.model.broken_queues import (
    AcceptsWhenFull,
    CountsWrong,
    DropsOnRetry,
    ForgetsIds,
    ForgetsTheDelay,
    HoldsOneMore,
)
from worker_host.attempt import run_attempt
from worker_host.contract import Failure
from worker_host.threads import ThreadHost


class AnswersBeforeItKeeps(MemoryQueue):
    """Accepts every fifth task and does not have it."""

    _offers = 0

    def offer(self, task_id: str, wire: bytes, *args: Any, **kwargs: Any) -> Offer:
        self._offers += 1
        return Offer.ACCEPTED if self._offers % 5 == 0 else super().offer(task_id, wire, *args, **kwargs)


class RefusesAndKeeps(MemoryQueue):
    """Says no to every seventh task, and runs it."""

    _offers = 0

    def offer(self, task_id: str, wire: bytes, *args: Any, **kwargs: Any) -> Offer:
        offer = super().offer(task_id, wire, *args, **kwargs)
        self._offers += 1
        return Offer.FULL if offer is Offer.ACCEPTED and self._offers % 7 == 0 else offer


class RefusesTooSoon(MemoryQueue):
    """Is full when it is a tenth full."""

    def offer(self, task_id: str, wire: bytes, *args: Any, **kwargs: Any) -> Offer:
        if self.held >= self.capacity // 10 and task_id not in self._held:
            return Offer.FULL
        return super().offer(task_id, wire, *args, **kwargs)


class AcceptsNowAndThenWhileDraining(MemoryQueue):
    """Lets every second task in that comes too late."""

    _late = 0

    def offer(self, task_id: str, wire: bytes, *args: Any, **kwargs: Any) -> Offer:
        if not self.draining:
            return super().offer(task_id, wire, *args, **kwargs)
        self._late += 1
        self.draining = self._late % 2 == 1
        try:
            return super().offer(task_id, wire, *args, **kwargs)
        finally:
            self.draining = True


class StartsWhatItGaveBack(MemoryQueue):
    """Hands out leases on ready tasks when it is closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._left: list[Lease] = []

    def close(self, running: Collection[str]) -> HandedBack:
        waiting = [task_id for task_id in self._held if task_id not in self._due]
        self._left = [Lease(task_id, self._held[task_id]) for task_id in waiting[-5:]]
        return super().close(running)

    def take(self, *, wait: bool, isolated: bool = False) -> Lease | None:
        return super().take(wait=wait, isolated=isolated) or (self._left.pop() if self._left else None)


class ChangesTheArguments(MemoryQueue):
    """Gives a second attempt other arguments than the first had."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        super().retry(lease, delay_s, spent=spent)
        record = self._held[lease.id]
        task = unpack(record[5:])
        assert isinstance(task, dict)
        task["args"][0] = [*task["args"][0], 1]
        self._held_bytes -= len(record)
        self._held[lease.id] = record[:5] + pack(task)
        self._held_bytes += len(self._held[lease.id])


class RaisesTheDead(MemoryQueue):
    """Takes a dead task in once more."""

    def bury(self, lease: Lease) -> None:
        super().bury(lease)
        self._window = Window(1_000, 1_000.0)  # it remembers nothing
        super().offer(lease.id, lease.wire)


class HandsOutTwice(MemoryQueue):
    """Leaves every ninth task in the line when it is taken, for a second worker; and hears of one end alone."""

    _takes = 0

    def take(self, *, wait: bool, isolated: bool = False) -> Lease | None:
        line = self._lines[isolated]
        while (lease := super().take(wait=wait, isolated=isolated)) is None and wait and not line._closed:
            pass  # what was in the line has ended meanwhile
        self._takes += 1
        if lease is not None and self._takes % 9 == 0:
            line.put([lease.id])
        return lease

    def _is_over(self, lease: Lease) -> bool:
        return lease.id not in self._held or lease.id in self._due

    def ack(self, lease: Lease) -> None:
        if not self._is_over(lease):
            super().ack(lease)

    def bury(self, lease: Lease) -> None:
        if not self._is_over(lease):
            super().bury(lease)

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        if not self._is_over(lease):
            super().retry(lease, delay_s, spent=spent)


class _Backwards(Handoff):
    def put(self, ids: Iterable[str]) -> None:
        super().put(list(ids)[::-1])


class LastInFirstOut(MemoryQueue):
    """Of what is published together, runs the last first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines = (_Backwards(), _Backwards())


class _Heedless(Dispatcher):
    def take(self, *, isolated: bool = False) -> Lease | None:
        return self._queue.take(wait=True, isolated=isolated)


class _Deaf(Handoff):
    """Wakes nobody after its first twenty tasks."""

    _puts = 0

    def put(self, ids: Iterable[str]) -> None:
        self._puts += 1
        if self._puts <= 20:
            super().put(ids)
        else:
            self._line.extend(ids)


class LosesWakeUps(MemoryQueue):
    """Leaves a task in the line beside workers that sleep."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines = (_Deaf(), _Deaf())


class _TooMany(ThreadHost):
    def __init__(self, source: Any, functions: Any, workers: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(source, functions, workers + 2, *args, **kwargs)


def _swallows(lease: Any, *rest: Any) -> Failure | None:
    failure = run_attempt(lease, *rest)
    return None if failure is not None and failure.error.startswith("SystemExit") else failure


def _with(place: Any, name: str, value: Any, queue: type[MemoryQueue] = MemoryQueue) -> Callable[[], type[MemoryQueue]]:
    """Patch a name of the product; the queue stays what it is, unless another one is given."""

    def apply() -> type[MemoryQueue]:
        vars(place)[name] = value
        return queue

    return apply


@dataclass(frozen=True)
class Broken:
    """One fault."""

    apply: Callable[[], type[MemoryQueue]]  #: plant it, in this process; the queue to use
    anomaly: str  #: must be found
    others: frozenset[str] = frozenset()  #: may be found too: what follows from it
    load: str = "mixed"


def _queue(kind: type[MemoryQueue], anomaly: str, *others: str, load: str = "mixed") -> Broken:
    return Broken(lambda: kind, anomaly, frozenset(others), load)


#: What follows where a task runs, or is counted, once too often.
_TWICE: Final = ("duplicate", "overlap", "resurrection", "conservation", "retry count")


class IgnoresThePause(MemoryQueue):
    """Says that it is paused."""

    def pause(self) -> None:
        pass


class LosesWhatIsRequeued(MemoryQueue):
    """Accepts a dead task once more, and never runs it."""

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        offer = super().requeue(task_id, wire, isolated=isolated)
        if offer is Offer.ACCEPTED:
            self._unpublished[isolated].remove(task_id)
            self._end(task_id, State.READY, Event.EXPIRE)
        return offer


class CancelsInWords(Dispatcher):
    """Tells of every task that it is cancelled."""

    def cancel(self, ids: Sequence[str]) -> dict[str, State | None]:
        return dict.fromkeys(ids, State.CANCELLED)


BROKEN: Final[dict[str, Broken]] = {
    "answers_before_it_keeps": _queue(
        AnswersBeforeItKeeps, "lost", "conservation", "accepted twice", "retry count", "capacity exceeded"
    ),
    "drops_on_retry": _queue(DropsOnRetry, "lost", "retry count", "conservation"),
    "accepts_when_full": _queue(AcceptsWhenFull, "capacity exceeded", load="burst"),
    "holds_one_more": _queue(HoldsOneMore, "capacity exceeded", load="full"),
    "retries_once_too_often": Broken(_with(broker.dispatcher, "decide", runs_once_too_often), "retry count"),
    "last_in_first_out": _queue(LastInFirstOut, "order", load="fifo"),
    "starts_what_it_gave_back": Broken(
        _with(broker.supervisor, "Dispatcher", _Heedless, StartsWhatItGaveBack), "executed after stop",
        frozenset(("conservation", *_TWICE)), "cut",
    ),
    "forgets_ids": _queue(ForgetsIds, "accepted twice", *_TWICE),
    "hands_out_twice": _queue(HandsOutTwice, "duplicate", *_TWICE, "capacity exceeded", "retry too early"),
    "loses_wake_ups": _queue(LosesWakeUps, "lost wake-up", load="slow"),
    "swallows_system_exit": Broken(
        _with(worker_host.threads, "run_attempt", _swallows), "lost", frozenset({"conservation"})
    ),
    "counts_wrong": _queue(CountsWrong, "conservation"),
    "changes_the_arguments": _queue(ChangesTheArguments, "payload changed"),
    "raises_the_dead": _queue(RaisesTheDead, "resurrection", "accepted twice", *_TWICE),
    "forgets_the_delay": _queue(ForgetsTheDelay, "retry too early"),
    "refuses_and_keeps": _queue(
        RefusesAndKeeps, "rejected but executed", "conservation", "retry count", "spurious rejection"
    ),
    "refuses_too_soon": _queue(RefusesTooSoon, "spurious rejection"),
    "accepts_while_draining": _queue(AcceptsNowAndThenWhileDraining, "accepted while draining", load="drain"),
    "ignores_the_pause": _queue(IgnoresThePause, "ran while paused", load="operated"),
    "cancels_in_words": Broken(
        _with(broker.supervisor, "Dispatcher", CancelsInWords), "resurrection", frozenset({"conservation"}), "operated"
    ),
    "loses_what_is_requeued": _queue(LosesWhatIsRequeued, "lost", "conservation", load="operated"),
    "has_too_many_workers": Broken(_with(broker.supervisor, "ThreadHost", _TooMany), "worker limit", load="burst"),
}  # fmt: skip
