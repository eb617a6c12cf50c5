"""The lines of one producer. Each call has one to itself while it lasts, so threads never wait for each other.

There is no lock: what the threads share is a list, of which they push and pop, each an atomic step.
"""

from __future__ import annotations

import os
import threading
from typing import Final

import zmq

from producer.channel import open_context
from producer.endpoint import Endpoint
from producer.errors import LocalFault, ProducerClosed
from producer.line import Line

_CLOSING_S: Final = 1.0  # closing takes milliseconds, unless it waits for itself
_CLOSED: Final = "this producer is closed"
_KEPT: Final = 16  # idle lines; when more threads call at once, more are made, and closed afterwards
_MAX_SOCKETS: Final = 3 * 5_000  # a line takes three: libzmq's default of 1,023 is used up by 341 threads


class _Share:
    """What one process has of a pool: sockets, and their context, belong to the process that made them."""

    def __init__(self) -> None:
        self.context = open_context()
        self.context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
        self.idle: list[Line] = []

    def close_idle(self) -> None:
        while self.idle:
            try:
                self.idle.pop().close()
            except IndexError:  # another thread closed it
                return


class Pool:
    """Lends lines. Any thread may use it, and any process that was forked since it was made."""

    def __init__(self, endpoint: Endpoint, try_s: float) -> None:
        self._endpoint = endpoint
        self._try_s = try_s
        self._is_closed = False
        self._shares: dict[int, _Share] = {}  # by process; a parent's is kept, for to collect it would be to close it

    def borrow(self) -> Line:
        """A line for one call; `give_back` must follow. `ProducerClosed`, `BadEndpoint`, `LocalFault`."""
        share = self._shares.get(os.getpid()) or self._begin()
        try:
            return share.idle.pop()
        except IndexError:
            pass
        try:
            return Line(share.context, self._endpoint, self._try_s)
        except (LocalFault, zmq.ContextTerminated):
            if self._is_closed:  # by another thread, just now
                raise ProducerClosed(_CLOSED) from None
            raise

    def give_back(self, line: Line) -> None:
        """Return a line. One on which something is unanswered is closed, and what it still held is dropped."""
        process = os.getpid()
        if line.process != process:  # it was forked during the call
            return
        share = self._shares.get(process)
        if share is None or not line.is_idle or len(share.idle) >= _KEPT:
            line.close()
            return
        share.idle.append(line)
        if self._is_closed:
            share.close_idle()

    def close(self) -> None:
        """Close all lines; calls that are under way end with `zmq.ContextTerminated`. Twice is fine."""
        # First this, then to empty the list; `give_back` adds to the list first, and then looks at this: in whatever
        # order the two threads come, one of them closes the line.
        self._is_closed = True
        share = self._shares.pop(os.getpid(), None)
        if share is None:  # nothing was called, or it was closed before, or by another thread just now
            return
        share.close_idle()
        # To end a context is to wait until its last socket is closed. That of a call on this very thread (which is in a
        # signal handler, say) can only be closed later.
        ending = threading.Thread(target=share.context.term, name="producer-close", daemon=True)
        ending.start()
        ending.join(_CLOSING_S)

    def _begin(self) -> _Share:
        """The share of this process, where it has none."""
        if self._is_closed:
            raise ProducerClosed(_CLOSED)
        made = _Share()
        share = self._shares.setdefault(os.getpid(), made)
        if share is not made:  # another thread was first
            made.context.term()
        if self._is_closed:  # just now: it may have come too early to see this share
            self.close()
            raise ProducerClosed(_CLOSED)
        return share
