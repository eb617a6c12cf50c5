"""Many tasks from many producers, one in 20 failing: do all sides count the same, to the unit?

`python -m tests.long.count [TASKS [PRODUCERS]]`
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from producer import Accepted, Producer, Task, Verdict

ROOT = Path(__file__).parents[2]


def produce(endpoint: str, first: int, last: int, pipe: Connection) -> None:
    """Submit the tasks of these numbers, and tell how many were accepted, told to wait, and accepted as duplicates."""
    accepted = duplicates = 0

    def count(verdict: Verdict) -> None:
        nonlocal accepted, duplicates
        assert isinstance(verdict, Accepted), verdict
        accepted += 1
        duplicates += verdict.duplicate

    with Producer(endpoint, on_full="wait", timeout_s=120, reply_timeout_s=30) as producer:
        producer.submit_many((Task.of("counted", number) for number in range(first, last)), on_verdict=count)
    pipe.send((accepted, duplicates))


def run(tasks: int, producers: int) -> dict[str, int]:
    """Run it; the ledger. AssertionError where the counts differ."""
    command = [sys.executable, "-m", "broker", "--tasks", "tests.long.counted", "--endpoint", "tcp://127.0.0.1:0"]
    command += ["--capacity", "10000", "--log-level", "error"]
    broker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert broker.stdout is not None
    try:
        endpoint = broker.stdout.readline().split("endpoint=")[1].split()[0]
        began = time.monotonic()
        spawn = multiprocessing.get_context("spawn")
        pipes, processes = [], []
        bounds = [tasks * index // producers for index in range(producers + 1)]
        for first, last in itertools.pairwise(bounds):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=produce, args=(endpoint, first, last, theirs))
            process.start()
            pipes.append(ours)
            processes.append(process)
        answers = [pipe.recv() for pipe in pipes]
        for process in processes:
            process.join()
        with Producer(endpoint) as producer, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "counts"
            while sum(producer.stats()["ledger"][state] for state in ("ready", "delayed", "running")):
                time.sleep(0.01)
            seconds = time.monotonic() - began
            stats = producer.stats()
            producer.submit("tell", str(path))
            while producer.stats()["ledger"]["succeeded"] != stats["ledger"]["succeeded"] + 1:
                time.sleep(0.01)
            counts = json.loads(path.read_text())
        ledger: dict[str, int] = stats["ledger"]
        always, once = (len([n for n in range(tasks) if n % 40 == rest]) for rest in (0, 20))
        assert sum(accepted for accepted, _ in answers) == ledger["accepted"] == tasks, (answers, ledger)
        assert sum(duplicates for _, duplicates in answers) == stats["duplicates"], (answers, stats["duplicates"])
        assert ledger["dead"] == always, (ledger, always)
        assert ledger["succeeded"] == counts["succeeded"] == tasks - always, (ledger, counts)
        assert counts["started"] == tasks + always + once, counts
        assert stats["retries"] == always + once, stats
        broker.send_signal(signal.SIGTERM)
        assert broker.wait(30) == 0
        print(f"{tasks:,} tasks from {producers} producers in {seconds:.1f} s ({tasks / seconds:,.0f}/s)")
        print(f"rejected and submitted again: {sum(stats['rejected'].values()):,}; ledger: {ledger}")
        print(f"task functions: {counts['started']:,} starts, {counts['succeeded']:,} successes: all sides agree")
        return ledger
    finally:
        broker.kill()
        broker.wait()
        broker.stdout.close()


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]] + [1_000_000, 8][len(sys.argv[1:]) :]
    run(*arguments)
