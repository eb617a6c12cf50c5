"""A producer that witnesses: what it submits, what it is told, and where it is told nothing."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from producer import Accepted, Keys, NoReply, Producer, Rejected, RemoteFault, Task, Verdict
from tests.history.events import Witness, sha
from tests.history.jobs import ISOLATED, SHORT

_LATER_S: Final = 0.05


@dataclass(frozen=True)
class Mix:
    """What is submitted: so many parts of each kind."""

    ok: int = 10
    slow: int = 3  #: each takes `slow_s`
    flaky: int = 3
    exits: int = 2
    fails: int = 2
    awaits: int = 2
    later: int = 2  #: submitted for later
    again: int = 2  #: a task that was submitted before, once more
    isolated: int = 0
    crashes: int = 0
    slow_s: float = 0.005

    @property
    def parts(self) -> dict[str, int]:
        """By name."""
        return {name: part for name, part in vars(self).items() if name != "slow_s" and part}


@dataclass
class Load:
    """One producer, on a thread of its own: submits until it is stopped, or has submitted so many."""

    endpoint: str
    folder: Path
    seed: int
    mix: Mix = field(default_factory=Mix)
    most: int = 10_000
    batch: int = 1  #: tasks in a request
    pause_s: float = 0.0
    timeout_s: float = 1.0
    reply_timeout_s: float = 0.3
    on_progress: Any = None  #: called with the number of tasks submitted so far
    keys: Keys | None = None

    def __post_init__(self) -> None:
        self.submitted = 0
        self.heard_from = threading.Event()  #: something was accepted
        self.turned_away = threading.Event()  #: something was rejected
        self._rng = random.Random(self.seed)
        self._stopping = threading.Event()
        self._sent: list[Task] = []
        self._accepted: list[str] = []  # ids, in the order of their verdicts
        self._thread = threading.Thread(target=self._run, name=f"load-{self.seed}", daemon=True)
        self.failed: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def latest(self, count: int) -> list[str]:
        """Ids of the tasks that were made last, and of those that were accepted last. Any thread may ask."""
        return list(dict.fromkeys([*(task.id for task in self._sent[-count:]), *self._accepted[-count:]]))

    def end(self) -> None:
        """Submit no more; does not wait. Twice is fine."""
        self._stopping.set()

    def stop(self) -> None:
        """Submit no more; returns when the last answer is there."""
        self.end()
        self.join()

    def join(self, timeout_s: float = 120) -> None:
        """Wait until all are submitted."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the producer hangs"
        if self.failed is not None:
            raise self.failed

    def is_over(self, patience_s: float) -> bool:
        """Whether all is submitted; waits a little for it."""
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        witness = Witness(self.folder, f"producer-{self.seed}")
        try:
            with Producer(
                self.endpoint, timeout_s=self.timeout_s, reply_timeout_s=self.reply_timeout_s, keys=self.keys
            ) as producer:
                while self.submitted < self.most and not self._stopping.is_set():
                    self._submit(producer, witness, [self._next() for _ in range(self.batch)])
                    if self.pause_s:
                        self._stopping.wait(self.pause_s)
        except BaseException as error:  # noqa: BLE001 - told to whoever joins
            self.failed = error
        finally:
            witness.close()

    def _submit(self, producer: Producer, witness: Witness, tasks: list[Task]) -> None:
        unique = list({task.id: task for task in tasks}.values())
        for task in unique:
            witness.note("invoke", id=task.id, sha=sha(list(task.args)), **plan_of(task))
        at = time.monotonic()
        try:
            if len(unique) == 1:
                verdicts: list[Verdict | None] = [producer.submit(unique[0])]
            else:
                verdicts = list(producer.submit_many(unique))
            unknown: tuple[str, ...] = ()
        except RemoteFault as error:
            verdicts, unknown = error.verdicts or [None] * len(unique), error.unknown_ids
            if not isinstance(error, NoReply) and not unknown and not error.verdicts:
                self._stopping.wait(_LATER_S)  # nobody is there, so nothing was sent
        for task, verdict in zip(unique, verdicts, strict=False):
            if isinstance(verdict, Accepted):
                witness.note("accepted", id=task.id, duplicate=verdict.duplicate, at_invoke=at)
                self._accepted.append(task.id)
                self.heard_from.set()
            elif isinstance(verdict, Rejected):
                witness.note("rejected", id=task.id, reason=str(verdict.reason), at_invoke=at)
                self.turned_away.set()
        for task_id in unknown:
            witness.note("unknown", id=task_id, why="no reply", at_invoke=at)
        self.submitted += len(unique)
        if self.on_progress is not None:
            self.on_progress(len(unique))

    def _next(self) -> Task:
        kind = self._rng.choices(list(self.mix.parts), list(self.mix.parts.values()))[0]
        if kind == "again" and self._sent:
            return self._rng.choice(self._sent[-50:])
        task_id = f"p{self.seed}-{self.submitted}-{len(self._sent)}-{self._rng.randrange(10**6)}"
        values = [self._rng.randrange(100) for _ in range(5)]
        retries = self._rng.randrange(3)
        made = {
            "slow": Task("ok", (values, self.mix.slow_s)),
            "flaky": Task("flaky", (values, self._rng.randrange(1, 4)), retries=3),
            "exits": Task("exits", (values, 2), retries=2),
            "fails": Task("fails", (values, 0.0), retries=retries),
            "awaits": Task("awaits", (values, 0.001)),
            "later": Task("ok", (values, 0.0), delay_s=_LATER_S),
            "isolated": Task("isolated", (values, self.mix.slow_s), retries=20),
            "crashes": Task("crashes", (values, 2), retries=20),
        }.get(kind, Task("ok", (values, 0.0)))
        made = made.but(id=task_id)
        self._sent.append(made)
        return made


def plan_of(task: Task) -> dict[str, Any]:
    """What its story should be like."""
    return {
        "job": task.name,
        "retries": 3 if task.retries is None else task.retries,
        "delay_s": task.delay_s or 0.0,
        "backoff_s": SHORT.first_s,
        "isolated": task.name in ISOLATED,
    }
