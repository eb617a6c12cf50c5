"""The composition root, and the loop: builds the parts of a broker, runs them, and stops them in order.

The broker is one loop on the main thread, which owns the socket, the queue and the books, and worker threads that run
tasks. Whatever the loop must react to wakes its one poll: a request, or the bell, which workers and signals ring.

    serving ──signal──▶ draining ──nothing is left──────▶ stopped: finished
                           ├──the deadline passes, or
                           │  all that is left is due
                           │  after it─────────────────▶ stopped: deadline
                           └──a second signal───────────▶ stopped: hastened
    serving, draining ──a worker dies───────────────────▶ stopped: failed
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Final

from broker.admission import Admission
from broker.answers import Answers
from broker.bell import Bell
from broker.dead_letters import DeadLetters
from broker.descriptors import Descriptors
from broker.dispatcher import Dispatcher
from broker.door import Door
from broker.endpoint import InUseError, PathLock, check_path, ipc_path
from broker.handed_back import HandedBack
from broker.keys import KeyFolder
from broker.log import ALWAYS, LineLog
from broker.pressure import Pressure
from broker.protocol import arguments_of
from broker.queue import MemoryQueue, Offer
from broker.settings import Settings
from broker.spill import SpillError, load, retire, save
from broker.stop_signals import STOP_SIGNALS
from worker_host.child_host import ChildHost
from worker_host.contract import Host, Trouble
from worker_host.tasks import TaskFunction
from worker_host.threads import ThreadHost

_log = logging.getLogger("turnstile.broker")

#: Seconds that idle workers get to end. Those that run a task are not waited for: their task was returned already.
_WORKERS_END_S: Final = 0.2
#: Returned tasks that get a line each in the log. Of further ones the ids alone are named, some to a line: a hundred
#: thousand lines would take longer than a second signal allows.
_LINES_OF_RETURNED: Final = 1_000
_IDS_IN_A_LINE: Final = 50  # of 64 characters: they fit a line of the log


class Outcome(StrEnum):
    """How a broker ended."""

    FINISHED = "finished"  #: everything that was accepted came to its end
    DEADLINE = "deadline"  #: not everything could be finished by the drain deadline; what was left is returned
    HASTENED = "hastened"  #: a second signal cut the drain short; what was left is returned
    FAILED = "failed"  #: a part of the broker died; what was left is returned


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a broker's life."""

    outcome: Outcome
    ledger: dict[str, int]
    returned: HandedBack  #: accepted, not finished; in order of acceptance
    saved: int  #: so many of them are in the spill file
    busy_workers: int  #: workers that were still running a task function, whose task was returned

    def as_line(self) -> str:
        """The report line."""
        counts = " ".join(f"{name}={count}" for name, count in self.ledger.items())
        rest = f"saved={self.saved} busy_workers={self.busy_workers}"
        return f"turnstile stopped outcome={self.outcome.value} {counts} {rest}"


