"""What a worker host needs from whoever holds the tasks, and nothing more.

This is the edge along which hosts are exchanged: threads in the broker, child processes beside it, other machines.
The host never sees the queue, the door or a clock of the broker's; it takes leases and says how each ended. Whether a
failed task runs again is not its business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
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


class PackedLease(Lease, Protocol):
    """A lease that can be handed to another process."""

    @property
    def wire(self) -> bytes:
        """What `open` unpacks."""


class FailureKind(StrEnum):
    """What ended an attempt that did not succeed."""

    RAISED = "raised"  #: the function raised an exception
    CRASHED = "crashed"  #: the child host died while it ran, on its account or another's: nobody can tell
    TIMED_OUT = "timed_out"  #: it was still running at its time limit, and its child host was ended
    DISPLACED = "displaced"  #: its child host was ended for another task's time limit; this attempt does not count


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed, in text: the exception itself must not outlive the attempt (it holds its frames)."""

    error: str  #: type and message, one line
    trace: str  #: the end of the traceback
    retry_after_s: float | None = None  #: the task asked for this delay instead of its backoff
    final: bool = False  #: the task said that trying again is of no use
    kind: FailureKind = FailureKind.RAISED


@dataclass(frozen=True, slots=True)
class StuckTask:
    """A task that is past its time limit on a thread, which nobody can end."""

    id: str
    name: str
    attempt: int
    running_s: float
    stack: str  #: where its thread is at this moment, from the task function on, innermost call last


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that an operator should know: a reason for a health that is not `ok`."""

    reason: str  #: a code, for programs
    detail: str  #: for people


L = TypeVar("L", bound=Lease)


class Source(Protocol[L]):
    """Where leases come from. All methods may be called from any worker thread."""

    def take(self, *, isolated: bool = False) -> L | None:
        """Wait for the next lease; None means that there will be none any more, and the worker ends.

        `isolated`: on a task that is to run in a child host; otherwise on one that is not.
        """

    def ack(self, lease: L) -> None:
        """The attempt succeeded. A lease that was taken back meanwhile is ignored."""

    def fail(self, lease: L, failure: Failure) -> None:
        """The attempt failed. A lease that was taken back meanwhile is ignored."""

    def give_back(self, lease: L) -> None:
        """The attempt did not begin: the task is ready again. A lease that was taken back meanwhile is ignored."""


class Host(Protocol):
    """What holds workers. One thread, its owner, calls this."""

    def start(self) -> None:
        """Start every worker; does not wait for them to be ready."""

    def end(self, patience_s: float) -> int:
        """Wait up to `patience_s` for the workers to end, once their source is closed; how many ran a task till then.

        What still runs after that is cut off if that is possible, and left alone if it is not.
        """

    def watch(self) -> float | None:
        """Look after running tasks; seconds after which to look again, None: no need to."""

    def stuck(self) -> list[StuckTask]:
        """The tasks that are past their time limit and still run."""

    def troubles(self) -> list[Trouble]:
        """What is not as it should be, just now."""
