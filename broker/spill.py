"""Returned tasks on disk: written when a broker stops with tasks left, read when the next one starts.

One file, written whole or not at all, readable by its owner alone. The first line names the format and its version, so
that a foreign file is told from a damaged one; neither is ever loaded in part, changed or deleted. A file that was
loaded is renamed, not deleted: the tasks are in memory now, and a crash must leave something to a person.

    turnstile-spill 1\n          the format
    sha256 of the rest           32 bytes
    msgpack map                  saved_at: Unix time, tasks: [[wire, attempts, due_in_s or nil, expires_in_s or nil], …]
                                 ages_s: [seconds since its acceptance, …], one for each task

A file of an earlier version has no `ages_s`, and its tasks count as accepted when it is loaded. The ages are not in the
rows so that an earlier version can load the file, too.

`attempts` are those that ended: one that the stop cut off does not count, so that a deploy costs no task a retry. If
the broker failed it does, since the task may be why: no task is run for ever by one broker after the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import msgpack

from broker.protocol import RefusedError, decode_task, unpack
from broker.records import Returned
from broker.states import State

_FORMAT: Final = b"turnstile-spill 1\n"
_ANY_FORMAT: Final = b"turnstile-spill "
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


class SpillError(Exception):
    """A spill file that cannot be loaded; the message names it, and says what to do. The file is as it was."""


def save(path: Path, tasks: Collection[Returned], now: float, *, cut_off_counts: bool = False) -> None:
    """Write `tasks` to `path`, in place of what was there. `now` is Unix time. `OSError` if it cannot be written.

    `cut_off_counts`: an attempt that was running when the broker stopped has failed with it.
    """
    unfinished = _unfinished(path)
    unfinished.unlink(missing_ok=True)  # O_EXCL makes a new one: no link is followed, no mode kept
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        # Piece by piece: a stop may be for want of memory. The digest takes its place at the end.
        file.write(_FORMAT + bytes(_DIGEST_BYTES))
        digest = hashlib.sha256()
        for piece in _pieces(tasks, now, cut_off_counts=cut_off_counts):
            digest.update(piece)
            file.write(piece)
        file.seek(len(_FORMAT))
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the name, too, has to outlive a crash of the machine
    finally:
        os.close(folder)


def _pieces(tasks: Collection[Returned], now: float, *, cut_off_counts: bool) -> Iterator[bytes]:
    """The map of the file."""
    packer = msgpack.Packer()
    ages_s = array("d")
    yield packer.pack_map_header(3) + packer.pack("saved_at") + packer.pack(now)
    yield packer.pack("tasks") + packer.pack_array_header(len(tasks))
    for task in tasks:
        attempts = task.attempts if cut_off_counts else task.attempts_ended
        yield packer.pack([task.wire, attempts, task.due_in_s, task.expires_in_s])
        ages_s.append(task.age_s)
    yield packer.pack("ages_s") + packer.pack_array_header(len(ages_s))
    yield from map(packer.pack, ages_s)


def load(path: Path, now: float) -> list[Returned]:
    """The tasks in `path`, none if there is no such file; what they wait for has gone on while nobody ran.

    `now` is Unix time. `SpillError` for a file that is foreign, of another version, damaged or unreadable.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SpillError(f"spill file {path} cannot be read: {error.strerror}") from None
    if not data.startswith(_FORMAT):
        what = "of another version" if data.startswith(_ANY_FORMAT) else "no spill file of a broker"
        raise SpillError(f"{path} is {what}: it is left as it is; move it away, or choose another --spill")
    digest, body = data[len(_FORMAT) :][:_DIGEST_BYTES], data[len(_FORMAT) + _DIGEST_BYTES :]
    if hashlib.sha256(body).digest() != digest:
        raise SpillError(f"spill file {path} is damaged: it is left as it is; move it away to start without its tasks")
    try:
        content = unpack(body)
        passed = max(0.0, now - content["saved_at"])
        rows = content["tasks"]
        ages = [age_s + passed for age_s in content["ages_s"]] if "ages_s" in content else [0.0] * len(rows)
        return [_returned(row, passed, age_s) for row, age_s in zip(rows, ages, strict=True)]
    except (RefusedError, KeyError, TypeError, ValueError) as error:
        raise SpillError(f"spill file {path} holds no tasks of a broker ({error}): it is left as it is") from None


def prepare(path: Path, *, make_folder: bool) -> None:
    """See that a spill file can be written; `OSError` if not. `make_folder`: make its folder, for its owner alone.

    Touches no file beside it: another broker may be saving there.
    """
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        _unfinished(path).lstat()  # is its name short enough?
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def of_other_tasks(path: Path) -> list[Path]:
    """Files like `path`, the usual one of an endpoint and its task modules, of the same endpoint and other modules."""
    of_endpoint = path.name.rpartition("-")[0]
    return sorted(other for other in path.parent.glob(f"{of_endpoint}-*.spill") if other != path)


def retire(path: Path) -> None:
    """Rename a file that was loaded; only the last one is kept. Nothing, if there is none."""
    if path.exists():
        path.replace(path.with_name(path.name + ".loaded"))


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".unfinished")


def _returned(row: list[Any], passed: float, age_s: float) -> Returned:
    wire, attempts, due_in_s, expires_in_s = row
    return Returned(
        id=decode_task(wire).id,
        wire=wire,
        attempts=int(attempts),
        was=State.READY if due_in_s is None else State.DELAYED,
        due_in_s=None if due_in_s is None else max(0.0, due_in_s - passed),
        expires_in_s=None if expires_in_s is None else expires_in_s - passed,
        age_s=age_s,
    )
