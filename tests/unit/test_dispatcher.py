"""Between the owner and its workers: when there is something to do, and who is heard."""

from __future__ import annotations

import logging

import pytest

from broker.queue import MemoryQueue, Offer
from broker.records import Returned
from broker.retries import DeathReason
from broker.states import State
from tests.still_broker import FAILURE, StillBroker, wire
from worker_host import Backoff, task
from worker_host.contract import Failure, FailureKind


@task(retries=2, backoff=Backoff(5.0, 60.0, 0.0))
def work() -> None:
    """Never called: no worker runs here."""


@pytest.fixture
def still() -> StillBroker:
    """A broker that knows one task function."""
    return StillBroker(work)


def test_idle_owner_may_sleep_for_ever(still: StillBroker) -> None:
    """Nothing is held, so nothing becomes due: only a request or the bell can change anything."""
    assert still.dispatcher.next_turn_s is None


def test_owner_wakes_for_the_next_due_task(still: StillBroker) -> None:
    """At its time, not before; and at least once a second while anything is held."""
    still.submit(wire("a", "work", delay_s=1.5))
    assert still.dispatcher.next_turn_s == 1.0
    still.clock.advance(1.0)
    assert still.dispatcher.next_turn_s == 0.5
    still.clock.advance(9.0)
    assert still.dispatcher.next_turn_s == 0.0
    still.run()
    assert still.dispatcher.next_turn_s is None


def test_success_does_not_ring_and_failure_does(still: StillBroker) -> None:
    """A success can wait until the owner comes round; a failed task may be due at once, so the owner must know."""
    still.submit(wire("a", "work"), wire("b", "work"))
    first, second = still.take(), still.take()
    still.bell.listen()
    still.dispatcher.ack(first)
    assert not still.bell.rings
    still.dispatcher.fail(second, FAILURE)
    assert still.bell.rings


def test_task_that_is_given_back_is_ready_at_once(still: StillBroker) -> None:
    """The owner hears of it; it is no retry, and no attempt was displaced: none had begun."""
    still.submit(wire("a", "work"))
    lease = still.take()
    still.bell.listen()
    still.dispatcher.give_back(lease)
    assert still.bell.rings
    assert still.outcomes("cancel", "a") == ["cancelled"]
    assert [still.dispatcher.gauges()[name] for name in ("retries", "displaced", "busy")] == [0, 0, 0]


def test_every_end_rings_in_a_drain(still: StillBroker) -> None:
    """The owner waits for the last task, whichever that is."""
    still.submit(wire("a", "work"))
    lease = still.take()
    still.dispatcher.drain(still.clock.monotonic() + 25.0)
    still.bell.listen()
    still.dispatcher.ack(lease)
    assert still.bell.rings
    still.dispatcher.turn()
    assert still.dispatcher.drained


def test_drain_does_not_wait_for_what_is_due_too_late(still: StillBroker) -> None:
    """A task that waits for its backoff until after the deadline is left, and given back."""
    still.submit(wire("a", "work"))
    still.dispatcher.drain(still.clock.monotonic() + 4.0)
    still.run(FAILURE)
    assert still.dispatcher.drained
    assert [(one.id, one.attempts, one.was) for one in still.dispatcher.close()] == [("a", 1, "delayed")]


def test_drain_waits_for_a_retry_that_is_due_in_time(still: StillBroker) -> None:
    """A task whose backoff ends by the deadline is still run."""
    still.submit(wire("a", "work"))
    still.dispatcher.drain(still.clock.monotonic() + 5.0)
    still.run(FAILURE)
    assert not still.dispatcher.drained
    still.clock.advance(5.0)
    assert still.run().attempt == 2
    assert still.dispatcher.drained


def test_submitted_retries_outrank_the_declared_ones(still: StillBroker) -> None:
    """0 submitted is none, although the function declares two; nothing submitted is two."""
    still.submit(wire("none", "work", retries=0), wire("two", "work"))
    runs = []
    while still.queue.held:
        runs.append(still.run(FAILURE).id)
        still.clock.advance(60.0)
    assert runs == ["none", "two", "two", "two"]


def test_backoff_is_the_functions(still: StillBroker) -> None:
    """5 s before the second run, 10 s before the third; a task that asks gets the seconds it asked for."""
    still.submit(wire("a", "work"), wire("asks", "work"))
    still.run(FAILURE)
    still.run(Failure("RetryAfter: busy", "", retry_after_s=8.0))
    now = still.clock.monotonic()
    assert [status.due for name in ("a", "asks") if (status := still.dispatcher.status(name))] == [now + 5, now + 8]
    still.clock.advance(5.0)
    still.run(FAILURE)
    status = still.dispatcher.status("a")
    assert status is not None
    assert status.due == now + 15


