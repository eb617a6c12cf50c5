"""What all tests share: the Hypothesis profiles, and a clock that is moved by hand.

`ci` is what a plain run uses: short, and the same examples every time. `long` looks further, and elsewhere at every
run: `python -m pytest tests/model --hypothesis-profile=long`.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.clock import HandClock

# What a shell starts in the background ignores SIGINT, under nohup SIGHUP too, and so does all that it starts; but some
# tests send them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Time limits for single examples, and for the making of them, say more about the machine than about the code.
settings.register_profile(
    "ci",
    max_examples=200,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long",
    max_examples=10_000,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci")


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still until the test moves it."""
    return HandClock()
