"""`@task`: what it declares, what it refuses when the module is loaded, and what a running task may ask."""

from __future__ import annotations

import functools
import math
import re
import threading
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest

import worker_host
from worker_host import Backoff, CurrentTask, NeverRetry, RetryAfter, current_task, running_as, task
from worker_host.tasks import DECLARATION, TaskFunction, task_functions


def declaration(function: object) -> TaskFunction:
    """What `@task` noted of it."""
    found = getattr(function, DECLARATION)
    assert isinstance(found, TaskFunction)
    return found


def module(**members: object) -> ModuleType:
    """A module with these members."""
    made = ModuleType("made")
    vars(made).update(members)
    return made


def plain(to: str, subject: str = "") -> str:
    """A function."""
    return to + subject


def test_decorated_function_is_the_function() -> None:
    """`@task` gives back the very function, so its types and its tests stay as they were."""
    assert task(plain) is plain
    assert task(retries=1)(plain) is plain
    assert plain("a", "b") == "ab"


def test_defaults_of_a_declaration() -> None:
    """The function's own name, three retries, and the usual backoff."""
    declared = declaration(task(plain))
    assert (declared.name, declared.retries, declared.backoff) == ("plain", 3, Backoff(0.1, 60.0, 0.2))
    assert declared.function is plain


def test_everything_can_be_declared() -> None:
    """Name, retries and backoff, as given."""
    backoff = Backoff(first_s=1, max_s=2, jitter=0)
    declared = declaration(task(name="mail.send_1", retries=0, backoff=backoff)(plain))
    assert (declared.name, declared.retries, declared.backoff) == ("mail.send_1", 0, backoff)


@pytest.mark.parametrize("seconds", [0, 0.5, 60, 90])
def test_backoff_may_be_its_first_delay(seconds: float) -> None:
    """A number is the seconds before the second attempt; the longest delay is never below it."""
    backoff = declaration(task(backoff=seconds)(plain)).backoff
    assert backoff == Backoff(first_s=seconds, max_s=max(seconds, 60.0))


def test_generators_are_refused() -> None:
    """To call a generator function runs nothing of it: success without work is refused at once."""

    def yields() -> Iterator[int]:
        yield 1

    async def yields_async() -> AsyncIterator[int]:
        yield 1

    for function in (yields, yields_async):
        with pytest.raises(TypeError, match="is a generator"):
            task(function)


@pytest.mark.parametrize("name", ["a", "_a", "A.b_9", "n" * 128])
def test_names_up_to_the_limit_are_taken(name: str) -> None:
    """Letters, digits, dots and underscores, up to 128 of them."""
    assert declaration(task(name=name)(plain)).name == name


@pytest.mark.parametrize("name", ["9a", ".a", "a b", "a-b", "ä", "a\n", "n" * 129, "<lambda>"])
def test_other_names_are_refused(name: str) -> None:
    """A name that no producer could send, or that is too long, is refused."""
    with pytest.raises(ValueError, match="task name"):
        task(name=name)(plain)


@pytest.mark.parametrize("retries", [0, 1, 99, 100])
def test_retries_up_to_the_limit_are_taken(retries: int) -> None:
    """0 to 100."""
    assert declaration(task(retries=retries)(plain)).retries == retries


@pytest.mark.parametrize("retries", [-1, 101, math.nan, 2.5, True, "3", None])
def test_other_retries_are_refused(retries: Any) -> None:
    """A negative number, too many, or no whole number: refused when the module is loaded."""
    with pytest.raises((ValueError, TypeError)):
        task(retries=retries)(plain)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": "3"}, "retries of task 'plain' is a whole number from 0 to 100, not '3'"),
        ({"retries": None}, "retries of task 'plain' is a whole number from 0 to 100, not None"),
        ({"time_limit": "5"}, "time_limit of task 'plain' is seconds above 0, 1728000 (20 days) at most, not '5'"),
        ({"backoff": "1"}, "backoff of task 'plain' is a Backoff, or seconds, not '1'"),
        ({"backoff": None}, "backoff of task 'plain' is a Backoff, or seconds, not None"),
        ({"name": 3}, "name of task 3 is text, not 3"),
    ],
)
def test_options_of_another_type_are_refused(options: dict[str, Any], words: str) -> None:
    """The parameter is named, its value, and what is allowed."""
    with pytest.raises(TypeError, match=f"^{re.escape(words)}$"):
        task(**options)(plain)


@pytest.mark.parametrize("decorated", [3, "plain", Backoff, print, functools.partial(plain, "a")])
def test_what_is_no_function_is_refused(decorated: Any) -> None:
    """An option that is given by position, or what no broker would find in a module."""
    words = f"@task decorates a function, not {decorated!r}; its options have names: @task(retries=3)"
    with pytest.raises(TypeError, match=f"^{re.escape(words)}$"):
        task(decorated)


