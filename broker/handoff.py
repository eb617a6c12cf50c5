"""From one thread to many, waking few: the line of ready tasks that the broker's loop fills and the workers empty.

To wake a thread costs more than all else that is done for a small task. So of the workers that wait, one at most is
being woken at any moment: it carries *the baton*. It takes its task, hands the baton on if there is more to do, and
only then runs the task. Workers that are awake find their next task by themselves.

There is no lock around this. Threads that share one are often suspended while they hold it (the interpreter switches
threads anywhere), and then all others queue up behind it: measured, that cost four fifths of the throughput. Instead
each step is one operation of a deque or a list, which the interpreter makes atomic, and the order of the steps does the
rest:

1. The owner puts ids into the line, *then* looks whether the baton is out, and if not, pops a waiting worker and wakes
   it.
2. A worker that finds the line empty enters itself as waiting, *then* looks at the line once more before it sleeps.
   So whichever of the two comes first, one of them sees the other: no task waits beside a worker that sleeps.
3. A woken worker lays the baton down, *then* takes. If the owner saw the baton out, its ids were in the line before
   that, so the worker sees them, and wakes the next if it leaves any. Two may see the baton down at once and wake two
   workers: one of them finds nothing, and waits again. That costs a wake-up, and loses none.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable


class Handoff:
    """A first-in, first-out line of ids. One thread puts, any number takes."""

    def __init__(self) -> None:
        self._line: deque[str] = deque()
        # A locked lock for each worker that waits; its release wakes that worker. The last to come is the first to be
        # woken: its stack and its core are warm.
        self._waiting: list[threading.Lock] = []
        self._baton_out = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._line)

    def put(self, ids: Iterable[str]) -> None:
        """Add ids to the line, and wake one worker if none is being woken. The owner alone calls this."""
        self._line.extend(ids)
        if not self._baton_out:
            self._wake_one()

    def take(self) -> str | None:
        """The id that has been in the line longest; waits for one. None once the line is closed."""
        line, woken = self._line, False
        while not self._closed:
            try:
                taken = line.popleft()
            except IndexError:
                woken = self._wait()
                if woken:
                    self._baton_out = False
            else:
                if woken and line:
                    self._wake_one()
                return taken
        return None

    def try_take(self) -> str | None:
        """The id that has been in the line longest; None if it is empty. Does not wait; works on a closed line too."""
        try:
            return self._line.popleft()
        except IndexError:
            return None

    def recall(self) -> list[str]:
        """Take all that nobody has taken, in order. The owner alone calls this."""
        left = []
        while (taken := self.try_take()) is not None:
            left.append(taken)
        return left

    def close(self) -> list[str]:
        """Let nobody wait any more; what was in the line. Who takes at this very moment may still get an id of it."""
        self._closed = True
        left = self.recall()
        while self._wake_one():
            pass
        return left

    def _wait(self) -> bool:
        """Sleep until woken, with the baton; False, at once, if there is no reason to sleep any more."""
        me = threading.Lock()
        me.acquire()
        self._waiting.append(me)
        if self._line or self._closed:
            try:
                self._waiting.remove(me)
            except ValueError:
                pass  # somebody has popped this worker, and is about to wake it
            else:
                return False
        me.acquire()
        return True

    def _wake_one(self) -> bool:
        try:
            worker = self._waiting.pop()
        except IndexError:
            return False
        self._baton_out = True
        worker.release()
        return True
