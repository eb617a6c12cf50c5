"""`python -m tests.compose.load`: a producer that witnesses, in a container of its own; until SIGTERM.

Its tasks follow from the container's name: one that is killed and started again submits the same ones once more.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from producer import Keys
from tests.history.events import VARIABLE
from tests.history.load import Load, Mix

BEGUN = "begun"
PROGRESS = "submitted="


def main() -> None:
    """Submit; print how many, so that who watches knows when to do what it does."""
    submitted = 0

    def tell(count: int) -> None:
        nonlocal submitted
        submitted += count
        print(f"{PROGRESS}{submitted}", flush=True)

    load = Load(
        os.environ["TURNSTILE_ENDPOINT"],
        Path(os.environ[VARIABLE]),
        seed=int(socket.gethostname(), 16),
        mix=Mix(slow_s=float(os.environ["SLOW_S"])),
        pause_s=0.01,
        on_progress=tell,
        keys=Keys.read(os.environ["TURNSTILE_KEY"], os.environ["TURNSTILE_BROKER_KEY"]),
    )
    signal.signal(signal.SIGTERM, lambda *_: load.end())
    print(BEGUN, flush=True)
    load.start()
    load.join(timeout_s=600)


if __name__ == "__main__":
    main()
