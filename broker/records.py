"""What a held task is in memory, and what is told of it. Pure.

A record is a header, then the task as received. Header: when the task was accepted, in hundredths of a second since the
queue's epoch (more than a year from the making of the queue fits), and the number of the attempt that is being made, or
that is next, with one bit for the line that the task belongs to. Five bytes rather than nine: with the usual 100-byte
task, the difference is one step of the allocator, 16 bytes a task.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

from broker.protocol import arguments_of
from broker.states import State

_HEADER: Final = struct.Struct("<IB")
_ISOLATED: Final = 0x80
_ATTEMPT: Final = 0x7F  # at most 101: 100 retries
_TICKS_PER_S: Final = 100
_LAST_TICK: Final = 2**32 - 1

#: The epoch of a queue is so long before it is made: so old may a task be that an earlier broker accepted. One that is
#: older counts as so old. A hundred days: three times the longest delay.
LONGEST_AGE_S: Final = 8_640_000.0


def record_of(wire: bytes, accepted_s: float, *, isolated: bool) -> bytes:
    """A record for `wire`, whose first attempt is next. `accepted_s`: seconds since the queue's epoch."""
    return _HEADER.pack(min(int(accepted_s * _TICKS_PER_S), _LAST_TICK), 1 | _ISOLATED if isolated else 1) + wire


def later_attempt(record: bytes, attempts: int) -> bytes:
    """The same record, so many attempts later."""
    tick, attempt = _HEADER.unpack_from(record)
    return _HEADER.pack(tick, attempt + attempts) + wire_of(record)


def wire_of(record: bytes) -> bytes:
    """The task as it was received."""
    return record[_HEADER.size :]


def attempt_of(record: bytes) -> int:
    """The attempt that is being made, or that is next; 1 is the first."""
    return int(_HEADER.unpack_from(record)[1]) & _ATTEMPT


def is_isolated(record: bytes) -> bool:
    """Whether the task is for workers in child hosts."""
    return bool(_HEADER.unpack_from(record)[1] & _ISOLATED)


def age_s_of(record: bytes, now_s: float) -> float:
    """Seconds since it was accepted, to the hundredth. `now_s`: seconds since the queue's epoch."""
    return max(0.0, now_s - float(_HEADER.unpack_from(record)[0]) / _TICKS_PER_S)


class Lease:
    """A worker's hold on one attempt of one task."""

    __slots__ = ("_record", "id")

    def __init__(self, task_id: str, record: bytes) -> None:
        self.id = task_id
        self._record = record

    @property
    def attempt(self) -> int:
        """1 for the first run."""
        return attempt_of(self._record)

    @property
    def wire(self) -> bytes:
        """The task as it was received."""
        return wire_of(self._record)

    def open(self) -> tuple[str, list[Any], dict[str, Any]]:
        """(name, args, kwargs), unpacked afresh."""
        return arguments_of(wire_of(self._record))


@dataclass(frozen=True, slots=True)
class Status:
    """What the queue knows of one task."""

    state: State
    attempts: int | None  #: begun so far; None once it has ended
    due: float | None  #: when it is ready; None unless delayed


@dataclass(frozen=True, slots=True)
class Returned:
    """A task that was accepted and is handed back unfinished."""

    id: str
    wire: bytes
    attempts: int  #: begun so far
    was: State
    due_in_s: float | None = None  #: seconds until it is ready; None unless it was delayed
    expires_in_s: float | None = None  #: seconds until it expires, unless an attempt begins; None: never
    age_s: float = 0.0  #: seconds since it was accepted, by whichever broker

    @property
    def attempts_ended(self) -> int:
        """Without the one that was cut off, if it was running."""
        return self.attempts - (self.was is State.RUNNING)
