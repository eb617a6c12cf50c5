"""The operator's ops: what each does, what is told of each task, and that producers cannot ask for any."""

from __future__ import annotations

import pytest

from broker.dispatcher import TornQueueError
from broker.operator import OperatorOp
from broker.protocol import MAX_TASKS
from broker.queue import MemoryQueue
from tests.faults.seams import PlantedError, failing_at
from tests.still_broker import FAILURE, StillBroker, wire
from worker_host import Backoff, task


@task(retries=1, backoff=Backoff(5.0, 5.0, 0.0))
def send_email(to: str, copies: int = 1) -> None:
    """Never called: no worker runs here."""


def email(task_id: str, **options: object) -> bytes:
    """A packed task that fits."""
    return wire(task_id, "send_email", "ada@example.org", **options)


@pytest.fixture
def still() -> StillBroker:
    """A broker that knows one task function."""
    return StillBroker(send_email, capacity=3)


def die(still: StillBroker, *ids: str) -> None:
    """These tasks were accepted, and died."""
    for task_id in ids:
        still.submit(email(task_id, retries=0))
        still.run(FAILURE)


@pytest.mark.parametrize("op", OperatorOp)
def test_producers_cannot_ask_for_it(still: StillBroker, op: OperatorOp) -> None:
    """To their door it is no request that there is, and nothing happens."""
    die(still, "a")
    reply = still.ask(op, id="a", ids=["a"])
    assert reply["error"]["reason"] == "unknown_request"
    stats = still.ask("stats")["stats"]
    assert (stats["dead_letters"], stats["paused"], stats["ledger"]["dead"]) == (1, False, 1)


def test_operator_can_ask_all_that_producers_can(still: StillBroker) -> None:
    """Figures, pages, and submit too: nobody has to have two connections."""
    verdicts = still.operate("submit", tasks=[email("a")])["verdicts"]
    assert verdicts[0]["verdict"] == "accepted"
    for op, field in (("stats", "stats"), ("dead", "dead"), ("ping", "server")):
        assert field in still.operate(op)
    assert still.operate("status", id="a")["task"]["state"] == "ready"
    assert "letter, requeue" in still.operate("nonsense")["error"]["detail"]


def test_letter_is_shown_with_its_arguments(still: StillBroker) -> None:
    """What the task was to do, beside why it died; nil for what is not kept."""
    still.submit(email("a", retries=0, kwargs={"copies": 2}))
    still.run(FAILURE)
    letter = still.operate("letter", id="a")["letter"]
    (listed,) = still.ask("dead")["dead"]
    assert letter == {**listed, "args": ["ada@example.org"], "kwargs": {"copies": 2}}
    assert still.operate("letter", id="b")["letter"] is None


def test_requeued_task_runs_again_with_all_its_retries(still: StillBroker) -> None:
    """Its letter is gone; if it dies again there is a new one."""
    still.submit(email("a"))
    still.run(FAILURE)
    still.clock.advance(9.0)
    still.run(FAILURE)
    assert still.outcomes("requeue", "a", "b") == ["requeued", "no_letter"]
    stats = still.ask("stats")["stats"]
    assert (stats["dead_letters"], stats["requeued"], stats["ledger"]["ready"]) == (0, 1, 1)
    assert still.run(FAILURE).attempt == 1
    still.clock.advance(9.0)
    assert still.run(FAILURE).attempt == 2
    assert still.operate("letter", id="a")["letter"]["attempts"] == 2


def test_requeue_says_what_stood_in_its_way(still: StillBroker) -> None:
    """No room; or a drain. The letter stays."""
    die(still, "a", "b")
    still.submit(email("x"), email("y"))
    assert still.outcomes("requeue", "a", "b") == ["requeued", "full"]
    for _ in range(3):
        still.run()
    still.dispatcher.drain(still.clock.monotonic() + 9.0)
    assert still.outcomes("requeue", "b") == ["draining"]
    assert still.ask("stats")["stats"]["dead_letters"] == 1


def test_requeue_of_a_new_task_of_the_same_id_is_a_conflict() -> None:
    """The id was forgotten, and a producer has used it again."""
    still = StillBroker(send_email, remember_ids=0)
    die(still, "a")
    still.submit(email("a"))
    assert still.outcomes("requeue", "a") == ["conflict"]


