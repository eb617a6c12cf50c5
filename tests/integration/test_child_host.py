"""A host of child processes: when it takes leases, and what becomes of one that it cannot have begun."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import worker_host.child_host
from tests.integration.test_child_process import BEGIN, BEGUN, PATIENCE_S, WAIT, Lease
from worker_host.child_host import ChildHost
from worker_host.contract import Failure

READY = 'life.send(b"R"); '
MAKES_ONE = READY + BEGUN + 'say(0, b"")' + WAIT


class Line:
    """A source: leases that the test puts in, and what is asked and reported, in order."""

    def __init__(self) -> None:
        self.leases: queue.SimpleQueue[Lease | None] = queue.SimpleQueue()
        self.heard: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def take(self, *, isolated: bool = False) -> Lease | None:
        """The next."""
        assert isolated
        self.heard.put(("take", ""))
        return self.leases.get()

    def ack(self, lease: Lease) -> None:
        """Noted."""
        self.heard.put(("ack", lease.id))

    def fail(self, lease: Lease, failure: Failure) -> None:
        """Noted."""
        self.heard.put((failure.kind.value, lease.id))

    def give_back(self, lease: Lease) -> None:
        """Noted; and it is the next once more."""
        self.heard.put(("give back", lease.id))
        self.leases.put(lease)


class Stage:
    """A host of one child, with this script, and its line."""

    def __init__(self, script: str) -> None:
        self.line = Line()
        self.deaths: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        command = [sys.executable, "-c", BEGIN + script]
        self.host = ChildHost(self.line, command, ".", 1, 1, self.deaths.put)
        self.host.start()

    def hears(self) -> tuple[str, str]:
        """The next that the line was asked or told."""
        return self.line.heard.get(timeout=PATIENCE_S)

    def end(self) -> None:
        """As a broker does: no lease any more, then the end. No thread is left."""
        self.line.leases.put(None)
        self.host.end(0.1)
        for thread in [*self.host._keepers, *self.host._lenders]:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert self.deaths.empty()


@pytest.fixture
def stage() -> Iterator[Callable[[str], Stage]]:
    """Make hosts; all are ended after the test."""
    made: list[Stage] = []

    def make(script: str) -> Stage:
        made.append(Stage(script))
        return made[-1]

    yield make
    for one in made:
        one.end()


def wait_for(what: Callable[[], object]) -> None:
    """Until this is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_nothing_is_taken_for_a_child_that_is_not_ready(stage: Callable[[str], Stage], tmp_path: Path) -> None:
    """What is taken is as good as begun: while the child imports its tasks, they are ready, and can expire."""
    starts, goes = tmp_path / "starts", tmp_path / "goes"
    waits = f"import pathlib\npathlib.Path({str(starts)!r}).touch()\nwhile not os.path.exists({str(goes)!r}): pass\n"
    one = stage(waits + MAKES_ONE)
    wait_for(starts.exists)
    assert one.line.heard.empty()
    goes.touch()
    assert one.hears() == ("take", "")
    one.line.leases.put(Lease("only"))
    assert one.hears() == ("ack", "only")


def test_lease_that_its_child_does_not_live_to_begin_is_given_back(stage: Callable[[str], Stage]) -> None:
    """And the worker takes none before the next child is ready."""
    one = stage(MAKES_ONE)
    assert one.hears() == ("take", "")
    child = one.host._places[0].child
    assert child is not None
    child.kill()
    wait_for(child._ended.is_set)
    one.line.leases.put(Lease("only"))
    assert [one.hears() for _ in range(3)] == [("give back", "only"), ("take", ""), ("ack", "only")]


def test_child_that_loses_its_life_line_before_it_is_ready_is_replaced(
    stage: Callable[[str], Stage], tmp_path: Path
) -> None:
    """Nobody could tell when it is ready, nor end it in order. The next one may do better."""
    closes = f"path = {str(tmp_path / 'closed')!r}\nif not os.path.exists(path): open(path, 'w'); life.close(); "
    one = stage(closes + "channels[0].recv(1)\n" + MAKES_ONE)
    assert one.hears() == ("take", "")
    assert (tmp_path / "closed").exists()


def test_child_that_takes_too_long_to_be_ready_is_a_trouble(
    stage: Callable[[str], Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its import hangs, perhaps: somebody should look. Once it is ready, all is well."""
    goes = tmp_path / "goes"
    one = stage(f"while not os.path.exists({str(goes)!r}): pass\n" + MAKES_ONE)
    wait_for(lambda: one.host._places[0].child is not None)
    assert one.host.troubles() == []
    monkeypatch.setattr(worker_host.child_host, "_START_S", 0.0)
    (trouble,) = one.host.troubles()
    assert (trouble.reason, trouble.detail) == (
        "child_hosts_down",
        "child hosts that cannot start: 1; not ready after 0 s: its task modules are still being imported",
    )
    goes.touch()
    assert one.hears() == ("take", "")
    assert one.host.troubles() == []


def test_host_ends_while_its_child_is_not_ready(stage: Callable[[str], Stage]) -> None:
    """Whoever waits for that waits no longer. The fixture ends it, and sees that no thread is left."""
    one = stage(WAIT)
    wait_for(lambda: one.host._places[0].child is not None and one.host._places[0].child._waiting)
    assert one.line.heard.empty()
