"""Attempts of one worker follow each other and know nothing of each other: no context, no coroutine is left over."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from tests.unit.test_attempt import Worker
from worker_host.attempt import failure_of

customer: ContextVar[str] = ContextVar("customer", default="nobody")


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker between two tasks."""
    made = Worker()
    yield made
    made.close()


def test_context_of_a_task_ends_with_it(worker: Worker) -> None:
    """A context variable that a plain task sets is not there in the next task of the same worker, of either kind."""
    seen: list[str] = []

    def sets() -> None:
        customer.set("ada")
        seen.append(customer.get())

    def reads() -> None:
        seen.append(customer.get())

    async def awaits() -> None:
        seen.append(customer.get())

    assert [worker.attempt(function) for function in (sets, reads, awaits)] == [None] * 3
    assert seen == ["ada", "nobody", "nobody"]


def test_coroutine_sees_the_context_of_its_own_attempt(worker: Worker) -> None:
    """What a plain function sets before it hands back a coroutine is there while that runs."""
    seen: list[str] = []

    async def reads() -> None:
        seen.append(customer.get())

    def sets() -> Any:
        customer.set("ada")
        return reads()

    assert worker.attempt(sets) is None
    assert seen == ["ada"]


def test_stopped_loop_leaves_nothing_of_the_attempt(worker: Worker) -> None:
    """A task that stops its loop has failed, is ended there and then, and does not go on inside the next attempt."""
    steps: list[str] = []

    async def stops() -> None:
        try:
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            steps.append("went on")
        finally:
            steps.append("ended")

    async def follows() -> None:
        await asyncio.sleep(0.01)
        steps.append("followed")

    failure = worker.attempt(stops)
    assert failure is not None
    assert failure.error.startswith("RuntimeError: Event loop stopped")
    assert steps == ["ended"]
    assert worker.attempt(follows) is None
    assert steps == ["ended", "followed"]


def test_failed_coroutine_keeps_the_loop(worker: Worker) -> None:
    """An ordinary exception costs no loop: a connection pool that lives on it stays usable."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def fails() -> None:
        loops.append(asyncio.get_running_loop())
        raise ValueError("no")

    assert worker.attempt(fails) is not None
    assert worker.attempt(fails) is not None
    assert loops[0] is loops[1]


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    del call.__wrapped__  # so that nothing shows at the declaration
    return call


def _yields() -> Iterator[int]:
    yield 1


async def _yields_async() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [_yields, _yields_async])
def test_generator_that_comes_back_is_a_failed_attempt(function: Callable[..., Any], worker: Worker) -> None:
    """Nothing of it has run, so the attempt did not succeed; on every version of Python."""
    failure = worker.attempt(_wrapped(function))
    assert failure is not None
    assert "returned a generator, of which nothing has run" in failure.error


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x85b", "a\u2028b"])
def test_error_is_one_line(text: str) -> None:
    """A message of several lines is one, so that it can stand in a table; the trace keeps them."""
    assert failure_of(ValueError(text)).error == "ValueError: a b"
