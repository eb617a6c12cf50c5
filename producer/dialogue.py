"""What a producer says to a broker, in which order, and what it makes of the answers. Pure: no socket, no waiting.

Each method is a generator of steps: what to ask, or how long to pause. `Producer` and `AsyncProducer` take the steps,
one with a blocking socket, one on an event loop, and send the answers back in.

    accepted ◀─ submit ──▶ rejected, and the verdict stands: if each copy that was sent was rejected; else unknown
                 ▲  └────▶ rejected for now: pause, the same bytes again, until the deadline
                 └─ no reply in time: the channel sends the same bytes again; none by the deadline: unknown
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, TypeVar

from broker.protocol import Op, Reason, Retry
from producer.errors import (
    BadReply,
    BadTask,
    LocalFault,
    NoReply,
    NotLetIn,
    RemoteFault,
    TooLarge,
    TurnstileError,
    Unreachable,
)
from producer.packing import pack_task
from producer.patience import at_once_s, next_try
from producer.policy import Policy
from producer.replies import (
    DeadPage,
    Limits,
    Pong,
    Reply,
    Resent,
    TaskStatus,
    decode_dead,
    decode_health,
    decode_pong,
    decode_refusal,
    decode_stats,
    decode_status,
)
from producer.requests import Request, Requests
from producer.task import Task
from producer.verdicts import Rejected, Verdict, decode_verdicts

T = TypeVar("T")


class Unanswered(Enum):
    """What came of a request that got no reply by its deadline."""

    NEVER_SENT = "never sent"  #: there was no connection
    LOST = "lost"  #: sent at least once
    # There was no connection, for the broker
    KEY_NOT_KNOWN = "does not let this producer's key in: its operator can (python -m broker keys create)"
    KEY_NEEDED = "lets in only producers with a key: give one (keys=, or --key and --broker-key)"
    KEY_NOT_ASKED = "has an open door, but this producer has keys: is it the right broker?"
    HANDSHAKE_CUT = "hung up on this producer's keys: is that the public key of the broker there?"


class Ask(NamedTuple):
    """Step: send this request, again and again while no reply comes; the answer is that, or `Unanswered`."""

    request: Request
    until: float  #: how long to wait for the reply, on the dialogue's clock


class Pause(NamedTuple):
    """Step: wait; the answer is an empty reply."""

    seconds: float


Step: TypeAlias = Ask | Pause
Answer: TypeAlias = Reply | Unanswered
Talk: TypeAlias = Generator[Step, Answer, T]


class Dialogue:
    """One producer's side. Any thread may begin a talk; each talk belongs to the thread that began it."""

    def __init__(
        self,
        endpoint: str,
        policy: Policy,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = endpoint
        self.policy = policy
        self.clock = clock
        self.jitter = jitter
        self.requests = Requests()
        self._limits: Limits | None = None

    def submit(self, task: Task) -> Talk[Verdict]:
        """Submit one task. Raises `BadTask`, `Unreachable`, `NoReply`, `BadReply`, `RequestRefused`."""
        until = deadline = self.clock() + self.policy.timeout_s
        request = self.requests.submit([pack_task(task)])
        if self._limits is None or len(request.data) > self._limits.message_bytes:
            self.forget_limits()
            check_size(len(request.data), (yield from self.limits()))
            until = self.until(deadline)
        ids = (task.id,)
        in_doubt = False  # whether a copy was sent that got no verdict
        try:
            while True:
                try:
                    answer = yield Ask(request, until)
                except LocalFault as error:
                    # Such as to have no socket left to send it again by: that does not undo that it was sent.
                    raise NoReply(str(error)) from None
                if isinstance(answer, Unanswered):
                    raise self.silent(answer)
                in_doubt = in_doubt or isinstance(answer, Resent)
                verdict = self.verdicts(answer, ids)[0]
                if verdict.accepted:
                    return verdict
                in_doubt = in_doubt or verdict.reason is Reason.INTERNAL_ERROR
                now = self.clock()
                again = self.next_try(verdict, now, deadline)
                if again is None:
                    if in_doubt:
                        raise self.no_verdict(verdict)
                    return verdict
                yield Pause(again - now)
                until = self.until(deadline)
        except TurnstileError as error:
            if not in_doubt and not isinstance(error, BadReply | NoReply):
                raise
            unknown = self.unknown(error)
            unknown.unknown_ids = ids
            raise unknown from None

    def limits(self) -> Talk[Limits]:
        """The broker's limits; asked for once. `Unreachable` if it does not tell: nothing was submitted yet."""
        if self._limits is not None:
            return self._limits
        try:
            return (yield from self.ping()).limits
        except NoReply as error:
            raise Unreachable(f"{error}; nothing was submitted") from None

    def forget_limits(self) -> None:
        """By now there may be another broker than the one that told them: the next call asks again."""
        self._limits = None

    def ping(self) -> Talk[Pong]:
        """Ask whether the broker is there, and what it takes."""
        pong = decode_pong((yield from self._ask(Op.PING)))
        self._limits = pong.limits
        return pong

    def status(self, task_id: str) -> Talk[TaskStatus | None]:
        """Ask where a task is. `BadTask` if that is no id."""
        if not isinstance(task_id, str):
            hint = ": say task.id" if isinstance(task_id, Task) else ""
            raise BadTask(f"a task is asked for by its id, a str; not {type(task_id).__name__}{hint}")
        return decode_status((yield from self._ask(Op.STATUS, id=task_id)))

    def stats(self) -> Talk[dict[str, Any]]:
        """Ask for the ledger and the gauges."""
        return decode_stats((yield from self._ask(Op.STATS)))

    def health(self) -> Talk[dict[str, Any]]:
        """Ask how the broker is."""
        return decode_health((yield from self._ask(Op.STATS)))

    def dead(self, limit: int, offset: int) -> Talk[DeadPage]:
        """Ask for a page of the dead letters."""
        return decode_dead((yield from self._ask(Op.DEAD, limit=limit, offset=offset)))

    def until(self, deadline: float) -> float:
        """How long to wait for the reply to a try that is made now, for a task with this deadline.

        A try that is made is given the time for its reply: the last one would end in a needless "unknown" otherwise.
        """
        return max(deadline, self.clock() + self.policy.try_s)

    def next_try(self, rejected: Rejected, now: float, deadline: float) -> float | None:
        """When to submit a task with this deadline again, that is rejected now; None if its verdict stands."""
        tried_s = now - (deadline - self.policy.timeout_s)
        return next_try(
            rejected, now, deadline, tried_s=tried_s, jitter=self.jitter(), wait=self.policy.on_full == "wait"
        )

    def verdicts(self, reply: Reply, ids: Sequence[str]) -> list[Verdict]:
        """What the reply to a `submit` says of these tasks. `RequestRefused`, `BadReply`."""
        if "error" not in reply:
            return decode_verdicts(reply, ids)
        self._check_refusal(reply)
        return [Rejected(task_id, Reason.INTERNAL_ERROR, Retry.NOW, None, "") for task_id in ids]

    def silent(self, unanswered: Unanswered) -> RemoteFault:
        """The error to raise when a request got no reply by its deadline."""
        self.forget_limits()  # one that reads less than half as much cuts the connection, and says nothing
        within = f"{self.endpoint} within {self.policy.timeout_s:g} s"
        if unanswered is Unanswered.NEVER_SENT:
            return Unreachable(f"no connection to {within}, so nothing was sent: is a broker running there?")
        if unanswered is Unanswered.LOST:
            return NoReply(f"no reply from {within}")
        return NotLetIn(f"nothing was sent: {self.endpoint} {unanswered.value}")

    def no_verdict(self, rejected: Rejected) -> NoReply:
        """The error to raise for the last rejection of a task of which another copy got no verdict."""
        if rejected.reason is Reason.INTERNAL_ERROR:
            return self._failing()
        return NoReply(f"{self.endpoint} rejected a copy ({rejected.reason}), and an earlier copy got no verdict")

    def unknown(self, error: TurnstileError) -> TurnstileError:
        """The error to raise for this one, if a copy of a task was sent that got no verdict."""
        if isinstance(error, Unreachable):
            return self.silent(Unanswered.LOST)
        return error if isinstance(error, BadReply | BadTask | NoReply) else NoReply(str(error))

    def _failing(self) -> NoReply:
        return NoReply(f"{self.endpoint} answered {Reason.INTERNAL_ERROR.value} for {self.policy.timeout_s:g} s")

    def _ask(self, op: Op, **fields: object) -> Talk[Reply]:
        began = self.clock()
        until = began + self.policy.timeout_s
        try:
            request = self.requests.ask(op, **fields)
        except (TypeError, ValueError, OverflowError) as error:  # what msgpack has no form for
            shown = ", ".join(f"{name}={value!a}" for name, value in fields.items())
            raise LocalFault(f"{op.value} cannot be asked with {shown}: {error}") from None
        while True:
            answer = yield Ask(request, until)
            if isinstance(answer, Unanswered):
                raise self.silent(answer)
            if "error" not in answer:
                return answer
            self._check_refusal(answer)
            now = self.clock()
            pause_s = at_once_s(now - began)
            if now + pause_s > until:
                raise self._failing()
            yield Pause(pause_s)

    def _check_refusal(self, reply: Reply) -> None:
        """Raise what a reply with the field `error` tells of, unless the request is to be sent again, at once."""
        refusal = decode_refusal(reply)
        if refusal.reason is Reason.INTERNAL_ERROR:
            return
        if refusal.reason is Reason.TOO_LARGE:
            self.forget_limits()
        raise refusal


def check_size(request_bytes: int, limits: Limits) -> None:
    """`TooLarge` unless the broker reads a request, with a single task in it, of so many bytes."""
    if request_bytes > limits.message_bytes:
        raise TooLarge(
            f"a task that makes a request of {request_bytes} bytes; this broker reads {limits.message_bytes} "
            "(its --message-bytes): send a reference to the data instead"
        )
