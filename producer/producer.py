"""The producer for threads and processes. What it says is `producer.dialogue`'s affair; here the steps are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast, overload

import zmq

from broker.protocol import DEFAULT_ENDPOINT
from producer.batch import Batch
from producer.dialogue import Ask, Dialogue, Talk
from producer.endpoint import Endpoint
from producer.errors import ProducerClosed, TurnstileError
from producer.keys import Keys
from producer.line import Line
from producer.policy import OnFull, Policy
from producer.pool import Pool
from producer.replies import DeadPage, Pong, TaskStatus
from producer.task import Task, task_of
from producer.verdicts import Verdict

P = ParamSpec("P")
T = TypeVar("T")

_CLOSED_MEANWHILE: Final = "the producer was closed during the call"


class Producer:
    """Submits tasks to one broker.

    Threads may share one. A process that was forked may go on using its parent's: it makes connections of its own.
    Nothing is connected before the first call. A context manager that closes it.
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
        """`on_full`: whether a task that is turned away for now is rejected, or waits and is submitted again.

        `timeout_s`: how long a call waits for a connection and a reply, and a task for room; a try that is made by then
        is given the time for its reply, so a call may last `reply_timeout_s` longer. `reply_timeout_s`: after so long
        without a reply, the same bytes are sent again. `keys`: for a broker whose door is closed to strangers.
        `ValueError`, `BadEndpoint` for what cannot be.
        """
        policy = Policy(on_full, timeout_s, reply_timeout_s)
        self._dialogue = Dialogue(endpoint, policy)
        self._pool = Pool(Endpoint(endpoint, keys), policy.try_s)

    @overload
    def submit(self, what: Task, /) -> Verdict: ...
    @overload
    def submit(self, what: str, /, *args: object, **kwargs: object) -> Verdict: ...
    @overload
    def submit(self, what: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Verdict: ...
    def submit(self, what: Task | str | Callable[..., object], /, *args: object, **kwargs: object) -> Verdict:
        """Submit one task: a `Task`, or a task name or decorated task function with its arguments.

        A rejection is returned. With `on_full="wait"`, one that is for now is not, until `timeout_s` has passed or the
        broker names a moment after that. Raises `BadTask` if it cannot be sent; `Unreachable` if nothing was sent for
        want of a connection; `NoReply` if the outcome is unknown (its `ids`: to submit them again is safe); `BadReply`
        and `RequestRefused` for a broker that is none, or another one. Does not wait for the task to run.
        """
        task = task_of(what, args, kwargs)
        return self._run(self._dialogue.submit(task))

    def submit_many(
        self, tasks: Iterable[Task], *, on_verdict: Callable[[Verdict], None] | None = None
    ) -> list[Verdict]:
        """Submit many tasks, up to 100 in a request, with several requests in flight; their verdicts, in their order.

        `tasks` is read as replies come in; nothing of a request is sent before it is full, or the input ends. With
        `on_full="wait"`, each task waits for room for up to `timeout_s` from when it was first sent, and meanwhile no
        new ones are read. `on_verdict` is called for each task once its verdict stands, in the order in which that
        happens. What it raises ends the call, and leaves what is in flight unknown; so does what `tasks` raises, but
        for `BadTask`. Raises what `submit` does, after what is in flight was answered; the error has `verdicts` (of the
        tasks read so far, in their order, None where there is none) and `unknown_ids`.
        """
        batch = Batch(tasks, self._dialogue, self._run(self._dialogue.limits()))
        line = self._pool.borrow()
        try:
            while True:
                while (ask := batch.next_ask()) is not None:
                    line.post(ask.request)
                if batch.is_over:
                    break
                for verdict in _advance(batch, line):
                    if on_verdict is not None:
                        on_verdict(verdict)
        except zmq.ContextTerminated:
            batch.abandon(ProducerClosed(_CLOSED_MEANWHILE))
        finally:
            self._pool.give_back(line)
        if on_verdict is not None:
            for rejected in batch.left:
                on_verdict(rejected)
        return batch.result()

    def status(self, task_id: str) -> TaskStatus | None:
        """Where a task is; None if the broker never accepted it, or has forgotten it."""
        return self._run(self._dialogue.status(task_id))

    def stats(self) -> dict[str, Any]:
        """The broker's ledger and gauges, as the protocol describes them."""
        return self._run(self._dialogue.stats())

    def health(self) -> dict[str, Any]:
        """How the broker is: `state` is `ok`, `degraded` or `draining`; `reasons` is a list of reason and detail."""
        return self._run(self._dialogue.health())

    def dead(self, limit: int = 20, offset: int = 0) -> DeadPage:
        """A page of the dead letters that the broker keeps, newest first; `limit` is 1 to 50."""
        return self._run(self._dialogue.dead(limit, offset))

    def ping(self) -> Pong:
        """Ask whether the broker is there, and what it takes."""
        return self._run(self._dialogue.ping())

    def close(self) -> None:
        """Close all connections; what was not handed to the network is dropped. Twice is fine.

        Calls that are under way end with `NoReply` where a task was sent, else with `ProducerClosed`, as later ones do.
        """
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, talk: Talk[T]) -> T:
        line = self._pool.borrow()
        try:
            return _take_steps(talk, line)
        finally:
            self._pool.give_back(line)


def _take_steps(talk: Talk[T], line: Line) -> T:
    """Do what `talk` says until it ends; what it returns."""
    try:
        step = next(talk)
        while True:
            try:
                answer = line.ask(step) if isinstance(step, Ask) else line.pause(step.seconds)
            except TurnstileError as error:
                step = talk.throw(error)
            except zmq.ContextTerminated:
                step = talk.throw(ProducerClosed(_CLOSED_MEANWHILE))
            else:
                step = talk.send(answer)
    except StopIteration as end:
        return cast("T", end.value)


def _advance(batch: Batch, line: Line) -> list[Verdict]:
    """Wait for the next reply, or until the batch has something else to do; the verdicts that this settles."""
    line.check_process()
    try:
        came = line.collect(batch.wake_at)
        if came is not None:
            return batch.answered(*came)
    except TurnstileError as error:
        batch.abandon(error)
        return []
    for tag in batch.unanswered() if line.is_refused else batch.overdue():
        batch.answered(tag, line.give_up(tag))
    return []
