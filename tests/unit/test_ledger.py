"""The books: every move is booked twice, so they balance at every instant (P2)."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.ledger import Ledger
from broker.states import ENDED, TABLE, Event, IllegalMoveError, State

PAIRS = list(product(State, Event))
COLUMNS = ["accepted", "ready", "delayed", "running", "succeeded", "dead", "cancelled", "expired", "returned"]


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_is_booked_or_raises_and_books_nothing(state: State, event: Event) -> None:
    """A move of the table takes one from the old state and gives one to the new; any other changes no count."""
    ledger = Ledger()
    target = TABLE[state].get(event)
    if target is None:
        with pytest.raises(IllegalMoveError):
            ledger.move(state, event)
        assert set(ledger.counts().values()) == {0}
        return
    assert ledger.move(state, event) is target
    counts = ledger.counts()
    assert counts.pop("accepted") == (1 if state is State.NEW else 0)
    expected = {state.value: -1, target.value: 1}
    assert {name: count for name, count in counts.items() if count} == {k: v for k, v in expected.items() if k != "new"}


def test_columns_are_accepted_and_the_eight_states() -> None:
    """The counts have the wire's names, `accepted` first."""
    assert list(Ledger().counts()) == COLUMNS


@settings(max_examples=100)
@given(st.data())
def test_any_lives_of_any_tasks_balance(data: st.DataObject) -> None:
    """Whatever legal ways they take, `accepted` is the sum of the states, and `ended` all ends: it never falls."""
    ledger = Ledger()
    tasks: list[State] = []
    ends = 0
    for _ in range(data.draw(st.integers(0, 30))):
        movable = [index for index, state in enumerate(tasks) if TABLE[state]]
        index = data.draw(st.sampled_from([*movable, len(tasks)]))
        state = tasks[index] if index < len(tasks) else State.NEW
        event = data.draw(st.sampled_from(list(TABLE[state])))
        ends += TABLE[state][event] in ENDED
        if event is Event.REQUEUE:
            ledger.reopen()
            tasks[index] = State.READY
        else:
            tasks[index : index + 1] = [ledger.move(state, event)]
        counts = ledger.counts()
        assert counts.pop("accepted") == len(tasks) == sum(counts.values())
        assert counts == {state.value: tasks.count(state) for state in State if state is not State.NEW}
        assert ledger.ended == ends
