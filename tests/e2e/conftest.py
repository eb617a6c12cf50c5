"""Fixtures for tests with real brokers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from xprocess import XProcess

from tests.e2e.broker_process import BrokerProcess
from tests.e2e.raw import Raw

StartBroker = Callable[..., BrokerProcess]
Connect = Callable[[BrokerProcess], Raw]


@pytest.fixture
def start_broker(xprocess: XProcess) -> Iterator[StartBroker]:
    """Start brokers with these flags; all are ended after the test."""
    started: list[BrokerProcess] = []

    def start(
        *flags: str,
        tasks: str = "tests.jobs",
        environment: dict[str, str] | None = None,
        start: tuple[str, ...] = ("-m", "broker"),
    ) -> BrokerProcess:
        started.append(BrokerProcess(xprocess, flags, environment or {}, tasks, start))
        return started[-1]

    yield start
    for broker in started:
        broker.end()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect raw producers; all are closed after the test."""
    connected: list[Raw] = []

    def to(broker: BrokerProcess) -> Raw:
        connected.append(Raw(broker.endpoint))
        return connected[-1]

    yield to
    for raw in connected:
        raw.__exit__(None, None, None)


@pytest.fixture
def witness(tmp_path: Any) -> str:
    """A file for what tasks witness."""
    return str(tmp_path / "witness")
