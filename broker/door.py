"""The door: the REP socket, and nothing about what is said through it.

A request is received and its reply sent in one function with one exit, since a REP socket that misses a turn is dead.
An exception that escapes ends the process with a message: never a live, deaf broker.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import zmq

from broker.authenticator import DOMAIN, Authenticator
from broker.endpoint import ipc_path
from broker.keys import KeyFolder
from worker_host.contract import Trouble

# Waking a sleeping thread costs more than an answer, in time and in cold caches. So there are two kinds of request:
#
# - A lone request: its worker is woken before the reply is sent. The one wakes up while the other is written.
# - Requests that follow each other closely: workers are woken once for several of them, after the replies, and the loop
#   waits for the next request for a moment before it turns to anything else: awake, if one producer takes turns with
#   it, or asleep, if there are several, who need the core more than it does.
_CLOSE_S: Final = 0.0003  #: requests are close if the next burst begins this soon after the last one
_LOOKOUT_S: Final = 0.00015  #: how long to wait awake: the time in which a producer that takes turns comes again
_BURST: Final = 16  #: requests that are answered in a row at most
_BURST_S: Final = 0.001  #: and for how long at most: the tasks of the first one should not wait longer for a worker
_SKIPPED: Final = 256  #: frames too many that are thrown away in a row: a tenth of a millisecond, if they are small
_END_S: Final = 1.0  #: for what ends with the door; the last replies have half of it (`LINGER`)
_NOBODY: Final = -1  #: the connection of what is no request


class Door:
    """A bound REP socket. One thread, the broker's loop, uses it."""

    def __init__(
        self,
        endpoint: str,
        answer: Callable[[Sequence[bytes], int], bytes],
        wake_workers: Callable[[], None],
        bell: int,
        *,
        message_bytes: int,
        keys: KeyFolder | None = None,
    ) -> None:
        """Bind; raises `zmq.ZMQError` if that fails. `bell`: a file descriptor that ends a wait too.

        `keys`: the door is closed, and lets in only those who have one; `KeysError` if the broker itself has none.
        """
        self._answer = answer
        self._wake_workers = wake_workers
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        _set_options(self._socket, message_bytes)
        self._socket.setsockopt(zmq.IPV6, endpoint.startswith("tcp://["))
        self._authenticator: Authenticator | None = None
        #: Where it listens: as bound, so with the port that port 0 became.
        self.endpoint = ""
        mask = os.umask(0o177)  # an ipc socket is a file: its owner's alone
        try:
            if keys is not None:
                _close_to_strangers(self._socket, keys)
                self._authenticator = Authenticator(self._context, keys)
            self._socket.bind(endpoint)
        except BaseException:
            self.close()
            raise
        finally:
            os.umask(mask)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._skipping: bytes | None = None  # the first frame of a request of which too many are being thrown away
        self._last_burst = 0.0  # when it ended
        self._cut_short = False  # it ended for its bound, with more to be expected
        self._requests = zmq.Poller()
        self._requests.register(self._socket, zmq.POLLIN)
        self._visitors = zmq.Poller()
        self._visitors.register(self._socket, zmq.POLLIN)
        self._visitors.register(bell, zmq.POLLIN)
        self._beside: Door | None = None

    def answer_beside(self, other: Door) -> None:
        """From now on, answer at `other` too whenever this door is served."""
        self._beside = other
        self._visitors.register(other._socket, zmq.POLLIN)

    def serve(self, timeout_s: float | None) -> bool:
        """Wait for a request, the bell, or until the time has passed (0: do not wait; None: no limit), and answer what
        came.

        Returns after one request, or after a burst of them: one reply each. True if the bell rang.
        """
        ready = self._look_out(self._visitors) if self._cut_short else []
        if not ready:
            # Rounded up: a poll that returns a moment early would be followed by another, and another, of no time.
            # Without the rounding, 0 is 0: somebody has more to do, and lets requests in between.
            ready = self._visitors.poll(None if timeout_s is None else int(timeout_s * 1_000) + (timeout_s > 0))
        rang = False
        for which, _ in ready:
            if which is self._socket:
                self._answer_burst()
            elif self._beside is not None and which is self._beside._socket:
                self._beside._answer_burst()
            else:
                rang = True
        return rang

    def _answer_burst(self) -> None:
        door, answer, is_there_more, clock = self._socket, self._answer, self._requests.poll, time.monotonic
        began = clock()
        closely = began - self._last_burst < _CLOSE_S
        several = self._cut_short = False
        for _ in range(_BURST):
            request = self._receive()
            if request is None:
                break
            reply = answer(*request)
            if not closely:
                self._wake_workers()
            door.send(reply)
            if is_there_more(0):
                several = closely = True
            elif not closely or not (is_there_more(1) if several else self._look_out(self._requests)):
                break
            if clock() - began > _BURST_S:
                self._cut_short = True
                break
        self._last_burst = clock()

    @staticmethod
    def _look_out(poller: zmq.Poller) -> list[tuple[Any, int]]:
        """Wait for what `poller` looks at for a moment, awake."""
        until = time.monotonic() + _LOOKOUT_S
        while not (ready := poller.poll(0)) and time.monotonic() < until:
            pass
        return ready

    def _receive(self) -> tuple[Sequence[bytes], int] | None:
        """The frames of a request, two at most, and its connection; None if there is none, or not yet.

        A connection goes by the number of its file descriptor.

        There is none if what made the socket readable was no request, and libzmq has thrown it away: a peer that sends
        without the empty frame does that. To wait for the next request here would hold up all else. A request of
        several frames is thrown away in parts, one with each call, since a peer may send a million of them.
        """
        if self._skipping is None:
            try:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return None
            if not frame.more:  # `recv_multipart` would ask the socket; the frame knows, at a third of the cost
                return (frame.bytes,), frame.get(zmq.SRCFD)
            self._skipping = frame.bytes
        try:
            for _ in range(_SKIPPED):
                self._socket.recv(zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno != zmq.EFSM:  # the request is over, it is our turn: cheaper than to ask after each frame
                raise
        else:
            if self._socket.getsockopt(zmq.RCVMORE):
                return None
        first, self._skipping = self._skipping, None
        return (first, b""), _NOBODY

    def troubles(self) -> list[Trouble]:
        """Why nobody can connect, if that is so."""
        return [] if self._authenticator is None else self._authenticator.troubles()

    def disown(self) -> None:
        """In a forked child: close its copies of the descriptors that listen, or answer, at the endpoint."""
        where = self.endpoint.split("://")[1]
        host, _, port = where.rpartition(":")
        name = where if self.endpoint.startswith("ipc:") else (host.strip("[]"), int(port))
        for descriptor in _descriptors():
            with contextlib.suppress(OSError):  # no socket, or not even open
                one = socket.socket(fileno=descriptor)
                if _is_at(one, name):
                    one.close()
                else:
                    one.detach()

    def close(self) -> None:
        """Give the endpoint back; returns when the last replies are on their way.

        Requests that have arrived but were not answered stay unanswered: *unknown* to their producers.
        """
        path = ipc_path(self.endpoint)
        if path is not None:
            with contextlib.suppress(OSError):  # first: from here on nobody finds it, and somebody else may bind there
                path.unlink()
        self._socket.close()
        if self._authenticator is None:
            self._context.term()
        else:  # it may be waiting for a file on a server that is dead, and `term` would wait for it
            ending = threading.Thread(target=self._context.term, daemon=True)
            ending.start()
            ending.join(_END_S)


def _descriptors() -> Iterable[int]:
    """All that are open, and maybe others."""
    try:
        return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:  # none is left to look with, so every number is taken
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _is_at(one: socket.socket, name: str | tuple[str, int]) -> bool:
    """Whether this is a socket of a door there; a connection to one at every address (0.0.0.0, ::) has its own."""
    address = one.getsockname()
    if isinstance(name, str) or one.family not in {socket.AF_INET, socket.AF_INET6}:
        return bool(address == name)
    return address[1] == name[1] and name[0] in {address[0], "0.0.0.0", "::"}  # noqa: S104 - nothing is bound


def _set_options(socket: zmq.Socket[bytes], message_bytes: int) -> None:
    # A ZAP domain makes libzmq refuse peers that speak ZMTP/1 or 2. Without it, a task can be smuggled in by a web page
    # that posts a form to this port: the bytes of an HTTP request pass for an old peer's greeting.
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    socket.setsockopt(zmq.MAXMSGSIZE, 2 * message_bytes)  # a little too long gets an answer, longer is cut off
    socket.setsockopt(zmq.RCVHWM, 2)  # requests waiting per peer: the bound is the queue's, not the socket's
    socket.setsockopt(zmq.SNDHWM, 10)  # replies waiting for a peer that does not read them
    socket.setsockopt(zmq.LINGER, 500)  # ms for the last replies to leave at shutdown
    socket.setsockopt(zmq.HANDSHAKE_IVL, 2_000)  # ms: a peer that connects and says nothing is let go
    socket.setsockopt(zmq.HEARTBEAT_IVL, 5_000)  # ms: a peer that vanished without a word is noticed
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15_000)
    socket.setsockopt(zmq.BACKLOG, 1_024)


def _close_to_strangers(socket: zmq.Socket[bytes], keys: KeyFolder) -> None:
    pair = keys.own_pair()
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
    # Without this, libzmq lets everybody in when nobody answers for the domain: when the authenticator has died.
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
