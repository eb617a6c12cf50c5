"""Where a broker can be, and how to be let in. ZeroMQ takes more than is meant, and tells of it late or never."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from producer.errors import BadEndpoint
from producer.keys import Keys

_TCP: Final = re.compile(r"tcp://(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]/\s;]+):(\d{1,5})", re.ASCII)
_IPC: Final = re.compile(r"ipc://[^\0]+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's door. `BadEndpoint` on construction unless a producer can connect there."""

    address: str
    keys: Keys | None = None  #: for a door that is closed to strangers

    def __post_init__(self) -> None:
        match = _TCP.fullmatch(self.address)
        if match is not None and 1 <= int(match[1]) <= 65_535:
            return
        if _IPC.fullmatch(self.address) is None:
            raise BadEndpoint(
                f"an endpoint is tcp://HOST:PORT, with a port of 1 to 65535, or ipc://PATH; not {self.address!a}"
            )
