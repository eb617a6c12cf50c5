"""Readers of a log that do not read: a disk that is full, a pipe that is stopped, a pipe whose reader is gone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

Kind = Literal["full", "stopped", "gone"]
KINDS: tuple[Kind, ...] = ("full", "stopped", "gone")


@contextlib.contextmanager
def sink(kind: Kind) -> Iterator[int]:
    """A file descriptor that takes nothing: `full` refuses each write, `stopped` blocks it, `gone` has no reader."""
    if kind == "full":
        descriptors = [os.open("/dev/full", os.O_WRONLY)]
    else:
        descriptors = list(reversed(os.pipe()))
        if kind == "gone":
            os.close(descriptors.pop())
        else:
            _fill(descriptors[0])
    try:
        yield descriptors[0]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _fill(writer: int) -> None:
    """To the brim: from here on a write waits for a reader."""
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"." * 4_096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b".")
    os.set_blocking(writer, True)
