"""Coroutines that submit over one connection: many at once, lost replies, cancellation. Fake brokers and a real one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import zmq

from broker.protocol import MAX_IN_FLIGHT
from producer import (
    Accepted,
    AsyncProducer,
    BadReply,
    BadTask,
    LocalFault,
    NoReply,
    Producer,
    ProducerClosed,
    Rejected,
    Task,
    Unreachable,
    Verdict,
)
from producer.channel import Channel
from tests import jobs
from tests.integration.test_producer_delivery import accepting, free_endpoint, rejecting
from tests.integration.test_producer_fake_broker import (
    WAIT_S,
    FakeBroker,
    Heard,
    accept,
    lose,
    one_after_another,
    reject,
    reply,
)
from tests.integration.test_producer_real_broker import RunningBroker, broker

__all__ = ["broker"]  # the fixture


async def heard_by(fake: FakeBroker) -> Heard:
    """The next request that the fake hears."""
    return await asyncio.to_thread(fake.next_heard)


def test_all_methods_against_a_real_broker(broker: RunningBroker) -> None:
    """What `Producer` does, `AsyncProducer` does."""

    async def use() -> None:
        seen: list[Verdict] = []
        async with AsyncProducer(broker.endpoint) as producer:
            first = await producer.submit(jobs.noop, 1)
            assert isinstance(first, Accepted)
            assert isinstance(await producer.submit("noob"), Rejected)
            delayed = Task.of("noop").but(delay_s=600)
            assert (await producer.submit(delayed)).accepted
            status = await producer.status(delayed.id)
            assert status is not None
            assert status.state == "delayed"
            verdicts = await producer.submit_many((Task.of("noop", n) for n in range(1_050)), on_verdict=seen.append)
            assert len(verdicts) == len(seen) == 1_050
            assert all(verdict.accepted for verdict in verdicts)
            assert (await producer.ping()).phase == "serving"
            assert (await producer.stats())["ledger"]["accepted"] >= 1_052
            assert (await producer.dead(limit=1)).total >= 0
            with pytest.raises(BadTask, match=r"args\[0\]: a set"):
                await producer.submit("noop", {1})

    asyncio.run(use())


def test_hundreds_of_calls_at_once_get_their_own_verdicts(broker: RunningBroker) -> None:
    """500 coroutines over one connection: replies find their calls."""

    async def use() -> None:
        async with AsyncProducer(broker.endpoint, timeout_s=WAIT_S) as producer:
            tasks = [Task.of("noop", number) for number in range(500)]
            verdicts = await asyncio.gather(*map(producer.submit, tasks))
            assert verdicts == [Accepted(task.id) for task in tasks]

    asyncio.run(use())


def test_no_more_requests_are_in_flight_than_the_protocol_allows() -> None:
    """A broker that answers only when eight requests wait gets eight by one connection, never a ninth."""
    waiting: list[Heard] = []
    most = 0
    peers = set()

    def behave(fake: FakeBroker, heard: Heard) -> Sequence[bytes]:
        nonlocal most
        waiting.append(heard)
        peers.add(heard.peer)
        most = max(most, len(waiting))
        if len(waiting) == MAX_IN_FLIGHT:
            for one in reversed(waiting):
                fake.send(one, accept(one))
            waiting.clear()
        return []

    async def use(endpoint: str) -> None:
        async with AsyncProducer(endpoint, timeout_s=600, reply_timeout_s=600) as producer:
            tasks = [Task.of("noop", number) for number in range(5 * MAX_IN_FLIGHT)]
            assert await asyncio.gather(*map(producer.submit, tasks)) == [Accepted(task.id) for task in tasks]

    with FakeBroker(behave) as fake:
        asyncio.run(use(fake.endpoint))
    assert most == MAX_IN_FLIGHT
    assert len(peers) == 1


def test_row_6_no_broker_is_an_error_by_the_deadline_for_every_call() -> None:
    """More calls than may be in flight: those that wait for their turn end at their deadline too."""

    async def use() -> None:
        async with AsyncProducer(free_endpoint(), timeout_s=0.3) as producer:
            calls = (producer.submit("noop") for _ in range(3 * MAX_IN_FLIGHT))
            ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), WAIT_S)
            assert {type(end) for end in ends} == {Unreachable}

    asyncio.run(use())


def test_a_broker_that_comes_up_before_the_deadline_is_reached() -> None:
    """A call that began without a broker goes on as soon as there is one."""

    async def use() -> None:
        endpoint = free_endpoint()
        async with AsyncProducer(endpoint, timeout_s=WAIT_S) as producer:
            call = asyncio.create_task(producer.submit("noop"))
            await asyncio.sleep(0)  # it has begun
            with FakeBroker(one_after_another(accepting), endpoint):
                assert (await call).accepted

    asyncio.run(use())


def test_row_7_a_lost_reply_is_asked_for_again_with_the_same_bytes() -> None:
    """Resends are the same requests, by a fresh connection; also those of the calls beside it."""

    async def use(endpoint: str) -> list[Verdict]:
        async with AsyncProducer(endpoint, timeout_s=WAIT_S, reply_timeout_s=0.1) as producer:
            return await asyncio.gather(*(producer.submit("noop", number) for number in range(3)))

    with FakeBroker(one_after_another(lose, lose, lose, accepting)) as fake:
        assert all(verdict.accepted for verdict in asyncio.run(use(fake.endpoint)))
        heard = fake.all_heard()
    assert [one.data for one in heard[:3]] == [one.data for one in heard[3:]]
    assert len({one.peer for one in heard[:3]}) == len({one.peer for one in heard[3:]}) == 1
    assert heard[0].peer != heard[3].peer


def test_no_reply_by_the_deadline_is_unknown_and_says_whose() -> None:
    """As with `Producer`."""

    async def use(endpoint: str) -> None:
        async with AsyncProducer(endpoint, timeout_s=0.3, reply_timeout_s=0.1) as producer:
            task = Task.of("noop")
            with pytest.raises(NoReply) as caught:
                await producer.submit(task)
            assert caught.value.ids == (task.id,)

    with FakeBroker(one_after_another(lose)) as fake:
        asyncio.run(use(fake.endpoint))
        assert len(fake.all_heard()) >= 2


def test_a_bad_reply_ends_the_calls_under_way_and_not_the_producer() -> None:
    """Which call garbage belongs to cannot be known: each hears of it, with its own task's id; then all goes on."""

    async def use(endpoint: str) -> None:
        async with AsyncProducer(endpoint, timeout_s=WAIT_S, reply_timeout_s=WAIT_S) as producer:
            tasks = [Task.of("noop"), Task.of("noop")]
            ends = await asyncio.gather(*map(producer.submit, tasks), return_exceptions=True)
            assert [type(end) for end in ends] == [BadReply, BadReply]
            assert [end.unknown_ids for end in ends if isinstance(end, BadReply)] == [(task.id,) for task in tasks]
            assert (await producer.submit("noop")).accepted

    with FakeBroker(one_after_another(lose, lambda _: [b"\xc1"], accepting)) as fake:
        asyncio.run(use(fake.endpoint))


