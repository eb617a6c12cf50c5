"""Judges a history: every rule, and whether the run showed anything at all."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from tests.history.history import History, Terms
from tests.history.rules import RULES, Finding, in_loss_window


class AnomalyError(AssertionError):
    """A promise is broken, or nothing was shown; the message has what shows it."""


@dataclass(frozen=True)
class Verdict:
    """What came of a history in which everything holds."""

    attempted: int  #: ids that producers tried
    accepted: int
    rejected: int  #: ids that were never accepted
    unknown: int  #: ids of which no producer ever heard
    succeeded: int
    dead: int
    returned: int
    starts: int
    caused: int  #: starts beyond the first of their task, each with a cause
    loss_window: int  #: accepted tasks that a killed broker held, and that nobody has seen again


def _in_flight_at_a_kill(history: History) -> bool:
    """A broker was killed while tasks were queued, and while tasks ran."""
    for life in history.kills:
        waiting = running = False
        for story in history.stories.values():
            held = any(life.has(event.at) for event in story.accepted)
            begun = [one for one in story.attempts if life.has(one.start.at)]
            waiting |= held and not begun
            running |= any(one.end is None for one in begun)
        if waiting and running:
            return True
    return False


#: What a run can be asked to have shown.
DEMANDS: Final[dict[str, Callable[[History], bool]]] = {
    "kill_in_flight": _in_flight_at_a_kill,
    "rejections": lambda history: any(story.rejected for story in history.stories.values()),
    "unknowns": lambda history: any(story.unknown for story in history.stories.values()),
    "retries": lambda history: any(story.outcomes("retry") for story in history.stories.values()),
    "dead": lambda history: any(story.outcomes("dead") for story in history.stories.values()),
    "crashes": lambda history: any(
        event["kind"] == "crashed" for story in history.stories.values() for event in story.outcomes("retry", "dead")
    ),
    "returned": lambda history: any(story.returned for story in history.stories.values()),
    "cancelled": lambda history: any(story.cancelled for story in history.stories.values()),
    "requeued": lambda history: any(story.requeued for story in history.stories.values()),
    "pauses": lambda history: any(event["name"] == "pause" for event in history.faults),
    "duplicates": lambda history: any(e["duplicate"] for story in history.stories.values() for e in story.accepted),
}


def findings(history: History, terms: Terms) -> list[Finding]:
    """Everything that does not hold."""
    return [found for rule in RULES for found in rule(history, terms)]


def check(history: History, terms: Terms, demand: Collection[str] = ()) -> Verdict:
    """What the history comes to; `AnomalyError` if a rule is broken, an event is missing, or a demand is not met."""
    stories = history.stories.values()
    if not any(story.attempts for story in stories):
        raise AnomalyError("vacuous: nothing ran")
    missing = [name for name in demand if not DEMANDS[name](history)]
    if missing:
        raise AnomalyError(f"vacuous: the run shows no {', '.join(missing)}")
    if history.gaps:
        raise AnomalyError(f"unknown: events are missing of {', '.join(history.gaps)}")
    found = findings(history, terms)
    if found:
        raise AnomalyError("\n".join(str(one) for one in found[:20]) + f"\n({len(found)} in all)")
    starts = sum(len(story.attempts) for story in stories)
    return Verdict(
        attempted=sum(bool(story.invokes) for story in stories),
        accepted=sum(story.is_accepted for story in stories),
        rejected=sum(bool(story.rejected) and not story.accepted for story in stories),
        unknown=sum(bool(story.unknown) and not story.accepted for story in stories),
        succeeded=sum(bool(story.succeeded) for story in stories),
        dead=sum(bool(story.outcomes("dead")) for story in stories),
        returned=sum(bool(story.returned) for story in stories),
        starts=starts,
        caused=starts - sum(bool(story.attempts) for story in stories),
        loss_window=sum(in_loss_window(history, story) for story in stories if story.is_accepted),
    )
