"""A task module with which a broker's stop fails."""

from typing import NoReturn

import broker.supervisor
from worker_host import task


def fail(*_: object) -> NoReturn:
    """Nobody thought of this."""
    raise ZeroDivisionError


setattr(broker.supervisor.Supervisor, "_name", fail)  # noqa: B010 - it is not meant to be assigned to


@task
def noop() -> None:
    """Do nothing."""
