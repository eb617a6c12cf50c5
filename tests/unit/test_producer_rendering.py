"""Text in and text out: words and lines to tasks; verdicts, figures, letters and progress to what a person reads."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from producer import Accepted, BadTask, DeadLetter, DeadPage, Limits, Pong, Reason, Rejected, Retry, TaskStatus, Verdict
from producer.progress import Progress
from producer.tables import dead_table, pong_line, printable, stats_table, status_line, verdict_line
from producer.task_file import TaskFile
from producer.task_lines import task_of_line, task_of_words
from tests.clock import HandClock

LIMITS = Limits(message_bytes=1_024, tasks=1_000)
EVIL = "\x1b[2J\nroot\u202e"


class Terminal(io.StringIO):
    """A stream that says that a person looks at it."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> str:
        """What is on the last line, once the returns are obeyed."""
        line = ""
        for part in self.getvalue().rpartition("\n")[2].split("\r"):
            line = part + line[len(part) :]
        return line.rstrip()


@pytest.mark.parametrize(
    ("words", "pairs", "args", "kwargs"),
    [
        ([], [], (), {}),
        (["a@example.org", "17", '"17"', "true", "null", "[1]"], [], ("a@example.org", 17, "17", True, None, [1]), {}),
        (["{not json", "", "-1", "NaNo"], [], ("{not json", "", -1, "NaNo"), {}),
        ([], ["a=1", "b=x=y", "c="], (), {"a": 1, "b": "x=y", "c": ""}),
    ],
)  # fmt: skip
def test_words_are_json_or_themselves(
    words: list[str], pairs: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """A word that is JSON is its value; any other word is text."""
    task = task_of_words("noop", words, pairs)
    assert (task.name, task.args, task.kwargs) == ("noop", args, kwargs)


@pytest.mark.parametrize("pair", ["", "=1", "novalue"])
def test_a_pair_that_is_none_is_named(pair: str) -> None:
    """The message shows it, and what a pair is."""
    with pytest.raises(BadTask, match="KEY=VALUE"):
        task_of_words("noop", [], [pair])


def test_a_line_is_a_task_with_all_its_fields() -> None:
    """The names are the protocol's."""
    line = (
        b'{"name": "n", "args": [1], "kwargs": {"k": [2]}, "id": "x", "retries": 3, "delay_s": 1, "expires_s": 2.5}\n'
    )
    task = task_of_line(line, LIMITS)
    assert (task.name, task.args, task.kwargs, task.id) == ("n", (1,), {"k": [2]}, "x")
    assert (task.retries, task.delay_s, task.expires_s) == (3, 1, 2.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a task"),
        (b'{"args": []}', "not a task"),
        (b'{"name": "n", "queue": 1}', "no field 'queue'; it has args, delay_s"),
        (b'{"name": "n", "args": {}}', "args: "),
        (b'{"name": "n", "kwargs": [1]}', "kwargs: "),
        (b'{"name": "n", "id": "-"}', "id: "),
        (b'{"name": 1}', "name: "),
        (b'{"name": "n", "retries": 1.5}', "retries: "),
        (b'{"name": "n", "args": ["\\ud800"]}', r"args\[0\]: text"),
        (b'{"name": "n", "args": [18446744073709551616]}', r"args\[0\]: an int"),
        (b'{"name": "n", "args": ["' + b"x" * 1_024 + b'"]}', "this broker reads 1024"),
    ],
)
def test_a_line_that_is_no_task_is_told_why(line: bytes, message: str) -> None:
    """JSON, its shape, its fields, its values, its size."""
    with pytest.raises(BadTask, match=message):
        task_of_line(line, LIMITS)


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (Accepted("x"), "accepted id=x"),
        (Accepted("x", duplicate=True, state="running"), "accepted id=x duplicate state=running"),
        (
            Rejected("x", Reason.FULL, Retry.LATER, 0.25, "the queue is full"),
            "rejected id=x reason=full retry=later retry_after=0.250: the queue is full",
        ),
        (Rejected("x", EVIL, Retry.NEVER, None, ""), "rejected id=x reason=\\x1b[2J\\nroot\\u202e retry=never"),
    ],
)
def test_verdict_lines(verdict: Verdict, line: str) -> None:
    """One line, that a person reads and a program splits."""
    assert verdict_line(verdict) == line


def test_status_and_ping_lines() -> None:
    """What is not there is not shown."""
    assert status_line(TaskStatus("x", "delayed", 1, 0.5)) == "delayed id=x attempt=1 due_in=0.500s"
    assert status_line(TaskStatus("x", "succeeded", None, None)) == "succeeded id=x"
    assert pong_line(Pong("turnstile/1", "serving", LIMITS), 0.0012) == (
        "turnstile/1 phase=serving message_bytes=1024 tasks=1000 in 1.2 ms"
    )


def test_the_figures_are_a_table_whatever_they_are() -> None:
    """Figures stand under each other; maps are indented; a figure that this version does not know is shown as well."""
    stats = {
        "phase": "serving",
        "ledger": {"accepted": 1_234_567, "ready": 0},
        "rejected": {},
        "rate": 0.5,
        "new": EVIL,
    }
    assert stats_table(stats).split("\n") == [
        "phase                   serving",
        "ledger",
        "  accepted            1,234,567",
        "  ready                       0",
        "rejected                      -",
        "rate                      0.500",
        "new         \\x1b[2J\\nroot\\u202e",
    ]


