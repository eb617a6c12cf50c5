"""The life of a task: what is drawn in the module is what the table says, and nothing else can happen."""

from __future__ import annotations

import re
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


def test_table_prints_every_state_with_its_moves() -> None:
    """The printed table has a block for each state, and in it a line for each move; an end says that it is one."""
    blocks = re.split(r"\n(?=\w)", as_text())
    assert [block.split()[0] for block in blocks] == [state.value for state in State]
    moves = [
        (state.value, event, target)
        for state, block in zip(State, blocks, strict=True)
        for event, target in re.findall(r"(\w+) +→ (\w+)", block)
    ]
    assert moves == [(state, event, target) for (state, event), target in ARROWS.items()]
    ends = {state for state, block in zip(State, blocks, strict=True) if "the end" in block}
    assert ends == set(ENDED)
    assert "unless" in blocks[list(State).index(State.DEAD)]


def _reachable(state: State) -> set[State]:
    found: set[State] = set()
    look = [state]
    while look:
        for target in TABLE[look.pop()].values():
            if target not in found:
                found.add(target)
                look.append(target)
    return found
