"""What becomes of a task whose attempt failed. Pure: the random number is passed in.

The boundary is exact (P6): a task with `retries=r` that always fails is run r + 1 times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from worker_host.contract import Failure
from worker_host.tasks import Backoff


class DeathReason(StrEnum):
    """Why a task became a dead letter."""

    RETRIES_EXHAUSTED = "retries_exhausted"
    NEVER_RETRY = "never_retry"


@dataclass(frozen=True, slots=True)
class RunAgain:
    """The task goes back into the queue, to be ready in `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Bury:
    """The task becomes a dead letter."""

    reason: DeathReason


def decide(attempt: int, retries: int, backoff: Backoff, failure: Failure, spread: float) -> RunAgain | Bury:
    """What follows the failure of run number `attempt` (from 1). `spread` is a random number in [0, 1)."""
    if failure.final:
        return Bury(DeathReason.NEVER_RETRY)
    if attempt > retries:
        return Bury(DeathReason.RETRIES_EXHAUSTED)
    if failure.retry_after_s is not None:
        return RunAgain(failure.retry_after_s)
    return RunAgain(delay_before(attempt + 1, backoff, spread))


def delay_before(attempt: int, backoff: Backoff, spread: float) -> float:
    """Seconds before run number `attempt` (from 2): `first_s` doubled for each run, cut at `max_s`, then jittered."""
    doublings = min(attempt - 2, 64)  # 2 ** 64 first delays are past any max_s; more would only overflow
    planned = min(backoff.max_s, backoff.first_s * 2.0**doublings)
    return planned * (1 + backoff.jitter * (2 * spread - 1))
