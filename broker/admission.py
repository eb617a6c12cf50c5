"""Who gets in: each submitted task gets its verdict here.

First what the task is (well formed, a known name, fitting arguments), which needs nobody else; then whether there is
room, which the queue knows.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from broker.clock import Clock
from broker.dispatcher import Dispatcher
from broker.pressure import NOTHING_KEPT, Pressure
from broker.protocol import ADVICE, Reason, RefusedError, Retry, decode_task, task_id_of
from broker.queue import Offer
from worker_host.tasks import TaskFunction

#: A broker that drains is gone by its deadline; before a successor can be there, asking again is of no use.
_AFTER_DRAIN_S: Final = 1.0

#: What is told of an offer that was refused, but for `FULL`.
_REFUSALS: Final = {
    Offer.CONFLICT: (
        Reason.DUPLICATE_CONFLICT,
        "this id was accepted before, with other bytes: choose a new id for a new task",
    ),
    Offer.DRAINING: (Reason.DRAINING, "the broker is shutting down"),
}
_HINTS_KEPT: Final = 64  # a producer with a wrong name sends the same one again and again
_FULL: Final = "the queue is full"
_FULL_FOR_YOU: Final = "the queue is full, but for the room that is kept for producers that were told to come back now"

_ACCEPTED: Final = (
    Offer.ACCEPTED
)  # read for every task; to read it from its enum takes longer than all else in its line


class Admission:
    """Judges submitted tasks. On the owner's thread."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        functions: Mapping[str, TaskFunction],
        pressure: Pressure,
        clock: Clock,
        capacity_bytes: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._functions = functions
        self._pressure = pressure
        self._clock = clock
        self._capacity_bytes = capacity_bytes
        self._hints: dict[str, str] = {}  # unknown name → what its refusal adds
        self._next_search = 0.0  # no search for a hint before then
        self.rejected: Counter[str] = Counter()  #: tasks, by reason
        self.duplicates = 0  #: resends that were answered as such

    @property
    def room_per_s(self) -> float:
        """The measured rate at which room appears."""
        return self._pressure.room_per_s

    def judge(self, wire: Any, connection: int = 0) -> dict[str, Any]:
        """The verdict on one element of a request's tasks, whatever it is; `connection` tells producers apart."""
        try:
            task = decode_task(wire)
            function = self._functions.get(task.name)
            if function is None:
                raise RefusedError(Reason.UNKNOWN_TASK, self._nearest(task.name))
            misfit = function.signature.misfit(task.args, task.kwargs)
            if misfit is not None:
                raise RefusedError(Reason.BAD_ARGUMENTS, f"task '{task.name}': {misfit}")
            if len(wire) > self._capacity_bytes:
                detail = f"a task of {len(wire)} bytes; the whole queue holds {self._capacity_bytes}"
                raise RefusedError(Reason.TOO_LARGE, detail)
        except RefusedError as refused:
            return self._refusal(task_id_of(wire), refused.reason, refused.detail)
        if not self._pressure.is_anyone_expected:
            offer, kept = self._dispatcher.offer(task, wire), NOTHING_KEPT
            if offer is _ACCEPTED:
                return {"id": task.id, "verdict": "accepted"}
        else:
            now = self._clock.monotonic()
            kept = self._pressure.kept(now, connection)
            offer = self._dispatcher.offer(task, wire, kept)
            if offer is _ACCEPTED:
                self._pressure.accepted(now, connection)
                return {"id": task.id, "verdict": "accepted"}
        if offer is Offer.DUPLICATE:
            # Forgotten since, so it is a new task; it is in no table now, and cannot be found to be a duplicate again.
            return self._duplicate(task.id) or self.judge(wire, connection)
        if offer is Offer.FULL:
            now = self._clock.monotonic()
            retry_after = self._pressure.rejected(now, *self._dispatcher.room, connection, len(wire))
            detail = _FULL if kept == NOTHING_KEPT else _FULL_FOR_YOU
            return self._refusal(task.id, Reason.FULL, detail, retry_after)
        return self._refusal(task.id, *_REFUSALS[offer], self._dispatcher.drains_for_s + _AFTER_DRAIN_S)

    def _nearest(self, name: str) -> str:
        """The refusal of an unknown name, with the nearest known one, if looking for it costs nobody else their turn.

        A search takes as long as a hundred verdicts. So a tenth of the time at most goes into them, and a request full
        of wrong names is answered without most of the hints.
        """
        began = self._clock.monotonic()
        hint = self._hints.get(name)
        if hint is None and began >= self._next_search:
            near = difflib.get_close_matches(name, self._functions, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            if len(self._hints) >= _HINTS_KEPT:
                self._hints.clear()
            self._hints[name] = hint
            now = self._clock.monotonic()
            self._next_search = now + 9 * (now - began)
        return f"no task is named {name!a}{hint or ''}"

    def _duplicate(self, task_id: str) -> dict[str, Any] | None:
        # Its end may be forgotten as soon as it is settled, if few or no ids are remembered. How it ended is not known
        # then, but where it was when this resend came.
        found = self._dispatcher.status_in_books(task_id)
        status = self._dispatcher.status(task_id) or found
        if status is None:
            return None
        self.duplicates += 1
        return {"id": task_id, "verdict": "accepted", "duplicate": True, "state": status.state.value}

    def _refusal(
        self, task_id: str | None, reason: Reason, detail: str, retry_after: float | None = None
    ) -> dict[str, Any]:
        self.rejected[reason.value] += 1
        advice = ADVICE[reason]
        verdict: dict[str, Any] = {"id": task_id, "verdict": "rejected", "reason": reason.value, "retry": advice.value}
        verdict["detail"] = detail
        if advice is Retry.LATER:
            verdict["retry_after"] = retry_after
        return verdict
