"""A channel that is waited on by an event loop, shared by all calls of one `AsyncProducer`.

At most `MAX_IN_FLIGHT` requests are in flight; further calls wait for their turn. Replies find their calls by tag.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final, NamedTuple

from broker.protocol import MAX_IN_FLIGHT
from producer.channel import Channel, open_context
from producer.dialogue import Answer, Ask, Unanswered
from producer.endpoint import Endpoint
from producer.errors import BadReply, LocalFault, ProducerClosed, TurnstileError
from producer.replies import Reply

_CLOSED_MEANWHILE: Final = "the producer was closed during the call"


class _Call(NamedTuple):
    """A request that waits for its reply."""

    # A fault is a result, not an exception: a call that is cancelled meanwhile does not come for it: no defect.
    answer: asyncio.Future[Answer | TurnstileError]
    until: float  #: how long, on the monotonic clock


class AsyncLine:
    """Asks over one channel. On the event loop that it was made in."""

    def __init__(self, endpoint: Endpoint, try_s: float) -> None:
        self.loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._try_s = try_s
        self._context = open_context()
        self._turns = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._calls: dict[int, _Call] = {}  # by tag
        self._closed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None  # for when the channel is to be tended
        self._channel = Channel(self._context, self._endpoint, try_s)
        self._is_spoilt = False  # what came in on it was no reply: the next call makes another one
        self._listen()

    async def ask(self, ask: Ask) -> Answer:
        """The answer to one request. `BadReply` if something else came; `ProducerClosed` if the line was closed."""
        try:
            async with asyncio.timeout(ask.until - time.monotonic()):
                await self._turns.acquire()
        except TimeoutError:
            return Unanswered.NEVER_SENT
        if self._closed.is_set():
            self._turns.release()
            raise ProducerClosed(_CLOSED_MEANWHILE)
        tag, call = ask.request.tag, _Call(self.loop.create_future(), ask.until)
        unanswered = None
        try:
            if self._channel.is_refused or self._is_spoilt:
                self._renew()  # of a refused one, libzmq does not try again; this call does: the key may be known now
            self._calls[tag] = call
            self._channel.post(ask.request)
            self._attend()  # sending may have swallowed the signal of a reply
            await asyncio.wait({call.answer}, timeout=max(0.0, ask.until - time.monotonic()))
            if not call.answer.done():
                self._attend()  # if the loop was busy with other things until now, the reply lies there unread
        finally:
            self._turns.release()
            if self._calls.pop(tag, None) is not None and not call.answer.done():
                unanswered = self._channel.give_up(tag)
        if unanswered is not None:
            return unanswered
        answer = call.answer.result()
        if isinstance(answer, TurnstileError):
            raise answer
        return answer

    async def pause(self, seconds: float) -> Reply:
        """Wait; an empty reply. `ProducerClosed` as soon as the line is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return {}
        raise ProducerClosed(_CLOSED_MEANWHILE)

    def close(self) -> None:
        """Close the socket; the calls under way end with `ProducerClosed`."""
        self._closed.set()
        if self._timer is not None:
            self._timer.cancel()
        self._fail_calls(ProducerClosed(_CLOSED_MEANWHILE))
        self._drop_channel()
        self._context.term()

    def _attend(self) -> None:
        """Hand out the replies that have come. Called whenever the socket's file descriptor says that something has."""
        if self._is_spoilt:
            return
        try:
            while (came := self._channel.take()) is not None:
                tag, reply = came
                self._calls[tag].answer.set_result(reply)
            self._channel.look()
            if self._channel.is_refused:
                self._give_up(math.inf)
        except BadReply as error:
            self._fail_calls(error)
            self._ignore()
            self._is_spoilt = True
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None and not self._is_spoilt and self._channel.silent_at < math.inf:
            self._timer = self.loop.call_later(self._channel.silent_at - time.monotonic(), self._tend)

    def _tend(self) -> None:
        """Have what is unanswered sent again, if it is time for that."""
        self._attend()
        self._timer = None
        now = time.monotonic()
        if not self._is_spoilt:
            self._give_up(now)  # nobody would hear of what is sent for those
        if not self._is_spoilt and now >= self._channel.silent_at:
            self._ignore()
            try:
                self._channel.tend(now)
            except LocalFault as error:
                for tag, call in self._calls.items():
                    if not call.answer.done():
                        self._channel.give_up(tag)
                self._fail_calls(error)
            self._listen()
            self._attend()
        self._set_timer()

    def _listen(self) -> None:
        self.loop.add_reader(self._channel.socket.FD, self._attend)
        self.loop.add_reader(self._channel.monitor.FD, self._attend)

    def _ignore(self) -> None:
        self.loop.remove_reader(self._channel.socket.FD)
        self.loop.remove_reader(self._channel.monitor.FD)

    def _renew(self) -> None:
        fresh = Channel(self._context, self._endpoint, self._try_s)  # first: if that cannot be, the old one stays
        self._drop_channel()
        self._channel = fresh
        self._is_spoilt = False
        self._listen()

    def _drop_channel(self) -> None:
        self._ignore()
        self._channel.close()

    def _give_up(self, now: float) -> None:
        """End the calls that wait until `now` at most."""
        for tag, call in self._calls.items():
            if call.until <= now and not call.answer.done():
                call.answer.set_result(self._channel.give_up(tag))

    def _fail_calls(self, error: TurnstileError) -> None:
        for call in self._calls.values():
            if not call.answer.done():
                call.answer.set_result(type(error)(str(error)))  # one each: an error is told whose tasks it is about
