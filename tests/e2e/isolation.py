"""What tests with child hosts look at: the hosts of a broker, and what became of their tasks."""

from __future__ import annotations

import time

import psutil

from tests.e2e.broker_process import BrokerProcess
from tests.e2e.raw import Raw
from tests.witness import notes

TASKS = "tests.isolated"
PATIENCE_S = 60.0


def children(broker: BrokerProcess) -> list[psutil.Process]:
    """The child hosts of a broker."""
    return [one for one in psutil.Process(broker.pid).children() if "broker.child" in " ".join(one.cmdline())]


def wait_until_gone(pid: int) -> None:
    """Until this process, of which nobody here is the parent, is gone."""
    deadline = time.monotonic() + PATIENCE_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline


def starts(witness: str, task_id: str) -> list[int]:
    """The attempts of a task that were begun."""
    return [one["attempt"] for one in notes(witness) if one["event"] == "start" and one["id"] == task_id]


def wait_for_start(witness: str, task_id: str) -> None:
    """Until an attempt of this task has begun."""
    deadline = time.monotonic() + PATIENCE_S
    while not starts(witness, task_id):
        assert time.monotonic() < deadline


def letter_of(raw: Raw, task_id: str) -> dict[str, object]:
    """Its dead letter."""
    (letter,) = [one for one in raw.ask("dead")["dead"] if one["id"] == task_id]
    return dict(letter)
