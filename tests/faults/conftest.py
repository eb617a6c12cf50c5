"""Brokers for the tests of faults: the fixtures of `tests/e2e`."""

from __future__ import annotations

from tests.e2e.conftest import connect, start_broker, witness

__all__ = ["connect", "start_broker", "witness"]
