"""File descriptors: taken, and missed when there are none."""

from __future__ import annotations

import errno
import logging
import os
import resource

import pytest

import broker.descriptors
from broker.descriptors import Descriptors, raise_limit


def assert_closed(descriptors: list[int]) -> None:
    """Each of them, and there is one at least."""
    assert descriptors
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_all_that_is_granted_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit becomes the hard one; a system that refuses leaves it as it was."""
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: asked.append((what, limits)))
    raise_limit()
    assert asked == [(resource.RLIMIT_NOFILE, (4_096, 4_096))]

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_limit()


@pytest.mark.parametrize(("code", "told"), [(errno.EMFILE, 1), (errno.ENFILE, 1), (errno.EACCES, 0)])
def test_one_warning_when_none_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, told: int
) -> None:
    """However long it lasts: one line, and a reason for a health that is not ok, until there are some again."""
    monkeypatch.setattr(broker.descriptors, "_LOOK_S", 0.0)
    original = os.open

    def fail(path: str, flags: int) -> int:
        raise OSError(code, os.strerror(code))

    descriptors = Descriptors()
    monkeypatch.setattr(os, "open", fail)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert descriptors.watch() == 0.0
    assert len(caplog.records) == told
    assert [trouble.reason for trouble in descriptors.troubles()] == ["descriptors_exhausted"] * told
    monkeypatch.setattr(os, "open", original)
    descriptors.watch()
    assert descriptors.troubles() == []


def test_looks_are_a_second_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks nothing is opened, however often the loop goes round."""
    looks = []

    def look() -> bool:
        looks.append(1)
        return True

    monkeypatch.setattr(broker.descriptors, "_is_one_left", look)
    descriptors = Descriptors()
    for _ in range(100):
        assert 0 < descriptors.watch() <= 1.0
    assert len(looks) == 1
