"""Standard runs: one broker, its producers, and how it ends. Each ends with faults over, producers stopped, a drain."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.operator_client import OperatorClient
from tests.history.history import Terms
from tests.history.load import Load, Mix
from tests.history.operator import operate
from tests.history.process import WitnessedBroker

FOLDER: Final = "FOLDER"  #: stands in settings for where the witnesses write


@dataclass(frozen=True)
class Scenario:
    """What a run is like."""

    terms: Terms
    act: Callable[[WitnessedBroker, Path], None]
    settings: tuple[str, ...] = ("--drain-s", "20")

    def run(self, folder: Path, broken: str = "") -> Terms:
        """Make the run, with its witnesses in `folder`; the terms to judge it by."""
        settings = [setting.replace(FOLDER, str(folder)) for setting in self.settings]
        broker = WitnessedBroker(folder, self.terms, *settings, "--spill", "none", broken=broken)
        try:
            self.act(broker, folder)
            broker.stop()
        finally:
            broker.close()
        return self.terms


def _loads(broker: WitnessedBroker, folder: Path, count: int, most: int, **options: object) -> list[Load]:
    loads = [Load(broker.endpoint, folder, seed, most=most, **options) for seed in range(1, count + 1)]  # type: ignore[arg-type]
    for load in loads:
        load.start()
    return loads


def _join(broker: WitnessedBroker, loads: list[Load]) -> None:
    """Until all is submitted; or the broker has died of its fault, and nobody answers any more."""
    for load in loads:
        while not load.is_over(0.1):
            if broker.process.poll() is not None:
                load.stop()
        load.join()


def _mixed(broker: WitnessedBroker, folder: Path) -> None:
    _join(broker, _loads(broker, folder, 3, 150))


def _burst(broker: WitnessedBroker, folder: Path) -> None:
    _join(broker, _loads(broker, folder, 2, 120, batch=60, mix=Mix(0, 1, 0, 0, 0, 0, 0, 0, slow_s=0.15)))


def _full(broker: WitnessedBroker, folder: Path) -> None:
    # Tasks so long that all verdicts are written down before the first one ends, on a machine however loaded.
    _join(broker, _loads(broker, folder, 1, 30, batch=30, mix=Mix(0, 1, 0, 0, 0, 0, 0, 0, slow_s=1.0)))


def _fifo(broker: WitnessedBroker, folder: Path) -> None:
    _join(broker, _loads(broker, folder, 1, 100, batch=10, mix=Mix(1, 1, 0, 0, 0, 0, 0, 0, slow_s=0.002)))


def _cut(broker: WitnessedBroker, folder: Path) -> None:
    _join(broker, _loads(broker, folder, 1, 40, batch=20, mix=Mix(0, 1, 0, 0, 0, 0, 0, 0, slow_s=0.1)))


def _drain(broker: WitnessedBroker, folder: Path) -> None:
    loads = _loads(broker, folder, 2, 100_000, mix=Mix(0, 1, 0, 0, 0, 0, 0, 0, slow_s=0.05), pause_s=0.002)
    for load in loads:
        assert load.turned_away.wait(60)
    broker.stop()
    for load in loads:
        load.stop()


def _operated(broker: WitnessedBroker, folder: Path) -> None:
    loads = _loads(broker, folder, 2, 300, timeout_s=0.2, mix=Mix(fails=8))
    with OperatorClient(folder / "operator") as client:
        operate(client, folder, loads, random.Random(1))
    _join(broker, loads)


def _slow(broker: WitnessedBroker, folder: Path) -> None:
    _join(broker, _loads(broker, folder, 1, 40, pause_s=0.01, mix=Mix(1, 0, 0, 0, 0, 0, 0, 0)))
    time.sleep(2.5)  # the anomaly is that nothing happens for so long


SCENARIOS: dict[str, Scenario] = {
    "mixed": Scenario(Terms(capacity=40, workers=3), _mixed),
    "burst": Scenario(Terms(capacity=20, workers=3), _burst),
    "full": Scenario(Terms(capacity=20, workers=3), _full, ("--drain-s", "0.2")),
    "fifo": Scenario(Terms(capacity=1_000, workers=1, fifo=True), _fifo),
    "cut": Scenario(Terms(capacity=100, workers=2), _cut, ("--drain-s", "0.2")),
    "drain": Scenario(Terms(capacity=20, workers=2), _drain, ("--drain-s", "3")),
    "operated": Scenario(
        Terms(capacity=30, workers=3), _operated, ("--drain-s", "20", "--operator", f"{FOLDER}/operator")
    ),
    "slow": Scenario(Terms(capacity=100, workers=2), _slow, ("--drain-s", "0.5")),
}
