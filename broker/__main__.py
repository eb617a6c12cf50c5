"""`python -m broker`: the process around a broker. Only this module knows argv, the environment and exit codes."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

import zmq

from broker.bell import Bell
from broker.commands import COMMANDS, OF_PRODUCERS
from broker.descriptors import raise_limit
from broker.endpoint import EndpointError, InUseError, check_endpoint, make_private
from broker.interpreter import KEPT_KEYS, keeps_every_key
from broker.keys import KeysError
from broker.log import ALWAYS, LineLog, open_log
from broker.operator_client import NoBrokerError
from broker.settings import Settings, SettingsError, misspelt, operator_path, parse
from broker.spill import SpillError, of_other_tasks, prepare
from broker.states import as_text
from broker.stop_signals import outlive
from broker.supervisor import Outcome, Supervisor
from worker_host.contract import Trouble
from worker_host.loading import LoadError, load
from worker_host.tasks import TaskFunction

_log = logging.getLogger("turnstile.broker")


class Exit(IntEnum):
    """How the process ends."""

    FINISHED = 0  #: everything that was accepted came to its end
    FAILED = 1  #: a part of the broker died
    BAD_SETTING = 2
    BAD_TASKS = 3  #: the task modules cannot be loaded
    CANNOT_BIND = 4  #: the endpoint is in use, or not to be had
    DEADLINE = 5  #: not everything could be finished by the drain deadline; tasks were returned
    HASTENED = 6  #: a second signal cut the drain short
    BAD_SPILL = 7  #: the file of returned tasks cannot be loaded
    NOT_SAVED = 8  #: tasks were returned, and could not be saved
    NO_BROKER = 9  #: no broker answers at the operator's door
    INTERRUPTED = 130  #: Ctrl-C in a command, or before the broker was ready


#: Seconds that a reader of standard output or of the log gets to take the last lines.
_TELL_S = 0.3

_EXITS = {
    Outcome.FINISHED: Exit.FINISHED,
    Outcome.FAILED: Exit.FAILED,
    Outcome.DEADLINE: Exit.DEADLINE,
    Outcome.HASTENED: Exit.HASTENED,
}


class CannotStartError(Exception):
    """The broker cannot start; the message is for the terminal."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


def main() -> None:
    """Run a broker until it is told to stop. Does not return."""
    _fill_standard_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What tasks print is seen when they print it, in a file or pipe too.
        sys.stdout.reconfigure(line_buffering=True)
    if sys.argv[1:] == ["--states"]:
        print(as_text())
        sys.exit(0)
    try:
        is_command = sys.argv[1:] and not sys.argv[1].startswith("-")
        code = _command(sys.argv[1:]) if is_command else _run(sys.argv[1:], os.environ)
    except CannotStartError as error:
        print(f"turnstile: {error}", file=sys.stderr)
        code = error.code
    except SystemExit:  # --help
        raise
    except KeyboardInterrupt:
        print("turnstile: interrupted before it was ready", file=sys.stderr)
        code = Exit.INTERRUPTED
    # A fault in the shutdown itself: said, as every end is, and with the exit code of a failure.
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = Exit.FAILED
    _leave(code)


def _command(words: list[str]) -> Exit:
    """Do something else than to run a broker."""
    command = COMMANDS.get(words[0])
    try:
        if command is None:
            there = f" (python -m producer {words[0]})" if words[0] in OF_PRODUCERS else ""
            known = ", ".join(COMMANDS)
            raise SettingsError(f"there is no command '{words[0]}'{there}, but {known}; settings begin with --")
        return Exit.FINISHED if command(words[1:], os.environ, _print) else Exit.FAILED
    except KeyboardInterrupt:
        raise CannotStartError(Exit.INTERRUPTED, "interrupted; what was said so far is done") from None
    except SettingsError as error:
        raise CannotStartError(Exit.BAD_SETTING, str(error)) from None
    except NoBrokerError as error:
        raise CannotStartError(Exit.NO_BROKER, str(error)) from None


def _print(line: str) -> None:
    """A line of a command's. That nobody reads it is no reason to leave the rest undone."""
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


def _run(arguments: list[str], environment: Mapping[str, str]) -> Exit:
    try:
        settings = parse(arguments, environment).absolute()
    except SettingsError as error:
        raise CannotStartError(Exit.BAD_SETTING, f"{error} (python -m broker --help lists the settings)") from None
    folder = _folder()
    functions = _load(settings)
    sys.setswitchinterval(settings.switch_interval_s)
    raise_limit()
    log = open_log(settings.log_level)
    for variable, near in misspelt(environment).items():
        log.say("%s is no setting, and ignored: %s is one", variable, near)
    # From here on a stop is a drain, also while what another broker returned is being loaded. The signals' numbers
    # arrive at the supervisor through the bell; a handler only keeps Python from doing what it does without one, that
    # is, from ending the process.
    bell = Bell()
    signal.set_wakeup_fd(bell.writer)
    outlive()
    supervisor = _bind(settings, functions, log, environment, bell, folder)
    _open_operators_door(supervisor, settings, environment)
    os.register_at_fork(after_in_child=supervisor.disown)
    supervisor.start()
    if keeps_every_key():
        _log.warning(KEPT_KEYS, extra=ALWAYS)
    _say(
        f"turnstile ready endpoint={supervisor.endpoint} workers={supervisor.workers} capacity={settings.capacity} "
        f"capacity_bytes={settings.capacity_bytes} tasks={','.join(sorted(functions))}"
    )
    report = supervisor.run()
    log.finish(_TELL_S)
    _say(report.as_line())
    if settings.spill_path(environment) is not None and report.saved < len(report.returned):
        return Exit.NOT_SAVED
    return _EXITS[report.outcome]


