"""The machine that walks a `MemoryQueue` and the reference side by side, and compares them after every step.

It uses what the broker uses, the queue's public methods, and can be pointed at another queue or another way to decide
about retries: `broken_queues` does, to show that each kind of fault is noticed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.protocol import arguments_of, pack
from broker.queue import MemoryQueue, Offer
from broker.records import Lease, Status
from broker.retries import Bury, DeathReason, RunAgain, decide
from broker.states import HELD, State
from tests.clock import HandClock
from tests.model.reference import ReferenceQueue, ReferenceTask
from worker_host.contract import Failure, FailureKind
from worker_host.tasks import Backoff

IDS = [f"t{number}" for number in range(8)]  # few, so that they meet again while held, remembered, and forgotten
#: Three bodies that a task may have under one id: two of the same length, and a longer one.
BODIES = ("a", "b", "c" * 20)
SIZE = len(pack({"id": "t0", "name": "n", "args": ["a"]}))
SECONDS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0])  # few, so that due times meet each other and the clock


@dataclass(frozen=True)
class Offered:
    """What is offered."""

    id: str
    body: str
    delay_s: float
    expires_s: float | None
    retries: int
    isolated: bool


OFFERS = st.builds(
    Offered,
    id=st.sampled_from(IDS),
    body=st.sampled_from(BODIES),
    delay_s=st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, 2.0]),
    expires_s=st.sampled_from([None, None, None, 0.5, 1.0, 2.0]),
    retries=st.integers(0, 3),
    isolated=st.booleans(),
)
BACKOFF = Backoff(first_s=1.0, max_s=3.0, jitter=0.5)
#: Sixty-fourths, as all times here: so that a due time comes out the same, whichever way it is computed.
SPREADS = st.integers(0, 63).map(lambda part: part / 64)
MOST_ACCEPTED = 12
#: How an attempt ends: well, or with a failure, some of which ask for a delay, or to be the last.
ENDS = st.sampled_from([None, None, *[Failure("E", "")] * 4, Failure("E", "", final=True)]) | st.builds(
    Failure,
    error=st.just("E"),
    trace=st.just(""),
    retry_after_s=st.none() | SECONDS,
    kind=st.sampled_from(FailureKind),
)
POISON_AFTER = 2

serving = precondition(lambda m: not m.reference.closed)
late = precondition(lambda m: not m.reference.closed and m.reference.accepted_total >= m.accepts_at_least)
stopped = precondition(lambda m: m.reference.closed)
waiting = precondition(lambda m: m.reference.hidden or m.reference.line)
running = precondition(lambda m: m.leases and not m.reference.closed)


def wire_of(task_id: str, body: str) -> bytes:
    """The packed task of this id and body."""
    return pack({"id": task_id, "name": "n", "args": [body]})


def reason_of_death(failure: Failure, *, is_poison: bool) -> DeathReason:
    """Why a task is dead that will not run again after this failure."""
    if failure.final:
        return DeathReason.NEVER_RETRY
    if failure.kind is FailureKind.CRASHED or is_poison:
        return DeathReason.CRASHED
    return DeathReason.TIMED_OUT if failure.kind is FailureKind.TIMED_OUT else DeathReason.RETRIES_EXHAUSTED


class QueueMachine(RuleBasedStateMachine):
    """Random walks; every difference between the two queues is an `AssertionError`."""

    make_queue: ClassVar[Callable[..., MemoryQueue]] = MemoryQueue
    decide: ClassVar[Callable[..., RunAgain | Bury]] = staticmethod(decide)

    @initialize(
        capacity=st.sampled_from([4, 3, 2, 1]),
        tasks_in_bytes=st.sampled_from([6, 3, 2, 1]),
        bytes_over=st.sampled_from([0, -1, 1]),
        remember_ids=st.integers(0, 3),
        remember_s=st.sampled_from([math.inf, 2.0, 1.0, 0.0]),
        accepts_at_least=st.integers(0, MOST_ACCEPTED),
    )
    def open(
        self,
        capacity: int,
        tasks_in_bytes: int,
        bytes_over: int,
        remember_ids: int,
        remember_s: float,
        accepts_at_least: int,
    ) -> None:
        """Build both queues, empty; small ones, and in bytes so that tasks fit exactly, or just not."""
        self.clock = HandClock()
        capacity_bytes = tasks_in_bytes * SIZE + bytes_over
        self.reference = ReferenceQueue(capacity, capacity_bytes, remember_ids, remember_s)
        self.queue = self.made_queue()
        self.accepts_at_least = accepts_at_least  # tasks, before it is stopped
        self.leases: list[tuple[Lease, ReferenceTask]] = []

    def made_queue(self) -> MemoryQueue:
        """An empty queue, with the bounds of the reference."""
        bounds = self.reference
        return type(self).make_queue(
            bounds.capacity,
            bounds.capacity_bytes,
            bounds.remember_ids,
            self.clock.monotonic,
            remember_s=bounds.remember_s,
        )

    def end(self, task: ReferenceTask, state: State) -> None:
        """In the reference: this task ends now."""
        self.reference.end(task, state, self.clock.monotonic())

    @serving
    @rule(offered=OFFERS, after_s=st.sampled_from([0.0, 0.0, 1.0]))
    def offer(self, offered: Offered, after_s: float = 0.0) -> None:
        """Offer a task: a new one, or one that was seen before, with the same bytes or others.

        `after_s`: seconds that pass before, so that the queue is told of it with the offer.
        """
        self.clock.advance(after_s)
        wire, now = wire_of(offered.id, offered.body), self.clock.monotonic()
        expected = self.reference.expected_offer(offered.id, wire, now)
        assert (
            self.queue.offer(offered.id, wire, offered.delay_s, offered.expires_s, isolated=offered.isolated)
            is expected
        )
        if expected is Offer.ACCEPTED:
            self.reference.accept(
                ReferenceTask(
                    id=offered.id,
                    wire=wire,
                    retries=offered.retries,
                    accepted_at=now,
                    expires_at=None if offered.expires_s is None else now + offered.expires_s,
                    state=State.DELAYED if offered.delay_s else State.READY,
                    due=now + offered.delay_s,
                    isolated=offered.isolated,
                )
            )

    @rule(seconds=SECONDS, promote=st.booleans(), publish=st.booleans())
    def look(self, seconds: float, promote: bool, publish: bool) -> None:
        """Time passes; nothing becomes ready by itself, but when the queue is told to look."""
        self.clock.advance(seconds)
        if promote:
            self.queue.promote()
            self.reference.promote(self.clock.monotonic())
        if publish:
            self.queue.publish()
            self.reference.publish()

    @waiting
    @rule(publish=st.sampled_from([True, True, False]), first=st.sampled_from([True, True, False]))
    def take(self, publish: bool, first: bool) -> None:
        """A worker takes the next task of its line; if that is too late for its first run, the task expires.

        `first`: a worker of that line whose head has been ready longer.
        """
        self.look(0.0, promote=False, publish=publish)
        line = self.reference.line
        isolated = bool(line) and line[0].isolated is first
        lease, task = self.queue.take(wait=False, isolated=isolated), self.reference.take(isolated=isolated)
        assert (lease and (lease.id, lease.attempt, lease.wire)) == (task and task.lease)
        if lease is None or task is None:
            return
        assert lease.open() == arguments_of(task.wire)
        expired = task.expired(self.clock.monotonic())
        assert self.queue.has_expired(lease) == expired
        if expired:
            task.runs -= 1  # it never began
            self.queue.expire(lease)
            self.end(task, State.EXPIRED)
        else:
            self.leases.append((lease, task))

    @running
    @rule(which=st.integers(0, 3), end=ENDS, spread=SPREADS)
    def finish(self, which: int, end: Failure | None, spread: float) -> None:
        """One of the running tasks ends its attempt; it runs again exactly if it failed, may, and has a retry left."""
        lease, task = self.leases.pop(which % len(self.leases))
        if end is None:
            self.queue.ack(lease)
            self.end(task, State.SUCCEEDED)
            return
        if end.kind is FailureKind.CRASHED:
            task.crashes += 1
            assert self.queue.note_crash(task.id) == task.crashes
        is_poison = task.crashes >= POISON_AFTER and end.kind is FailureKind.CRASHED
        verdict = type(self).decide(lease.attempt, task.retries, BACKOFF, end, spread, is_poison=is_poison)
        spent = end.kind is not FailureKind.DISPLACED
        if spent and (end.final or is_poison or task.runs == task.retries + 1):
            assert verdict == Bury(reason_of_death(end, is_poison=is_poison))
            self.queue.bury(lease)
            self.end(task, State.DEAD)
            return
        assert isinstance(verdict, RunAgain), f"buried after {task.runs} runs, with retries={task.retries}"
        asked_s = end.retry_after_s if spent else 0.0
        assert verdict.spent == spent
        assert 0.5 <= verdict.delay_s <= 4.5 if asked_s is None else verdict.delay_s == asked_s
        self.queue.retry(lease, verdict.delay_s, spent=verdict.spent)
        self.reference.retry(task, self.clock.monotonic() + verdict.delay_s, spent=spent)

    @running
    @rule(which=st.integers(0, 3))
    def give_back(self, which: int) -> None:
        """A task was taken, and could not be begun."""
        lease, task = self.leases.pop(which % len(self.leases))
        self.queue.give_back(lease)
        self.reference.give_back(task)

    @serving
    @rule(offers=st.lists(OFFERS, max_size=4), seconds=SECONDS, ends=st.lists(ENDS, max_size=4), spread=SPREADS)
    def live(self, offers: list[Offered], seconds: float, ends: list[Failure | None], spread: float) -> None:
        """All of it in one step, as it comes in life. Walks of single steps alone seldom get far."""
        for offered in offers:
            self.offer(offered)
        self.look(seconds, promote=True, publish=True)
        for end in ends:
            if self.reference.line:
                self.take(publish=False, first=True)
            if self.leases:
                self.finish(-1, end, spread)
        if self.reference.line:
            self.take(publish=False, first=True)  # and goes on running

    @late
    @rule(end=st.booleans())
    def stop(self, end: bool) -> None:
        """Accept nothing new from here on; or come to the end, at which all that is held is handed back."""
        if not end:
            self.queue.draining = self.reference.draining = True
            return
        now, held = self.clock.monotonic(), list(self.reference.held)
        running = [lease.id for lease, *_ in self.leases]
        self.returned, self.closed_at = list(self.queue.close(running)), now
        assert [(one.id, one.wire, one.attempts, one.was) for one in self.returned] == self.reference.close(now)
        for one, task in zip(self.returned, held, strict=True):
            assert one.due_in_s == (max(0.0, task.due - now) if one.was is State.DELAYED else None)
        self.leases.clear()

    @stopped
    @rule(seconds=SECONDS)
    def restart(self, seconds: float) -> None:
        """The next broker takes in what this one handed back, and time has not stood still for it."""
        self.queue = self.made_queue()
        passed = self.clock.monotonic() - self.closed_at
        for one in self.returned:
            due_in_s = None if one.due_in_s is None else max(0.0, one.due_in_s - passed)
            expires_in_s = None if one.expires_in_s is None else one.expires_in_s - passed
            waiting = replace(one, due_in_s=due_in_s, expires_in_s=expires_in_s, age_s=one.age_s + passed)
            isolated = next(task.isolated for task in self.reference.handed_back if task.id == one.id)
            assert self.queue.restore(waiting, isolated=isolated) is Offer.ACCEPTED
        self.reference = self.reference.successor(self.clock.monotonic())
        self.accepts_at_least = MOST_ACCEPTED
        self.look(seconds, promote=False, publish=True)

    # --- after every step --------------------------------------------------------------------------------------------

    @invariant()
    def books_balance(self) -> None:
        """The ledger is what is really there, and its sum is what was accepted (P2)."""
        counts = self.queue.counts()
        assert counts == self.reference.counts
        assert counts["accepted"] == sum(counts.values()) - counts["accepted"]
        assert self.queue.held == sum(counts[state] for state in HELD) == len(self.reference.held)
        assert self.queue.ledger.ended == len(self.reference.ended)

    @invariant()
    def bound_holds(self) -> None:
        """Neither bound is ever exceeded (P4). That no offer is refused while there is room, `offer` compares."""
        assert self.queue.held <= self.reference.capacity
        assert self.queue.held_bytes == self.reference.held_bytes <= self.reference.capacity_bytes

    @invariant()
    def nothing_runs_that_is_not_in_the_line(self) -> None:
        """Where no task is published, none is handed out: not before its time, not twice, and not after the end."""
        for isolated in (False, True):
            if not any(task.isolated == isolated for task in self.reference.line):
                assert self.queue.take(wait=False, isolated=isolated) is None

    @invariant()
    def gauges_are_right(self) -> None:
        """What the queue tells of itself."""
        reference, now = self.reference, self.clock.monotonic()
        assert self.queue.ready == len(reference.hidden) + len(reference.line)
        assert self.queue.delayed == len(reference.delayed)
        assert self.queue.remembered == len(reference.remembered(now))
        assert self.queue.next_due == min((task.due for task in reference.delayed), default=None)
        oldest_s = now - reference.held[0].accepted_at if reference.held else 0.0
        assert abs(self.queue.oldest_s() - oldest_s) <= 0.02  # told to the hundredth
        for deadline in (now, now + 1.0):
            waits_for = [task for task in reference.held if task.state is not State.DELAYED or task.due <= deadline]
            waits_for = reference.running if reference.paused else waits_for
            assert self.queue.is_unfinished(deadline) == bool(waits_for)

    @invariant()
    def every_id_is_told_right(self) -> None:
        """The status of each id: where it is held, how it ended, or that it is not known."""
        out = [task.id for task in self.reference.running]
        known = self.reference.remembered(self.clock.monotonic())
        expected = {end.id: Status(end.state, None, None) for end in known}
        for task in self.reference.held:
            expected[task.id] = Status(task.state, task.runs, task.due if task.state is State.DELAYED else None)
        for task_id in IDS:
            assert self.queue.status(task_id, out) == expected.get(task_id)

    def teardown(self) -> None:
        """Let everything come to its end: nothing that was accepted is lost, and nothing runs that was not."""
        if sys.exception() is not None or not hasattr(self, "queue"):
            return  # the walk has failed, or ended before it began: there is nothing more to learn from it
        self.reference.paused = False
        self.queue.resume()
        self.reference.publish()
        for _ in range(3):  # no delay is longer than twice the time that passes in a round
            self.look(5.0, promote=True, publish=True)
            for _ in range(len(self.reference.line)):
                self.take(publish=False, first=True)
            while self.leases:
                lease, task = self.leases.pop()
                self.queue.ack(lease)
                self.end(task, State.SUCCEEDED)
            self.books_balance()
            self.every_id_is_told_right()
        assert self.queue.held == self.queue.held_bytes == 0
