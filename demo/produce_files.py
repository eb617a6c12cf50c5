"""A producer: submits one `measure_file` task for each Python file of a directory tree.

    python -m demo.produce_files --endpoint tcp://127.0.0.1:5555 [DIRECTORY]

The tree is larger than the queue, so most tasks are turned away at first: the broker is full, and says when to come
back. `on_full="wait"` has the producer do so. Several can share a tree (`--share 1/2` and `--share 2/2`); or each
submits all of it and need not know of the others: a file is the same task whoever submits it, and is measured once.
"""

# ruff: noqa: T201 - a command line prints

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping

from demo.options import keys_of, options_of_sources
from demo.sources import Source, sources
from demo.tasks import measure_file
from producer import Accepted, Producer, Rejected, Task, TurnstileError


def main(environment: Mapping[str, str]) -> int:
    """Submit the tasks; 0 if all were accepted."""
    options = _options(environment)
    number, producers = map(int, options.share.split("/"))
    files = sources(options.directory, options.files)[number - 1 :: producers]
    out = str(options.out.resolve())  # the broker may run in another folder

    # A task function and its arguments: a type checker sees a wrong one.
    tasks = [Task.of(measure_file, out, file.directory, file.path).but(id=_id_of(out, file)) for file in files]

    with Producer(options.endpoint, on_full="wait", timeout_s=60, keys=keys_of(options)) as producer:
        verdicts = producer.submit_many(tasks)

    # A rejection is a value. What is rejected now waited a minute for room, or is of no use to the broker at all.
    rejected = [verdict for verdict in verdicts if isinstance(verdict, Rejected)]
    for verdict in rejected[:5]:
        print(f"{verdict.id} was rejected: {verdict.reason}: {verdict.detail}", file=sys.stderr)
    duplicates = sum(isinstance(verdict, Accepted) and verdict.duplicate for verdict in verdicts)
    print(f"submitted={len(tasks)} accepted={len(tasks) - len(rejected)} duplicates={duplicates}")
    return 1 if rejected else 0


def _id_of(out: str, file: Source) -> str:
    """Derived from the work, not drawn: submitted by another producer, or once more, it is the same task."""
    work = repr((out, file.directory, file.path))
    return f"measure-{hashlib.sha256(work.encode()).hexdigest()[:24]}"


def _options(environment: Mapping[str, str]) -> argparse.Namespace:
    parser = options_of_sources("produce_files", "Submit a task for each Python file of a directory tree.", environment)
    parser.add_argument("--share", default="1/1", help="which part of the files to submit, such as 1/2 (default: all)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main(os.environ))
    except TurnstileError as error:  # no broker there, or no reply: an error, for the outcome is not known
        sys.exit(f"{error}")
