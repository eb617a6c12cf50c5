"""What a producer knows of how much its broker reads, and when it asks again. Pure: answers and time by hand."""

from __future__ import annotations

from typing import Any, cast

import msgpack
import pytest

from producer import Accepted, NoReply, Task, TooLarge, Unreachable
from producer.dialogue import Answer
from tests.unit.test_producer_patience import Conversation, accepted, lost, never_sent, pong


def test_the_limits_are_asked_for_once() -> None:
    """The first submit pings; the second does not."""
    talks = Conversation()
    task = Task.of("noop")
    assert talks.hold(talks.dialogue.submit(task), pong, accepted) == Accepted(task.id)
    assert talks.hold(talks.dialogue.submit(task), accepted) == Accepted(task.id)
    assert [request["op"] for request in talks.asked] == ["ping", "submit", "submit"]
    assert talks.untils == [10.0, 10.0, 10.0]


def test_a_task_at_the_limit_is_submitted_and_one_above_is_not() -> None:
    """Row 16, without a broker: the request's length decides, to the byte."""
    talks = Conversation()
    one = Task.of("noop", b"")
    talks.hold(talks.dialogue.submit(one), pong, accepted)
    spare = 1_024 - len(msgpack.packb(talks.asked[-1]))
    for size, fits in (
        (spare - 8, True),
        (spare, False),
    ):  # a longer bin, and the longer bin around it, need 2 to 3 more
        talk = talks.dialogue.submit(Task.of("noop", b"x" * size))
        if fits:
            assert talks.hold(talk, accepted)
        else:
            with pytest.raises(TooLarge, match="1024"):
                talks.hold(talk, pong)


def test_a_task_that_is_too_large_for_the_broker_that_was_may_fit_the_one_that_is() -> None:
    """Restarted with a larger limit: it is asked again before anything is refused here."""

    def pong_of_another(request: dict[str, Any]) -> Answer:
        limits = {"message_bytes": 65_536, "tasks": 1_000}
        return {**cast("dict[str, Any]", pong(request)), "limits": limits}

    talks = Conversation()
    talks.hold(talks.dialogue.submit(Task.of("noop")), pong, accepted)
    large = Task.of("noop", "x" * 2_000)
    assert talks.hold(talks.dialogue.submit(large), pong_of_another, accepted) == Accepted(large.id)
    assert talks.hold(talks.dialogue.submit(large), accepted) == Accepted(large.id)


def test_after_silence_the_limits_are_asked_for_again() -> None:
    """A broker that reads less than half of what its predecessor did cuts the connection, and refuses nothing."""
    talks = Conversation()
    for silence in (lost, never_sent):
        talks.hold(talks.dialogue.submit(Task.of("noop")), pong, accepted)
        with pytest.raises((NoReply, Unreachable)):
            talks.hold(talks.dialogue.submit(Task.of("noop")), silence)
    talks.hold(talks.dialogue.submit(Task.of("noop")), pong, accepted)
