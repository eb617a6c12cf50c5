"""`kill -9` of child hosts under load: no accepted task is lost, and every task that runs again has a cause."""

from __future__ import annotations

import random
import time
from pathlib import Path

import psutil

from tests.history.events import fault
from tests.history.history import Terms
from tests.history.load import Load, Mix
from tests.history.process import WitnessedBroker
from tests.long.tally import Tally, judged

HOSTS = 2
TERMS = Terms(capacity=40, workers=2, child_workers=HOSTS * 2, idle_s=20)
MIX = Mix(ok=2, slow=1, flaky=1, fails=1, exits=0, awaits=0, later=1, again=1, isolated=20, slow_s=0.01)
_AT_WORK_S = 60.0


def _at_work(folder: Path, broker: int) -> list[psutil.Process]:
    """Child hosts that have run something: their witness has a file."""
    return [
        child
        for child in psutil.Process(broker).children()
        if any(folder.glob(f"jobs-{child.pid}-*")) and child.status() != psutil.STATUS_ZOMBIE
    ]


def run(folder: Path, kills: int, seed: int) -> Tally:
    """So many kills. Timed: how long it took at most until a host was at work again."""
    rng, times_s = random.Random(seed), []
    settings = ("--child-hosts", str(HOSTS), "--child-workers", "2", "--poison-after", "100", "--log-level", "error")
    broker = WitnessedBroker(folder, TERMS, "--spill", "none", *settings)
    load = Load(broker.endpoint, folder, seed, MIX, most=1_000_000, pause_s=0.002)
    try:
        load.start()
        for _ in range(kills):
            began = time.monotonic()
            while not (hosts := _at_work(folder, broker.pid)):
                assert time.monotonic() - began < _AT_WORK_S, "no child host is at work"
                time.sleep(0.002)
            times_s.append(time.monotonic() - began)
            time.sleep(rng.uniform(0, 0.02))  # not for anything to happen: to hit any moment
            victim = rng.choice(hosts)
            with fault(folder, "kill_host", pid=victim.pid):
                victim.kill()
                psutil.wait_procs([victim], timeout=_AT_WORK_S)
        load.stop()
        assert broker.stop() == 0
    finally:
        broker.close()
        load.end()
    return judged(folder, TERMS, {"crashes"} if kills >= 5 else (), faults=kills, times_s=times_s)
