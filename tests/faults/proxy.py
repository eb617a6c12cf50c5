"""A network that misbehaves: a TCP proxy, in this process, between producers and a broker.

What happens to a connection is drawn from a seed, by the number of the connection, so a run can be had again:

    plain      it is passed on as it is
    delay      each piece waits a moment first
    split      it is passed on in pieces of one to seven bytes
    cut        after so many bytes, in either direction, both ends are reset
    drop       it is accepted, its bytes are read, and nothing is passed on
    half_open  after so many bytes nothing is passed on any more, and nobody is told
    late       nothing is passed on before a later connection has been, or a moment has passed: they change places

A connection that is one of the last four shows itself to a producer as a reply that does not come.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

_PIECE: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s, so that `close` resets
_LATE_S: Final = 0.3
_END_S: Final = 20.0

#: How often each fate is drawn, unless told otherwise: half of the connections live.
USUAL: Final[Mapping[str, int]] = {
    "plain": 3, "delay": 2, "split": 2, "cut": 4, "drop": 1, "half_open": 1, "late": 1,
}  # fmt: skip


@dataclass
class _Link:
    """One connection: the producer's end, the broker's end, and what is to become of it."""

    number: int
    fate: str
    rng: random.Random
    ends: tuple[socket.socket, socket.socket]
    opened: float
    after: int  #: bytes that still pass before it is cut, or falls silent
    held: list[tuple[int, bytes]] = field(default_factory=list)  #: of a late one: (direction, bytes)
    waits: list[float] = field(default_factory=lambda: [0.0, 0.0])  #: until when the last piece of a direction waits
    is_closed: bool = False


class ChaosProxy:
    """Listens at `endpoint` and passes on to the broker at `to`. A context manager."""

    def __init__(self, to: str, seed: int, fates: Mapping[str, int] = USUAL) -> None:
        """`fates`: how often each is drawn, relative to the others."""
        host, port = to.removeprefix("tcp://").rsplit(":", 1)
        self._to = host, int(port)
        self._seed = seed
        self._fates = dict(fates)
        self.drawn: Counter[str] = Counter()  #: connections by fate
        self.suffered: Counter[str] = Counter()  #: those that it has come to
        self._links: list[_Link] = []
        self._pieces: list[tuple[float, int, _Link, int, bytes]] = []  # a heap: when, order, link, direction, bytes
        self._order = 0
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._stop, self._stopped = socket.socketpair()
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)

    def __enter__(self) -> ChaosProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Reset all connections and end; raises what went wrong on its thread. Twice is fine."""
        if self._thread.is_alive():
            self._stop.send(b".")
            self._thread.join(_END_S)
            assert not self._thread.is_alive()
        self._stop.close()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # noqa: BLE001 - raised in the test by `close`
            self._failure = error
        for link in self._links:
            self._close(link)
        for one in (self._listener, self._stopped):
            self._selector.unregister(one)
            one.close()
        self._selector.close()

    def _turn(self) -> bool:
        now = time.monotonic()
        for key, _ in self._selector.select(self._rest(now)):
            if key.fileobj is self._stopped:
                return False
            if key.fileobj is self._listener:
                self._accept()
            elif not key.data[0].is_closed:
                self._read(*key.data)
        now = time.monotonic()
        for link in self._links:
            if link.held and now >= link.opened + _LATE_S:
                self._let_go(link)
        while self._pieces and self._pieces[0][0] <= now:
            _, _, link, direction, data = heapq.heappop(self._pieces)
            self._pass(link, direction, data)
        return True

    def _rest(self, now: float) -> float | None:
        times = [link.opened + _LATE_S for link in self._links if link.held]
        if self._pieces:
            times.append(self._pieces[0][0])
        return max(0.0, min(times) - now) if times else None

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(self._to, timeout=5)
            except OSError:  # the broker is down: so is the way to it
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                near.close()
                return
            number = sum(self.drawn.values())
            rng = random.Random(f"{self._seed}/{number}")
            fate = rng.choices(list(self._fates), list(self._fates.values()))[0]
            self.drawn[fate] += 1
            link = _Link(number, fate, rng, (near, far), time.monotonic(), rng.randrange(60, 3_000))
            for earlier in self._links:
                if earlier.held:  # this one is on its way, so those may follow
                    self._later(earlier)
            self._links.append(link)
            for direction, end in enumerate(link.ends):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(end, selectors.EVENT_READ, (link, direction))

    def _later(self, link: _Link) -> None:
        """What a late connection has held follows what came meanwhile: in the next turn but one."""
        link.opened = min(link.opened, time.monotonic() - _LATE_S + 0.02)

    def _let_go(self, link: _Link) -> None:
        self.suffered[link.fate] += 1
        held, link.held, link.fate = link.held, [], "plain"
        for direction, data in held:
            self._pass(link, direction, data)

    def _read(self, link: _Link, direction: int) -> None:
        try:
            data = link.ends[direction].recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if link.fate in {"drop", "half_open"} and link.after <= 0:  # nobody is told
                self._selector.unregister(link.ends[direction])
            else:
                self._queue(link, direction, b"", time.monotonic())
            return
        self._misuse(link, direction, data)

    def _misuse(self, link: _Link, direction: int, data: bytes) -> None:
        now = time.monotonic()
        if link.fate == "plain":
            self._queue(link, direction, data, now)
        elif link.fate == "delay":
            self.suffered["delay"] += 1
            self._queue(link, direction, data, now + link.rng.uniform(0, 0.05))
        elif link.fate == "split":
            self.suffered["split"] += 1
            while data:
                size = link.rng.randrange(1, 8)
                self._queue(link, direction, data[:size], now)
                data = data[size:]
        elif link.fate == "late":
            link.held.append((direction, data))
        elif link.fate == "drop":
            self.suffered["drop"] += link.after > 0
            link.after = 0
        else:
            passed, link.after = data[: max(0, link.after)], link.after - len(data)
            if passed:
                self._queue(link, direction, passed, now)
            if link.after <= 0 < link.after + len(data):
                self.suffered[link.fate] += 1
                if link.fate == "cut":
                    self._queue(link, direction, b"", now)

    def _queue(self, link: _Link, direction: int, data: bytes, when: float) -> None:
        """In the order of coming, whatever each piece waits for. No bytes: the end."""
        link.waits[direction] = when = max(when, link.waits[direction])
        self._order += 1
        heapq.heappush(self._pieces, (when, self._order, link, direction, data))

    def _pass(self, link: _Link, direction: int, data: bytes) -> None:
        if link.is_closed:
            return
        other = link.ends[1 - direction]
        try:
            if not data:
                raise ConnectionResetError
            other.setblocking(True)
            other.settimeout(2)  # a peer that does not read is cut off
            other.sendall(data)
            other.setblocking(False)
        except OSError:
            self._close(link)

    def _close(self, link: _Link) -> None:
        if link.is_closed:
            return
        link.is_closed = True
        link.held.clear()
        for end in link.ends:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(end)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()
