"""What becomes of accepted tasks: runs, retries, dead letters. Rows 1, 14, 22, 32 and 45 of the faults to survive."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import packed
from tests.witness import notes


def test_an_accepted_task_runs_once(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """A submitted task runs once, with its arguments, and is told its id and attempt (P2, P5)."""
    raw = connect(start_broker())
    assert raw.submit("record", witness, 1, "two", id="order-1") == {"id": "order-1", "verdict": "accepted"}
    raw.wait_for(succeeded=1)
    (start,) = notes(witness)
    assert (start["id"], start["attempt"], start["values"]) == ("order-1", 1, [1, "two"])


def test_an_async_task_is_awaited(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """An `async def` task runs to its end before it counts as succeeded."""
    raw = connect(start_broker())
    raw.submit("awaits", witness)
    raw.wait_for(succeeded=1)
    assert len(notes(witness)) == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_row_1_a_failing_task_runs_retries_plus_one_times(
    start_broker: StartBroker, connect: Connect, witness: str, retries: int
) -> None:
    """A task that always fails runs `retries + 1` times, then is a dead letter with its error (P6)."""
    broker = start_broker()
    raw = connect(broker)
    raw.submit("always_fails", witness, id="doomed", retries=retries)
    stats = raw.wait_for(dead=1)
    for attempt in range(1, retries + 1):
        failed = f"attempt failed id=doomed name=always_fails attempt={attempt} again_in_s=0.000"
        assert broker.says(f" INFO turnstile.broker {failed} error=ValueError: as ever\n")
    assert [start["attempt"] for start in notes(witness)] == list(range(1, retries + 2))
    assert stats["retries"] == retries
    (letter,) = raw.ask("dead")["dead"]
    assert (letter["id"], letter["reason"], letter["attempts"]) == ("doomed", "retries_exhausted", retries + 1)
    assert letter["error"] == "ValueError: as ever"
    assert "always_fails" in letter["trace"]
    assert letter["accepted_at"] <= letter["died_at"]


def test_retries_default_to_what_the_function_declares(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """Where the producer says nothing, the task function's own number of retries counts; here the default, 3."""
    raw = connect(start_broker())
    raw.submit("always_fails", witness)
    raw.wait_for(dead=1)
    assert len(notes(witness)) == 4


