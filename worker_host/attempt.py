"""One attempt of one task: call the function, survive whatever it raises, say how it ended.

It never raises, and knows nothing of threads or queues.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import traceback
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from worker_host.contract import Failure, Lease
from worker_host.tasks import RUNNING, NeverRetry, RetryAfter, TaskFunction

MAX_ERROR: Final = 400
MAX_TRACE: Final = 2_000


class Awaiter:
    """Runs the coroutines of one worker thread, on an event loop that is made at the first one.

    The loop stays, so that what a task function keeps open between tasks (a connection pool, say) stays usable on the
    same worker. What a task leaves running when it returns is cancelled: a task is over when it says so.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Await `coroutine` to its end; raises what it raises."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        alone = _alone(coroutine)
        try:
            # The attempt's own context: the runner would go on with the one of its first task.
            self._runner.run(alone, context=contextvars.copy_context())
        except BaseException as error:
            # SystemExit and its kin break out of the loop in the middle of a step, and `loop.stop()` between two. What
            # is left of the loop is not trusted, and what is left of the coroutine must not go on in the next attempt.
            if not isinstance(error, Exception) or inspect.getcoroutinestate(alone) != inspect.CORO_CLOSED:
                self.close()
            raise

    def close(self) -> None:
        """End the loop, if there is one."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


async def _alone(coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        await coroutine
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for one in left:
            one.cancel()
        if left:
            await asyncio.wait(left)


def run_attempt(
    lease: Lease,
    functions: Mapping[str, TaskFunction],
    awaiter: Awaiter,
    begun: Callable[[Lease, TaskFunction], None] | None = None,
) -> Failure | None:
    """Run one attempt; None if it succeeded. A BaseException of any kind is a failed attempt, no more (P7).

    `begun` is told of the function just before it is called. Context variables that the task sets are gone when it
    ends: the next task of this worker does not see them.
    """
    try:
        contextvars.copy_context().run(_call, lease, functions, awaiter, begun)
    # SystemExit, KeyboardInterrupt, GeneratorExit and CancelledError would all end the worker: its task failed, not it.
    except BaseException as error:  # noqa: BLE001
        try:
            return failure_of(error)
        except BaseException:  # noqa: BLE001 - its class can lie and raise too: `isinstance` asks it
            return Failure(error="<an exception that cannot be described>", trace="")
    return None


def _call(
    lease: Lease,
    functions: Mapping[str, TaskFunction],
    awaiter: Awaiter,
    begun: Callable[[Lease, TaskFunction], None] | None,
) -> None:
    name, args, kwargs = lease.open()
    task_function = functions[name]
    RUNNING.set(lease)
    if begun is not None:
        begun(lease, task_function)
    result = task_function.function(*args, **kwargs)
    if result is None:
        return
    if isinstance(result, Coroutine):  # also of a plain function around an `async def`
        awaiter.run(result)
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(f"task {name!r} returned a generator, of which nothing has run: return, don't yield")


#: What calls a task function, and what awaits it: in a stack, only the frames inside of these are the task's.
CALLERS: Final = frozenset({_call.__code__, _alone.__code__})


def failure_of(error: BaseException) -> Failure:
    """What is kept of an exception. Its `__str__` is the task's code: it may raise, lie, or be huge."""
    kind = type(error).__name__
    try:
        text = _plain(str(error))
    except BaseException as second:  # noqa: BLE001 - whatever the task's own __str__ does costs nothing more
        text = f"<its __str__ raised {type(second).__name__}>"
    try:
        trace = _plain("".join(traceback.format_exception(error, limit=-12)))
    except BaseException as second:  # noqa: BLE001 - as above
        trace = f"<no traceback: formatting it raised {type(second).__name__}>"
    return Failure(
        error=" ".join((f"{kind}: {text}" if text else kind).splitlines())[:MAX_ERROR],
        trace=trace[-MAX_TRACE:],
        retry_after_s=_wanted_delay(error) if isinstance(error, RetryAfter) else None,
        final=isinstance(error, NeverRetry),
    )


def _plain(text: str) -> str:
    """`text` as a real `str` that can be sent: no subclass with a mind of its own, and no lone surrogates."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def _wanted_delay(error: RetryAfter) -> float | None:
    """The delay that the task asked for; None, that is, the usual backoff, if that is none."""
    try:
        seconds = error.seconds
    except BaseException:  # noqa: BLE001 - a subclass may have made it anything
        return None
    return float(seconds) if type(seconds) in {int, float} and 0 <= seconds < math.inf else None
