"""Standard output, or standard error: what it does not take is lost, and changes nothing of what is done."""

from __future__ import annotations

import io
import os
from typing import TextIO


class Outlet(io.TextIOBase):
    """Writes at once, as long as there is a reader, and room."""

    def __init__(self, stream: TextIO | None) -> None:
        """`stream`: None where the process was started without."""
        self._stream = stream
        self.fault: OSError | None = None  #: why it takes nothing any more, if a reader who left is not the reason

    def write(self, text: str, /) -> int:
        """Write what is left of it for somebody to read."""
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError as error:
                # At its end, the interpreter would write once more what is left, and complain.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
                self._stream = None
                self.fault = None if isinstance(error, BrokenPipeError) else error
        return len(text)

    def isatty(self) -> bool:
        """Whether somebody looks at it."""
        return self._stream is not None and self._stream.isatty()
