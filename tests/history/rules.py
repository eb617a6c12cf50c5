"""What must hold of every history: a rule for each anomaly, and what it is called.

Each takes a history and the terms of its run, and gives what it found. `RULES` is the list of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.history.history import NEVER, History, Life, Story, Terms


@dataclass(frozen=True)
class Finding:
    """One anomaly, with what shows it."""

    anomaly: str
    id: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.anomaly}: {self.id}: {self.evidence}"


Rule = Callable[[History, Terms], Iterator[Finding]]

#: Outcomes after which a task runs no more.
_FINAL: Final = ("succeeded", "dead", "expired")
#: Outcomes that call for another attempt: the recorded causes of a further start.
_AGAIN: Final = ("retry", "displaced")


def ends_of(story: Story) -> list[float]:
    """When this task came to its end, each time that it did. That it succeeded, its function says, and no broker."""
    return sorted(
        [event.at for event in [*story.outcomes("dead", "expired"), *story.returned, *story.cancelled]]
        + [one.end.at for one in story.succeeded if one.end is not None]
    )


def has_ended(story: Story) -> bool:
    """Whether this task came to an end, and if it was requeued, to another one since."""
    since = max((event.at for event in story.requeued), default=0.0)
    return any(at >= since for at in ends_of(story))


def in_loss_window(history: History, story: Story) -> bool:
    """Whether a broker was killed that held this task: accepted before that, and not ended before."""
    if not story.accepted:
        return False
    last = history.life_at(max(event.at for event in [*story.accepted, *story.requeued]))
    return last in history.kills and not has_ended(story)


def lost(history: History, _: Terms) -> Iterator[Finding]:
    """An accepted task ends; only one that a killed broker held may be missing."""
    for story in history.stories.values():
        if story.is_accepted and not has_ended(story) and not in_loss_window(history, story):
            yield Finding("lost", story.id, f"accepted at {story.accepted[-1].at:.3f}, and never ended")
    for life in history.lives:
        if life.report is not None and life.report["saved"] and life.followed_at < NEVER:
            for story in history.stories.values():
                left = any(life.has(event.at) for event in story.returned)
                if left and not any(event.at > life.report.at for event in story.loaded):
                    yield Finding("lost", story.id, "returned and saved, and not loaded by the next broker")


def rejected_but_executed(history: History, _: Terms) -> Iterator[Finding]:
    """A task that was only ever rejected does not run."""
    for story in history.stories.values():
        if story.rejected and not story.accepted and not story.unknown and story.attempts:
            reason = story.rejected[-1]["reason"]
            yield Finding("rejected but executed", story.id, f"rejected as {reason}, and started")


def never_submitted(history: History, _: Terms) -> Iterator[Finding]:
    """What runs was submitted."""
    for story in history.stories.values():
        if story.attempts and not story.invokes:
            yield Finding("never submitted", story.id, "started, and no producer knows it")


def duplicate(history: History, _: Terms) -> Iterator[Finding]:
    """Every start beyond the first has a cause on record."""
    for story in history.stories.values():
        causes = len(story.outcomes(*_AGAIN))
        causes += sum(event["was"] == "running" for event in story.returned)
        causes += len(story.requeued)
        # A broker knows no ids of the one before: who submits again is heard again.
        maybe_new = [event.at for event in story.accepted if not event["duplicate"]]
        maybe_new += [event.at for event in story.unknown]
        causes += max(0, len({id(history.life_at(at)) for at in maybe_new}) - 1)
        if len(story.attempts) - 1 > causes:
            yield Finding("duplicate", story.id, f"{len(story.attempts)} starts, {causes} causes for another one")


def accepted_twice(history: History, terms: Terms) -> Iterator[Finding]:
    """In one broker's life an id is new once."""
    if not terms.remembers:
        return
    for story in history.stories.values():
        for life in history.lives:
            new = [e for e in story.accepted if life.has(e.at) and not e["duplicate"]]
            if len(new) > 1:
                yield Finding("accepted twice", story.id, f"new at {new[0].at:.3f} and again at {new[1].at:.3f}")


