"""The check is checked: the model, which the real queue passes in `test_queue`, catches every broken one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from broker.queue import MemoryQueue
from broker.retries import Bury, RunAgain, decide
from tests.model.broken_decisions import BROKEN_DECISIONS
from tests.model.broken_leases import BROKEN_LEASES
from tests.model.broken_operated import BROKEN_OPERATED
from tests.model.broken_queues import BROKEN_QUEUES
from tests.model.operated_machine import OperatedMachine
from tests.model.queue_machine import QueueMachine

#: More walks than a plain run makes, since a fault may be met late; the first failure ends them, and is not made small.
WALKS = settings(
    max_examples=1_000,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def walk(
    queue: type[MemoryQueue],
    decision: Callable[..., RunAgain | Bury] = decide,
    machine: type[QueueMachine] = QueueMachine,
) -> None:
    """Walk a machine around this queue; raises what it notices."""

    class Machine(machine):  # type: ignore[valid-type,misc]
        make_queue = queue
        decide = staticmethod(decision)

    run_state_machine_as_test(Machine, settings=WALKS)


@pytest.mark.check_of_checks
@pytest.mark.parametrize("queue", [*BROKEN_QUEUES, *BROKEN_LEASES])
def test_broken_queue_is_caught(queue: type[MemoryQueue]) -> None:
    """A queue with one fault does not get through the walks."""
    with pytest.raises(AssertionError):
        walk(queue)


@pytest.mark.check_of_checks
@pytest.mark.parametrize("queue", BROKEN_OPERATED)
def test_queue_that_is_broken_under_an_operator_is_caught(queue: type[MemoryQueue]) -> None:
    """Nor one with a fault in what an operator asks for."""
    with pytest.raises(AssertionError):
        walk(queue, machine=OperatedMachine)


@pytest.mark.check_of_checks
@pytest.mark.parametrize("decision", BROKEN_DECISIONS)
def test_broken_decision_is_caught(decision: Callable[..., RunAgain | Bury]) -> None:
    """A retry count that is off by one either way, and a wish that is not heard, do not get through either."""
    with pytest.raises(AssertionError):
        walk(MemoryQueue, decision)
