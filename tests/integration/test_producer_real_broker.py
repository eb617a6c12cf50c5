"""Producers and a real broker in its own process: limits, threads, forks, a stopped broker, and ids that survive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer import Accepted, BadTask, DeadLetter, NoReply, Producer, Reason, Rejected, Task, TooLarge, Unreachable
from producer.packing import pack_task
from producer.requests import size_alone
from tests import jobs
from tests.witness import notes

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
MESSAGE_BYTES = 4_096


class RunningBroker:
    """`python -m broker` with the tasks of `tests.jobs`, ready; its standard output tells where it listens."""

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "broker", "--tasks", "tests.jobs", "--endpoint", "tcp://127.0.0.1:0", *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        assert ready.startswith("turnstile ready "), ready
        self.endpoint = dict(word.split("=", 1) for word in ready.split()[2:])["endpoint"]

    def end(self) -> None:
        """Kill it; it must not have ended by itself."""
        ended = self.process.poll()
        self.process.kill()
        _, errors = self.process.communicate(timeout=WAIT_S)
        assert ended is None, errors


@contextmanager
def running_broker(*flags: str) -> Iterator[RunningBroker]:
    """A broker for the time of the block."""
    broker = RunningBroker(*flags)
    try:
        yield broker
    finally:
        broker.end()


@contextmanager
def stopped(broker: RunningBroker) -> Iterator[None]:
    """The broker stands still for the time of the block, as a machine does that is short of memory."""
    broker.process.send_signal(signal.SIGSTOP)
    try:
        os.waitpid(broker.process.pid, os.WUNTRACED)
        yield
    finally:
        broker.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    """A broker that several tests share."""
    with running_broker("--message-bytes", str(MESSAGE_BYTES)) as running:
        yield running


@pytest.fixture
def witness(tmp_path: Path) -> str:
    """A file for what tasks witness."""
    return str(tmp_path / "witness")


def wait_for_end(producer: Producer, *task_ids: str) -> set[str]:
    """Ask until all of these tasks have ended; their states. Asking is all the waiting there is."""
    states: set[str] = set()
    for task_id in task_ids:
        for _ in range(100_000):
            status = producer.status(task_id)
            assert status is not None
            if status.state not in {"ready", "delayed", "running"}:
                states.add(status.state)
                break
        else:
            pytest.fail(f"task {task_id} did not end")
    return states


def starts(witness: str) -> Counter[str]:
    """How often each task was started."""
    return Counter(event["id"] for event in notes(witness) if event["event"] == "start")


def test_a_task_is_submitted_by_function_by_name_and_as_a_task(broker: RunningBroker, witness: str) -> None:
    """All three ways run the same function with the arguments as they were given; tuples arrive as arrays."""
    with Producer(broker.endpoint) as producer:
        verdicts = [
            producer.submit(jobs.record, witness, 1, ("a", None, 2.5)),
            producer.submit("record", witness, 2, {"k": [True, 2**64 - 1, -(2**63)]}),
            producer.submit(Task.of(jobs.record, witness, 3).but(retries=2, delay_s=0.0, expires_s=600)),
        ]
        assert [type(verdict) for verdict in verdicts] == [Accepted] * 3
        assert wait_for_end(producer, *(verdict.id for verdict in verdicts)) == {"succeeded"}
    values = {event["id"]: event["values"] for event in notes(witness)}
    assert [values[verdict.id] for verdict in verdicts] == [
        [1, ["a", None, 2.5]],
        [2, {"k": [True, 2**64 - 1, -(2**63)]}],
        [3],
    ]


def test_what_a_broker_knows_is_told(broker: RunningBroker, witness: str) -> None:
    """`ping`, `stats`, `status` and `dead` give what the protocol describes."""
    with Producer(broker.endpoint) as producer:
        pong = producer.ping()
        assert (pong.phase, pong.limits.message_bytes, pong.limits.tasks) == ("serving", MESSAGE_BYTES, 1_000)
        assert pong.server.startswith("turnstile/")
        assert producer.status("never-submitted") is None
        delayed = producer.submit(Task.of("noop").but(delay_s=600))
        status = producer.status(delayed.id)
        assert status is not None
        assert (status.state, status.attempt) == ("delayed", 0)
        assert status.due_in_s is not None
        assert 0 < status.due_in_s <= 600
        failing = producer.submit(Task.of("gives_up", witness))
        assert wait_for_end(producer, failing.id) == {"dead"}
        page = producer.dead(limit=1)
        (letter,) = page.letters
        assert isinstance(letter, DeadLetter)
        assert (letter.id, letter.name, letter.reason, letter.attempts) == (failing.id, "gives_up", "never_retry", 1)
        assert "no such customer" in letter.error
        assert producer.dead(limit=1, offset=page.total).letters == []
        stats = producer.stats()
        assert stats["ledger"]["accepted"] == sum(n for state, n in stats["ledger"].items() if state != "accepted")


def test_rejections_tell_why(broker: RunningBroker) -> None:
    """An unknown name, and arguments that do not fit, are rejected for good; the detail helps."""
    with Producer(broker.endpoint) as producer:
        unknown, misfit = producer.submit("noob"), producer.submit("sleep", 1, 2)
    assert isinstance(unknown, Rejected)
    assert unknown.reason is Reason.UNKNOWN_TASK
    assert "noop" in unknown.detail
    assert isinstance(misfit, Rejected)
    assert misfit.reason is Reason.BAD_ARGUMENTS


def test_row_7_the_same_task_again_is_a_duplicate_and_runs_once(broker: RunningBroker, witness: str) -> None:
    """Submitted three times, alone and in a batch: accepted, then twice a duplicate; one start."""
    task = Task.of("record", witness)
    with Producer(broker.endpoint) as producer:
        verdicts = [producer.submit(task), producer.submit(task), *producer.submit_many([task])]
        assert [isinstance(one, Accepted) and one.duplicate for one in verdicts] == [False, True, True]
        assert wait_for_end(producer, task.id) == {"succeeded"}
    assert starts(witness) == {task.id: 1}


def test_row_15_what_cannot_be_packed_never_leaves(broker: RunningBroker) -> None:
    """The error names the path of the value, and the broker has not been asked."""
    with Producer(broker.endpoint) as producer:
        before = producer.stats()["requests"]
        for value in ({1}, object(), 2**64, "\ud800"):
            with pytest.raises(BadTask, match=r"args\[0\]\['deep'\]\[1\]: "):
                producer.submit("noop", {"deep": [0, value]})
        assert producer.stats()["requests"] == before + 1


def task_that_makes_a_request_of(size: int) -> Task:
    """A task whose request, with nothing else in it, is exactly so long."""
    task = Task.of("noop", "")
    padding = size - size_alone(pack_task(task))
    while (difference := size - size_alone(pack_task(Task("noop", ("x" * padding,), id=task.id)))) != 0:
        padding += difference
    return Task("noop", ("x" * padding,), id=task.id)


def test_row_16_a_task_is_sent_up_to_the_limit_and_not_one_byte_beyond(broker: RunningBroker) -> None:
    """At limit - 1 and limit: accepted. At limit + 1: an error before anything is sent. Alone and in a batch."""
    with Producer(broker.endpoint) as producer:
        for size in (MESSAGE_BYTES - 1, MESSAGE_BYTES):
            assert producer.submit(task_that_makes_a_request_of(size)).accepted
            assert producer.submit_many([task_that_makes_a_request_of(size)])[0].accepted
        requests = producer.stats()["requests"]
        too_long = task_that_makes_a_request_of(MESSAGE_BYTES + 1)
        with pytest.raises(TooLarge, match=f"{MESSAGE_BYTES + 1} bytes; this broker reads {MESSAGE_BYTES}"):
            producer.submit(too_long)
        with pytest.raises(TooLarge):
            producer.submit_many([too_long])
        assert producer.stats()["requests"] == requests + 2  # a ping, whether it reads more by now; and this
        assert producer.stats()["errors"] == 0


def test_waiting_producers_get_everything_in_through_a_narrow_door(witness: str) -> None:
    """Two batches of 60 tasks at a time, through a queue of 3: all are accepted, and each runs once."""
    with running_broker("--capacity", "3", "--workers", "2") as narrow:
        accepted: list[str] = []

        def submit(number: int) -> None:
            with Producer(narrow.endpoint, on_full="wait", timeout_s=WAIT_S) as producer:
                tasks = [Task.of("record", witness).but(id=f"batch{number}-{n}") for n in range(60)]
                accepted.extend(verdict.id for verdict in producer.submit_many(tasks) if verdict.accepted)

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        with Producer(narrow.endpoint) as producer:
            assert len(accepted) == 120
            assert wait_for_end(producer, *accepted) == {"succeeded"}
            assert producer.stats()["rejected"]["full"] > 0  # it was narrow
    assert starts(witness) == dict.fromkeys(accepted, 1)


def test_row_26_a_stopped_broker_leaves_tasks_unknown_and_submitting_them_again_is_safe(witness: str) -> None:
    """SIGSTOP: `NoReply`, by the deadline. After SIGCONT the same tasks are accepted, and each runs exactly once."""
    with running_broker() as own, Producer(own.endpoint, timeout_s=0.6, reply_timeout_s=0.2) as impatient:
        one, many = Task.of("record", witness), [Task.of("record", witness) for _ in range(250)]
        impatient.ping()
        assert impatient.submit("noop").accepted
        with stopped(own), pytest.raises(NoReply) as unknown_one:
            impatient.submit(one)
        impatient.ping()
        with stopped(own), pytest.raises(NoReply) as unknown_many:
            impatient.submit_many(many)
        assert unknown_one.value.ids == (one.id,)
        assert set(unknown_many.value.ids) <= {task.id for task in many}
        assert len(unknown_many.value.ids) >= 100
        with Producer(own.endpoint, timeout_s=WAIT_S) as producer:
            assert producer.submit(one).accepted
            assert all(verdict.accepted for verdict in producer.submit_many(many))
            assert wait_for_end(producer, one.id, *(task.id for task in many)) == {"succeeded"}
    assert starts(witness) == dict.fromkeys([one.id, *(task.id for task in many)], 1)


def test_a_broker_that_was_stopped_before_the_first_call_is_unreachable() -> None:
    """Without an answer to the first ping nothing is submitted, so nothing is unknown."""
    with running_broker() as own, Producer(own.endpoint, timeout_s=0.5, reply_timeout_s=0.2) as producer, stopped(own):
        with pytest.raises(Unreachable) as caught:
            producer.submit("noop")
        assert caught.value.unknown_ids == ()


def test_row_47_threads_share_a_producer(broker: RunningBroker, witness: str) -> None:
    """Twelve threads submit alone and in batches through one producer: each gets the verdicts on its own tasks."""
    together = threading.Barrier(12)
    done: list[list[str]] = []

    with Producer(broker.endpoint, timeout_s=WAIT_S) as producer:

        def submit(number: int) -> None:
            tasks = [Task.of("record", witness).but(id=f"thread{number}-{n}") for n in range(60)]
            together.wait(WAIT_S)
            verdicts = [producer.submit(task) for task in tasks[:20]] + producer.submit_many(tasks[20:])
            assert [verdict.id for verdict in verdicts] == [task.id for task in tasks]
            assert all(isinstance(verdict, Accepted) and not verdict.duplicate for verdict in verdicts)
            done.append([task.id for task in tasks])

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        ids = [task_id for some in done for task_id in some]
        assert len(ids) == 12 * 60
        assert wait_for_end(producer, *ids) == {"succeeded"}
    assert starts(witness) == dict.fromkeys(ids, 1)


_AFTER_FORK = """
import ctypes, gc, os, sys, threading
from producer import Producer, ProducerClosed, Task

