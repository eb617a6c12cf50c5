"""Where a broker can be. ZeroMQ takes more than is meant, and tells of it late or never."""

from __future__ import annotations

import re
from typing import Final

from producer.errors import BadEndpoint

_TCP: Final = re.compile(r"tcp://(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]/\s;]+):(\d{1,5})", re.ASCII)
_IPC: Final = re.compile(r"ipc://[^\0]+")


def check_endpoint(endpoint: str) -> None:
    """`BadEndpoint` unless a producer can connect there."""
    match = _TCP.fullmatch(endpoint)
    if match is not None and 1 <= int(match[1]) <= 65_535:
        return
    if _IPC.fullmatch(endpoint) is None:
        raise BadEndpoint(f"an endpoint is tcp://HOST:PORT, with a port of 1 to 65535, or ipc://PATH; not {endpoint!a}")
