"""Moments of an `AsyncLine` that a busy event loop brings about now and then: here each is made, and looked at."""

from __future__ import annotations

import asyncio
import math
import time
from typing import NoReturn

import pytest

from broker.protocol import MAX_IN_FLIGHT, Op
from producer import LocalFault
from producer.async_line import AsyncLine
from producer.channel import Channel
from producer.dialogue import Ask, Unanswered
from producer.endpoint import Endpoint
from producer.requests import Requests
from tests.integration.test_producer_delivery import free_endpoint


def test_a_call_whose_turn_does_not_come_was_never_sent() -> None:
    """At its deadline it ends, with no trace left: who is in flight keeps its turn, and there are no more turns."""

    async def use() -> None:
        line = AsyncLine(Endpoint(free_endpoint()), 1.0)
        for _ in range(MAX_IN_FLIGHT):
            await line._turns.acquire()
        late = Ask(Requests().ask(Op.PING), time.monotonic())
        assert await line.ask(late) is Unanswered.NEVER_SENT
        assert line._calls == {}
        assert line._channel.is_idle
        line._turns.release()
        await line._turns.acquire()
        assert line._turns.locked()
        line.close()

    asyncio.run(use())


def test_a_connection_that_cannot_be_made_anew_leaves_an_answer_that_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that has its answer, and did not run on yet, keeps it; one that waits hears of the fault."""

    async def use() -> None:
        line = AsyncLine(Endpoint(free_endpoint()), 1.0)
        line._calls = {1: line.loop.create_future(), 2: line.loop.create_future()}
        answered, waiting = line._calls.values()
        answered.set_result({"v": 1})
        given_up: list[int] = []
        monkeypatch.setattr(Channel, "give_up", lambda _, tag: given_up.append(tag))
        monkeypatch.setattr(Channel, "tend", no_socket)
        moments = iter([math.inf, 0.0])  # it is silent from when `_tend` looks on, and until then
        monkeypatch.setattr(Channel, "silent_at", property(lambda _: next(moments, math.inf)))
        line._tend()
        assert given_up == [2]
        assert answered.result() == {"v": 1}
        assert isinstance(waiting.result(), LocalFault)
        assert line.loop.remove_reader(line._channel.socket.FD), "it listens no more"
        line._calls = {}
        line.close()

    asyncio.run(use())


def no_socket(*_: object) -> NoReturn:
    """No descriptor is left."""
    raise LocalFault("cannot open a socket: Too many open files")