def test_text_of_several_lines_in_a_list_of_figures_has_lines_of_its_own() -> None:
    """A stack, with its innermost call, however long it is; and no line of it is taken for a figure, or obeyed."""
    stack = "".join(f'  File "/jobs.py", line {number}, in outer\n    inner()\n' for number in range(30)) + f"  {EVIL}"
    parts = [{"id": "a", "stack": stack, "running_s": 1.5}, {"id": "b", "stack": "it has ended"}]
    table = stats_table({"stuck": parts})
    head, first, *lines, last = table.split("\n")
    assert (head, first, last) == ("stuck  2", "  id=a running_s=1.5", "  id=b stack=it has ended")
    assert lines[:2] == ['    |   File "/jobs.py", line 0, in outer', "    |     inner()"]
    assert lines[-2:] == ["    |   \\x1b[2J", "    | root\\u202e"]
    assert len(lines) == 62


def letter(**changes: Any) -> DeadLetter:
    """A dead letter."""
    fields = {"id": "x", "name": "noop", "reason": "never_retry", "error": "ValueError: no", "trace": "Trace\n  line"}
    return DeadLetter(**{**fields, "attempts": 1, "accepted_at": 0.0, "died_at": 1e300, **changes})


def test_dead_letters_are_shown_and_nothing_in_them_is_obeyed() -> None:
    """Newest first, one under the other; traces only if wanted; times that are none do not matter."""
    page = DeadPage([letter(), letter(error=EVIL, attempts=4)], total=12)
    text = dead_table(page, 10, traces=False)
    assert text.startswith(
        "dead letters 11 to 12 of 12, newest first\n\nx  noop\n    never_retry after 1 attempt, died"
    )
    assert "after 4 attempts" in text
    assert "Trace" not in text
    assert "\x1b" not in text
    assert dead_table(page, 10, traces=True).count("    | Trace\n    |   line") == 2
    assert dead_table(DeadPage([], 0), 0, traces=False) == "no dead letters"
    assert dead_table(DeadPage([], 3), 50, traces=False) == "no dead letters here; 3 are kept"


def test_text_of_others_is_one_short_line() -> None:
    """Whatever is in it."""
    assert printable("plain – text") == "plain – text"
    assert printable(EVIL) == "\\x1b[2J\\nroot\\u202e"
    assert len(printable("\x00" * 1_000_000)) == 500


def test_the_bar_shows_how_far_it_is_and_leaves_nothing_behind() -> None:
    """Accepted, rejected, waiting, rate; redrawn ten times a second at most; then taken away."""
    clock, terminal = HandClock(), Terminal()
    progress = Progress(terminal, clock.monotonic)
    for number in range(1_000):
        progress.took(number / 1_000)
    clock.advance(0.5)
    for number in range(500):
        progress.settled(Accepted(str(number)) if number % 5 else Rejected("x", Reason.FULL, Retry.LATER, 1.0, ""))
    clock.advance(0.5)
    progress.settled(Accepted("y", duplicate=True))
    assert terminal.screen == "[########################] 100%  accepted 401  rejected 100  waiting 499  501/s"
    assert terminal.getvalue().count("\r") == 3
    progress.clear()
    assert terminal.screen == ""
    assert (progress.accepted, progress.duplicates, progress.rejected) == (401, 1, {Reason.FULL: 100})


def test_without_a_terminal_there_is_no_bar() -> None:
    """A file that collects errors gets errors."""
    stream = io.StringIO()
    progress = Progress(stream, HandClock().monotonic)
    progress.took(None)
    progress.settled(Accepted("x"))
    progress.clear()
    assert stream.getvalue() == ""
    assert progress.line() == "accepted 1  rejected 0  waiting 0  1,000/s"


def test_a_file_names_its_bad_lines_and_goes_on(tmp_path: Path) -> None:
    """Empty lines are nothing; bad ones are named by number, the first twenty; rejected tasks are named likewise."""
    good = [json.dumps({"name": "n", "id": f"t{number}"}) for number in range(30)]
    path = tmp_path / "tasks"
    path.write_text("\n".join(["", *good, *["nonsense"] * 30, "  ", '{"name": "n", "id": "last"}']) + "\n")
    errors = io.StringIO()
    with path.open("rb") as file:
        tasks = TaskFile(file, LIMITS, errors)
        ids = [task.id for task in tasks]
    assert ids == [*(f"t{number}" for number in range(30)), "last"]
    assert [line.split(":")[0] for line in errors.getvalue().splitlines()] == [
        *(f"line {number}" for number in range(32, 52)),
        "(further ones are not named)",
    ]
    errors.truncate(0)
    for task_id in ids[:-2]:
        tasks.settled(Accepted(task_id))
    tasks.settled(Rejected("t29", Reason.FULL, Retry.LATER, 1.0, ""))
    assert "line 31: rejected id=t29 reason=full" in errors.getvalue()
    assert not tasks.is_good
    assert tasks.report().startswith(
        "accepted=29 duplicates=0 rejected=1 (full 1) bad_lines=30 without_verdict=1 seconds="
    )


def test_a_file_is_good_when_every_line_was_accepted(tmp_path: Path) -> None:
    """And only then: a line whose verdict is not there yet is not good."""
    path = tmp_path / "tasks"
    path.write_bytes(b'{"name": "n", "id": "x"}')
    with path.open("rb") as file:
        tasks = TaskFile(file, LIMITS, io.StringIO())
        assert len(list(tasks)) == 1
    assert not tasks.is_good
    tasks.settled(Accepted("x", duplicate=True))
    assert tasks.is_good
    assert tasks.report().startswith("accepted=1 duplicates=1 rejected=0 bad_lines=0 seconds=")
