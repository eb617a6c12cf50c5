"""The queue: an exact bound, first in first out, delayed tasks in a heap, and the ids that were seen. Pure.

It starts no thread and takes no lock; its clock is a constructor argument. One thread, its owner, calls everything
here, but for `take`, which any worker may call: see there.

A held task is the bytes that came in, under its id, in one dict; what moves from place to place is the id. So a queued
task costs little more than its bytes, no attempt sees what an earlier one did to its arguments, and a million queued
tasks are nothing to the garbage collector, which does not look at bytes.

Ready tasks stand in one of two lines: those for workers in the broker's own process, and those that are to run
isolated, in a child host. They share everything else: the bound, the heap, the books.

Offer, take, ack and bury cost O(1); retry and promote O(log delayed).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Container
from enum import Enum, auto
from typing import Final

from broker.handed_back import HandedBack
from broker.handoff import Handoff
from broker.ledger import Ledger
from broker.pressure import NOTHING_KEPT
from broker.records import (
    LONGEST_AGE_S,
    Lease,
    Returned,
    Status,
    age_s_of,
    attempt_of,
    is_isolated,
    later_attempt,
    record_of,
    wire_of,
)
from broker.states import Event, State
from broker.window import Window

#: Delayed tasks that one turn of the loop makes ready at most: two milliseconds' worth. However many are due at one
#: moment, requests are answered in between.
MOST_PROMOTED: Final = 1_000

_FEW: Final = 1_000  # tasks that are moved to a dict of their size in less time than a look takes otherwise

# To read a member of an enum costs more than to book a move; these are read for every task.
_NEW, _READY, _DELAYED, _RUNNING = State.NEW, State.READY, State.DELAYED, State.RUNNING
_ACCEPT, _TAKE, _ACK = Event.ACCEPT, Event.TAKE, Event.ACK


class Offer(Enum):
    """What became of a task that was offered."""

    ACCEPTED = auto()
    DUPLICATE = auto()  #: this id was accepted before, with the same bytes; nothing was added
    CONFLICT = auto()  #: this id was accepted before, with other bytes
    DRAINING = auto()
    FULL = auto()


_ACCEPTED = Offer.ACCEPTED


class MemoryQueue:
    """All tasks that were accepted, until they end; then their ids, for a while."""

    def __init__(
        self,
        capacity: int,
        capacity_bytes: int,
        remember_ids: int,
        clock: Callable[[], float],
        *,
        remember_s: float = math.inf,
    ) -> None:
        """`clock` tells seconds, and never goes back. Of tasks that ended, the ids of the last `remember_ids` are
        remembered, each for less than `remember_s` seconds.
        """
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self.ledger = Ledger()
        self.draining = False  #: nothing new is accepted any more
        self.is_paused = False  #: no task is to be taken
        self._clock = clock
        self._epoch = clock() - LONGEST_AGE_S  # of the records' times
        self._held: dict[str, bytes] = {}  # id → record of every ready, delayed or running task
        self._held_bytes = 0
        # One of each for ordinary tasks, one for isolated ones.
        self._unpublished: tuple[list[str], list[str]] = ([], [])  # ready, but not yet shown to the workers
        self._lines = (Handoff(), Handoff())  # ready, for any worker to take
        self._delayed: list[tuple[float, int, str]] = []  # heap of (due, tie-breaker, id)
        self._due: dict[str, float] = {}  # id → when it is ready, of every delayed task
        self._pushes = 0
        self._expires_at: dict[str, float] = {}  # id → no first attempt begins from then on, of those that have a limit
        self._crashes: dict[str, int] = {}  # id → child hosts that died while it ran, of those that saw one die
        self._window = Window(remember_ids, remember_s)

    @property
    def held(self) -> int:
        """Ready + delayed + running: what `capacity` bounds."""
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """The same in bytes as received: what `capacity_bytes` bounds."""
        return self._held_bytes

    @property
    def ready(self) -> int:
        """Tasks that no worker has taken yet."""
        (ordinary, isolated), (one, other) = self._unpublished, self._lines
        return len(ordinary) + len(isolated) + len(one) + len(other)

    @property
    def delayed(self) -> int:
        """Tasks that wait for a due time."""
        return len(self._delayed)

    @property
    def remembered(self) -> int:
        """Ids of ended tasks that are remembered."""
        self._window.forget(self._clock())
        return len(self._window)

    @property
    def next_due(self) -> float | None:
        """When the delayed task that is due first becomes ready; None if none waits."""
        return self._delayed[0][0] if self._delayed else None

    def offer(
        self,
        task_id: str,
        wire: bytes,
        delay_s: float = 0.0,
        expires_s: float | None = None,
        *,
        isolated: bool = False,
        kept: tuple[int, int] = NOTHING_KEPT,
    ) -> Offer:
        """Accept the task, or say why not; a refused offer changes nothing. `publish` must follow.

        `isolated`: it is for those who `take` isolated tasks. `kept`: (tasks, bytes) of the bound to leave free.
        """
        if task_id in self._held:
            return Offer.DUPLICATE if wire_of(self._held[task_id]) == wire else Offer.CONFLICT
        now = self._clock()
        if (ended := self._window.find(task_id, now)) is not None:
            return Offer.DUPLICATE if ended.digest == hash(wire) else Offer.CONFLICT
        if self.draining:
            return Offer.DRAINING
        if not self._has_room(len(wire), kept):
            return Offer.FULL
        self._hold(task_id, wire, now, isolated=isolated)
        if expires_s is not None:
            self._expires_at[task_id] = now + expires_s
        if delay_s:
            self._delay(task_id, now + delay_s)
            self.ledger.move(_NEW, Event.DEFER)
        else:
            self._unpublished[isolated].append(task_id)
            self.ledger.move(_NEW, _ACCEPT)
        return _ACCEPTED

    def restore(self, task: Returned, *, isolated: bool = False) -> Offer:
        """Accept a task that another queue returned, with its age, the attempts that ended and what it still waits for.

        `publish` must follow.
        """
        offer = self.offer(task.id, task.wire, task.due_in_s or 0.0, task.expires_in_s, isolated=isolated)
        if offer is _ACCEPTED:
            accepted_s = max(0.0, self._clock() - task.age_s - self._epoch)
            record = record_of(task.wire, accepted_s, isolated=isolated)
            self._held[task.id] = later_attempt(record, task.attempts_ended)
        return offer

    def publish(self) -> None:
        """Show the workers what has become ready, unless paused; one of those that wait in `take` wakes up for it."""
        if self.is_paused:
            return
        ordinary, isolated = self._unpublished
        if ordinary:
            self._lines[False].put(ordinary)
            ordinary.clear()
        if isolated:
            self._lines[True].put(isolated)
            isolated.clear()

    def take(self, *, wait: bool, isolated: bool = False) -> Lease | None:
        """A lease on the published task of its line that has been ready longest. Any thread may call this.

        If there is none: waits for one, or, without `wait`, None. None too once the queue is closed.
        What makes it safe: the id comes out of the line in one atomic step, and from then on only the holder of the
        lease can cause anything to happen to the task, so its record is there to be read.
        """
        line = self._lines[isolated]
        task_id = line.take() if wait else line.try_take()
        if task_id is None:
            return None
        record = self._held.get(task_id)
        return None if record is None else Lease(task_id, record)  # None: closed in this very moment, and given back

    def has_expired(self, lease: Lease) -> bool:
        """Whether the task's time was up before its first attempt. Any thread may call this, for a lease it took."""
        return bool(self._expires_at) and self._clock() >= self._expires_at.get(lease.id, math.inf)

    def ack(self, lease: Lease) -> None:
        """The task succeeded."""
        self._book_take()
        self._end(lease.id, _RUNNING, _ACK)

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        """Another attempt follows after `delay_s` seconds. `spent`: this one counts; otherwise it is made once more.

        One has begun, so the task does not expire any more.
        """
        if self._expires_at:
            self._expires_at.pop(lease.id, None)
        self._held[lease.id] = later_attempt(self._held[lease.id], spent)
        self._delay(lease.id, self._clock() + delay_s)
        self._book_take()
        self.ledger.move(_RUNNING, Event.RETRY)

    def give_back(self, lease: Lease) -> None:
        """The attempt did not begin: the task is ready, as if it had not been taken. `publish` must follow."""
        self._unpublished[is_isolated(self._held[lease.id])].insert(0, lease.id)

    def note_crash(self, task_id: str) -> int:
        """A child host died while this held task ran; how many that makes."""
        self._crashes[task_id] = count = self._crashes.get(task_id, 0) + 1
        return count

    def bury(self, lease: Lease) -> None:
        """The task failed for good."""
        self._book_take()
        self._end(lease.id, _RUNNING, Event.BURY)

    def expire(self, lease: Lease) -> None:
        """The task was taken too late, and is not run."""
        self._end(lease.id, _READY, Event.EXPIRE)

    def promote(self) -> None:
        """Make delayed tasks ready that are due: `MOST_PROMOTED` at most; `next_due` tells if more are. `publish` must
        follow.
        """
        now = self._clock()
        for _ in range(MOST_PROMOTED):
            if not self._delayed or self._delayed[0][0] > now:
                return
            _, _, task_id = heapq.heappop(self._delayed)
            del self._due[task_id]
            self._unpublished[is_isolated(self._held[task_id])].append(task_id)
            self.ledger.move(_DELAYED, Event.DUE)

    def pause(self) -> None:
        """Let no task be taken from now on; what was taken goes on. What is ready stays so, in order."""
        self.is_paused = True
        self._recall()

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        self.is_paused = False
        self.publish()

    def cancel(self, ids: Collection[str]) -> None:
        """Take back those of these tasks, no two alike, that are ready or delayed; all others stay as they are.

        What became of each, `status` tells. O(ready + delayed).
        """
        self._recall()
        unwanted = set(ids)
        ready = {task_id for line in self._unpublished for task_id in line if task_id in unwanted}
        for line in self._unpublished:
            line[:] = [task_id for task_id in line if task_id not in ready]
        self._delayed = [entry for entry in self._delayed if entry[2] not in unwanted]
        heapq.heapify(self._delayed)
        for task_id in ids:
            if task_id in ready:
                self._end(task_id, _READY, Event.CANCEL)
            elif self._due.pop(task_id, None) is not None:
                self._end(task_id, _DELAYED, Event.CANCEL)
        self.publish()

    def requeue(self, task_id: str, wire: bytes, *, isolated: bool) -> Offer:
        """Accept a task that died once more, as if it were new: ready now, all its retries before it, no expiry.

        Refused as `offer` would; a conflict too if its id has come to another end since. `publish` must follow.
        """
        now = self._clock()
        ended = self._window.find(task_id, now)
        if task_id in self._held or (ended is not None and ended.state is not State.DEAD):
            return Offer.CONFLICT
        if self.draining:
            return Offer.DRAINING
        if not self._has_room(len(wire), NOTHING_KEPT):
            return Offer.FULL
        self._window.remove(task_id)
        self._hold(task_id, wire, now, isolated=isolated)
        self._unpublished[isolated].append(task_id)
        self.ledger.reopen()
        return _ACCEPTED

    def is_unfinished(self, deadline: float) -> bool:
        """Whether anything is held that could still run before `deadline`: what a drain waits for."""
        if self.is_paused:
            return self.held > self.delayed + self.ready
        return self.held > self.delayed or bool(self._delayed and self._delayed[0][0] <= deadline)

    def disown(self) -> None:
        """In a process that a task forked: `take` gives None. The tasks are the parent's."""
        for line in self._lines:
            line.close()

    def close(self, running: Collection[str]) -> HandedBack:
        """Hand out no lease any more: `take` gives None. What was held, in order of acceptance. Takes no memory for it.

        `running`: the ids that workers hold. Their leases are void: nothing must be reported on them any more.
        """
        for line in self._lines:
            line.close()
        for hidden in self._unpublished:
            hidden.clear()
        given = HandedBack(self._held, self._due, self._expires_at, set(running), self._epoch, self._clock())
        for state in given.states():
            if state is _RUNNING:
                self._book_take()
            self.ledger.move(state, Event.RETURN)
        self._held, self._held_bytes = {}, 0  # the old one is the result's, as are the due times
        self._delayed.clear()
        return given

    def status(self, task_id: str, running: Container[str]) -> Status | None:
        """What is known of the task; None if never accepted, or forgotten. `running`: the ids that workers hold."""
        record = self._held.get(task_id)
        if record is None:
            ended = self._window.find(task_id, self._clock())
            return None if ended is None else Status(ended.state, None, None)
        if task_id in running:
            return Status(_RUNNING, attempt_of(record), None)
        due = self._due.get(task_id)
        return Status(_READY if due is None else _DELAYED, attempt_of(record) - 1, due)

    def age_s(self, task_id: str) -> float:
        """Seconds since the acceptance of a held task, to the hundredth."""
        return age_s_of(self._held[task_id], self._clock() - self._epoch)

    def oldest_s(self) -> float:
        """Seconds since the acceptance of the task that was accepted first of all that are held; 0 if none is."""
        if len(self._held) <= _FEW:
            self._held = dict(self._held)  # a dict keeps the places of what is gone, and the first is behind all those
        for task_id in self._held:
            return self.age_s(task_id)
        return 0.0

    def counts(self) -> dict[str, int]:
        """The ledger's counts, of this instant."""
        counts, ready = self.ledger.counts(), self.ready
        # A worker takes a task on its own thread, and the ledger, which is the owner's, hears of it when the attempt
        # has ended. Until then the books have it as ready; that no worker took it yet is what the lines know.
        return counts | {_READY.value: ready, _RUNNING.value: counts[_READY] - ready}

    def _has_room(self, size: int, kept: tuple[int, int]) -> bool:
        tasks, size_kept = kept
        return len(self._held) + tasks < self.capacity and self._held_bytes + size_kept + size <= self.capacity_bytes

    def _hold(self, task_id: str, wire: bytes, now: float, *, isolated: bool) -> None:
        self._held[task_id] = record_of(wire, now - self._epoch, isolated=isolated)
        self._held_bytes += len(wire)

    def _recall(self) -> None:
        """Hide again from the workers what none has taken, ahead of what has become ready since."""
        for hidden, line in zip(self._unpublished, self._lines, strict=True):
            hidden[:0] = line.recall()

    def _book_take(self) -> None:
        self.ledger.move(_READY, _TAKE)

    def _delay(self, task_id: str, due: float) -> None:
        self._due[task_id] = due
        self._pushes += 1
        heapq.heappush(self._delayed, (due, self._pushes, task_id))

    def _end(self, task_id: str, state: State, event: Event) -> None:
        now, wire = self._clock(), wire_of(self._held.pop(task_id))
        self._held_bytes -= len(wire)
        if self._expires_at:
            self._expires_at.pop(task_id, None)
        if self._crashes:
            self._crashes.pop(task_id, None)
        self._window.add(task_id, self.ledger.move(state, event), wire, now)
