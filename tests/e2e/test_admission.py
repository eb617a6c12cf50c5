"""Who gets in: the bound, the window of ids, the limits of size. Rows 2, 7, 16, 28 and 46 of the faults to survive."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest
import zmq

from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import Raw, packed
from tests.witness import notes


def test_row_2_a_full_queue_says_no_and_when_to_come_back(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """Exactly `capacity` tasks get in, running ones included; the rest hear `full` and a `retry_after` (P3, P4)."""
    raw = connect(start_broker("--workers", "2", "--capacity", "10"))
    until = tmp_path / "until"
    verdicts = [raw.submit("hold", witness, str(until)) for _ in range(25)]
    assert [verdict["verdict"] for verdict in verdicts] == ["accepted"] * 10 + ["rejected"] * 15
    for verdict in verdicts[10:]:
        assert (verdict["reason"], verdict["retry"]) == ("full", "later")
        assert 0 < verdict["retry_after"] <= 5
    stats = raw.stats()
    assert (stats["held"], stats["rejected"]) == (10, {"full": 15})
    until.touch()
    raw.wait_for(succeeded=10)
    assert len([note for note in notes(witness) if note["event"] == "start"]) == 10
    assert raw.submit("noop")["verdict"] == "accepted"


def test_the_bound_in_bytes_is_exact(start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str) -> None:
    """The bytes of the tasks as sent fill `capacity_bytes` to the last byte, and not one more (P4)."""
    task = packed("hold", witness, str(tmp_path / "until"), id="a" * 20)
    raw = connect(start_broker("--capacity-bytes", str(3 * len(task)), "--workers", "1"))
    for letter in "abc":
        same_size = packed("hold", witness, str(tmp_path / "until"), id=letter * 20)
        assert len(same_size) == len(task)
        assert raw.ask("submit", tasks=[same_size])["verdicts"][0]["verdict"] == "accepted"
    assert raw.stats()["held_bytes"] == 3 * len(task)
    assert raw.submit("noop")["reason"] == "full"
    (tmp_path / "until").touch()
    assert raw.wait_for(succeeded=3)["held_bytes"] == 0
    too_large = raw.submit("noop", "x" * 3 * len(task))
    assert (too_large["reason"], too_large["retry"]) == ("too_large", "never")


def test_a_retry_needs_no_new_admission(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """While a failed task waits for its next attempt it keeps its room, and the full queue cannot shut it out (P4)."""
    raw = connect(start_broker("--capacity", "1"))
    raw.submit("asks_for_time", witness, 0.2, id="first")
    raw.wait_for(delayed=1)
    assert raw.submit("noop")["reason"] == "full"
    raw.wait_for(succeeded=1)
    assert len(notes(witness)) == 2


def test_row_7_a_resend_gets_its_verdict_and_runs_nothing(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """The same id and bytes again: accepted, `duplicate`, with the task's state; before and after its end (P8)."""
    raw = connect(start_broker())
    until = tmp_path / "until"
    task = packed("hold", witness, str(until), id="once")
    assert raw.ask("submit", tasks=[task, task])["verdicts"][1]["duplicate"] is True
    raw.wait_for(running=1)
    again = raw.ask("submit", tasks=[task])["verdicts"][0]
    assert again == {"id": "once", "verdict": "accepted", "duplicate": True, "state": "running"}
    until.touch()
    raw.wait_for(succeeded=1)
    assert raw.ask("submit", tasks=[task])["verdicts"][0]["state"] == "succeeded"
    assert raw.stats()["duplicates"] == 3
    assert len([note for note in notes(witness) if note["event"] == "start"]) == 1


def test_row_46_an_id_with_other_bytes_conflicts_until_it_is_forgotten(
    start_broker: StartBroker, connect: Connect
) -> None:
    """A known id with other bytes is a conflict; once the window of remembered ids has passed it is a new task."""
    raw = connect(start_broker("--remember-ids", "2"))
    raw.submit("noop", 1, id="reused")
    assert raw.submit("noop", 2, id="reused")["reason"] == "duplicate_conflict"
    raw.wait_for(succeeded=1)
    assert raw.submit("noop", 2, id="reused")["reason"] == "duplicate_conflict"
    for number in range(2):
        raw.submit("noop", id=f"other-{number}")
    raw.wait_for(succeeded=3)
    assert raw.submit("noop", 2, id="reused") == {"id": "reused", "verdict": "accepted"}


