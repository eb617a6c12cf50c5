"""`python -m broker dead|cancel|pause|resume …`: the command line of the operator's door."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from broker.log import one_line
from broker.operator import OperatorOp, TaskOutcome
from broker.operator_client import OperatorClient, OperatorError
from broker.protocol import DEFAULT_ENDPOINT, MAX_DEAD_LISTED, Op
from broker.settings import ENVIRONMENT_PREFIX, Parser, SettingsError, operator_path
from broker.states import State

_EPILOG: Final = """\
The broker is found by its endpoint, by the user who started it; one that was
started with --operator PATH, by that.

exit codes:
  0    all was done
  1    not all
  2    wrong words
  9    no broker answers
  130  interrupted
"""

_IDS_IN_REQUEST: Final = 10  # with the longest ids they fit the smallest --message-bytes

_Say: TypeAlias = Callable[[str], None]


def dead_command(words: Sequence[str], environment: Mapping[str, str], say: _Say) -> bool:
    """Dead letters: list, show, requeue, discard. Whether all was done; `SettingsError`, `NoBrokerError`."""
    parser = _parser("dead", "The tasks that will not run again, and why.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the newest first", allow_abbrev=False)
    listing.add_argument("--limit", type=int, default=20, metavar="N", help=f"1 to {MAX_DEAD_LISTED} (default: 20)")
    listing.add_argument("--offset", type=int, default=0, metavar="N", help="leave out so many (default: 0)")
    show = commands.add_parser("show", help="one of them: its arguments, its error, its trace", allow_abbrev=False)
    show.add_argument("id", metavar="ID")
    requeue = commands.add_parser(
        "requeue", help="accept the task again, as if it were new, if there is room", allow_abbrev=False
    )
    discard = commands.add_parser("discard", help="keep the letter no longer; the task stays dead", allow_abbrev=False)
    for command in (requeue, discard):
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", nargs="*", default=[], metavar="ID")
        which.add_argument("--all", action="store_true", help="all that are kept now, the oldest first")
    for command in (listing, show, requeue, discard):
        _add_where(command, environment)
    if not words:
        raise SettingsError(f"say what to do: {', '.join(commands.choices)} ({parser.prog} --help)")
    return _do(parser, words, environment, say)


def _command_of(verb: str, description: str, *, names_tasks: bool = False) -> Callable[..., bool]:
    def command(words: Sequence[str], environment: Mapping[str, str], say: _Say) -> bool:
        parser = _parser(verb, description)
        if names_tasks:
            parser.add_argument("ids", nargs="+", metavar="ID")
        _add_where(parser, environment)
        parser.set_defaults(command=verb)
        return _do(parser, words, environment, say)

    return command


def _parser(command: str, description: str) -> Parser:
    return Parser(
        prog=f"python -m broker {command}",
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_where(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    for name, metavar, default in (("endpoint", "ENDPOINT", DEFAULT_ENDPOINT), ("operator", "PATH", "auto")):
        variable = ENVIRONMENT_PREFIX + name.upper()
        parser.add_argument(
            f"--{name}", metavar=metavar, default=environment.get(variable) or default,
            help=f"as the broker was given it (default: {variable}, or {default})",
        )  # fmt: skip


def _do(parser: Parser, words: Sequence[str], environment: Mapping[str, str], say: _Say) -> bool:
    given = parser.parse_args(words)
    path = operator_path(given.operator, given.endpoint, environment)
    if path is None:
        raise SettingsError("--operator PATH is required: a broker with port 0, or --operator none, is not found")
    try:
        with OperatorClient(path) as client:
            return _COMMANDS[given.command](client, given, say)
    except OperatorError as error:
        raise SettingsError(str(error)) from None


def _list(client: OperatorClient, given: argparse.Namespace, say: _Say) -> bool:
    reply = client.ask(Op.DEAD, limit=given.limit, offset=given.offset)
    for letter in reply["dead"]:
        say(_line_of(letter))
    say(f"{len(reply['dead'])} of {reply['total']} dead letters, newest first")
    return True


def _show(client: OperatorClient, given: argparse.Namespace, say: _Say) -> bool:
    letter = client.ask(OperatorOp.LETTER, id=given.id)["letter"]
    if letter is None:
        say(f"{given.id}: no dead letter of this id is kept")
        return False
    say(_line_of(letter))
    say(f"accepted {_when(letter['accepted_at'])}")
    say(f"args {one_line(repr(letter['args']))}")
    say(f"kwargs {one_line(repr(letter['kwargs']))}")
    for line in letter["trace"].splitlines():
        say(f"| {one_line(line)}")
    return True


def _requeue(client: OperatorClient, given: argparse.Namespace, say: _Say) -> bool:
    return _for_each(client, OperatorOp.REQUEUE, TaskOutcome.REQUEUED, _named(client, given), say)


def _discard(client: OperatorClient, given: argparse.Namespace, say: _Say) -> bool:
    return _for_each(client, OperatorOp.DISCARD, TaskOutcome.DISCARDED, _named(client, given), say)


def _cancel(client: OperatorClient, given: argparse.Namespace, say: _Say) -> bool:
    return _for_each(client, OperatorOp.CANCEL, State.CANCELLED, given.ids, say)


def _pause(client: OperatorClient, _: argparse.Namespace, say: _Say) -> bool:
    client.ask(OperatorOp.PAUSE)
    say("paused: no attempt begins until resume; tasks are accepted while there is room")
    return True


def _resume(client: OperatorClient, _: argparse.Namespace, say: _Say) -> bool:
    client.ask(OperatorOp.RESUME)
    say("resumed")
    return True


_COMMANDS: Final[Mapping[str, Callable[[OperatorClient, argparse.Namespace, _Say], bool]]] = {
    "list": _list, "show": _show, "requeue": _requeue, "discard": _discard,
    "cancel": _cancel, "pause": _pause, "resume": _resume,
}  # fmt: skip


def _named(client: OperatorClient, given: argparse.Namespace) -> list[str]:
    """The ids that are meant, the oldest letter first.

    All are listed before anything is done to any: letters come and go meanwhile, and a page that moved would be missed.
    They are listed from the newest on, so that those that come push others into a later page, never out of one.
    """
    if not given.all:
        return list(given.ids)
    ids: dict[str, None] = {}
    offset = 0
    while page := client.ask(Op.DEAD, limit=MAX_DEAD_LISTED, offset=offset)["dead"]:
        ids.update(dict.fromkeys(letter["id"] for letter in page))
        offset += len(page)
    return list(reversed(ids))


def _for_each(client: OperatorClient, op: str, wanted: str, ids: Sequence[str], say: _Say) -> bool:
    """Ask for each of them, and say what became of it; whether that is what was wanted of all."""
    done = True
    for first in range(0, len(ids), _IDS_IN_REQUEST):
        for one in client.ask(op, ids=list(ids[first : first + _IDS_IN_REQUEST]))["outcomes"]:
            say(f"{one['id']}: {one['outcome']}")
            done = done and one["outcome"] == wanted
    return done


def _line_of(letter: Mapping[str, Any]) -> str:
    runs = "1 attempt" if letter["attempts"] == 1 else f"{letter['attempts']} attempts"
    what = f"{letter['id']}  {one_line(letter['name'])}  {letter['reason']} after {runs}"
    return f"{_when(letter['died_at'])}  {what}: {one_line(letter['error'])}"


def _when(unix_time: float) -> str:
    return datetime.datetime.fromtimestamp(unix_time).astimezone().isoformat(" ", "seconds")


cancel_command: Final = _command_of(
    "cancel", "Take back tasks that are ready or delayed. One that runs is not touched.", names_tasks=True
)
pause_command: Final = _command_of(
    "pause", "Begin no attempt from now on. Tasks are accepted while there is room,\nand what runs goes on."
)
resume_command: Final = _command_of("resume", "Go on where pause stopped.")
