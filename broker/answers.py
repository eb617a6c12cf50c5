"""One request in, one reply out, whatever the bytes: the broker's side of the protocol, without a socket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from typing import Any, Final

import msgpack

from broker.admission import Admission
from broker.clock import Clock
from broker.dispatcher import Dispatcher
from broker.health import Health, health_of
from broker.operator import Operator, Ops
from broker.protocol import (
    ADVICE,
    MAX_TASKS,
    OPS,
    VERSION,
    Op,
    Reason,
    RefusedError,
    decode_request,
    id_of,
    page_of,
    tag_of,
    tasks_of,
)
from worker_host.contract import Host, Trouble

_log = logging.getLogger("turnstile.broker")

_SUBMIT: Final = Op.SUBMIT.value
_PAUSED: Final = Trouble("paused", "its operator has paused it: tasks are accepted, and none begins until resume")

try:
    _SERVER: Final = f"turnstile/{version('turnstile-queue')}"
except PackageNotFoundError:  # run from a checkout that was not installed
    _SERVER: Final = "turnstile/unreleased"  # type: ignore[misc]


class Answers:
    """Answers requests. On the owner's thread."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        admission: Admission,
        clock: Clock,
        *,
        message_bytes: int,
        workers: int,
        log_dropped: Callable[[], int],
        hosts: Sequence[Host] = (),
        troubles: Callable[[], Sequence[Trouble]] = tuple,
    ) -> None:
        """`troubles`: what is wrong at the moment, beside what the hosts have to say."""
        self._dispatcher = dispatcher
        self._admission = admission
        self._clock = clock
        self._message_bytes = message_bytes
        self._workers = workers
        self._log_dropped = log_dropped
        self._hosts = hosts
        self._troubles = troubles
        self._started = clock.monotonic()
        self._pack: Callable[[object], bytes] = msgpack.Packer().pack  # kept: to make one takes as long as to use it
        self._requests = 0
        self._errors = 0
        self._ops: Ops = {
            Op.STATUS.value: self._status,
            Op.STATS.value: self._stats,
            Op.DEAD.value: self._dead,
            Op.PING.value: self._ping,
        }
        self._operator_ops: Ops = {**self._ops, **Operator(dispatcher).ops}
        self._known_to_operator = _SUBMIT, *self._operator_ops

    def answer(self, frames: Sequence[bytes], connection: int = 0) -> bytes:
        """The reply to a request of these frames: one, or the first of several and any other. Raises nothing that a
        request could cause.

        `connection` tells the producers apart that are connected at the same time.
        """
        return self._answer(frames, connection, self._ops, OPS)

    def answer_operator(self, frames: Sequence[bytes], connection: int = 0) -> bytes:
        """The same at the operator's door, which knows more ops."""
        return self._answer(frames, connection, self._operator_ops, self._known_to_operator)

    def _answer(self, frames: Sequence[bytes], connection: int, ops: Ops, known: Sequence[str]) -> bytes:
        self._requests += 1
        data = frames[0]
        try:
            if len(frames) != 1:
                raise RefusedError(Reason.MALFORMED, "a request of more than one frame")
            request = decode_request(data, self._message_bytes, known)
            op = request["op"]
            reply = self._submit(request, connection) if op == _SUBMIT else ops[op](request)
            if "tag" in request:
                return self._pack({"v": VERSION, "tag": request["tag"], **reply})
            return self._pack({"v": VERSION, **reply})
        except RefusedError as refused:
            return self._error(data, refused.reason, refused.detail)
        # A defect of ours. The producer must not wait for a reply that never comes, and the door must stay open (P1).
        except Exception:  # noqa: BLE001
            _log.exception("request failed")
            return self._error(data, Reason.INTERNAL_ERROR, "a fault of the broker; its log has the details")

    def _error(self, data: bytes, reason: Reason, detail: str) -> bytes:
        self._errors += 1
        error = {"reason": reason.value, "retry": ADVICE[reason].value, "detail": detail}
        tag = tag_of(data)
        return self._pack({"v": VERSION, "error": error} if tag is None else {"v": VERSION, "tag": tag, "error": error})

    def _submit(self, request: Mapping[str, Any], connection: int) -> dict[str, Any]:
        return {"verdicts": list(map(self._admission.judge, tasks_of(request), repeat(connection)))}

    def _status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        task_id = id_of(request)
        status = self._dispatcher.status(task_id)
        if status is None:
            return {"task": None}
        task: dict[str, Any] = {"id": task_id, "state": status.state.value}
        if status.attempts is not None:
            task["attempt"] = status.attempts
        if status.due is not None:
            task["due_in_s"] = max(0.0, status.due - self._clock.monotonic())
        return {"task": task}

    def _stats(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "stats": {
                **self._dispatcher.gauges(),
                "health": self.health().as_map(),
                "stuck": [asdict(task) for host in self._hosts for task in host.stuck()],
                "workers": self._workers,
                "rejected": dict(self._admission.rejected),
                "duplicates": self._admission.duplicates,
                "room_per_s": self._admission.room_per_s,
                "requests": self._requests,
                "errors": self._errors,
                "log_dropped": self._log_dropped(),
                "uptime_s": self._clock.monotonic() - self._started,
            }
        }

    def _dead(self, request: Mapping[str, Any]) -> dict[str, Any]:
        letters, total = self._dispatcher.letters(*page_of(request))
        return {"dead": [letter.as_map() for letter in letters], "total": total}

    def _ping(self, _: Mapping[str, Any]) -> dict[str, Any]:
        limits = {"message_bytes": self._message_bytes, "tasks": MAX_TASKS}
        return {"server": _SERVER, "phase": self._dispatcher.phase, "versions": [VERSION], "limits": limits}

    def health(self) -> Health:
        """How the broker is, just now."""
        troubles = [*self._troubles(), *(trouble for host in self._hosts for trouble in host.troubles())]
        if self._dispatcher.is_paused:
            troubles.append(_PAUSED)
        return health_of(troubles, draining=self._dispatcher.phase == "draining")
