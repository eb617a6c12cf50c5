"""Queues that are broken in whether an attempt has begun, and what that means. As `broken_queues`."""

# ruff: noqa: ARG002 - as there
from __future__ import annotations

from broker.queue import MemoryQueue
from broker.records import Lease, later_attempt


class NeverExpires(MemoryQueue):
    """Runs a task whose time is up."""

    def has_expired(self, lease: Lease) -> bool:
        return False


class ExpiresRetries(MemoryQueue):
    """Lets a task expire that was begun in time, when its next attempt is late."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        expires_at = dict(self._expires_at)
        super().retry(lease, delay_s, spent=spent)
        self._expires_at = expires_at


class ExpiresDisplacedAttempts(MemoryQueue):
    """The same, if that attempt was displaced: it counts as the first one once more."""

    def retry(self, lease: Lease, delay_s: float, *, spent: bool = True) -> None:
        expires_at = dict(self._expires_at)
        super().retry(lease, delay_s, spent=spent)
        self._expires_at = self._expires_at if spent else expires_at


class CountsWhatDidNotBegin(MemoryQueue):
    """Lets an attempt that could not begin cost a retry."""

    def give_back(self, lease: Lease) -> None:
        super().give_back(lease)
        self._held[lease.id] = later_attempt(self._held[lease.id], 1)


class ForgetsTheExpiryOfWhatDidNotBegin(MemoryQueue):
    """Runs a task whose time was up before an attempt began."""

    def give_back(self, lease: Lease) -> None:
        super().give_back(lease)
        self._expires_at.pop(lease.id, None)


class LosesWhatIsGivenBack(MemoryQueue):
    """Has a task that could not be begun in no line."""

    def give_back(self, lease: Lease) -> None:
        """Not heard."""


class PutsWhatIsGivenBackBehind(MemoryQueue):
    """Has those overtake it that came after."""

    def give_back(self, lease: Lease) -> None:
        super().give_back(lease)
        for line in self._unpublished:
            if line[:1] == [lease.id]:
                line.append(line.pop(0))


BROKEN_LEASES: list[type[MemoryQueue]] = [
    NeverExpires,
    ExpiresRetries,
    ExpiresDisplacedAttempts,
    CountsWhatDidNotBegin,
    ForgetsTheExpiryOfWhatDidNotBegin,
    LosesWhatIsGivenBack,
    PutsWhatIsGivenBackBehind,
]
