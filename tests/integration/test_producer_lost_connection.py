"""A connection that is lost while its replies are read: an error or a resend, and never the end of the process.

For that, no more than so many are read in a row, whatever comes.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from broker.protocol import Op
from producer import AsyncProducer, Producer
from producer.channel import Channel
from producer.endpoint import Endpoint
from producer.replies import Resent
from producer.requests import Requests
from tests.integration.test_producer_delivery import accepting
from tests.integration.test_producer_fake_broker import WAIT_S, FakeBroker, Heard, accept, one_after_another

ROOT = Path(__file__).parents[2]
#: Reads `before` replies one by one, and one more whose connection is lost after it was seen and before it is read.
SCRIPT = """
import sys
import msgpack, psutil, zmq
from broker.protocol import Op
from producer.channel import Channel
from producer.endpoint import Endpoint
from producer.requests import Requests

context, requests = zmq.Context(), Requests()
for before in range(int(sys.argv[1]), int(sys.argv[2])):
    server = zmq.Context()
    rep = server.socket(zmq.REP)
    port = rep.bind_to_random_port("tcp://127.0.0.1")
    channel = Channel(context, Endpoint(f"tcp://127.0.0.1:{port}"), 10.0)
    for number in range(before + 1):
        channel.post(requests.ask(Op.PING))
        while channel._unsent:
            channel._send()
        rep.send(msgpack.packb({"v": 1, "tag": msgpack.unpackb(rep.recv())["tag"]}))
        assert channel.socket.poll(20_000)
        if number == before:
            rep.close()
            server.term()
            # Until the socket's own thread has noticed, and closed its end.
            while any(c.raddr and c.raddr.port == port for c in psutil.Process().net_connections("tcp")):
                pass
        channel.take()
    channel.close()
print("alive")
"""


def test_row_47_a_connection_that_is_lost_between_two_frames_of_a_reply() -> None:
    """libzmq would end the process at every fiftieth reply; see `producer.channel`."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, "45", "55"], capture_output=True, text=True, cwd=ROOT, check=False, timeout=100
    )
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr


def test_a_fresh_socket_needs_no_name_that_an_earlier_one_may_still_have() -> None:
    """libzmq gives back a closed socket's descriptor first, and then what pyzmq names after it: "address in use"."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as earlier:
        for descriptor in range(1_000):
            earlier.bind(f"inproc://monitor.s-{descriptor}")
        Channel(context, Endpoint("tcp://127.0.0.1:1"), 1.0).close()


class Frames:
    """A socket that takes what is sent, and has these replies, each behind its delimiter."""

    def __init__(self, *tags: int) -> None:
        self._frames: Iterator[bytes] = (
            frame for tag in tags for frame in (b"", bytes(msgpack.packb({"v": 1, "tag": tag})))
        )
        self.read = 0

    def send(self, *_: Any) -> None:
        """It is gone."""

    def recv(self, *_: Any) -> bytes:
        """The next frame."""
        frame = next(self._frames, None)
        if frame is None:
            raise zmq.Again
        self.read += 1
        return frame

    def close(self, linger: int) -> None:
        """Nothing is left of it."""


@pytest.fixture
def channel() -> Iterator[Channel]:
    """One that nobody answers."""
    with zmq.Context() as context:
        channel = Channel(context, Endpoint("tcp://127.0.0.1:1"), 10.0)
        yield channel
        channel.close()


@pytest.mark.parametrize("late", [0, 30, 39, 40, 48])
def test_replies_to_nobody_are_passed_over(channel: Channel, late: int) -> None:
    """They are of calls that were given up, and no fault of the one that waits."""
    request = Requests().ask(Op.PING)
    channel.socket.close()
    channel.socket = frames = Frames(*range(late), request.tag)  # type: ignore[assignment]
    channel.post(request)
    assert channel.take() == (request.tag, {"v": 1, "tag": request.tag})
    assert channel.take() is None
    assert frames.read == 2 * (late + 1)
    assert channel.is_idle


def test_more_replies_to_nobody_than_can_be_read_in_a_row_cost_the_connection(channel: Channel) -> None:
    """Rather than the process; what waits is sent again at once, by a fresh one."""
    request = Requests().ask(Op.PING)
    channel.socket.close()
    channel.socket = frames = Frames(*range(49), request.tag)  # type: ignore[assignment]
    assert channel.take() is None
    assert not channel.is_idle
    channel.post(request)
    assert channel.take() is None
    assert frames.read == 2 * 49 + 1
    assert channel.tend(time.monotonic())
    channel.socket.close()
    channel.socket = Frames(request.tag)  # type: ignore[assignment]
    came = channel.take()
    assert came == (request.tag, {"v": 1, "tag": request.tag})
    assert type(came[1]) is Resent
    assert channel.is_idle


def flooding(heard: Heard) -> Sequence[bytes]:
    """As a broker that was stopped, and answers a thousand calls now that were given up meanwhile."""
    return [bytes(msgpack.packb({"v": 1, "tag": 1, "verdicts": []}))] * 1_000 + [accept(heard)]


def test_a_flood_of_late_replies_does_not_spoil_a_call() -> None:
    """Whether its own reply is found behind them, or asked for again."""

    async def use(endpoint: str) -> None:
        async with AsyncProducer(endpoint, timeout_s=WAIT_S, reply_timeout_s=0.2) as producer:
            assert (await producer.submit("noop")).accepted

    for _ in range(5):
        with FakeBroker(one_after_another(flooding, accepting)) as fake:
            asyncio.run(use(fake.endpoint))
        with FakeBroker(one_after_another(flooding, accepting)) as fake, Producer(fake.endpoint) as producer:
            assert producer.submit("noop").accepted
