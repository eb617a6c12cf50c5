"""An operator that witnesses: pauses and resumes, cancels what it can, and requeues what has died."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from broker.operator_client import OperatorClient
from tests.history.events import Witness, fault
from tests.history.load import Load

ROUNDS: Final = 12


def operate(client: OperatorClient, folder: Path, loads: Sequence[Load], rng: random.Random) -> None:
    """Some rounds of everything, while these producers submit."""
    witness = Witness(folder, "operator")
    for _ in range(ROUNDS):
        client.ask("pause")
        with fault(folder, "pause"):
            _wait_for_tasks(loads)
            at_ask = time.monotonic()
            # Of the last ones that were made, a full queue may have accepted none.
            ids = [task_id for load in loads for task_id in load.latest(6) if rng.random() < 0.5]
            for one in client.ask("cancel", ids=ids)["outcomes"] if ids else ():
                witness.note("operated", id=one["id"], verb="cancel", outcome=one["outcome"], at_ask=at_ask)
        client.ask("resume")
        dead = [letter["id"] for letter in client.ask("dead", limit=50)["dead"]]
        if dead:
            client.ask("requeue", ids=dead[::2])
            client.ask("discard", ids=dead[1::2] or dead)
        _wait_for_tasks(loads)
    witness.close()


def _wait_for_tasks(loads: Sequence[Load]) -> None:
    """Until each producer was answered some times more, or is done."""
    for load in loads:
        until = load.submitted + 8
        for _ in range(10_000):
            if load.submitted >= until or load.is_over(0.005):
                break
