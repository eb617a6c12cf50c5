"""The proxy does what it says, and the same again for the same seed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.proxy import USUAL, ChaosProxy


@contextmanager
def echo() -> Iterator[str]:
    """A server that sends back what it gets; its endpoint."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4_096):
                    connection.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(20)


def through(proxy: ChaosProxy, data: bytes, timeout_s: float = 20.0) -> bytes | None:
    """What comes back of these bytes; None if nothing more comes within the time."""
    host, port = proxy.endpoint.removeprefix("tcp://").split(":")
    back = b""
    with socket.create_connection((host, int(port)), timeout=timeout_s) as client:
        try:
            client.sendall(data)
            while len(back) < len(data) and (part := client.recv(4_096)):
                back += part
        except TimeoutError:
            return None
        except ConnectionError:
            pass
    return back


@pytest.mark.parametrize("fate", ["plain", "delay", "split", "late"])
def test_what_is_only_hindered_arrives_whole(fate: str) -> None:
    """Bytes arrive as they were sent, in their order."""
    data = bytes(range(256)) * 20
    with echo() as endpoint, ChaosProxy(endpoint, 1, {fate: 1}) as proxy:
        assert through(proxy, data) == data
        assert fate == "plain" or proxy.suffered[fate] > 0


def test_a_cut_connection_ends_on_the_way() -> None:
    """Some bytes pass, at most as many as were drawn; then both ends are reset."""
    data = b"x" * 10_000
    with echo() as endpoint, ChaosProxy(endpoint, 2, {"cut": 1}) as proxy:
        back = through(proxy, data)
        assert back is not None
        assert len(back) < len(data)
        assert proxy.suffered["cut"] == 1


@pytest.mark.parametrize("fate", ["drop", "half_open"])
def test_a_silent_connection_stays_open(fate: str) -> None:
    """Nothing more comes, and nobody is told."""
    with echo() as endpoint, ChaosProxy(endpoint, 3, {fate: 1}) as proxy:
        assert through(proxy, b"x" * 10_000, timeout_s=0.3) is None
        assert proxy.suffered[fate] == 1


def test_the_same_seed_draws_the_same_fates() -> None:
    """Whatever the traffic: the n-th connection has the same fate; another seed draws others."""
    drawn = []
    for seed in (5, 5, 6):
        with echo() as endpoint, ChaosProxy(endpoint, seed) as proxy:
            for _ in range(30):
                host, port = proxy.endpoint.removeprefix("tcp://").split(":")
                socket.create_connection((host, int(port)), timeout=20).close()
            while sum(proxy.drawn.values()) < 30:
                pass
            drawn.append(dict(proxy.drawn))
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) <= set(USUAL)
