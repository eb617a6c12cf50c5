"""The bell: whoever rings wakes the owner, however the two meet."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import suppress

import pytest

from broker.bell import Bell


@pytest.fixture
def bell() -> Iterator[Bell]:
    """A silent bell."""
    made = Bell()
    yield made
    made.close()


def is_heard(bell: Bell) -> bool:
    """Whether a poll of the bell would return."""
    return bool(select.select([bell.descriptor], [], [], 0)[0])


def test_ring_is_heard_once(bell: Bell) -> None:
    """Any number of rings wakes the owner once; when it has listened, it is silent again."""
    assert not is_heard(bell)
    for _ in range(100_000):
        bell.ring()
    assert is_heard(bell)
    assert bell.listen().strip(b"\0") == b""
    assert not is_heard(bell)


def test_listening_in_silence_waits_for_nothing(bell: Bell) -> None:
    """The owner may listen at any time."""
    assert bell.listen() == b""
    bell.ring()
    assert is_heard(bell)


def test_ring_after_listening_is_heard(bell: Bell) -> None:
    """Again and again."""
    for _ in range(3):
        bell.ring()
        assert is_heard(bell)
        bell.listen()


def test_signals_numbers_come_through(bell: Bell) -> None:
    """What `signal.set_wakeup_fd` writes is read as it came, beside rings."""
    bell.ring()
    os.write(bell.writer, bytes([15, 2]))
    assert [number for number in bell.listen() if number] == [15, 2]


def test_full_pipe_does_not_stop_who_rings(bell: Bell) -> None:
    """If signals have filled the pipe, the owner will wake up anyway: to ring raises nothing, and waits for nothing."""
    with suppress(BlockingIOError):
        while True:
            os.write(bell.writer, b"\x01" * 4_096)
    bell.ring()
    assert is_heard(bell)


def test_ring_in_the_middle_of_listening_does_not_deafen(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that rings between any two steps of `listen` is heard in it, or after it; and so is every later ring.

    1. The owner begins to listen.  2. A worker rings.  3. The owner reads the pipe, and that ring with it.
    4. The owner looks at everything, and waits again.  5. A worker rings: the owner must wake up.
    """
    read = os.read

    def ring_then_read(descriptor: int, count: int) -> bytes:
        bell.ring()
        return read(descriptor, count)

    bell.ring()
    monkeypatch.setattr("broker.bell.os.read", ring_then_read)
    bell.listen()
    monkeypatch.undo()
    bell.ring()
    assert is_heard(bell)
