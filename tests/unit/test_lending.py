"""How attempts are lent to children: what goes over the channel arrives as it was, or not at all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_host.contract import Failure
from worker_host.lending import (
    ForeignError,
    LentLease,
    pack_attempt,
    pack_begun,
    pack_ended,
    receive,
    send,
    unpack_attempt,
    unpack_begun,
    unpack_ended,
)
from worker_host.tasks import LONGEST_LIMIT_S

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def opened(wire: bytes) -> tuple[str, list[Any], dict[str, Any]]:
    """Stands for the unpacking of a task."""
    return wire.decode(), [], {}


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a channel."""
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@given(task_id=st.text("abc019._:-", min_size=1, max_size=64), attempt=st.integers(1, 101), wire=st.binary())
def test_attempt_arrives_as_it_was(task_id: str, attempt: int, wire: bytes) -> None:
    """Id, number and bytes."""
    lease = LentLease(task_id, attempt, wire, opened)
    assert unpack_attempt(pack_attempt(lease), opened) == lease


@pytest.mark.parametrize("limit_s", [None, 0.001, 3.5, LONGEST_LIMIT_S])
def test_time_limit_arrives_as_it_was(limit_s: float | None) -> None:
    """Or that there is none."""
    assert unpack_begun(pack_begun(limit_s)) == limit_s


@given(
    st.builds(
        Failure,
        error=TEXTS,
        trace=TEXTS,
        retry_after_s=st.none() | st.floats(0, 1e6),
        final=st.booleans(),
    )
)
def test_failure_arrives_as_it_was(failure: Failure) -> None:
    """All of it: what the task asked for counts, wherever it ran."""
    assert unpack_ended(pack_ended(failure)) == failure


@given(st.binary())
def test_other_bytes_are_no_beginning(message: bytes) -> None:
    """Or they are a limit that can be waited for."""
    try:
        limit_s = unpack_begun(message)
    except ForeignError:
        return
    assert limit_s is None or 0 < limit_s <= LONGEST_LIMIT_S


@pytest.mark.parametrize(
    "message",
    [
        pack_begun(None),
        b"?",
        b"\xff" * 20,
        b"[" * 60_000,
        b"{}",
        b'"four"',
        b'["error", "trace", null]',
        b'["error", 1, null, false]',
        b'["error", "\\ud800", null, false]',
        b'["error", "trace", NaN, false]',
        b'["error", "trace", -1.0, false]',
        b'["error", "trace", "1", false]',
        b'["error", "trace", null, 0]',
    ],
)
def test_other_bytes_are_no_end(message: bytes) -> None:
    """A beginning, too, is none: whatever a task writes to its worker's channel, no text of it is believed."""
    with pytest.raises(ForeignError):
        unpack_ended(message)


def test_message_that_is_too_long_is_not_read(ends: tuple[socket.socket, socket.socket]) -> None:
    """Its length alone is enough: four bytes of a task's must not make the broker wait for four gigabytes."""
    one, other = ends
    send(one, b"x" * 9)
    send(one, b"x" * 10)
    assert receive(other, 9) == b"x" * 9
    with pytest.raises(ForeignError):
        receive(other, 9)


def test_success_arrives() -> None:
    """As no failure."""
    assert unpack_ended(pack_ended(None)) is None


def test_messages_stay_apart(ends: tuple[socket.socket, socket.socket]) -> None:
    """Several in a row, an empty and a large one among them."""
    one, other = ends
    messages = [b"a", b"", b"x" * 3_000_000, b"b"]

    def send_all() -> None:
        for message in messages:
            send(one, message)

    sender = threading.Thread(target=send_all)
    sender.start()
    assert [receive(other) for _ in messages] == messages
    sender.join()


@pytest.mark.parametrize("sent", [b"", b"\x05\x00", b"\x05\x00\x00\x00ab"])
def test_end_in_the_middle_is_an_end(ends: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    """A child that dies while it speaks has said nothing."""
    one, other = ends
    one.sendall(sent)
    one.close()
    assert receive(other) is None


def test_reset_is_an_end(ends: tuple[socket.socket, socket.socket]) -> None:
    """A child that dies with an attempt unread resets the channel."""
    one, other = ends
    send(other, b"unread")
    one.close()
    assert receive(other) is None


def test_silence_is_a_time_out(ends: tuple[socket.socket, socket.socket]) -> None:
    """If the channel has one."""
    _, other = ends
    other.settimeout(0.01)
    with pytest.raises(TimeoutError):
        receive(other)
