"""The bell: how other threads, and signals, wake the broker's loop, which polls it beside its socket."""

from __future__ import annotations

import contextlib
import os


class Bell:
    """A pipe to be woken by: the owner polls `descriptor`, anyone rings."""

    def __init__(self) -> None:
        self.descriptor, self._ring = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._ring, False)
        self._rung = False

    @property
    def writer(self) -> int:
        """The end that `signal.set_wakeup_fd` may have: each byte but 0 that arrives is a signal's number."""
        return self._ring

    def ring(self) -> None:
        """Wake the owner, once for any number of calls until it has listened."""
        if not self._rung:
            self._rung = True
            with contextlib.suppress(BlockingIOError):  # full of signals: the owner wakes up for those
                os.write(self._ring, b"\0")

    def listen(self) -> bytes:
        """What was rung since the last call; the caller then looks at everything that the bell can mean."""
        heard = b""
        with contextlib.suppress(BlockingIOError):
            heard = os.read(self.descriptor, 4_096)
        # Only now: who rang between the two lines wrote nothing, but what it rang for is there to be seen. The other
        # way round its byte would be read with the others, and the bell be thought rung for ever.
        self._rung = False
        return heard

    def close(self) -> None:
        """Give the pipe back, before anybody could ring. A broker that ran leaves that to the end of its process."""
        os.close(self.descriptor)
        os.close(self._ring)
