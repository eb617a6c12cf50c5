"""A producer's lines when it is closed, or runs out of sockets, in the middle of a call."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any, NoReturn

import pytest
import zmq

import producer.pool
from broker.protocol import Op
from producer import BadEndpoint, LocalFault, ProducerClosed
from producer.endpoint import Endpoint
from producer.line import Line
from producer.pool import Pool, _Share
from producer.requests import Requests

ENDPOINT = Endpoint("tcp://127.0.0.1:1")


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[zmq.Socket[bytes]]:
    """Every socket that is made from now on."""
    made: list[zmq.Socket[bytes]] = []
    original = zmq.Context.socket

    def socket(self: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
        made.append(original(self, kind))
        return made[-1]

    monkeypatch.setattr(zmq.Context, "socket", socket)
    return made


def share_of(pool: Pool) -> _Share:
    """What this process has of it."""
    return pool._shares[os.getpid()]


def test_two_threads_that_begin_a_pool_share_what_the_first_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other one has made is closed: nothing is left to the collector."""
    pool = Pool(ENDPOINT, 1.0)
    made: list[_Share] = []
    lines: list[Line] = []

    def make() -> _Share:
        share = _Share()
        made.append(share)
        if len(made) == 1:
            lines.append(pool.borrow())  # as another thread would, before this one is back
        return share

    monkeypatch.setattr(producer.pool, "_Share", make)
    lines.append(pool.borrow())
    assert share_of(pool) is made[1]
    assert [share.context.closed for share in made] == [True, False]
    for line in lines:
        pool.give_back(line)
    pool.close()


def test_a_pool_that_is_closed_while_it_begins_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, which found nothing to close yet: nothing of it stays open."""
    pool = Pool(ENDPOINT, 1.0)
    made: list[zmq.Context[zmq.Socket[bytes]]] = []

    def close_and_make() -> _Share:
        pool.close()
        share = _Share()
        made.append(share.context)
        return share

    monkeypatch.setattr(producer.pool, "_Share", close_and_make)
    for _ in range(2):
        with pytest.raises(ProducerClosed, match="this producer is closed"):
            pool.borrow()
    assert [context.closed for context in made] == [True]
    assert pool._shares == {}


def test_a_pool_that_is_closed_while_it_makes_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, just now: that is a closed producer, and no fault of libzmq's."""
    pool = Pool(ENDPOINT, 1.0)

    def close_and_make(*args: Any) -> Line:
        pool.close()
        return Line(*args)

    monkeypatch.setattr(producer.pool, "Line", close_and_make)
    with pytest.raises(ProducerClosed, match="this producer is closed"):
        pool.borrow()


def test_a_pool_without_a_socket_left_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local fault, which ends with its cause; the pool is not closed by it."""
    pool = Pool(ENDPOINT, 1.0)
    with monkeypatch.context() as none_left:
        none_left.setattr(zmq.Context, "socket", refuse)
        with pytest.raises(LocalFault, match="cannot open a socket: Too many open files"):
            pool.borrow()
    line = pool.borrow()
    assert line.is_idle
    pool.give_back(line)
    pool.close()
    assert line.socket.closed


def test_a_pool_without_a_descriptor_for_its_first_call_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds the sockets needs one of its own."""
    pool = Pool(ENDPOINT, 1.0)
    with monkeypatch.context() as none_left:
        none_left.setattr(zmq, "Context", refuse)
        with pytest.raises(LocalFault, match="cannot open a socket: Too many open files"):
            pool.borrow()
    pool.give_back(pool.borrow())
    pool.close()


def refuse(*_: object) -> NoReturn:
    """No descriptor is left."""
    raise zmq.ZMQError(errno.EMFILE)


