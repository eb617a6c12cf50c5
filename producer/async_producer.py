"""The producer for asyncio. What it says is `producer.dialogue`'s affair; here the steps are taken, on a loop."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast, overload

from broker.protocol import DEFAULT_ENDPOINT
from producer.async_line import AsyncLine
from producer.batch import Batch
from producer.dialogue import Answer, Ask, Dialogue, Talk
from producer.endpoint import Endpoint
from producer.errors import LocalFault, ProducerClosed, TurnstileError
from producer.keys import Keys
from producer.policy import OnFull, Policy
from producer.replies import DeadPage, Pong, TaskStatus
from producer.task import Task, task_of
from producer.verdicts import Verdict

P = ParamSpec("P")
T = TypeVar("T")


class AsyncProducer:
    """Submits tasks to one broker, from coroutines of one event loop; any number of calls may be under way.

    Each method does what `Producer`'s of that name does. All calls share one connection. A call that is cancelled
    leaves its task unknown: held, or not. An async context manager that closes it.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        on_full: OnFull = "reject",
        timeout_s: float = 5.0,
        reply_timeout_s: float = 1.0,
        keys: Keys | None = None,
    ) -> None:
        """As `Producer`."""
        self._policy = Policy(on_full, timeout_s, reply_timeout_s)
        self._endpoint = Endpoint(endpoint, keys)
        self._dialogue = Dialogue(endpoint, self._policy)
        self._lines: dict[int, AsyncLine] = {}  # by process: one that was forked makes its own, and leaves these alone
        self._is_closed = False

    @overload
    async def submit(self, what: Task, /) -> Verdict: ...
    @overload
    async def submit(self, what: str, /, *args: object, **kwargs: object) -> Verdict: ...
    @overload
    async def submit(self, what: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Verdict: ...
    async def submit(self, what: Task | str | Callable[..., object], /, *args: object, **kwargs: object) -> Verdict:
        """Submit one task: a `Task`, or a task name or decorated task function with its arguments."""
        task = task_of(what, args, kwargs)
        return await self._run(self._dialogue.submit(task))

    async def submit_many(
        self, tasks: Iterable[Task], *, on_verdict: Callable[[Verdict], None] | None = None
    ) -> list[Verdict]:
        """Submit many tasks; their verdicts, in their order."""
        batch = Batch(tasks, self._dialogue, await self._run(self._dialogue.limits()))
        line = self._open_line()
        asking: dict[asyncio.Task[Answer], int] = {}  # → the request's tag
        try:
            while True:
                while (ask := batch.next_ask()) is not None:
                    asking[asyncio.create_task(line.ask(ask))] = ask.request.tag
                if batch.is_over:
                    break
                for verdict in await _advance(batch, line, asking):
                    if on_verdict is not None:
                        on_verdict(verdict)
        finally:
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if on_verdict is not None:
            for rejected in batch.left:
                on_verdict(rejected)
        return batch.result()

    async def status(self, task_id: str) -> TaskStatus | None:
        """Where a task is; None if the broker never accepted it, or has forgotten it."""
        return await self._run(self._dialogue.status(task_id))

    async def stats(self) -> dict[str, Any]:
        """The broker's ledger and gauges, as the protocol describes them."""
        return await self._run(self._dialogue.stats())

    async def health(self) -> dict[str, Any]:
        """How the broker is: `state` is `ok`, `degraded` or `draining`; `reasons` is a list of reason and detail."""
        return await self._run(self._dialogue.health())

    async def dead(self, limit: int = 20, offset: int = 0) -> DeadPage:
        """A page of the dead letters that the broker keeps, newest first; `limit` is 1 to 50."""
        return await self._run(self._dialogue.dead(limit, offset))

    async def ping(self) -> Pong:
        """Ask whether the broker is there, and what it takes."""
        return await self._run(self._dialogue.ping())

    async def close(self) -> None:
        """As `Producer.close`."""
        self._is_closed = True
        line = self._lines.pop(os.getpid(), None)
        if line is not None:
            line.close()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if os.getpid() in getattr(self, "_lines", ()):  # not so if it could not be made
            _warn(f"{self!r} was not closed: its connection stays while its loop does", ResourceWarning, source=self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open_line(self) -> AsyncLine:
        if self._is_closed:
            raise ProducerClosed("this producer is closed")
        line = self._lines.get(os.getpid())
        if line is None:
            line = self._lines[os.getpid()] = AsyncLine(self._endpoint, self._policy.try_s)
        if line.loop is not asyncio.get_running_loop():
            raise LocalFault("an AsyncProducer serves the event loop that first used it: make one for each")
        return line

    async def _run(self, talk: Talk[T]) -> T:
        """Do what `talk` says until it ends; what it returns."""
        line = self._open_line()
        try:
            step = next(talk)
            while True:
                try:
                    answer = await (line.ask(step) if isinstance(step, Ask) else line.pause(step.seconds))
                except TurnstileError as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(answer)
        except StopIteration as end:
            return cast("T", end.value)


async def _advance(batch: Batch, line: AsyncLine, asking: dict[asyncio.Task[Answer], int]) -> list[Verdict]:
    """Wait for the next answer, or until the batch has something else to do; the verdicts that this settles."""
    wait_s = max(0.0, batch.wake_at - time.monotonic())
    settled: list[Verdict] = []
    try:
        if not asking:
            await line.pause(wait_s)
            return []
        done, _ = await asyncio.wait(asking, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            settled += batch.answered(asking.pop(one), one.result())
    except TurnstileError as error:
        batch.abandon(error)
    return settled