def test_waiting_for_room_lets_others_go_on() -> None:
    """While one coroutine waits for room, another one's task is accepted, over the same connection."""

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        (task,) = heard.tasks
        return [reject(heard, retry_after=300.0) if task["name"] == "big" else accept(heard)]

    async def use(fake: FakeBroker) -> None:
        async with AsyncProducer(fake.endpoint, on_full="wait", timeout_s=600) as producer:
            waits = asyncio.create_task(producer.submit("big"))
            await heard_by(fake)
            assert (await producer.submit("small")).accepted
            assert not waits.done()
            waits.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waits

    with FakeBroker(behave) as fake:
        asyncio.run(use(fake))


def test_waiting_batches_submit_again_until_accepted() -> None:
    """`submit_many` with `on_full="wait"`: turned away twice, accepted at last."""

    async def use(endpoint: str) -> None:
        async with AsyncProducer(endpoint, on_full="wait") as producer:
            verdicts = await producer.submit_many([Task.of("noop", number) for number in range(150)])
            assert all(verdict.accepted for verdict in verdicts)

    turned_away = rejecting(retry_after=0.01)
    with FakeBroker(one_after_another(turned_away, turned_away, accepting)) as fake:
        asyncio.run(use(fake.endpoint))


def test_a_cancelled_call_leaves_the_others_alone() -> None:
    """Its late reply is dropped; the next call over the same connection gets its own."""

    def behave(fake: FakeBroker, heard: Heard) -> Sequence[bytes]:
        held.append(heard)
        return [accept(one) for one in held] if len(held) == 2 else []

    held: list[Heard] = []

    async def use(fake: FakeBroker) -> None:
        async with AsyncProducer(fake.endpoint, timeout_s=WAIT_S, reply_timeout_s=WAIT_S) as producer:
            call = asyncio.create_task(producer.submit("noop"))
            first = await heard_by(fake)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await producer.submit("noop")).accepted
            assert (await heard_by(fake)).peer == first.peer

    with FakeBroker(behave) as fake:
        asyncio.run(use(fake))


