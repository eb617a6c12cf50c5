"""A request of many frames holds up nothing, and gets one reply (P1). Row 18 of the faults to survive."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import zmq

from broker.door import Door
from tests.faults.seams import failing_at

_MANY = 100_000


class Loop:
    """A door, and what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Sequence[bytes]] = []
        self.connections: set[int] = set()
        self.bell, self.ring = os.pipe()
        self.door = Door("tcp://127.0.0.1:0", self._answer, lambda: None, self.bell, message_bytes=1_024)

    def _answer(self, frames: Sequence[bytes], connection: int) -> bytes:
        self.requests.append(frames)
        self.connections.add(connection)
        return b"reply to " + frames[0]

    def turns_until(self, requests: int) -> int:
        """Serve until so many requests have been answered in all; the turns that it took."""
        for turn in range(1, 1_000_000):
            self.door.serve(20.0)
            if len(self.requests) == requests:
                return turn
        raise AssertionError("no reply")


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A door that nobody has come to."""
    made = Loop()
    yield made
    made.door.close()
    os.close(made.bell)
    os.close(made.ring)


@pytest.fixture
def peer(loop: Loop) -> Iterator[zmq.Socket[bytes]]:
    """A DEALER before that door; it may send as much as it likes."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger, socket.sndhwm, socket.rcvtimeo = 0, 0, 20_000
        socket.connect(loop.door.endpoint)
        yield socket


@pytest.mark.parametrize("frames", [2, 3, 255, 256, 257, 258, 512, 513, 514, 1_000])
def test_request_of_several_frames_is_answered_once(loop: Loop, peer: zmq.Socket[bytes], frames: int) -> None:
    """Whatever their number, the answer is asked for two of them, and the next request is read from its begin."""
    peer.send_multipart([b"", b"first", *[b"more"] * (frames - 1)])
    peer.send_multipart([b"", b"next"])
    loop.turns_until(2)
    assert loop.requests == [(b"first", b""), (b"next",)]
    assert [peer.recv_multipart() for _ in range(2)] == [[b"", b"reply to first"], [b"", b"reply to next"]]


def test_fault_of_the_socket_between_two_frames_is_raised(
    loop: Loop, peer: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for the end of the request: half a request is answered by nobody, and the broker will stop."""
    peer.send_multipart([b"", b"first", b"second"])
    monkeypatch.setattr(zmq.Socket, "recv", failing_at(2, zmq.Socket.recv, lambda: zmq.ZMQError(zmq.ENOTSOCK)))
    with pytest.raises(zmq.ZMQError) as caught:
        loop.door.serve(20.0)
    assert caught.value.errno == zmq.ENOTSOCK
    assert loop.requests == []


def test_loop_goes_round_while_frames_are_thrown_away(loop: Loop, peer: zmq.Socket[bytes]) -> None:
    """The loop gets back to its other work hundreds of times, and hears the bell, before the last frame is gone."""
    peer.send(b"", zmq.SNDMORE)
    for _ in range(_MANY):
        peer.send(b"", zmq.SNDMORE)
    peer.send(b"last")
    os.write(loop.ring, b"!")
    assert loop.door.serve(20.0) or loop.door.serve(20.0)
    assert loop.requests == []
    assert loop.turns_until(1) > _MANY / 1_000
    assert peer.recv_multipart() == [b"", b"reply to "]


def test_connections_are_told_apart(loop: Loop, peer: zmq.Socket[bytes]) -> None:
    """Requests of one connection come with the same number, whatever their kind of socket; another's with another."""
    for _ in range(3):
        peer.send_multipart([b"", b"one"])
    loop.turns_until(3)
    assert len(loop.connections) == 1
    with zmq.Context() as context, context.socket(zmq.REQ) as other:
        other.linger = 0
        other.connect(loop.door.endpoint)
        other.send(b"two")
        loop.turns_until(4)
    assert len(loop.connections) == 2


def at_port_of(endpoint: str) -> int:
    """How many descriptors of this process listen there, or answer there."""
    port = int(endpoint.rpartition(":")[2])
    return sum(one.laddr.port == port for one in psutil.Process().net_connections("tcp"))


def in_a_fork(look: Callable[[], int]) -> int:
    """What a forked process sees: a number up to 100."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os._exit(look())
        os._exit(101)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]"])  # noqa: S104 - bound to the first one
@pytest.mark.parametrize("crowded", [False, True], ids=["", "no descriptor is left"])
def test_copy_of_a_door_in_a_forked_process_is_closed(
    loop: Loop, peer: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch, host: str, crowded: bool
) -> None:
    """There it would keep a successor from the endpoint, and a producer from seeing the end; here all is as before.

    Connections to a door at every address have one of these addresses.
    """
    peer.send_multipart([b"", b"before"])
    loop.turns_until(1)
    assert at_port_of(loop.door.endpoint) == 2
    monkeypatch.setattr(loop.door, "endpoint", loop.door.endpoint.replace("127.0.0.1", host))

    def look() -> int:
        before, taken = at_port_of(loop.door.endpoint), [os.open(os.devnull, os.O_RDONLY)]
        if crowded:
            highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(taken[0]))
        loop.door.disown()
        for one in taken:
            os.close(one)
        return 10 * before + at_port_of(loop.door.endpoint)

    assert in_a_fork(look) == 20
    assert at_port_of(loop.door.endpoint) == 2
    assert peer.recv_multipart() == [b"", b"reply to before"]
    peer.send_multipart([b"", b"still"])
    loop.turns_until(2)
    assert peer.recv_multipart() == [b"", b"reply to still"]


def test_all_else_is_as_it_was_in_a_forked_process(loop: Loop) -> None:
    """Its own sockets are open, and no pipe has a copy: who reads one sees its end when all that write it are done."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def look() -> int:
            reader, writer = os.pipe()
            loop.door.disown()
            os.close(writer)
            os.set_blocking(reader, False)
            return len(os.read(reader, 1)) if other.getsockname()[1] else 1

        assert in_a_fork(look) == 0


@pytest.mark.parametrize("is_gone", [False, True])
def test_an_ipc_door_leaves_nothing_behind(tmp_path: Path, is_gone: bool) -> None:
    """Its socket is gone with it; also if somebody has removed that before."""
    path, (bell, ring) = tmp_path / "door", os.pipe()
    door = Door(f"ipc://{path}", lambda *_: b"", lambda: None, bell, message_bytes=1_024)
    if is_gone:
        path.unlink()
    door.close()
    assert list(tmp_path.iterdir()) == []
    os.close(bell)
    os.close(ring)
