"""Whether `make cover` sees what was not seen of a handler. Each case is run under coverage.py itself."""

from __future__ import annotations

import contextlib
import runpy
import textwrap
from pathlib import Path

import coverage
import pytest

from tests.handlers import Handler, handlers_of, seen_of

pytestmark = pytest.mark.check_of_checks


def look(folder: Path, source: str, *bad: bool) -> list[Handler]:
    """The handlers of `source`, whose function `do` was called once for each of `bad`."""
    path = folder / "case.py"
    path.write_text(textwrap.dedent(source))
    measured = coverage.Coverage(data_file=None, branch=True, include=[str(path)], config_file=False)
    measured.start()
    try:
        do = runpy.run_path(str(path))["do"]
        for one in bad:
            with contextlib.suppress(KeyError):
                do(one)
    finally:
        measured.stop()
    return handlers_of(path.read_text(), seen_of(path, measured))


CAUGHT = """\
def do(bad):
    try:
        if bad:
            raise KeyError
    except (
        KeyError
    ) as error:
        if error.args:
            return 1
        return 2
    return 3
"""


def test_a_handler_that_is_not_entered_is_a_gap(tmp_path: Path) -> None:
    """And it goes by the line of its clause."""
    assert look(tmp_path, CAUGHT, False) == [Handler(5, "except", ("never entered",))]


def test_a_handler_that_is_gone_through_in_part_is_a_gap(tmp_path: Path) -> None:
    """A statement that was not reached, and the branch that did not lead there."""
    gaps = ("not executed: line 9", "a branch not taken every way: line 8")
    assert look(tmp_path, CAUGHT, True, False) == [Handler(5, "except", gaps)]


def test_a_handler_that_is_gone_through_every_way_is_none(tmp_path: Path) -> None:
    """The branch before it, which is no handler's, is no matter."""
    source = CAUGHT.replace("raise KeyError", "raise KeyError(*range(next(calls)))")
    source += "\nimport itertools\ncalls = itertools.count()\n"
    assert look(tmp_path, source, True, True) == [Handler(5, "except")]


FOLLOWED = """\
def do(bad):
    try:
        step(bad)
    finally:
        done = True
    return done

def step(bad):
    if bad:
        raise KeyError
"""
RETURNED = """\
def do(bad):
    try:
        step(bad)
        return step(
            False
        )
    finally:
        step(False)

def step(bad):
    if bad:
        raise KeyError
"""
CAUGHT_OUTSIDE = """\
def do(bad):
    try:
        try:
            step(bad)
        finally:
            step(False)
    except KeyError:
        return

def step(bad):
    if bad:
        raise KeyError
"""
IN_A_LOOP = """\
def do(bad):
    for again in (False, bad):
        try:
            step(again)
        finally:
            step(False)

def step(bad):
    if bad:
        raise KeyError
"""
LOOPED = """\
def do(bad):
    try:
        while True:
            step(bad)
            break
    finally:
        step(False)
    return 3

def step(bad):
    if bad:
        raise KeyError
"""
CAUGHT_INSIDE = """\
def do(bad):
    try:
        step(bad)
    except KeyError:
        step(False)
        raise
    finally:
        step(False)
    step(False)

def step(bad):
    if bad:
        raise KeyError
"""


@pytest.mark.parametrize("source", [FOLLOWED, LOOPED, CAUGHT_OUTSIDE, CAUGHT_INSIDE])
def test_a_finally_is_gone_through_in_two_ways(tmp_path: Path, source: str) -> None:
    """Each way alone is a gap, and both together are none."""

    def gaps(*bad: bool) -> list[tuple[str, ...]]:
        return [one.gaps for one in look(tmp_path, source, *bad) if one.kind == "finally"]

    assert gaps() == [("never entered",)]
    assert gaps(False) == [("never with an exception under way",)]
    assert gaps(True) == [("never without an exception under way",)]
    assert gaps(False, True) == gaps(True, False) == [()]


def test_a_finally_that_goes_on_to_a_loop_was_without_an_exception(tmp_path: Path) -> None:
    """The loop's own line is what comes next."""
    assert look(tmp_path, IN_A_LOOP, False)[0].gaps == ("never with an exception under way",)
    assert look(tmp_path, IN_A_LOOP, True)[0].gaps == ()


