"""`python -m broker COMMAND …`: what can be done beside running a broker. A table; each command has its own module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from broker.key_commands import keys_command
from broker.operator_commands import cancel_command, dead_command, pause_command, resume_command

#: Takes its words, the environment, and what prints a line; whether all was done. Raises `SettingsError` for what
#: cannot be, and `NoBrokerError`.
Command: TypeAlias = Callable[[Sequence[str], Mapping[str, str], Callable[[str], None]], bool]

COMMANDS: Final[Mapping[str, Command]] = {
    "keys": keys_command,
    "dead": dead_command,
    "cancel": cancel_command,
    "pause": pause_command,
    "resume": resume_command,
}
#: Those of the producers' program, for who looks for one here.
OF_PRODUCERS: Final = frozenset({"submit", "submit-many", "stats", "health", "status", "ping"})
