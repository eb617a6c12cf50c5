"""When to submit the same bytes again. Pure: the time, and the jitter, are passed in."""

from __future__ import annotations

from typing import Final

from broker.protocol import Reason, Retry
from producer.verdicts import Rejected

#: A producer comes up to a fifth later than it was asked to, and never earlier: those that were turned away together do
#: not come back together.
_LATER_BY: Final = 0.2
_SOONEST_S: Final = 0.02  # "at once", but not a thousand times a second
_LATEST_S: Final = 1.0


def at_once_s(tried_s: float) -> float:
    """The pause before what should be sent again at once, and was first sent `tried_s` ago.

    As long again as it took so far: at once the first few times, and in the end a second apart.
    """
    return min(max(tried_s, _SOONEST_S), _LATEST_S)


def next_try(
    rejected: Rejected, now: float, deadline: float, *, tried_s: float, jitter: float, wait: bool
) -> float | None:
    """When to submit again what was rejected; None if its verdict stands.

    `wait`: whether the producer waits for room at all. `tried_s`: seconds since the first try. `jitter`: 0 to 1. A try
    after `deadline` is none.
    """
    if rejected.reason is Reason.INTERNAL_ERROR:
        pause_s = at_once_s(tried_s)  # not a verdict, really: the outcome is unknown, as without a reply
    elif not wait or rejected.retry is Retry.NEVER:
        return None
    else:
        pause_s = at_once_s(tried_s) if rejected.retry_after is None else rejected.retry_after
    moment = now + pause_s * (1 + _LATER_BY * jitter)
    return moment if moment <= deadline else None
