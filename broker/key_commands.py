"""`python -m broker keys …`: makes, lists and revokes the keys of a closed door."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from broker.keys import KeyFolder, KeysError
from broker.settings import ENVIRONMENT_PREFIX, Parser, SettingsError

_EPILOG: Final = """\
A producer needs two files, its own secret key and the broker's public one:

  python -m broker keys create ada --keys /etc/turnstile
  python -m broker --tasks jobs --endpoint tcp://0.0.0.0:5555 \\
      --keys /etc/turnstile
  python -m producer --endpoint tcp://HOST:5555 \\
      --key ada.secret --broker-key broker.public ping

A running broker follows the folder: who is created can connect, who is revoked
cannot any more. A connection that is there already lasts; a restart of the
broker ends it.
"""


def keys_command(words: Sequence[str], environment: Mapping[str, str], say: Callable[[str], None]) -> bool:
    """Do what the words say; True. `SettingsError` for words that mean nothing, and for keys that cannot be."""
    parser = Parser(
        prog="python -m broker keys",
        description="The producers that a closed door lets in.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="make a producer's keys, and let it in", allow_abbrev=False)
    create.add_argument("names", nargs="+", metavar="NAME")
    create.add_argument("--if-missing", action="store_true", help="leave those that are there as they are")
    listing = commands.add_parser("list", help="the producers that are let in", allow_abbrev=False)
    revoke = commands.add_parser("revoke", help="let a producer in no more", allow_abbrev=False)
    revoke.add_argument("name", metavar="NAME")
    for command in (create, listing, revoke):
        command.add_argument(
            "--keys", metavar="FOLDER", default=environment.get(ENVIRONMENT_PREFIX + "KEYS") or None,
            help="where they are (default: TURNSTILE_KEYS)",
        )  # fmt: skip
    if not words:
        raise SettingsError(f"say what to do: {', '.join(commands.choices)} ({parser.prog} --help)")
    given = parser.parse_args(words)
    if given.keys is None:
        raise SettingsError("--keys FOLDER is required: where the keys are, or are to be")
    try:
        _COMMANDS[given.command](KeyFolder(Path(given.keys)), given, say)
    except (KeysError, OSError) as error:
        raise SettingsError(str(error)) from None
    return True


def _create(keys: KeyFolder, given: argparse.Namespace, say: Callable[[str], None]) -> None:
    for name in given.names:
        if keys.create(name, if_missing=given.if_missing):
            say(f"created {name}; give it {keys.secret_of(name)} and {keys.path / 'broker.public'}")
        else:
            say(f"{name} is there already")


def _list(keys: KeyFolder, _: argparse.Namespace, say: Callable[[str], None]) -> None:
    names = keys.names()
    for name, public in names.items():
        say(f"{name}  {public.decode()}")
    if not names:
        say(f"no producer has a key in {keys.path}: python -m broker keys create NAME makes one")


def _revoke(keys: KeyFolder, given: argparse.Namespace, say: Callable[[str], None]) -> None:
    keys.revoke(given.name)
    say(f"revoked {given.name}: its next connection is refused; one that it has now lasts until it ends")


_COMMANDS: Final = {"create": _create, "list": _list, "revoke": _revoke}