def test_gauges_agree_while_workers_go_on(still: StillBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker takes a task just after the ledger was read: `busy` is of the same instant as `running`."""
    still.submit(wire("a", "work"), wire("b", "work"))
    still.take()

    def counts() -> dict[str, int]:
        found = MemoryQueue.counts(still.queue)
        still.take()
        return found

    monkeypatch.setattr(still.queue, "counts", counts)
    gauges = still.dispatcher.gauges()
    assert (gauges["ledger"]["running"], gauges["busy"]) == (1, 1)  # type: ignore[index]


def test_owner_comes_back_at_once_for_more_that_is_due() -> None:
    """More tasks are due than one turn makes ready: the next turn must not wait."""
    still = StillBroker(work, capacity=2_000, capacity_bytes=10**6)
    still.submit(*[wire(str(number), "work", delay_s=1.0) for number in range(900)])
    still.submit(*[wire(str(number), "work", delay_s=1.0) for number in range(900, 1_800)])
    still.clock.advance(1.0)
    still.dispatcher.turn()
    assert (still.queue.ready, still.dispatcher.next_turn_s) == (1_000, 0.0)
    still.dispatcher.turn()
    assert (still.queue.ready, still.dispatcher.next_turn_s) == (1_800, 1.0)


def test_dead_letter_is_logged_and_keeps_the_task(still: StillBroker, caplog: pytest.LogCaptureFixture) -> None:
    """One warning with the id; the letter has the bytes as they came, and the reason."""
    packed = wire("a", "work", retries=0)
    still.submit(packed)
    still.run(FAILURE)
    ((letter,), total) = still.dispatcher.letters(20, 0)
    assert (letter.wire, letter.reason, letter.attempts, total) == (packed, DeathReason.RETRIES_EXHAUSTED, 1, 1)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "id=a " in record.getMessage()


def test_task_whose_retries_were_lowered_meanwhile_is_a_dead_letter(still: StillBroker) -> None:
    """It failed three times, and a stop found it in its backoff; the next broker's function declares two retries."""
    packed = wire("a", "work")
    returned = Returned("a", packed, 3, State.DELAYED, due_in_s=60.0)
    assert still.dispatcher.restore(returned) is Offer.ACCEPTED
    still.dispatcher.turn()
    ((letter,), _) = still.dispatcher.letters(20, 0)
    assert (letter.id, letter.attempts, letter.error) == ("a", 3, "no attempt is left to the broker that loaded it")
    assert (still.queue.held, still.queue.counts()["dead"]) == (0, 1)


def test_poison_says_so(still: StillBroker) -> None:
    """A task whose third child host has died gets no further attempt, though it has retries left, and its letter tells
    why. A failure of another kind in between does not count.
    """
    crash = Failure("ChildHostDied: it was killed by SIGSEGV", "", kind=FailureKind.CRASHED)
    still.submit(wire("a", "work", retries=4), wire("b", "work", retries=0))
    for failure in (crash, crash, FAILURE, crash, crash):
        still.run(failure)
        still.clock.advance(60.0)
    ((poison, other), _) = still.dispatcher.letters(20, 0)
    assert (other.reason, other.error) == (DeathReason.CRASHED, crash.error)
    assert (poison.reason, poison.attempts) == (DeathReason.CRASHED, 4)
    assert poison.error == "ChildHostDied: it was killed by SIGSEGV; child hosts that died while it ran: 3"


def test_failure_that_is_tried_again_is_logged(still: StillBroker, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each, of one template, so that a flood of them is cut; a displaced attempt is no failure."""
    caplog.set_level(logging.INFO, "turnstile.broker")
    still.submit(wire("a", "work"))
    still.run(Failure("Displaced: for another", "", kind=FailureKind.DISPLACED))
    still.run(Failure("ConnectionError: db down", ""))
    still.clock.advance(5.0)
    still.run(Failure("RetryAfter: busy", "", retry_after_s=0.25))
    assert [record.getMessage() for record in caplog.records] == [
        "attempt failed id=a name=work attempt=1 again_in_s=5.000 error=ConnectionError: db down",
        "attempt failed id=a name=work attempt=2 again_in_s=0.250 error=RetryAfter: busy",
    ]
    assert len({record.msg for record in caplog.records}) == 1
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_nobody_is_heard_after_close(still: StillBroker) -> None:
    """A task that was given back stays given back, whatever its worker reports later; and no lease is handed out."""
    still.submit(wire("a", "work"), wire("b", "work"))
    lease = still.take()
    assert [one.id for one in still.dispatcher.close()] == ["a", "b"]
    rings = still.bell.rings
    still.dispatcher.ack(lease)
    assert still.bell.rings == rings
    assert still.dispatcher.take() is None
    counts = still.queue.counts()
    assert (counts["returned"], counts["succeeded"]) == (2, 0)


def test_close_counts_what_had_ended(still: StillBroker) -> None:
    """An attempt that ended before the close, and was not settled yet, is no returned task."""
    still.submit(wire("a", "work"))
    still.dispatcher.ack(still.take())
    assert len(still.dispatcher.close()) == 0
    assert still.queue.counts()["succeeded"] == 1
