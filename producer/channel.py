"""One socket to the broker: sends requests, and sends them again when no reply comes. It never waits.

A DEALER with an empty delimiter before each request is what a REQ is on the wire; but it may send several before the
first reply. A request that got no reply in time is sent again, the same bytes, on a fresh socket: what the old one
still held is dropped with it, so that nothing is delivered when nobody waits for it any more (a ghost). What it had
handed to the network is not, and may be read at any time: the reply to the later copy says so (`Resent`). A socket
takes a request only while it is connected (`IMMEDIATE`), so what it did not take was certainly not sent.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections import deque
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from producer.dialogue import Unanswered
from producer.endpoint import Endpoint
from producer.errors import BadEndpoint, BadReply, LocalFault, ProducerClosed
from producer.replies import Reply, Resent, open_reply
from producer.requests import Request

#: What libzmq tells of a connection that did not come about.
_FAILURES: Final = (
    zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
)
_MECHANISM_MISMATCH: Final = 0x11000002  # ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: one side has keys, the other none

#: At every hundredth frame that is read in a row, libzmq looks after its connections first. If one is lost at that
#: moment, and the frame is the second one of a reply, it ends the process (4.3.5, where `IMMEDIATE` is set: "Assertion
#: failed: !_more"). To look for a frame and find none starts the count anew, so that is done in time.
_MANY_IN_A_ROW: Final = 40  # replies, of two frames each; from here on, all that are there are read
_MOST_IN_A_ROW: Final = 49

#: pyzmq names a monitor after its socket's file descriptor, which the next socket may have before the name is free.
_MONITORS: Final = itertools.count()

_NEVER: Final = float("inf")
_LONG_AGO: Final = 0.0
_NOW: Final = zmq.NOBLOCK
_NOW_AND_MORE: Final = zmq.NOBLOCK | zmq.SNDMORE  # to combine them takes as long as to send


def open_context() -> zmq.Context[zmq.Socket[bytes]]:
    """What channels are made in. `LocalFault` if the system grants none."""
    try:
        return zmq.Context()
    except zmq.ZMQError as error:
        raise LocalFault(f"cannot open a socket: {error.strerror}") from None


class Channel:
    """A connection, and the requests that wait for their replies on it. On one thread at a time."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint, try_s: float) -> None:
        """`try_s`: seconds without any reply, after which what is unanswered is sent again. `BadEndpoint`."""
        self._context = context
        self._endpoint = endpoint
        self._try_s = try_s
        self._unanswered: dict[int, bytes] = {}  # by tag, in the order of sending
        self._unsent: deque[int] = deque()  # tags of those that are not sent on this socket yet: the last ones
        self._sent: set[int] = set()  # tags of the unanswered ones that were sent, on this socket or an earlier one
        self._resent: set[int] = set()  # tags of those that were sent on an earlier one
        self._in_a_row = 0  # replies that were read since none was there
        self._is_overrun = False  # more were there than can be read in a row: the socket is of no more use
        self._read_ahead: deque[Reply] = deque()
        self._heard_at = 0.0  # when the wait for the next reply began
        self._refusal: Unanswered | None = None
        self._was_cut = False  # a connection ended in its handshake: by a broker that goes, or that has another key
        self.process = os.getpid()  #: the one that the socket belongs to
        self.socket = self._connect()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is unanswered, and something could be asked: a refused connection is not made again."""
        return not self._unanswered and self._refusal is None and not self._is_overrun

    @property
    def is_refused(self) -> bool:
        """Whether the broker's door is closed to this producer: nothing will come, and nothing was sent here."""
        return self._refusal is not None

    def look(self) -> None:
        """See what has become of the connection; when `monitor` is readable."""
        while True:
            try:
                event = parse_monitor_message(self.monitor.recv_multipart(_NOW))
            except zmq.Again:
                return
            if event["event"] == zmq.Event.HANDSHAKE_FAILED_AUTH:
                self._refusal = Unanswered.KEY_NOT_KNOWN
            elif event["value"] == _MECHANISM_MISMATCH:
                self._refusal = Unanswered.KEY_NOT_ASKED if self._endpoint.keys else Unanswered.KEY_NEEDED
            elif event["event"] == zmq.Event.HANDSHAKE_FAILED_NO_DETAIL and self._endpoint.keys:
                self._was_cut = True

    @property
    def silent_at(self) -> float:
        """When `tend` will send again what is unanswered, if no reply comes before; on the monotonic clock."""
        if self._is_overrun:
            return _LONG_AGO
        return self._heard_at + self._try_s if len(self._unanswered) > len(self._unsent) else _NEVER

    def post(self, request: Request) -> None:
        """Send a request, now or when there is a connection."""
        self.check_process()
        # Noted before it is sent: whoever interrupts this leaves a channel that is not idle, and is not used again.
        self._unanswered[request.tag] = request.data
        self._unsent.append(request.tag)
        self._send()

    def take(self) -> tuple[int, Reply] | None:
        """The next reply that has come, with its tag; None if there is none. Replies to nothing that waits are dropped.

        `BadReply` if something else has come: then what is unanswered stays so, and the channel is of no more use.
        When it gives None, it has left the socket such that its file descriptor tells of whatever comes next: sending
        swallows such signals too, so the last thing is always to look for a reply and find none.
        """
        while True:
            reply = self._next()
            if reply is None:
                if self._unsent and self._send():
                    continue
                return None
            tag: int = reply["tag"]
            if self._unanswered.pop(tag, None) is not None:
                self._sent.discard(tag)
                self._heard_at = time.monotonic()
                if tag in self._resent:
                    self._resent.remove(tag)
                    return tag, Resent(reply)
                return tag, reply

    def tend(self, now: float) -> bool:
        """Send again what is unanswered, if that is due; whether `socket` is another one now.

        `LocalFault` if the system grants no other one: then all is as it was.
        """
        if now < self.silent_at:
            return False
        self.connect_anew()
        return True

    def connect_anew(self) -> None:
        """Drop the socket, and send what is unanswered by a fresh one. `LocalFault` as `tend`."""
        old = self.monitor, self.socket
        self.socket = self._connect()  # first: if that cannot be, the old one is still there, to be closed one day
        for one in old:
            one.close(linger=0)
        self._read_ahead.clear()
        self._in_a_row = 0
        self._is_overrun = False
        self._refusal = None
        self._unsent = deque(self._unanswered)
        self._resent = set(self._sent)

    def give_up(self, tag: int) -> Unanswered:
        """Wait for this reply no longer. If it comes later, it is dropped."""
        del self._unanswered[tag]
        if tag in self._unsent:
            self._unsent.remove(tag)
        if tag not in self._sent:
            return self._refusal or (Unanswered.HANDSHAKE_CUT if self._was_cut else Unanswered.NEVER_SENT)
        self._sent.remove(tag)
        self._resent.discard(tag)
        return Unanswered.LOST

    def check_process(self) -> None:
        """`ProducerClosed` if the socket is a parent process's: to use it would be to wait for ever."""
        if self.process != os.getpid():
            raise ProducerClosed("this call was begun before the process forked: begin another one here")

    def close(self) -> None:
        """Close the socket. What it has not handed to the network is dropped."""
        self.monitor.close(linger=0)
        self.socket.close(linger=0)

    def _connect(self) -> zmq.Socket[bytes]:
        socket = monitor = None
        try:
            socket = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.setsockopt(zmq.IPV6, self._endpoint.address.startswith("tcp://["))
            if (keys := self._endpoint.keys) is not None:
                socket.setsockopt(zmq.CURVE_SERVERKEY, keys.broker)
                socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
                socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(keys.secret))
            monitor = socket.get_monitor_socket(_FAILURES, f"inproc://handshakes-{next(_MONITORS)}")
            socket.connect(self._endpoint.address)
        except zmq.ZMQError as error:
            for made in (monitor, socket):
                if made is not None:
                    made.close(linger=0)
            if isinstance(error, zmq.ContextTerminated):
                raise
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise LocalFault(f"cannot open a socket: {error.strerror}") from None
            raise BadEndpoint(f"cannot connect to '{self._endpoint.address}': {error.strerror}") from None
        self.monitor = monitor
        return socket

    def _send(self) -> bool:
        """Send what is unsent, as far as the socket takes it; whether it took anything."""
        if len(self._unanswered) == len(self._unsent):  # nothing is awaited on this socket yet
            self._heard_at = time.monotonic()
        took = False
        while self._unsent:
            tag = self._unsent[0]
            try:
                self.socket.send(b"", _NOW_AND_MORE)
                self.socket.send(self._unanswered[tag], _NOW)
            except zmq.Again:
                break
            self._unsent.popleft()
            self._sent.add(tag)
            took = True
        return took

    def _next(self) -> Reply | None:
        """The next reply to a request that waits, or did when it was read; None if there is none."""
        if not self._read_ahead:
            reply = self._read()
            if reply is None or self._in_a_row < _MANY_IN_A_ROW:
                return reply
            self._read_ahead.append(reply)
            while (reply := self._read()) is not None:
                self._read_ahead.append(reply)
        return self._read_ahead.popleft()

    def _read(self) -> Reply | None:
        """The next reply to a request that waits. Late ones, of calls that were given up, may come in any number."""
        while not self._is_overrun:
            try:
                delimiter = self.socket.recv(_NOW)
            except zmq.Again:
                self._in_a_row = 0
                return None
            if self._in_a_row == _MOST_IN_A_ROW:
                self._is_overrun = True
                return None
            self._in_a_row += 1
            reply = self._open(delimiter)
            if reply["tag"] in self._unanswered:
                return reply
        return None

    def _open(self, delimiter: bytes) -> Reply:
        """The reply that follows its delimiter, with a tag as we give them."""
        try:
            data = self.socket.recv(_NOW) if not delimiter else None
        except zmq.Again:
            data = None
        if data is None:
            raise BadReply("what came is no reply behind an empty delimiter frame: no REP socket answers there")
        reply = open_reply(data)
        if type(reply.get("tag")) is not int:
            raise BadReply("a reply came without the tag of its request")
        return reply
