"""Containers that are killed, stopped and cut off under load; the history checker judges what came of it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.compose.conftest import StartStack
from tests.compose.engine import copy, docker, log
from tests.compose.load import BEGUN, PROGRESS
from tests.compose.stack import Stack, exit_code, until
from tests.history.checker import AnomalyError, Verdict, check
from tests.history.events import fault
from tests.history.history import History, Terms

#: What `witnessed.yml` says. Two processors may be shared by ten containers: an idle worker is not late for seconds.
TERMS = Terms(capacity=40, workers=3, child_workers=2, idle_s=10.0)


def submitted(producer: str) -> int:
    """How many tasks a producer has tried since it was last started."""
    lines = log(producer).rpartition(f"{BEGUN}\n")[2].split()
    return int(lines[-1].removeprefix(PROGRESS)) if lines else 0


def until_further(producer: str, count: int) -> None:
    """Wait until it has tried so many more."""
    goal = submitted(producer) + count
    until(lambda: submitted(producer) >= goal, f"{goal} tasks submitted")


def under_load(stack: Stack) -> list[str]:
    """The producers, all at work."""
    producers = stack.containers("files")
    for producer in producers:
        until_further(producer, 50)
    return producers


def judged(stack: Stack, folder: Path, *demand: str) -> Verdict:
    """End the producers, then the broker; what the history of all comes to."""
    for producer in stack.containers("files"):
        docker("stop", producer)
        assert exit_code(producer) == 0
    until(lambda: stack.stats()["held"] == 0, "all tasks have ended")
    assert stack.stop_broker() == 0
    return check(History.read(stack.history(folder)), TERMS, demand)


def kill_and_start_a_producer(stack: Stack, folder: Path) -> int:
    """Until it has submitted once more all that it had before; how many tasks that were."""
    victim, *_ = under_load(stack)
    with fault(folder, "kill_producer"):
        docker("kill", victim)
        assert exit_code(victim) == 137
    before = submitted(victim)
    docker("start", victim)
    until(lambda: log(victim).count(BEGUN) == 2, "the producer is back")
    until(lambda: submitted(victim) > before, "it is past where it was killed")
    return before


def test_a_producer_is_killed_and_starts_again(witnessed: StartStack, tmp_path: Path) -> None:
    """It submits the same tasks once more: what was accepted runs once, whether or not it had heard so."""
    stack = witnessed(3)
    before = kill_and_start_a_producer(stack, tmp_path)
    verdict = judged(stack, tmp_path, "duplicates", "retries")
    assert verdict.accepted > before


def test_a_broker_that_forgets_ids_is_caught(witnessed: StartStack, tmp_path: Path) -> None:
    """The same with a broker that is broken on purpose: what the containers' witnesses tell is enough to find it."""
    stack = witnessed(3, BROKEN="--broken forgets_ids")
    kill_and_start_a_producer(stack, tmp_path)
    with pytest.raises(AnomalyError, match=r"duplicate: .* causes for another one"):
        judged(stack, tmp_path)


def test_broker_is_stopped_under_load_and_started_again(witnessed: StartStack, tmp_path: Path) -> None:
    """`docker stop` drains: exit code 0, nothing returned; its successor serves the same producers."""
    stack = witnessed(3)
    producers = under_load(stack)
    assert stack.stop_broker() == 0
    (report,) = stack.reports()
    assert (report["outcome"], report["returned"]) == ("finished", 0)
    docker("start", stack.broker)
    until_further(producers[0], 50)
    judged(stack, tmp_path, "rejections")
    assert len(stack.reports()) == 2


def test_drain_deadline_passes_and_the_volume_keeps_what_is_left(witnessed: StartStack, tmp_path: Path) -> None:
    """Exit code 5, and a file that only the broker can read; the next start loads it, and every task ends."""
    stack = witnessed(3, DRAIN_S="0", SLOW_S="0.5")
    producers = under_load(stack)
    until(lambda: stack.stats()["held"] > 10, "tasks wait")
    assert stack.stop_broker() == 5
    for producer in producers:
        docker("stop", producer)
    (report,) = stack.reports()
    assert report["returned"] == report["saved"] != 0
    state = tmp_path / "state"
    state.mkdir()
    (spill,) = copy(stack.broker, "/state", state).rglob("*.spill")
    assert stat.S_IMODE(spill.stat().st_mode) == 0o600
    docker("start", stack.broker)
    until(lambda: log(stack.broker).count("turnstile ready") == 2, "the broker is back")
    judged(stack, tmp_path, "returned")


def test_broker_is_killed_and_started(witnessed: StartStack, tmp_path: Path) -> None:
    """SIGKILL under load: what it held is lost, and nothing else; its successor gets the same producers."""
    stack = witnessed(3)
    producers = under_load(stack)
    until(lambda: stack.stats()["ledger"]["ready"] > 10, "tasks wait")
    (life,) = History.read(stack.history(tmp_path)).lives
    with fault(tmp_path, "kill", pid=life.boot["pid"]):
        docker("kill", stack.broker)
        assert exit_code(stack.broker) == 137
    docker("start", stack.broker)
    until(lambda: log(stack.broker).count("turnstile ready") == 2, "the broker is back")
    until_further(producers[0], 50)
    verdict = judged(stack, tmp_path, "kill_in_flight")
    assert verdict.loss_window > 0


def test_a_producer_is_cut_off_and_connected_again(witnessed: StartStack, tmp_path: Path) -> None:
    """It learns that an outcome is unknown, others go on; then it goes on too. Nothing is lost or run twice."""
    stack = witnessed(3)
    victim, other, *_ = under_load(stack)
    with fault(tmp_path, "disconnect"):
        docker("network", "disconnect", stack.network, victim)
        until_further(victim, 3)
        until_further(other, 50)
    docker("network", "connect", stack.network, victim)
    until_further(victim, 50)
    judged(stack, tmp_path, "unknowns")