def retry_count(history: History, _: Terms) -> Iterator[Finding]:
    """A task that always fails starts `retries + 1` times."""
    for story in history.stories.values():
        plan = story.plan
        if plan is None or plan.get("job") != "fails" or not story.is_accepted or history.kills or story.returned:
            continue
        if len([event for event in story.accepted if not event["duplicate"]]) + len(story.unknown) > 1:
            continue
        if any(event["kind"] == "crashed" for event in story.settled):
            continue  # a child host may die after the attempt was begun, and before its function could witness it
        uncounted = len(story.outcomes("displaced"))
        expected = plan["retries"] + 1
        if len(story.attempts) - uncounted != expected and not story.operated:
            yield Finding("retry count", story.id, f"{len(story.attempts)} starts with retries={plan['retries']}")


def retry_too_early(history: History, _: Terms) -> Iterator[Finding]:
    """The next attempt waits for its backoff."""
    for story in history.stories.values():
        backoff_s = story.plan.get("backoff_s") if story.plan is not None else None
        if not backoff_s:
            continue
        for before, after in pairwise(story.attempts):
            if before.end is None or before.end["outcome"] != "raised" or after.number != before.number + 1:
                continue
            waited = after.start.at - before.end.at
            if waited < backoff_s:
                yield Finding("retry too early", story.id, f"after {waited:.4f} s of {backoff_s} s")


def delayed_too_early(history: History, _: Terms) -> Iterator[Finding]:
    """A task that is submitted for later does not start before."""
    for story in history.stories.values():
        delay_s = story.plan.get("delay_s") if story.plan is not None else None
        if delay_s and story.attempts and story.attempts[0].start.at - story.invokes[0].at < delay_s:
            yield Finding("delayed too early", story.id, f"started before its {delay_s} s were over")


def overlap(history: History, _: Terms) -> Iterator[Finding]:
    """Two attempts of one task are never made at the same time."""
    for story in history.stories.values():
        for index, after in enumerate(story.attempts[1:]):
            over = history.over_at(story, index)
            if after.start.at < over:
                evidence = f"started at {after.start.at:.3f}, while the one before went on until {over:.3f}"
                yield Finding("overlap", story.id, evidence)


def order(history: History, terms: Terms) -> Iterator[Finding]:
    """One producer, one worker, nothing delayed: first in, first out."""
    if not terms.fifo:
        return
    submitted = [story for story in history.stories.values() if story.is_accepted and story.attempts]
    submitted.sort(key=lambda story: story.invokes[0].at)
    for before, after in pairwise(submitted):
        if after.attempts[0].start.at < before.attempts[0].start.at:
            yield Finding("order", after.id, f"started before {before.id}, which was submitted earlier")


def capacity(history: History, terms: Terms) -> Iterator[Finding]:
    """What is surely held never exceeds the bound: from the moment that a producer knows, to the last end."""
    changes = []
    for story in history.stories.values():
        new = [event for event in story.accepted if not event["duplicate"]]
        if not new:
            continue
        until = max([one.end.at for one in story.attempts if one.end is not None], default=NEVER)
        died = min([life.ended_at for life in history.lives if life.has(new[0].at)], default=NEVER)
        finals = [event.at for event in [*story.outcomes(*_FINAL), *story.returned]]
        until = min([until, died, *finals[:1], *[event["at_ask"] for event in story.cancelled]])
        if new[0].at < until:
            changes += [(new[0].at, 1, story.id), (until, -1, story.id)]
    held = 0
    for _, change, task_id in sorted(changes):
        held += change
        if held > terms.capacity:
            yield Finding("capacity exceeded", task_id, f"{held} tasks were held, of {terms.capacity}")
            return


def spurious_rejection(history: History, terms: Terms) -> Iterator[Finding]:
    """Nobody is told `full` while the queue surely has room: a quarter is what it may keep for those it expects."""
    spans = []
    for story in history.stories.values():
        if story.is_accepted or story.unknown:
            ended = max([one.end.at for one in story.attempts if one.end is not None], default=NEVER)
            spans.append((story.invokes[0].at if story.invokes else 0.0, ended + terms.idle_s))
    for story in history.stories.values():
        for event in story.rejected:
            if event["reason"] != "full":
                continue
            possible = sum(began <= event.at and ended >= event["at_invoke"] for began, ended in spans)
            if possible < terms.capacity - terms.capacity // 4:
                yield Finding("spurious rejection", story.id, f"full with at most {possible} of {terms.capacity}")
                return


