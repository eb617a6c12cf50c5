"""The queue, on random walks beside an obviously correct one; by itself, and with an operator."""

from __future__ import annotations

import pytest

from tests.model.operated_machine import OperatedMachine
from tests.model.queue_machine import QueueMachine

TestQueue = QueueMachine.TestCase
TestOperatedQueue = OperatedMachine.TestCase
pytestmark = pytest.mark.timeout(3_600)  # for the long profile; a plain run takes seconds
