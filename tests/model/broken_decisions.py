"""Decisions about failures that are broken on purpose, each in one way, as `broken_queues` are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker.retries import Bury, RunAgain, decide
from worker_host.contract import Failure, FailureKind
from worker_host.tasks import Backoff


def runs_once_too_often(
    attempt: int, retries: int, backoff: Backoff, failure: Failure, spread: float, *, is_poison: bool = False
) -> RunAgain | Bury:
    """Takes the retries for runs after the second one."""
    return decide(attempt, retries + 1, backoff, failure, spread, is_poison=is_poison)


def runs_once_too_few(
    attempt: int, retries: int, backoff: Backoff, failure: Failure, spread: float, *, is_poison: bool = False
) -> RunAgain | Bury:
    """Takes the retries for all runs."""
    return decide(attempt + 1, retries, backoff, failure, spread, is_poison=is_poison)


def never_gives_up(
    attempt: int, retries: int, backoff: Backoff, failure: Failure, spread: float, *, is_poison: bool = False
) -> RunAgain | Bury:
    """Does not hear a task that says never."""
    return decide(attempt, retries, backoff, replace(failure, final=False), spread, is_poison=is_poison)


def asks_in_vain(
    attempt: int, retries: int, backoff: Backoff, failure: Failure, spread: float, *, is_poison: bool = False
) -> RunAgain | Bury:
    """Does not hear a task that asks for a delay."""
    return decide(attempt, retries, backoff, replace(failure, retry_after_s=None), spread, is_poison=is_poison)


def lets_poison_in_again(
    attempt: int, retries: int, backoff: Backoff, failure: Failure, spread: float, *, is_poison: bool = False
) -> RunAgain | Bury:
    """Lets a task kill as many child hosts as it has retries."""
    return decide(attempt, retries, backoff, failure, spread)


def makes_bystanders_pay(
    attempt: int, retries: int, backoff: Backoff, failure: Failure, spread: float, *, is_poison: bool = False
) -> RunAgain | Bury:
    """Counts an attempt that was cut off for another task."""
    kind = FailureKind.RAISED if failure.kind is FailureKind.DISPLACED else failure.kind
    return decide(attempt, retries, backoff, replace(failure, kind=kind), spread, is_poison=is_poison)


BROKEN_DECISIONS: list[Callable[..., RunAgain | Bury]] = [
    runs_once_too_often, runs_once_too_few, never_gives_up, asks_in_vain,
    lets_poison_in_again, makes_bystanders_pay,
]  # fmt: skip
