"""SIGTERM at a random moment of load: does the broker end in time, and account for every task that it accepted?

`python -m tests.long.sigterm [ROUNDS [SEED]]`
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
from pathlib import Path

from tests.history.history import Terms
from tests.history.load import Load, Mix
from tests.history.process import WitnessedBroker
from tests.long.progress import Progress
from tests.long.tally import Tally, each, judged

DRAIN_S = 0.4
TERMS = Terms(capacity=300, workers=4, idle_s=10)
EASY = Mix(ok=14, slow=3, flaky=1, exits=1, fails=1, later=1, slow_s=0.005)
HARD = Mix(ok=10, slow=6, flaky=2, exits=1, fails=2, later=2, slow_s=0.15)
#: From the signal to the end, beside the drain deadline: what is promised, and what a loaded machine may add.
_SLACK_S = 1.0


def run(folder: Path, seed: int) -> Tally:
    """Start, load, stop. Timed: how long the stop took beyond its drain deadline. `AssertionError` where the exit code,
    the report and the named ids do not fit each other.
    """
    rng, progress = random.Random(seed), Progress()
    broker = WitnessedBroker(folder, TERMS, "--spill", str(folder / "spill"), "--drain-s", str(DRAIN_S))
    mix = HARD if rng.random() < 0.5 else EASY
    loads = [
        Load(broker.endpoint, folder, seed * 10 + number, mix, batch=batch, timeout_s=0.5, on_progress=progress.more)
        for number, batch in enumerate((1, rng.choice((5, 40))))
    ]
    try:
        for load in loads:
            load.start()
        progress.wait_for(rng.randrange(1, 200))
        began = time.monotonic()
        assert broker.process.stdout is not None
        broker.process.terminate()
        report = broker.process.stdout.read()
        code = broker.process.wait(60)
        took = time.monotonic() - began
        for load in loads:
            load.stop()
    finally:
        broker.close()
        for load in loads:
            load.end()
    words = dict(word.split("=") for word in report.split()[2:])
    outcome, returned, saved = words["outcome"], int(words["returned"]), int(words["saved"])
    named = set(re.findall(r" returned id=(\S+)", (folder / "broker.log").read_text()))
    assert (code, outcome) in {(0, "finished"), (5, "deadline")}, (code, outcome)
    assert (code == 0) == (returned == 0), report
    assert saved == returned, report
    assert len(named) == min(returned, len(named)), (len(named), returned)
    tally = judged(folder, TERMS, {"returned"} if returned else (), faults=1, times_s=[max(0.0, took - DRAIN_S)])
    return tally.but(returned=returned)


def main(rounds: int, seed: int) -> None:
    """So many rounds, and what came of them."""
    total, finished = Tally(), 0
    for one in each(run, [(seed * 100_000 + number,) for number in range(rounds)]):
        total += one
        finished += not one.returned
        if sys.stderr.isatty():
            print(f"\r{total.runs} of {rounds}", end="", file=sys.stderr, flush=True)
    print(f"{rounds} stops at random moments of load, seed {seed}: {finished} finished, {rounds - finished} cut off")
    print(
        f"accepted {total.accepted:,}, returned by name {total.returned:,}, lost {total.lost}; "
        f"longest stop: {total.longest_s:.2f} s after the drain deadline of {DRAIN_S} s"
    )
    assert not total.findings, "\n".join(total.findings[:20])
    assert total.longest_s < _SLACK_S, total.longest_s
    assert 0 < finished < rounds, "vacuous: all stops ended alike"


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(given[0] if given else 200, given[1] if len(given) > 1 else int.from_bytes(os.urandom(3)))