def test_a_cancelled_batch_leaves_nothing_behind() -> None:
    """Its requests are given up with it, and the producer goes on."""

    async def use(fake: FakeBroker) -> None:
        async with AsyncProducer(fake.endpoint, timeout_s=WAIT_S, reply_timeout_s=WAIT_S) as producer:
            call = asyncio.create_task(producer.submit_many([Task.of("noop", number) for number in range(500)]))
            await heard_by(fake)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert len(asyncio.all_tasks()) == 1
            assert (await producer.submit("noop")).accepted

    with FakeBroker(one_after_another(lose, accepting)) as fake:
        asyncio.run(use(fake))


def test_when_replies_stop_coming_the_error_has_what_is_known() -> None:
    """As with `Producer`: the first request's verdicts, and the ids of the others."""

    async def use(endpoint: str) -> None:
        async with AsyncProducer(endpoint, timeout_s=0.4, reply_timeout_s=0.1) as producer:
            tasks = [Task.of("noop", number) for number in range(250)]
            with pytest.raises(NoReply) as caught:
                await producer.submit_many(tasks)
            assert caught.value.verdicts == [Accepted(task.id) for task in tasks[:100]] + [None] * 150
            assert set(caught.value.ids) == {task.id for task in tasks[100:]}

    with FakeBroker(one_after_another(accepting, lose)) as fake:
        asyncio.run(use(fake.endpoint))


def test_closing_ends_the_calls_under_way() -> None:
    """They hear `NoReply`; later calls hear that the producer is closed; closing twice is fine."""

    async def use(fake: FakeBroker) -> None:
        producer = AsyncProducer(fake.endpoint, timeout_s=600, reply_timeout_s=600)
        call = asyncio.create_task(producer.submit("noop"))
        (task_id,) = (await heard_by(fake)).ids
        await producer.close()
        await producer.close()
        with pytest.raises(NoReply) as caught:
            await call
        assert caught.value.ids == (task_id,)
        with pytest.raises(ProducerClosed):
            await producer.submit("noop")

    with FakeBroker(one_after_another(lose)) as fake:
        asyncio.run(use(fake))


