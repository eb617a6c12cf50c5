"""The keys of a broker's closed door: its own pair, and the producers that it lets in. Files in one folder.

    KEYS/broker.secret           the broker's own, 0600
    KEYS/broker.public           every producer needs a copy
    KEYS/producers/ada.public    one for each producer that is let in; to remove it is to lock that one out
    KEYS/producers/ada.secret    what ada needs; belongs on ada's machine, and may be removed here

A key is one line of 40 characters, in ZeroMQ's Z85.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from broker.protocol import is_key

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
#: A file that was changed within a tick of the file system's clock before it was read may have changed again since.
_TICK_NS: Final = 1_000_000_000


class KeysError(Exception):
    """Keys that cannot be used; the message names the file, and says what to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A secret key and its public one, in Z85."""

    secret: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"Pair({self.public.decode()})"


class KeyFolder:
    """A broker's keys. Nothing is read before it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.producers = path / "producers"
        self._allowed: frozenset[bytes] = frozenset()  # public keys, raw
        #: The files as they were when `_allowed` was read, if that can be relied on.
        self._read_of: dict[str, tuple[int, int]] | None = None

    def own_pair(self) -> Pair:
        """The broker's own pair. `KeysError` if there is none, or others could read it."""
        try:
            return _pair(_read_key(self.path / "broker.secret", refused=0o077))
        except FileNotFoundError:
            message = f"there are no keys in {self.path}: make some with python -m broker keys create NAME"
            raise KeysError(message) from None

    def create(self, name: str, *, if_missing: bool) -> bool:
        """Make the pair of a producer, who is let in from now on; whether it is new.

        `KeysError` for a name that cannot be, or, unless `if_missing`, one that is there.
        """
        if _NAME.fullmatch(name) is None:
            raise KeysError(
                f"a name is 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit; not {name!a}"
            )
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.producers.mkdir(exist_ok=True, mode=0o700)
        with self._alone():
            self._make_own_pair_locked()
            public = self.producers / f"{name}.public"
            if public.exists():
                if if_missing:
                    return False
                raise KeysError(
                    f"there is a key named {name} already: {public}; revoke it first, or choose another name"
                )
            pair = _new_pair()
            _write(self.secret_of(name), pair.secret, 0o600)
            _write(public, pair.public, 0o644)  # the last one: where it is, the pair is whole
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else makes keys here meanwhile: containers that start together may share the folder."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _make_own_pair_locked(self) -> None:
        """Make of the broker's own pair what is missing: whoever did it before may have been killed half-way."""
        secret, public = self.path / "broker.secret", self.path / "broker.public"
        if not secret.exists():
            public.unlink(missing_ok=True)  # it would be of another secret
            _write(secret, _new_pair().secret, 0o600)
        if not public.exists():
            _write(public, self.own_pair().public, 0o644)

    def revoke(self, name: str) -> None:
        """Let this producer in no more: its next connection is refused. `KeysError` if there is none of this name."""
        public = self.producers / f"{name}.public"
        if _NAME.fullmatch(name) is None or not public.exists():
            raise KeysError(f"no producer is named {name!a}: python -m broker keys list shows those that are")
        public.unlink()
        self.secret_of(name).unlink(missing_ok=True)

    def names(self) -> dict[str, bytes]:
        """The producers that are let in, and their public keys. `KeysError` if one of the files holds no key."""
        with contextlib.suppress(FileNotFoundError):  # no producer was ever made
            return _names_of(self._files())
        return {}

    def _files(self) -> dict[str, tuple[int, int]]:
        """The public keys, each with its inode and time of change, one of which is another when the file was replaced
        or written over, by whatever tool. `OSError` if the folder cannot be read: then it is not known to be empty.
        """
        found = {}
        with os.scandir(self.producers) as entries:  # `Path.glob` tells of no fault, from 3.12 on
            for entry in entries:
                if entry.name.endswith(".public"):
                    with contextlib.suppress(FileNotFoundError):  # revoked since
                        status = entry.stat()
                        found[entry.path] = (status.st_ino, status.st_ctime_ns)
        return found

    def secret_of(self, name: str) -> Path:
        """Where the secret key of a producer was put when it was made."""
        return self.producers / f"{name}.secret"

    def lets_in(self, raw_public: bytes) -> bool:
        """Whether the producer with this public key (32 bytes) is on the list, as it is now.

        `KeysError`, `OSError` if the list cannot be read.
        """
        old_enough = time.time_ns() - _TICK_NS
        files = self._files()
        if files != self._read_of:
            names = _names_of(files)
            self._allowed = frozenset(z85.decode(key) for key in names.values())
            is_settled = len(names) == len(files) and all(changed < old_enough for _, changed in files.values())
            self._read_of = files if is_settled else None
        return raw_public in self._allowed


def _pair(secret: bytes) -> Pair:
    return Pair(secret, zmq.curve_public(secret))


def _new_pair() -> Pair:
    public, secret = zmq.curve_keypair()
    return Pair(secret, public)


def _write(path: Path, key: bytes, mode: int) -> None:
    """In one step, and never readable by more than `mode` says."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _names_of(files: Iterable[str]) -> dict[str, bytes]:
    names = {}
    for path in map(Path, sorted(files)):
        with contextlib.suppress(FileNotFoundError):  # revoked since
            names[path.stem] = _read_key(path)
    return names


def _read_key(path: Path, refused: int = 0) -> bytes:
    """The key in a file, which gives none of the `refused` permissions. `FileNotFoundError` if there is none."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read().strip()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror}") from None
    if mode & refused:
        raise KeysError(f"{path} is a secret that others can read (mode {mode & 0o777:o}): chmod 600 {path}")
    if not is_key(key):
        raise KeysError(f"{path} holds no key: one line of 40 characters, as python -m broker keys writes it")
    return key
