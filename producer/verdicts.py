"""The verdict on a submitted task: accepted or rejected. Both are values; only "no reply" is an error.

Responsible for what the protocol says of a verdict, as it came in a reply: checked, so that no other module meets
a field that is missing or of another type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias

from broker.protocol import Reason, Retry
from producer.errors import BadReply

_REASONS: Final[Mapping[str, Reason]] = {reason.value: reason for reason in Reason}
_RETRIES: Final[Mapping[str, Retry]] = {retry.value: retry for retry in Retry}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The broker holds the task, and will run it at least once."""

    accepted: ClassVar[Literal[True]] = True
    id: str
    duplicate: bool = False  #: this id was accepted before, so nothing was added
    state: str | None = None  #: of a duplicate: where the task is now, such as `running`


@dataclass(frozen=True, slots=True)
class Rejected:
    """The broker does not hold the task, and will never run it (unless it is submitted again, and accepted).

    Each copy that this call sent was rejected; where one got no verdict, that would be a `NoReply`.
    """

    accepted: ClassVar[Literal[False]] = False
    id: str
    reason: Reason | str  #: why; text if this version does not know the code
    retry: Retry  #: whether submitting it again can help
    retry_after: float | None  #: seconds, above 0: when to come back, if `retry` is `later`; else None
    detail: str  #: for people


Verdict: TypeAlias = Accepted | Rejected


def decode_verdicts(reply: Mapping[str, Any], ids: Sequence[str]) -> list[Verdict]:
    """The verdicts on the tasks with these ids, in their order; `BadReply` if the reply holds anything else."""
    verdicts = reply.get("verdicts")
    if type(verdicts) is not list or len(verdicts) != len(ids):
        got = f"{len(verdicts)} verdicts" if type(verdicts) is list else "no verdicts"
        raise BadReply(f"the broker's reply has {got} on {len(ids)} tasks")
    return [decode_verdict(fields, task_id) for fields, task_id in zip(verdicts, ids, strict=True)]


def decode_verdict(fields: Any, task_id: str) -> Verdict:
    """One verdict, on the task with this id; `BadReply` if it is none."""
    if type(fields) is not dict:
        raise _bad(task_id, "is no map")
    verdict, of = fields.get("verdict"), fields.get("id")
    if verdict == "accepted" and of == task_id:
        return Accepted(task_id) if len(fields) == 2 else _duplicate(fields, task_id)
    if verdict == "rejected" and (of == task_id or of is None):
        return _rejected(fields, task_id)
    if of != task_id:
        raise _bad(task_id, "names another task")
    raise _bad(task_id, "is neither accepted nor rejected")


def _duplicate(fields: Mapping[str, Any], task_id: str) -> Accepted:
    duplicate, state = fields.get("duplicate", False), fields.get("state")
    if type(duplicate) is not bool or not (state is None or type(state) is str):
        raise _bad(task_id, "has a `duplicate` that is no boolean, or a `state` that is no text")
    return Accepted(task_id, duplicate, state)


def _rejected(fields: Mapping[str, Any], task_id: str) -> Rejected:
    reason, retry, detail = decode_advice(fields, f"the verdict on task {task_id}")
    retry_after = None
    if retry is Retry.LATER:
        retry_after = fields.get("retry_after")
        if not isinstance(retry_after, (int, float)) or not 0 < retry_after < math.inf:
            raise _bad(task_id, "says `later`, and has no `retry_after` in seconds")
    return Rejected(task_id, reason, retry, retry_after, detail)


def decode_advice(fields: Mapping[str, Any], of: str) -> tuple[Reason | str, Retry, str]:
    """(reason, retry, detail) of a rejection or a refusal; `BadReply` that names `of` if they are not as agreed.

    What a newer broker may say and this version does not know: a reason stays text, a `retry` is taken for `never`.
    """
    reason, retry, detail = fields.get("reason"), fields.get("retry"), fields.get("detail", "")
    if type(reason) is not str or type(retry) is not str or type(detail) is not str:
        raise BadReply(f"{of} has a `reason`, `retry` or `detail` that is no text")
    return _REASONS.get(reason, reason), _RETRIES.get(retry, Retry.NEVER), detail


def _bad(task_id: str, what: str) -> BadReply:
    return BadReply(f"the verdict on task {task_id} {what}")