def test_a_line_that_was_refused_while_it_was_idle_connects_anew(sockets: list[zmq.Socket[bytes]]) -> None:
    """Its key may be known again by now: of a refused connection, libzmq does not try again."""
    pool = Pool(ENDPOINT, 1.0)
    line = pool.borrow()
    told, line.monitor = share_of(pool).context.socket(zmq.PAIR), share_of(pool).context.socket(zmq.PAIR)
    told.bind("inproc://told")
    line.monitor.connect("inproc://told")
    pool.give_back(line)
    told.send_multipart([struct.pack("=hi", zmq.Event.HANDSHAKE_FAILED_AUTH, 400), b"tcp://127.0.0.1:1"])
    refused = line.socket
    assert pool.borrow() is line
    line.post(Requests().ask(Op.PING))
    assert line.collect(0.0) is None
    assert not line.is_refused
    assert refused.closed
    assert not line.socket.closed
    for one in sockets:
        one.close()
    pool.close()


def test_more_threads_than_libzmq_thinks_of_have_a_socket_each() -> None:
    """Three for each of a few thousand; the limit of the system's descriptors is another one."""
    pool = Pool(ENDPOINT, 1.0)
    pool.give_back(pool.borrow())
    assert share_of(pool).context.get(zmq.MAX_SOCKETS) >= 3 * 4_000
    pool.close()


def test_two_threads_that_close_a_pool_share_its_lines() -> None:
    """The list is empty when the second one comes to take the line that it has seen there: it is content."""
    pool = Pool(ENDPOINT, 1.0)
    line = pool.borrow()

    class Contested(list[Line]):
        def pop(self, index: int = -1, /) -> Line:  # type: ignore[override]
            super().pop(index).close()  # the other thread, a moment earlier
            return super().pop(index)

    share_of(pool).idle = Contested()
    pool.give_back(line)
    context = share_of(pool).context
    pool.close()
    assert line.socket.closed
    assert context.closed
    with pytest.raises(ProducerClosed):
        pool.borrow()


def test_a_place_where_no_connection_can_be_begun_is_named(sockets: list[zmq.Socket[bytes]]) -> None:
    """A path too long for a socket: it looks like an endpoint, and the system refuses it. Nothing stays open."""
    pool = Pool(Endpoint("ipc:///" + "x" * 200), 1.0)
    with pytest.raises(BadEndpoint, match=r"cannot connect to 'ipc:///x+': File name too long"):
        pool.borrow()
    assert [one.closed for one in sockets] == [True, True]
    context = share_of(pool).context
    pool.close()
    assert context.closed


def test_a_connection_that_no_descriptor_is_left_for_is_no_bad_place(
    sockets: list[zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one went to the socket: still a local fault, and all is closed."""
    pool = Pool(ENDPOINT, 1.0)
    connect = zmq.Socket.connect

    def none_is_left(self: zmq.Socket[bytes], where: str) -> None:
        refuse() if self.type == zmq.DEALER else connect(self, where)

    with monkeypatch.context() as none_left:
        none_left.setattr(zmq.Socket, "connect", none_is_left)
        with pytest.raises(LocalFault, match="cannot open a socket: Too many open files") as caught:
            pool.borrow()
    assert type(caught.value) is LocalFault
    assert all(one.closed for one in sockets)
    pool.close()


def test_a_pool_that_is_closed_while_it_connects_leaves_nothing_open(
    sockets: list[zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that was made just before is closed, so that the other thread, which waits for it, ends the context."""
    pool = Pool(ENDPOINT, 1.0)
    connect = zmq.Socket.connect

    def closed(self: zmq.Socket[bytes], where: str) -> None:
        if self.type == zmq.DEALER:
            pool._is_closed = True
            raise zmq.ContextTerminated
        connect(self, where)

    monkeypatch.setattr(zmq.Socket, "connect", closed)
    with pytest.raises(ProducerClosed):
        pool.borrow()
    assert [one.closed for one in sockets] == [True, True]
    context = share_of(pool).context
    pool.close()
    assert context.closed


def test_a_context_that_ends_by_itself_is_no_closed_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ended it, it was not `close`: what libzmq says is not hidden."""
    pool = Pool(ENDPOINT, 1.0)

    def terminated(*_: object) -> NoReturn:
        raise zmq.ContextTerminated

    with monkeypatch.context() as ended:
        ended.setattr(producer.pool, "Line", terminated)
        with pytest.raises(zmq.ContextTerminated):
            pool.borrow()
    context = share_of(pool).context
    pool.close()
    assert context.closed
