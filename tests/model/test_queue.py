"""The queue, on random walks beside an obviously correct one."""

from __future__ import annotations

import pytest

from tests.model.queue_machine import QueueMachine

TestQueue = QueueMachine.TestCase
pytestmark = pytest.mark.timeout(3_600)  # for the long profile; a plain run takes seconds
