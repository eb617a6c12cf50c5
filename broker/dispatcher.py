"""Between the broker's loop and its workers: ready tasks go one way, ends of attempts come back the other.

One thread, the *owner* (the broker's loop), calls the queue and keeps the books; workers run tasks. They share three
things, and no lock:

- the line of ready tasks (`broker.handoff`). To get an id out of it is to take the task: one atomic step.
- the ends of attempts, in a deque. Workers append, the owner settles them: before it says no to a task for want of
  room, before it tells any figures, and at every turn of its loop.
- the bell, a pipe in the owner's poller. A worker rings it when the owner should not wait for its next request: a task
  failed and may be due again soon, or the broker drains and waits for the last task.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final

from broker.bell import Bell
from broker.clock import Clock
from broker.dead_letters import DeadLetter, DeadLetters
from broker.handed_back import HandedBack
from broker.pressure import NOTHING_KEPT
from broker.protocol import TaskMessage, arguments_of, decode_task
from broker.queue import MemoryQueue, Offer
from broker.records import Lease, Returned, Status
from broker.retries import RunAgain, decide
from broker.states import State
from worker_host.contract import Failure, FailureKind
from worker_host.tasks import TaskFunction

_log = logging.getLogger("turnstile.broker")


#: While tasks are held, the books are brought up to date this often, if nothing else asks for it.
_HOUSEKEEPING_S: Final = 1.0


class _End(Enum):
    """Ends of an attempt that are no failure."""

    SUCCEEDED = "succeeded"
    EXPIRED = "expired"
    GIVEN_BACK = "given back"  #: it did not begin


class TornQueueError(BaseException):
    """The queue failed in the middle of a change, so its books may be wrong.

    No `Exception`: whatever answers for a failed request must not answer for this. The broker stops.
    """


@contextlib.contextmanager
def _whole_or_torn() -> Iterator[None]:
    """For changes that are rare: what is done for every task has its own `try`, which costs nothing."""
    try:
        yield
    except Exception as error:
        raise TornQueueError from error


# To read a member of an enum takes as long as a queue operation; these are read for every task.
_SUCCEEDED, _EXPIRED, _GIVEN_BACK, _FULL = _End.SUCCEEDED, _End.EXPIRED, _End.GIVEN_BACK, Offer.FULL


class Dispatcher:
    """Hands tasks to workers and settles what they report. It is the workers' `Source`."""

    def __init__(
        self,
        queue: MemoryQueue,
        dead_letters: DeadLetters,
        functions: Mapping[str, TaskFunction],
        clock: Clock,
        bell: Bell,
        *,
        poison_after: int = 3,
        inform: Callable[..., None] = _log.info,
    ) -> None:
        """`poison_after`: a task that was running when so many child hosts died becomes a dead letter.

        `inform`: writes a line of the log, of a template and its values, or drops it, at next to no cost.
        """
        self._queue = queue
        self._dead_letters = dead_letters
        self._functions = functions
        self._clock = clock
        self._bell = bell
        self._isolated = frozenset(name for name, function in functions.items() if function.isolate)
        self._poison_after = poison_after
        self._inform = inform
        self._retries_total = 0
        self._displaced_total = 0
        self._drain_deadline: float | None = None
        # Shared with the workers: see above. A lease goes into `_ends` before it leaves `_out`, so that a task is never
        # in neither of them.
        self._ends: deque[tuple[Lease, Failure | _End]] = deque()
        self._out: set[Lease] = set()  # leases on the tasks that are being run
        self._closed = False

    # --- on the workers' threads -------------------------------------------------------------------------------------

    def take(self, *, isolated: bool = False) -> Lease | None:
        """Wait for a task that is to run in a child host, or one that is not; None once the dispatcher is closed."""
        queue = self._queue
        while (lease := queue.take(wait=True, isolated=isolated)) is not None:
            self._out.add(lease)
            if self._closed:
                return None
            if not queue.has_expired(lease):
                return lease
            self._end(lease, _EXPIRED)
        return None

    def ack(self, lease: Lease) -> None:
        """The attempt succeeded."""
        self._end(lease, _SUCCEEDED)

    def fail(self, lease: Lease, failure: Failure) -> None:
        """The attempt failed: the task will go back into the queue, or become a dead letter."""
        self._end(lease, failure)

    def give_back(self, lease: Lease) -> None:
        """The attempt did not begin: the task is ready again."""
        self._end(lease, _GIVEN_BACK)

    def _end(self, lease: Lease, end: Failure | _End) -> None:
        self._ends.append((lease, end))
        self._out.discard(lease)
        if (end is not _SUCCEEDED or self._drain_deadline is not None) and not self._closed:
            self._bell.ring()

    # --- on the owner's thread ---------------------------------------------------------------------------------------

    def offer(self, task: TaskMessage, wire: bytes, kept: tuple[int, int] = NOTHING_KEPT) -> Offer:
        """Offer one task to the queue, which must leave free what is `kept`.

        `turn` must follow, once the reply is sent: it should not wait for a wake-up.
        """
        queue, isolated = self._queue, task.name in self._isolated
        try:
            offer = queue.offer(task.id, wire, task.delay_s, task.expires_s, isolated=isolated, kept=kept)
            if offer is _FULL and self._ends:
                self.settle()  # room may have appeared since the last look; a task must not be turned away from it
                offer = queue.offer(task.id, wire, task.delay_s, task.expires_s, isolated=isolated, kept=kept)
        except Exception as error:
            raise TornQueueError from error
        return offer

    def is_spent(self, task: Returned) -> bool:
        """Whether the task, of a name that is known, has no attempt left.

        Its last one ended with its broker; or its function declares fewer retries than it did when the task failed.
        """
        return task.attempts_ended > self._retries_of(decode_task(task.wire))

    def restore(self, task: Returned) -> Offer:
        """Take in a task, of a name that is known, that another broker returned. `turn` must follow.

        One that is spent becomes a dead letter. It is taken through its line, so those must be restored first.
        """
        isolated = arguments_of(task.wire)[0] in self._isolated
        if not self.is_spent(task):
            return self._queue.restore(task, isolated=isolated)
        offer = self._queue.restore(replace(task, attempts=task.attempts - 1, due_in_s=None), isolated=isolated)
        if offer is Offer.ACCEPTED:
            self._queue.publish()
            lease = self._queue.take(wait=False, isolated=isolated)
            assert lease is not None and lease.id == task.id  # noqa: S101, PT018 - to bury another would lose it
            self._settle_failure(lease, Failure(error="no attempt is left to the broker that loaded it", trace=""))
        return offer

    def turn(self) -> None:
        """Settle what has ended, make ready what is due, and show the workers what is new."""
        self.settle()
        self._queue.promote()
        self._queue.publish()

    def settle(self) -> None:
        """Write the ends of attempts that have come in into the books. `TornQueueError` if that fails, also where it is
        done for the sake of a request: an end that is out of its deque and not in the books is nowhere.
        """
        ends, queue = self._ends, self._queue
        try:
            for _ in range(len(ends)):  # those that are there now: workers may append as fast as this takes
                lease, end = ends.popleft()
                if end is _SUCCEEDED:
                    queue.ack(lease)
                elif isinstance(end, Failure):
                    self._settle_failure(lease, end)
                elif end is _EXPIRED:
                    queue.expire(lease)
                else:
                    queue.give_back(lease)
        except Exception as error:
            raise TornQueueError from error

    def _settle_failure(self, lease: Lease, failure: Failure) -> None:
        task = decode_task(lease.wire)
        function, retries = self._functions[task.name], self._retries_of(task)
        crashes = self._queue.note_crash(lease.id) if failure.kind is FailureKind.CRASHED else 0
        is_poison = crashes >= self._poison_after
        spread = random.random()  # noqa: S311 - not to hide anything
        verdict = decide(lease.attempt, retries, function.backoff, failure, spread, is_poison=is_poison)
        if isinstance(verdict, RunAgain):
            self._retries_total += verdict.spent
            self._displaced_total += not verdict.spent
            self._queue.retry(lease, verdict.delay_s, spent=verdict.spent)
            if verdict.spent:
                self._inform(
                    "attempt failed id=%s name=%s attempt=%d again_in_s=%.3f error=%s",
                    task.id, task.name, lease.attempt, verdict.delay_s, failure.error,
                )  # fmt: skip
            return
        died_at = self._clock.time()
        accepted_at = died_at - self._queue.age_s(lease.id)
        self._queue.bury(lease)
        letter = DeadLetter(
            id=task.id,
            name=task.name,
            wire=lease.wire,
            reason=verdict.reason,
            error=f"{failure.error}; child hosts that died while it ran: {crashes}" if is_poison else failure.error,
            trace=failure.trace,
            attempts=lease.attempt,
            accepted_at=accepted_at,
            died_at=died_at,
        )
        self._dead_letters.add(letter)
        _log.warning(
            "dead letter id=%s name=%s attempts=%d reason=%s error=%s",
            letter.id, letter.name, letter.attempts, letter.reason.value, letter.error,
        )  # fmt: skip

    def _retries_of(self, task: TaskMessage) -> int:
        return self._functions[task.name].retries if task.retries is None else task.retries

    @property
    def next_turn_s(self) -> float | None:
        """Seconds after which `turn` has something to do, if nobody rings before; None: nothing."""
        if self._queue.next_due is not None:
            return min(_HOUSEKEEPING_S, max(0.0, self._queue.next_due - self._clock.monotonic()))
        return _HOUSEKEEPING_S if self._queue.held else None

    def status(self, task_id: str) -> Status | None:
        """What is known of a task; None if it was never accepted, or is forgotten."""
        self.settle()
        return self.status_in_books(task_id)

    def status_in_books(self, task_id: str) -> Status | None:
        """The same as of the last settlement: a task whose end was not settled yet is running."""
        return self._queue.status(task_id, self._running())

    def _running(self) -> list[str]:
        out = [lease.id for lease in list(self._out)]  # first: what leaves it meanwhile is among the ends by then
        return [*out, *(lease.id for lease, _ in list(self._ends))]

    def letters(self, limit: int, offset: int) -> tuple[list[DeadLetter], int]:
        """A page of the dead letters, newest first, and how many there are."""
        self.settle()
        return self._dead_letters.newest(limit, offset), len(self._dead_letters)

    # --- what the operator asks for ----------------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether no attempt begins, because the operator said so."""
        return self._queue.is_paused

    def letter(self, task_id: str) -> DeadLetter | None:
        """The dead letter of this task; None if none is kept."""
        self.settle()
        return self._dead_letters.get(task_id)

    def requeue(self, task_id: str) -> Offer | None:
        """Accept a dead task once more, and drop its letter; None if none is kept. `turn` must follow."""
        letter = self.letter(task_id)
        if letter is None:
            return None
        with _whole_or_torn():
            offer = self._queue.requeue(task_id, letter.wire, isolated=letter.name in self._isolated)
        if offer is Offer.ACCEPTED:
            self._dead_letters.remove(task_id)
        return offer

    def discard(self, task_id: str) -> bool:
        """Drop the letter of a dead task; whether there was one. The task stays dead."""
        self.settle()
        return self._dead_letters.remove(task_id)

    def cancel(self, ids: Sequence[str]) -> dict[str, State | None]:
        """Take back those of the tasks that no worker has begun; where each is now, None if that is not known."""
        self.settle()
        with _whole_or_torn():
            self._queue.cancel(ids)
        statuses = {task_id: self.status_in_books(task_id) for task_id in ids}
        states = {task_id: None if status is None else status.state for task_id, status in statuses.items()}
        # What was in no line has been taken, in this very moment: its worker has not said so yet.
        return {task_id: State.RUNNING if state is State.READY else state for task_id, state in states.items()}

    def pause(self) -> None:
        """Let no worker take a task until `resume`. A drain does not wait for what that leaves."""
        with _whole_or_torn():
            self._queue.pause()

    def resume(self) -> None:
        """Go on."""
        with _whole_or_torn():
            self._queue.resume()

    # --- figures, and the end ----------------------------------------------------------------------------------------

    def gauges(self) -> dict[str, object]:
        """The ledger and the gauges, all of one instant."""
        self.settle()
        queue = self._queue
        counts = queue.counts()
        return {
            "phase": self.phase,
            "paused": queue.is_paused,
            "ledger": counts,
            "retries": self._retries_total,
            "displaced": self._displaced_total,
            "requeued": queue.ledger.requeued,
            "capacity": queue.capacity,
            "held": queue.held,
            "capacity_bytes": queue.capacity_bytes,
            "held_bytes": queue.held_bytes,
            "busy": counts[State.RUNNING.value],  # not `_out`: workers take and end tasks while this is put together
            "oldest_s": queue.oldest_s(),
            "dead_letters": len(self._dead_letters),
            "remembered": queue.remembered,
        }

    @property
    def phase(self) -> str:
        """`serving` or `draining`."""
        return "serving" if self._drain_deadline is None else "draining"

    @property
    def room(self) -> tuple[int, int]:
        """(tasks that have ended so far, tasks that are held): what the rate of room is measured by."""
        return self._queue.ledger.ended, self._queue.held

    @property
    def drains_for_s(self) -> float:
        """Seconds until the drain deadline; 0 if it has passed, or no drain was begun."""
        return max(0.0, self._drain_deadline - self._clock.monotonic()) if self._drain_deadline is not None else 0.0

    def drain(self, deadline: float) -> None:
        """Accept nothing from now on, and be `drained` when nothing is left that could run by `deadline`.

        Tasks that are delayed past the deadline are not waited for.
        """
        self._queue.draining = True
        self._drain_deadline = deadline  # workers ring for every end from here on; one that did not see it yet
        self._bell.ring()  # has appended its end before, so this ring, and the `turn` that follows it, is for that

    @property
    def drained(self) -> bool:
        """Whether a drain was begun, and nothing is left to wait for."""
        return self._drain_deadline is not None and not self._queue.is_unfinished(self._drain_deadline)

    def disown(self) -> None:
        """In a process that a task forked: its one thread, if it comes back here, finds no task, and ends."""
        self._closed = True
        self._queue.disown()

    def close(self) -> HandedBack:
        """Hand out no lease any more, and give back all that is held. Does not wait for running tasks.

        A task that is running is given back too, and what its attempt reports later is not heard.
        """
        self.settle()
        self._closed = True  # first: a worker that is not among the running by now sees it, and runs nothing
        return self._queue.close(self._running())
