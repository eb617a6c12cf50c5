"""The check is checked: the model, which the real dispatcher passes in `test_dispatcher`, catches every broken one."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from broker.dispatcher import Dispatcher
from tests.model.broken_dispatchers import BROKEN_DISPATCHERS
from tests.model.dispatcher_machine import DispatcherMachine
from tests.model.test_broken_queues import WALKS


@pytest.mark.check_of_checks
@pytest.mark.parametrize("dispatcher", BROKEN_DISPATCHERS)
def test_broken_dispatcher_is_caught(dispatcher: type[Dispatcher]) -> None:
    """A dispatcher with one fault does not get through the walks."""

    class Machine(DispatcherMachine):
        dispatcher_class = dispatcher

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=WALKS)
