"""The door under attack: one reply per request, nothing in that does not belong (P1). Rows 8, 18-21, 25, 34, S1, S9."""

from __future__ import annotations

import contextlib
import random
import socket
import time

import msgpack
import psutil
import pytest
import zmq

from producer import Accepted, Producer
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import Raw, packed
from tests.witness import notes

_CLOSED_WITHIN_S = 8.0  # the handshake's two seconds, and a slow machine


def tcp(endpoint: str) -> socket.socket:
    """A plain TCP connection to the door."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)), timeout=_CLOSED_WITHIN_S)


def smuggled(path: str) -> bytes:
    """A submit request, framed as a ZMTP/1 peer would: what an old libzmq fallback took from plain bytes."""
    request = bytes(msgpack.packb({"v": 1, "op": "submit", "tasks": [packed("record", path)]}))
    assert len(request) < 254
    return b"\x01\x00" + b"\x01\x01" + bytes([len(request) + 1, 0]) + request


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 200\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"\x01\x00",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",
    ],
    ids=["get", "post", "tls", "ssh", "silence", "zmtp1", "half a greeting"],
)
def test_rows_21_and_s1_strangers_get_no_task_in(
    start_broker: StartBroker, connect: Connect, witness: str, opening: bytes
) -> None:
    """HTTP, TLS, ssh, silence and old ZMTP: no task gets in, whatever the padding, and the connection is closed."""
    broker = start_broker()
    raw = connect(broker)
    for padding in (b"", b"\r\n", b"A" * 54, b"x" * 246):
        with tcp(broker.endpoint) as stranger:
            try:
                stranger.sendall(opening + padding + smuggled(witness))
                while stranger.recv(4_096):
                    pass  # the greeting that libzmq sends, and then the end
            except ConnectionError:
                pass  # closed in the middle of it: as good
    assert raw.ask("ping")["phase"] == "serving"
    assert raw.stats()["ledger"]["accepted"] == 0
    assert notes(witness) == []


def still_answers(endpoint: str) -> bool:
    """Whether a producer is answered; at the second time at the latest.

    libzmq's REP has a defect: when a message without the empty frame comes from a peer that is gone again, the reply to
    the next request, whoever's that is, is dropped with it. To its producer that is a reply that was lost.
    """
    for _ in range(2):
        with Raw(endpoint) as raw:
            raw.socket.rcvtimeo = 5_000
            with contextlib.suppress(zmq.Again):
                return bool(raw.ask("ping")["phase"] == "serving")
    return False


def test_row_18_a_rude_peer_costs_a_producer_no_task(start_broker: StartBroker, witness: str) -> None:
    """Peers that send no empty frame and go: who loses a reply asks again, and each task runs once."""
    broker = start_broker()
    with zmq.Context() as context, Producer(broker.endpoint, timeout_s=60, reply_timeout_s=0.2) as producer:
        for number in range(30):
            with context.socket(zmq.DEALER) as rude:
                rude.linger = 0
                rude.connect(broker.endpoint)
                rude.send(b"no empty frame")
                if number % 2:
                    rude.poll(5)  # nothing comes: that it may be sent before the end
            assert isinstance(producer.submit("record", witness, number), Accepted)
        while producer.stats()["ledger"]["succeeded"] < 30:
            pass
    assert sorted(note["values"][0] for note in notes(witness)) == list(range(30))


def test_row_18_peers_of_other_kinds(start_broker: StartBroker, connect: Connect) -> None:
    """Sockets that are no REQ, and requests of several frames, let no task in and leave the door open."""
    broker = start_broker()
    with zmq.Context() as context:
        for kind in (zmq.DEALER, zmq.PUSH, zmq.PUB, zmq.ROUTER, zmq.PAIR, zmq.SUB):
            other = context.socket(kind)
            other.linger = 0
            other.sndtimeo = 100
            other.connect(broker.endpoint)
            if kind == zmq.SUB:
                other.setsockopt(zmq.SUBSCRIBE, b"")
            else:
                with contextlib.suppress(zmq.ZMQError):  # some kinds cannot even send
                    other.send(packed("noop"))  # a DEALER without the empty frame: no request
            assert still_answers(broker.endpoint)
            other.close()
        hops = context.socket(zmq.DEALER)
        hops.linger = 0
        hops.rcvtimeo = 20_000
        hops.connect(broker.endpoint)
        hops.send_multipart([b"%d" % number for number in range(1_000)] + [b"", msgpack.packb({"v": 1, "op": "ping"})])
        assert still_answers(broker.endpoint)
        hops.close()
        several = context.socket(zmq.REQ)
        several.linger = 0
        several.rcvtimeo = 20_000
        several.connect(broker.endpoint)
        several.send_multipart([packed("noop"), b"second"])
        assert msgpack.unpackb(several.recv())["error"]["reason"] == "malformed"
        several.close()
    raw = connect(broker)
    assert raw.stats()["ledger"]["accepted"] == 0


def test_row_19_garbage_gets_one_reply_each(start_broker: StartBroker, connect: Connect) -> None:
    """Thousands of broken requests: each is answered with an error, memory stays, and the log stays quiet."""
    broker = start_broker()
    raw = connect(broker)
    rng = random.Random(19)
    good = msgpack.packb({"v": 1, "op": "submit", "tasks": [packed("noop")]})
    process = psutil.Process(broker.pid)
    before = None
    for number in range(5_000):
        kind = number % 3
        if kind == 0:
            data = rng.randbytes(rng.randrange(64))
        elif kind == 1:
            data = good[: rng.randrange(len(good))]
        else:
            data = msgpack.packb({"v": rng.choice([0, 2, None, "1", 1.0, True]), "op": "submit", "tasks": []})
        assert raw.exchange(data)["error"]["reason"] in {"malformed", "unsupported_version"}, data
        if number == 1_000:
            before = process.memory_info().rss
    assert before is not None
    assert process.memory_info().rss - before < 5 * 1024 * 1024
    stats = raw.stats()
    assert (stats["errors"], stats["ledger"]["accepted"]) == (5_000, 0)
    assert len(broker.output.splitlines()) < 50


def test_row_20_deep_huge_and_lying_structures(start_broker: StartBroker, connect: Connect) -> None:
    """Depth, size and false lengths are refused, and the next request is served."""
    raw = connect(start_broker())
    deep = b"\x91" * 30_000 + b"\xc0"
    lying = b"\xdd\xff\xff\xff\xff" + b"\x90" * 100
    wide = b"\xdc\xff\x00" + b"\x90" * 0xFF00
    for data in (deep, lying, wide, b"\xdf\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xc9\x00\x00\x10\x00\x01"):
        assert raw.exchange(data)["error"]["reason"] == "malformed"
        task = b"\x83\xa2id\xa1a\xa4name\xa4noop\xa4args" + data
        reply = raw.ask("submit", tasks=[task])
        verdict = reply["verdicts"][0]
        assert verdict["reason"] == "malformed"
    nested: list[object] = []
    for _ in range(31):
        nested = [nested]
    assert raw.submit("noop", nested[0])["verdict"] == "accepted"
    assert raw.submit("noop", [nested])["reason"] == "malformed"
    raw.wait_for(succeeded=1)


def test_row_8_producers_killed_between_send_and_receive(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """Producers that die before their reply: their tasks run once, and no descriptor is left behind."""
    broker = start_broker()
    raw = connect(broker)
    process = psutil.Process(broker.pid)
    before = process.num_fds()
    for number in range(1_000):
        request = msgpack.packb({"v": 1, "op": "submit", "tasks": [packed("record", witness, id=f"orphan-{number}")]})
        with tcp(broker.endpoint) as dying:
            dying.sendall(zmtp_greeting())
            read_exactly(dying, 64)
            dying.sendall(zmtp_ready(b"REQ"))
            dying.sendall(b"\x01\x00" + b"\x02" + len(request).to_bytes(8, "big") + request)
            dying.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            if number % 2:
                while process.num_fds() > before + 500:  # bounded by the handshake's time-out
                    time.sleep(0.001)
    accepted = raw.stats()["ledger"]["accepted"]
    raw.wait_for(running=0, ready=0)
    ids = [note["id"] for note in notes(witness)]
    assert len(ids) == len(set(ids))
    assert len(ids) >= accepted
    deadline = time.monotonic() + 20
    while process.num_fds() > before + 5:
        assert time.monotonic() < deadline, f"{before} descriptors before, {process.num_fds()} after"
        time.sleep(0.01)


def zmtp_greeting() -> bytes:
    """ZMTP 3.0, NULL mechanism, as its specification lays it out (rfc.zeromq.org/spec/23)."""
    return b"\xff" + b"\x00" * 8 + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\x00" + b"\0" * 31


def zmtp_ready(kind: bytes) -> bytes:
    """The READY command of a peer of this socket type."""
    body = b"\x05READY" + b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return b"\x04" + bytes([len(body)]) + body


def read_exactly(stream: socket.socket, size: int) -> bytes:
    """So many bytes, or an error."""
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def test_row_25_a_slow_producer_holds_up_nobody(start_broker: StartBroker, connect: Connect) -> None:
    """While one peer sends its request byte by byte, others are answered between any two of its bytes."""
    broker = start_broker()
    raw = connect(broker)
    request = msgpack.packb({"v": 1, "op": "ping"})
    with tcp(broker.endpoint) as slow:
        slow.sendall(zmtp_greeting())
        read_exactly(slow, 64)
        slow.sendall(zmtp_ready(b"REQ"))
        frames = b"\x01\x00" + bytes([0, len(request)]) + request
        for byte in frames:
            slow.sendall(bytes([byte]))
            assert raw.ask("ping")["phase"] == "serving"
        reply = b""
        while b"turnstile" not in reply:
            reply += slow.recv(4_096)


def test_row_s9_what_comes_from_outside_cannot_write_log_lines(start_broker: StartBroker, connect: Connect) -> None:
    """Newlines and escape codes in errors and names are shown, not obeyed; long ones are cut."""
    broker = start_broker()
    raw = connect(broker)
    evil = "\x1b[31m red\nturnstile stopped outcome=finished " + "x" * 10_000
    assert "\\x1b" in raw.submit(evil[:100])["detail"]
    raw.submit("sleep", evil)  # the TypeError names no argument, so the text must come in by another way:
    raw.ask("submit", tasks=[packed("raises", evil)])  # KeyError: the text itself
    raw.wait_for(dead=2)
    broker.stop()
    lines = [line for line in broker.output.splitlines() if "dead letter" in line]
    assert len(lines) == 2
    assert "\x1b" not in broker.output
    assert all(len(line) < 4_100 for line in lines)
    assert broker.report["dead"] == 2


def test_row_18_a_message_that_is_no_request_holds_up_nothing(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """A DEALER without the empty frame wakes the door for nothing: delayed tasks run, and SIGTERM is heard."""
    broker = start_broker()
    raw = connect(broker)
    raw.submit("record", witness, delay_s=0.3)
    with zmq.Context() as context, context.socket(zmq.DEALER) as rude:
        rude.linger = 0
        rude.connect(broker.endpoint)
        rude.send(b"no empty frame")
        deadline = time.monotonic() + 20
        while not notes(witness):  # nothing is asked meanwhile: a request would wake the door
            assert time.monotonic() < deadline, "the delayed task never ran"
            time.sleep(0.01)
        assert broker.stop() == 0
