"""A producer: has the files' results added up by package, and then a report made of the sums.

    python -m demo.produce_report --endpoint tcp://127.0.0.1:5555 [DIRECTORY]

Two ways to have one task wait for another. The `aggregate_package` tasks are submitted at once, while files are still
being measured: each finds out for itself that its input is not there yet, and asks to be tried again later. The report
is submitted when the packages are done, which this producer learns by asking for their status.
In the first way the waiting tasks hold rooms of the queue: its capacity must be above their number, or the tasks that
they wait for could never get in.
"""

# ruff: noqa: T201 - a command line prints

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from demo.options import keys_of, options_of_sources
from demo.sources import packages, sources
from demo.tasks import aggregate_package, write_report
from producer import Producer, Rejected, Task, TurnstileError, Verdict


def main(environment: Mapping[str, str]) -> int:
    """Submit and wait; 0 if the report was made."""
    description = "Have the measured files added up, and a report written."
    options = options_of_sources("produce_report", description, environment).parse_args()
    out = str(options.out.resolve())
    counts = packages(sources(options.directory, options.files))
    with Producer(options.endpoint, on_full="wait", timeout_s=60, keys=keys_of(options)) as producer:
        verdicts = producer.submit_many(Task.of(aggregate_package, out, package, n) for package, n in counts.items())
        ends = [_end_of(producer, verdict) for verdict in verdicts]
        if all(end == "succeeded" for end in ends):
            ledger = producer.stats()["ledger"]
            ends.append(_end_of(producer, producer.submit(write_report, out, str(options.directory[0]), ledger)))
    failed = [end for end in ends if end != "succeeded"]
    print(f"submitted={len(ends)} succeeded={len(ends) - len(failed)}")
    for end in failed:
        print(end, file=sys.stderr)
    return 1 if failed else 0


def _end_of(producer: Producer, verdict: Verdict) -> str:
    """Wait until the task has ended; `succeeded`, or how it ended instead."""
    if isinstance(verdict, Rejected):
        return f"task {verdict.id} was rejected: {verdict.reason}: {verdict.detail}"
    while (status := producer.status(verdict.id)) is not None and status.state in {"ready", "delayed", "running"}:
        time.sleep(0.1)
    if status is not None and status.state == "succeeded":
        return "succeeded"
    errors = [letter.error for letter in producer.dead(limit=50).letters if letter.id == verdict.id]
    return f"task {verdict.id} is {status.state if status else 'forgotten'}: {', '.join(errors) or 'no dead letter'}"


if __name__ == "__main__":
    try:
        sys.exit(main(os.environ))
    except TurnstileError as error:  # no broker there, or no reply: an error, for the outcome is not known
        sys.exit(f"{error}")
