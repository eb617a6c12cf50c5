"""`kill -9` of the broker under load, again and again, each time with a successor on the same port.

In memory mode what may be missing afterwards is a task that was accepted and not finished at the kill, and nothing
else; the history checker counts. Producers go on submitting through all of it.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.history.history import Terms
from tests.history.load import Load, Mix
from tests.history.process import WitnessedBroker
from tests.long.progress import Progress
from tests.long.tally import Tally, judged

TERMS = Terms(capacity=80, workers=3, idle_s=10)
MIX = Mix(ok=8, slow=8, slow_s=0.01)


def run(folder: Path, cycles: int, seed: int) -> Tally:
    """So many kills. Timed: from the start of a successor to its being ready, at the port of the one before."""
    rng, progress, times_s = random.Random(seed), Progress(), []
    broker = WitnessedBroker(folder, TERMS, "--spill", "none", "--log-level", "error")
    endpoint = broker.endpoint
    loads = [
        Load(endpoint, folder, seed * 10 + number, MIX, most=1_000_000, batch=batch, on_progress=progress.more)
        for number, batch in enumerate((1, 6, 20))
    ]
    try:
        for load in loads:
            load.start()
        for _ in range(cycles):
            progress.wait_for(rng.randrange(20, 200))
            time.sleep(rng.uniform(0, 0.01))  # not for anything to happen: to hit any moment
            broker.kill()
            broker.close()
            began = time.monotonic()
            broker = WitnessedBroker(folder, TERMS, "--spill", "none", "--log-level", "error", endpoint=endpoint)
            times_s.append(time.monotonic() - began)
        progress.wait_for(20)
        for load in loads:
            load.stop()
        assert broker.stop() == 0
    finally:
        broker.close()
        for load in loads:
            load.end()
    return judged(folder, TERMS, {"kill_in_flight"}, faults=cycles, times_s=times_s)
