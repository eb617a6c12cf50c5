"""One unit of work, as its producer describes it. It knows nothing of the wire; `producer.packing` does."""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, ParamSpec, TypedDict, Unpack, cast, overload

from producer.errors import BadTask

P = ParamSpec("P")

#: The attribute that worker_host's `@task` puts on a function. Named here too: producers do not import the worker host.
_DECLARATION: Final = "__turnstile_task__"
_ID_LENGTH: Final = 15  # 90 random bits, in the longest ASCII text that Python keeps in 64 bytes
_TO_ID_ALPHABET: Final = bytes.maketrans(b"+/", b"-_")


def new_id() -> str:
    """A fresh task id: random, and safe in URLs and file names.

    From the operating system's own generator, so that a forked process, which inherits all state, draws other ids.
    """
    while True:
        text = b2a_base64(os.urandom(12), newline=False)[:_ID_LENGTH].translate(_TO_ID_ALPHABET).decode()
        if text[0].isalnum():  # the protocol's rule; one in 32 is drawn again
            return text


class Changes(TypedDict, total=False):
    """What `Task.but` can change."""

    id: str
    retries: int | None
    delay_s: float | None
    expires_s: float | None


@dataclass(frozen=True, slots=True)
class Task:
    """A task to submit. Frozen, but not what its arguments hold: they are read when it is submitted.

    Nothing is checked here; submitting raises `BadTask` for what cannot be sent.
    """

    name: str  #: what the task function is registered as
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = field(default_factory=dict)
    id: str = field(default_factory=new_id, kw_only=True)  #: names this task for ever; see `new_id`
    retries: int | None = field(default=None, kw_only=True)  #: runs after the first; None: as the function declares
    delay_s: float | None = field(default=None, kw_only=True)  #: seconds from acceptance to the first run, at least
    expires_s: float | None = field(default=None, kw_only=True)  #: seconds after which no first run begins; None: never

    @overload
    @classmethod
    def of(cls, what: str, /, *args: object, **kwargs: object) -> Task: ...
    @overload
    @classmethod
    def of(cls, what: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Task: ...
    @classmethod
    def of(cls, what: str | Callable[..., object], /, *args: object, **kwargs: object) -> Task:
        """The task that calls `what`, a task name or a decorated task function, with these arguments.

        `BadTask` if a function is given that is not decorated. Given a function, a type checker checks the arguments.
        """
        return cls(what if isinstance(what, str) else name_of(what), args, kwargs)

    def but(self, **changes: Unpack[Changes]) -> Task:
        """The same task with other `id`, `retries`, `delay_s` or `expires_s`. The id stays unless it is changed."""
        return replace(self, **changes)


def task_of(what: Task | str | Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> Task:
    """The task itself, or the one that calls `what` with these arguments. `BadTask` for a task with further ones."""
    if not isinstance(what, Task):
        return Task.of(what, *args, **kwargs)
    if args or kwargs:
        raise BadTask("a Task has its arguments: make another one with Task.of(...), and change options with .but(...)")
    return what


def name_of(function: Callable[..., object]) -> str:
    """The name a task function is registered under; `BadTask` if it is none."""
    declared = getattr(function, _DECLARATION, None)
    if declared is None:
        shown = getattr(function, "__qualname__", None) or type(function).__name__
        raise BadTask(f"{shown} is no task function: decorate it with @task of worker_host, or submit a task name")
    return cast("str", declared.name)
