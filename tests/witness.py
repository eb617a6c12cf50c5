"""What happened, written down so that the death of a writer loses nothing it wrote: one line, one `write`, appended."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


def note(path: str | Path, **fields: Any) -> None:
    """Append one event, with its process and the time on the one clock that all processes of a machine share."""
    line = json.dumps({"at_ns": time.monotonic_ns(), "pid": os.getpid(), **fields})
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


def notes(path: str | Path) -> list[dict[str, Any]]:
    """All events so far, in the order they were written."""
    file = Path(path)
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
