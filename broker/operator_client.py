"""Asks at the operator's door: one request, one reply. For the command line."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final

import zmq

from broker.protocol import VERSION, RefusedError, pack, unpack

_PATIENCE_MS: Final = 10_000  # longer than any turn of the broker's loop takes


class NoBrokerError(Exception):
    """No broker answers there; the message says where, and what may be wrong."""


class OperatorError(Exception):
    """The broker's answer is an error; the message is its detail."""


class OperatorClient:
    """A connection to one broker's operator's door. A context manager that closes it."""

    def __init__(self, path: Path) -> None:
        """`NoBrokerError` if nobody listens at `path`."""
        self._path = path
        with socket.socket(socket.AF_UNIX) as visitor:  # ZeroMQ would go on trying, in silence
            try:
                visitor.connect(os.fspath(path))
            except OSError as error:
                raise NoBrokerError(
                    f"no broker listens at {path} ({error.strerror or error}), so nothing was asked: is one running, "
                    "started by this user, with this --endpoint? (one with port 0, or with --operator PATH, is found "
                    "by --operator alone)"
                ) from None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"ipc://{path}")

    def __enter__(self) -> OperatorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        """The reply. `NoBrokerError` if none comes; `OperatorError` if it is an error. After either, ask no more."""
        self._socket.send(pack({"v": VERSION, "op": op, **fields}))
        if not self._socket.poll(_PATIENCE_MS):
            raise NoBrokerError(
                f"nobody answers at {self._path} within {_PATIENCE_MS // 1_000} s: the broker there has ended or is "
                "stopped; what was asked may still be done, if it goes on"
            )
        try:
            reply = unpack(self._socket.recv())
        except RefusedError as error:
            raise OperatorError(f"what answers at {self._path} is no broker: {error.detail}") from None
        if type(reply) is not dict:
            raise OperatorError(f"what answers at {self._path} is no broker")
        if "error" in reply:
            raise OperatorError(reply["error"]["detail"])
        return reply
