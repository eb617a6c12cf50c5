"""What becomes of a task whose attempt failed. Pure: the random number is passed in.

The boundary is exact (P6): a task with `retries=r` that always fails is run r + 1 times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from worker_host.contract import Failure, FailureKind
from worker_host.tasks import Backoff


class DeathReason(StrEnum):
    """Why a task became a dead letter."""

    RETRIES_EXHAUSTED = "retries_exhausted"
    NEVER_RETRY = "never_retry"
    CRASHED = "crashed"  #: its child host died at the last attempt, or it was there when too many of them died
    TIMED_OUT = "timed_out"  #: it was still running at its time limit, at the last attempt too


_LAST_STRAW = {
    FailureKind.RAISED: DeathReason.RETRIES_EXHAUSTED,
    FailureKind.CRASHED: DeathReason.CRASHED,
    FailureKind.TIMED_OUT: DeathReason.TIMED_OUT,
}


@dataclass(frozen=True, slots=True)
class RunAgain:
    """The task goes back into the queue, to be ready in `delay_s` seconds."""

    delay_s: float
    spent: bool = True  #: the attempt counts


@dataclass(frozen=True, slots=True)
class Bury:
    """The task becomes a dead letter."""

    reason: DeathReason


def decide(
    attempt: int, retries: int, backoff: Backoff, failure: Failure, spread: float, *, is_poison: bool = False
) -> RunAgain | Bury:
    """What follows the failure of run number `attempt` (from 1). `spread` is a random number in [0, 1).

    `is_poison`: it was there when so many child hosts died that it shall not have another one.
    """
    if failure.kind is FailureKind.DISPLACED:
        return RunAgain(0.0, spent=False)
    if failure.final:
        return Bury(DeathReason.NEVER_RETRY)
    if is_poison:
        return Bury(DeathReason.CRASHED)
    if attempt > retries:
        return Bury(_LAST_STRAW[failure.kind])
    if failure.retry_after_s is not None:
        return RunAgain(failure.retry_after_s)
    return RunAgain(delay_before(attempt + 1, backoff, spread))


def delay_before(attempt: int, backoff: Backoff, spread: float) -> float:
    """Seconds before run number `attempt` (from 2): `first_s` doubled for each run, cut at `max_s`, then jittered."""
    doublings = min(attempt - 2, 64)  # 2 ** 64 first delays are past any max_s; more would only overflow
    planned = min(backoff.max_s, backoff.first_s * 2.0**doublings)
    return planned * (1 + backoff.jitter * (2 * spread - 1))
