"""The books: how many tasks are in each state, kept in double entry.

Every move takes one from a state and gives one to the next, so the sum over all states is zero for ever; what is
missing in `NEW` is what was accepted. Whoever holds tasks moves them here in the same breath.
"""

from __future__ import annotations

from broker.states import ENDED, TABLE, Event, IllegalMoveError, State


class Ledger:
    """Counts of tasks by state. Not thread-safe: it belongs to the queue, and is guarded as the queue is."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(State, 0)
        self.requeued = 0  #: dead tasks that were taken up again

    def move(self, state: State, event: Event) -> State:
        """Book one task's `event`; its new state. `IllegalMoveError`, and nothing booked, if there is no such move."""
        # The one lookup on the path of every task, three times in its life: no call to states.after here.
        target = TABLE[state].get(event)
        if target is None:
            raise IllegalMoveError(state, event)
        counts = self._counts
        counts[state] -= 1
        counts[target] += 1
        return target

    def reopen(self) -> None:
        """Book that a dead task is ready again."""
        self.move(State.DEAD, Event.REQUEUE)
        self.requeued += 1

    @property
    def ended(self) -> int:
        """How often tasks have come to an end, of whatever kind, so far: each end made room for one. Never falls."""
        return sum(self._counts[state] for state in ENDED) + self.requeued

    def counts(self) -> dict[str, int]:
        """`accepted`, then every state but `new`, by its wire name."""
        counts = {state.value: count for state, count in self._counts.items() if state is not State.NEW}
        return {"accepted": -self._counts[State.NEW], **counts}
