"""A host whose workers live in child processes: what takes such a process down costs attempts, never the broker.

The broker keeps what it accepted: a child holds a lease on what it runs, and nothing more. For every worker in a child
there is a thread here, which takes leases, lends each to its worker, and waits for the end of the attempt; a keeper for
each child waits for the child's end, and starts the next one.

    a child dies            each attempt that had begun in it has failed, `crashed`: nobody can tell which was to blame
    an attempt is too late  its child is killed; that attempt has failed, `timed_out`; those beside it are `displaced`:
                            they did nothing, so they are made again, and it does not count
    a lent attempt had not  its lease is given back: the task is ready, as if nobody had taken it
    begun when its child died
    a child is not ready    nothing is taken for it
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from worker_host.child_process import NOT_BEGUN, ChildProcess
from worker_host.contract import Source, StuckTask, Trouble

_log = logging.getLogger("turnstile.worker_host")

_FIRST_PAUSE_S: Final = 0.1  # before a child that could not start is started again; doubled each time
_LONGEST_PAUSE_S: Final = 5.0
_START_S: Final = 60.0  # a child that takes longer than this to import its task modules may never come to an end of it
_LATELY_S: Final = 60.0  # a child that died this long ago is still a reason for a health that is not `ok`


class _Place:
    """One child after the other."""

    def __init__(self, number: int) -> None:
        self.number = number
        # Guards what follows; those who lend wait on it for a child, its keeper notifies them.
        self.changed = threading.Condition()
        self.child: ChildProcess | None = None
        self.since = 0.0  # when that child was put here, on the monotonic clock
        self.is_closed = False

    def living(self, after: ChildProcess | None = None) -> ChildProcess | None:
        """The child; waits for one, another one than `after`. None once the host ends."""
        with self.changed:
            while (self.child is None or self.child is after) and not self.is_closed:
                self.changed.wait()
            return None if self.is_closed else self.child

    def ready(self) -> ChildProcess | None:
        """The child, once it has its task functions; None once the host ends."""
        child = None
        while (child := self.living(after=child)) is not None and not child.becomes_ready():
            pass
        return child

    def trouble(self, could_not_start: str | None) -> str | None:
        """Why nothing can run here, if so. `could_not_start`: why the last child could not, that is not here now."""
        with self.changed:
            if self.child is not None and self.child.is_ready:
                return None
            if self.child is not None and time.monotonic() - self.since >= _START_S:
                return f"not ready after {_START_S:g} s: its task modules are still being imported"
            return could_not_start

    def put(self, child: ChildProcess | None) -> bool:
        """Note the child that is here now; False once the host ends."""
        with self.changed:
            self.child, self.since = child, time.monotonic()
            self.changed.notify_all()
            return not self.is_closed

    def close(self) -> ChildProcess | None:
        """Let nobody wait any more; the child that is here."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()
            return self.child


