"""One child process of a host, and every way in which it may end. The child is a few lines of a script."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import worker_host.child_process
from worker_host.child_process import NOT_BEGUN, ChildProcess, Ended
from worker_host.contract import Failure, FailureKind
from worker_host.lending import receive

PATIENCE_S = 20.0
#: The child's sockets; it says nothing by itself, and ends when the broker closes the first one.
BEGIN = """
import os, socket, struct, sys
life, *channels = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
def say(worker, message):
    length = channels[worker].recv(4, socket.MSG_PEEK)  # there is an attempt
    channels[worker].sendall(struct.pack("=I", len(message)) + message)
"""
WAIT = "\nlife.recv(1)\n"


@dataclass(frozen=True)
class Lease:
    """A lease on a first attempt."""

    id: str
    attempt: int = 1
    wire: bytes = b""

    def open(self) -> tuple[str, list[Any], dict[str, Any]]:
        """It is opened by the child alone."""
        raise AssertionError


StartChild = Callable[..., ChildProcess]


@pytest.fixture
def start_child() -> Iterator[StartChild]:
    """Start children of this script; all are killed after the test, and waited for."""
    started: list[ChildProcess] = []

    def start(script: str, workers: int = 1) -> ChildProcess:
        started.append(ChildProcess([sys.executable, "-c", BEGIN + script], workers))
        return started[-1]

    yield start
    for child in started:
        if not child._ended.is_set():
            child.kill()
            child.wait()
        assert [channel.fileno() for channel in child._channels] == [-1] * len(child._channels)


def lend(child: ChildProcess, worker: int, task_id: str) -> tuple[threading.Thread, list[Ended]]:
    """Lend on a thread of its own; that, and what comes of it."""
    ends: list[Ended] = []
    thread = threading.Thread(target=lambda: ends.append(child.lend(worker, Lease(task_id))), daemon=True)
    thread.start()
    return thread, ends


def test_attempt_past_its_limit_ends_its_child_and_displaces_its_neighbour(start_child: StartChild) -> None:
    """The one has failed; the other has not, and is told for whose sake it was ended."""
    begun = 'say(1, struct.pack("=d", 0.0)); say(0, struct.pack("=d", 0.05))'
    child = start_child(begun + WAIT, workers=2)
    neighbour, ends = lend(child, 1, "neighbour")
    late = child.lend(0, Lease("late"))
    assert isinstance(late, Failure)
    assert (late.kind, late.error) == (
        FailureKind.TIMED_OUT,
        "TimeLimit: still running after 0.05 s; its child host was ended",
    )
    assert child.wait() == "was killed by SIGKILL"
    assert child.late == (Lease("late"), "0.05 s")
    neighbour.join(PATIENCE_S)
    (displaced,) = ends
    assert isinstance(displaced, Failure)
    assert (displaced.kind, displaced.error) == (
        FailureKind.DISPLACED,
        "Displaced: its child host was ended for the time limit of task late",
    )


def test_limit_that_passes_as_the_child_ends_by_itself_is_no_reason_for_its_end(
    start_child: StartChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. The limit passes.  2. The child ends.  3. The lender wants to end it: nobody is signalled any more, and what
    ran beside it crashed: nobody displaced it.
    """
    begun = 'say(1, struct.pack("=d", 0.0)); say(0, struct.pack("=d", 60.0))'
    child = start_child(begun + WAIT, workers=2)
    neighbour, ends = lend(child, 1, "neighbour")
    signalled: list[int] = []

    def end_and_be_late(channel: Any, most: int) -> bytes | None:
        if channel.gettimeout() == 60.0:
            child.kill()
            child.wait()
            monkeypatch.setattr(os, "killpg", lambda group, _: signalled.append(group))
            raise TimeoutError
        return receive(channel, most)

    monkeypatch.setattr(worker_host.child_process, "receive", end_and_be_late)
    late = child.lend(0, Lease("late"))
    assert isinstance(late, Failure)
    assert late.kind is FailureKind.TIMED_OUT
    assert signalled == []
    assert child.late is None
    neighbour.join(PATIENCE_S)
    (beside,) = ends
    assert isinstance(beside, Failure)
    assert (beside.kind, beside.error) == (FailureKind.CRASHED, "ChildHostDied: it was killed by SIGKILL")


