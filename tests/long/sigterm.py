"""SIGTERM at a random moment of load: does the broker end in time, and account for every task that it accepted?

`python -m tests.long.sigterm [ROUNDS [SEED]]`
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import zmq

from tests.e2e.raw import Raw, check_balance, packed
from tests.witness import notes

ROOT = Path(__file__).parents[2]
DRAIN_S = 0.4


class Load:
    """A producer on a thread, that submits until the door is closed, and remembers what it was told."""

    def __init__(self, endpoint: str, witness: str, seed: int, enough: threading.Event) -> None:
        self.accepted: set[str] = set()
        self.unknown: set[str] = set()
        self.rejected: set[str] = set()
        self._arguments = endpoint, witness, random.Random(seed), enough, seed
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        endpoint, witness, rng, enough, seed = self._arguments
        moment = rng.randrange(1, 60)
        with Raw(endpoint) as raw:
            raw.socket.rcvtimeo = 1_500
            for turn in range(10_000):
                ids = [f"p{seed}-{turn}-{number}" for number in range(rng.choice((1, 1, 5, 40)))]
                tasks = [self._task(task_id, witness, rng, hard=bool(seed & 2)) for task_id in ids]
                try:
                    verdicts = raw.ask("submit", tasks=tasks)["verdicts"]
                except zmq.Again:
                    self.unknown.update(ids)
                    return
                for verdict in verdicts:
                    told = self.accepted if verdict["verdict"] == "accepted" else self.rejected
                    told.add(verdict["id"])
                if turn >= moment:
                    enough.set()

    @staticmethod
    def _task(task_id: str, witness: str, rng: random.Random, *, hard: bool) -> bytes:
        kind = rng.random()
        if kind < 0.7:
            return packed("ends", witness, 0.0, id=task_id)
        if kind < 0.85:
            return packed("ends", witness, rng.choice((0.01, 0.05, 0.3) if hard else (0.001, 0.01)), id=task_id)
        if kind < 0.95:
            retries = rng.randrange(3)
            return packed("fails", witness, retries, id=task_id, retries=retries)
        return packed("ends", witness, 0.0, id=task_id, delay_s=rng.choice((0.05, 0.3, 5.0) if hard else (0.05, 0.1)))


def one_round(seed: int) -> dict[str, Any]:
    """Start, load, stop; what came of it. AssertionError where a promise is broken."""
    with tempfile.TemporaryDirectory() as folder:
        witness, log = str(Path(folder) / "witness"), Path(folder) / "log"
        command = [sys.executable, "-m", "broker", "--tasks", "tests.long.ending", "--endpoint", "tcp://127.0.0.1:0"]
        command += ["--drain-s", str(DRAIN_S), "--capacity", "300", "--workers", "4"]
        with log.open("wb") as sink:
            broker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True, cwd=ROOT)
        assert broker.stdout is not None
        try:
            endpoint = broker.stdout.readline().split("endpoint=")[1].split()[0]
            enough = threading.Event()
            loads = [Load(endpoint, witness, seed * 2 + number, enough) for number in range(2)]
            for load in loads:
                load.thread.start()
            assert enough.wait(60)
            began = time.monotonic()
            broker.send_signal(signal.SIGTERM)
            report = broker.stdout.read()
            reported_ns = time.monotonic_ns()
            code = broker.wait(30)
            took = time.monotonic() - began
            for load in loads:
                load.thread.join(30)
            words = dict(word.split("=") for word in report.split()[2:])
            outcome = words.pop("outcome")
            busy, _ = int(words.pop("busy_workers")), words.pop("saved")
            ledger = {name: int(count) for name, count in words.items()}
            returned = set(re.findall(r" returned id=(\S+)", log.read_text()))
            events = notes(witness)
        finally:
            broker.kill()
            broker.wait()
            broker.stdout.close()
    accepted = set().union(*(load.accepted for load in loads))
    unknown = set().union(*(load.unknown for load in loads))
    rejected = set().union(*(load.rejected for load in loads))
    started = {event["id"] for event in events if event["event"] == "start"}
    ended = {event["id"] for event in events if event["event"] in {"end", "dead"}}
    check_balance(ledger)
    assert took < DRAIN_S + 1, took
    assert (code, outcome) in {(0, "finished"), (5, "deadline")}, (code, outcome)
    assert (code == 0) == (ledger["returned"] == 0), ledger
    assert len(returned) == ledger["returned"], (len(returned), ledger)
    assert ledger["ready"] + ledger["delayed"] + ledger["running"] == 0, ledger
    assert not accepted - ended - returned, accepted - ended - returned
    assert not rejected & started, rejected & started
    assert len(accepted) <= ledger["accepted"] <= len(accepted | unknown), (len(accepted), ledger, len(unknown))
    assert all(event["at_ns"] < reported_ns for event in events)
    return {"accepted": len(accepted), "returned": len(returned), "code": code, "busy": busy, "took": took}


def run(rounds: int, seed: int) -> None:
    """So many rounds, and what came of them."""
    results = []
    for number in range(rounds):
        results.append(one_round(seed + number))
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    finished = sum(result["code"] == 0 for result in results)
    print(f"{rounds} stops at random moments of load, seed {seed}: {finished} finished, {rounds - finished} cut off")
    print(
        f"accepted {sum(result['accepted'] for result in results):,}, "
        f"returned by name {sum(result['returned'] for result in results):,}, unaccounted for 0; "
        f"longest stop {max(result['took'] for result in results):.2f} s with a drain deadline of {DRAIN_S} s"
    )
    assert 0 < finished < rounds, "vacuous: all stops ended alike"


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    run(given[0] if given else 200, given[1] if len(given) > 1 else int.from_bytes(os.urandom(3)))
