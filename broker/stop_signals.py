"""The signals that ask for a stop: a process that outlives them, and what it forks, which does not.

The broker drains instead of ending at once. A child host goes on until its broker lets it end: a service manager sends
the signal to every process of the service, and that must cost no attempt.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: The mask of signals of a thread that forks.
_of_forking_thread = threading.local()


def outlive() -> None:
    """From now on they do not end this process. They are handled, not ignored: what a task starts would inherit that.

    SIGHUP stays as it is under nohup, which asked to be left alone by it. On the main thread, once.
    """
    outlived = [one for one in STOP_SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]

    def hold() -> None:
        """From here until a forked process has handlers of its own, what it is sent would be lost, or ring our bell."""
        _of_forking_thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, outlived)

    def let_come() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _of_forking_thread.mask)

    def leave() -> None:
        """In a process that a task forked: its signals are its own."""
        signal.set_wakeup_fd(-1)
        for number in outlived:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        let_come()

    for number in outlived:
        signal.signal(number, _take_note)
    os.register_at_fork(before=hold, after_in_parent=let_come, after_in_child=leave)


def _take_note(number: int, frame: FrameType | None) -> None:
    """Handle a signal by having been called."""
