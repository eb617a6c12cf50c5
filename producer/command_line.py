"""The words of the command line: what can be said, and what is done for it. Exit codes are `__main__`'s affair."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from io import TextIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from broker.protocol import DEFAULT_ENDPOINT
from producer.errors import BadEndpoint
from producer.keys import Keys
from producer.producer import Producer
from producer.tables import dead_table, health_lines, pong_line, printable, stats_table, status_line, verdict_line
from producer.task_file import TaskFile
from producer.task_lines import task_of_words

_ENDPOINT_VARIABLE: Final = "TURNSTILE_ENDPOINT"
_KEY_VARIABLE: Final = "TURNSTILE_KEY"
_BROKER_KEY_VARIABLE: Final = "TURNSTILE_BROKER_KEY"
_FAILED: Final = frozenset({"dead", "cancelled", "expired", "returned"})  # states that end a task that did not succeed


class UsageError(Exception):
    """Words that mean nothing; the message says what would."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Where the command line reads and writes."""

    input: BinaryIO | None  #: None where the process was started without
    output: TextIOBase
    errors: TextIOBase


def run(words: Sequence[str], environment: Mapping[str, str], streams: Streams) -> bool:
    """Do what `words` say; whether the answer was the hoped-for one. Raises `UsageError` and what `Producer` raises."""
    parser = _parser(environment)
    options, rest = parser.parse_known_args(words)
    if rest:
        hint = "" if rest[0].startswith("-") else ": arguments come before options"
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    try:
        good: bool = options.command(options, streams)
    except BadEndpoint as error:
        of_environment = options.endpoint == environment.get(_ENDPOINT_VARIABLE)
        raise UsageError(f"{_ENDPOINT_VARIABLE}: {error}" if of_environment else str(error)) from None
    return good


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m producer",
        description="Submit tasks to a Turnstile broker, and ask it about them.",
        epilog="Exit codes: 0 accepted, or answered; 1 rejected, a line that is no task, or a task that failed or is "
        "unknown; 2 these words mean nothing, or the task cannot be sent; 3 no broker there, what has no verdict was "
        "not submitted; 4 no reply, the outcome is unknown; 130 interrupted.",
        allow_abbrev=False,
    )
    _add_way(parser)
    parser.set_defaults(
        endpoint=environment.get(_ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT,
        key=environment.get(_KEY_VARIABLE) or None,
        broker_key=environment.get(_BROKER_KEY_VARIABLE) or None,
        timeout=5.0,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_submit(commands)
    _add_submit_many(commands)
    command = commands.add_parser("stats", help="the ledger and the figures", allow_abbrev=False)
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.set_defaults(command=_stats)
    command = commands.add_parser(
        "health",
        help="whether the broker is well: exit code 0 if it is",
        description="Tell the broker's health: ok, degraded or draining, with the reasons. Exit code 0 if it is ok.",
        allow_abbrev=False,
    )
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.set_defaults(command=_health)
    command = commands.add_parser("status", help="where a task is", allow_abbrev=False)
    command.add_argument("id")
    command.add_argument("--json", action="store_true", help="as one JSON object, or null")
    command.set_defaults(command=_status)
    command = commands.add_parser("dead", help="the dead letters that are kept, newest first", allow_abbrev=False)
    command.add_argument("--limit", type=int, default=20, help="so many at most, 1 to 50 (default: 20)")
    command.add_argument("--offset", type=int, default=0, help="after so many (default: 0)")
    command.add_argument("--traces", action="store_true", help="with the end of each traceback")
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.set_defaults(command=_dead)
    command = commands.add_parser("ping", help="whether the broker is there", allow_abbrev=False)
    command.set_defaults(command=_ping)
    for command in commands.choices.values():
        _add_way(command)
    return parser


def _add_way(parser: argparse.ArgumentParser) -> None:
    """The way to the broker: it may stand before the command or after it. Without defaults, which would stand after."""
    parser.add_argument(
        "--endpoint",
        default=argparse.SUPPRESS,
        help=f"where the broker listens (default: {_ENDPOINT_VARIABLE}, or {DEFAULT_ENDPOINT})",
    )
    parser.add_argument(
        "--key",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"this producer's secret key, where the broker asks for one (default: {_KEY_VARIABLE})",
    )
    parser.add_argument(
        "--broker-key",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"the broker's public key, with it (default: {_BROKER_KEY_VARIABLE})",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=argparse.SUPPRESS,
        metavar="SECONDS",
        help="to reach the broker in (default: 5)",
    )


def _add_submit(commands: Any) -> None:
    command = commands.add_parser(
        "submit",
        help="submit one task",
        description="Submit one task. Does not wait for it to run: `status` tells how far it is.",
        epilog="""Example: submit send_email ada@example.org '{"urgent": true}' --kwarg copies=2""",
        allow_abbrev=False,
    )
    command.add_argument("name", help="the task's name")
    command.add_argument(
        "argument",
        nargs="*",
        default=[],  # or a missing name is told as if this were missing, too
        help="""a JSON value, or else the text itself; '"17"' is the text 17. After --, what
        begins with a dash is an argument too""",
    )
    command.add_argument("--kwarg", action="append", default=[], metavar="KEY=VALUE", help="an argument by keyword")
    command.add_argument("--id", help="the task's id; the same id again is the same task (default: a random one)")
    command.add_argument("--retries", type=int, help="runs after the first (default: as the task function declares)")
    command.add_argument("--delay", type=float, metavar="SECONDS", help="run it no sooner than this")
    command.add_argument("--expires", type=float, metavar="SECONDS", help="do not begin to run it after this")
    command.add_argument("--wait", type=float, metavar="SECONDS", help="wait so long for room in a full queue")
    command.set_defaults(command=_submit)


def _add_submit_many(commands: Any) -> None:
    command = commands.add_parser(
        "submit-many",
        help="submit a task for each line of a file",
        description="Submit a task for each line: a JSON object with the fields name, args, kwargs, id, retries, "
        "delay_s, expires_s, of which only name is needed. Lines that are no task are named, and the others go on.",
        epilog="Give each line an id, and the file can be submitted again after whatever happened: what was accepted "
        "is not run again.",
        allow_abbrev=False,
    )
    command.add_argument("file", help="the file; - is the standard input")
    command.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS",
        help="how long each task waits for room in a full queue; 0: not at all (default: 60)",
    )  # fmt: skip
    command.set_defaults(command=_submit_many)


def _submit(options: argparse.Namespace, streams: Streams) -> bool:
    task = task_of_words(options.name, options.argument, options.kwarg)
    task = task.but(retries=options.retries, delay_s=options.delay, expires_s=options.expires)
    if options.id is not None:
        task = task.but(id=options.id)
    with _producer(options) as producer:
        producer.ping()  # so that a broker that is not there is noticed in --timeout, however long the task may wait
    with _producer(options, options.wait) as producer:
        try:
            verdict = producer.submit(task)
        except KeyboardInterrupt:
            streams.errors.write(f"whether task {task.id} was accepted is unknown\n")
            raise
    streams.output.write(verdict_line(verdict) + "\n")
    return verdict.accepted


def _submit_many(options: argparse.Namespace, streams: Streams) -> bool:
    with _producer(options) as producer:
        limits = producer.ping().limits
    with _open(options.file, streams) as file, _producer(options, options.wait) as producer:
        tasks = TaskFile(file, limits, streams.errors)
        try:
            producer.submit_many(tasks, on_verdict=tasks.settled)
        except KeyboardInterrupt:
            if tasks.without_verdict:
                streams.errors.write("what has no verdict yet may have been accepted\n")
            raise
        finally:
            streams.output.write(tasks.report() + "\n")
    return tasks.is_good


def _open(path: str, streams: Streams) -> AbstractContextManager[BinaryIO]:
    if path == "-":
        if streams.input is None:
            raise UsageError("cannot read -: there is no standard input")
        return nullcontext(streams.input)
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _stats(options: argparse.Namespace, streams: Streams) -> bool:
    with _producer(options) as producer:
        stats = producer.stats()
    streams.output.write((_as_json(stats) if options.json else stats_table(stats)) + "\n")
    return True


def _health(options: argparse.Namespace, streams: Streams) -> bool:
    with _producer(options) as producer:
        health = producer.health()
    streams.output.write((_as_json(health) if options.json else health_lines(health)) + "\n")
    return bool(health["state"] == "ok")


def _status(options: argparse.Namespace, streams: Streams) -> bool:
    with _producer(options) as producer:
        status = producer.status(options.id)
    if options.json:
        text = _as_json(status and asdict(status))
    else:
        text = status_line(status) if status else f"unknown id={printable(options.id)}: never accepted, or forgotten"
    streams.output.write(text + "\n")
    return status is not None and status.state not in _FAILED


def _dead(options: argparse.Namespace, streams: Streams) -> bool:
    with _producer(options) as producer:
        page = producer.dead(options.limit, options.offset)
    text = _as_json(asdict(page)) if options.json else dead_table(page, options.offset, traces=options.traces)
    streams.output.write(text + "\n")
    return True


def _ping(options: argparse.Namespace, streams: Streams) -> bool:
    with _producer(options) as producer:
        began = time.monotonic()
        pong = producer.ping()
        streams.output.write(pong_line(pong, time.monotonic() - began) + "\n")
    return True


def _as_json(value: object) -> str:
    # A newer broker's figures may hold bytes, which JSON has no form for.
    return json.dumps(value, default=str)


def _producer(options: argparse.Namespace, wait_s: float | None = None) -> Producer:
    if (options.key is None) != (options.broker_key is None):
        raise UsageError("--key and --broker-key go together: the producer's secret key, and the broker's public one")
    keys = Keys.read(options.key, options.broker_key) if options.key is not None else None
    try:
        if wait_s:
            return Producer(options.endpoint, on_full="wait", timeout_s=wait_s, keys=keys)
        return Producer(options.endpoint, timeout_s=options.timeout, keys=keys)
    except ValueError as error:
        raise UsageError(str(error).replace("timeout_s", "--wait" if wait_s else "--timeout")) from None
