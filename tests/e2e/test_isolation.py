"""Tasks in child hosts: what takes a process down costs attempts, never the broker. Rows 11, 13, 23 and 24."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.broker_process import A_SECOND, ROOT
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.isolation import PATIENCE_S, TASKS, children, letter_of, starts, wait_until_gone
from tests.e2e.raw import packed
from tests.witness import notes


def test_isolated_tasks_run_in_child_hosts_and_others_in_the_broker(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """As they are declared, in one broker."""
    broker = start_broker("--child-hosts", "1", tasks=TASKS)
    raw = connect(broker)
    raw.submit("child", witness, id="isolated")
    raw.submit("ordinary", witness, id="ordinary")
    raw.wait_for(succeeded=2)
    hosts = {one["id"]: one["host"] for one in notes(witness)}
    assert hosts["ordinary"] == broker.pid
    assert hosts["isolated"] in [one.pid for one in children(broker)]


def test_isolate_runs_everything_in_child_hosts(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """With `--isolate`, and several at a time in each, if that is asked for; the ready line counts them all."""
    broker = start_broker("--isolate", "--child-hosts", "2", "--child-workers", "3", tasks="tests.jobs")
    assert "workers=6 " in broker.output
    raw = connect(broker)
    for number in range(60):
        raw.submit("record", witness, number, id=f"t{number}")
    raw.wait_for(succeeded=60)
    assert {one["pid"] for one in notes(witness)} <= {one.pid for one in children(broker)}
    assert sorted(one["id"] for one in notes(witness)) == sorted(f"t{number}" for number in range(60))


@pytest.mark.parametrize(
    ("how", "words"),
    [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("exit", "exited with code 3"), ("kill", "SIGKILL")],
)
def test_row_23_a_task_that_kills_its_process_costs_attempts(
    start_broker: StartBroker, connect: Connect, witness: str, how: str, words: str
) -> None:
    """One attempt each, a new child each time, and after its retries a dead letter `crashed` that says how."""
    broker = start_broker("--child-hosts", "1", tasks=TASKS)
    raw = connect(broker)
    raw.submit("dies", witness, how, id="killer", retries=1)
    raw.wait_for(dead=1)
    assert starts(witness, "killer") == [1, 2]
    letter = letter_of(raw, "killer")
    assert (letter["reason"], letter["attempts"]) == ("crashed", 2)
    assert words in str(letter["error"])
    raw.submit("child", witness, id="after")
    raw.wait_for(succeeded=1, dead=1)
    assert broker.stop() == 0


def test_row_23_a_task_that_killed_three_hosts_is_not_given_another(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """The poison guard: whatever its retries, after `--poison-after` hosts it is a dead letter."""
    raw = connect(start_broker("--child-hosts", "1", "--poison-after", "3", tasks=TASKS))
    raw.submit("dies", witness, "kill", id="poison", retries=50)
    raw.wait_for(dead=1)
    assert starts(witness, "poison") == [1, 2, 3]
    letter = letter_of(raw, "poison")
    assert letter["reason"] == "crashed"
    assert letter["error"] == "ChildHostDied: it was killed by SIGKILL; child hosts that died while it ran: 3"


def test_row_23_a_killed_host_costs_its_task_one_attempt(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """A host that an operator or the kernel kills: its task runs again and succeeds."""
    raw = connect(start_broker("--child-hosts", "1", tasks=TASKS))
    raw.submit("dies_once", witness, id="victim")
    stats = raw.wait_for(succeeded=1)
    assert starts(witness, "victim") == [1, 2]
    assert stats["retries"] == 1
    assert stats["health"]["state"] == "degraded"
    assert [one["reason"] for one in stats["health"]["reasons"]] == ["child_hosts_died"]


def test_row_23_a_process_that_a_dead_host_leaves_behind_hides_no_death(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """It holds the host's end of the channel open; and it is ended, too."""
    raw = connect(start_broker("--child-hosts", "1", tasks=TASKS))
    raw.submit("leaves_a_process", witness, id="leaver")
    raw.wait_for(dead=1)
    (left,) = [one["left"] for one in notes(witness) if one["event"] == "left"]
    wait_until_gone(left)


