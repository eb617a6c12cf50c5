"""The inside of a child host, in this process: sockets for the broker's end, and threads that run tasks."""

from __future__ import annotations

import queue
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from broker.protocol import arguments_of
from tests.still_broker import declared, wire
from worker_host import task
from worker_host.child import serve
from worker_host.lending import pack_attempt, receive, send, unpack_ended

PATIENCE_S = 20.0


class Lease:
    """A lease on the first attempt of a task."""

    def __init__(self, name: str) -> None:
        self.id, self.attempt, self.wire = "t", 1, wire("t", name)

    def open(self) -> tuple[str, list[object], dict[str, object]]:
        """What to call."""
        return arguments_of(self.wire)


class Child:
    """A child host of one worker on a thread of this process, and the broker's ends of its sockets."""

    def __init__(self, *functions: Callable[..., object]) -> None:
        self.broker_life, self.life = socket.socketpair()
        self.broker_channel, self.channel = socket.socketpair()
        self.broker_channel.settimeout(PATIENCE_S)
        self.deaths: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=serve,
            args=(self.life, [self.channel], declared(*functions), arguments_of, self.deaths.put),
            daemon=True,
        )

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def end(self) -> None:
        """As a broker that stops does it; wait until it has ended."""
        self.broker_life.shutdown(socket.SHUT_RDWR)
        self.wait()

    def wait(self) -> None:
        """Until it has ended."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def close(self) -> None:
        """Close all sockets."""
        for one in (self.broker_life, self.life, self.broker_channel, self.channel):
            one.close()


@pytest.fixture
def make_child() -> Iterator[Callable[..., Child]]:
    """Make children of these task functions; their sockets are closed after the test."""
    made: list[Child] = []

    def make(*functions: Callable[..., object]) -> Child:
        made.append(Child(*functions))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_child_says_that_it_is_ready_before_its_first_task(make_child: Callable[..., Child]) -> None:
    """A task that ends the process at once ends one that could start: its death is no failure to start."""
    heard: list[bytes] = []

    @task
    def looks() -> None:
        heard.append(child.broker_life.recv(1, socket.MSG_DONTWAIT))

    child = make_child(looks)
    send(child.broker_channel, pack_attempt(Lease("looks")))
    child.start()
    assert receive(child.broker_channel)  # begun
    ended = receive(child.broker_channel)
    assert ended is not None
    assert unpack_ended(ended) is None
    assert heard == [b"R"]
    child.end()
    assert child.deaths.empty()


def test_child_whose_broker_is_gone_before_it_is_ready_ends(make_child: Callable[..., Child]) -> None:
    """It has nobody to say it to, so it begins nothing, and says nothing."""

    @task
    def noop() -> None:
        raise AssertionError

    child = make_child(noop)
    send(child.broker_channel, pack_attempt(Lease("noop")))
    child.broker_life.close()
    child.start()
    child.wait()
    child.channel.close()
    assert receive(child.broker_channel) is None


def test_child_whose_broker_is_killed_ends(make_child: Callable[..., Child]) -> None:
    """A broker that is killed has not read that the child is ready, so its end is a reset, not a close."""

    @task
    def noop() -> None:
        """Nothing."""

    child = make_child(noop)
    child.start()
    assert child.broker_life.recv(1, socket.MSG_PEEK) == b"R"
    child.broker_life.close()
    child.wait()


def test_worker_whose_broker_is_gone_ends_in_silence(make_child: Callable[..., Child]) -> None:
    """There is nobody to say an attempt's end to: that is no defect of the host, which nobody should hear of."""
    ended: list[str] = []

    @task
    def closes() -> None:
        child.broker_channel.close()
        ended.append(threading.current_thread().name)

    child = make_child(closes)
    send(child.broker_channel, pack_attempt(Lease("closes")))
    child.start()
    while not ended:
        pass
    for thread in threading.enumerate():
        if thread.name == ended[0] and thread is not threading.current_thread():
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    child.end()
    assert child.deaths.empty()


def test_worker_that_dies_of_a_defect_says_so(make_child: Callable[..., Child]) -> None:
    """A message that is no attempt: the process is to end, or the broker would wait for this worker for ever."""

    @task
    def noop() -> None:
        raise AssertionError

    child = make_child(noop)
    send(child.broker_channel, b"?")
    child.start()
    assert isinstance(child.deaths.get(timeout=PATIENCE_S), struct.error)
    child.end()


def test_attempt_that_cannot_be_begun_is_a_failed_one(make_child: Callable[..., Child]) -> None:
    """A task that the child does not know: the broker hears that it began, and then of its end."""

    @task
    def noop() -> None:
        raise AssertionError

    child = make_child(noop)
    send(child.broker_channel, pack_attempt(Lease("other")))
    child.start()
    assert receive(child.broker_channel) == struct.pack("=d", 0.0)
    failure = unpack_ended(receive(child.broker_channel) or b"")
    assert failure is not None
    assert failure.error == "KeyError: 'other'"
    child.end()


class ChildCommand:
    """A child host as a process, as a broker starts it."""

    def __init__(self, tasks: str, before: str = "") -> None:
        self.life, life = socket.socketpair()
        channel, its_channel = socket.socketpair()
        script = f"{before}\nfrom broker.child import main\nmain()"
        options = ["--tasks", tasks, "--log-level", "error", "--nice", "0"]
        descriptors = [life.fileno(), its_channel.fileno()]
        with channel, its_channel, life:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script, *options, *map(str, descriptors)],
                pass_fds=descriptors,
                stderr=subprocess.PIPE,
                text=True,
            )

    def end(self) -> tuple[int, str]:
        """Close its life; its exit code, and what it said."""
        self.life.close()
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, errors


def test_child_whose_broker_had_ended_before_it_looked_ends() -> None:
    """The kernel tells it of an end to come, not of one that was."""
    child = ChildCommand("tests.isolated", "import os\nos.getppid = lambda: 1")
    assert child.process.wait(PATIENCE_S) == 0
    assert child.end() == (0, "")


def test_child_that_cannot_load_its_tasks_says_so() -> None:
    """They could be loaded when the broker started; the exit code is what the broker sees of it."""
    child = ChildCommand("tests.e2e.broken_tasks")
    code, errors = child.end()
    assert code == 1
    assert errors.startswith("turnstile: in a child host: cannot load task module 'tests.e2e.broken_tasks': ")
    assert errors.count("\n") == 1


#: What a system may lack, as lines of Python.
LACKS = {
    "nothing": "",
    "a kernel with badness": "import pathlib\ndef fail(*_): raise OSError\npathlib.Path.write_text = fail",
    "ctypes": "import sys\nsys.modules['ctypes'] = None",
    "prctl": "import ctypes\nctypes.CDLL = lambda name: object()",
    "credentials": "import socket\ndel socket.SO_PEERCRED",
    "its folder": "import pathlib\ndef gone(): raise FileNotFoundError\npathlib.Path.cwd = gone",
}


@pytest.mark.parametrize("before", LACKS.values(), ids=LACKS)
def test_child_serves_also_where_the_system_can_do_less(before: str) -> None:
    """Not every kernel lets a process say that it should be the first to go when memory runs out, and so on."""
    child = ChildCommand("tests.jobs", before)
    child.life.settimeout(PATIENCE_S)
    assert child.life.recv(1) == b"R"
    assert child.end() == (0, "")
