"""What a closed queue held: each task is made up when it is looked at, and never all of them at once. Pure.

A stop may be for want of memory. A copy of a million tasks is what there is no room for then, and a broker that cannot
go through what it holds can neither save nor name it (P9).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from broker.records import Returned, age_s_of, attempt_of, wire_of
from broker.states import State

_READY, _DELAYED, _RUNNING = State.READY, State.DELAYED, State.RUNNING


class HandedBack(Collection[Returned]):
    """Tasks that were accepted and are handed back unfinished, in order of acceptance. It can be gone through often."""

    def __init__(
        self,
        held: Mapping[str, bytes],
        due: Mapping[str, float],
        expires_at: Mapping[str, float],
        running: Collection[str],
        epoch: float,
        now: float,
    ) -> None:
        """`held`: records, by id; the times in them are since `epoch`. `due`, `expires_at`: of those that have one."""
        self._held = held
        self._due = due
        self._expires_at = expires_at
        self._running = running
        self._epoch = epoch
        self._now = now

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, task: object) -> bool:
        return any(one == task for one in self)

    def __iter__(self) -> Iterator[Returned]:
        now, since_epoch = self._now, self._now - self._epoch
        for (task_id, record), state in zip(self._held.items(), self.states(), strict=True):
            attempts = attempt_of(record) - (state is not _RUNNING)
            due, expires_at = self._due.get(task_id), self._expires_at.get(task_id)
            yield Returned(
                task_id,
                wire_of(record),
                attempts,
                state,
                None if due is None else max(0.0, due - now),
                None if expires_at is None or attempts else expires_at - now,  # once begun, never
                age_s_of(record, since_epoch),
            )

    def ids(self) -> Iterator[str]:
        """Their ids alone, at a twentieth of the time."""
        return iter(self._held)

    def states(self) -> Iterator[State]:
        """Where each of them was."""
        due, running = self._due, self._running
        for task_id in self._held:
            yield _DELAYED if task_id in due else _RUNNING if task_id in running else _READY
