"""The window of remembered ids: bounded in number and in age."""

from __future__ import annotations

import math

from broker.states import State
from broker.window import Ended, Window

DEAD, SUCCEEDED = State.DEAD, State.SUCCEEDED


def test_end_is_found_with_what_tells_a_resend_from_another_task() -> None:
    """How it ended, and the hash of its bytes."""
    window = Window(2, 10.0)
    window.add("a", DEAD, b"task", 0.0)
    assert window.find("a", 1.0) == Ended(DEAD, hash(b"task"))
    assert window.find("b", 1.0) is None


def test_the_oldest_goes_when_one_too_many_comes() -> None:
    """At its limit it is full; with the next one the oldest is forgotten, however young."""
    window = Window(2, 10.0)
    for task_id in "abc":
        window.add(task_id, SUCCEEDED, b"", 0.0)
    assert [window.find(task_id, 0.0) is not None for task_id in "abc"] == [False, True, True]
    assert len(window) == 2


def test_end_is_forgotten_at_its_age_and_not_before() -> None:
    """A hair before its age it is known, at its age no more; its id may come and end again."""
    window = Window(9, 10.0)
    window.add("a", SUCCEEDED, b"", 1.0)
    window.add("b", SUCCEEDED, b"", 2.0)
    assert window.find("a", 10.999) is not None
    assert window.find("a", 11.0) is None
    window.add("a", DEAD, b"", 11.0)
    window.forget(12.0)
    assert len(window) == 1
    assert window.find("a", 12.0) == Ended(DEAD, hash(b""))


def test_window_of_no_size_or_no_age_remembers_nothing() -> None:
    """Either bound can switch it off."""
    for window in (Window(0, 10.0), Window(9, 0.0)):
        window.add("a", SUCCEEDED, b"", 5.0)
        assert len(window) == 0
        assert window.find("a", 5.0) is None


def test_old_ends_are_let_go_when_new_ones_come() -> None:
    """Nobody has to ask for the memory to be given back."""
    window = Window(100, 10.0)
    for number in range(50):
        window.add(f"t{number}", SUCCEEDED, b"", 0.0)
    window.add("late", SUCCEEDED, b"", 10.0)
    assert len(window) == 1


def test_removed_id_is_new_again_and_its_old_place_is_nobodys() -> None:
    """It ends once more, and is remembered as long as any other from then on, in number and in age."""
    window = Window(2, 10.0)
    window.add("a", DEAD, b"1", 0.0)
    window.add("b", SUCCEEDED, b"", 1.0)
    window.remove("a")
    assert (window.find("a", 1.0), len(window)) == (None, 1)
    window.add("a", SUCCEEDED, b"2", 2.0)
    assert window.find("b", 2.0) is not None  # two are remembered, and two may be
    window.add("c", SUCCEEDED, b"", 3.0)
    assert [window.find(task_id, 3.0) is not None for task_id in "abc"] == [True, False, True]
    assert window.find("a", 11.999) == Ended(SUCCEEDED, hash(b"2"))
    assert window.find("a", 12.0) is None


def test_what_is_not_there_can_be_removed() -> None:
    """As it may have been forgotten."""
    window = Window(2, 10.0)
    window.remove("a")
    assert len(window) == 0


def test_memory_does_not_grow_with_what_is_removed() -> None:
    """A task that is taken up again and dies, over and over, within the age of the window."""
    window = Window(1_000, math.inf)
    for number in range(10):
        window.add(f"t{number}", SUCCEEDED, b"", 0.0)
    for _ in range(5_000):
        window.add("again", DEAD, b"", 1.0)
        window.remove("again")
    assert len(window._order) < 500
    assert all(window.find(f"t{number}", 1.0) is not None for number in range(10))
