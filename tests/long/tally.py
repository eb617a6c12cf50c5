"""What came of runs under faults: counted by the history checker, and added up."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.history.checker import AnomalyError, check
from tests.history.history import History, Terms

_DEATHS = 5  # of processes, after which there is no use in going on


@dataclass(frozen=True)
class Tally:
    """Of one run, or of many."""

    runs: int = 0
    faults: int = 0
    accepted: int = 0
    unknown: int = 0  #: tasks of which no producer ever heard
    loss_window: int = 0  #: accepted tasks that a killed broker held: what memory mode does not promise to keep
    lost: int = 0  #: accepted tasks that are missing, beside those
    caused: int = 0  #: starts beyond a task's first one, each with a cause on record
    uncaused: int = 0  #: tasks with more starts than causes
    returned: int = 0  #: handed back by a stop, by name
    times_s: tuple[float, ...] = ()  #: of whatever the run times
    findings: tuple[str, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})

    @property
    def longest_s(self) -> float:
        """The longest of what was timed; 0 if nothing was."""
        return max(self.times_s, default=0.0)

    @property
    def median_s(self) -> float:
        """The median of it; 0 if nothing was."""
        return statistics.median(self.times_s) if self.times_s else 0.0

    def but(self, **changes: Any) -> Tally:
        """The same with other counts."""
        return replace(self, **changes)


def judged(folder: Path, terms: Terms, demand: Collection[str], *, faults: int, times_s: Sequence[float] = ()) -> Tally:
    """Of one run whose witnesses wrote to `folder`; a vacuous one is a finding."""
    try:
        verdict = check(History.read(folder), terms, demand)
    except AnomalyError as error:
        found = str(error).splitlines()
        return Tally(
            runs=1,
            faults=faults,
            lost=sum(line.startswith("lost:") for line in found),
            uncaused=sum(line.startswith("duplicate:") for line in found),
            times_s=tuple(times_s),
            findings=tuple(found),
        )
    return Tally(
        runs=1,
        faults=faults,
        accepted=verdict.accepted,
        unknown=verdict.unknown,
        loss_window=verdict.loss_window,
        caused=verdict.caused,
        times_s=tuple(times_s),
    )


def _in_a_folder(run: Callable[..., Tally], arguments: tuple[Any, ...]) -> Tally:
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        try:
            return run(Path(folder), *arguments)
        except Exception as error:  # noqa: BLE001 - one run that fails is a finding; the others go on
            log = Path(folder) / "broker.log"
            last = log.read_text(errors="replace")[-2_000:] if log.exists() else ""
            return Tally(runs=1, findings=(f"failed: {run.__module__}{arguments}: {error!r} {last}",))


def each(run: Callable[..., Tally], arguments: Sequence[tuple[Any, ...]], beside: int = 2) -> Iterator[Tally]:
    """`run(folder, *arguments)` for each of them, some beside each other, in processes; as they end.

    A process that does not survive is a finding; the others' runs are made again, in new ones.
    """
    left = dict(enumerate(arguments))
    deaths = 0
    while left and deaths <= _DEATHS:
        with ProcessPoolExecutor(beside, mp_context=get_context("spawn")) as pool:
            number_of = {pool.submit(_in_a_folder, run, one): number for number, one in left.items()}
            for done in as_completed(number_of):
                if done.exception() is None:
                    del left[number_of[done]]
                    yield done.result()
        if left:
            deaths += 1
            yield Tally(findings=(f"a process of {run.__module__} was ended in the middle; see what it wrote above",))


def split(count: int, most: int) -> list[int]:
    """`count` in parts of `most`, the last one being what is left."""
    return [most] * (count // most) + ([count % most] if count % most else [])
