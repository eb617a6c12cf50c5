"""What can go wrong, as one small tree. A rejection is not here: it is a value (`producer.verdicts`).

TurnstileError
├── LocalFault            this process's own; what it is about was not sent
│   ├── BadTask           the task cannot be sent; the message names the path of the value
│   │   └── TooLarge      it is longer than the broker reads
│   ├── BadEndpoint       that is no address of a broker
│   ├── BadKey            a key that is none, cannot be read, or can be read by others
│   └── ProducerClosed    used after `close`, or closed during the call
└── RemoteFault           the broker's, or the way's to it
    ├── Unreachable       no connection, or no answer to the first ping: certainly not accepted
    │   └── NotLetIn      the broker's door is closed to this producer: certainly not accepted
    ├── NoReply           sent, and a copy got no verdict by the deadline: the outcome is unknown
    ├── BadReply          a reply that is not what the protocol describes: the outcome is unknown
    └── RequestRefused    the broker does not take the request as such: certainly not accepted
"""
# ruff: noqa: N818 - a producer reads `except NoReply`; the names say what happened, and all end in the tree above

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.protocol import Reason, Retry

if TYPE_CHECKING:
    from producer.verdicts import Verdict


class TurnstileError(Exception):
    """The root of the tree."""

    #: Tasks that were sent and whose outcome is unknown: held, or not. To submit them again with the same ids is safe;
    #: only after a restart of the broker, which knows no ids then, may they run again for that. If they are rejected
    #: then, that tells of the later call's copies alone.
    unknown_ids: tuple[str, ...]
    #: Of `submit_many`: what is known of the tasks it took, in their order; None where nothing is.
    verdicts: list[Verdict | None]

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.unknown_ids = ()
        self.verdicts = []

    def __str__(self) -> str:
        message = super().__str__()
        if not self.unknown_ids:
            return message
        count = len(self.unknown_ids)
        which = f"task {self.unknown_ids[0]} is" if count == 1 else f"{count} tasks are"
        return f"{message}: whether {which} held is unknown; submitting again with the same id is safe"


class LocalFault(TurnstileError):
    """A fault of this process. What it is about was not sent; of a batch, other tasks may have been: see `verdicts`."""


class BadTask(LocalFault):
    """A task that cannot be sent. The message names the path of the value and what is allowed there."""


class TooLarge(BadTask):
    """A task that is longer than the broker reads."""


class BadEndpoint(LocalFault):
    """An endpoint that cannot be one of a broker."""


class BadKey(LocalFault):
    """A key that cannot be used. The message says which, and what to do."""


class ProducerClosed(LocalFault):
    """A producer that was used after its `close`, or closed during a call that had nothing sent; or a parent's call."""


class RemoteFault(TurnstileError):
    """A fault of the broker, or of the way to it."""


class Unreachable(RemoteFault):
    """No connection, or no answer to the first ping, so that no task was sent: certainly not accepted."""


class NotLetIn(Unreachable):
    """The broker's door is closed to this producer: its key is not on the list, or keys are given on one side alone."""


class NoReply(RemoteFault):
    """Sent, and no reply by the deadline; or sent again for that, and only the later copy was rejected.

    The outcome is unknown: see `ids`.
    """

    @property
    def ids(self) -> tuple[str, ...]:
        """`unknown_ids`."""
        return self.unknown_ids


class BadReply(RemoteFault):
    """A reply that is not what the protocol describes. The outcome is unknown, as with `NoReply`."""


class RequestRefused(RemoteFault):
    """The broker does not take the request as such, so none of its tasks was accepted."""

    def __init__(self, message: str, reason: Reason | str = "", retry: Retry = Retry.NEVER, detail: str = "") -> None:
        super().__init__(message)
        self.reason = reason  #: the code; text if this version does not know it
        self.retry = retry  #: whether the same bytes can ever be taken
        self.detail = detail  #: for people
