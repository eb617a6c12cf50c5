"""How an attempt is lent to a worker in a child process, and how that tells what came of it.

A stream socket for each worker of a child; on it, one attempt at a time:

    broker ── the attempt ──▶ child                             (number of the attempt, id, packed task)
    broker ◀── begun ──────── child     before the function is called (its time limit)
    broker ◀── ended ──────── child     (nothing, or the failure)

A message is its length and its bytes. Both ends are of one version, and of one machine: this is no wire for others.
But a task can write to any descriptor of its process, so what a child says is not believed before it was looked at.
*Begun* is eight bytes, *ended* none or more than eight: neither is taken for the other.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from worker_host.contract import Failure, PackedLease
from worker_host.tasks import LONGEST_LIMIT_S

_LENGTH: Final = struct.Struct("=I")
_ATTEMPT: Final = struct.Struct("=HB")  # number of the attempt, length of the id
_LIMIT: Final = struct.Struct("=d")  # seconds; 0: none
#: Bytes of what a child says, at most: a failure of the longest texts takes half of it, with every character escaped.
MOST_OF_CHILD: Final = 65_536


class ForeignError(Exception):
    """What came from a child is nothing that a worker says: whose it is, and what follows, nobody can tell."""


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
    """The limit of such a message; `ForeignError` if it is none."""
    if len(message) != _LIMIT.size:
        raise ForeignError
    limit_s: float = _LIMIT.unpack(message)[0]
    if not 0 <= limit_s <= LONGEST_LIMIT_S:
        raise ForeignError
    return limit_s or None


def pack_ended(failure: Failure | None) -> bytes:
    """The message that an attempt has ended, with what the function raised or nothing."""
    if failure is None:
        return b""
    return json.dumps([failure.error, failure.trace, failure.retry_after_s, failure.final]).encode()


def unpack_ended(message: bytes) -> Failure | None:
    """The failure of such a message, None: it succeeded; `ForeignError` if it is none."""
    if not message:
        return None
    try:
        error, trace, retry_after_s, final = json.loads(message)
        for text in (error, trace):
            str.encode(text)  # a lone surrogate could not be sent on
    except (ValueError, TypeError, RecursionError):
        raise ForeignError from None
    wants_delay = type(retry_after_s) is float and 0 <= retry_after_s < math.inf
    if type(final) is not bool or not (retry_after_s is None or wants_delay):
        raise ForeignError
    return Failure(error, trace, retry_after_s, final)


def send(channel: socket.socket, message: bytes) -> None:
    """Send one message; `OSError` if nobody is there to read it."""
    channel.sendall(_LENGTH.pack(len(message)) + message)


def receive(channel: socket.socket, most: int = 2**32) -> bytes | None:
    """The next message; None if the other side has ended, be it in the middle of one.

    `ForeignError` if it has more than `most` bytes. `TimeoutError` if the socket has a time-out, and nothing has come
    by then.
    """
    header = _exactly(channel, _LENGTH.size)
    if header is None:
        return None
    size: int = _LENGTH.unpack(header)[0]
    if size > most:
        raise ForeignError
    return _exactly(channel, size)


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
