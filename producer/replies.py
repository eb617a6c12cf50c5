"""The broker's replies, opened and checked: what comes out of here is as the protocol says, or `BadReply` is raised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from broker.protocol import VERSION, RefusedError, unpack
from producer.errors import BadReply, RequestRefused
from producer.verdicts import decode_advice

Reply: TypeAlias = dict[str, Any]  #: a reply's fields; only its `v` has been looked at

T = TypeVar("T")


class Resent(Reply):
    """A reply to a request of which an earlier copy got none: that copy may still be read, or have been."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    message_bytes: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping."""

    server: str  #: name and version
    phase: str  #: `serving` or `draining`
    limits: Limits


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """Where a task is."""

    id: str
    state: str  #: `ready`, `delayed`, `running`, `succeeded`, `dead`, `cancelled`, `expired` or `returned`
    attempt: int | None  #: attempts begun so far; None once the task has ended
    due_in_s: float | None  #: seconds until it is ready, if it is `delayed`


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A task that used its retries, or failed for good."""

    id: str
    name: str
    reason: str  #: `retries_exhausted`, `never_retry`, `crashed` or `timed_out`
    error: str  #: type and message of the last attempt's exception
    trace: str  #: the end of its traceback
    attempts: int
    accepted_at: float  #: Unix time, for showing to a person
    died_at: float  #: Unix time


@dataclass(frozen=True, slots=True)
class DeadPage:
    """A page of the dead letters, newest first."""

    letters: list[DeadLetter]
    total: int  #: so many are kept


def open_reply(data: bytes) -> Reply:
    """The fields of a reply; `BadReply` if the bytes are none of this protocol."""
    try:
        reply = unpack(data)
    except RefusedError as error:
        raise BadReply(f"{len(data)} bytes came that are no reply: {error.detail}") from None
    if type(reply) is not dict or type(reply.get("v")) is not int:
        raise BadReply("a reply came that is no map with the protocol's version in `v`")
    if reply["v"] != VERSION:
        raise BadReply(f"a reply came in version {reply['v']} of the protocol; this producer speaks {VERSION}")
    return cast("Reply", reply)


def decode_refusal(reply: Reply) -> RequestRefused:
    """The error that a reply with the field `error` tells of."""
    error = _field(reply, "error", dict)
    reason, retry, detail = decode_advice(error, "the broker's `error`")
    return RequestRefused(f"the broker refuses the request: {reason}: {detail}", reason, retry, detail)


def decode_pong(reply: Reply) -> Pong:
    """The answer to a ping."""
    limits = _field(reply, "limits", dict)
    return Pong(
        server=_field(reply, "server", str),
        phase=_field(reply, "phase", str),
        limits=Limits(_count(limits, "message_bytes"), _count(limits, "tasks")),
    )


def decode_status(reply: Reply) -> TaskStatus | None:
    """The answer to a `status`."""
    if "task" in reply and reply["task"] is None:
        return None
    task = _field(reply, "task", dict)
    return TaskStatus(
        id=_field(task, "id", str),
        state=_field(task, "state", str),
        attempt=_count(task, "attempt") if "attempt" in task else None,
        due_in_s=_seconds(task, "due_in_s") if "due_in_s" in task else None,
    )


def decode_stats(reply: Reply) -> dict[str, Any]:
    """The answer to a `stats`."""
    return cast("dict[str, Any]", _field(reply, "stats", dict))


def decode_health(reply: Reply) -> dict[str, Any]:
    """The health in the answer to a `stats`."""
    health = _field(decode_stats(reply), "health", dict)
    _field(health, "state", str)
    _field(health, "reasons", list)
    return cast("dict[str, Any]", health)


def decode_dead(reply: Reply) -> DeadPage:
    """The answer to a `dead`."""
    return DeadPage([_letter(fields) for fields in _field(reply, "dead", list)], _count(reply, "total"))


def _letter(fields: object) -> DeadLetter:
    if type(fields) is not dict:
        raise BadReply("a reply has a dead letter that is no map")
    return DeadLetter(
        id=_field(fields, "id", str),
        name=_field(fields, "name", str),
        reason=_field(fields, "reason", str),
        error=_field(fields, "error", str),
        trace=_field(fields, "trace", str),
        attempts=_count(fields, "attempts"),
        accepted_at=_seconds(fields, "accepted_at"),
        died_at=_seconds(fields, "died_at"),
    )


def _field(fields: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = fields.get(name)
    if type(value) is not kind:
        raise BadReply(f"a reply has a field `{name}` that is no {kind.__name__}, or lacks it")
    return value


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = _field(fields, name, int)
    if value < 0:
        raise BadReply(f"a reply has a field `{name}` below 0")
    return value


def _seconds(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadReply(f"a reply has a field `{name}` that is no number of seconds, or lacks it")
    return float(value)
