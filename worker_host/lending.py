"""How an attempt is lent to a worker in a child process, and how that tells what came of it.

A stream socket for each worker of a child; on it, one attempt at a time:

    broker ── the attempt ──▶ child                             (number of the attempt, id, packed task)
    broker ◀── begun ──────── child     before the function is called (its time limit)
    broker ◀── ended ──────── child     (nothing, or the failure)

A message is its length and its bytes. Both ends are of one version, and of one machine: this is no wire for others.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from worker_host.contract import Failure, FailureKind, PackedLease

_LENGTH: Final = struct.Struct("=I")
_ATTEMPT: Final = struct.Struct("=HB")  # number of the attempt, length of the id
_LIMIT: Final = struct.Struct("=d")  # seconds; 0: none


@dataclass(frozen=True, slots=True)
class LentLease:
    """In the child: the attempt that it was lent."""

    id: str
    attempt: int
    wire: bytes
    open_wire: Callable[[bytes], tuple[str, list[Any], dict[str, Any]]]

    def open(self) -> tuple[str, list[Any], dict[str, Any]]:
        """(name, args, kwargs), unpacked afresh."""
        return self.open_wire(self.wire)


def pack_attempt(lease: PackedLease) -> bytes:
    """The message that lends this attempt."""
    task_id = lease.id.encode()
    return _ATTEMPT.pack(lease.attempt, len(task_id)) + task_id + lease.wire


def unpack_attempt(message: bytes, open_wire: Callable[[bytes], tuple[str, list[Any], dict[str, Any]]]) -> LentLease:
    """The attempt of such a message."""
    attempt, length = _ATTEMPT.unpack_from(message)
    rest = message[_ATTEMPT.size :]
    return LentLease(rest[:length].decode(), attempt, rest[length:], open_wire)


def pack_begun(time_limit_s: float | None) -> bytes:
    """The message that an attempt begins, of a function with this limit."""
    return _LIMIT.pack(time_limit_s or 0.0)


def unpack_begun(message: bytes) -> float | None:
    """The limit of such a message."""
    limit_s: float = _LIMIT.unpack(message)[0]
    return limit_s or None


def pack_ended(failure: Failure | None) -> bytes:
    """The message that an attempt has ended, with this failure or none."""
    return b"" if failure is None else json.dumps(asdict(failure)).encode()


def unpack_ended(message: bytes) -> Failure | None:
    """The failure of such a message; None: it succeeded."""
    if not message:
        return None
    fields = json.loads(message)
    return Failure(**{**fields, "kind": FailureKind(fields["kind"])})


def send(channel: socket.socket, message: bytes) -> None:
    """Send one message; `OSError` if nobody is there to read it."""
    channel.sendall(_LENGTH.pack(len(message)) + message)


def receive(channel: socket.socket) -> bytes | None:
    """The next message; None if the other side has ended, be it in the middle of one.

    `TimeoutError` if the socket has a time-out, and nothing has come by then.
    """
    header = _exactly(channel, _LENGTH.size)
    return None if header is None else _exactly(channel, _LENGTH.unpack(header)[0])


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        try:
            part = channel.recv(min(size, 1 << 20))
        except ConnectionResetError:  # it ended with a message of ours unread
            return None
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
