"""Task functions: what `@task` says about a function, and what a running task may ask and say.

`@task` gives back the very function it was given, so its types and its tests stay as they were; what was declared
hangs on the function. There is no global registry: a module's task functions are the decorated ones it holds.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType, NoneType
from typing import Any, Final, Protocol, TypeVar, overload

from worker_host.signature import Signature

F = TypeVar("F", bound=Callable[..., Any])

#: The attribute that `@task` puts on a function. Producers read it too, so that a function can be submitted by itself.
DECLARATION: Final = "__turnstile_task__"
#: Seconds of a `time_limit` at most, 20 days: the system's waits are in milliseconds, and wrap at 2**31 of them.
LONGEST_LIMIT_S: Final = 20 * 86_400.0
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._]{0,127}", re.ASCII)


class RetryAfter(Exception):  # noqa: N818 - raised to say what should happen, not that something broke
    """Raised by a task: this attempt failed, try again after `seconds` instead of the usual backoff."""

    def __init__(self, seconds: float, why: str = "") -> None:
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"seconds is 0 or more, and finite, not {seconds!r}")
        super().__init__(why or f"try again in {seconds:g} s")
        self.seconds = float(seconds)


class NeverRetry(Exception):  # noqa: N818 - raised to say what should happen, not that something broke
    """Raised by a task: trying again is of no use. The task becomes a dead letter at once."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay before each further attempt: `first_s`, doubled each time, at most `max_s`, spread by `jitter`.

    `jitter` is the part of the delay that is random: 0.2 spreads it evenly over 80 % to 120 %, so that tasks that
    failed together do not come back together.
    """

    first_s: float = 0.1
    max_s: float = 60.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        for name, value in (("first_s", self.first_s), ("max_s", self.max_s), ("jitter", self.jitter)):
            if not isinstance(value, (int, float)):
                raise TypeError(f"{name} of a backoff is a number, not {value!r}")
        if not 0 <= self.first_s <= self.max_s < float("inf"):
            raise ValueError(f"backoff needs 0 <= first_s <= max_s, finite; not {self.first_s!r} and {self.max_s!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is 0 to 1, not {self.jitter!r}")


@dataclass(frozen=True, slots=True)
class TaskFunction:
    """A function and what `@task` declared of it."""

    name: str
    function: Callable[..., Any]
    signature: Signature
    retries: int  #: runs after the first one, where the producer does not say
    backoff: Backoff
    isolate: bool = False  #: it runs in a child host
    time_limit_s: float | None = None  #: for one attempt


@overload
def task(function: F, /) -> F: ...
@overload
def task(
    *,
    name: str | None = None,
    retries: int = 3,
    backoff: Backoff | float = ...,
    isolate: bool = False,
    time_limit: float | None = None,
) -> Callable[[F], F]: ...
def task(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 3,
    backoff: Backoff | float = Backoff(),
    isolate: bool = False,
    time_limit: float | None = None,
) -> F | Callable[[F], F]:
    """Declare a function (plain or `async def`) to be a task function.

    `name` is what producers submit (default: the function's own name). `retries` are the runs after the first, where
    the producer does not say: 0 to 100. `backoff` is a `Backoff`, or the seconds before the second attempt.
    `isolate`: run it in a child process of the broker, so that it cannot take the broker down, nor slow its answers.
    `time_limit`: the seconds that an attempt may take, 20 days at most. In a child host it is ended then, process and
    all, and has failed; on a thread of the broker it cannot be ended, and is shown as stuck.
    Raises `TypeError` or `ValueError`, when the module is loaded, for what cannot work.
    """

    def declare(function: F) -> F:
        if not inspect.isfunction(function):
            raise TypeError(f"@task decorates a function, not {function!r}; its options have names: @task(retries=3)")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__qualname__} is a generator: calling it would run nothing. Return, don't yield"
            )
        called = name or function.__name__
        limits = f"seconds above 0, {LONGEST_LIMIT_S:.0f} (20 days) at most"
        for option, value, kinds, allowed in (
            ("name", called, str, "text"),
            ("retries", retries, int, "a whole number from 0 to 100"),
            ("backoff", backoff, (Backoff, int, float), "a Backoff, or seconds"),
            ("time_limit", time_limit, (int, float, NoneType), limits),
        ):
            if not isinstance(value, kinds):
                raise TypeError(f"{option} of task {called!r} is {allowed}, not {value!r}")
        declared = TaskFunction(
            name=called,
            function=function,
            signature=Signature.of(function),
            retries=retries,
            backoff=backoff if isinstance(backoff, Backoff) else Backoff(backoff, max(backoff, Backoff().max_s)),
            isolate=isolate,
            time_limit_s=time_limit,
        )
        if _NAME.fullmatch(declared.name) is None:
            raise ValueError(f"task name {declared.name!r}: letters, digits, '.' and '_', the first no digit")
        if type(retries) is not int or not 0 <= retries <= 100:
            raise ValueError(f"retries of task {declared.name!r} is a whole number from 0 to 100, not {retries!r}")
        if time_limit is not None and not 0 < time_limit <= LONGEST_LIMIT_S:
            raise ValueError(f"time_limit of task {declared.name!r} is {limits}, not {time_limit!r}")
        setattr(function, DECLARATION, declared)
        return function

    return declare if function is None else declare(function)


def task_functions(modules: Iterable[ModuleType]) -> dict[str, TaskFunction]:
    """The task functions that the modules hold, by name; `ValueError` if two functions claim one name."""
    found: dict[str, TaskFunction] = {}
    for module in modules:
        for value in vars(module).values():
            declared = getattr(value, DECLARATION, None) if inspect.isfunction(value) else None
            if not isinstance(declared, TaskFunction):
                continue
            if declared.function is not value:  # `functools.wraps` copied the declaration of what it wraps
                raise ValueError(
                    f"task {declared.name!r} in {module.__name__} is wrapped by a decorator above @task, which would "
                    "not be run: put @task on top"
                )
            if found.setdefault(declared.name, declared) is not declared:
                raise ValueError(
                    f"two functions are declared as task {declared.name!r}; the second in {module.__name__}"
                )
    return found


@dataclass(frozen=True, slots=True)
class CurrentTask:
    """What a running task may know of itself."""

    id: str
    attempt: int  #: 1 for the first run


class _Attempt(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...


#: The attempt that this code runs in: a worker's lease, or what `running_as` puts here.
RUNNING: ContextVar[_Attempt] = ContextVar("turnstile_running")


def current_task() -> CurrentTask:
    """The task that this code runs in. `LookupError` outside of one (in a test, use `running_as`)."""
    try:
        running = RUNNING.get()
    except LookupError:
        raise LookupError("no task is running here; in a test, wrap the call in running_as(...)") from None
    return CurrentTask(running.id, running.attempt)


@contextmanager
def running_as(*, id: str = "test", attempt: int = 1) -> Iterator[None]:  # noqa: A002 - the glossary's word
    """For tests of task functions: `current_task()` answers with this id and attempt inside the block."""
    token = RUNNING.set(CurrentTask(id, attempt))
    try:
        yield
    finally:
        RUNNING.reset(token)