class ChildHost:
    """`children` processes of `threads` workers each. `on_death`: as `ThreadHost`."""

    def __init__(
        self,
        source: Source[Any],
        command: Sequence[str],
        folder: str,
        children: int,
        threads: int,
        on_death: Callable[[BaseException], None],
    ) -> None:
        """`command` starts a child, in `folder`, wherever a task of the broker's has gone meanwhile; the numbers of the
        file descriptors that it inherits are appended.
        """
        self._source = source
        self._command = command
        self._folder = folder
        self._workers_each = threads
        self._on_death = on_death
        self._places = [_Place(number) for number in range(1, children + 1)]
        self._keepers = [
            threading.Thread(target=self._keep, args=(place,), name=f"child-{place.number}", daemon=True)
            for place in self._places
        ]
        self._lenders = [
            threading.Thread(
                target=self._lend, args=(place, worker), name=f"child-{place.number}-{worker + 1}", daemon=True
            )
            for place in self._places
            for worker in range(threads)
        ]
        self._ending = threading.Event()
        self._running: set[int] = set()  # lenders whose attempt is out
        self._guard = threading.Lock()  # of the two below
        # On the monotonic clock, lately; a number of them that worries anybody is enough.
        self._died_at: deque[float] = deque(maxlen=1_000)
        self._could_not_start: dict[int, str] = {}  # by place: why not, the last time; also if the next one could

    def start(self) -> None:
        """Start everything; the children are ready later, and attempts wait for them."""
        for thread in [*self._keepers, *self._lenders]:
            thread.start()

    def end(self, patience_s: float) -> int:
        """End the children, those that run a task too: it was returned. How many tasks were running."""
        self._ending.set()
        busy = len(self._running)
        children = [child for place in self._places if (child := place.close()) is not None]
        for child in children:
            child.end()
        deadline = time.monotonic() + patience_s
        for keeper in self._keepers:
            keeper.join(max(0.0, deadline - time.monotonic()))
        for child in children:
            child.kill()
        for thread in [*self._keepers, *self._lenders]:
            thread.join(max(0.0, deadline - time.monotonic()))
        return busy

    def watch(self) -> float | None:
        """Nothing to do: whoever lends an attempt waits no longer than its time limit."""
        return None

    def stuck(self) -> list[StuckTask]:
        """None: what is too late was ended."""
        return []

    def troubles(self) -> list[Trouble]:
        """Children that cannot start, or died lately. One that was ended for a time limit did not die."""
        with self._guard:
            since = time.monotonic() - _LATELY_S
            died, reasons = sum(at >= since for at in self._died_at), dict(self._could_not_start)
        cannot = [why for place in self._places if (why := place.trouble(reasons.get(place.number))) is not None]
        found = []
        if cannot:
            found.append(Trouble("child_hosts_down", f"child hosts that cannot start: {len(cannot)}; {cannot[0]}"))
        if died:
            found.append(Trouble("child_hosts_died", f"child hosts that died in the last {_LATELY_S:.0f} s: {died}"))
        return found

    def _keep(self, place: _Place) -> None:
        """Have a living child in this place, until the end."""
        try:
            pause_s = _FIRST_PAUSE_S
            while not self._ending.is_set():
                reason = self._one_child(place)
                if reason is None:
                    pause_s = _FIRST_PAUSE_S
                    continue
                with self._guard:
                    self._could_not_start[place.number] = reason
                _log.error("child host %d cannot start: %s; trying again in %g s", place.number, reason, pause_s)
                self._ending.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except BaseException as error:  # noqa: BLE001 - as in `ThreadHost`: the owner must hear of it
            self._on_death(error)

    def _one_child(self, place: _Place) -> str | None:
        """Start a child and wait for its end; None, or why it could not start."""
        try:
            child = ChildProcess(self._command, self._workers_each, self._folder)
        except OSError as error:
            return str(error)
        if not place.put(child):
            child.kill()
        how = child.wait()
        place.put(None)
        if self._ending.is_set():
            return None
        if not child.is_ready:
            return how
        with self._guard:
            self._could_not_start.pop(place.number, None)
            if child.late is None:
                self._died_at.append(time.monotonic())
        if child.late is None:
            _log.error("child host %d %s; another one takes its place", place.number, how)
        else:  # as it should be: no trouble
            lease, limit = child.late
            _log.warning(
                "child host %d was ended: task id=%s name=%s reached its time limit of %s; another one takes its place",
                place.number, lease.id, lease.open()[0], limit,
            )  # fmt: skip
        return None

    def _lend(self, place: _Place, worker: int) -> None:
        try:
            # A child first: while there is none, others should have the tasks; and what is taken is as good as begun.
            while (child := place.ready()) is not None and (lease := self._source.take(isolated=True)) is not None:
                self._running.add(id(lease))
                ended = child.lend(worker, lease)
                self._running.discard(id(lease))
                if ended is NOT_BEGUN:
                    self._source.give_back(lease)
                elif ended is None:
                    self._source.ack(lease)
                else:
                    self._source.fail(lease, ended)
        except BaseException as error:  # noqa: BLE001 - as in `ThreadHost`: the owner must hear of it
            self._on_death(error)
