"""What the walks share: thousands of dead letters, whose log lines nobody reads; and that a long walk is no hang."""

from __future__ import annotations

import faulthandler
import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """No log records during a test."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest) -> None:
    """The long profile takes minutes: that is no deadlock, whose stacks would have to be printed."""
    if request.config.getoption("--hypothesis-profile") == "long":
        faulthandler.cancel_dump_traceback_later()