@pytest.mark.parametrize(("over", "answer"), [(-1, "accepted"), (0, "accepted"), (1, "too_large")])
def test_row_16_a_request_at_the_limit(start_broker: StartBroker, connect: Connect, over: int, answer: str) -> None:
    """A request of `message_bytes` is read, one byte more is not, and the next request is served."""
    limit = 4_096
    raw = connect(start_broker("--message-bytes", str(limit)))

    def request(padding: int) -> bytes:
        return bytes(msgpack.packb({"v": 1, "op": "submit", "tasks": [packed("noop", "x" * padding, id="sized")]}))

    room = limit - len(request(1_000)) + 1_000
    data = request(room + over)
    assert len(data) == limit + over
    reply = raw.exchange(data)
    assert answer == (reply["error"]["reason"] if "error" in reply else reply["verdicts"][0]["verdict"])
    assert raw.stats()["ledger"]["accepted"] == (1 if answer == "accepted" else 0)


def test_row_16_a_request_far_over_the_limit_is_cut_off(start_broker: StartBroker, connect: Connect) -> None:
    """A peer that sends more than twice the limit is disconnected, nothing gets in, and others are served."""
    broker = start_broker("--message-bytes", "4096")
    raw = connect(broker)
    with Raw(broker.endpoint) as rude:
        rude.socket.rcvtimeo = 300
        rude.socket.send(b"x" * 100_000)
        assert raw.ask("ping")["phase"] == "serving"
        with pytest.raises(zmq.Again):
            rude.socket.recv()
    assert raw.stats()["ledger"]["accepted"] == 0


def test_one_bad_task_does_not_cost_the_others(start_broker: StartBroker, connect: Connect) -> None:
    """Each task of a request gets its own verdict, in order; what is not even a task gets one too."""
    raw = connect(start_broker())
    tasks = [packed("noop", id="a"), b"\xc1", packed("nope", id="b"), 7, packed("noop", id="c")]
    verdicts = raw.ask("submit", tasks=tasks)["verdicts"]
    assert [verdict["id"] for verdict in verdicts] == ["a", None, "b", None, "c"]
    assert [verdict.get("reason") for verdict in verdicts] == [None, "malformed", "unknown_task", "malformed", None]
    raw.wait_for(succeeded=2)


def test_a_delayed_task_waits_and_an_expired_one_never_runs(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, witness: str
) -> None:
    """`delay_s` holds a task back, counted in the bound; `expires_s` drops one that was not begun in time (P2)."""
    raw = connect(start_broker("--workers", "1"))
    until = tmp_path / "until"
    raw.submit("hold", witness, str(until), id="busy")
    raw.wait_for(running=1)
    raw.submit("record", witness, id="late", expires_s=0.05)
    raw.submit("record", witness, id="later", delay_s=0.1)
    status = raw.ask("status", id="later")["task"]
    assert (status["state"], status["attempt"]) == ("delayed", 0)
    assert 0 < status["due_in_s"] <= 0.1
    raw.wait_for(delayed=0)  # the delay is longer than the other's time to live: that has passed too
    until.touch()
    raw.wait_for(succeeded=2, expired=1)
    assert [note["id"] for note in notes(witness) if note["event"] == "start"] == ["busy", "later"]
    assert raw.ask("status", id="late")["task"] == {"id": "late", "state": "expired"}
    assert raw.ask("status", id="never-seen")["task"] is None


def test_row_28_many_connections(start_broker: StartBroker) -> None:
    """2,000 producers connected at once are all answered, and the process is as well as before."""
    broker = start_broker("--log-level", "error")
    context = zmq.Context()
    context.max_sockets = 3_000
    try:
        sockets = []
        for _ in range(2_000):
            socket = context.socket(zmq.REQ)
            socket.linger = 0
            socket.rcvtimeo = 60_000
            socket.connect(broker.endpoint)
            sockets.append(socket)
        for number, socket in enumerate(sockets):
            task = packed("noop", number)
            socket.send(msgpack.packb({"v": 1, "op": "submit", "tasks": [task]}))
        for socket in sockets:
            assert msgpack.unpackb(socket.recv())["verdicts"][0]["verdict"] == "accepted"
    finally:
        context.destroy(linger=0)
    with Raw(broker.endpoint) as raw:
        raw.wait_for(succeeded=2_000)
