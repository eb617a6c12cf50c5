"""The reference queue: what `MemoryQueue` should do, in plain lists and dicts, slow and obvious.

It shares no code with the queue it judges but the names of the states. It takes no clock: whoever calls says what time
it is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from broker.queue import Offer
from broker.states import State


@dataclass
class ReferenceTask:
    """One accepted task."""

    id: str
    wire: bytes
    retries: int
    accepted_at: float
    expires_at: float | None
    state: State
    isolated: bool = False
    due: float = 0.0  #: only while delayed
    crashes: int = 0  #: child hosts that died while it ran
    runs: int = 0  #: attempts begun

    def expired(self, now: float) -> bool:
        """Whether its first attempt would come too late now."""
        return self.expires_at is not None and now >= self.expires_at

    @property
    def lease(self) -> tuple[str, int, bytes]:
        """What a worker that takes it should be told: id, number of the attempt, the bytes as they came."""
        return self.id, self.runs, self.wire


@dataclass(frozen=True)
class ReferenceEnd:
    """How one task ended."""

    id: str
    wire: bytes
    state: State
    at: float


class ReferenceQueue:
    """Every task that was accepted, in the list that it belongs to now."""

    def __init__(self, capacity: int, capacity_bytes: int, remember_ids: int, remember_s: float) -> None:
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self.remember_ids = remember_ids
        self.remember_s = remember_s
        self.draining = False
        self.closed = False
        self.held: list[ReferenceTask] = []  # in order of acceptance
        self.hidden: list[ReferenceTask] = []  # ready, not published; in the order in which they became ready
        self.line: list[ReferenceTask] = []  # ready and published, likewise
        self.delayed: list[ReferenceTask] = []  # in the order in which they were delayed
        self.running: list[ReferenceTask] = []
        self.ended: list[ReferenceEnd] = []  # all of them, ever
        self.window: list[ReferenceEnd] = []  # the last so many, without those that were requeued
        self.letters: dict[str, ReferenceTask] = {}  # the task of each id that died last
        self.requeued_total = 0
        self.paused = False
        self.handed_back: list[ReferenceTask] = []  # at the close, as they were then
        self.accepted_total = 0

    @property
    def held_bytes(self) -> int:
        """The bytes of all that is held."""
        return sum(len(task.wire) for task in self.held)

    def remembered(self, now: float) -> list[ReferenceEnd]:
        """The ended tasks whose ids are known: those in the window that did not end so long ago, or longer."""
        return [end for end in self.window if now - end.at < self.remember_s]

    @property
    def counts(self) -> dict[str, int]:
        """The ledger, counted from the lists."""
        ends = Counter(end.state for end in self.ended)
        return {
            "accepted": self.accepted_total,
            "ready": len(self.hidden) + len(self.line),
            "delayed": len(self.delayed),
            "running": len(self.running),
            "succeeded": ends[State.SUCCEEDED],
            "dead": ends[State.DEAD] - self.requeued_total,
            "cancelled": ends[State.CANCELLED],
            "expired": ends[State.EXPIRED],
            "returned": ends[State.RETURNED],
        }

    def expected_offer(self, task_id: str, wire: bytes, now: float) -> Offer:
        """What an offer should be answered with."""
        for known_id, known_wire in [
            *((task.id, task.wire) for task in self.held),
            *((end.id, end.wire) for end in self.remembered(now)),
        ]:
            if known_id == task_id:
                return Offer.DUPLICATE if known_wire == wire else Offer.CONFLICT
        if self.draining:
            return Offer.DRAINING
        if len(self.held) + 1 > self.capacity or self.held_bytes + len(wire) > self.capacity_bytes:
            return Offer.FULL
        return Offer.ACCEPTED

    def expected_requeue(self, task: ReferenceTask, now: float) -> Offer:
        """What a requeue of a task that died should be answered with."""
        ended = [end.state for end in self.remembered(now) if end.id == task.id]
        if any(held.id == task.id for held in self.held) or (ended and ended[-1] is not State.DEAD):
            return Offer.CONFLICT
        self.window, window = [end for end in self.window if end.id != task.id], self.window
        expected = self.expected_offer(task.id, task.wire, now)
        self.window = self.window if expected is Offer.ACCEPTED else window
        return expected

    def requeue(self, task: ReferenceTask, now: float) -> None:
        """A task that died is as if it were new; it was accepted before."""
        del self.letters[task.id]
        self.requeued_total += 1
        self.accept(replace(task, accepted_at=now, expires_at=None, state=State.READY, runs=0, crashes=0))
        self.accepted_total -= 1

    def recall(self) -> None:
        """What nobody has taken is hidden again."""
        self.hidden, self.line = self.line + self.hidden, []

    def cancel(self, ids: list[str], now: float) -> None:
        """What is ready or delayed, of these, ends, one by one; all that is ready is shown then, unless paused."""
        self.recall()
        for task_id in ids:
            for task in [one for one in [*self.hidden, *self.delayed] if one.id == task_id]:
                self.end(task, State.CANCELLED, now)
        self.publish()

    def accept(self, task: ReferenceTask) -> None:
        """Take it in, to the list of its state."""
        self.accepted_total += 1
        self.held.append(task)
        (self.delayed if task.state is State.DELAYED else self.hidden).append(task)

    def publish(self) -> None:
        """What was hidden comes to the end of the line, unless paused."""
        if self.paused:
            return
        self.line += self.hidden
        self.hidden = []

    def take(self, *, isolated: bool) -> ReferenceTask | None:
        """The first in the line that is isolated, or is not, begins a run; None if there is none."""
        fitting = [task for task in self.line if task.isolated == isolated]
        if not fitting:
            return None
        task = fitting[0]
        self.line.remove(task)
        task.state = State.RUNNING
        task.runs += 1
        self.running.append(task)
        return task

    def retry(self, task: ReferenceTask, due: float, *, spent: bool) -> None:
        """A running task waits for `due`; if its attempt is not spent, it is not counted. It was begun in time."""
        self.running.remove(task)
        task.expires_at = None
        task.runs -= not spent
        task.state, task.due = State.DELAYED, due
        self.delayed.append(task)

    def give_back(self, task: ReferenceTask) -> None:
        """A task that was taken, and not begun, is ready, before all that is not shown yet."""
        self.running.remove(task)
        task.runs -= 1
        task.state = State.READY
        self.hidden.insert(0, task)

    def end(self, task: ReferenceTask, state: State, now: float) -> None:
        """A task leaves, from whatever list it is in."""
        for place in (self.held, self.hidden, self.line, self.delayed, self.running):
            if task in place:
                place.remove(task)
        task.state = state
        end = ReferenceEnd(task.id, task.wire, state, now)
        self.ended.append(end)
        if state is State.RETURNED:
            return  # and remembered by nobody: who could ask for it is not answered any more
        self.window = [*self.window, end][-self.remember_ids :] if self.remember_ids else []
        if state is State.DEAD:
            self.letters[task.id] = task

    def promote(self, now: float) -> None:
        """What is due becomes ready: the earlier due first, and of the same due time, the earlier delayed."""
        for task in sorted((task for task in self.delayed if task.due <= now), key=lambda task: task.due):
            self.delayed.remove(task)
            task.state = State.READY
            self.hidden.append(task)

    def close(self, now: float) -> list[tuple[str, bytes, int, State]]:
        """All that is held is returned, in order of acceptance: id, bytes, attempts begun, and where it was."""
        self.closed = True
        self.handed_back = [replace(task) for task in self.held]
        for task in list(self.held):
            self.end(task, State.RETURNED, now)
        return [(task.id, task.wire, task.runs, task.state) for task in self.handed_back]

    def successor(self, now: float) -> ReferenceQueue:
        """The queue of the next broker, which takes in what this one handed back.

        An attempt that the stop cut off does not count as a run. But it was begun, so its task cannot expire any more.
        """
        made = ReferenceQueue(self.capacity, self.capacity_bytes, self.remember_ids, self.remember_s)
        for task in self.handed_back:
            waits = task.state is State.DELAYED and task.due > now
            made.accept(
                replace(
                    task,
                    expires_at=None if task.runs else task.expires_at,
                    state=State.DELAYED if waits else State.READY,
                    runs=task.runs - (task.state is State.RUNNING),
                    crashes=0,
                )
            )
        return made