def worker_limit(history: History, terms: Terms) -> Iterator[Finding]:
    """No more tasks run at the same time than there are workers, of either kind."""
    for isolated, workers in ((False, terms.workers), (True, terms.child_workers)):
        changes = []
        for story, attempt in history.attempts():
            if attempt.end is not None and story.is_isolated == isolated:
                changes += [(attempt.start.at, 1, story.id), (attempt.end.at, -1, story.id)]
        running = 0
        for _, change, task_id in sorted(changes):
            running += change
            if running > workers:
                yield Finding("worker limit", task_id, f"{running} tasks ran, with {workers} workers")
                return


def lost_wake_up(history: History, terms: Terms) -> Iterator[Finding]:
    """No worker idles while a task is ready that it could run."""
    for isolated, workers in ((False, terms.workers), (True, terms.child_workers)):
        stories = [story for story in history.stories.values() if story.is_isolated == isolated]
        busy = [(attempt.start.at, 1) for story in stories for attempt in story.attempts]
        busy += [(history.over_at(story, index), -1) for story in stories for index in range(len(story.attempts))]
        busy.sort()
        for story in stories:
            for began, until in _waits(history, story):
                if until - began > terms.idle_s and _idle_within(busy, began, until, workers) > terms.idle_s:
                    yield Finding("lost wake-up", story.id, f"ready for {until - began:.3f} s beside an idle worker")
                    return


def _waits(history: History, story: Story) -> Iterator[tuple[float, float]]:
    """The spans in which this task was surely ready, and was not run; of its first attempt, in one broker's life."""
    new = [event for event in story.accepted if not event["duplicate"]]
    if not new or story.plan is None:
        return
    life = history.life_at(new[0].at)
    stops = [life.ended_at, life.draining.at if life.draining else NEVER] if life else []
    start = min([one.start.at for one in story.attempts], default=NEVER)
    finals = [event.at for event in [*story.outcomes(*_FINAL), *story.cancelled]]
    until = min([start, *stops, *finals, history.events[-1].at])
    pauses = sum((story.plan.get("delay_s") or 0.0,))
    for event in history.faults:  # a broker that is stopped wakes nobody
        if event["name"] in {"stop", "pause"} and new[0].at <= event.at <= until:
            return
    yield new[0].at + pauses, until


def _idle_within(busy: list[tuple[float, int]], began: float, until: float, workers: int) -> float:
    """The longest stretch in the span in which fewer tasks ran than there are workers."""
    running, since, longest = 0, None, 0.0
    for at, change in [*busy, (until, 0)]:
        if at >= began and running < workers:
            since = max(began, since if since is not None else began)
            longest = max(longest, min(at, until) - since)
        running += change
        since = (at if since is None else since) if running < workers else None
        if at >= until:
            break
    return longest


def executed_after_stop(history: History, _: Terms) -> Iterator[Finding]:
    """What a broker has given back does not start any more; nor does anything when it has reported."""
    for story, attempt in history.attempts():
        life = history.life_at(attempt.start.at)
        # One that a worker had taken already may begin in this very moment: it was given back as a running one.
        given_back = [event for event in story.returned if event["was"] != "running"]
        if any(event.at < attempt.start.at and history.life_at(event.at) is life for event in given_back):
            yield Finding("executed after stop", story.id, "started after it was given back")
        if life is not None and life.report is not None and attempt.start.at > life.report.at:
            yield Finding(
                "executed after stop", story.id, f"started {attempt.start.at - life.report.at:.3f} s after it"
            )


def accepted_while_draining(history: History, _: Terms) -> Iterator[Finding]:
    """Once a producer has heard `draining`, that broker accepts nothing new."""
    for life in history.lives:
        heard = [
            event.at for story in history.stories.values() for event in story.rejected
            if event["reason"] == "draining" and life.has(event.at)
        ]  # fmt: skip
        for story in history.stories.values():
            for event in story.accepted:
                if heard and event["at_invoke"] > min(heard) and life.has(event.at) and not event["duplicate"]:
                    yield Finding("accepted while draining", story.id, "new, after the drain was announced")


