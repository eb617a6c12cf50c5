"""The wire, as a pure codec: bytes to checked requests, and answers to bytes.

Responsible for what `docs/protocol.md` says, and for nothing else. It imports no socket, reads no clock, keeps no
state, and decides nothing about a task but whether it is well formed. Producers import it too; it is all they share
with the broker.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NoReturn, cast

import msgpack

VERSION: Final = 1
DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5555"
DEFAULT_MESSAGE_BYTES: Final = 65_536
MAX_TASKS: Final = 1_000
MAX_NESTING: Final = 32
#: Arrays and maps in a request or a task. Each costs a hundred times what a number does; 64 KiB could hold 64,000.
MAX_CONTAINERS: Final = 10_000
MAX_RETRIES: Final = 100
#: Thirty days. A longer plan than this does not belong in the memory of one process.
MAX_SECONDS: Final = 2_592_000.0
MAX_DETAIL: Final = 400
MAX_TAG_BYTES: Final = 64
MAX_DEAD_LISTED: Final = 50
#: Requests one peer may have in flight. The broker holds 10 replies for a peer (`SNDHWM`), and drops further ones.
MAX_IN_FLIGHT: Final = 8

TASK_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)
MAX_NAME: Final = 128
_Z85_DIGITS: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
TASK_FIELDS: Final = frozenset({"id", "name", "args", "kwargs", "retries", "delay_s", "expires_s"})


_CONTAINERS: Final = frozenset({list, dict})
# What stands for an absent field; told apart from a given one by identity, and never written to.
_NO_ARGS: Final[list[Any]] = []
_NO_KWARGS: Final[dict[str, Any]] = {}


class Op(StrEnum):
    """What a request asks for."""

    SUBMIT = "submit"
    STATUS = "status"
    STATS = "stats"
    DEAD = "dead"
    PING = "ping"


class Retry(StrEnum):
    """Whether sending the same bytes again can help."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


class Reason(StrEnum):
    """Why a task or a request was refused; the code that programs act on."""

    FULL = "full"
    DRAINING = "draining"
    DUPLICATE_CONFLICT = "duplicate_conflict"
    UNKNOWN_TASK = "unknown_task"
    BAD_ARGUMENTS = "bad_arguments"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_REQUEST = "unknown_request"
    INTERNAL_ERROR = "internal_error"


#: The ops of the producers' door, the most frequent one first.
OPS: Final = tuple(op.value for op in Op)
ADVICE: Final[Mapping[Reason, Retry]] = {
    Reason.FULL: Retry.LATER,
    Reason.DRAINING: Retry.LATER,
    Reason.DUPLICATE_CONFLICT: Retry.NEVER,
    Reason.UNKNOWN_TASK: Retry.NEVER,
    Reason.BAD_ARGUMENTS: Retry.NEVER,
    Reason.TOO_LARGE: Retry.NEVER,
    Reason.MALFORMED: Retry.NEVER,
    Reason.UNSUPPORTED_VERSION: Retry.NEVER,
    Reason.UNKNOWN_REQUEST: Retry.NEVER,
    Reason.INTERNAL_ERROR: Retry.NOW,
}


