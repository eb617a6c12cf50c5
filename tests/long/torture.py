"""`make torture`: every fault of the list, again and again, and what came of it.

`python -m tests.long.torture [STAGE …]`. In the environment: `SCALE` (1; 0.05 for a twentieth), `SEED` (any; printed,
so that a run can be had again). Prints a table, and writes it to `build/torture.json` in the shape of
`build/bench.json`. The exit code is 1 if a bar is missed, or a run has shown nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from subprocess import run as run_process
from typing import Any, Final

from benchmarks.row import Row, at_least, at_most
from tests.faults.lengths import VARIABLE
from tests.faults.rows import ROOT, ROWS, collected, index, rows_of
from tests.long import connections, host_kills, kills, malformed, network, sigterm
from tests.long.tally import Tally, each, split

_KILLS: Final = 1_000
_STOPS: Final = 1_000
_IN_PROCESS: Final = 10_000_000
_ON_THE_WIRE: Final = 100_000
_CONNECTIONS: Final = 2_000  # at any scale: that is seconds
_NETWORKS: Final = 12
_MIB: Final = 2**20


class Torture:
    """One run: its seed and scale, and the findings so far."""

    def __init__(self, seed: int, scale: float) -> None:
        self.seed = seed
        self.scale = scale
        self.total = Tally()
        self.inputs = 0
        self.findings: list[str] = []
        self._told = 0.0

    def times(self, most: int, least: int = 2) -> int:
        """`most`, to this run's scale."""
        return max(least, round(most * self.scale))

    def tell(self, what: str, done: int, of: int) -> None:
        """Show how far it is: in place on a terminal, else every few seconds."""
        now = time.monotonic()
        if sys.stderr.isatty():
            print(
                f"\r\x1b[K{what}: {done:,} of {of:,}", end="" if done < of else "\r\x1b[K", file=sys.stderr, flush=True
            )
        elif now - self._told > 10:
            self._told = now
            print(f"    … {what}: {done:,} of {of:,}", file=sys.stderr, flush=True)

    def each(
        self, what: str, run: Callable[..., Tally], arguments: Sequence[tuple[Any, ...]], beside: int = 2
    ) -> tuple[Tally, int]:
        """All of these runs: their tally, and how many of them returned tasks. It is shown as it goes."""
        tally, returning = Tally(), 0
        for one in each(run, arguments, beside):
            tally += one
            returning += one.returned > 0
            self.tell(
                f"{what}, {tally.accepted:,} tasks accepted, {len(tally.findings)} findings", tally.runs, len(arguments)
            )
        self.total += tally
        self.findings += tally.findings
        return tally, returning

    def rows(self) -> Iterator[Row]:
        """The test of every row of the list, in its long form."""
        tests = {test for named in index(collected()).values() for test in named}
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            command = [sys.executable, "-m", "pytest", "-q", "--timeout=900"]
            command += [f"--junitxml={report}", *sorted(tests)]
            environment = {**os.environ, VARIABLE: str(self.scale)}
            ended = run_process(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314 - as above
        passed: dict[str, bool] = {}
        for case in cases:
            for row in rows_of(case.get("name", "")):
                passed[row] = passed.get(row, True) and len(case.findall("failure") + case.findall("error")) == 0
        if ended.returncode:
            self.findings.append("tests of rows failed: " + ended.stdout[-3_000:])
        yield at_least("rows of the list that are green", sum(passed.values()), "rows", len(ROWS))
        yield Row("their tests", len(cases), "tests", None, None)

    def kills(self) -> Iterator[Row]:
        """`kill -9` of the broker."""
        count = self.times(_KILLS)
        chains = [(cycles, self.seed * 1_000 + number) for number, cycles in enumerate(split(count, 10))]
        tally, _ = self.each("kills of the broker", kills.run, chains)
        yield at_least("kill -9 of the broker", tally.faults, "kills", count)
        yield at_least("  lost with it: accepted, unfinished", tally.loss_window, "tasks", 1)
        yield from self._nothing_else(tally)
        yield at_most("  successor at the same port, median", tally.median_s, "s", 1)
        yield Row("  successor at the same port, slowest", tally.longest_s, "s", None, None)

    def host_kills(self) -> Iterator[Row]:
        """`kill -9` of child hosts."""
        count = self.times(_KILLS)
        runs = [(each_run, self.seed * 1_000 + number) for number, each_run in enumerate(split(count, 25))]
        tally, _ = self.each("kills of child hosts", host_kills.run, runs)
        yield at_least("kill -9 of child hosts", tally.faults, "kills", count)
        yield from self._nothing_else(tally)
        yield at_least("  run again, with a cause", tally.caused, "starts", 1)

    def sigterm(self) -> Iterator[Row]:
        """SIGTERM at a random moment of load."""
        count = self.times(_STOPS, 4)
        rounds = [(self.seed * 10_000 + number,) for number in range(count)]
        tally, returning = self.each("SIGTERM under load", sigterm.run, rounds, beside=4)
        yield at_least("SIGTERM at random moments of load", tally.faults, "stops", count)
        yield at_least("  that finished all", tally.runs - returning, "stops", 1)
        yield at_least("  that returned tasks by name", returning, "stops", 1)
        yield from self._nothing_else(tally)
        yield at_most("  end after the drain deadline, slowest", tally.longest_s, "s", 1)

    def network(self) -> Iterator[Row]:
        """A network that misbehaves, and SIGSTOP."""
        runs = [(3, self.seed * 100 + number) for number in range(self.times(_NETWORKS))]
        tally, _ = self.each("a bad network, and SIGSTOP", network.run, runs)
        yield at_least("connections cut, silent, delayed, split; SIGSTOPs", tally.faults, "faults", len(runs))
        yield at_least("  tasks whose producer heard nothing", tally.unknown, "tasks", 1)
        yield from self._nothing_else(tally)

    def malformed(self) -> Iterator[Row]:
        """Broken requests."""
        count, broken, grown = self.times(_IN_PROCESS, 10_000), 0, 0
        for found in malformed.spread(count, self.seed, parts=max(2, min(20, count // 50_000))):
            broken += found.broken
            grown = max(grown, found.grown_bytes)
            self.tell("malformed requests in process", broken, count)
        yield at_least("malformed requests in process, one reply each", broken, "inputs", count)
        yield at_most("  memory that a process took for them", grown / _MIB, "MiB", 5)
        wire = self.times(_ON_THE_WIRE, 1_000)
        found = malformed.on_the_wire(
            wire, self.seed, lambda done: self.tell("malformed requests on the wire", done, wire)
        )
        yield at_least("malformed requests on the wire, one reply each", found.broken, "inputs", wire)
        yield at_most("  memory that the broker took for them", found.grown_bytes / _MIB, "MiB", 5)
        self.inputs += broken + found.broken

    def connections(self) -> Iterator[Row]:
        """Many producers at once."""
        found = connections.run(_CONNECTIONS)
        yield at_least("connections at once, all answered", found.answered, "replies", _CONNECTIONS)
        yield Row("  memory of the broker for each", found.bytes_each / 1_024, "KiB", None, None)
        yield at_most("  descriptors not given back", found.left, "fds", 0)

    @staticmethod
    def _nothing_else(tally: Tally) -> Iterator[Row]:
        yield at_least("  tasks accepted", tally.accepted, "tasks", 1)
        yield at_most("  lost beside that", tally.lost, "tasks", 0)
        yield at_most("  run again without a cause", tally.uncaused, "tasks", 0)
        yield at_most("  findings of the history checker", len(tally.findings), "findings", 0)


STAGES: Final[dict[str, Callable[[Torture], Iterator[Row]]]] = {
    "kills": Torture.kills,
    "host_kills": Torture.host_kills,
    "sigterm": Torture.sigterm,
    "network": Torture.network,
    "malformed": Torture.malformed,
    "connections": Torture.connections,
    "rows": Torture.rows,
}


def _show(row: Row) -> None:
    met = "" if row.met is None else "yes" if row.met else "NO"
    figure = f"{row.value:,.2f}" if isinstance(row.value, float) and row.value % 1 else f"{row.value:,.0f}"
    print(f"{row.name:<52} {figure:>12} {row.unit:<9} {row.bar or '':<15} {met}", flush=True)


def main(names: Sequence[str], seed: int, scale: float) -> int:
    """Run these stages; the exit code."""
    torture, rows, began = Torture(seed, scale), [], time.monotonic()
    print(f"seed {seed}, scale {scale:g}; the same again: SEED={seed} SCALE={scale:g} make torture", flush=True)
    for name in names:
        since = time.monotonic()
        for row in STAGES[name](torture):
            rows.append(row)
            _show(row)
        print(f"{'':<52} {time.monotonic() - since:>12,.0f} s", flush=True)
    total = torture.total
    summary = [
        Row("all: faults survived", total.faults, "faults", None, None),
        Row("all: malformed inputs tried", torture.inputs, "inputs", None, None),
        Row("all: tasks accepted", total.accepted, "tasks", None, None),
        Row("all: lost with a killed broker, as stated", total.loss_window, "tasks", None, None),
        at_most("all: lost", total.lost, "tasks", 0),
        Row("all: run again, with a cause", total.caused, "starts", None, None),
        at_most("all: run again, without a cause", total.uncaused, "tasks", 0),
        at_most("all: findings", len(torture.findings), "findings", 0),
        Row("all: time", time.monotonic() - began, "s", None, None),
    ]
    for row in summary:
        _show(row)
    for finding in torture.findings[:20]:
        print(f"finding: {finding}", file=sys.stderr)
    path = ROOT / "build" / "torture.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in [*rows, *summary]], indent=1) + "\n")
    print(f"written to {path.relative_to(ROOT)}")
    return 1 if any(row.met is False for row in [*rows, *summary]) else 0


if __name__ == "__main__":
    given = sys.argv[1:] or list(STAGES)
    if unknown := [name for name in given if name not in STAGES]:
        sys.exit(f"no stage '{unknown[0]}'; there are {', '.join(STAGES)}")
    a_seed = int(os.environ.get("SEED") or int.from_bytes(os.urandom(2)))
    sys.exit(main(given, a_seed, float(os.environ.get("SCALE") or 1)))
