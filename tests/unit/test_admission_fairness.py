"""For whom room is kept when the queue is full (P12): connections that were told to come back, and newcomers."""

from __future__ import annotations

from typing import Any

import msgpack

from broker.protocol import pack
from tests.still_broker import StillBroker, wire
from worker_host import task

_CAPACITY = 8


@task(retries=0)
def store(value: str = "") -> None:
    """Never called: no worker runs here."""


def stored(task_id: str, value: str = "") -> bytes:
    """A packed task."""
    return wire(task_id, "store", value)


class Full(StillBroker):
    """A full queue, of eight tasks."""

    def __init__(self, *, capacity: int = _CAPACITY, capacity_bytes: int = 10_000) -> None:
        super().__init__(store, capacity=capacity, capacity_bytes=capacity_bytes)
        for number in range(_CAPACITY):
            assert self.judge(0, stored(f"first{number}"))["verdict"] == "accepted"

    def judge(self, connection: int, packed: bytes) -> dict[str, Any]:
        """The verdict on one task that comes on this connection."""
        reply = msgpack.unpackb(self.answers.answer((pack({"v": 1, "op": "submit", "tasks": [packed]}),), connection))
        (verdict,) = reply["verdicts"]
        assert type(verdict) is dict
        return verdict


def test_newcomer_leaves_the_room_to_who_was_told_to_come() -> None:
    """A room appears: it is not for who asks first, but for who comes when told; then the newcomer has its own time."""
    full = Full()
    told = full.judge(1, stored("a"))
    full.run()
    newcomer = full.judge(2, stored("b"))
    assert (newcomer["reason"], newcomer["retry"]) == ("full", "later")
    assert "kept" in newcomer["detail"]
    assert full.queue.held == _CAPACITY - 1
    full.clock.advance(told["retry_after"] + 0.001)
    assert full.judge(1, stored("a")) == {"id": "a", "verdict": "accepted"}
    full.run()
    full.clock.advance(newcomer["retry_after"])
    assert full.judge(2, stored("b"))["verdict"] == "accepted"


def test_newcomer_gets_what_is_left_over() -> None:
    """More rooms than are expected to be needed: nobody is turned away."""
    full = Full()
    full.judge(1, stored("a"))
    full.run()
    full.run()
    assert full.judge(2, stored("b"))["verdict"] == "accepted"
    assert full.judge(3, stored("c"))["reason"] == "full"


def test_asking_again_at_once_is_of_no_use() -> None:
    """Two were told to come; the second asks all the time, and gets nothing until its moment."""
    full = Full()
    told = [full.judge(connection, stored(f"by{connection}"))["retry_after"] for connection in (1, 2)]
    full.run()
    for _ in range(100):
        assert full.judge(2, stored("by2"))["reason"] == "full"
    full.clock.advance(max(told) + 0.001)
    assert full.judge(1, stored("by1"))["verdict"] == "accepted"


def test_room_of_who_does_not_come_is_not_kept_for_long() -> None:
    """After its wait and a tenth of a second more, the first to ask gets it."""
    full = Full()
    told = full.judge(1, stored("a"))
    full.run()
    full.clock.advance(told["retry_after"] + 0.2)
    assert full.judge(2, stored("b"))["verdict"] == "accepted"


def test_bytes_are_kept_too() -> None:
    """A large task that was turned away finds its bytes, though small ones would have fitted meanwhile."""
    size = len(stored("first0"))
    full = Full(capacity=100, capacity_bytes=_CAPACITY * size)
    large = stored("large", "x" * (size // 2))
    assert size < len(large) < 2 * size
    told = full.judge(1, large)
    assert told["reason"] == "full"
    full.run()
    full.run()
    assert full.judge(2, stored("small_"))["reason"] == "full"
    full.clock.advance(told["retry_after"] + 0.001)
    assert full.judge(1, large)["verdict"] == "accepted"


def test_resend_is_recognised_whatever_is_kept() -> None:
    """A duplicate needs no room, so nobody's room stands in its way (P8)."""
    full = Full()
    full.judge(1, stored("a"))
    assert full.judge(2, stored("first3"))["duplicate"] is True
