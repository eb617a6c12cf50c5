"""The dispatcher, on random walks beside one list of what was accepted."""

from __future__ import annotations

import pytest

from tests.model.dispatcher_machine import DispatcherMachine

TestDispatcher = DispatcherMachine.TestCase
pytestmark = pytest.mark.timeout(3_600)  # for the long profile; a plain run takes seconds
