"""`python -m producer`: the only module here that knows argv, the environment, the standard streams and exit codes."""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import Final, TextIO, cast

from broker.protocol import Reason
from producer.command_line import Streams, UsageError, run
from producer.errors import LocalFault, RequestRefused, TurnstileError, Unreachable
from producer.outlet import Outlet

_IDS_NAMED: Final = 10


class Exit(IntEnum):
    """How the process ends."""

    GOOD = 0  #: accepted, or answered
    REJECTED = 1  #: or a line that is no task, or a task that failed or is unknown
    USAGE = 2  #: the words mean nothing, or the task cannot be sent
    UNREACHABLE = 3  #: what has no verdict was not submitted
    UNKNOWN = 4  #: sent, and no reply
    INTERRUPTED = 130  #: as a shell says it of SIGINT


def main() -> None:
    """Do what the arguments say. Does not return."""
    output, errors = Outlet(sys.stdout), Outlet(sys.stderr)
    sys.stdout, sys.stderr = cast("TextIO", output), cast("TextIO", errors)  # also for what Python itself has to say
    try:
        streams = Streams(getattr(sys.stdin, "buffer", None), output, errors)
        code = Exit.GOOD if run(sys.argv[1:], os.environ, streams) else Exit.REJECTED
    except UsageError as error:
        code = _say(Exit.USAGE, str(error))
    except TurnstileError as error:
        ids = ", ".join(error.unknown_ids[:_IDS_NAMED])
        more = f" and {len(error.unknown_ids) - _IDS_NAMED} more" if len(error.unknown_ids) > _IDS_NAMED else ""
        code = _say(_exit_of(error), f"{error} (ids: {ids}{more})" if ids else str(error))
    except KeyboardInterrupt:
        code = _say(Exit.INTERRUPTED, "interrupted")
    if output.fault is not None:
        _say(code, f"the answer cannot be written: {output.fault.strerror}")
    sys.exit(code)


def _say(code: Exit, message: str) -> Exit:
    print(f"turnstile: {message}", file=sys.stderr)
    return code


def _exit_of(error: TurnstileError) -> Exit:
    if isinstance(error, Unreachable):
        return Exit.UNREACHABLE
    if isinstance(error, RequestRefused):
        return Exit.USAGE if error.reason is Reason.MALFORMED else Exit.REJECTED
    return Exit.USAGE if isinstance(error, LocalFault) else Exit.UNKNOWN


if __name__ == "__main__":
    main()
