"""What a broker can be told: one frozen dataclass, validated once, before anything starts.

Each field is a flag (`--capacity-bytes`) and an environment variable (`TURNSTILE_CAPACITY_BYTES`); the flag wins. The
field's metadata is its help. This module reads neither: `parse` is handed both. It reads the current folder, for
`absolute`.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from broker.endpoint import EndpointError, absolute, check_endpoint, ipc_path, is_any_port
from broker.protocol import DEFAULT_ENDPOINT, DEFAULT_MESSAGE_BYTES

ENVIRONMENT_PREFIX: Final = "TURNSTILE_"
#: What the command line of producers reads there: one environment may serve both.
_OF_PRODUCERS: Final = ("KEY", "BROKER_KEY")
#: Of 1, for the same name: one letter in five may be wrong. Less would take what orchestrators put in for misspelt.
_NEAR: Final = 0.8
_METAVARS: Final = {"int": "N", "float": "SECONDS"}  # of those that name none
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class SettingsError(ValueError):
    """A setting that cannot be; the message names it, its value and what is allowed."""


def _setting(
    default: Any, help_text: str, at_least: float | None = None, at_most: float | None = None, metavar: str = ""
) -> Any:
    metadata = {"help": help_text, "at_least": at_least, "at_most": at_most, "metavar": metavar}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a broker. `SettingsError` on construction if one of them cannot be."""

    tasks: str = _setting(
        "", "modules that hold the task functions, separated by commas, such as demo.tasks (required)",
        metavar="MODULES",
    )  # fmt: skip
    endpoint: str = _setting(
        DEFAULT_ENDPOINT, "where to listen: tcp://127.0.0.1:PORT (0: any free port) or ipc://PATH", metavar="ENDPOINT"
    )
    workers: int = _setting(8, "worker threads: so many tasks run at the same time", 1, 1_000)
    spare_workers: int = _setting(
        8, "threads that may take the place of workers whose task is past its time limit and cannot be ended", 0, 1_000
    )
    isolate: bool = _setting(
        default=False, help_text="run every task in a child host, not only those declared with @task(isolate=True)"
    )
    child_hosts: int = _setting(0, "child processes for isolated tasks; 0: one for each core", 0, 100)
    child_workers: int = _setting(
        1, "tasks that run at the same time in each; more than 1: a task that crashes takes others with it", 1, 100
    )
    child_nice: int = _setting(
        5, "niceness of child hosts: with busy cores, the higher it is, the quicker the broker's answers", 0, 19
    )
    poison_after: int = _setting(
        3, "a task that was running when so many child hosts died becomes a dead letter", 1, 100
    )
    capacity: int = _setting(10_000, "tasks that are held at most: ready + delayed + running", 1, 100_000_000)
    capacity_bytes: int = _setting(64 * 1024 * 1024, "the same bound in bytes, as received", 64, 2**40)
    message_bytes: int = _setting(DEFAULT_MESSAGE_BYTES, "the longest request that is read, in bytes", 1_024, 2**26)
    remember_ids: int = _setting(
        100_000, "ids of ended tasks that are remembered, to answer a resend with its verdict", 0, 100_000_000
    )
    remember_s: float = _setting(86_400.0, "seconds that each of them is remembered at most", 0, 31_536_000)
    dead_letters: int = _setting(1_000, "dead letters that are kept, the newest ones", 0, 1_000_000)
    dead_letters_bytes: int = _setting(16 * 1024 * 1024, "the same in bytes", 0, 2**40)
    spill: str = _setting(
        "auto",
        "file for tasks that a stop leaves unfinished; the next start loads it. auto: a file in "
        "~/.local/state/turnstile for this endpoint and these task modules (for port 0: none); none: name such tasks "
        "in the log only",
        metavar="FILE|auto|none",
    )
    operator: str = _setting(
        "auto",
        "socket of the operator's door (python -m broker dead --help), in a folder that nobody else can enter. "
        "auto: one in ~/.local/state/turnstile/operator for this endpoint (for port 0: none); none: no such door",
        metavar="PATH|auto|none",
    )
    drain_s: float = _setting(25.0, "seconds to finish accepted tasks after SIGTERM or SIGINT", 0, 86_400)
    switch_interval_s: float = _setting(
        0.0005, "seconds a thread may keep the interpreter from the others; smaller: a quicker door", 0.00001, 1
    )
    log_level: str = _setting("info", "least severe messages to log: " + ", ".join(_LOG_LEVELS), metavar="LEVEL")
    keys: str = _setting(
        "", "close the door: let in only producers with a key in this folder (python -m broker keys --help)",
        metavar="FOLDER",
    )  # fmt: skip
    insecure: bool = _setting(
        default=False, help_text="without keys, allow an endpoint that others can reach; whoever can connect can submit"
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value, low, high = getattr(self, one.name), one.metadata["at_least"], one.metadata["at_most"]
            if low is not None and not low <= value <= high:  # NaN is outside too
                raise SettingsError(f"{_flag(one)} is {low:,} to {high:,}, not {value}")
        if not self.modules:
            raise SettingsError("--tasks is required: the modules that hold the task functions, such as demo.tasks")
        if self.spill not in {"auto", "none"} and not Path(self.spill).name:
            raise SettingsError(f"--spill is auto, none or the path of a file, not '{self.spill}'")
        if self.operator not in {"auto", "none"}:
            try:
                check_endpoint(f"ipc://{self.operator}", anyone=False)
            except EndpointError as error:
                raise SettingsError(f"--operator is auto, none or a path: {error}") from None
        if self.log_level not in _LOG_LEVELS:
            raise SettingsError(f"--log-level is one of {', '.join(_LOG_LEVELS)}; not '{self.log_level}'")
        if self.insecure and self.keys:
            raise SettingsError(
                "--insecure and --keys contradict each other: a door with keys is closed; leave one out"
            )
        try:
            check_endpoint(self.endpoint, anyone=self.insecure or bool(self.keys))
        except EndpointError as error:
            raise SettingsError(f"--endpoint: {error}") from None
        self._check_paths()

    def _check_paths(self) -> None:
        paths = {"--endpoint": ipc_path(self.endpoint), "--spill": self.spill, "--operator": self.operator}
        taken: dict[Path, str] = {}
        for flag, path in paths.items():
            if path not in {None, "auto", "none"} and (other := taken.setdefault(Path(path), flag)) != flag:
                raise SettingsError(f"{other} and {flag} are both {path}: each needs a path of its own")

    def absolute(self) -> Settings:
        """The same, with the paths that they have from the current folder: a task may go to another one."""
        paths: dict[str, Any] = {
            name: str(Path(value).absolute())
            for name in ("spill", "operator", "keys")
            if (value := getattr(self, name)) not in {"auto", "none", ""}
        }
        return replace(self, endpoint=absolute(self.endpoint), **paths)

    def spill_path(self, environment: Mapping[str, str]) -> Path | None:
        """Where returned tasks are saved; None: nowhere. `environment` tells where its user keeps state."""
        if self.spill == "none":
            return None
        if self.spill != "auto":
            return Path(self.spill)
        if is_any_port(self.endpoint):
            return None  # a port that is another one next time: nobody would find the file
        # The tasks of other modules are another broker's: this one could not run them, and must not save over them.
        of_endpoint, of_tasks = map(_digest, (self.endpoint, "\n".join(sorted(set(self.modules)))))
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", self.endpoint)[-60:]
        return _state_folder(environment) / f"{readable}-{of_endpoint}-{of_tasks}.spill"

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the task modules."""
        return tuple(name.strip() for name in self.tasks.split(",") if name.strip())


def operator_path(operator: str, endpoint: str, environment: Mapping[str, str]) -> Path | None:
    """Where the operator's door of the broker at `endpoint` is, if its setting is `operator`; None: nowhere."""
    if operator == "none" or (operator == "auto" and is_any_port(endpoint)):
        return None
    if operator != "auto":
        return Path(operator)
    return _state_folder(environment) / "operator" / _digest(absolute(endpoint))  # the path of a socket must be short


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from flags, then environment, then defaults.

    `SettingsError` for a value that cannot be; `SystemExit` from `--help` alone.
    """
    values: dict[str, Any] = {}
    flags = vars(_parser().parse_args(arguments))
    for one in fields(Settings):
        variable = ENVIRONMENT_PREFIX + one.name.upper()
        if flags[one.name] is not None:
            values[one.name] = _convert(one, flags[one.name], _flag(one))
        elif environment.get(variable, "") != "":
            values[one.name] = _convert(one, environment[variable], variable)
    return Settings(**values)


def misspelt(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that are no setting, and look as if one was meant; that one, for each."""
    settings = [one.name.upper() for one in fields(Settings)]
    found = {}
    for variable, text in environment.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name == variable or name in {*settings, *_OF_PRODUCERS} or not text:
            continue
        for near in difflib.get_close_matches(name, settings, n=1, cutoff=_NEAR):
            found[variable] = ENVIRONMENT_PREFIX + near
    return found


class Parser(argparse.ArgumentParser):
    """Tells what is wrong with its words as a `SettingsError`."""

    def error(self, message: str) -> NoReturn:
        """For argparse."""
        raise SettingsError(message)


_USAGE: Final = """\
python -m broker --tasks MODULES [--SETTING VALUE ...]
       python -m broker COMMAND ...
       python -m broker --states"""

_DESCRIPTION: Final = """\
Hold a bounded queue of tasks, and run them on worker threads.

commands, each with a --help of its own:
  dead      list, show, requeue and discard dead letters
  cancel    take back tasks that no worker has
  pause     begin no attempt from now on
  resume    begin attempts again
  keys      let in producers of other machines

--states prints the life of a task.
"""

_EPILOG: Final = """\
Each setting can also be given in the environment: --capacity-bytes is
TURNSTILE_CAPACITY_BYTES.

SIGTERM, SIGINT (Ctrl-C) or SIGHUP (unless nohup) drains: nothing new is
accepted, what was accepted is finished, and one line reports. A second one
cuts it short.

exit codes:
  0  all accepted tasks came to their end
  1  the broker failed
  2  a setting is wrong
  3  the task modules cannot be loaded
  4  the endpoint cannot be bound
  5  not everything was finished by the drain deadline; tasks were returned
  6  a second signal cut the drain short; tasks were returned
  7  the file of returned tasks cannot be loaded; it is left as it is
  8  tasks were returned, and could not be saved
  9  no broker answers at the operator's door
130  Ctrl-C before the broker was ready, or in a command
"""


def _parser() -> Parser:
    parser = Parser(
        prog="python -m broker",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for one in fields(Settings):
        text = one.metadata["help"]
        if one.type == "bool":
            parser.add_argument(_flag(one), dest=one.name, action="store_const", const="yes", help=text)
        else:
            if one.default != "":
                text += f" (default: {one.default})"
            metavar = one.metadata["metavar"] or _METAVARS[str(one.type)]
            parser.add_argument(_flag(one), dest=one.name, metavar=metavar, help=text)
    return parser


def _flag(one: Field[Any]) -> str:
    return "--" + one.name.replace("_", "-")


def _convert(one: Field[Any], text: str, source: str) -> Any:
    if one.type == "bool":
        if text.lower() in {"1", "yes", "true", "on"}:
            return True
        if text.lower() in {"0", "no", "false", "off"}:
            return False
        raise SettingsError(f"{source} is yes or no, not '{text}'")
    kind = {"int": int, "float": float, "str": str}[str(one.type)]
    try:
        return kind(text)
    except ValueError:
        noun = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{source} is {noun}, not '{text}'") from None


def _state_folder(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME", "/")) / ".local" / "state"
    return Path(home).absolute() / "turnstile"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
