"""The dead letters: kept newest first, and bounded twice."""

from __future__ import annotations

import pytest

from broker.dead_letters import DeadLetter, DeadLetters
from broker.retries import DeathReason

ROOMY = 10**9


def letter(number: int, *, trace: str = "") -> DeadLetter:
    """A dead letter that can be told by its number."""
    return DeadLetter(
        id=f"task-{number}",
        name="send_email",
        wire=b"wire",
        reason=DeathReason.RETRIES_EXHAUSTED,
        error="ValueError: no",
        trace=trace,
        attempts=4,
        accepted_at=1.0,
        died_at=2.0,
    )


def ids(letters: list[DeadLetter]) -> list[str]:
    """Their ids."""
    return [one.id for one in letters]


def test_newest_come_first_and_pages_do_not_overlap() -> None:
    """Pages follow each other from the newest to the oldest; the last one is short, the next one empty."""
    letters = DeadLetters(10, ROOMY)
    for number in range(5):
        letters.add(letter(number))
    assert ids(letters.newest(2, 0)) == ["task-4", "task-3"]
    assert ids(letters.newest(2, 2)) == ["task-2", "task-1"]
    assert ids(letters.newest(2, 4)) == ["task-0"]
    assert letters.newest(2, 5) == []


@pytest.mark.parametrize("offset", [2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_any_offset_of_the_wire_is_an_empty_page(offset: int) -> None:
    """An offset past all letters, up to the largest integer that msgpack has, gives an empty page."""
    letters = DeadLetters(10, ROOMY)
    letters.add(letter(1))
    assert letters.newest(50, offset) == []


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_number_is_bounded_and_the_oldest_go(limit: int) -> None:
    """At most `limit` are kept, the newest ones; a limit of 0 keeps none."""
    letters = DeadLetters(limit, ROOMY)
    for number in range(limit + 2):
        letters.add(letter(number))
        assert len(letters) == min(limit, number + 1)
    assert ids(letters.newest(50, 0)) == [f"task-{number}" for number in range(limit + 1, 1, -1)]


def test_bytes_are_bounded_exactly() -> None:
    """As many letters stay as fit the bound in bytes to the byte; one byte less and one letter less."""
    size = letter(0).size_bytes
    exact, short = DeadLetters(10, 3 * size), DeadLetters(10, 3 * size - 1)
    for number in range(5):
        exact.add(letter(number))
        short.add(letter(number))
    assert ids(exact.newest(50, 0)) == ["task-4", "task-3", "task-2"]
    assert ids(short.newest(50, 0)) == ["task-4", "task-3"]


def test_letter_larger_than_the_bound_is_not_kept() -> None:
    """One letter that is over the bound in bytes by itself is let go too, and the next ones are kept again."""
    letters = DeadLetters(10, 2 * letter(0).size_bytes)
    letters.add(letter(0))
    letters.add(letter(1, trace="x" * 10_000))
    assert len(letters) == 0
    letters.add(letter(2))
    letters.add(letter(3))
    assert ids(letters.newest(50, 0)) == ["task-3", "task-2"]


def test_texts_and_task_count_as_size() -> None:
    """The size of a letter grows with its trace, by as much memory as each character takes."""
    sizes = [letter(0, trace=character * 1_000).size_bytes - letter(0).size_bytes for character in "xя🐌"]
    assert [size // 1_000 for size in sizes] == [1, 2, 4]


def test_letter_is_found_and_removed_by_its_id() -> None:
    """Its bytes are given back; what is not there, or not any more, is told."""
    letters = DeadLetters(10, 2 * letter(0).size_bytes)
    letters.add(letter(0))
    letters.add(letter(1))
    assert letters.get("task-0") == letter(0)
    assert letters.remove("task-0")
    assert not letters.remove("task-0")
    assert letters.get("task-0") is None
    letters.add(letter(2))
    assert ids(letters.newest(50, 0)) == ["task-2", "task-1"]


def test_id_that_died_again_has_its_last_letter() -> None:
    """In the place of the newest, and counted once."""
    letters = DeadLetters(10, 2 * letter(0).size_bytes + 1)
    for one in (letter(0), letter(1), letter(0, trace="x")):
        letters.add(one)
    assert letters.newest(50, 0) == [letter(0, trace="x"), letter(1)]