def test_limit_that_passes_when_the_child_was_killed_for_something_else_is_no_reason_either(
    start_child: StartChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not ended yet, and is not asked to do so again; the first reason stands."""
    child = start_child('say(0, struct.pack("=d", 60.0))' + WAIT)

    def kill_and_be_late(channel: Any, most: int) -> bytes | None:
        if channel.gettimeout() == 60.0:
            child.kill()
            raise TimeoutError
        return receive(channel, most)

    monkeypatch.setattr(worker_host.child_process, "receive", kill_and_be_late)
    late = child.lend(0, Lease("late"))
    assert isinstance(late, Failure)
    assert late.kind is FailureKind.TIMED_OUT
    child.wait()
    assert child.late is None


def test_attempt_that_has_not_begun_when_its_child_ends_goes_to_the_next(start_child: StartChild) -> None:
    """Whether the child ends before the attempt is lent, or just after."""
    child = start_child("channels[0].recv(1, socket.MSG_PEEK); os._exit(3)")
    thread, ends = lend(child, 0, "early")
    assert child.wait() == "exited with code 3"
    thread.join(PATIENCE_S)
    assert ends == [NOT_BEGUN]
    assert child.lend(0, Lease("later")) is NOT_BEGUN


def test_child_that_was_told_to_die_is_lent_nothing_more(
    start_child: StartChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. An attempt is too late.  2. Before the signal lands, it ends, and its worker says so.  3. Who is lent next by
    the same lender does not take that for an answer.
    """
    child = start_child('say(0, struct.pack("=d", 0.05)); life.recv(1); say(0, b"")' + WAIT)

    def be_slow(*_: object) -> None:
        child._life.send(b"!")
        assert select.select(child._channels, [], [], PATIENCE_S)[0]

    with monkeypatch.context() as planted:
        planted.setattr(os, "killpg", be_slow)
        late = child.lend(0, Lease("late"))
        assert isinstance(late, Failure)
        assert late.kind is FailureKind.TIMED_OUT
        assert child.lend(0, Lease("next")) is NOT_BEGUN


BEGUN = 'say(0, struct.pack("=d", 0.0)); '


@pytest.mark.parametrize(("before", "kind"), [("", None), (BEGUN, FailureKind.CRASHED)])
def test_child_that_loses_a_channel_and_lives_on_is_ended(
    start_child: StartChild, before: str, kind: FailureKind | None
) -> None:
    """A task may close what it did not open: nothing would ever be heard of that worker again."""
    child = start_child(before + "channels[0].recv(1, socket.MSG_PEEK); channels[0].close()" + WAIT)
    thread, ends = lend(child, 0, "only")
    assert child.wait() == "was killed by SIGKILL"
    thread.join(PATIENCE_S)
    (ended,) = ends
    assert (ended.kind if isinstance(ended, Failure) else None) is kind
    assert (ended is NOT_BEGUN) == (kind is None)


@pytest.mark.parametrize(
    "says",
    [
        'say(0, b"?")',
        'say(0, b"")',
        'say(0, struct.pack("=d", -1))',
        'say(0, struct.pack("=d", float("nan")))',
        BEGUN + 'say(0, b"?")',
        BEGUN + "channels[0].sendall(bytes([255] * 4))",
    ],
)
def test_answer_that_is_none_costs_the_child_its_life(start_child: StartChild, says: str) -> None:
    """A task has written to what is not its own: whether the attempt had begun, nobody can tell, so it has failed."""
    child = start_child(says + WAIT)
    thread, ends = lend(child, 0, "only")
    assert child.wait() == "was killed by SIGKILL"
    thread.join(PATIENCE_S)
    assert ends == [Failure("ChildHostDied: it was killed by SIGKILL", "", kind=FailureKind.CRASHED)]


def test_child_that_somebody_else_has_waited_for_has_ended_all_the_same(start_child: StartChild) -> None:
    """A task in the broker may wait for any child there is: how this one ended is lost then, and nothing else."""
    child = start_child("os._exit(3)")
    assert os.waitpid(child.pid, 0)[0] == child.pid
    assert child.wait() == "exited with code 0"
    assert child.lend(0, Lease("only")) is NOT_BEGUN


def test_child_that_has_ended_can_be_ended_and_killed(start_child: StartChild, monkeypatch: pytest.MonkeyPatch) -> None:
    """That does nothing: its number may be another process's by now."""
    child = start_child("os._exit(0)")
    child.wait()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("a process was signalled that is not ours"))
    child.end()
    child.kill()
    assert not child.is_ready


def test_child_that_ends_with_something_unread_becomes_not_ready(start_child: StartChild) -> None:
    """The system tells of an error then, not of an end: it is one all the same."""
    child = start_child("channels[0].recv(1); os._exit(3)")
    child._life.send(b"!")
    child._channels[0].send(b"!")
    assert not child.becomes_ready()
    assert child.wait() == "exited with code 3"


def test_child_starts_in_its_folder_while_there_is_one(tmp_path: Path) -> None:
    """Where it was removed, what comes from elsewhere still runs."""
    for folder, code in ("/", 1), (tmp_path / "gone", 0):
        child = ChildProcess([sys.executable, "-c", "import os; os._exit(os.getcwd() == '/')"], 1, str(folder))
        assert child.wait() == f"exited with code {code}"


def test_command_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says is raised, and every socket of it is closed, on both sides."""
    made: list[tuple[socket.socket, socket.socket]] = []
    original = socket.socketpair

    def pair() -> tuple[socket.socket, socket.socket]:
        made.append(original())
        return made[-1]

    monkeypatch.setattr(socket, "socketpair", pair)
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        ChildProcess(["/no/such/program"], 2)
    assert [one.fileno() for both in made for one in both] == [-1] * 6
