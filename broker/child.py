"""The process around the workers of a child host. The broker starts it.

It ends with its broker, however that ends: it reads the end of a socket; and the kernel kills it, where it can, since a
task may keep it from reading, and a process that was forked in the broker may keep the socket open.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import socket
import struct
import sys
import traceback
from pathlib import Path
from typing import Final

from broker.log import open_log
from broker.protocol import arguments_of
from broker.stop_signals import outlive
from worker_host.child import serve
from worker_host.loading import LoadError, load

#: If memory runs out, the kernel should end a child, which costs an attempt, and not the broker, which holds the tasks.
_OOM_SCORE_ADJUSTMENT: Final = "500"
_PR_SET_PDEATHSIG: Final = 1  # of Linux's <sys/prctl.h>
_CREDENTIALS: Final = struct.Struct("=iII")  # process, user and group at the other end of a socket
_BROKEN: Final = 70  # EX_SOFTWARE of sysexits.h: a defect of the host, not of a task


def main() -> None:
    """Serve until the broker has ended. Does not return."""
    parser = argparse.ArgumentParser(prog="broker.child", description="Started by a broker.")
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--log-level", required=True)
    parser.add_argument("--nice", type=int, required=True)
    parser.add_argument("descriptors", type=int, nargs="+")
    given = parser.parse_args()
    life, *channels = (socket.socket(fileno=number) for number in given.descriptors)
    _end_with_broker(life)
    outlive()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    with contextlib.suppress(OSError):  # not every kernel has it
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_ADJUSTMENT)
    os.nice(given.nice)
    open_log(given.log_level)
    with contextlib.suppress(FileNotFoundError):  # it was removed: modules may be elsewhere
        sys.path.insert(0, str(Path.cwd()))  # also where a task goes to another folder, and imports then
    try:
        functions = load(given.tasks.split(","))
    except LoadError as error:
        sys.stderr.write(f"turnstile: in a child host: {error}\n")
        os._exit(1)
    serve(life, channels, functions, arguments_of, _break)
    os._exit(0)  # what its tasks still do is void: they were returned, or the broker is gone


def _end_with_broker(life: socket.socket) -> None:
    """Have the kernel kill this process when the broker's thread that started it has ended, or the broker has."""
    try:
        import ctypes  # an interpreter may have been built without

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        broker, _, _ = _CREDENTIALS.unpack(life.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    except (ImportError, OSError, AttributeError):
        return  # no Linux: it is left to the socket
    if os.getppid() != broker:  # it has ended before
        os._exit(0)


def _break(error: BaseException) -> None:
    """End the process: the broker learns of that, and nothing else would tell it."""
    traceback.print_exception(error)
    os._exit(_BROKEN)


if __name__ == "__main__":
    main()
