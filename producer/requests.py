"""Requests, packed. Each has a tag of its own, so that its reply can be told from a late one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

from broker.protocol import VERSION, Op, pack

_FIRST_TAG: Final = 2**32  # from here on, all tags are packed in nine bytes: the size of a request is known beforehand
_SUBMIT: Final = Op.SUBMIT.value

#: Bytes of a request beside its tasks, and of a task beside its own; at most, that is, for as many as may be in it.
ENVELOPE_BYTES: Final = len(pack({"v": VERSION, "op": _SUBMIT, "tag": _FIRST_TAG, "tasks": [b""] * 16})) - 16 * 2
BIN_BYTES: Final = 5


def size_alone(wire: bytes) -> int:
    """Bytes of the request that submits this packed task and no other."""
    return len(pack({"v": VERSION, "op": _SUBMIT, "tag": _FIRST_TAG, "tasks": [wire]}))


class Request(NamedTuple):
    """One request."""

    tag: int
    data: bytes


class Requests:
    """Packs requests. Any thread may use it."""

    def __init__(self) -> None:
        self._tags = itertools.count(_FIRST_TAG)  # the next of a `count` is one atomic step

    def submit(self, wires: Sequence[bytes]) -> Request:
        """A request that submits these packed tasks."""
        tag = next(self._tags)
        return Request(tag, pack({"v": VERSION, "op": _SUBMIT, "tag": tag, "tasks": wires}))

    def ask(self, op: Op, **fields: object) -> Request:
        """Any other request."""
        tag = next(self._tags)
        return Request(tag, pack({"v": VERSION, "op": op.value, "tag": tag, **fields}))