AT_THE_END = """\
def do(bad):
    try:
        step(False)
        step(bad)
    finally:
        step(False)

def step(bad):
    if bad:
        raise KeyError
"""


@pytest.mark.parametrize(
    "source", [AT_THE_END, RETURNED.replace("step(bad)\n", "pass\n", 1).replace("  False", "  bad")]
)
@pytest.mark.parametrize("bad", [False, True])
def test_a_finally_that_nothing_follows_is_untold(tmp_path: Path, bad: bool, source: str) -> None:
    """From the last guarded line to the end of the function, it is the same with an exception and without."""
    [found] = look(tmp_path, source, bad)
    assert (found.kind, found.gaps, found.untold) == ("finally", (), True)


@pytest.mark.parametrize("source", [AT_THE_END.replace("step(False)", "step(bad)", 1), RETURNED])
def test_a_finally_that_nothing_follows_and_only_an_exception_reached_is_a_gap(tmp_path: Path, source: str) -> None:
    """If it came from another line than the last one, that was an exception."""
    assert look(tmp_path, source, True)[0].gaps == ("never without an exception under way",)
    assert look(tmp_path, source, True, False)[0].gaps == ()


SUPPRESSED = """\
from contextlib import suppress
import contextlib

def do(bad):
    with contextlib.suppress(KeyError), suppress(ValueError):
        if bad:
            raise KeyError
        print(end="")
    with open(__file__):
        return
"""


def test_a_suppressed_block_is_left_in_the_middle(tmp_path: Path) -> None:
    """Or else nothing was suppressed; other `with` blocks are no matter."""
    assert look(tmp_path, SUPPRESSED) == [Handler(5, "suppress", ("never entered",))]
    assert look(tmp_path, SUPPRESSED, False)[0].gaps == (
        "not executed: line 7",
        "a branch not taken every way: line 6",
    )
    assert look(tmp_path, SUPPRESSED, False, True) == [Handler(5, "suppress")]


def test_a_suppressed_block_that_was_gone_through_to_its_end_is_a_gap(tmp_path: Path) -> None:
    """Every line was executed, and nothing was suppressed."""
    source = SUPPRESSED.replace("if bad:", "if bad in {bad}:").replace("raise KeyError", "str(bad)")
    source = source.replace("        if bad in {bad}:\n            str(bad)\n", "        str(bad)\n")
    assert look(tmp_path, source, False)[0].gaps == ("never left in the middle",)


ENTERED = """\
import contextlib

def do(bad):
    with contextlib.suppress(KeyError), open({False: __file__}[bad]):
        str(bad)
        str(bad)
"""


@pytest.mark.parametrize("bad", [(False,), (False, True)])
def test_what_is_entered_with_a_suppressed_block_is_untold(tmp_path: Path, bad: tuple[bool, ...]) -> None:
    """It is guarded too, in the line of the `with`."""
    assert look(tmp_path, ENTERED, *bad) == [Handler(4, "suppress", untold=True)]


def test_what_is_entered_with_a_suppressed_block_hides_no_way_that_was_seen(tmp_path: Path) -> None:
    """A block that was left in its middle was left."""
    source = ENTERED.replace("{False: __file__}[bad]", "__file__").replace("str(bad)", "{False: 0}[bad]", 1)
    assert look(tmp_path, source, False, True) == [Handler(4, "suppress")]


def test_a_suppressed_statement_is_untold(tmp_path: Path) -> None:
    """Its line is followed by that of the `with` in either case."""
    source = "import contextlib\ndef do(bad):\n    with contextlib.suppress(KeyError):\n        {}[bad]\n"
    assert look(tmp_path, source, True) == [Handler(3, "suppress", untold=True)]


@pytest.mark.parametrize("words", ["no cover", "no branch", "  NO  COVER"])
def test_what_hides_a_gap_is_one(tmp_path: Path, words: str) -> None:
    """Nothing is left out by a comment."""
    source = f"def do(bad):\n    pass  # pragma: {words}\n"
    assert look(tmp_path, source, False) == [Handler(2, "pragma", ("it hides what is not covered",))]