def test_row_24_a_copy_that_a_task_forks_in_a_host_says_nothing(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """The copy returns from the task; the broker hears of one end, the worker's, and goes on with it."""
    raw = connect(start_broker("--child-hosts", "1", tasks=TASKS))
    for number in range(5):
        raw.submit("forks", witness, id=f"fork-{number}")
    raw.wait_for(succeeded=5)
    for number in range(5):
        assert starts(witness, f"fork-{number}") == [1]


def test_row_11_a_task_past_its_limit_is_ended_in_a_child_host(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """Its host is killed, which costs it one attempt; then a dead letter `timed_out`. That is what the limit is for: a
    warning, and no trouble.
    """
    broker = start_broker("--child-hosts", "1", tasks=TASKS)
    raw = connect(broker)
    raw.submit("loops", witness, id="endless", retries=1)
    assert raw.wait_for(dead=1)["health"] == {"state": "ok", "reasons": []}
    assert broker.says("WARNING turnstile.worker_host child host 1 was ended: task id=endless name=loops reached its")
    assert starts(witness, "endless") == [1, 2]
    letter = letter_of(raw, "endless")
    assert (letter["reason"], letter["attempts"]) == ("timed_out", 2)
    assert "0.3 s" in str(letter["error"])
    raw.submit("child", witness, id="after")  # which the second child's successor runs
    raw.wait_for(dead=1, succeeded=1)
    assert broker.stop() == 0
    assert broker.output.count(" reached its time limit of 0.3 s; another one takes its place\n") == 2
    assert "ERROR" not in broker.output


def test_row_11_what_ran_beside_an_endless_task_does_not_pay_for_it(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: object
) -> None:
    """It is displaced: made again, with the same number, although it has no retry at all."""
    broker = start_broker("--child-hosts", "1", "--child-workers", "2", tasks=TASKS)
    raw = connect(broker)
    until = f"{tmp_path}/until"
    raw.submit("holds", witness, until, id="bystander", retries=0)
    raw.wait_for(running=1)
    raw.submit("loops", witness, id="endless", retries=0)
    raw.wait_for(dead=1)
    Path(until).touch()
    stats = raw.wait_for(succeeded=1, dead=1)
    assert starts(witness, "bystander") == [1, 1]
    assert (stats["displaced"], stats["retries"]) == (1, 0)


def test_row_11_a_stuck_thread_is_shown_and_replaced(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: object
) -> None:
    """On a thread of the broker: health is degraded, the stack is in the stats and in the log, others still run."""
    broker = start_broker("--workers", "1", "--spare-workers", "1", tasks=TASKS)
    raw = connect(broker)
    until = f"{tmp_path}/until"
    raw.submit("sticks", witness, until, id="stuck")
    raw.submit("ordinary", witness, id="beside")
    stats = raw.wait_for(succeeded=1, running=1)
    (stuck,) = stats["stuck"]
    assert (stuck["id"], stuck["name"], stuck["attempt"]) == ("stuck", "sticks", 1)
    assert "time.sleep(0.01)" in stuck["stack"]
    assert stats["health"]["state"] == "degraded"
    assert broker.says("stuck task id=stuck name=sticks attempt=1")
    Path(until).touch()
    stats = raw.wait_for(succeeded=2)
    assert (stats["stuck"], stats["health"]["state"]) == ([], "ok")


def test_row_12_all_workers_stuck_is_no_secret(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: object
) -> None:
    """Without spares: the queue fills, rejects, and the health says why; a stop returns what is left, by name."""
    broker = start_broker("--workers", "2", "--spare-workers", "0", "--capacity", "3", "--drain-s", "0.1", tasks=TASKS)
    raw = connect(broker)
    for number in range(3):
        raw.submit("sticks", witness, f"{tmp_path}/never", id=f"stuck-{number}")
    assert raw.submit("ordinary", witness)["reason"] == "full"
    deadline = time.monotonic() + PATIENCE_S
    while len((stats := raw.stats())["stuck"]) < 2:
        assert time.monotonic() < deadline
    assert [one["reason"] for one in stats["health"]["reasons"]] == ["stuck_tasks", "workers_lost"]
    assert broker.stop() == 5
    assert sorted(broker.returned_ids) == ["stuck-0", "stuck-1", "stuck-2"]


def test_failures_in_a_child_host_are_those_of_a_thread(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """The same retries, the same dead letter, with the error and the trace that the task left."""
    raw = connect(start_broker("--child-hosts", "1", tasks=TASKS))
    raw.submit("raises", witness, id="doomed")
    raw.wait_for(dead=1)
    letter = letter_of(raw, "doomed")
    assert (letter["reason"], letter["error"]) == ("retries_exhausted", "ValueError: as ever")
    assert 'raise ValueError("as ever")' in str(letter["trace"])


def test_drain_finishes_what_child_hosts_run(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: object
) -> None:
    """One code path: SIGTERM, the task ends, exit 0; and no child is left."""
    broker = start_broker("--child-hosts", "2", tasks=TASKS)
    raw = connect(broker)
    until = f"{tmp_path}/until"
    for number in range(4):
        raw.submit("holds", witness, until, id=f"t{number}")
    raw.wait_for(running=2, ready=2)
    hosts = children(broker)
    broker.signal(signal.SIGTERM)
    while raw.ask("ping")["phase"] != "draining":
        pass
    Path(until).touch()
    assert broker.exit_code() == 0
    assert (broker.report["succeeded"], broker.report["returned"]) == (4, 0)
    for host in hosts:
        wait_until_gone(host.pid)


def test_deadline_returns_what_child_hosts_run(
    start_broker: StartBroker, connect: Connect, witness: str, tmp_path: object
) -> None:
    """Named, counted as busy, ended with their hosts: nothing of them runs on when the report is out."""
    broker = start_broker("--child-hosts", "2", "--drain-s", "0.1", tasks=TASKS)
    raw = connect(broker)
    for number in range(3):
        raw.submit("holds", witness, f"{tmp_path}/never", id=f"t{number}")
    raw.wait_for(running=2, ready=1)
    hosts = children(broker)
    began = time.monotonic()
    assert broker.stop() == 5
    assert time.monotonic() - began < 0.1 + A_SECOND
    assert sorted(broker.returned_ids) == ["t0", "t1", "t2"]
    assert (broker.report["returned"], broker.report["busy_workers"]) == (3, 2)
    for host in hosts:
        wait_until_gone(host.pid)


def test_row_23_a_task_that_loses_its_channel_costs_its_host(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """It closes what it did not open, and its end is never heard of: one attempt, `crashed`; others go on."""
    raw = connect(start_broker("--child-hosts", "1", tasks=TASKS))
    raw.submit("loses_its_channel", witness, id="loser")
    raw.submit("child", witness, id="after")
    raw.wait_for(dead=1, succeeded=1)
    assert letter_of(raw, "loser")["reason"] == "crashed"


def test_child_hosts_that_are_killed_while_idle_are_replaced(
    start_broker: StartBroker, connect: Connect, witness: str
) -> None:
    """Nobody pays: a task that is lent to the dead one is given back, and lent to the next."""
    broker = start_broker("--child-hosts", "2", tasks=TASKS)
    raw = connect(broker)
    for number in range(20):
        for host in children(broker):
            host.kill()
        raw.submit("child", witness, id=f"t{number}", retries=0)
        raw.wait_for(succeeded=number + 1)
    assert len(notes(witness)) == 20


def test_health_command_tells_by_its_exit_code(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """0 if all is well, 1 if not, another one if nobody is there; and the reasons in words."""
    broker = start_broker("--child-hosts", "1", tasks=TASKS)

    def health(endpoint: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "producer", "--endpoint", endpoint, "--timeout", "5", "health"]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert (health(broker.endpoint).returncode, health(broker.endpoint).stdout) == (0, "ok\n")
    raw = connect(broker)
    raw.submit("dies", witness, "exit", retries=0)
    raw.wait_for(dead=1)
    degraded = health(broker.endpoint)
    assert degraded.returncode == 1
    assert degraded.stdout.splitlines() == [
        "degraded",
        "  child_hosts_died: child hosts that died in the last 60 s: 1",
    ]
    assert broker.stop() == 0
    assert health(broker.endpoint).returncode not in {0, 1}


def test_row_13_the_worst_three_beside_a_thousand(start_broker: StartBroker, connect: Connect, witness: str) -> None:
    """A segfault, an endless loop and a spinning task among ordinary ones: those succeed, and the letters say why."""
    raw = connect(start_broker(tasks="tests.isolated"))
    worst = [
        packed("dies", witness, "segfault", id="segfault", retries=1),
        packed("loops", witness, id="endless", retries=1),
        packed("spins", witness, 0.5, id="spinning"),
    ]
    ordinary = [packed("ordinary", witness, id=f"o{number}") for number in range(1_000)]
    messages = [ordinary[first : first + 250] for first in range(0, len(ordinary), 250)]  # a thousand are over 64 KiB
    for tasks in (worst, *messages):
        verdicts = raw.ask("submit", tasks=tasks)["verdicts"]
        assert {verdict["verdict"] for verdict in verdicts} == {"accepted"}
    raw.wait_for(succeeded=1_001, dead=2)
    assert letter_of(raw, "segfault")["reason"] == "crashed"
    assert letter_of(raw, "endless")["reason"] == "timed_out"
