"""One attempt of one task: call the function, survive whatever it raises, say how it ended.

It never raises, and knows nothing of threads or queues.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine, Mapping
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
        try:
            self._runner.run(_alone(coroutine))
        except Exception:
            raise
        except BaseException:
            # SystemExit and its kin break out of the loop in the middle of a step; what is left of it is not trusted.
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


def run_attempt(lease: Lease, functions: Mapping[str, TaskFunction], awaiter: Awaiter) -> Failure | None:
    """Run one attempt; None if it succeeded. A BaseException of any kind is a failed attempt, no more (P7)."""
    try:
        name, args, kwargs = lease.open()
        task_function = functions[name]
        token = RUNNING.set(lease)
        try:
            if task_function.is_async:
                awaiter.run(task_function.function(*args, **kwargs))
            else:
                task_function.function(*args, **kwargs)
        finally:
            RUNNING.reset(token)
    # SystemExit, KeyboardInterrupt, GeneratorExit and CancelledError would all end the worker: its task failed, not it.
    except BaseException as error:  # noqa: BLE001
        return failure_of(error)
    return None


def failure_of(error: BaseException) -> Failure:
    """What is kept of an exception. Its `__str__` and `__repr__` are the task's code, and may raise or be huge."""
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001 - whatever the task's own __str__ does costs nothing more
        text = f"<its __str__ raised {type(second).__name__}>"
    try:
        trace = "".join(traceback.format_exception(error, limit=-12))
    except BaseException as second:  # noqa: BLE001 - as above
        trace = f"<no traceback: formatting it raised {type(second).__name__}>"
    kind = type(error).__name__
    return Failure(
        error=(f"{kind}: {text}" if text else kind)[:MAX_ERROR],
        trace=trace[-MAX_TRACE:],
        retry_after_s=error.seconds if isinstance(error, RetryAfter) else None,
        final=isinstance(error, NeverRetry),
    )
