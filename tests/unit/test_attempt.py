"""One attempt: whatever a task raises costs that attempt, and no more (P7). The worker, here this thread, goes on."""

from __future__ import annotations

import asyncio
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.still_broker import declared
from worker_host import NeverRetry, RetryAfter, current_task, task
from worker_host.attempt import MAX_ERROR, MAX_TRACE, Awaiter, failure_of, run_attempt
from worker_host.contract import Failure
from worker_host.tasks import TaskFunction


class Lease:
    """A lease on one attempt of a task function, with these arguments."""

    def __init__(self, name: str, *args: Any, id: str = "t", attempt: int = 1, **kwargs: Any) -> None:  # noqa: A002
        self.id = id
        self.attempt = attempt
        self._call = name, list(args), kwargs

    def open(self) -> tuple[str, list[Any], dict[str, Any]]:
        """What to call."""
        return self._call


class Worker:
    """A worker's thread and its awaiter. Not this thread: in the main one, asyncio has an eye on Ctrl-C."""

    def __init__(self) -> None:
        self.awaiter = Awaiter()
        self._thread = ThreadPoolExecutor(1)

    def attempt(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Failure | None:
        """How one attempt of this function ends. If `run_attempt` raises, the worker is dead, and the test fails."""
        (name,) = functions = declared(task(function))
        return self.run(Lease(name, *args, **kwargs), functions)

    def run(self, lease: Lease, functions: Mapping[str, TaskFunction]) -> Failure | None:
        """The same, of this lease."""
        running = self._thread.submit(run_attempt, lease, functions, self.awaiter)
        death = running.exception(10)
        if death is not None:  # not raised on: some of these would end the test's own report of it
            raise AssertionError("the worker died:\n" + traceback.format_tb(death.__traceback__)[-1])
        return running.result()

    def close(self) -> None:
        """End the loop, then the thread."""
        self._thread.submit(self.awaiter.close).result(10)
        self._thread.shutdown()


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker."""
    made = Worker()
    yield made
    made.close()


class Rude(BaseException):
    """An exception that is no `Exception`."""


class Unprintable(Exception):  # noqa: N818 - the name says what it is
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit("from __str__")

    __repr__ = __str__


class LyingText(str):
    """Text that raises when it is used."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise ValueError("from __format__")

    def __len__(self) -> int:
        raise ValueError("from __len__")


class Liar(Exception):  # noqa: N818 - the name says what it is
    """An exception whose text is such text."""

    def __str__(self) -> str:
        return LyingText("x")


class ForgetfulRetryAfter(RetryAfter):
    """A subclass that does not call the base class: it has no `seconds`."""

    def __init__(self) -> None:
        """Forget."""


class EvilRetryAfter(RetryAfter):
    """A subclass whose `seconds` raise."""

    seconds = property(lambda _: 1 / 0)

    def __init__(self) -> None:
        """Set none."""


def disguised() -> type[Exception]:
    """An exception that does not want to be asked what it is an instance of."""
    return type("Disguised", (Exception,), {"__class__": property(lambda _: 1 / 0)})


def nameless() -> type[Exception]:
    """An exception whose type does not tell its name. Made when needed: the test runner asks for names too."""
    kind = type("Kind", (type,), {"__name__": property(lambda _: 1 / 0)})
    made: type[Exception] = kind("Nameless", (Exception,), {})
    return made


KINDS: list[Callable[[], BaseException]] = [
    ValueError, SystemExit, lambda: SystemExit(3), KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Rude,
    Unprintable, MemoryError, RecursionError, StopIteration, StopAsyncIteration, Liar, ForgetfulRetryAfter,
    lambda: ExceptionGroup("several", [ValueError("a"), OSError("b")]),
    lambda: BaseExceptionGroup("several", [SystemExit(1), KeyboardInterrupt()]),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
]  # fmt: skip


def succeed_plainly() -> None:
    """A function that succeeds."""


def test_arguments_arrive_and_success_is_none(worker: Worker) -> None:
    """The function is called with the lease's arguments; what it returns does not matter."""
    calls: list[object] = []

    def record(*args: object, **kwargs: object) -> str:
        calls.append((args, kwargs))
        return "ignored"

    assert worker.attempt(record, 1, "two", key=[3]) is None
    assert calls == [((1, "two"), {"key": [3]})]


@pytest.mark.parametrize("make", KINDS)
def test_whatever_is_raised_is_a_failed_attempt(make: Callable[[], BaseException], worker: Worker) -> None:
    """Each kind of exception gives a failure that names it, and the next attempt runs as if nothing had been."""
    error = make()

    def fail() -> None:
        raise error

    failure = worker.attempt(fail)
    assert failure is not None
    assert failure.error.startswith(type(error).__name__)
    assert len(failure.error) <= MAX_ERROR
    assert len(failure.trace) <= MAX_TRACE
    assert worker.attempt(succeed_plainly) is None


@pytest.mark.parametrize("make", KINDS)
def test_whatever_a_coroutine_raises_is_a_failed_attempt(make: Callable[[], BaseException], worker: Worker) -> None:
    """The same for an `async def`, before and after it has really waited; the loop, or a new one, serves the next."""

    async def fail(wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        raise make()

    ran: list[str] = []

    async def succeed() -> None:
        await asyncio.sleep(0)
        ran.append("succeeded")

    for wait in (False, True):
        assert worker.attempt(fail, wait=wait) is not None
        assert worker.attempt(succeed) is None
    assert ran == ["succeeded", "succeeded"]


def test_endless_recursion_is_a_failed_attempt(worker: Worker) -> None:
    """A task that really runs out of stack leaves enough of it for its failure to be noted."""

    def recurse() -> None:
        recurse()

    failure = worker.attempt(recurse)
    assert failure is not None
    assert failure.error.startswith("RecursionError")


def test_what_a_task_asks_for_is_passed_on() -> None:
    """`RetryAfter` carries its seconds, `NeverRetry` is final, anything else is neither."""
    asked, final, other = failure_of(RetryAfter(7.5)), failure_of(NeverRetry("no")), failure_of(ValueError("no"))
    assert (asked.retry_after_s, asked.final) == (7.5, False)
    assert (final.retry_after_s, final.final) == (None, True)
    assert (other.retry_after_s, other.final, other.error) == (None, False, "ValueError: no")


@pytest.mark.parametrize("seconds", [None, -1.0, float("nan"), float("inf"), "soon"])
def test_delay_that_is_none_is_not_passed_on(seconds: Any) -> None:
    """A task may have overwritten the delay it asks for; what is no delay does not get into the queue."""
    asked = RetryAfter(1)
    asked.seconds = seconds
    assert failure_of(asked).retry_after_s is None


def test_error_without_text_is_its_type_alone() -> None:
    """No dangling colon."""
    assert failure_of(ValueError()).error == "ValueError"


@pytest.mark.parametrize("make", [nameless, disguised, lambda: EvilRetryAfter])
def test_exception_that_does_not_want_to_be_known_is_a_failed_attempt(
    make: Callable[[], type[Exception]], worker: Worker
) -> None:
    """Its name, its delay, or what it is an instance of, cannot be asked for: even that costs no more than the attempt.

    In a plain function: `asyncio` itself, which asks in its own callbacks, would never end.
    """

    def fail() -> None:
        raise make()

    failure = worker.attempt(fail)
    assert failure is not None
    assert failure.error


@pytest.mark.parametrize("seconds", [0, 5, 2.5])
def test_delay_may_be_any_number_of_seconds(seconds: float) -> None:
    """A subclass that sets `seconds` itself may set a whole number."""
    asked = RetryAfter(1)
    asked.seconds = seconds
    assert failure_of(asked).retry_after_s == seconds


def test_huge_texts_are_cut() -> None:
    """The error keeps its beginning, the trace its end, whatever the sizes."""
    try:
        raise ValueError("x" * 1_000_000)
    except ValueError as error:
        failure = failure_of(error)
    assert len(failure.error) == MAX_ERROR
    assert failure.error.startswith("ValueError: xxx")
    assert len(failure.trace) == MAX_TRACE


def test_trace_shows_where_it_was_raised() -> None:
    """The trace ends at the line that raised, with the causes before it."""

    def inner() -> None:
        raise OSError("cause")

    try:
        try:
            inner()
        except OSError as cause:
            raise ValueError("effect") from cause
    except ValueError as error:
        trace = failure_of(error).trace
    assert "in inner" in trace
    assert trace.rstrip().endswith("ValueError: effect")
    assert trace.index("OSError: cause") < trace.index("ValueError: effect")


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", "\x1b[31m\n"])
def test_failure_can_be_sent_whatever_its_text(text: str) -> None:
    """Text that has no UTF-8 (a file name of other bytes, say) is escaped: the dead letter must fit into a reply."""
    failure = failure_of(ValueError(text))
    failure.error.encode()
    failure.trace.encode()


def test_running_task_knows_itself(worker: Worker) -> None:
    """Inside the function, plain or `async`, the current task is the lease's; afterwards there is none."""
    seen: list[tuple[str, int]] = []

    def look() -> None:
        seen.append((current_task().id, current_task().attempt))

    async def look_async() -> None:
        await asyncio.sleep(0)
        look()

    for function in (look, look_async, look, look_async):
        number = len(seen)
        assert worker.attempt(function, id=f"t{number}", attempt=number + 1) is None
    assert seen == [("t0", 1), ("t1", 2), ("t2", 3), ("t3", 4)]
    with pytest.raises(LookupError):
        current_task()


def test_coroutines_share_one_loop(worker: Worker) -> None:
    """What one task opens on the worker's loop, the next one can use; an ordinary failure does not close it."""
    loops: list[object] = []

    async def look(fail: bool) -> None:
        loops.append(asyncio.get_running_loop())
        if fail:
            raise ValueError

    for fail in (False, True, False):
        worker.attempt(look, fail=fail)
    assert loops[0] is loops[1] is loops[2]


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_task_leaves_running_is_cancelled(fails: bool, worker: Worker) -> None:
    """A task is over when it says so: its own background tasks are cancelled, and may clean up, before that counts."""
    events: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cleaned up")

    async def leave() -> None:
        events.append(f"left {len(asyncio.all_tasks())}")
        leave.kept = asyncio.create_task(linger())  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        if fails:
            raise ValueError

    assert (worker.attempt(leave) is not None) == fails
    assert events == ["left 1", "cleaned up"]


def test_function_that_returns_a_coroutine_has_it_awaited(worker: Worker) -> None:
    """A wrapper around an `async def` looks plain; success without having run would be a lie."""
    ran: list[str] = []

    async def inner() -> None:
        ran.append("inner")

    def wrapper() -> object:
        return inner()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert worker.attempt(wrapper) is None
    assert ran == ["inner"]


def test_lease_that_cannot_be_opened_is_a_failed_attempt(worker: Worker) -> None:
    """A fault before the function is even called costs the attempt too, and not the worker."""

    class Broken(Lease):
        def open(self) -> tuple[str, list[Any], dict[str, Any]]:
            raise MemoryError

    assert worker.run(Broken("none"), {}) is not None
    assert worker.run(Lease("no_such_function"), {}) is not None


def test_awaiter_can_be_closed_without_use_and_twice() -> None:
    """A worker that never saw a coroutine has no loop to close; one that has closed it gets a new one at the next."""
    awaiter = Awaiter()
    awaiter.close()
    ran: list[int] = []

    async def run(number: int) -> None:
        ran.append(number)

    for number in range(2):
        awaiter.run(run(number))
        awaiter.close()
        awaiter.close()
    assert ran == [0, 1]
