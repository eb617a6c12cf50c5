"""From a task to its bytes on the wire, once; and where in it a value is that has none.

msgpack, in C, does the work. It takes more than the protocol does, though (extension types, keys of any kind, any
depth), so what is not plain is looked at first. The path of a value is worked out only for an error's message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgpack import ExtType

from broker.protocol import MAX_NAME, MAX_NESTING, MAX_RETRIES, MAX_SECONDS, TASK_ID, pack
from producer.errors import BadTask
from producer.task import Task

_is_id: Final = TASK_ID.fullmatch

#: Values of exactly these types need no look before msgpack gets them: it refuses by itself what does not fit.
_PLAIN: Final[frozenset[type]] = frozenset({type(None), bool, int, float, str, bytes})
_NONE_PLAIN: Final[frozenset[type]] = frozenset()
_TEXT: Final[frozenset[type]] = frozenset({str})

_TOO_DEEP: Final = ("", f"nested deeper than {MAX_NESTING} (or it holds itself)")
_ALLOWED: Final = "allowed are nil, bool, int -2**63..2**64-1, float, str, bytes, list/tuple, dict with str keys"


def pack_task(task: Task, packer: Callable[[object], bytes] = pack) -> bytes:
    """The bytes of `task` on the wire; tuples become arrays. `BadTask` if it cannot be sent.

    Where many tasks are packed, `packer` is the `pack` of a `msgpack.Packer` that no other thread uses.
    """
    if not isinstance(task, Task):
        raise BadTask(f"{_a(type(task))} is no Task: make one of it with Task.of(...)")
    args, kwargs = task.args, task.kwargs
    if not isinstance(task.id, str) or _is_id(task.id) is None:
        raise BadTask(f"id: 1 to 64 of A-Z a-z 0-9 . _ : -, the first a letter or digit; not {_show(task.id)}")
    if not isinstance(task.name, str) or not 1 <= len(task.name) <= MAX_NAME:
        raise BadTask(f"name: text of 1 to {MAX_NAME} characters; not {_show(task.name)}")
    fields: dict[str, object] = {"id": task.id, "name": task.name}
    if args:
        fields["args"] = args
        if type(args) is not tuple or not _PLAIN.issuperset(map(type, args)):
            _check("args", args, (list, tuple), _PLAIN)
    if kwargs:
        fields["kwargs"] = kwargs
        _check("kwargs", kwargs, (dict,), _PLAIN)
    _add_options(task, fields)
    try:
        return packer(fields)
    # For a value that does not fit, msgpack says neither where it is nor what would fit.
    except (TypeError, ValueError, OverflowError) as error:
        _check("name", task.name, (str,), _NONE_PLAIN)
        _check("args", args, (list, tuple), _NONE_PLAIN)
        _check("kwargs", kwargs, (dict,), _NONE_PLAIN)
        raise BadTask(f"this task cannot be packed: {error}") from error


def _add_options(task: Task, fields: dict[str, object]) -> None:
    if task.retries is not None:
        if type(task.retries) is not int or not 0 <= task.retries <= MAX_RETRIES:
            raise BadTask(f"retries: a whole number, 0 to {MAX_RETRIES}; not {_show(task.retries)}")
        fields["retries"] = task.retries
    if task.delay_s is not None:
        if type(task.delay_s) not in (int, float) or not 0 <= task.delay_s <= MAX_SECONDS:
            raise BadTask(f"delay_s: 0 to {MAX_SECONDS:.0f} seconds; not {_show(task.delay_s)}")
        fields["delay_s"] = task.delay_s
    if task.expires_s is not None:
        if type(task.expires_s) not in (int, float) or not 0 < task.expires_s <= MAX_SECONDS:
            raise BadTask(f"expires_s: above 0, to {MAX_SECONDS:.0f} seconds; not {_show(task.expires_s)}")
        fields["expires_s"] = task.expires_s


def _check(field: str, value: object, kinds: tuple[type, ...], plain: frozenset[type]) -> None:
    """`BadTask` if `value` is of none of these kinds, or holds what cannot be sent."""
    if not isinstance(value, kinds):
        raise BadTask(f"{field}: {_a(type(value))}; it is a {kinds[-1].__name__}")
    fault = _fault(value, plain, MAX_NESTING)
    if fault is not None:
        path, what = fault
        raise BadTask(f"{field}{path}: {what}")


def _fault(value: object, plain: frozenset[type], room: int) -> tuple[str, str] | None:
    """The first part of `value` that cannot be sent, as (the path to it, what is wrong); None if there is none.

    Parts of a `plain` type are not looked at. `room`: how many levels of containers are allowed from here on.
    """
    if isinstance(value, dict):
        if plain and _TEXT.issuperset(map(type, value)) and plain.issuperset(map(type, value.values())):
            return None if room else _TOO_DEEP
        for key in value:
            if not isinstance(key, str):
                return "", f"a key is {_a(type(key))}; keys are str"
            if not _is_unicode(key):
                return "", f"key {_show(key)} is not valid Unicode: it holds half of a surrogate pair"
        parts: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, (list, tuple)) and not isinstance(value, ExtType):
        if plain and plain.issuperset(map(type, value)):
            return None if room else _TOO_DEEP
        parts = enumerate(value)
    else:
        return _fault_of_scalar(value)
    if not room:
        return _TOO_DEEP
    for key, part in parts:
        if type(part) not in plain and (fault := _fault(part, plain, room - 1)) is not None:
            return f"[{_show(key)}]{fault[0]}", fault[1]
    return None


def _fault_of_scalar(value: object) -> tuple[str, str] | None:
    if value is None or isinstance(value, (float, bytes, bytearray)):
        return None
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**64 else ("", f"an int of {value.bit_length()} bits; {_ALLOWED}")
    if isinstance(value, str):
        return None if _is_unicode(value) else ("", "text that is not valid Unicode: it holds half of a surrogate pair")
    return "", f"{_a(type(value))} cannot be sent; {_ALLOWED}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _a(kind: type) -> str:
    return ("an " if kind.__name__[0] in "AEIOUaeiou" else "a ") + kind.__name__


def _show(value: object) -> str:
    """`value` in a message: on one line, and short, whatever it is."""
    if isinstance(value, (str, bytes)):
        return ascii(value[:60])
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() <= 64):
        return ascii(value)
    return _a(type(value))
