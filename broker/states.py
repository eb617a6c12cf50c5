"""The life of a task, as one table.

Everything that can happen to a task is a row here, and what is not a row cannot happen. The table does not know who
causes an event, nor when.

    NEW ──accept──▶ READY ──take──▶ RUNNING ──ack──▶ SUCCEEDED
      └──defer──▶ DELAYED ──due──▶ READY │ ├──retry──▶ DELAYED
                                         │ └──bury──▶ DEAD ──requeue──▶ READY
    READY, DELAYED ──cancel──▶ CANCELLED └ READY ──expire──▶ EXPIRED
    READY, DELAYED, RUNNING ──return──▶ RETURNED
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a task is."""

    NEW = "new"  #: not accepted; only a task's past, never a held task
    READY = "ready"  #: next worker takes it
    DELAYED = "delayed"  #: waits for its backoff or its due time
    RUNNING = "running"  #: a worker holds a lease on it
    SUCCEEDED = "succeeded"
    DEAD = "dead"  #: a dead letter
    CANCELLED = "cancelled"
    EXPIRED = "expired"  #: no attempt began in time
    RETURNED = "returned"  #: accepted, but handed back unfinished at shutdown


class Event(StrEnum):
    """What happens to a task."""

    ACCEPT = "accept"
    DEFER = "defer"
    DUE = "due"
    TAKE = "take"
    ACK = "ack"
    RETRY = "retry"
    BURY = "bury"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REQUEUE = "requeue"
    RETURN = "return"


TABLE: Final[Mapping[State, Mapping[Event, State]]] = {
    State.NEW: {Event.ACCEPT: State.READY, Event.DEFER: State.DELAYED},
    State.READY: {
        Event.TAKE: State.RUNNING,
        Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
        Event.RETURN: State.RETURNED,
    },
    State.DELAYED: {
        Event.DUE: State.READY,
        Event.CANCEL: State.CANCELLED,
        Event.RETURN: State.RETURNED,
    },
    State.RUNNING: {
        Event.ACK: State.SUCCEEDED,
        Event.RETRY: State.DELAYED,
        Event.BURY: State.DEAD,
        Event.RETURN: State.RETURNED,
    },
    State.SUCCEEDED: {},
    State.DEAD: {Event.REQUEUE: State.READY},
    State.CANCELLED: {},
    State.EXPIRED: {},
    State.RETURNED: {},
}

HELD: Final = (State.READY, State.DELAYED, State.RUNNING)  #: these count against the bound
ENDED: Final = (State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED, State.RETURNED)  #: these do not


class IllegalMoveError(Exception):
    """An event that the table does not allow; nothing was changed."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"a task that is {state.value} cannot {event.value}")


def as_text() -> str:
    """The table for people: a line for each move, `python -m broker --states` prints it."""
    lines = []
    for state, events in TABLE.items():
        moves = [f"{event.value:<7} → {target.value}" for event, target in events.items()]
        if state in ENDED:
            moves.insert(0, "the end, unless its operator says" if moves else "the end")
        lines += [f"{state.value if move is moves[0] else '':<10} {move}" for move in moves]
    return "\n".join(lines)
