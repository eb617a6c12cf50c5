"""The checker is checked: for every anomaly a history that must be flagged, and a near miss that must pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.history.checker import DEMANDS, AnomalyError, check, findings
from tests.history.events import Event
from tests.history.history import History, Terms
from tests.history.rules import RULES

FIRST = 100
ENDS = ("accepted", "ready", "delayed", "running", "succeeded", "dead", "cancelled", "expired", "returned")


class Tale:
    """Events, told in order; each a tenth of a second after the one before, unless it is said when."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now = 0.0
        self.broker = FIRST  # the pid of the broker that is told about
        self.tell("boot", pid=self.broker)

    def tell(self, event: str, at: float | None = None, /, **fields: Any) -> Tale:
        """One event."""
        self.now = at if at is not None else round(self.now + 0.1, 6)
        self.events.append(Event(self.now, "w", len(self.events) + 1, event, fields))
        return self

    def submit(self, task_id: str = "a", *, at: float | None = None, duplicate: bool = False, **plan: Any) -> Tale:
        """Invoked and accepted."""
        given = {"job": "ok", "retries": 3, "delay_s": 0.0, "backoff_s": 0.05, "isolated": False, "sha": "s", **plan}
        self.tell("invoke", at, id=task_id, **given)
        return self.tell("accepted", id=task_id, duplicate=duplicate, at_invoke=self.events[-1].at)

    def refuse(self, task_id: str = "a", reason: str = "full") -> Tale:
        """Invoked and rejected."""
        self.tell("invoke", id=task_id, job="ok", retries=3, delay_s=0.0, backoff_s=0.05, isolated=False, sha="s")
        return self.tell("rejected", id=task_id, reason=reason, at_invoke=self.events[-1].at)

    def doubt(self) -> Tale:
        """No reply."""
        return self.tell("unknown", id="a", at_invoke=0.0)

    def start(
        self, task_id: str = "a", attempt: int = 1, *, at: float | None = None, sha: str = "s", thread: int = 1
    ) -> Tale:
        """A function begins."""
        return self.tell("start", at, id=task_id, attempt=attempt, sha=sha, pid=self.broker, thread=thread)

    def end(self, task_id: str = "a", outcome: str = "ok", *, at: float | None = None, thread: int = 1) -> Tale:
        """It ends."""
        return self.tell("end", at, id=task_id, outcome=outcome, pid=self.broker, thread=thread)

    def settle(self, task_id: str = "a", outcome: str = "succeeded", kind: str = "") -> Tale:
        """The broker writes it into its books."""
        return self.tell("settled", id=task_id, attempt=1, outcome=outcome, kind=kind)

    def run(self, task_id: str = "a", attempt: int = 1, outcome: str = "ok", then: str = "succeeded") -> Tale:
        """Start, end, settle."""
        return self.start(task_id, attempt).end(task_id, outcome).settle(task_id, then)

    def failed(self, then: str = "retry", attempt: int = 1) -> Tale:
        """The same of a task that raised."""
        return self.run("a", attempt, "raised", then)

    def cancel(self, task_id: str = "a", outcome: str = "cancelled") -> Tale:
        """An operator is told what became of it."""
        return self.tell("operated", id=task_id, verb="cancel", outcome=outcome, at_ask=self.now)

    def requeue(self, task_id: str = "a") -> Tale:
        """The broker takes a dead task up again."""
        return self.tell("operated", id=task_id, verb="requeue")

    def pause(self, phase: str = "begin") -> Tale:
        """An operator was told that it is paused, or asks for the end of that."""
        return self.tell("fault", name="pause", phase=phase)

    def report(self, saved: int = 0, **counts: int) -> Tale:
        """The broker's last words."""
        ledger = dict.fromkeys(ENDS, 0) | counts
        return self.tell("report", pid=self.broker, ledger=ledger, saved=saved)

    def kill(self) -> Tale:
        """`kill -9`."""
        self.tell("fault", name="kill", phase="begin", pid=self.broker)
        return self.tell("fault", name="kill", phase="end", pid=self.broker)

    def boot(self) -> Tale:
        """The next broker."""
        self.broker += 1
        return self.tell("boot", pid=self.broker)


def new() -> Tale:
    """A new tale."""
    return Tale()


TERMS = Terms(capacity=2, workers=1, child_workers=1, idle_s=1.0)
FIFO = Terms(capacity=10, workers=1, fifo=True)

