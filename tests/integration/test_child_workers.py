"""The inside of a child host, in this process: sockets for the broker's end, and threads that run tasks."""

from __future__ import annotations

import socket
import threading

from broker.protocol import arguments_of
from tests.still_broker import declared, wire
from worker_host import task
from worker_host.child import serve
from worker_host.lending import pack_attempt, receive, send, unpack_ended


class Lease:
    """A lease on the first attempt of a task."""

    def __init__(self, name: str) -> None:
        self.id, self.attempt, self.wire = "t", 1, wire("t", name)

    def open(self) -> tuple[str, list[object], dict[str, object]]:
        """What to call."""
        return arguments_of(self.wire)


def test_child_says_that_it_is_ready_before_its_first_task() -> None:
    """A task that ends the process at once ends one that could start: its death is no failure to start."""
    broker_life, life = socket.socketpair()
    broker_channel, channel = socket.socketpair()
    heard: list[bytes] = []

    @task
    def looks() -> None:
        heard.append(broker_life.recv(1, socket.MSG_DONTWAIT))

    send(broker_channel, pack_attempt(Lease("looks")))
    child = threading.Thread(target=serve, args=(life, [channel], declared(looks), arguments_of, print), daemon=True)
    with broker_life, life, broker_channel, channel:
        child.start()
        broker_channel.settimeout(20)
        assert receive(broker_channel)  # begun
        ended = receive(broker_channel)
        assert ended is not None
        assert unpack_ended(ended) is None
        assert heard == [b"R"]
        broker_life.shutdown(socket.SHUT_RDWR)
        child.join(20)
        assert not child.is_alive()
