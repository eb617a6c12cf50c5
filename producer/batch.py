"""Many tasks, submitted in requests of many: what to ask next, and what each answer means. Pure: no socket, no waiting.

Tasks are taken from the input a request at a time, as replies come in: packing overlaps with the broker's work, and
memory does not grow with what is still to come. While tasks wait for room, nothing new is taken; what was turned away
goes first, each task at the moment that the broker named for it. Requests in flight grow from one to `MAX_IN_FLIGHT`
while all is accepted, and fall back to one when something is turned away for now.

An error stops the input; what is in flight is still waited for. Then it is raised, and carries what is known.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

import msgpack

from broker.protocol import MAX_IN_FLIGHT, Reason
from producer.dialogue import Answer, Ask, Dialogue, Unanswered, check_size
from producer.errors import BadTask, RequestRefused, TooLarge, TurnstileError
from producer.packing import pack_task
from producer.replies import Limits, Resent
from producer.requests import BIN_BYTES, ENVELOPE_BYTES, size_alone
from producer.task import Task
from producer.verdicts import Rejected, Verdict

_TASKS_IN_REQUEST: Final = 100  # more save next to nothing, and make the broker's other producers wait longer


@dataclass(slots=True)
class _Item:
    """A task that was taken from the input."""

    number: int  #: its position there
    id: str
    wire: bytes
    deadline: float = 0.0  #: until when it is submitted again; from when it is first sent


@dataclass(slots=True)
class _Chunk:
    """The tasks of one request."""

    items: list[_Item] = field(default_factory=list)
    size: int = ENVELOPE_BYTES  #: of the request, in bytes, or a little more
    until: float = 0.0  #: until when its reply is waited for

    def add(self, item: _Item, longest: int) -> bool:
        """Add a task, if the request does not become longer than `longest`; whether it fits."""
        size = self.size + len(item.wire) + BIN_BYTES
        if size > longest and self.items:
            return False
        self.items.append(item)
        self.size = size
        return True


class _Waiting(NamedTuple):
    """A task that will be submitted again. Sorts by `due`, and then by `number`."""

    due: float
    number: int
    item: _Item
    last: Rejected  #: the verdict that stands meanwhile


class Batch:
    """One call's tasks. On one thread."""

    def __init__(self, tasks: Iterable[Task], dialogue: Dialogue, limits: Limits) -> None:
        self._tasks = iter(tasks)
        self._dialogue = dialogue
        self._limits = limits
        self._packer = msgpack.Packer().pack  # kept: to make one takes as long as to use it
        self._carried: _Item | None = None  # did not fit into the last request
        self._exhausted = False
        self._window = 1  # requests that may be in flight
        self._in_flight: dict[int, _Chunk] = {}  # by tag
        self._waiting: list[_Waiting] = []  # heap
        self._verdicts: list[Verdict | None] = []  # one for each task that was taken
        self._in_doubt: dict[int, str] = {}  # number → id: a copy was sent that got no verdict, and none was accepted
        self._error: TurnstileError | None = None
        self.left: list[Rejected] = []  #: verdicts that stand because the batch was stopped; no answer settles them

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to ask or to wait for; `result` tells what came of it."""
        if self._in_flight:
            return False
        return self._error is not None or (self._exhausted and self._carried is None and not self._waiting)

    @property
    def wake_at(self) -> float:
        """Until when replies may be waited for; then `overdue` or `next_ask` has something to say."""
        moments = [chunk.until for chunk in self._in_flight.values()]
        if self._waiting and len(self._in_flight) < self._window:
            moments.append(self._waiting[0].due)
        return min(moments)

    def next_ask(self) -> Ask | None:
        """The next request to send; None if there is none now. What the input raises passes through."""
        if self._error is not None or len(self._in_flight) >= self._window:
            return None
        chunk = _Chunk()
        (self._fill_with_due if self._waiting else self._fill_with_new)(chunk)
        if not chunk.items:
            return None
        request = self._dialogue.requests.submit([item.wire for item in chunk.items])
        chunk.until = self._dialogue.until(max(item.deadline for item in chunk.items))
        self._in_flight[request.tag] = chunk
        return Ask(request, chunk.until)

    def unanswered(self) -> list[int]:
        """The tags of all requests in flight."""
        return list(self._in_flight)

    def overdue(self) -> list[int]:
        """The tags of the requests that are not waited for any longer. `answered` must follow for each."""
        now = self._dialogue.clock()
        return [tag for tag, chunk in self._in_flight.items() if chunk.until <= now]

    def answered(self, tag: int, answer: Answer) -> list[Verdict]:
        """Take in the answer to a request; the verdicts it settles. `BadReply` if it is none: `abandon` must follow."""
        chunk = self._in_flight[tag]
        verdicts: list[Verdict] = []
        if answer is Unanswered.LOST or isinstance(answer, Resent):
            self._doubt(chunk)
        if isinstance(answer, Unanswered):
            self._stop(self._dialogue.silent(answer))
        else:
            try:
                verdicts = self._dialogue.verdicts(answer, [item.id for item in chunk.items])
            except RequestRefused as refusal:
                self._stop(refusal)
        del self._in_flight[tag]
        return self._settle(chunk.items, verdicts)

    def abandon(self, error: TurnstileError) -> None:
        """What comes in is not to be trusted, or nothing will: nothing more is waited for."""
        for chunk in self._in_flight.values():
            self._doubt(chunk)
        self._in_flight.clear()
        self._stop(error)

    def result(self) -> list[Verdict]:
        """The verdicts, in the order of the input, once the batch is over; raises what stopped it."""
        error = self._error
        if error is None:
            return cast("list[Verdict]", self._verdicts)  # all are settled
        if self._in_doubt:
            error = self._dialogue.unknown(error)
        error.unknown_ids = tuple(self._in_doubt.values())
        error.verdicts = self._verdicts
        raise error

    def _fill_with_new(self, chunk: _Chunk) -> None:
        """Take the next tasks of the input."""
        longest, most = self._limits.message_bytes, min(_TASKS_IN_REQUEST, self._limits.tasks)
        if self._carried is not None:
            chunk.add(self._carried, longest)
            self._carried = None
        while len(chunk.items) < most and (item := self._take()) is not None:
            if not chunk.add(item, longest):
                self._carried = item
                break
        deadline = self._dialogue.clock() + self._dialogue.policy.timeout_s  # not sooner: the input may be slow
        for item in chunk.items:
            item.deadline = deadline

    def _fill_with_due(self, chunk: _Chunk) -> None:
        """Take the tasks that should come back by now."""
        waiting, now = self._waiting, self._dialogue.clock()
        while waiting and waiting[0].due <= now and len(chunk.items) < min(_TASKS_IN_REQUEST, self._limits.tasks):
            if not chunk.add(waiting[0].item, self._limits.message_bytes):
                break
            heapq.heappop(waiting)

    def _take(self) -> _Item | None:
        """The next task of the input; None if there is none, or if it cannot be sent, which stops the batch."""
        number = len(self._verdicts)
        try:
            task = next(self._tasks)
            wire = pack_task(task, self._packer)
            if ENVELOPE_BYTES + len(wire) + BIN_BYTES > self._limits.message_bytes:
                check_size(size_alone(wire), self._limits)
        except StopIteration:
            self._exhausted = True
            return None
        except BadTask as error:  # also one that the input raises where it makes its tasks
            if isinstance(error, TooLarge):
                self._dialogue.forget_limits()
            self._stop(type(error)(f"task number {number} (from 0) of the batch: {error}"))
            return None
        self._verdicts.append(None)
        return _Item(number, task.id, wire)

    def _settle(self, items: list[_Item], verdicts: list[Verdict]) -> list[Verdict]:
        """Keep the verdicts that stand, and return them; the other tasks wait for their next try."""
        settled: list[Verdict] = []
        for item, verdict in zip(items, verdicts, strict=False):  # there are none for a request without a reply
            if verdict.accepted:
                self._in_doubt.pop(item.number, None)
            elif self._goes_on(item, verdict):
                continue
            self._verdicts[item.number] = verdict
            settled.append(verdict)
        self._window = 1 if self._waiting else min(self._window + 1, MAX_IN_FLIGHT)
        return settled

    def _goes_on(self, item: _Item, verdict: Rejected) -> bool:
        """Whether this verdict is not the last word on its task."""
        if verdict.reason is Reason.INTERNAL_ERROR:
            self._in_doubt[item.number] = item.id
        due = None if self._error else self._dialogue.next_try(verdict, self._dialogue.clock(), item.deadline)
        if due is not None:
            heapq.heappush(self._waiting, _Waiting(due, item.number, item, verdict))
        elif item.number in self._in_doubt:
            self._stop(self._dialogue.no_verdict(verdict))
        else:
            return False
        return True

    def _doubt(self, chunk: _Chunk) -> None:
        self._in_doubt.update((item.number, item.id) for item in chunk.items)

    def _stop(self, error: TurnstileError) -> None:
        """Take and submit nothing more. The first error is the one that is raised."""
        self._error = self._error or error
        for _, number, _, last in self._waiting:
            if number not in self._in_doubt:
                self._verdicts[number] = last
                self.left.append(last)
        self._waiting.clear()
