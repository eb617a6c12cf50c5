"""The lines of one producer. Each call has one to itself while it lasts, so threads never wait for each other.

There is no lock: what the threads share is a list, of which they push and pop, each an atomic step.
"""

from __future__ import annotations

import threading
from typing import Final

import zmq

from producer.endpoint import Endpoint
from producer.errors import LocalFault, ProducerClosed
from producer.forks import left_behind, renew_after_fork
from producer.line import Line

_CLOSING_S: Final = 1.0  # closing takes milliseconds, unless it waits for itself
_KEPT: Final = 16  # idle lines; when more threads call at once, more are made, and closed afterwards
_MAX_SOCKETS: Final = 3 * 5_000  # a line takes three: libzmq's default of 1,023 is used up by 341 threads


class Pool:
    """Lends lines. Any thread may use it."""

    def __init__(self, endpoint: Endpoint, try_s: float) -> None:
        self._endpoint = endpoint
        self._try_s = try_s
        self._is_closed = False
        self._context = _make_context()
        self._to_end = [self._context]
        self._idle: list[Line] = []
        renew_after_fork(self)

    def borrow(self) -> Line:
        """A line for one call; `give_back` must follow. `ProducerClosed`, `BadEndpoint`, `LocalFault`."""
        if self._is_closed:
            raise ProducerClosed("this producer is closed")
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return Line(self._context, self._endpoint, self._try_s)
        except (LocalFault, zmq.ContextTerminated):
            if self._is_closed:  # by another thread, just now
                raise ProducerClosed("this producer is closed") from None
            raise

    def give_back(self, line: Line) -> None:
        """Return a line. One on which something is unanswered is closed, and what it still held is dropped."""
        if line.is_left_behind:
            return
        if not line.is_idle or len(self._idle) >= _KEPT:
            line.close()
            return
        self._idle.append(line)
        if self._is_closed:
            self._close_idle()

    def close(self) -> None:
        """Close all lines; calls that are under way end with `zmq.ContextTerminated`. Twice is fine."""
        # First this, then to empty the list; `give_back` adds to the list first, and then looks at this: in whatever
        # order the two threads come, one of them closes the line.
        self._is_closed = True
        self._close_idle()
        try:
            context = self._to_end.pop()
        except IndexError:  # closed before, or by another thread just now
            return
        # To end a context is to wait until its last socket is closed. That of a call on this very thread (which is in a
        # signal handler, say) can only be closed later.
        ending = threading.Thread(target=context.term, name="producer-close", daemon=True)
        ending.start()
        ending.join(_CLOSING_S)

    def renew(self) -> None:
        """In a forked process: begin anew."""
        left_behind.append((self._context, self._idle))
        self._idle = []
        if not self._is_closed:
            self._context = _make_context()
            self._to_end = [self._context]

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread closed it
                return


def _make_context() -> zmq.Context[zmq.Socket[bytes]]:
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
    return context