endpoint, leave = sys.argv[1:]
producer = Producer(endpoint)

def check(who):
    assert producer.submit("noop", who).accepted, who
    assert [v.accepted for v in producer.submit_many([Task.of("noop", who)] * 3)] == [True] * 3, who

def in_child(do):
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, do
        return
    try:
        do()
    except SystemExit:
        raise  # a grandchild on its way out
    except BaseException as error:
        print("child:", repr(error), file=sys.stderr)
        os._exit(1)
    if leave == "at once":
        os._exit(0)
    sys.exit(0)  # as a forked server's worker ends: everything that is left is collected

def closing():
    check("child")
    producer.close()

def dropping():
    global producer
    del producer
    gc.collect()
    producer = Producer(endpoint)
    check("child that made its own")
    producer.close()

check("parent")
in_child(lambda: check("child"))
in_child(closing)
check("parent")
in_child(dropping)
check("parent")
in_child(lambda: in_child(lambda: check("grandchild")))

# Forked by C code, which tells Python nothing.
child = ctypes.PyDLL(None).fork()
if child == 0:
    try:
        check("child of C code")
    except BaseException as error:
        print("child of C code:", repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

# Forked in the middle of a call: the child cannot end the parent's call; it hears so, and can begin its own.
def fork_here(_):
    global forked
    if not forked:
        forked = os.fork()
        if forked == 0:
            forked = -1

forked = 0
try:
    verdicts = producer.submit_many([Task.of("noop", n) for n in range(1000)], on_verdict=fork_here)
except ProducerClosed as error:
    assert forked == -1 and "fork" in str(error)
    check("child of a call")
    os._exit(0)
assert forked > 0 and len(verdicts) == 1000
assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0

# Forked while other threads are in calls.
going = True
def keep_on():
    while going:
        check("thread")
threads = [threading.Thread(target=keep_on) for _ in range(4)]
for thread in threads:
    thread.start()
leave = "at once"  # Python itself does not let a child of a threaded parent end otherwise without trouble
for _ in range(20):
    in_child(lambda: check("child beside threads"))
going = False
for thread in threads:
    thread.join()
check("parent")
producer.close()
print("all well")
"""


@pytest.mark.parametrize("leave", ["at once", "in order"])
def test_row_47_a_producer_is_used_after_a_fork(broker: RunningBroker, leave: str) -> None:
    """Child, grandchild and parent go on using it, also beside threads; a child cannot end the parent's call."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _AFTER_FORK, broker.endpoint, leave],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "all well\n", "")