#: anomaly → (a history that has it, one that nearly has, terms)
CASES: dict[str, list[tuple[Callable[[], Tale], Callable[[], Tale], Terms]]] = {
    "lost": [
        (lambda: new().submit(), lambda: new().submit().run(), TERMS),
        (lambda: new().submit().failed("succeeded"), lambda: new().submit().kill(), TERMS),
        (lambda: new().submit().cancel(outcome="unknown"), lambda: new().submit().cancel().submit("b").run("b"), TERMS),
        (
            lambda: new().submit().failed("dead").requeue(),
            lambda: new().submit().failed("dead").requeue().failed("dead"),
            TERMS,
        ),
        (
            lambda: new().kill().boot().submit(),
            lambda: new().submit().kill().boot().submit().run(),
            TERMS,
        ),
        (
            lambda: new().submit().tell("returned", id="a", was="ready").report(1, accepted=1, returned=1).boot(),
            lambda: new().submit().tell("returned", id="a", was="ready").report(1, accepted=1, returned=1).boot()
            .tell("loaded", id="a").run(),
            TERMS,
        ),
    ],
    "rejected but executed": [
        (lambda: new().refuse().run(), lambda: new().refuse().submit().run(), Terms(capacity=1)),
        (lambda: new().refuse().run(), lambda: new().refuse().doubt().run(), Terms(capacity=1)),
    ],
    "never submitted": [(lambda: new().run(), lambda: new().submit().run(), TERMS)],
    "duplicate": [
        (
            lambda: new().submit().start().end().start(attempt=2).end().settle(),
            lambda: new().submit().start().end("a", "raised").settle(outcome="retry").start(attempt=2).end().settle(),
            TERMS,
        ),
        (
            lambda: new().submit().run().submit(duplicate=True).start().end(),
            lambda: new().submit().start().kill().boot().submit().run(),
            TERMS,
        ),
    ],
    "accepted twice": [
        (lambda: new().submit().run().submit().settle(), lambda: new().submit().run().submit(duplicate=True), TERMS),
    ],
    "retry count": [
        (
            lambda: new().submit(job="fails", retries=1).failed("dead"),
            lambda: new().submit(job="fails", retries=0).failed("dead"),
            TERMS,
        ),
        (
            lambda: new().submit(job="fails", retries=0).failed().failed("dead", 2),
            lambda: new().submit(job="fails", retries=0).failed("displaced").failed("dead"),
            TERMS,
        ),
    ],
    "retry too early": [
        (
            lambda: new().submit(backoff_s=0.5).failed().run("a", 2),
            lambda: new().submit(backoff_s=0.15).failed().run("a", 2),
            TERMS,
        ),
    ],
    "delayed too early": [
        (lambda: new().submit(delay_s=0.5).run(), lambda: new().submit(delay_s=0.2).run(), TERMS),
    ],
    "overlap": [
        (
            lambda: new().submit().start().settle(outcome="retry").start(attempt=2, thread=2).end().end(thread=2),
            lambda: new().submit().start().settle("a", "retry", "crashed").start("a", 2, thread=2).end(thread=2),
            Terms(capacity=2, workers=2, idle_s=1.0),
        ),
    ],
    "order": [
        (
            lambda: new().submit("a").submit("b").run("b").run("a"),
            lambda: new().submit("a").submit("b").run("a").run("b"),
            FIFO,
        ),
    ],
    "capacity exceeded": [
        (
            lambda: new().submit("a").submit("b").submit("c").run("a").run("b").run("c"),
            lambda: new().submit("a").submit("b").run("a").submit("c").run("b").run("c"),
            TERMS,
        ),
    ],
    "spurious rejection": [
        (
            lambda: new().submit("b").refuse("a").run("b"),
            lambda: new().submit("b").submit("c").refuse("a").run("b").run("c"),
            TERMS,
        ),
    ],
    "worker limit": [
        (
            lambda: new().submit("a").submit("b").start("a").start("b", thread=2).end("a").end("b", thread=2),
            lambda: new().submit("a").submit("b").start("a").end("a").start("b", thread=2).end("b", thread=2),
            TERMS,
        ),
        (
            lambda: new().submit("a").submit("b").start("a").start("b", thread=2).end("a").end("b", thread=2),
            lambda: new().submit().submit("b", isolated=True).start().start("b", thread=2).end().end("b", thread=2),
            TERMS,
        ),
    ],
    "lost wake-up": [
        (
            lambda: new().submit("a").start(at=5.0).end(at=5.1).settle(),
            lambda: new().submit("b").submit().start("b", at=0.6).end("b", at=5.0).settle("b").start().end().settle(),
            TERMS,
        ),
    ],
    "executed after stop": [
        (
            lambda: new().submit().report(accepted=1).start().end(),
            lambda: new().submit().run().report(accepted=1, succeeded=1),
            TERMS,
        ),
        (
            lambda: new().submit().tell("returned", id="a", was="ready").start().end(),
            lambda: new().submit().tell("returned", id="a", was="running").start().end(),
            TERMS,
        ),
    ],
    "accepted while draining": [
        (
            lambda: new().refuse("b", "draining").submit().run(),
            lambda: new().submit().run().refuse("b", "draining").submit("a", duplicate=True),
            TERMS,
        ),
    ],
    "conservation": [
        (
            lambda: new().submit().run().report(accepted=1, succeeded=1, dead=1),
            lambda: new().submit().run().report(accepted=1, succeeded=1),
            TERMS,
        ),
        (
            lambda: new().submit().run().report(accepted=2, succeeded=2),
            lambda: new().submit().run().tell("invoke", id="b", sha="s", job="ok")
            .tell("unknown", id="b", at_invoke=0.5).run("b").report(accepted=2, succeeded=2),
            Terms(capacity=9),
        ),
        (
            lambda: new().submit().report(accepted=1, returned=1),
            lambda: new().submit().tell("returned", id="a", was="ready").report(accepted=1, returned=1),
            TERMS,
        ),
        (
            lambda: new().submit().submit("b").run("b").cancel().report(accepted=2, succeeded=1, returned=1),
            lambda: new().submit().submit("b").run("b").cancel().report(accepted=2, succeeded=1, cancelled=1),
            TERMS,
        ),
        (
            lambda: new().submit().failed("dead").requeue().run().report(accepted=2, dead=1, succeeded=1),
            lambda: new().submit().failed("dead").requeue().run().report(accepted=1, succeeded=1),
            TERMS,
        ),
    ],
    "payload changed": [
        (
            lambda: new().submit().failed().start(attempt=2, sha="t").end().settle(),
            lambda: new().submit().failed().start(attempt=2).end().settle(),
            TERMS,
        ),
    ],
    "resurrection": [
        (
            lambda: new().submit().failed("dead").start(attempt=2).end().settle(),
            lambda: new().submit().failed("dead").requeue().run("a", 1),
            TERMS,
        ),
        (lambda: new().submit().cancel().run(), lambda: new().submit().cancel(outcome="running").run(), TERMS),
    ],
    "ran while paused": [
        (
            lambda: new().pause().submit().run().pause("end"),
            lambda: new().submit().pause().run().pause("end").submit("b").run("b"),
            TERMS,
        ),
        (
            lambda: new().pause().submit().run().pause("end"),
            lambda: new().pause().submit().pause("end").run(),
            TERMS,
        ),
    ],
}  # fmt: skip
PAIRS = [(anomaly, index) for anomaly, cases in CASES.items() for index in range(len(cases))]


