"""A channel that a thread waits on."""

from __future__ import annotations

import time
from typing import Final

import zmq

from producer.channel import Channel
from producer.dialogue import Answer, Ask
from producer.replies import Reply

_LONGEST_POLL_S: Final = 3_600.0  # a poll takes its time in milliseconds, as a C int


class Line(Channel):
    """Asks, and waits. On one thread at a time."""

    def ask(self, ask: Ask) -> Answer:
        """The answer to one request, where no other one is unanswered."""
        self.post(ask.request)
        came = self.collect(ask.until)
        return self.give_up(ask.request.tag) if came is None else came[1]

    def pause(self, seconds: float) -> Reply:
        """Wait, on the socket, so that closing the producer ends it; an empty reply."""
        self.check_process()
        self.collect(time.monotonic() + seconds)
        return {}

    def collect(self, until: float) -> tuple[int, Reply] | None:
        """The next reply, with its tag; None if none has come by `until`, or will come. One that is there is found.

        `BadReply` as `take`; then the line is of no more use.
        """
        now = time.monotonic()
        if self._unsent:
            self.look()
            if self.is_refused:  # while nobody looked: it may be let in by now
                self.connect_anew()
        while True:
            wait_s = min(until, self.silent_at, now + _LONGEST_POLL_S) - now
            # Rounded up: a poll that returns a moment early would be followed by more, of no time at all.
            wait_ms = int(wait_s * 1_000) + 1 if wait_s > 0 else 0
            poller = self._replies_or_room if self._unsent else self._replies
            if (self._read_ahead or poller.poll(wait_ms)) and (came := self.take()) is not None:
                return came
            self.look()
            now = time.monotonic()
            if now >= until or self.is_refused:
                return None
            self.tend(now)

    def _connect(self) -> zmq.Socket[bytes]:
        socket = super()._connect()
        self._replies = zmq.Poller()
        self._replies.register(socket, zmq.POLLIN)
        self._replies.register(self.monitor, zmq.POLLIN)
        self._replies_or_room = zmq.Poller()
        self._replies_or_room.register(socket, zmq.POLLIN | zmq.POLLOUT)
        self._replies_or_room.register(self.monitor, zmq.POLLIN)
        return socket
