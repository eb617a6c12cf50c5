"""A broker that misbehaves on purpose, for the tests of producers; and the tests that show that it does.

It speaks the wire with a ROUTER in a thread, and knows nothing of the producer's code, nor of the broker's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
import zmq

WAIT_S = 20.0  # for events that come at once, unless something is broken


@dataclass(frozen=True)
class Heard:
    """One request as it arrived."""

    peer: bytes  #: the connection it came by
    data: bytes
    fields: dict[str, Any]

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks of a submit, unpacked."""
        return [msgpack.unpackb(wire) for wire in self.fields["tasks"]]

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return [task["id"] for task in self.tasks]


#: Given a request, the payloads to send back at once; none: the reply is lost.
Behaviour = Callable[["FakeBroker", Heard], Sequence[bytes]]


def reply(heard: Heard, **fields: Any) -> bytes:
    """A reply to that request with these fields."""
    return bytes(msgpack.packb({"v": 1, "tag": heard.fields.get("tag"), **fields}))


def accept(heard: Heard, **fields: Any) -> bytes:
    """All of its tasks are accepted."""
    return reply(heard, verdicts=[{"id": task_id, "verdict": "accepted", **fields} for task_id in heard.ids])


def reject(heard: Heard, reason: str = "full", retry: str = "later", retry_after: float | None = 0.05) -> bytes:
    """All of its tasks are rejected."""
    verdict: dict[str, Any] = {"verdict": "rejected", "reason": reason, "retry": retry}
    if retry_after is not None:
        verdict["retry_after"] = retry_after
    return reply(heard, verdicts=[{"id": task_id, **verdict} for task_id in heard.ids])


def refuse(heard: Heard, reason: str, retry: str = "never") -> bytes:
    """The request is answered with an error."""
    return reply(heard, error={"reason": reason, "retry": retry, "detail": "on purpose"})


class FakeBroker:
    """Answers pings by itself, and everything else as `behaviour` says. A context manager."""

    def __init__(self, behaviour: Behaviour, endpoint: str = "tcp://127.0.0.1:*", message_bytes: int = 65_536) -> None:
        self._behaviour = behaviour
        self._message_bytes = message_bytes
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(endpoint)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._stop_receiver = self._context.socket(zmq.PAIR)
        self._stop_receiver.bind("inproc://stop")
        self._stop_sender = self._context.socket(zmq.PAIR)
        self._stop_sender.connect("inproc://stop")
        self.heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()  #: what came, but pings
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="fake-broker", daemon=True)
        self._thread.start()

    def next_heard(self) -> Heard:
        """Wait for the next request but pings."""
        return self.heard.get(timeout=WAIT_S)

    def all_heard(self) -> list[Heard]:
        """The requests that came and were not looked at yet."""
        return [self.heard.get() for _ in range(self.heard.qsize())]

    def send(self, heard: Heard, payload: bytes) -> None:
        """Send a payload to the peer of that request. For the behaviour, on the fake's own thread."""
        self._socket.send_multipart([heard.peer, b"", payload])

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop_receiver, zmq.POLLIN)
        try:
            while self._stop_receiver not in dict(poller.poll()):
                peer, _, data = self._socket.recv_multipart()
                heard = Heard(peer, data, msgpack.unpackb(data))
                if heard.fields["op"] == "ping":
                    limits = {"message_bytes": self._message_bytes, "tasks": 1_000}
                    self.send(heard, reply(heard, server="fake/1", phase="serving", versions=[1], limits=limits))
                    continue
                self.heard.put(heard)
                for payload in self._behaviour(self, heard):
                    self.send(heard, payload)
        except BaseException as error:  # noqa: BLE001 - raised in the test by `close`
            self._failure = error

    def close(self) -> None:
        """Stop; raises what went wrong on its thread."""
        self._stop_sender.send(b"")
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self._context.destroy(linger=0)
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def one_after_another(*payloads_of: Callable[[Heard], Sequence[bytes]]) -> Behaviour:
    """The n-th request is answered as the n-th of these says; the last one stands for all that follow."""
    steps: Iterator[Callable[[Heard], Sequence[bytes]]] = iter(payloads_of)
    current = [next(steps)]

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        step = current[0]
        current[0] = next(steps, step)
        return step(heard)

    return behave


def lose(_: Heard) -> Sequence[bytes]:
    """No reply."""
    return []


@pytest.fixture
def raw_submit() -> bytes:
    """The bytes of a request that submits one task."""
    task = msgpack.packb({"id": "raw-1", "name": "noop"})
    return bytes(msgpack.packb({"v": 1, "op": "submit", "tag": 7, "tasks": [task]}))


def test_the_fake_loses_a_reply_and_then_answers(raw_submit: bytes) -> None:
    """The first request gets nothing, the second one its verdict, with the tag; both were heard, from one peer."""
    with (
        FakeBroker(one_after_another(lose, lambda heard: [accept(heard)])) as fake,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as socket,
    ):
        socket.linger = 0
        socket.connect(fake.endpoint)
        socket.send_multipart([b"", raw_submit])
        first = fake.next_heard()
        socket.send_multipart([b"", raw_submit])
        _, payload = socket.recv_multipart()
        assert msgpack.unpackb(payload) == {"v": 1, "tag": 7, "verdicts": [{"id": "raw-1", "verdict": "accepted"}]}
        second = fake.next_heard()
        assert (first.peer, first.data, first.ids) == (second.peer, raw_submit, ["raw-1"])
        assert not socket.poll(0)


def test_a_fault_of_the_fake_fails_the_test(raw_submit: bytes) -> None:
    """What its behaviour raises comes out at its end; a test cannot pass because its fake had died."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117 - it comes out of the inner block's end
        with FakeBroker(lambda *_: [bytes(1 // 0)]) as fake, zmq.Context() as context:
            with context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                socket.connect(fake.endpoint)
                socket.send_multipart([b"", raw_submit])
                fake.next_heard()
