"""Starts and stops, a thousand of them, beside each other. Row 42 of the faults to survive."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil

from broker.supervisor import Outcome
from producer import Producer, ProducerClosed
from tests import isolated
from tests.e2e.raw import Raw, check_balance
from tests.faults.inner_broker import InnerBroker
from tests.faults.lengths import times

_BESIDE = 4


def many(count: int, once: Callable[[int], object]) -> None:
    """Do it so many times, some beside each other; threads and descriptors are as many afterwards as before."""
    process, threads = psutil.Process(), threading.active_count()

    def settled() -> int:
        """The open descriptors, once the last threads have ended: a host does not wait for a child for long."""
        deadline = time.monotonic() + 30
        while threading.active_count() > threads:
            assert time.monotonic() < deadline, threading.enumerate()
            time.sleep(0.01)
        return process.num_fds()

    once(0)  # what is made once, such as zmq's own descriptors, is made now
    descriptors = settled()
    with ThreadPoolExecutor(_BESIDE) as pool:
        list(pool.map(once, range(1, count + 1)))
    assert settled() == descriptors


def live_and_die(number: int) -> None:
    """One broker: with a task or without, stopped once or twice, as soon as it runs or before."""
    rng = random.Random(number)
    inner = InnerBroker(drain_s=5)
    early = rng.random() < 0.3
    stops = rng.choice((1, 1, 2))
    if early:
        inner.signal(stops)
    with inner:
        if not early:
            with Raw(inner.endpoint) as raw:
                assert raw.submit("noop")["verdict"] == "accepted"
            inner.signal(stops)
        report = inner.report()
    check_balance(report.ledger)
    assert report.outcome in ({Outcome.FINISHED} if stops == 1 else {Outcome.FINISHED, Outcome.HASTENED})
    assert report.busy_workers == 0


def test_row_42_brokers_that_start_and_stop_beside_each_other() -> None:
    """However they are stopped, once or twice, early or late: no deadlock, and no thread or descriptor is left."""
    many(times(250, 1_000), live_and_die)


def test_row_42_child_hosts_that_start_and_stop(witness: str) -> None:
    """The same with a child host in each, which may still be starting when its broker stops."""

    def once(number: int) -> None:
        with InnerBroker(isolated) as inner:
            if number % 2:
                with Raw(inner.endpoint) as raw:
                    raw.submit("child", witness)
                    raw.wait_for(succeeded=1)
            assert inner.stop().outcome is Outcome.FINISHED

    before = set(psutil.Process().children())
    many(times(8, 100), once)
    assert set(psutil.Process().children()) <= before


def test_row_42_producers_that_open_and_close_beside_each_other() -> None:
    """Used or not, closed once or twice, by one thread or two at once: nothing is left, and later calls say why."""
    with InnerBroker() as inner:

        def once(number: int) -> None:
            producer = Producer(inner.endpoint, timeout_s=20)
            if number % 2:
                producer.ping()
            other = threading.Thread(target=producer.close)
            other.start()
            producer.close()
            other.join()
            producer.close()
            try:
                producer.ping()
            except ProducerClosed:
                return
            raise AssertionError("a closed producer answered")

        many(times(250, 1_000), once)
        assert inner.stop().outcome is Outcome.FINISHED
