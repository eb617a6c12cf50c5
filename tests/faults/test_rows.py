"""The list of faults, and the tests that are named after its rows."""

from __future__ import annotations

import pytest

from tests.faults.rows import ROWS, collected, index, rows_of


def test_every_row_has_a_test_and_every_named_row_is_on_the_list() -> None:
    """What pytest collects has a test for each row of the list, and no test is named after a row that is not on it."""
    found = index(collected())
    assert [row for row, tests in found.items() if not tests] == []
    assert [row for row in found if row not in ROWS] == []


def test_list_has_all_of_its_rows() -> None:
    """The numbers of the list, none left out."""
    numbers = [*range(1, 10), *range(11, 27), *range(28, 33), 34, 42, 43, *range(45, 48)]
    strangers = ["s1", "s2", "s3", "s4", "s9", "s10", "s14", "s15"]
    assert list(ROWS) == [*map(str, numbers), *strangers]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("test_row_1_a_task", ["1"]),
        ("test_rows_22_and_32_nothing", ["22", "32"]),
        ("test_rows_21_and_s1_strangers", ["21", "s1"]),
        ("test_s14_a_secret", ["s14"]),
        ("test_stop_9_limits", []),
        ("test_a_row_1", []),
    ],
)
def test_tests_belong_to_rows_by_their_names(name: str, rows: list[str]) -> None:
    """A name begins with its rows, or it belongs to none."""
    assert rows_of(name) == rows
