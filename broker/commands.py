"""`python -m broker COMMAND …`: what can be done beside running a broker. A table; each command has its own module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from broker.key_commands import keys_command

#: Takes its words, the environment, and what prints a line. Raises `SettingsError` for what cannot be.
Command: TypeAlias = Callable[[Sequence[str], Mapping[str, str], Callable[[str], None]], None]

COMMANDS: Final[Mapping[str, Command]] = {"keys": keys_command}
