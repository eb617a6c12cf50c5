"""The life of a task: what is drawn in the module is what the table says, and nothing else can happen."""

from __future__ import annotations

from itertools import product

import pytest

from broker.ledger import Ledger
from broker.states import ENDED, HELD, TABLE, Event, IllegalMoveError, State, as_text

#: The drawing, arrow by arrow, written down a second time so that a slip in the table is noticed.
ARROWS = {
    ("new", "accept"): "ready",
    ("new", "defer"): "delayed",
    ("ready", "take"): "running",
    ("ready", "cancel"): "cancelled",
    ("ready", "expire"): "expired",
    ("ready", "return"): "returned",
    ("delayed", "due"): "ready",
    ("delayed", "cancel"): "cancelled",
    ("delayed", "return"): "returned",
    ("running", "ack"): "succeeded",
    ("running", "retry"): "delayed",
    ("running", "bury"): "dead",
    ("running", "return"): "returned",
    ("dead", "requeue"): "ready",
}
PAIRS = list(product(State, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_leads_where_it_is_drawn_or_raises(state: State, event: Event) -> None:
    """An event leads to the drawn state; one that is not drawn raises an error that names both."""
    expected = ARROWS.get((state.value, event.value))
    if expected is None:
        with pytest.raises(IllegalMoveError, match=f"is {state.value} cannot {event.value}"):
            Ledger().move(state, event)
    else:
        assert Ledger().move(state, event) is State(expected)


def test_pairs_are_all_there_are() -> None:
    """The table has a row for every state, and the drawn arrows are exactly its moves."""
    assert set(TABLE) == set(State)
    moves = {(state.value, event.value): target.value for state, row in TABLE.items() for event, target in row.items()}
    assert moves == ARROWS


def test_states_are_new_held_or_ended() -> None:
    """Every state is exactly one of: new, held (it counts against the bound), ended (nothing follows by itself)."""
    assert sorted([State.NEW, *HELD, *ENDED]) == sorted(State)
    assert {event for state in ENDED for event in TABLE[state]} == {Event.REQUEUE}
    assert all(TABLE[state] for state in HELD)


def test_every_held_task_can_end_and_every_state_is_reached() -> None:
    """No state is out of reach of a new task, and none but an ended one is without a way to an end."""
    assert _reachable(State.NEW) == set(State) - {State.NEW}
    for state in HELD:
        assert _reachable(state) & set(ENDED)


def test_table_prints_a_line_for_every_state() -> None:
    """The printed table names every state, its events and where they lead; an end says so."""
    lines = as_text().splitlines()
    assert [line.split()[0] for line in lines] == [state.value for state in State]
    assert "take → running" in lines[list(State).index(State.READY)]
    assert all("(the end)" in lines[list(State).index(state)] for state in ENDED)


def _reachable(state: State) -> set[State]:
    found: set[State] = set()
    look = [state]
    while look:
        for target in TABLE[look.pop()].values():
            if target not in found:
                found.add(target)
                look.append(target)
    return found
