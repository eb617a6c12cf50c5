"""A connection that is lost while its replies are read: an error or a resend, and never the end of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import zmq

from producer.channel import Channel
from producer.endpoint import Endpoint

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
