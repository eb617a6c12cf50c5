"""What the command line shows of verdicts, tasks, figures and dead letters: text from values, and nothing else.

Names, errors and traces come from elsewhere: what a terminal would obey in them is shown instead.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

from producer.replies import DeadLetter, DeadPage, Pong, TaskStatus
from producer.verdicts import Accepted, Verdict

_LONGEST: Final = 500  # characters of a line of somebody else's text


def verdict_line(verdict: Verdict) -> str:
    """One verdict."""
    if isinstance(verdict, Accepted):
        known = f" duplicate state={printable(verdict.state or 'unknown')}" if verdict.duplicate else ""
        return f"accepted id={verdict.id}{known}"
    after = f" retry_after={verdict.retry_after:.3f}" if verdict.retry_after is not None else ""
    detail = f": {printable(verdict.detail)}" if verdict.detail else ""
    return f"rejected id={verdict.id} reason={printable(verdict.reason)} retry={verdict.retry}{after}{detail}"


def status_line(status: TaskStatus) -> str:
    """Where a task is."""
    attempt = "" if status.attempt is None else f" attempt={status.attempt}"
    due = "" if status.due_in_s is None else f" due_in={status.due_in_s:.3f}s"
    return f"{printable(status.state)} id={printable(status.id)}{attempt}{due}"


def pong_line(pong: Pong, seconds: float) -> str:
    """The answer to a ping."""
    return (
        f"{printable(pong.server)} phase={printable(pong.phase)} message_bytes={pong.limits.message_bytes} "
        f"tasks={pong.limits.tasks} in {seconds * 1_000:.1f} ms"
    )


def stats_table(stats: Mapping[str, Any]) -> str:
    """The figures, one in a line; maps of figures indented. Shows whatever there is: a newer broker may tell more."""
    rows: list[tuple[str, str]] = []
    for name, value in stats.items():
        if isinstance(value, dict):
            rows.append((printable(name), "" if value else "-"))
            rows += [(f"  {printable(str(key))}", _figure(part)) for key, part in value.items()]
        else:
            rows.append((printable(name), _figure(value)))
    left = max((len(name) for name, _ in rows), default=0)
    right = max((len(figure) for _, figure in rows), default=0)
    return "\n".join(f"{name:<{left}}  {figure:>{right}}".rstrip() for name, figure in rows)


def dead_table(page: DeadPage, offset: int, *, traces: bool) -> str:
    """A page of dead letters."""
    if not page.letters:
        return f"no dead letters here; {page.total} are kept" if page.total else "no dead letters"
    lines = [f"dead letters {offset + 1} to {offset + len(page.letters)} of {page.total}, newest first"]
    for letter in page.letters:
        lines += ["", *_letter_lines(letter)]
        if traces:
            lines += [f"    | {printable(line)}" for line in letter.trace.splitlines()]
    return "\n".join(lines)


def _letter_lines(letter: DeadLetter) -> list[str]:
    runs = "1 attempt" if letter.attempts == 1 else f"{letter.attempts} attempts"
    times = f"died {_when(letter.died_at)}, accepted {_when(letter.accepted_at)}"
    return [
        f"{printable(letter.id)}  {printable(letter.name)}",
        f"    {printable(letter.reason)} after {runs}, {times}",
        f"    {printable(letter.error)}",
    ]


def printable(text: str) -> str:
    """`text` on one line, with nothing in it that a terminal obeys, and not too long."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(str(value))


def _when(unix_time: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(unix_time).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"at {unix_time!r}"
