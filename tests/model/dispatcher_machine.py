"""The machine that walks a `Dispatcher`, which can err where workers have ended what the owner has not settled yet.

The workers of a walk are the machine itself, which takes and ends tasks by hand. What was accepted and how it ended is
kept in one list; that list alone says what every answer should be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.dispatcher import Dispatcher
from broker.protocol import decode_task
from broker.queue import Offer
from broker.records import Lease, Status
from broker.states import HELD, State
from tests.still_broker import FAILURE, StillBroker, wire
from worker_host.contract import Failure
from worker_host.tasks import Backoff, task

IDS = [f"t{number}" for number in range(10)]
ENDS = st.sampled_from([None, FAILURE, FAILURE, Failure("E", "", final=True)])
FOREVER = 10**6


@task(retries=1, backoff=Backoff(0.0, 0.0, 0.0))
def work() -> None:
    """Never called: the machine plays the worker."""


@dataclass
class Record:
    """One accepted task, as its producer and its workers know it."""

    id: str
    wire: bytes
    expires_at: float
    state: State = State.READY
    runs: int = 0


serving = precondition(lambda m: not m.closed)
running = precondition(lambda m: m.leases and not m.closed)
stoppable = precondition(lambda m: not m.closed and len(m.records) >= m.accepts_at_least)


class DispatcherMachine(RuleBasedStateMachine):
    """Random walks; every wrong answer is an `AssertionError`."""

    dispatcher_class: ClassVar[type[Dispatcher]] = Dispatcher

    @initialize(capacity=st.sampled_from([3, 2, 1]), accepts_at_least=st.integers(0, 4))
    def open(self, capacity: int, accepts_at_least: int) -> None:
        """Build a broker without threads, empty. It remembers every id of a walk."""
        self.broker = StillBroker(work, capacity=capacity, remember_ids=1_000, dispatcher=type(self).dispatcher_class)
        self.dispatcher, self.clock, self.capacity = self.broker.dispatcher, self.broker.clock, capacity
        self.accepts_at_least = accepts_at_least  # tasks, before it is stopped
        self.records: dict[str, Record] = {}  # in order of acceptance
        self.line: list[Record] = []  # what a worker can take, in order
        self.hidden: list[Record] = []  # accepted; becomes that at the next turn
        self.failed: list[Record] = []  # to be run again; becomes that at the next turn, behind what was accepted
        self.leases: list[tuple[Lease, Record]] = []
        self.retries_total = 0
        self.draining = self.closed = False

    @property
    def held(self) -> list[Record]:
        """The tasks that have not ended, in order of acceptance."""
        return [record for record in self.records.values() if record.state in HELD]

    @serving
    @rule(task_id=st.sampled_from(IDS), expires_s=st.sampled_from([None, None, 1.0]))
    def offer(self, task_id: str, expires_s: float | None) -> None:
        """Refused exactly if it is known, or no room is left: what has ended holds none, settled or not (P4)."""
        packed = wire(task_id, "work", **({} if expires_s is None else {"expires_s": expires_s}))
        known = self.records.get(task_id)
        if known is not None:
            expected = Offer.DUPLICATE if known.wire == packed else Offer.CONFLICT
        elif self.draining:
            expected = Offer.DRAINING
        else:
            expected = Offer.FULL if len(self.held) == self.capacity else Offer.ACCEPTED
        assert self.dispatcher.offer(decode_task(packed), packed) is expected
        if expected is Offer.ACCEPTED:
            expires_at = self.clock.monotonic() + (FOREVER if expires_s is None else expires_s)
            self.records[task_id] = Record(task_id, packed, expires_at)
            self.hidden.append(self.records[task_id])

    @serving
    @rule(seconds=st.sampled_from([0.0, 0.0, 0.5, 1.0]))
    def turn(self, seconds: float) -> None:
        """The owner's loop comes round."""
        self.clock.advance(seconds)
        self.broker.bell.listen()
        self.dispatcher.turn()
        for record in self.failed:
            record.state = State.READY
        self.line += self.hidden + self.failed
        self.hidden, self.failed = [], []

    @serving
    @rule()
    def take(self) -> None:
        """A worker takes the first task that has not expired, and finds those before it expired. It must not wait."""
        assert self.broker.queue.ready >= len(self.line), "a task is lost: a worker would wait for ever"
        now = self.clock.monotonic()
        late = [record.runs == 0 and now >= record.expires_at for record in self.line]
        if all(late):
            return
        for _ in range(late.index(False)):
            self.line.pop(0).state = State.EXPIRED
        record = self.line.pop(0)
        record.runs, record.state = record.runs + 1, State.RUNNING
        lease = self.dispatcher.take()
        assert lease is not None
        assert (lease.id, lease.attempt, lease.wire) == (record.id, record.runs, record.wire)
        self.leases.append((lease, record))

    @running
    @rule(which=st.integers(0, 3), end=ENDS)
    def finish(self, which: int, end: Failure | None) -> None:
        """A worker says how an attempt ended; the owner hears of it later, but need not be asked twice."""
        lease, record = self.leases.pop(which % len(self.leases))
        if end is None:
            self.dispatcher.ack(lease)
            record.state = State.SUCCEEDED
        else:
            self.dispatcher.fail(lease, end)
            record.state = State.DEAD if end.final or record.runs == 2 else State.DELAYED
        if end is not None or self.draining:
            assert self.broker.bell.rings, "the owner sleeps on, and does not know"
        if record.state is State.DELAYED:
            self.retries_total += 1
            self.failed.append(record)

    @running
    @rule(which=st.integers(0, 3))
    def give_back(self, which: int) -> None:
        """A worker says that it could not begin: the task is ready again at the owner's next turn, before new ones."""
        lease, record = self.leases.pop(which % len(self.leases))
        self.dispatcher.give_back(lease)
        assert self.broker.bell.rings, "the owner sleeps on, and does not know"
        record.runs, record.state = record.runs - 1, State.READY
        self.hidden.insert(0, record)

    @serving
    @rule(offers=st.lists(st.sampled_from(IDS), max_size=3), ends=st.lists(ENDS, max_size=3))
    def live(self, offers: list[str], ends: list[Failure | None]) -> None:
        """All of it in one step, as it comes in life."""
        for task_id in offers:
            self.offer(task_id, None)
        self.turn(0.0)
        for end in ends:
            self.take()
            if self.leases:
                self.finish(-1, end)

    @stoppable
    @rule(end=st.booleans())
    def stop(self, end: bool) -> None:
        """Drain; or come to the end, at which what is held is given back, and nobody is listened to any more."""
        if not end:
            self.draining = True
            self.dispatcher.drain(self.clock.monotonic() + FOREVER)
            assert self.broker.bell.rings
            return
        self.look()
        held, returned = self.held, self.dispatcher.close()
        assert [(one.id, one.wire, one.attempts) for one in returned] == [(r.id, r.wire, r.runs) for r in held]
        self.closed = True
        for record in held:
            record.state = State.RETURNED
        rings = self.broker.bell.rings
        for lease, _ in self.leases:
            self.dispatcher.ack(lease)
        self.leases.clear()
        assert self.broker.bell.rings == rings, "the owner is gone"
        assert self.dispatcher.take() is None

    @rule()
    def look(self) -> None:
        """The figures, the states of all ids, and the dead letters, of this instant: whatever was settled or not."""
        states = [record.state for record in self.records.values()]
        if not self.closed:
            self._look_closer([record.id for record in self.records.values() if record.state is State.DEAD])
        ledger = self.broker.queue.counts()
        assert ledger.pop("accepted") == len(states) == sum(ledger.values())
        assert ledger == {state.value: states.count(state) for state in State if state is not State.NEW}

    def _look_closer(self, dead: list[str]) -> None:
        gauges = self.dispatcher.gauges()
        assert gauges["busy"] == len(self.leases)
        assert gauges["retries"] == self.retries_total
        assert gauges["phase"] == ("draining" if self.draining else "serving")
        assert gauges["held"] == len(self.held) <= self.capacity
        assert gauges["held_bytes"] == sum(len(record.wire) for record in self.held)
        for task_id in IDS:
            record = self.records.get(task_id)
            status = self.dispatcher.status(task_id)
            if record is None or record.state not in HELD:
                assert status == (record and Status(record.state, None, None))
            else:
                assert status is not None
                assert (status.state, status.attempts) == (record.state, record.runs)
        letters, total = self.dispatcher.letters(50, 0)
        assert sorted(letter.id for letter in letters) == sorted(dead)
        assert total == len(dead)

    @invariant()
    def it_is_drained_when_nothing_is_left(self) -> None:
        """A drain is over when everything has ended and is settled, and not before."""
        if self.closed:
            return
        if self.held or not self.draining:
            assert not self.dispatcher.drained
        else:
            self.turn(0.0)
            assert self.dispatcher.drained