class RefusedError(Exception):
    """A request, or a task, that is not what the protocol describes.

    `reason` is the code for the reply; `detail` tells a person what was wrong.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail[:MAX_DETAIL]


@dataclass(slots=True)
class TaskMessage:
    """One decoded and checked task, as a producer submitted it."""

    id: str
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    retries: int | None  #: runs after the first; None: what the task function declares
    delay_s: float  #: seconds from acceptance to the first attempt, at least
    expires_s: float | None  #: seconds from acceptance after which no first attempt begins; None: never


def _no_extension(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"extension type {code} with {len(data)} bytes: extension types are not allowed")


def pack(value: object) -> bytes:
    """The msgpack bytes of `value`; raises what msgpack raises if a part of it has no msgpack form."""
    return cast("bytes", msgpack.packb(value))


def unpack(data: bytes, of_each: Callable[[Any], Any] | None = None) -> Any:
    """The value in `data`; `RefusedError` (malformed) if it is anything but one plain msgpack value.

    Bound by the size of `data`: an array that claims more elements than there are bytes is refused before it is built.
    `of_each` is called with each array and map that was read, and gives what stands for it.
    """
    try:
        return msgpack.unpackb(
            data,
            strict_map_key=True,
            max_ext_len=0,
            ext_hook=_no_extension,
            list_hook=of_each,
            object_hook=of_each,
        )
    # msgpack raises classes of its own, ValueError, TypeError, UnicodeDecodeError; all mean the same: not our bytes.
    except Exception as error:  # noqa: BLE001
        raise RefusedError(Reason.MALFORMED, f"not msgpack as agreed: {str(error) or type(error).__name__}") from None


def _unpack_bounded(data: bytes) -> Any:
    """As `unpack`; refuses more than `MAX_CONTAINERS` too, as soon as they were met."""
    if len(data) <= MAX_CONTAINERS:  # each has a byte of its own
        return unpack(data)
    left = MAX_CONTAINERS

    def count(container: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"more than {MAX_CONTAINERS} arrays and maps")
        return container

    return unpack(data, count)


def decode_request(data: bytes, message_bytes: int, ops: Collection[str] = OPS) -> dict[str, Any]:
    """The request in `data`: its `v` and `tag` checked, its `op` one of `ops`, the op's own fields as they came.

    `RefusedError` if it is no request.
    """
    if len(data) > message_bytes:
        raise RefusedError(Reason.TOO_LARGE, f"a request of {len(data)} bytes; at most {message_bytes} are taken")
    fields = _unpack_bounded(data)
    if type(fields) is not dict:
        raise RefusedError(Reason.MALFORMED, f"a request is a map, not {_kind(fields)}")
    version, op = fields.get("v"), fields.get("op")
    if type(version) is not int or version != VERSION:
        if "v" not in fields:
            raise RefusedError(Reason.MALFORMED, "field 'v' (the protocol's version) is missing")
        raise RefusedError(Reason.UNSUPPORTED_VERSION, f"version {_show(version)}; this broker speaks {VERSION}")
    if type(op) is not str:
        raise RefusedError(Reason.MALFORMED, f"field 'op' is text, not {_kind(op)}")
    if op not in ops:
        raise RefusedError(Reason.UNKNOWN_REQUEST, f"no op {_show(op)}; there are {', '.join(ops)}")
    if "tag" in fields and not _is_tag(fields["tag"]):
        raise RefusedError(Reason.MALFORMED, f"field 'tag' is an unsigned integer or text of {MAX_TAG_BYTES} bytes")
    return cast("dict[str, Any]", fields)


def tag_of(data: bytes) -> int | str | None:
    """The tag of a request that was refused, so that its error can still be matched; None if none can be read."""
    try:
        fields = _unpack_bounded(data)
    except RefusedError:
        return None
    tag = fields.get("tag") if type(fields) is dict else None
    return tag if _is_tag(tag) else None


def _is_tag(tag: object) -> bool:
    if type(tag) is str:
        return len(tag.encode()) <= MAX_TAG_BYTES
    return type(tag) is int and tag >= 0


def tasks_of(request: Mapping[str, Any]) -> list[Any]:
    """The packed tasks of a `submit`, each still to be decoded; `RefusedError` if it has no list of them."""
    tasks = request.get("tasks")
    if type(tasks) is not list or not 1 <= len(tasks) <= MAX_TASKS:
        got = f"{len(tasks)} elements" if type(tasks) is list else _kind(tasks)
        raise RefusedError(Reason.MALFORMED, f"field 'tasks' is an array of 1 to {MAX_TASKS} tasks, not {got}")
    return tasks


def id_of(request: Mapping[str, Any]) -> str:
    """The task id that a `status` asks for."""
    task_id = request.get("id")
    if type(task_id) is not str or TASK_ID.fullmatch(task_id) is None:
        raise RefusedError(Reason.MALFORMED, f"field 'id' is not a task id: {_show(task_id)}")
    return task_id


def ids_of(request: Mapping[str, Any]) -> list[str]:
    """The task ids that an operator names; `RefusedError` if it is no list of them."""
    ids = request.get("ids")
    if type(ids) is not list or not 1 <= len(ids) <= MAX_TASKS:
        got = f"{len(ids)} elements" if type(ids) is list else _kind(ids)
        raise RefusedError(Reason.MALFORMED, f"field 'ids' is an array of 1 to {MAX_TASKS} task ids, not {got}")
    for task_id in ids:
        if type(task_id) is not str or TASK_ID.fullmatch(task_id) is None:
            raise RefusedError(Reason.MALFORMED, f"field 'ids' holds what is not a task id: {_show(task_id)}")
    return list(dict.fromkeys(ids))


def page_of(request: Mapping[str, Any]) -> tuple[int, int]:
    """(limit, offset) of a `dead`."""
    limit, offset = request.get("limit", 20), request.get("offset", 0)
    if type(limit) is not int or not 1 <= limit <= MAX_DEAD_LISTED:
        raise RefusedError(Reason.MALFORMED, f"field 'limit' is 1 to {MAX_DEAD_LISTED}, not {_show(limit)}")
    if type(offset) is not int or offset < 0:
        raise RefusedError(Reason.MALFORMED, f"field 'offset' is an unsigned integer, not {_show(offset)}")
    return limit, offset


def decode_task(wire: object) -> TaskMessage:
    """The task in `wire`; `RefusedError` (malformed) naming what is not as agreed."""
    if type(wire) is not bytes:
        raise RefusedError(Reason.MALFORMED, f"a task is a bin that holds a packed map, not {_kind(wire)}")
    fields = _unpack_bounded(wire)
    if type(fields) is not dict:
        raise RefusedError(Reason.MALFORMED, f"a task is a map, not {_kind(fields)}")
    task_id, name = fields.get("id"), fields.get("name")
    if type(task_id) is not str or TASK_ID.fullmatch(task_id) is None:
        raise RefusedError(Reason.MALFORMED, f"field 'id' is not a task id: {_show(task_id)}")
    if type(name) is not str or not 1 <= len(name) <= MAX_NAME:
        raise RefusedError(Reason.MALFORMED, f"field 'name' is not a task name: {_show(name)}")
    args, kwargs = fields.get("args", _NO_ARGS), fields.get("kwargs", _NO_KWARGS)
    if type(args) is not list:
        raise RefusedError(Reason.MALFORMED, f"field 'args' is an array, not {_kind(args)}")
    if type(kwargs) is not dict:
        raise RefusedError(Reason.MALFORMED, f"field 'kwargs' is a map, not {_kind(kwargs)}")
    if args and _too_deep(args):
        raise RefusedError(Reason.MALFORMED, f"field 'args' is nested deeper than {MAX_NESTING}")
    if kwargs:
        if any(type(key) is not str for key in kwargs):
            raise RefusedError(Reason.MALFORMED, "the keys of field 'kwargs' are text")
        if _too_deep(kwargs):
            raise RefusedError(Reason.MALFORMED, f"field 'kwargs' is nested deeper than {MAX_NESTING}")
    task = TaskMessage(task_id, name, args, kwargs, None, 0.0, None)
    if len(fields) > 2 + (args is not _NO_ARGS) + (kwargs is not _NO_KWARGS):
        _read_options(fields, task)
    return task


def _read_options(fields: dict[str, Any], task: TaskMessage) -> None:
    """The fields that most tasks do not have; refuses those that no task has."""
    if not fields.keys() <= TASK_FIELDS:
        raise RefusedError(Reason.MALFORMED, f"a task has no field {_show(next(iter(fields.keys() - TASK_FIELDS)))}")
    if "retries" in fields:
        task.retries = fields["retries"]
        if type(task.retries) is not int or not 0 <= task.retries <= MAX_RETRIES:
            raise RefusedError(Reason.MALFORMED, f"field 'retries' is 0 to {MAX_RETRIES}, not {_show(task.retries)}")
    if "delay_s" in fields:
        task.delay_s = _seconds(fields["delay_s"], "delay_s")
    if "expires_s" in fields:
        task.expires_s = _seconds(fields["expires_s"], "expires_s")
        if task.expires_s == 0:
            raise RefusedError(Reason.MALFORMED, "field 'expires_s' is above 0")


def task_id_of(wire: object) -> str | None:
    """The id of a task that was refused, so that its verdict can name it; None if none can be read."""
    try:
        fields = _unpack_bounded(wire) if type(wire) is bytes else None
    except RefusedError:
        return None
    task_id = fields.get("id") if type(fields) is dict else None
    return task_id if type(task_id) is str and TASK_ID.fullmatch(task_id) else None


def arguments_of(wire: bytes) -> tuple[str, list[Any], dict[str, Any]]:
    """(name, args, kwargs) of a task that `decode_task` has passed; fresh objects at every call."""
    fields = msgpack.unpackb(wire)  # passed already, so there is nothing to forbid
    return fields["name"], fields.get("args") or [], fields.get("kwargs") or {}


def _seconds(value: object, field: str) -> float:
    if (type(value) is float or type(value) is int) and math.isfinite(value) and 0 <= value <= MAX_SECONDS:
        return float(value)
    raise RefusedError(Reason.MALFORMED, f"field '{field}' is 0 to {MAX_SECONDS:.0f} seconds, not {_show(value)}")


def _too_deep(container: list[Any] | dict[str, Any]) -> bool:
    """Whether containers nest deeper than `MAX_NESTING`. Level by level, so that hostile depth costs no stack."""
    level = [
        part for part in (container.values() if type(container) is dict else container) if type(part) in _CONTAINERS
    ]
    for _ in range(MAX_NESTING - 1):
        if not level:
            return False  # nearly every task, at the first look
        level = [
            part
            for item in level
            for part in (item.values() if type(item) is dict else item)
            if type(part) in _CONTAINERS
        ]
    return bool(level)


def _kind(value: object) -> str:
    names = {type(None): "nil", bool: "a boolean", str: "text", bytes: "a bin", list: "an array", dict: "a map"}
    return names.get(type(value), "a number")


def _show(value: object) -> str:
    """`value` for an error's detail: text cut and quoted, a number as it is, all else by its kind."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return _kind(value)
    text = ascii(value[:64])
    return text if len(text) <= 80 else text[:77] + "..."


def is_key(key: bytes) -> bool:
    """Whether this is a key for a closed door: 40 digits of Z85 (https://rfc.zeromq.org/spec/32/), which decode.

    Five digits can also stand for more than the 32 bits that they are to hold.
    """
    digits = [_Z85_DIGITS.find(digit) for digit in key]
    if len(digits) != 40 or -1 in digits:
        return False
    words = [digits[first : first + 5] for first in range(0, 40, 5)]
    return all(functools.reduce(lambda value, digit: 85 * value + digit, word) < 2**32 for word in words)
