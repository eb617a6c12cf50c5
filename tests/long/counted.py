"""Task functions that keep count of themselves, each with a counter that no two threads can muddle."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from worker_host import Backoff, current_task, task

_started, _succeeded = itertools.count(), itertools.count()


@task(retries=1, backoff=Backoff(first_s=0.01, max_s=0.01))
def counted(number: int) -> None:
    """Fail for one number in 20: always for every other of these, at the first attempt for the rest."""
    next(_started)
    if number % 40 == 0 or (number % 40 == 20 and current_task().attempt == 1):
        raise ValueError(number)
    next(_succeeded)


@task(retries=0)
def tell(path: str) -> None:
    """Write down what was counted so far."""
    Path(path).write_text(json.dumps({"started": next(_started), "succeeded": next(_succeeded)}))
