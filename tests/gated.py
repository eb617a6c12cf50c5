"""Task functions whose module takes as long to import in a child host as a test wants: until the file GATE exists."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests.witness import note
from worker_host import current_task, task

if "broker.child" in sys.modules:
    while not Path(os.environ["GATE"]).exists():
        time.sleep(0.01)


@task(isolate=True, retries=0)
def gated(path: str) -> None:
    """Say that it runs."""
    note(path, event="start", id=current_task().id, attempt=current_task().attempt)
