"""An `AsyncProducer` whose connection must be made anew, and cannot be, for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn

import pytest

from broker.protocol import MAX_IN_FLIGHT
from producer import AsyncProducer, BadReply, LocalFault, NoReply, Task
from producer.channel import Channel
from tests.integration.test_producer_delivery import accepting
from tests.integration.test_producer_fake_broker import WAIT_S, FakeBroker, Heard


def no_socket(*_: object) -> NoReturn:
    """No descriptor is left."""
    raise LocalFault("cannot open a socket: Too many open files")


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