@pytest.mark.parametrize("options", [{"first_s": "1"}, {"max_s": None}, {"jitter": "0.5"}])
def test_backoffs_of_another_type_are_refused(options: dict[str, Any]) -> None:
    """The value is named, and what is allowed."""
    ((name, value),) = options.items()
    with pytest.raises(TypeError, match=f"^{name} of a backoff is a number, not {value!r}$"):
        Backoff(**options)


@pytest.mark.parametrize(
    ("first_s", "max_s", "jitter"),
    [
        (-1, 1, 0),
        (2, 1, 0),
        (math.nan, 1, 0),
        (0, math.nan, 0),
        (0, math.inf, 0),
        (0, 1, -0.1),
        (0, 1, 1.1),
        (0, 1, math.nan),
    ],
)
def test_impossible_backoffs_are_refused(first_s: float, max_s: float, jitter: float) -> None:
    """A negative, endless or shrinking delay, and more jitter than delay, are refused."""
    with pytest.raises(ValueError, match=r"backoff|jitter"):
        Backoff(first_s, max_s, jitter)


@pytest.mark.parametrize("seconds", [0.001, 60, 20 * 86_400])
def test_time_limits_that_can_be_waited_for_are_taken(seconds: float) -> None:
    """Up to 20 days."""
    assert declaration(task(time_limit=seconds)(plain)).time_limit_s == seconds


@pytest.mark.parametrize("seconds", [-1, 0, 20 * 86_400 + 1, 4_294_968, 1e10, math.inf, math.nan])
def test_time_limits_that_no_system_can_wait_for_are_refused(seconds: float) -> None:
    """The system counts in milliseconds, and wraps: a large limit would be a short one, or kill the broker."""
    with pytest.raises(ValueError, match=r"seconds above 0, 1728000 \(20 days\) at most, not "):
        task(time_limit=seconds)(plain)


def test_modules_task_functions_are_its_decorated_ones() -> None:
    """Whatever else a module holds is no task; a task that was imported, or has two names there, is one."""

    @task
    def one() -> None:
        """Do nothing."""

    found = task_functions([module(one=one, alias=one, plain=math.sqrt, number=1, Backoff=Backoff), module(one=one)])
    assert found == {"one": declaration(one)}


def test_two_functions_of_one_name_are_refused() -> None:
    """A name stands for one function; the error names it and the second module."""

    @task(name="same")
    def one() -> None:
        """Do nothing."""

    @task(name="same")
    def other() -> None:
        """Do nothing."""

    with pytest.raises(ValueError, match="'same'; the second in made"):
        task_functions([module(one=one, other=other)])


def test_current_task_is_known_inside_alone() -> None:
    """Inside a task its id and attempt are known, outside there is an error that says how to test with it."""
    with pytest.raises(LookupError, match="running_as"):
        current_task()
    with running_as(id="order-17", attempt=3):
        assert current_task() == CurrentTask("order-17", 3)
        with running_as():
            assert current_task() == CurrentTask("test", 1)
        assert current_task().id == "order-17"
    with pytest.raises(LookupError):
        current_task()


def test_current_task_is_left_behind_when_the_block_raises() -> None:
    """An exception in the block does not leave its task in place."""

    def fail() -> None:
        with running_as():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(LookupError):
        current_task()


def test_current_task_is_of_its_thread() -> None:
    """Another thread does not see this one's task."""
    seen: list[object] = []

    def look() -> None:
        try:
            seen.append(current_task())
        except LookupError as error:
            seen.append(error)

    with running_as():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(10)
    assert isinstance(seen[0], LookupError)


@pytest.mark.parametrize("seconds", [0, 0.5, 3])
def test_retry_after_keeps_its_seconds(seconds: float) -> None:
    """The delay is a float; the message says it, or what the task says instead."""
    asked = RetryAfter(seconds)
    assert asked.seconds == seconds
    assert type(asked.seconds) is float
    assert f"{seconds:g}" in str(asked)
    assert str(RetryAfter(1, "busy")) == "busy"


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_impossible_retry_after_is_refused(seconds: float) -> None:
    """A delay that is negative, endless or no number fails in the task, where its author sees it."""
    with pytest.raises(ValueError, match="seconds is 0 or more"):
        RetryAfter(seconds)


def test_package_offers_what_it_says() -> None:
    """Every name of `__all__` is there, and nothing public of `tasks` that a task module needs is missing."""
    assert sorted(worker_host.__all__) == worker_host.__all__
    assert all(hasattr(worker_host, name) for name in worker_host.__all__)
    assert {"task", "current_task", "RetryAfter", "NeverRetry", "Backoff"} <= set(worker_host.__all__)
    assert issubclass(NeverRetry, Exception)


def test_a_decorator_above_the_declaration_is_refused() -> None:
    """`functools.wraps` copies the declaration, so the inner function alone would be run, in silence."""

    @task
    def inner() -> None:
        """Do nothing."""

    @functools.wraps(inner)
    def outer() -> None:
        inner()

    module = ModuleType("jobs")
    module.wrapped = outer  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="put @task on top"):
        task_functions([module])