def _fill_standard_descriptors() -> None:
    """Open /dev/null where standard input, output or error is closed, or the first socket would be taken for it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only
    os.close(descriptor)


def _load(settings: Settings) -> dict[str, TaskFunction]:
    try:
        return load(settings.modules)
    except LoadError as error:
        raise CannotStartError(Exit.BAD_TASKS, str(error)) from None


def _folder() -> str:
    """Where this process was started, before any task may go elsewhere."""
    folder = "."
    with contextlib.suppress(FileNotFoundError):  # it was removed: what runs from elsewhere may still do so
        folder = str(Path.cwd())
    return folder


def _child_command(settings: Settings) -> list[str]:
    """What starts a child host: this very interpreter, with the flags that it was given, and this very package.

    `-m broker.child` would look in the current folder first, where a package of the user's may have that name.
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # as multiprocessing does
    script = "import sys; sys.path.append(sys.argv.pop(1)); from broker.child import main; main()"
    options = [
        "--tasks",
        ",".join(settings.modules),
        "--log-level",
        settings.log_level,
        "--nice",
        str(settings.child_nice),
    ]
    return [sys.executable, *flags, "-P", "-c", script, str(Path(__file__).parents[1]), *options]


def _spill(settings: Settings, environment: Mapping[str, str]) -> tuple[Path | None, list[Trouble]]:
    """Where returned tasks go, and what is wrong if they should go somewhere and cannot."""
    path = settings.spill_path(environment)
    if path is None:
        return None, []
    is_usual = settings.spill == "auto"
    try:
        prepare(path, make_folder=is_usual)
    except OSError as error:
        if not is_usual:
            is_missing = isinstance(error, FileNotFoundError) and not path.parent.exists()
            hint = f"make its folder first (mkdir -p {path.parent}), or " if is_missing else ""
            message = f"no file can be written beside --spill {path}: {error.strerror}; {hint}choose another, or none"
            raise CannotStartError(Exit.BAD_SETTING, message) from None
        detail = f"no file can be written in {path.parent}: {error.strerror}; name one with --spill, or say none"
        lost = "tasks that a stop leaves unfinished cannot be saved, and none that an earlier one left is loaded"
        _log.warning("%s: %s", lost, detail, extra=ALWAYS)
        return None, [Trouble("no_spill", detail)]
    for other in of_other_tasks(path) if is_usual else ():
        _log.warning("%s holds tasks of this endpoint for other task modules; --spill loads them", other, extra=ALWAYS)
    return path, []


def _open_operators_door(supervisor: Supervisor, settings: Settings, environment: Mapping[str, str]) -> None:
    """Where there is to be one. If the usual one cannot be, the broker is degraded; one that was asked for must be."""
    path = operator_path(settings.operator, settings.endpoint, environment)
    if path is None:
        return
    try:
        check_endpoint(f"ipc://{path}", anyone=False)
        make_private(path.parent)
        supervisor.open_operators_door(path)
    except (EndpointError, zmq.ZMQError, OSError) as error:
        if settings.operator != "auto" or isinstance(error, InUseError):
            supervisor.abandon()
            code = Exit.CANNOT_BIND if isinstance(error, InUseError) else Exit.BAD_SETTING
            raise CannotStartError(code, f"--operator: {error}; choose another path, or none") from None
        detail = f"{error}; name a path with --operator, or say none"
        supervisor.note(Trouble("no_operator_door", detail))
        _log.warning("there is no operator's door: %s", detail, extra=ALWAYS)
    else:
        _log.info("operator's door at %s", path)


def _bind(
    settings: Settings,
    functions: Mapping[str, TaskFunction],
    log: LineLog,
    environment: Mapping[str, str],
    bell: Bell,
    folder: str,
) -> Supervisor:
    spill, standing = _spill(settings, environment)
    command = _child_command(settings)
    try:
        return Supervisor(settings, functions, log, spill, command, folder, bell=bell, standing=standing)
    except SpillError as error:
        raise CannotStartError(Exit.BAD_SPILL, str(error)) from None
    except KeysError as error:
        raise CannotStartError(Exit.BAD_SETTING, f"--keys: {error}") from None
    except EndpointError as error:
        raise CannotStartError(Exit.CANNOT_BIND, f"--endpoint: {error}") from None
    except InUseError as error:
        message = f"{error}: stop it, or choose another --endpoint or --spill"
        raise CannotStartError(Exit.CANNOT_BIND, message) from None
    except (zmq.ZMQError, OSError) as error:
        in_use = error.errno == zmq.EADDRINUSE
        hint = "another process listens there: stop it, or choose another --endpoint" if in_use else str(error)
        raise CannotStartError(Exit.CANNOT_BIND, f"cannot listen on {settings.endpoint}: {hint}") from None


def _say(line: str) -> None:
    """A line on standard output, for whoever started the process. It is no harm to the queue if nobody reads it."""
    teller = threading.Thread(target=_write, args=(line,), daemon=True)
    teller.start()
    teller.join(_TELL_S)


def _write(line: str) -> None:
    with contextlib.suppress(OSError):  # a closed pipe, a full disk
        os.write(1, line.encode("utf-8", "backslashreplace") + b"\n")


def _leave(code: Exit) -> None:
    """End the process now: a task that never ends holds its thread, and must not hold the process."""
    flusher = threading.Thread(target=_flush, daemon=True)  # what a task printed without a line's end
    flusher.start()
    flusher.join(_TELL_S)
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, or never there
            stream.flush()


if __name__ == "__main__":
    main()
