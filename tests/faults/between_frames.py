"""A connection that is lost between the two frames of a reply: `python -m tests.faults.between_frames`.

The server goes, and libzmq's own thread notices, exactly when a producer has read the first frame of its 50th reply and
goes for the second one: the hundredth frame, at which libzmq would look after its connections. A process of its own,
since what it may die of is an abort. Prints how many replies it has got.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

import msgpack
import zmq

from producer import Producer

_FRAMES: Final = 100  # `inbound_poll_rate` of libzmq: a command of its own thread is seen at every so many-th `recv`
_NOTICED_S: Final = 0.3  # for that thread to notice: nothing tells of it
_LIMITS: Final = {"message_bytes": 65_536, "tasks": 1_000}


class Server(threading.Thread):
    """Answers pings, until it is told to go."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._go = threading.Event()

    def run(self) -> None:
        """Answer."""
        while not self._go.is_set():
            if self._socket.poll(10):
                tag = msgpack.unpackb(self._socket.recv())["tag"]
                pong = {"server": "short-lived", "phase": "serving", "versions": [1], "limits": _LIMITS}
                self._socket.send(msgpack.packb({"v": 1, "tag": tag, **pong}))
        self._context.destroy(linger=0)

    def go(self) -> None:
        """Close the connection; returns when it is closed."""
        self._go.set()
        self.join()


class Counting(zmq.Socket[bytes]):
    """A producer's socket, whose server goes before that frame is read."""

    server: Server
    frames = 0

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        """Receive."""
        if Counting.frames == _FRAMES - 1:
            Counting.server.go()
            time.sleep(_NOTICED_S)
        received = super().recv(*args, **kwargs)
        Counting.frames += 1
        return received


def main() -> None:
    """Be answered 50 times."""
    Counting.server = Server()
    Counting.server.start()
    zmq.Context._socket_class = Counting  # type: ignore[misc] # of every context that is made from here on
    with Producer(Counting.server.endpoint, reply_timeout_s=30, timeout_s=60) as producer:
        for _ in range(_FRAMES // 2):
            producer.ping()
    print(f"replies={Counting.frames // 2}")  # noqa: T201 - for the test


if __name__ == "__main__":
    main()
