"""Inside a child process of the broker: workers that run what they are lent, until the broker is gone.

The child knows no queue, no retries and no door. It ends itself when the broker does, however that ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from worker_host.attempt import Awaiter, run_attempt
from worker_host.contract import Lease
from worker_host.lending import pack_begun, pack_ended, receive, send, unpack_attempt
from worker_host.tasks import TaskFunction

OpenWire = Callable[[bytes], tuple[str, list[Any], dict[str, Any]]]

_READY: Final = b"R"


def serve(
    life: socket.socket,
    channels: Sequence[socket.socket],
    functions: Mapping[str, TaskFunction],
    open_wire: OpenWire,
    on_death: Callable[[BaseException], None],
) -> None:
    """Run a worker for each channel; returns when the broker has closed `life`, or has ended.

    `on_death` is called on the thread of a worker that ends for a defect of the host; it must end the process.
    """
    os.register_at_fork(after_in_child=lambda: _leave([life, *channels]))
    with contextlib.suppress(ConnectionError):  # a broker that was killed closes it too, in its way
        life.send(_READY)  # before the first task, which may be the end of this process
        for number, channel in enumerate(channels, 1):
            worker = threading.Thread(
                target=_work, args=(channel, functions, open_wire, on_death), name=f"worker-{number}", daemon=True
            )
            worker.start()
        life.recv(1)


def _leave(sockets: Sequence[socket.socket]) -> None:
    """In a process that a task forked: what it says is not the child's answer."""
    for one in sockets:
        one.close()


def _work(
    channel: socket.socket,
    functions: Mapping[str, TaskFunction],
    open_wire: OpenWire,
    on_death: Callable[[BaseException], None],
) -> None:
    awaiter, has_begun = Awaiter(), False

    def begun(_: Lease, function: TaskFunction) -> None:
        nonlocal has_begun
        has_begun = True
        send(channel, pack_begun(function.time_limit_s))

    try:
        while (message := receive(channel)) is not None:
            has_begun = False
            failure = run_attempt(unpack_attempt(message, open_wire), functions, awaiter, begun)
            if not has_begun:  # it could not be called at all: an attempt like any other, as far as the broker knows
                send(channel, pack_begun(None))
            send(channel, pack_ended(failure))
    except OSError:
        return  # the broker is gone, or this is a process that a task forked
    # A worker that dies in silence would leave the broker waiting for it.
    except BaseException as error:  # noqa: BLE001
        on_death(error)
