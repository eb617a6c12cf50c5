"""Runs tasks: the `@task` declaration, one attempt, and the hosts that hold the workers.

Task modules import from here; nothing here knows the door, the queue or the wire.
"""

from worker_host.tasks import Backoff, CurrentTask, NeverRetry, RetryAfter, current_task, running_as, task

__all__ = ["Backoff", "CurrentTask", "NeverRetry", "RetryAfter", "current_task", "running_as", "task"]