def test_closing_ends_a_wait_for_room_and_a_wait_for_a_turn() -> None:
    """What waits for room is known to be rejected: `ProducerClosed`. What was sent, or may be by now, is `NoReply`."""

    async def use(fake: FakeBroker) -> None:
        producer = AsyncProducer(fake.endpoint, on_full="wait", timeout_s=600, reply_timeout_s=600)
        alone, batch = Task.of("big"), [Task.of("big") for _ in range(3)]
        calls: list[asyncio.Task[object]] = [asyncio.create_task(producer.submit(alone))]
        calls.append(asyncio.create_task(producer.submit_many(batch)))
        for _ in range(2):
            await heard_by(fake)
        await producer.stats()  # by now the rejections, which came before this answer, were read
        calls += [asyncio.create_task(producer.submit("small")) for _ in range(2 * MAX_IN_FLIGHT)]
        for _ in range(1 + MAX_IN_FLIGHT):
            await heard_by(fake)
        await producer.close()
        ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), WAIT_S)
        assert [type(end) for end in ends[:2]] == [ProducerClosed] * 2
        assert {type(end) for end in ends[2:]} == {NoReply}

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        if heard.fields["op"] == "stats":
            return [reply(heard, stats={})]
        return [reject(heard, retry_after=300.0)] if heard.tasks[0]["name"] == "big" else []

    with FakeBroker(behave) as fake:
        asyncio.run(use(fake))


def test_another_event_loop_is_told_apart() -> None:
    """A producer belongs to the loop that first used it: a clear error elsewhere, never a hang."""
    with FakeBroker(one_after_another(accepting)) as fake:
        loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
        producer = AsyncProducer(fake.endpoint)
        try:
            assert loops[0].run_until_complete(producer.submit("noop")).accepted
            with pytest.raises(LocalFault, match="event loop"):
                loops[1].run_until_complete(producer.submit("noop"))
            loops[0].run_until_complete(producer.close())
        finally:
            for loop in loops:
                loop.close()


def open_descriptors() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("connected", [True, False])
def test_a_reply_whose_signal_was_swallowed_is_found(monkeypatch: pytest.MonkeyPatch, connected: bool) -> None:
    """A socket's descriptor signals once; whoever sends may take the signal of a reply away, and must look for it then.

    Here sending goes on until the reply is there, and takes its signal. Nothing else will come to wake the call up.
    """
    send = Channel._send

    def send_and_swallow(channel: Channel) -> bool:
        sent = send(channel)
        if sent:
            assert channel.socket.poll(20_000) == zmq.POLLIN
        return sent

    async def use(endpoint: str) -> None:
        async with AsyncProducer(endpoint, timeout_s=600, reply_timeout_s=600) as producer:
            first = asyncio.create_task(producer.ping() if connected else producer.submit("noop"))
            await asyncio.sleep(0)  # it has begun
            with FakeBroker(one_after_another(accepting), endpoint):
                await asyncio.wait_for(first, WAIT_S)
                assert (await asyncio.wait_for(producer.submit("noop"), WAIT_S)).accepted

    monkeypatch.setattr(Channel, "_send", send_and_swallow)
    asyncio.run(use(free_endpoint()))


@pytest.mark.parametrize("kind", [Producer, AsyncProducer])
def test_no_descriptor_is_left_behind(kind: type[Producer] | type[AsyncProducer]) -> None:
    """Fifty producers, each with a lost reply and so with a second socket, leave no socket open."""
    lost: set[bytes] = set()

    def behave(_: FakeBroker, heard: Heard) -> Sequence[bytes]:
        if heard.data in lost:
            return [accept(heard)]
        lost.add(heard.data)
        return []

    async def use_async(endpoint: str) -> None:
        async with AsyncProducer(endpoint, reply_timeout_s=0.01) as producer:
            assert (await producer.submit("noop")).accepted

    def use(endpoint: str) -> None:
        if kind is AsyncProducer:
            asyncio.run(use_async(endpoint))
            return
        with Producer(endpoint, reply_timeout_s=0.01) as producer:
            assert producer.submit("noop").accepted

    with FakeBroker(behave) as fake:
        use(fake.endpoint)
        before = open_descriptors()
        for _ in range(50):
            use(fake.endpoint)
        # The fake's own ends of the last connections may still be closing.
        assert open_descriptors() < before + 25
