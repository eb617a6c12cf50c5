"""What must be made anew in a forked process: sockets and their context belong to the process that made them."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Somebody who holds what does not survive a fork."""

    def renew(self) -> None:
        """Called in the forked process, before anything else runs there: drop it all, closing nothing."""


_holders: WeakSet[Renewable] = WeakSet()
#: What was dropped in this process. Kept: to collect it would be to close it.
left_behind: list[object] = []


def renew_after_fork(holder: Renewable) -> None:
    """Have `holder` renewed in every process that is forked while it lives."""
    _holders.add(holder)


def _renew() -> None:
    for holder in _holders:
        holder.renew()


os.register_at_fork(after_in_child=_renew)
