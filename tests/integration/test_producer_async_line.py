"""An `AsyncProducer` whose connection must be made anew, and cannot be for a while; and moments of its line that a busy
event loop brings about now and then: here each is made, and looked at.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Sequence
from typing import NoReturn

import pytest

from broker.protocol import MAX_IN_FLIGHT, Op
from producer import AsyncProducer, BadReply, LocalFault, NoReply, Task
from producer.async_line import AsyncLine, _Call
from producer.channel import Channel
from producer.dialogue import Ask, Unanswered
from producer.endpoint import Endpoint
from producer.requests import Requests
from tests.integration.test_producer_delivery import accepting, free_endpoint
from tests.integration.test_producer_fake_broker import WAIT_S, FakeBroker, Heard, lose, one_after_another


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
        answered, waiting = line.loop.create_future(), line.loop.create_future()
        line._calls = {1: _Call(answered, math.inf), 2: _Call(waiting, math.inf)}
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


def test_a_connection_that_cannot_be_made_anew_is_made_by_a_later_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reply that was none, while no descriptor is left: each call says so; when there are some, all is well."""

    async def use(fake: FakeBroker) -> None:
        async with AsyncProducer(fake.endpoint, timeout_s=WAIT_S) as producer:
            await producer.ping()
            with pytest.raises(BadReply):
                await producer.submit("bad")
            with monkeypatch.context() as none_left:
                none_left.setattr(Channel, "_connect", no_socket)
                for _ in range(2 * MAX_IN_FLIGHT):  # none of them keeps a turn
                    with pytest.raises(LocalFault, match="cannot open a socket"):
                        await producer.stats()
            assert (await producer.submit("noop")).accepted

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        if heard.fields["op"] == "submit" and heard.tasks[0]["name"] == "bad":
            return [b"\xc1"]
        return accepting(heard)

    with FakeBroker(behave) as fake:
        asyncio.run(use(fake))


def test_a_call_whose_time_is_up_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that was busy finds both to be due: the end of the call, and another try for want of a reply."""

    async def use(fake: FakeBroker) -> None:
        async with AsyncProducer(fake.endpoint, timeout_s=0.1, reply_timeout_s=0.1) as producer:
            await producer.ping()
            call = asyncio.create_task(producer.submit("noop"))
            await asyncio.to_thread(fake.next_heard)
            monkeypatch.setattr(Channel, "connect_anew", no_socket)
            time.sleep(0.2)  # not to wait for something, but to be busy
            with pytest.raises(NoReply, match="no reply from"):
                await call

    with FakeBroker(one_after_another(lose)) as fake:
        asyncio.run(use(fake))


def test_a_producer_that_is_not_closed_is_warned_of() -> None:
    """Its loop holds its descriptors. One that was closed, or never used, is none of it."""

    async def use(endpoint: str) -> None:
        for _ in range(2):
            async with AsyncProducer(endpoint) as producer:
                await producer.ping()
            AsyncProducer(endpoint)
        producer = AsyncProducer(endpoint)
        await producer.ping()
        line = producer._lines[os.getpid()]
        with pytest.warns(ResourceWarning, match="was not closed") as warned:
            del producer
        assert len(warned) == 1
        line.close()

    with FakeBroker(one_after_another(accepting)) as fake:
        asyncio.run(use(fake.endpoint))


def test_a_request_that_cannot_be_sent_again_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply, and no descriptor for another try: the call ends with that, long before its deadline."""

    async def use(fake: FakeBroker) -> None:
        async with AsyncProducer(fake.endpoint, timeout_s=3_600, reply_timeout_s=0.2) as producer:
            await producer.ping()
            task = Task.of("noop")
            monkeypatch.setattr(Channel, "_connect", no_socket)
            with pytest.raises(NoReply, match="cannot open a socket") as caught:
                await asyncio.wait_for(producer.submit(task), WAIT_S)
            assert caught.value.unknown_ids == (task.id,)
            monkeypatch.undo()
            assert (await producer.ping()).phase == "serving"

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        return [] if heard.fields["op"] == "submit" else accepting(heard)

    with FakeBroker(behave) as fake:
        asyncio.run(use(fake))


def no_socket(*_: object) -> NoReturn:
    """No descriptor is left."""
    raise LocalFault("cannot open a socket: Too many open files")
