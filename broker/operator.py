"""What an operator can ask for beside what producers can: the ops of the operator's door. On the owner's thread.

Dead letters are shown, requeued and discarded, tasks cancelled, the workers paused and resumed. Each op that names
tasks tells for each what became of it; nothing else has changed then.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias

from broker.dispatcher import Dispatcher
from broker.log import ALWAYS
from broker.protocol import arguments_of, id_of, ids_of
from broker.queue import Offer

_log = logging.getLogger("turnstile.broker")


#: What can be asked for, by name: each takes the fields of a request, and gives those of its reply.
Ops: TypeAlias = Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]


class OperatorOp(StrEnum):
    """What a request at the operator's door can ask for, beside what any producer can."""

    LETTER = "letter"
    REQUEUE = "requeue"
    DISCARD = "discard"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


class TaskOutcome(StrEnum):
    """What became of a task that the operator named; for `cancel` it can be any state of a task, too."""

    REQUEUED = "requeued"
    DISCARDED = "discarded"
    NO_LETTER = "no_letter"  #: no dead letter of this id is kept
    CONFLICT = "conflict"  #: its id was used again since
    DRAINING = "draining"
    FULL = "full"
    UNKNOWN = "unknown"  #: never accepted, or forgotten


_OF_REQUEUE: Final[Mapping[Offer | None, TaskOutcome]] = {
    None: TaskOutcome.NO_LETTER,
    Offer.ACCEPTED: TaskOutcome.REQUEUED,
    Offer.CONFLICT: TaskOutcome.CONFLICT,
    Offer.DRAINING: TaskOutcome.DRAINING,
    Offer.FULL: TaskOutcome.FULL,
}


class Operator:
    """Does what an operator asks for, and logs that it was asked for."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.ops: Ops = {
            OperatorOp.LETTER.value: self._letter,
            OperatorOp.REQUEUE.value: self._requeue,
            OperatorOp.DISCARD.value: self._discard,
            OperatorOp.CANCEL.value: self._cancel,
            OperatorOp.PAUSE.value: self._pause,
            OperatorOp.RESUME.value: self._resume,
        }

    def _letter(self, request: Mapping[str, Any]) -> dict[str, Any]:
        letter = self._dispatcher.letter(id_of(request))
        if letter is None:
            return {"letter": None}
        _, args, kwargs = arguments_of(letter.wire)
        return {"letter": {**letter.as_map(), "args": args, "kwargs": kwargs}}

    def _requeue(self, request: Mapping[str, Any]) -> dict[str, Any]:
        ids = ids_of(request)
        return _told("requeue", {one: _OF_REQUEUE[self._dispatcher.requeue(one)].value for one in ids})

    def _discard(self, request: Mapping[str, Any]) -> dict[str, Any]:
        discard, ids = self._dispatcher.discard, ids_of(request)
        done, not_done = TaskOutcome.DISCARDED.value, TaskOutcome.NO_LETTER.value
        return _told("discard", {one: done if discard(one) else not_done for one in ids})

    def _cancel(self, request: Mapping[str, Any]) -> dict[str, Any]:
        states = self._dispatcher.cancel(ids_of(request))
        return _told("cancel", {one: (state or TaskOutcome.UNKNOWN).value for one, state in states.items()})

    def _pause(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._dispatcher.pause()
        _log.warning("paused by its operator: no attempt begins", extra=ALWAYS)
        return {"paused": True}

    def _resume(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._dispatcher.resume()
        _log.warning("resumed by its operator", extra=ALWAYS)
        return {"paused": False}


def _told(verb: str, outcomes: Mapping[str, str]) -> dict[str, Any]:
    counts = ", ".join(f"{outcome}: {count}" for outcome, count in Counter(outcomes.values()).items())
    _log.info("operator: %s of %d tasks (%s)", verb, len(outcomes), counts, extra=ALWAYS)
    return {"outcomes": [{"id": task_id, "outcome": outcome} for task_id, outcome in outcomes.items()]}
