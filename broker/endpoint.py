"""Where a broker may listen. ZeroMQ takes more than is meant: port 99999 binds 34463, and a second ipc bind on one path
silently steals the first one's traffic. What it would take in silence is refused here by name.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
import socket
import stat
from pathlib import Path
from typing import Final

_TCP: Final = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]/]+):(?P<port>\d{1,5})", re.ASCII)
_LONGEST_IPC_PATH: Final = 107  # sun_path of a unix socket, less its final zero


class EndpointError(ValueError):
    """An endpoint that cannot be; the message says what can."""


class InUseError(OSError):
    """Another broker has it."""


def check_endpoint(endpoint: str, *, anyone: bool) -> None:
    """`EndpointError` unless a broker may listen there. `anyone`: other machines may be able to connect."""
    if endpoint.startswith("ipc://"):
        path = endpoint.removeprefix("ipc://")
        if not Path(path).name or path[0] in "@*" or len(os.fsencode(path)) > _LONGEST_IPC_PATH:
            raise EndpointError(f"ipc:// needs the path of a file, of 1 to {_LONGEST_IPC_PATH} bytes, not '{path}'")
        if not path.isprintable():  # undecodable bytes among others: libzmq is handed UTF-8
            raise EndpointError(f"ipc:// needs a path that can be shown, in UTF-8, not {path!a}")
        return
    match = _TCP.fullmatch(endpoint)
    if match is None:
        raise EndpointError(f"'{endpoint}' is neither tcp://ADDRESS:PORT nor ipc://PATH")
    if int(match["port"]) > 65_535:
        raise EndpointError(f"a port is 0 to 65535, not {match['port']}")
    if not anyone and not _is_loopback(match["host"]):
        raise EndpointError(
            f"'{endpoint}' can be reached from other machines: let in only producers with a key (--keys FOLDER, see "
            "python -m broker keys --help), or listen on 127.0.0.1, or say --insecure: then anybody can submit"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_any_port(endpoint: str) -> bool:
    """Whether it is another one each time: its port is chosen by the system, and nobody knows it beforehand."""
    match = _TCP.fullmatch(endpoint)
    return match is not None and int(match["port"]) == 0


def absolute(endpoint: str) -> str:
    """The same, wherever the process goes: the path of an ipc endpoint is made absolute."""
    path = ipc_path(endpoint)
    return endpoint if path is None else f"ipc://{path.absolute()}"


def ipc_path(endpoint: str) -> Path | None:
    """The path of an ipc endpoint; None for tcp."""
    return Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None


def check_path(path: Path) -> None:
    """See that an ipc endpoint can be bound at `path`, whose lock the caller holds: a bind would remove what is there.

    `EndpointError` if that is something else than a socket; `InUseError` if somebody listens on it.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise EndpointError(f"{path} is there already, and is no socket: it is left as it is; choose another path")
    with socket.socket(socket.AF_UNIX) as visitor:
        try:
            visitor.connect(os.fspath(path))
        except ConnectionRefusedError:
            return  # left behind by a process that is gone
        except OSError as error:
            raise InUseError(f"{path} is a socket of somebody else's: {error.strerror}") from None
    raise InUseError(f"another process listens on {path}")


def make_private(folder: Path) -> None:
    """Make `folder`, or see that it is its owner's alone, and ours: who can enter it can connect to a socket in it.

    `EndpointError` if it is not; `OSError` if it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise EndpointError(f"{folder} belongs to another user: choose a folder of your own")
    if status.st_mode & 0o077:
        raise EndpointError(f"{folder} can be entered by others (mode {status.st_mode & 0o777:o}): chmod 700 {folder}")


class PathLock:
    """Keeps a second broker off a path. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Lock `path`; `InUseError` if another process has it."""
        path = path.with_name(path.name + ".lock")
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            self._file = None
            raise InUseError(f"another broker holds {path}") from None

    def close(self) -> None:
        """Let go. The lock's file stays: to remove it would race with the next broker's lock on it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
