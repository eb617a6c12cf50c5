"""One child process of a host: started, lent attempts to, and ended. When it has died, another one takes its place.

That it died is known from the kernel, not from its sockets: a process that a task left behind may hold those open.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from worker_host.contract import Failure, FailureKind, PackedLease
from worker_host.lending import MOST_OF_CHILD, ForeignError, pack_attempt, receive, send, unpack_begun, unpack_ended


class NotBegun(Enum):
    """The child died before the attempt began."""

    NOT_BEGUN = "not begun"


NOT_BEGUN: Final = NotBegun.NOT_BEGUN
Ended: TypeAlias = Failure | NotBegun | None  #: what came of an attempt; None: it succeeded


class ChildProcess:
    """A child with so many workers. `lend` is called by one thread for each of them, `wait` by one more."""

    def __init__(self, command: Sequence[str], workers: int, folder: str = ".") -> None:
        """Start it in `folder`, if that is still there; `command` gets the numbers of its file descriptors appended.

        `OSError` if that fails.
        """
        pairs = [socket.socketpair() for _ in range(workers + 1)]
        theirs = [its.fileno() for _, its in pairs]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the broker's own command
                [*command, *map(str, theirs)],
                pass_fds=theirs,
                stdin=subprocess.DEVNULL,
                cwd=folder if Path(folder).is_dir() else None,
                process_group=0,  # Ctrl-C at the terminal is for the broker; and what a task starts ends with it
            )
        except BaseException:
            for mine, _ in pairs:
                mine.close()
            raise
        finally:
            for _, its in pairs:
                its.close()
        #: The child ends itself when it finds this closed: when its broker was killed, too.
        self._life = pairs[0][0]
        self._channels = [mine for mine, _ in pairs[1:]]
        self._was_ready = False  # known when it has ended
        self._ended = threading.Event()
        self._how = ""
        # Guards what follows, and the end: nobody signals a process that was waited for already, nor closes a channel
        # that somebody is about to use.
        self._guard = threading.Lock()
        self._is_doomed = False  # it was told to die, or has died: it is lent nothing more
        self._late: tuple[PackedLease, str] | None = None  # the attempt for whose time limit it was ended, and that
        self._lending: set[int] = set()  # workers whose channel is in use
        self._waiting = 0  # threads that wait for it to be ready: `_life` is in use

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it got as far as to have its task functions. Any thread may ask, also when it has ended."""
        with self._guard:
            return self._was_ready if self._ended.is_set() else self._has_said_so_locked()

    @property
    def late(self) -> tuple[PackedLease, str] | None:
        """When it has ended: the attempt for whose time limit that was done, and the limit in words; None: for none."""
        return self._late

    def becomes_ready(self) -> bool:
        """Wait until it has its task functions; False if it has ended before, or is to end."""
        with self._guard:
            if self._is_doomed:
                return False
            self._waiting += 1
        said = b""
        with contextlib.suppress(OSError):
            said = self._life.recv(1, socket.MSG_PEEK)
        with self._guard:
            self._waiting -= 1
            self._let_go_of_life_locked()
        if not said:
            self.kill()  # if it still lives, it has lost that socket: it is of no more use without
        return bool(said)

    def _let_go_of_life_locked(self) -> None:
        if self._ended.is_set() and not self._waiting:
            self._life.close()

    def _has_said_so_locked(self) -> bool:
        try:
            return bool(self._life.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))  # it stays there, to be asked again
        except OSError:
            return False

    def wait(self) -> str:
        """Wait for its end; how it ended, in words. Then whoever still waits for an attempt's end hears of that."""
        with contextlib.suppress(ChildProcessError):  # a task of the broker's waits for any child there is
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._guard:
            self._was_ready = self._has_said_so_locked()
            self._kill()  # what its tasks have started
            code = self._process.wait()
            self._how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
            self._ended.set()
            self.end()  # for those who wait for it to be ready
            self._let_go_of_life_locked()
            for worker, channel in enumerate(self._channels):
                if worker in self._lending:
                    channel.shutdown(socket.SHUT_RDWR)  # what the child has said before is still to be read
                else:
                    channel.close()
        return self._how

    def lend(self, worker: int, lease: PackedLease) -> Ended:
        """Have one attempt made by this worker of the child, and wait for its end."""
        channel = self._channels[worker]
        with self._guard:
            # It may still take a moment to die, and to say the end of an attempt that was too late.
            if self._is_doomed:
                return NOT_BEGUN
            self._lending.add(worker)
        try:
            return self._made(channel, lease)
        finally:
            with self._guard:
                self._lending.discard(worker)
                if self._ended.is_set():
                    channel.close()

    def end(self) -> None:
        """Let it end itself: its tasks were returned."""
        with contextlib.suppress(OSError):  # it has ended
            self._life.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """End it at once, and what its tasks have started, if it has not ended yet."""
        with self._guard:
            if not self._ended.is_set():
                self._kill()

    def _made(self, channel: socket.socket, lease: PackedLease) -> Ended:
        has_begun, limit_s = False, None
        try:
            send(channel, pack_attempt(lease))
            if (message := receive(channel, MOST_OF_CHILD)) is not None:
                has_begun = True  # or nobody can tell: something was said
                limit_s = unpack_begun(message)
                channel.settimeout(limit_s)
                if (message := receive(channel, MOST_OF_CHILD)) is not None:
                    ended = unpack_ended(message)
                    channel.settimeout(None)
                    return ended
        except TimeoutError:
            limit = f"{limit_s:g} s"
            with self._guard:
                if not self._is_doomed:
                    self._late = lease, limit
                    self._kill()
            error = f"TimeLimit: still running after {limit}; its child host was ended"
            return Failure(error, "", kind=FailureKind.TIMED_OUT)
        except ForeignError:
            has_begun = True
        except OSError:
            pass
        self.kill()  # if it still lives, what it has lost or spoilt is its channel: it is of no more use without
        self._ended.wait()
        if not has_begun:
            return NOT_BEGUN
        if self._late is not None:
            error = f"Displaced: its child host was ended for the time limit of task {self._late[0].id}"
            return Failure(error, "", kind=FailureKind.DISPLACED)
        return Failure(f"ChildHostDied: it {self._how}", "", kind=FailureKind.CRASHED)

    def _kill(self) -> None:
        self._is_doomed = True
        with contextlib.suppress(ProcessLookupError):  # nobody is left in its group
            os.killpg(self.pid, signal.SIGKILL)