class Supervisor:
    """One broker. `start`, then `run` until its end; each once."""

    def __init__(
        self,
        settings: Settings,
        functions: Mapping[str, TaskFunction],
        log: LineLog,
        spill: Path | None = None,
        child_command: Sequence[str] = (),
        folder: str = ".",
        *,
        bell: Bell,
        standing: Sequence[Trouble] = (),
    ) -> None:
        """Build, bind, and load what the last broker left in `spill`; returned tasks are saved there at the end.

        `child_command` starts a child host, in `folder`. The first stop signal that arrives at `bell` asks for a
        drain, the second cuts it short. `standing`: reasons for a health that is not ok, from here to the end. Raises
        `SpillError`, or what binding raises; nothing runs, and nothing is changed, in that case.
        """
        clock = time
        if settings.isolate:
            functions = {name: replace(function, isolate=True) for name, function in functions.items()}
        self._settings = settings
        self._log = log
        self._spill = spill
        self._bell = bell
        self._queue = MemoryQueue(
            settings.capacity,
            settings.capacity_bytes,
            settings.remember_ids,
            clock.monotonic,
            remember_s=settings.remember_s,
        )
        dead_letters = DeadLetters(settings.dead_letters, settings.dead_letters_bytes)
        self._dispatcher = Dispatcher(
            self._queue,
            dead_letters,
            functions,
            clock,
            self._bell,
            poison_after=settings.poison_after,
            inform=log.inform,
        )
        self._descriptors = Descriptors()
        self._hosts: list[Host] = []
        self._workers = 0
        if any(function.isolate for function in functions.values()):
            self._add_child_host(settings, child_command, folder)
        if not all(function.isolate for function in functions.values()):
            self._add_thread_host(settings, functions)
        self._standing = list(standing)
        self._answers = Answers(
            self._dispatcher,
            Admission(
                self._dispatcher,
                functions,
                Pressure(settings.capacity, settings.capacity_bytes),
                clock,
                settings.capacity_bytes,
            ),
            clock,
            message_bytes=settings.message_bytes,
            workers=self._workers,
            log_dropped=lambda: log.dropped,
            hosts=self._hosts,
            troubles=lambda: [*self._standing, *self._descriptors.troubles(), *self._door.troubles()],
        )
        # What the loop looks after: each tells when to look again.
        self._watches: list[Callable[[], float | None]] = [host.watch for host in self._hosts]
        self._watches.append(self._descriptors.watch)
        self._death: BaseException | None = None
        self._signals: list[str] = []
        self._locks: list[PathLock] = []
        self._doors: list[Door] = []
        try:
            keys = KeyFolder(Path(settings.keys)) if settings.keys else None
            self._door = self._open(settings.endpoint, self._answers.answer, keys)
            self._restore(functions)
        except BaseException:
            self.abandon()
            raise

    @property
    def endpoint(self) -> str:
        """Where it listens, as bound."""
        return self._door.endpoint

    @property
    def workers(self) -> int:
        """Tasks that can run at the same time, in all hosts."""
        return self._workers

    def open_operators_door(self, path: Path) -> None:
        """Answer the operator too, at `path`, in a folder that nobody else can enter. Before `start`.

        Raises what binding raises; then it answers producers alone.
        """
        self._door.answer_beside(self._open(f"ipc://{path}", self._answers.answer_operator))

    def note(self, trouble: Trouble) -> None:
        """A reason for a health that is not ok, from here to the end. Before `start`."""
        self._standing.append(trouble)

    def abandon(self) -> None:
        """Do not start after all: let go of what was bound. What was loaded is still in its file."""
        self._close_doors()
        self._unlock()

    def start(self) -> None:
        """Start the workers; requests are answered from `run` on."""
        for host in self._hosts:
            host.start()

    def run(self) -> Report:
        """Serve until the end; then stop everything in order: admission, workers, door. The report of it.

        What is left is safe before anything is waited for. The door is the last: whoever binds there next finds it.
        """
        try:
            outcome = self._serve()
        # Whatever it is, a broker that no longer answers must not look alive: it stops, and says why.
        except BaseException:  # noqa: BLE001
            _log.critical("the broker failed, so it stops", exc_info=True, extra=ALWAYS)
            outcome = Outcome.FAILED
        returned = self._dispatcher.close()
        saved = self._save(returned, failed=outcome is Outcome.FAILED)
        self._name(returned)
        busy = sum(host.end(_WORKERS_END_S) for host in self._hosts)
        self._close_doors()
        self._unlock()
        if returned and outcome is Outcome.FINISHED:
            outcome = Outcome.DEADLINE  # what is left is due after the deadline, so there was nothing to wait for
        elif not returned and outcome in {Outcome.DEADLINE, Outcome.HASTENED}:
            outcome = Outcome.FINISHED  # the last task ended between the decision to stop and the end
        return Report(outcome, self._queue.counts(), returned, saved, busy)

    def _restore(self, functions: Mapping[str, TaskFunction]) -> None:
        """Take in what the last broker returned: all of it, or none."""
        if self._spill is None:
            return
        try:
            self._locks.append(PathLock(self._spill))
        except InUseError:
            raise
        except OSError as error:
            raise SpillError(f"spill file {self._spill} cannot be locked: {error.strerror}") from None
        tasks = load(self._spill, time.time())
        for task in tasks:
            name, args, kwargs = arguments_of(task.wire)
            misfit = functions[name].signature.misfit(args, kwargs) if name in functions else "no task has this name"
            if misfit:
                raise SpillError(
                    f"spill file {self._spill} holds task {task.id} for '{name}', and {misfit}: "
                    "start with the task modules that it was made with, or move it away"
                )
        for task in sorted(tasks, key=self._dispatcher.is_spent, reverse=True):
            if self._dispatcher.restore(task) is not Offer.ACCEPTED:
                raise SpillError(
                    f"spill file {self._spill} holds {len(tasks)} tasks, more than fit: "
                    "start with a larger --capacity or --capacity-bytes, or move it away"
                )
        if tasks:
            _log.info("loaded %d returned tasks from %s", len(tasks), self._spill)

    def _save(self, returned: HandedBack, *, failed: bool) -> int:
        """Save what was not finished; how many tasks that is."""
        if self._spill is None or not returned:
            return 0
        try:
            save(self._spill, returned, time.time(), cut_off_counts=failed)
        except (OSError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no memory"
            self._log.say("returned tasks could not be saved in %s: %s", self._spill, reason)
            return 0
        self._log.say("saved %d returned tasks in %s", len(returned), self._spill)
        return len(returned)

    def _name(self, returned: HandedBack) -> None:
        """Name every returned task in the log."""
        for task in islice(returned, _LINES_OF_RETURNED):
            name, state = arguments_of(task.wire)[0], task.was.value
            self._log.say("returned id=%s name=%s attempts=%d was=%s", task.id, name, task.attempts, state)
        others = islice(returned.ids(), _LINES_OF_RETURNED, None)
        while ids := ",".join(islice(others, _IDS_IN_A_LINE)):
            self._log.say("returned ids=%s", ids)

    def disown(self) -> None:
        """In a process that a task forked: be no second broker, and keep no successor from the endpoint."""
        self._dispatcher.disown()
        self._unlock()
        for door in self._doors:
            door.disown()

    def _add_thread_host(self, settings: Settings, functions: Mapping[str, TaskFunction]) -> None:
        spares = settings.spare_workers
        host = ThreadHost(self._dispatcher, functions, settings.workers, self._worker_died, spares=spares)
        self._hosts.append(host)
        self._workers += settings.workers

    def _add_child_host(self, settings: Settings, command: Sequence[str], folder: str) -> None:
        children, each = settings.child_hosts or os.cpu_count() or 1, settings.child_workers
        self._hosts.append(ChildHost(self._dispatcher, command, folder, children, each, self._worker_died))
        self._workers += children * each

    def _open(
        self, endpoint: str, answer: Callable[[Sequence[bytes], int], bytes], keys: KeyFolder | None = None
    ) -> Door:
        path = ipc_path(endpoint)
        if path is not None:
            self._locks.append(PathLock(path))
            check_path(path)
        bell, message_bytes = self._bell.descriptor, self._settings.message_bytes
        door = Door(endpoint, answer, self._queue.publish, bell, message_bytes=message_bytes, keys=keys)
        self._doors.append(door)
        return door

    def _close_doors(self) -> None:
        for door in self._doors:
            door.close()

    def _unlock(self) -> None:
        for lock in self._locks:
            lock.close()

    def _serve(self) -> Outcome:
        door, dispatcher, bell = self._door, self._dispatcher, self._bell
        deadline: float | None = None
        # From the next line on tasks that were loaded may run. Until here the file was theirs: whatever kept the broker
        # from coming this far, the next one finds them.
        if self._spill is not None:
            retire(self._spill)
        dispatcher.turn()
        while True:
            left_s = None if deadline is None else deadline - time.monotonic()
            if door.serve(_earliest(left_s, dispatcher.next_turn_s, *[watch() for watch in self._watches])):
                # Others arrive too, if a task module handles them; those are not for us.
                self._signals += [signal.Signals(number).name for number in bell.listen() if number in STOP_SIGNALS]
            dispatcher.turn()
            if self._death is not None:
                _log.critical("a worker died, so the broker stops", exc_info=self._death, extra=ALWAYS)
                return Outcome.FAILED
            if self._signals and deadline is None:
                deadline = time.monotonic() + self._settings.drain_s
                _log.info("draining for up to %g s: %s", self._settings.drain_s, self._signals[0])
                dispatcher.drain(deadline)
            if dispatcher.drained:
                return Outcome.FINISHED
            if len(self._signals) > 1:
                return Outcome.HASTENED
            if deadline is not None and time.monotonic() >= deadline:
                return Outcome.DEADLINE

    def _worker_died(self, error: BaseException) -> None:
        self._death = error
        self._bell.ring()


def _earliest(*all_s: float | None) -> float | None:
    given = [seconds for seconds in all_s if seconds is not None]
    return max(0.0, min(given)) if given else None
