"""What a worker host needs from whoever holds the tasks, and nothing more.

This is the edge along which hosts are exchanged: threads in the broker, child processes beside it, other machines.
The host never sees the queue, the door or a clock of the broker's; it takes leases and says how each ended. Whether a
failed task runs again is not its business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar


class Lease(Protocol):
    """A worker's hold on one attempt of one task."""

    @property
    def id(self) -> str:
        """The task's id."""

    @property
    def attempt(self) -> int:
        """1 for the first run."""

    def open(self) -> tuple[str, list[Any], dict[str, Any]]:
        """(name, args, kwargs), unpacked afresh: what an earlier attempt did to its arguments is not seen."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed, in text: the exception itself must not outlive the attempt (it holds its frames)."""

    error: str  #: type and message, one line
    trace: str  #: the end of the traceback
    retry_after_s: float | None = None  #: the task asked for this delay instead of its backoff
    final: bool = False  #: the task said that trying again is of no use


L = TypeVar("L", bound=Lease)


class Source(Protocol[L]):
    """Where leases come from. All methods may be called from any worker thread."""

    def take(self) -> L | None:
        """Wait for the next lease; None means that there will be none any more, and the worker ends."""

    def ack(self, lease: L) -> None:
        """The attempt succeeded. A lease that was taken back meanwhile is ignored."""

    def fail(self, lease: L, failure: Failure) -> None:
        """The attempt failed. A lease that was taken back meanwhile is ignored."""
