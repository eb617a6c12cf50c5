"""`python -m tests.history.broker [--broken NAME] SETTINGS`: the real broker, a witness in it, perhaps a fault.

What is patched is one name in the composition root; everything else is the product as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Any

import broker.supervisor
from broker.__main__ import main
from broker.handed_back import HandedBack
from broker.queue import MemoryQueue, Offer
from broker.records import Lease, Returned
from broker.supervisor import Report, Supervisor
from tests.history.broken import BROKEN
from tests.history.events import VARIABLE, Witness


def witnessed(queue: type[MemoryQueue], witness: Witness) -> type[MemoryQueue]:
    """That queue, telling what happens in it. On the owner's thread, but for `take`."""

    class Witnessed(queue):  # type: ignore[valid-type,misc]
        def offer(self, task_id: str, *args: Any, **kwargs: Any) -> Offer:
            offer: Offer = super().offer(task_id, *args, **kwargs)
            if offer is Offer.ACCEPTED:
                witness.note("admitted", id=task_id)
            return offer

        def restore(self, task: Returned, **kwargs: Any) -> Offer:
            offer: Offer = super().restore(task, **kwargs)
            witness.note("loaded", id=task.id, attempts=task.attempts)
            return offer

        def ack(self, lease: Lease) -> None:
            super().ack(lease)
            self._settled(lease, "succeeded")

        def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
            super().retry(lease, delay_s, spent=spent)
            self._settled(lease, "retry" if spent else "displaced", delay_s=delay_s)

        def bury(self, lease: Lease) -> None:
            super().bury(lease)
            self._settled(lease, "dead")

        def expire(self, lease: Lease) -> None:
            super().expire(lease)
            self._settled(lease, "expired")

        def requeue(self, task_id: str, *args: Any, **kwargs: Any) -> Offer:
            offer: Offer = super().requeue(task_id, *args, **kwargs)
            if offer is Offer.ACCEPTED:  # no worker sees it before the loop's next turn
                witness.note("operated", id=task_id, verb="requeue")
            return offer

        def note_crash(self, task_id: str) -> int:
            self._crashed = task_id
            return int(super().note_crash(task_id))

        def close(self, running: Collection[str]) -> HandedBack:
            returned: HandedBack = super().close(running)
            for task in returned:
                witness.note("returned", id=task.id, was=task.was.value, attempts=task.attempts)
            return returned

        def _settled(self, lease: Lease, outcome: str, **fields: Any) -> None:
            crashed, self._crashed = getattr(self, "_crashed", ""), ""
            kind = "crashed" if crashed == lease.id else ""
            witness.note("settled", id=lease.id, attempt=lease.attempt, outcome=outcome, kind=kind, **fields)

    return Witnessed


class WitnessedSupervisor(Supervisor):
    """Tells of a broker's life."""

    witness: Witness

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.witness.note("boot", pid=os.getpid())
        super().__init__(*args, **kwargs)

    def run(self) -> Report:
        report = super().run()
        said = {"ledger": report.ledger, "outcome": report.outcome.value, "saved": report.saved}
        self.witness.note("report", pid=os.getpid(), **said)
        return report


def run() -> None:
    """Patch, then be the broker. Does not return."""
    name = ""
    if "--broken" in sys.argv:
        where = sys.argv.index("--broken")
        name = sys.argv[where + 1]
        del sys.argv[where : where + 2]
    witness = Witness(os.environ[VARIABLE], "broker")
    WitnessedSupervisor.witness = witness
    queue = BROKEN[name].apply() if name else MemoryQueue
    root: Any = broker.supervisor
    root.MemoryQueue = witnessed(queue, witness)
    import broker.__main__ as program  # it has the name that is replaced

    vars(program)["Supervisor"] = WitnessedSupervisor
    main()


if __name__ == "__main__":
    run()
