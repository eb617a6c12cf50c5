"""A producer's lines when it is closed, or runs out of sockets, in the middle of a call."""

from __future__ import annotations

import errno

import pytest
import zmq

import producer.pool
from producer import LocalFault, ProducerClosed
from producer.endpoint import Endpoint
from producer.line import Line
from producer.pool import Pool

ENDPOINT = Endpoint("tcp://127.0.0.1:1")


class Stubborn(Line):
    """A line that does as its pool's test says while it is made."""

    @staticmethod
    def before() -> None:
        """What happens then."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint, try_s: float) -> None:
        self.before()
        super().__init__(context, endpoint, try_s)


def test_a_pool_that_is_closed_while_it_makes_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, just now: that is a closed producer, and no fault of libzmq's."""
    pool = Pool(ENDPOINT, 1.0)
    monkeypatch.setattr(producer.pool, "Line", Stubborn)
    monkeypatch.setattr(Stubborn, "before", pool.close)
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


def refuse(*_: object) -> None:
    """No descriptor is left."""
    raise zmq.ZMQError(errno.EMFILE)


def test_two_threads_that_close_a_pool_share_its_lines() -> None:
    """The list is empty when the second one comes to take the line that it has seen there: it is content."""
    pool = Pool(ENDPOINT, 1.0)
    line = pool.borrow()

    class Contested(list[Line]):
        def pop(self, index: int = -1, /) -> Line:  # type: ignore[override]
            super().pop(index).close()  # the other thread, a moment earlier
            return super().pop(index)

    pool._idle = Contested()
    pool.give_back(line)
    pool.close()
    assert line.socket.closed
    assert pool._context.closed
    with pytest.raises(ProducerClosed):
        pool.borrow()