def test_a_retry_that_succeeds(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """A task that fails twice and then succeeds has succeeded; no dead letter is left."""
    raw = connect(start_broker())
    raw.submit("fails_until", witness, 3)
    stats = raw.wait_for(succeeded=1)
    assert (stats["retries"], stats["dead_letters"]) == (2, 0)


def test_a_task_asks_for_time(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """`RetryAfter` sets the delay of the next attempt, whatever the backoff is."""
    raw = connect(start_broker())
    raw.submit("asks_for_time", witness, 0.3)
    raw.wait_for(succeeded=1)
    first, second = notes(witness)
    assert second["at_ns"] - first["at_ns"] >= 0.3e9


def test_a_task_gives_up(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """`NeverRetry` makes a dead letter at once, with retries left."""
    raw = connect(start_broker())
    raw.submit("gives_up", witness)
    raw.wait_for(dead=1)
    (letter,) = raw.ask("dead")["dead"]
    assert (letter["reason"], letter["attempts"]) == ("never_retry", 1)
    assert len(notes(witness)) == 1


def test_a_second_attempt_sees_the_arguments_that_were_sent(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """What an attempt does to its arguments is not seen by the next one."""
    raw = connect(start_broker())
    raw.submit("changes_its_arguments", witness, [1, 2, 3], retries=1)
    raw.wait_for(succeeded=1)
    assert [start["values"] for start in notes(witness)] == [[1, 2, 3], [1, 2, 3]]


def test_rows_22_and_32_nothing_that_a_task_raises_costs_a_worker(start_broker: StartBroker, connect: Connect) -> None:
    """After SystemExit, KeyboardInterrupt and their kin on every worker, all workers can still meet (P7)."""
    raw = connect(start_broker("--workers", "4"))
    kinds = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "BaseException", "MemoryError")
    every = [*kinds, "RecursionError", "_Unprintable"]
    for kind in every * 4:
        raw.submit("raises", kind)
    raw.wait_for(dead=len(every) * 4)
    for _ in range(4):
        raw.submit("meet", "after the storm", 4)
    raw.wait_for(succeeded=4)
    errors = {letter["error"].split(":")[0] for letter in raw.ask("dead", limit=50)["dead"]}
    assert errors == set(every)


def test_row_14_an_unknown_name_and_wrong_arguments_are_rejected_at_submit(
    start_broker: StartBroker, connect: Connect
) -> None:
    """What cannot run is rejected when it is submitted, with the nearest name or the parameter."""
    raw = connect(start_broker())
    unknown = raw.submit("recrod", "x")
    assert (unknown["reason"], unknown["retry"]) == ("unknown_task", "never")
    assert "'record'" in unknown["detail"]
    for args, kwargs, word in (((), {}, "path"), (("p",), {"vlaues": 1}, "vlaues"), (("p",), {"path": "q"}, "path")):
        wrong = raw.submit("record", *args, kwargs=kwargs)
        assert (wrong["reason"], wrong["retry"]) == ("bad_arguments", "never")
        assert word in wrong["detail"]
    assert raw.stats()["ledger"]["accepted"] == 0


def test_row_s4_only_registered_names_are_tasks(start_broker: StartBroker, connect: Connect) -> None:
    """Import paths, dunders and look-alikes name nothing: no code is reached by name."""
    raw = connect(start_broker())
    for name in (
        "os.system",
        "builtins.eval",
        "__import__",
        "tests.jobs.noop",
        "jobs.noop",
        "Noop",
        "n\u043eop",
        "noop ",
    ):
        assert raw.submit(name)["reason"] == "unknown_task"
    assert raw.stats()["ledger"]["accepted"] == 0


def test_row_45_many_failing_tasks_do_not_starve_the_others(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """10,000 tasks that always fail are retried and buried while other tasks are accepted and run."""
    raw = connect(start_broker("--capacity", "20000", "--log-level", "error"))
    for _ in range(100):
        tasks = [packed("always_fails", "/dev/null", retries=1) for _ in range(100)]
        assert all(v["verdict"] == "accepted" for v in raw.ask("submit", tasks=tasks)["verdicts"])
    for number in range(100):
        raw.submit("record", witness, number)
    stats = raw.wait_for(succeeded=100, dead=10_000)
    assert stats["retries"] == 10_000
    assert len(notes(witness)) == 100


def test_row_24_a_signal_to_a_process_that_was_just_forked_is_its_own(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """It has the broker's handlers for a moment: what comes then ends it, and does not stop the broker."""
    broker = start_broker()
    raw = connect(broker)
    raw.submit("forks_slowly", witness)
    for _ in range(100_000):
        if forked := [one for one in notes(witness) if one["event"] == "forked"]:
            break
        raw.stats()
    os.kill(forked[0]["child"], signal.SIGTERM)
    raw.wait_for(succeeded=1)
    assert [one["signal"] for one in notes(witness) if one["event"] == "ended"] == [signal.SIGTERM]
    assert raw.stats()["phase"] == "serving"
    assert broker.stop() == 0


@pytest.mark.parametrize("comes_back", [False, True])
def test_row_24_a_task_that_forks(start_broker: StartBroker, connect: Connect, witness: str, comes_back: bool) -> None:
    """A child is no second broker, its signals are its own, and it does not keep a successor off the endpoint."""
    broker = start_broker("--workers", "1")
    raw = connect(broker)
    raw.submit("forks", witness, comes_back)
    for number in range(20):
        raw.submit("record", witness, number)
    raw.wait_for(succeeded=21)
    assert len([note for note in notes(witness) if note["event"] == "start"]) == 20
    (child,) = [note["child"] for note in notes(witness) if note["event"] == "forked"]
    if not comes_back:
        os.kill(child, signal.SIGTERM)
    assert raw.ask("ping")["phase"] == "serving"
    endpoint = broker.endpoint
    broker.end()
    assert start_broker("--endpoint", endpoint).endpoint == endpoint
