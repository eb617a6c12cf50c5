"""Is the broker well? One word, and the reasons for it. Pure.

`ok`: it does what it should. `degraded`: it serves, but somebody should look. `draining`: it is about to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker_host.contract import Trouble


class HealthState(StrEnum):
    """What an orchestrator acts on."""

    OK = "ok"
    DEGRADED = "degraded"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Health:
    """The state, and every reason that would make it worse than `ok`."""

    state: HealthState
    reasons: tuple[Trouble, ...]

    def as_map(self) -> dict[str, object]:
        """For the wire."""
        reasons = [{"reason": one.reason, "detail": one.detail} for one in self.reasons]
        return {"state": self.state.value, "reasons": reasons}


def health_of(troubles: Sequence[Trouble], *, draining: bool) -> Health:
    """What these troubles come to. A drain outranks them: whatever is wrong will be over."""
    state = HealthState.DRAINING if draining else HealthState.DEGRADED if troubles else HealthState.OK
    return Health(state, tuple(troubles))