def conservation(history: History, _: Terms) -> Iterator[Finding]:
    """The broker's last ledger is what its witnesses and the others count, to the unit."""
    for life in history.lives:
        if life.report is None:
            continue
        ledger = life.report["ledger"]
        states = [name for name in ledger if name != "accepted"]
        if ledger["accepted"] != sum(ledger[name] for name in states):
            yield Finding("conservation", "ledger", f"does not balance: {ledger}")
        yield from _counts(history, life, ledger)


def _counts(history: History, life: Life, ledger: dict[str, int]) -> Iterator[Finding]:
    stories = history.stories.values()
    carried = {s.id for s in stories if any(life.has(e.at) for e in s.loaded)}
    heard = {s.id for s in stories if any(life.has(e.at) and not e["duplicate"] for e in s.accepted)} | carried
    maybe = {s.id for s in stories if any(life.has(e.at) for e in [*s.unknown, *s.accepted])}
    requeued = sum(life.has(e.at) for s in stories for e in s.requeued)
    if not len(heard) <= ledger["accepted"] <= len(heard | maybe):
        yield Finding(
            "conservation", "accepted", f"ledger {ledger['accepted']}, producers {len(heard)} to {len(heard | maybe)}"
        )
    done = sum(any(one.end and life.has(one.end.at) for one in s.succeeded) for s in stories)
    cut_off = sum(e["was"] == "running" for s in stories for e in s.returned if life.has(e.at))
    if not done - cut_off <= ledger["succeeded"] <= done:
        yield Finding("conservation", "succeeded", f"ledger {ledger['succeeded']}, task functions {done}")
    returned = sum(life.has(e.at) for s in stories for e in s.returned)
    if returned != ledger["returned"]:
        yield Finding("conservation", "returned", f"ledger {ledger['returned']}, named {returned}")
    cancelled = sum(any(life.has(e.at) for e in s.cancelled) for s in stories)
    if cancelled != ledger["cancelled"]:
        yield Finding("conservation", "cancelled", f"ledger {ledger['cancelled']}, told {cancelled}")
    dead = sum(life.has(e.at) for s in stories for e in s.outcomes("dead")) - requeued
    if dead != ledger["dead"]:
        yield Finding("conservation", "dead", f"ledger {ledger['dead']}, buried {dead}")


def payload_changed(history: History, _: Terms) -> Iterator[Finding]:
    """Every attempt sees the arguments that the producer sent."""
    for story, attempt in history.attempts():
        if story.plan is not None and attempt.start["sha"] != story.plan["sha"]:
            yield Finding("payload changed", story.id, f"attempt {attempt.number} saw other arguments")


def resurrection(history: History, _: Terms) -> Iterator[Finding]:
    """What has succeeded, is dead or cancelled, does not start again; unless its broker died, or it was requeued."""
    for story in history.stories.values():
        for event in [*story.outcomes("succeeded", "dead"), *story.cancelled]:
            life = history.life_at(event.at)
            for attempt in story.attempts:
                if attempt.start.at <= event.at or life is None or not life.has(attempt.start.at):
                    continue
                if not any(event.at <= done.at <= attempt.start.at for done in story.requeued):
                    yield Finding("resurrection", story.id, f"{event['outcome']}, and started again")


def ran_while_paused(history: History, _: Terms) -> Iterator[Finding]:
    """What was submitted when a pause had been confirmed does not start before its end was asked for."""
    paused = [event for event in history.faults if event["name"] == "pause"]
    for story, attempt in history.attempts():
        submitted = min((event.at for event in story.invokes), default=NEVER)
        before = [event for event in paused if event.at <= submitted][-1:]
        after = [event.at for event in paused if event.at > submitted and event["phase"] == "end"][:1]
        if before and before[0]["phase"] == "begin" and after and attempt.start.at < after[0]:
            yield Finding("ran while paused", story.id, f"submitted at {submitted:.3f} and started, in a pause")


RULES: Final[tuple[Rule, ...]] = (
    lost, rejected_but_executed, never_submitted, duplicate, accepted_twice, retry_count, retry_too_early,
    delayed_too_early, overlap, order, capacity, spurious_rejection, worker_limit, lost_wake_up, executed_after_stop,
    accepted_while_draining, conservation, payload_changed, resurrection, ran_while_paused,
)  # fmt: skip
