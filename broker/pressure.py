"""When should a rejected producer come back? Pure: time is passed in.

Room appears when tasks end. Each rejection gets an appointment: the moment at which, at the measured rate, the next
room not yet promised to an earlier rejection appears. So a hundred producers that are turned away together come back
one by one as rooms appear, and not together to a single one. An appointment is advice, not a reservation: whoever asks
while there is room gets it.

The rate is measured between rejections, and only where it says what the workers can do: if fewer tasks ended between
two rejections than were held at the first, the queue never ran dry, and the workers never waited.

Nobody is sent further away than the time that was looked at so far: beyond that, the rate is a guess, and workers would
idle while producers sleep on it. When all rooms within that time are promised, they are promised once more from the
first on: some will come in vain, but evenly, and soon.
"""

from __future__ import annotations

import math
from typing import Final

_MEMORY_S: Final = 5.0  # what was measured this long ago weighs 1/e: a few seconds follow a change without flutter
_SHORTEST_LOOK_S: Final = 0.02  # rejections closer than this are one look: a flood must not pay for a logarithm each
_FIRST_GUESS_S: Final = 0.1  # the time for one room, before anything was measured
_LONGEST_S: Final = 5.0  # no appointment is later: what was measured may change, and some producers never come back
_SHORTEST_S: Final = 0.001  # nor earlier: below the time of a round trip, advice to wait is advice to spin


class Pressure:
    """The measured rate at which room appears, and the book of appointments. On the owner's thread."""

    def __init__(self) -> None:
        self._seen_s = 0.0  # time looked at, fading
        self._seen_ended = 0.0  # tasks that ended in it, fading alike
        self._look: tuple[float, int, int] | None = None  # (time, tasks ended, tasks held) at the last look
        self._next_room = 0.0  # the latest appointment given

    @property
    def room_per_s(self) -> float:
        """Rooms per second, by Laplace's rule of succession: one more is about to appear than was seen.

        So the estimate exists before the first room was seen, and falls as 1/t while none appears.
        """
        return (self._seen_ended + 1) / (self._seen_s + _FIRST_GUESS_S)

    def rejected(self, now: float, ended: int, held: int) -> float:
        """Seconds after which the task that is being rejected should be submitted again.

        `ended`: tasks that have ended so far; `held`: those that hold the rooms now.
        """
        self._measure(now, ended, held)
        one_room_s = 1 / self.room_per_s
        in_sight_s = min(max(self._seen_s, _FIRST_GUESS_S), _LONGEST_S)
        self._next_room = max(self._next_room, now) + one_room_s
        if self._next_room > now + in_sight_s:
            self._next_room = now + min(one_room_s, in_sight_s)
        return max(_SHORTEST_S, self._next_room - now)

    def _measure(self, now: float, ended: int, held: int) -> None:
        if self._look is None:
            self._look = now, ended, held
            return
        then, ended_then, held_then = self._look
        passed, made = now - then, ended - ended_then
        if passed < _SHORTEST_LOOK_S:
            return
        self._look = now, ended, held
        if made < held_then:
            fade = math.exp(-passed / _MEMORY_S)
            self._seen_s = self._seen_s * fade + passed
            self._seen_ended = self._seen_ended * fade + made
