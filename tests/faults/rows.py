"""The list: every fault to survive, what holds under it, and the tests that show it.

A test belongs to a row by its name: `test_row_18_peers_of_other_kinds`, `test_rows_22_and_32_…`, `test_s14_…`. So the
table of which test shows what is read from what pytest collects, and cannot name a test that is not run.

`python -m tests.faults.rows` prints it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

#: Row → (the fault, what holds).
ROWS: Final[dict[str, tuple[str, str]]] = {
    "1": ("a task raises, also what cannot be printed", "`retries + 1` runs, then a dead letter with a reason"),
    "2": ("the queue is full", "the first `capacity` are accepted, the rest rejected at once, with `retry_after`"),
    "3": ("SIGTERM with tasks queued and running", "`draining`; ends by the deadline; what is left is returned by id"),
    "4": ("a second signal while draining", "ends within a second, with its report and its own exit code"),
    "5": ("Ctrl-C when idle", "exit code 0, within a second"),
    "6": ("no broker at submit", "a clear error by the deadline; no ghost task later"),
    "7": ("a reply is lost, and the task is sent again", "`duplicate`, one execution; rejected if every copy was"),
    "8": ("producers are killed between send and receive", "each task runs once; descriptors are given back"),
    "9": ("`kill -9` of the broker", "what was accepted and unfinished is lost, no more; the port is free at once"),
    "11": ("a task never ends", "on a thread: shown, and replaced; in a child host: ended, one attempt spent"),
    "12": ("all workers are stuck", "the queue fills and rejects; health is degraded"),
    "13": ("tasks that compute", "in child hosts they leave the door's replies alone"),
    "14": ("an unknown task name, wrong arguments", "rejected at submit, with the nearest name or the parameter"),
    "15": ("arguments that cannot be packed", "an error at the producer, naming the path of the value"),
    "16": ("a task at the limit of size, and beyond", "an error before sending; a raw peer gets no task in"),
    "17": ("a second broker on the same endpoint", "a clear error and exit code; the first one is unharmed"),
    "18": ("peers that are no producers", "an error reply or none; others are served"),
    "19": ("malformed msgpack", "one reply each; memory stays, the log is quiet"),
    "20": ("deep, huge and lying structures", "refused soon"),
    "21": ("HTTP, TLS, ssh, a port scan, half a greeting", "no task gets in; the connection is closed"),
    "22": ("a task raises SystemExit, KeyboardInterrupt, …", "one attempt; all workers are alive"),
    "23": ("a task kills its process", "in a child host: one attempt, a new child; `crashed` after several"),
    "24": ("a task forks", "no second broker; a restart is not held up"),
    "25": ("a producer that sends byte by byte", "others are served between any two of them"),
    "26": ("the broker is stopped for a while", "producers learn *unknown*; nothing is lost, duplicates are known"),
    "28": ("thousands of connections", "all are answered"),
    "29": ("no file descriptor is left", "who is connected is served; one warning; it recovers"),
    "30": ("one producer floods", "memory is flat; the others get their tasks in"),
    "31": ("ten times too many tasks", "accepted + rejected = submitted; memory is flat"),
    "32": ("a task runs out of memory or stack", "one attempt"),
    "34": ("nobody reads the log: full, or stopped", "submits are answered"),
    "42": ("starts and stops beside each other", "no deadlock, no thread or descriptor is left"),
    "43": ("an exception at the n-th call of a seam", "a reply, or a clean stop"),
    "45": ("10,000 tasks that always fail", "others are accepted and run"),
    "46": ("an id that is used twice", "a duplicate, a conflict, or new after the window"),
    "47": ("a producer shared by threads, or used after a fork", "it works"),
    "s1": ("a web page posts to the port", "no task gets in"),
    "s2": ("another user of the machine", "an ipc door is its owner's alone"),
    "s3": ("a peer from the network", "refused without a key on the list, and told so"),
    "s4": ("code by name", "`unknown_task`"),
    "s9": ("log lines from outside", "shown, not obeyed; cut"),
    "s10": ("tables keyed by what producers send", "bounded"),
    "s14": ("key files that others can touch", "refused"),
    "s15": ("the authenticator dies", "nobody is let in"),
}

_NAMED: Final = re.compile(r"test_(?:rows?_)?(?P<rows>s?\d+(?:_and_s?\d+)*)_")


def rows_of(test: str) -> list[str]:
    """The rows that a test is named after."""
    match = _NAMED.match(test)
    return match["rows"].split("_and_") if match else []


def collected() -> list[str]:
    """The node ids of all tests, without their parameters; as pytest collects them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ids = (line.partition("[")[0] for line in listed.stdout.splitlines() if "::" in line)
    return list(dict.fromkeys(ids))


def index(node_ids: Iterable[str]) -> dict[str, list[str]]:
    """Row → the tests named after it."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for node_id in node_ids:
        for row in rows_of(node_id.rpartition("::")[2]):
            found.setdefault(row, []).append(node_id)
    return found


if __name__ == "__main__":
    try:
        found = index(collected())
    except subprocess.CalledProcessError as error:
        sys.exit(f"the tests cannot be collected (make check installs what they need): {error.stderr or error.stdout}")
    for row, tests in found.items():
        print(f"{row}: {': '.join(ROWS[row])}")  # noqa: T201 - the table
        for test in tests:
            print(f"    {test}")  # noqa: T201
