"""A history: the events of one run, sorted by what they are about, and what follows from them at once.

lives     of brokers: from a boot to its end, which is a report, or a death
stories   of tasks: what was asked, answered, begun and ended for one id, in order of time
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.history.events import Event, read

NEVER = float("inf")


@dataclass(frozen=True)
class Terms:
    """What the broker was told, and what kind of run this is."""

    capacity: int = 1_000
    workers: int = 4  #: threads of the broker
    child_workers: int = 2  #: workers in child hosts
    fifo: bool = False  #: one producer, one worker, no retries and no delays: tasks start in order of submission
    idle_s: float = 2.0  #: a worker that has nothing to do for so long, while a task is ready, was not woken
    remembers: bool = True  #: no id leaves the window of remembered ids during the run


@dataclass
class Attempt:
    """One start of a task function, and its end, if it came to one."""

    start: Event
    end: Event | None = None

    @property
    def number(self) -> int:
        """1 for the first run."""
        return int(self.start["attempt"])


@dataclass
class Story:
    """All events about one id."""

    id: str
    invokes: list[Event] = field(default_factory=list)
    accepted: list[Event] = field(default_factory=list)
    rejected: list[Event] = field(default_factory=list)
    unknown: list[Event] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    settled: list[Event] = field(default_factory=list)  #: by the broker: how each attempt was written into the books
    returned: list[Event] = field(default_factory=list)
    loaded: list[Event] = field(default_factory=list)  #: by a broker, from what the last one returned
    operated: list[Event] = field(default_factory=list)  #: for an operator: requeued, or told to be cancelled

    @property
    def plan(self) -> Event | None:
        """What the producer said of it."""
        return self.invokes[0] if self.invokes else None

    @property
    def is_accepted(self) -> bool:
        """A producer heard so."""
        return bool(self.accepted)

    @property
    def succeeded(self) -> list[Attempt]:
        """Attempts whose function came to its end."""
        return [one for one in self.attempts if one.end is not None and one.end["outcome"] == "ok"]

    @property
    def requeued(self) -> list[Event]:
        """By the broker, as its operator said."""
        return [event for event in self.operated if event["verb"] == "requeue"]

    @property
    def cancelled(self) -> list[Event]:
        """What an operator was told of it, when it was that."""
        return [event for event in self.operated if event["verb"] == "cancel" and event["outcome"] == "cancelled"]

    @property
    def is_isolated(self) -> bool:
        """Whether it runs in a child host."""
        return self.plan is not None and bool(self.plan.get("isolated"))

    def outcomes(self, *names: str) -> list[Event]:
        """What the broker settled so."""
        return [event for event in self.settled if event["outcome"] in names]


@dataclass
class Life:
    """One broker process."""

    boot: Event
    report: Event | None = None  #: its last words, with the ledger; None if it was killed
    killed_at: float = NEVER
    draining: Event | None = None
    followed_at: float = NEVER  #: when the next one booted

    @property
    def ended_at(self) -> float:
        """When it was gone, or had said that it was."""
        return self.report.at if self.report is not None else self.killed_at

    def has(self, at: float) -> bool:
        """Whether that was in this life, or before the next: its last reply is read when it is dead already."""
        return self.boot.at <= at < self.followed_at


class History:
    """The events of one run."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda event: event.at)
        self.stories: dict[str, Story] = {}
        self.lives: list[Life] = []
        self.faults: list[Event] = []
        lives: dict[Any, Life] = {}
        open_attempts: dict[tuple[str, Any, Any], Attempt] = {}
        for event in self.events:
            match event.kind:
                case "boot":
                    lives[event["pid"]] = life = Life(event)
                    for before in self.lives[-1:]:
                        before.followed_at = event.at
                    self.lives.append(life)
                case "drain":
                    lives[event["pid"]].draining = event
                case "report":
                    lives[event["pid"]].report = event
                case "fault":
                    self.faults.append(event)
                    if event["name"] == "kill" and event["phase"] == "end" and event.get("pid") in lives:
                        lives[event["pid"]].killed_at = event.at
                case "start":
                    attempt = Attempt(event)
                    self._story(event).attempts.append(attempt)
                    open_attempts[event.id, event["pid"], event["thread"]] = attempt
                case "end":
                    attempt_of = open_attempts.pop((event.id, event["pid"], event["thread"]), None)
                    if attempt_of is not None:
                        attempt_of.end = event
                case "invoke" | "accepted" | "rejected" | "unknown" | "settled" | "returned" | "operated" | "loaded":
                    name = {"invoke": "invokes"}.get(event.kind, event.kind)
                    getattr(self._story(event), name).append(event)

    @classmethod
    def read(cls, folder: str | Path) -> History:
        """Of what the witnesses wrote in this folder."""
        return cls(read(folder))

    def _story(self, event: Event) -> Story:
        return self.stories.setdefault(event.id, Story(event.id))

    @property
    def gaps(self) -> list[str]:
        """Writers of whom an event is missing."""
        numbers = defaultdict(list)
        for event in self.events:
            numbers[event.writer].append(event.number)
        return [writer for writer, seen in numbers.items() if sorted(seen) != list(range(1, len(seen) + 1))]

    @property
    def kills(self) -> list[Life]:
        """Lives that ended without a word."""
        return [life for life in self.lives if life.report is None and life.killed_at < NEVER]

    def life_at(self, at: float) -> Life | None:
        """The broker that lived then."""
        return next((life for life in self.lives if life.has(at)), None)

    def attempts(self) -> Iterator[tuple[Story, Attempt]]:
        """All of all tasks."""
        for story in self.stories.values():
            for attempt in story.attempts:
                yield story, attempt

    def over_at(self, story: Story, index: int) -> float:
        """When the attempt of this index was over at the latest, as far as its witnesses tell."""
        attempt = story.attempts[index]
        if attempt.end is not None:
            return attempt.end.at
        # It was cut off: by its child host's death, which the broker settled, or by the broker's own.
        after = [event.at for event in story.settled if event.at >= attempt.start.at]
        life = self.life_at(attempt.start.at)
        return min([*after[:1], life.ended_at if life else NEVER, NEVER])