def test_requeue_takes_ends_into_account_that_were_not_settled(still: StillBroker) -> None:
    """A worker has said that the task died, and the owner did not come round yet."""
    still.submit(email("a", retries=0))
    lease = still.take()
    still.dispatcher.fail(lease, FAILURE)
    assert still.outcomes("requeue", "a") == ["requeued"]


def test_discarded_letter_is_gone_and_its_task_stays_dead(still: StillBroker) -> None:
    """In the books and to its producer."""
    die(still, "a")
    assert still.outcomes("discard", "a", "b") == ["discarded", "no_letter"]
    assert still.ask("status", id="a")["task"] == {"id": "a", "state": "dead"}
    assert still.outcomes("requeue", "a") == ["no_letter"]


def test_cancel_tells_where_each_task_is(still: StillBroker) -> None:
    """Ready and delayed ones are cancelled, then and also when asked again."""
    still.submit(email("ended"))
    still.run()
    still.submit(email("runs"), email("delayed", delay_s=5.0), email("ready"))
    still.take()
    asked = ("ended", "runs", "delayed", "ready", "unheard")
    expected = ["succeeded", "running", "cancelled", "cancelled", "unknown"]
    assert still.outcomes("cancel", *asked) == still.outcomes("cancel", *asked) == expected
    ledger = still.ask("stats")["stats"]["ledger"]
    assert (ledger["cancelled"], ledger["running"], ledger["delayed"]) == (2, 1, 0)
    (verdict,) = still.submit(email("ready"))
    assert (verdict["duplicate"], verdict["state"]) == (True, "cancelled")


def test_task_that_a_worker_is_about_to_begin_is_told_to_run(still: StillBroker) -> None:
    """It is in no line any more, and its worker has not said that it has it: too late to be taken back."""
    still.submit(email("a"))
    still.dispatcher.turn()
    lease = still.queue.take(wait=False)
    assert lease is not None
    assert still.outcomes("cancel", "a") == ["running"]


def test_paused_broker_accepts_until_it_is_full_and_begins_nothing(still: StillBroker) -> None:
    """It says so in its figures and in its health; resumed, it goes on in order."""
    assert still.operate("pause") == {"v": 1, "paused": True}
    verdicts = still.submit(*map(email, "abcd"))
    assert [verdict["verdict"] for verdict in verdicts] == ["accepted"] * 3 + ["rejected"]
    still.dispatcher.turn()
    assert still.queue.take(wait=False) is None
    stats = still.ask("stats")["stats"]
    assert stats["paused"] is True
    assert [reason["reason"] for reason in stats["health"]["reasons"]] == ["paused"]
    assert still.operate("resume") == {"v": 1, "paused": False}
    assert still.ask("stats")["stats"]["health"] == {"state": "ok", "reasons": []}
    assert [still.run().id for _ in range(3)] == ["a", "b", "c"]


def test_ids_that_are_named_twice_are_told_once(still: StillBroker) -> None:
    """The second time would tell something else."""
    die(still, "a")
    assert still.operate("requeue", ids=["a", "a"])["outcomes"] == [{"id": "a", "outcome": "requeued"}]


@pytest.mark.parametrize(
    "ids", [None, [], "a", [1], [""], ["a", None], ["x" * 65], {"a": 1}, ["a"] * (MAX_TASKS + 1)], ids=repr
)
@pytest.mark.parametrize("op", ["requeue", "discard", "cancel"])
def test_ids_that_are_none_change_nothing(still: StillBroker, op: str, ids: object) -> None:
    """Refused whole, and said why."""
    die(still, "a")
    reply = still.operate(op, ids=ids)
    assert (reply["error"]["reason"], "ids" in reply["error"]["detail"]) == ("malformed", True)
    assert still.ask("stats")["stats"]["dead_letters"] == 1


@pytest.mark.parametrize(
    ("op", "part"), [("requeue", "_hold"), ("cancel", "_recall"), ("pause", "_recall"), ("resume", "publish")]
)
def test_queue_that_fails_under_an_operator_is_torn(
    still: StillBroker, monkeypatch: pytest.MonkeyPatch, op: str, part: str
) -> None:
    """No error reply: its books may be wrong, so the broker is to stop."""
    die(still, "a")
    monkeypatch.setattr(MemoryQueue, part, failing_at(1, getattr(MemoryQueue, part)))
    with pytest.raises(TornQueueError) as caught:
        still.operate(op, ids=["a"])
    assert isinstance(caught.value.__cause__, PlantedError)
