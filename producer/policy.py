"""How long a producer waits for what: one frozen record, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

OnFull: TypeAlias = Literal["reject", "wait"]


@dataclass(frozen=True, slots=True)
class Policy:
    """`ValueError` on construction if one of the values cannot be."""

    on_full: OnFull  #: whether a task that is rejected for now is submitted again, when the broker says
    timeout_s: float  #: how long a task may wait for a connection, a reply and room, from when it is first offered
    reply_timeout_s: float  #: how long one try waits for its reply

    def __post_init__(self) -> None:
        if self.on_full not in ("reject", "wait"):
            raise ValueError(f"on_full is 'reject' or 'wait', not {self.on_full!r}")
        for name in ("timeout_s", "reply_timeout_s"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} is a number of seconds above 0, not {value!r}")

    @property
    def try_s(self) -> float:
        """How long one try waits for its reply: no longer than the whole call may take."""
        return min(self.reply_timeout_s, self.timeout_s)
