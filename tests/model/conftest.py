"""What the walks share: a walk makes thousands of dead letters, whose log lines nobody reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """No log records during a test."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
