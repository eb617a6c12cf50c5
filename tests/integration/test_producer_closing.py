"""How a producer's calls end before they are done: interrupted, or closed by another thread. Real sockets."""

from __future__ import annotations

import threading

import pytest

from producer import NoReply, Producer, ProducerClosed, Task
from tests.integration.test_producer_delivery import accepting, free_endpoint, raised_by, rejecting
from tests.integration.test_producer_fake_broker import WAIT_S, FakeBroker, lose, one_after_another


def test_an_interrupted_call_does_not_spoil_the_next() -> None:
    """A connection with an unanswered request on it is not used again: Ctrl-C in one call leaves the next one clean."""

    class Interrupt(BaseException):
        """As KeyboardInterrupt, but at a known place."""

    clock_calls = 0

    def interrupting_jitter() -> float:
        nonlocal clock_calls
        clock_calls += 1
        raise Interrupt

    behaviour = one_after_another(rejecting(), accepting)
    with FakeBroker(behaviour) as fake, Producer(fake.endpoint, on_full="wait") as producer:
        producer._dialogue.jitter = interrupting_jitter
        with pytest.raises(Interrupt):
            producer.submit("noop")
        assert clock_calls == 1
        assert producer.submit("noop").accepted


def test_closing_ends_the_calls_of_other_threads() -> None:
    """A thread that waits for a reply hears `NoReply` with its task's id as soon as another one closes the producer."""
    raised: list[BaseException] = []
    task = Task.of("noop")
    with FakeBroker(one_after_another(lose)) as fake:
        producer = Producer(fake.endpoint, timeout_s=600, reply_timeout_s=600)
        thread = raised_by(lambda: producer.submit(task), raised)
        fake.next_heard()
        producer.close()
        thread.join(WAIT_S)
    (error,) = raised
    assert isinstance(error, NoReply)
    assert error.ids == (task.id,)


def test_closing_ends_a_wait_for_room() -> None:
    """A thread that waits for room does not keep the producer from closing."""
    raised: list[BaseException] = []
    with FakeBroker(one_after_another(rejecting(retry_after=300.0))) as fake:
        producer = Producer(fake.endpoint, on_full="wait", timeout_s=600)
        about_to_wait = threading.Event()

        def jitter() -> float:
            about_to_wait.set()
            return 0.0

        producer._dialogue.jitter = jitter
        thread = raised_by(lambda: producer.submit("noop"), raised)
        assert about_to_wait.wait(WAIT_S)
        producer.close()
        thread.join(WAIT_S)
    assert [type(error) for error in raised] == [ProducerClosed]


def test_closing_in_the_middle_of_a_call_of_ones_own_ends_that_call() -> None:
    """As a signal handler may do it. It cannot wait for the call that it interrupts; it must not hang."""
    with FakeBroker(one_after_another(rejecting())) as fake, Producer(fake.endpoint, on_full="wait") as producer:

        def close() -> float:
            producer.close()
            return 0.0

        producer._dialogue.jitter = close
        with pytest.raises(ProducerClosed, match="closed during the call"):  # while it waits: nothing is unknown
            producer.submit("noop")
        with pytest.raises(ProducerClosed):
            producer.submit("noop")


def test_closing_beside_busy_threads_ends_them_all() -> None:
    """Ten times: eight threads submit without a pause, and one closes. Each ends with one of two errors."""
    with FakeBroker(one_after_another(accepting)) as fake:
        for _ in range(10):
            raised: list[BaseException] = []
            producer = Producer(fake.endpoint, timeout_s=600, reply_timeout_s=600)

            def keep_on(producer: Producer = producer) -> None:
                while producer.submit("noop").accepted:
                    pass

            threads = [raised_by(keep_on, raised) for _ in range(8)]
            for _ in range(50):
                fake.next_heard()
            producer.close()
            for thread in threads:
                thread.join(WAIT_S)
            assert len(raised) == 8
            assert {type(error) for error in raised} <= {NoReply, ProducerClosed}


def test_a_closed_producer_says_so_and_closes_twice() -> None:
    """After `close`, calls are a local fault; a second `close` does nothing."""
    producer = Producer(free_endpoint())
    producer.close()
    producer.close()
    with pytest.raises(ProducerClosed):
        producer.submit("noop")
