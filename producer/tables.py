"""What the command line shows of verdicts, tasks, figures and dead letters: text from values, and nothing else.

Names, errors and traces come from elsewhere: what a terminal would obey in them is shown instead.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
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
    rows = list(_rows(stats, ""))
    left = max((len(name) for name, figure in rows if figure is not None), default=0)
    right = max((len(figure) for _, figure in rows if figure is not None), default=0)
    return "\n".join(name if figure is None else f"{name:<{left}}  {figure:>{right}}".rstrip() for name, figure in rows)


def _rows(figures: Mapping[str, Any], indent: str) -> Iterator[tuple[str, str | None]]:
    """(name, figure) of each figure; None in place of it where the name is a line of text by itself."""
    for name, value in figures.items():
        label = indent + printable(str(name))
        if isinstance(value, dict):
            yield label, "" if value else "-"
            yield from _rows(value, indent + "  ")
        elif isinstance(value, list):
            yield label, f"{len(value):,}" if value else "-"
            for part in value:
                yield from ((indent + "  " + printable(line), None) for line in _lines_of(part))
        else:
            yield label, _figure(value)


def _lines_of(part: object) -> Iterator[str]:
    """A part of a list, in one line; a text of several, such as a stack, below it, so that its end is not cut off."""
    texts = [(key, str(word)) for key, word in (part.items() if isinstance(part, dict) else [("", part)])]
    yield " ".join(f"{key}={text}" for key, text in texts if "\n" not in text)
    for _, text in texts:
        if "\n" in text:
            yield from ("  | " + line for line in text.splitlines())


def health_lines(health: Mapping[str, Any]) -> str:
    """The health, and a line for each reason."""
    reasons = health.get("reasons", [])
    lines = [f"{one.get('reason')}: {one.get('detail')}" for one in reasons if isinstance(one, dict)]
    return "\n".join([printable(str(health.get("state"))), *("  " + printable(line) for line in lines)])


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
