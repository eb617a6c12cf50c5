"""What a reply says of a task, a queue and a broker: decoded, or refused by name."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer import Accepted, BadReply, DeadLetter, DeadPage, Limits, Pong, Reason, Rejected, Retry, TaskStatus
from producer.replies import decode_dead, decode_pong, decode_refusal, decode_stats, decode_status, open_reply
from producer.verdicts import decode_verdict, decode_verdicts

LETTER = {
    "id": "x",
    "name": "noop",
    "reason": "retries_exhausted",
    "error": "ValueError: no",
    "trace": "Traceback …",
    "attempts": 4,
    "accepted_at": 1_750_000_000.25,
    "died_at": 1_750_000_001,
}


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"verdict": "accepted"}, Accepted("x")),
        (
            {"verdict": "accepted", "duplicate": True, "state": "running"},
            Accepted("x", duplicate=True, state="running"),
        ),
        ({"verdict": "accepted", "news": 1}, Accepted("x")),
        (
            {"verdict": "rejected", "reason": "full", "retry": "later", "retry_after": 0.25},
            Rejected("x", Reason.FULL, Retry.LATER, 0.25, ""),
        ),
        (
            {"verdict": "rejected", "reason": "draining", "retry": "later", "retry_after": 2, "detail": "bye"},
            Rejected("x", Reason.DRAINING, Retry.LATER, 2, "bye"),
        ),
        (
            {"id": None, "verdict": "rejected", "reason": "malformed", "retry": "never", "retry_after": "never"},
            Rejected("x", Reason.MALFORMED, Retry.NEVER, None, ""),
        ),
        (
            {"verdict": "rejected", "reason": "from_the_future", "retry": "sometimes"},
            Rejected("x", "from_the_future", Retry.NEVER, None, ""),
        ),
    ],
)
def test_verdicts_as_agreed(fields: dict[str, Any], verdict: Accepted | Rejected) -> None:
    """Fields that are not known are ignored; a reason that is not stays text; such a `retry` means never."""
    assert decode_verdict({"id": "x", **fields}, "x") == verdict


def test_a_verdict_tells_a_type_checker_which_it_is() -> None:
    """`accepted` is true of one class and false of the other: a branch on it narrows the type."""
    verdict = decode_verdicts(
        {"verdicts": [{"id": "x", "verdict": "rejected", "reason": "full", "retry": "later", "retry_after": 1.0}]},
        ["x"],
    )[0]
    if verdict.accepted:
        pytest.fail(f"{verdict.state}")
    else:
        assert verdict.retry_after == 1.0


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "accepted", "duplicate": 1},
        {"verdict": "accepted", "state": 1},
        {"verdict": "accepted", "id": "y"},
        {"verdict": "accepted", "id": None},
        {"verdict": "rejected", "id": "y", "reason": "full", "retry": "never"},
        {"verdict": "rejected", "reason": 1, "retry": "never"},
        {"verdict": "rejected", "reason": "full", "retry": None},
        {"verdict": "rejected", "reason": "full", "retry": "never", "detail": 1},
        {"verdict": "rejected", "reason": "full", "retry": "later"},
        {"verdict": "rejected", "reason": "full", "retry": "later", "retry_after": 0},
        {"verdict": "rejected", "reason": "full", "retry": "later", "retry_after": float("nan")},
        {"verdict": "rejected", "reason": "full", "retry": "later", "retry_after": float("inf")},
        {"verdict": "rejected", "reason": "full", "retry": "later", "retry_after": "1"},
        {"verdict": ["accepted"]},
        {},
    ],
)
def test_verdicts_not_as_agreed(fields: dict[str, Any]) -> None:
    """Each is a `BadReply` that names the task."""
    with pytest.raises(BadReply, match="task x"):
        decode_verdict({"id": "x", **fields}, "x")


def test_answers_as_agreed() -> None:
    """`ping`, `status`, `stats` and `dead`, with and without the fields that are not always there."""
    limits = {"message_bytes": 65_536, "tasks": 1_000}
    pong = Pong("turnstile/1", "serving", Limits(65_536, 1_000))
    assert decode_pong({"server": "turnstile/1", "phase": "serving", "versions": [1, 2], "limits": limits}) == pong
    assert decode_status({"task": None}) is None
    assert decode_status({"task": {"id": "x", "state": "succeeded"}}) == TaskStatus("x", "succeeded", None, None)
    delayed = {"id": "x", "state": "delayed", "attempt": 0, "due_in_s": 1.5}
    assert decode_status({"task": delayed}) == TaskStatus("x", "delayed", 0, 1.5)
    assert decode_stats({"stats": {"new": {"er": 1}}}) == {"new": {"er": 1}}
    assert decode_dead({"dead": [LETTER], "total": 7}) == DeadPage([DeadLetter(**LETTER)], 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", LETTER)
@pytest.mark.parametrize("value", [None, [], b"x", float("nan")])
def test_dead_letters_not_as_agreed(field: str, value: object) -> None:
    """A field that is missing, or of another type, is named."""
    with pytest.raises(BadReply, match=f"`{field}`"):
        decode_dead({"dead": [{**LETTER, field: value}], "total": 1})
    with pytest.raises(BadReply, match=f"`{field}`"):
        decode_dead({"dead": [{name: part for name, part in LETTER.items() if name != field}], "total": 1})


NAMES = ["verdicts", "error", "task", "stats", "dead", "total", "server", "phase", "limits", "id", "verdict", "reason"]
NAMES += ["retry", "retry_after", "detail", "state", "attempt", "due_in_s", "message_bytes", "tasks", "v", "tag"]
SCALARS = st.sampled_from(
    [None, True, -1, 0, 1, 2**64 - 1, 1.5, float("nan"), float("inf"), "", "accepted", "later", b""]
)
MAPS = st.dictionaries(st.sampled_from(NAMES), SCALARS, max_size=4)
REPLIES = st.dictionaries(st.sampled_from(NAMES), SCALARS | MAPS | st.lists(SCALARS | MAPS, max_size=2), max_size=4)


@given(REPLIES)
def test_no_reply_raises_anything_else(reply: dict[str, Any]) -> None:
    """Whatever a reply holds, decoding it gives a value or a `BadReply`; never a `KeyError` or `TypeError`."""
    decoders: list[Any] = [decode_pong, decode_status, decode_stats, decode_dead, decode_refusal]
    for decode in [
        *decoders,
        lambda fields: decode_verdicts(fields, ["x"]),
        lambda fields: decode_verdict(fields, "x"),
    ]:
        with contextlib.suppress(BadReply):
            decode(reply)


@given(st.binary(max_size=40) | REPLIES.map(msgpack.packb))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Whatever comes, it is a map in this version of the protocol, or a `BadReply`."""
    with contextlib.suppress(BadReply):
        assert open_reply(data)["v"] == 1
