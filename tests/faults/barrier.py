"""A way to a broker with a barrier: what producers say there can be held back, and let through when they are gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final

_PIECE: Final = 65_536


class Barrier:
    """Listens at `endpoint` and passes on to the broker at `to`. A context manager."""

    def __init__(self, to: str) -> None:
        host, port = to.removeprefix("tcp://").rsplit(":", 1)
        self._to = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._ways: list[threading.Event] = []  # one for each connection: set while what its producer says may pass
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> int:
        """From now on, the connections that there are let nothing pass to the broker; so many. Later ones do."""
        for way in self._ways:
            way.clear()
        return len(self._ways)

    def open(self) -> None:
        """Let through what was held back, and whatever comes; whether the producer is still there or not."""
        for way in self._ways:
            way.set()

    def __enter__(self) -> Barrier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        # `close` alone would not wake the threads that wait on them.
        for one in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far, way = socket.create_connection(self._to), threading.Event()
                way.set()
                always = threading.Event()
                always.set()
                self._ends += [near, far]
                self._ways.append(way)
                for ends in ((near, far, way), (far, near, always)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(source: socket.socket, to: socket.socket, way: threading.Event) -> None:
    with contextlib.suppress(OSError):  # one of the two is gone
        while data := source.recv(_PIECE):
            way.wait()
            to.sendall(data)
        way.wait()
        to.shutdown(socket.SHUT_WR)
