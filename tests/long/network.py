"""A network that misbehaves, and a broker that is stopped now and then: producers go on submitting through both.

What they are told stays true: nothing that they heard to be accepted is lost, and nothing runs twice for a reply that
was lost on the way.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.faults.proxy import ChaosProxy
from tests.faults.stops import stopped
from tests.history.events import fault
from tests.history.history import Terms
from tests.history.load import Load, Mix
from tests.history.process import WitnessedBroker
from tests.long.progress import Progress
from tests.long.tally import Tally, judged

TERMS = Terms(capacity=400, workers=3, idle_s=20)
_TASKS = 400
_STOPPED_S = (0.05, 0.6)  # beyond a producer's patience with a reply, and within


def run(folder: Path, stops: int, seed: int) -> Tally:
    """Three producers behind the proxy, until each has submitted its tasks. Timed: nothing."""
    rng, progress = random.Random(seed), Progress()
    broker = WitnessedBroker(folder, TERMS, "--spill", "none", "--log-level", "error")
    try:
        with ChaosProxy(broker.endpoint, seed) as proxy:
            loads = [
                Load(
                    proxy.endpoint,
                    folder,
                    seed * 10 + number,
                    Mix(slow=1, again=4),
                    most=_TASKS,
                    batch=batch,
                    timeout_s=0.8,
                    on_progress=progress.more,
                )
                for number, batch in enumerate((1, 1, 7))
            ]
            for load in loads:
                load.start()
            for _ in range(stops):
                progress.wait_for(rng.randrange(5, 60))
                with fault(folder, "stop", pid=broker.pid), stopped(broker.pid):
                    time.sleep(rng.uniform(*_STOPPED_S))  # this is the fault
            for load in loads:
                load.join()
            faults = sum(proxy.suffered.values())
        assert broker.stop() == 0
    finally:
        broker.close()
    assert faults > 0, "vacuous: the network did nothing"
    return judged(folder, TERMS, {"duplicates"}, faults=faults + stops)