@pytest.mark.parametrize(("anomaly", "index"), PAIRS)
def test_anomaly_is_flagged(anomaly: str, index: int) -> None:
    """By its name."""
    tale, _, terms = CASES[anomaly][index]
    assert anomaly in {found.anomaly for found in findings(History(tale().events), terms)}


@pytest.mark.parametrize(("anomaly", "index"), PAIRS)
def test_near_miss_passes(anomaly: str, index: int) -> None:
    """Nothing is found in it, of whatever kind."""
    _, tale, terms = CASES[anomaly][index]
    assert [str(found) for found in findings(History(tale().events), terms)] == []


def test_every_rule_has_its_case() -> None:
    """A rule that is never broken here may be one that cannot be."""
    assert len(CASES) == len(RULES)


def test_missing_event_is_no_pass() -> None:
    """A gap in a witness's numbers means that something happened that nobody knows of."""
    whole = new().submit().run().events
    assert check(History(whole), TERMS).succeeded == 1
    for missing in range(len(whole) - 1):  # the last one may be what it did not live to write
        with pytest.raises(AnomalyError, match=r"unknown|vacuous"):
            check(History([event for event in whole if event is not whole[missing]]), TERMS)


def test_run_that_shows_nothing_is_no_pass() -> None:
    """Nothing ran; or what the run was made for did not happen."""
    with pytest.raises(AnomalyError, match="nothing ran"):
        check(History(new().events), TERMS)
    for demand in DEMANDS:
        with pytest.raises(AnomalyError, match=f"vacuous: the run shows no {demand}"):
            check(History(new().submit().run().events), TERMS, demand=[demand])


@pytest.mark.parametrize(
    ("demand", "tale"),
    [
        ("kill_in_flight", lambda: new().submit("a").submit("b").start("a").kill()),
        ("rejections", lambda: new().submit("b").submit("c").refuse("a").run("b").run("c")),
        ("unknowns", lambda: new().submit().tell("unknown", id="b", at_invoke=0.0).run()),
        ("retries", lambda: new().submit().failed().run("a", 2)),
        ("dead", lambda: new().submit(job="fails", retries=0).failed("dead")),
        ("crashes", lambda: new().submit().start().settle(outcome="retry", kind="crashed").run("a", 2)),
        ("returned", lambda: new().submit("b").run("b").submit().tell("returned", id="a", was="ready")),
        ("cancelled", lambda: new().submit("b").run("b").submit().cancel()),
        ("requeued", lambda: new().submit().failed("dead").requeue().run()),
        ("pauses", lambda: new().submit().pause().run().pause("end")),
        ("duplicates", lambda: new().submit().run().submit(duplicate=True)),
    ],
)
def test_demand_is_met_by_what_it_asks_for(demand: str, tale: Callable[[], Tale]) -> None:
    """The smallest history that shows it."""
    check(History(tale().events), TERMS, demand=[demand])


def test_loss_window_is_counted() -> None:
    """What a killed broker held, and nobody has seen again, is no anomaly; and no secret."""
    verdict = check(History(new().submit("a").submit("b").run("a").kill().events), TERMS)
    assert (verdict.accepted, verdict.succeeded, verdict.loss_window) == (2, 1, 1)
