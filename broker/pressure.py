"""When should a rejected producer come back, and does it find room then? Pure: time is passed in.

Room appears when tasks end. Each connection that is turned away gets an *appointment*: the moment at which, at the
measured rate, the next room not yet promised to another one appears. So a hundred producers that are turned away
together come back one by one as rooms appear, and not together to a single one.

Room is kept for those who are expected: as much as they were turned away with, and at most a quarter of the bound. Who
comes unexpected, or too early, gets room beyond that. So it is of no use to ask more often, or for more at once, than
others do: a connection has one appointment at a time, and one room for it. What it asks for meanwhile is told to come
once everybody else had their turn.

The rate is measured between rejections, and only where it says what the workers can do: if fewer tasks ended between
two rejections than were held at the first, the queue never ran dry, and the workers never waited.

Nobody is sent further away than the time that was looked at so far: beyond that, the rate is a guess, and workers would
idle while producers sleep on it. When all rooms within that time are promised, they are promised once more from the
first on: some will come in vain, but evenly, and soon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

_MEMORY_S: Final = 5.0  # what was measured this long ago weighs 1/e: a few seconds follow a change without flutter
_SHORTEST_LOOK_S: Final = 0.02  # rejections closer than this are one look: a flood must not pay for a logarithm each
_FIRST_GUESS_S: Final = 0.1  # the time for one room, before anything was measured
_LONGEST_S: Final = 5.0  # no appointment is later: what was measured may change, and some producers never come back
_SHORTEST_S: Final = 0.001  # nor earlier: below the time of a round trip, advice to wait is advice to spin
#: Appointments are so much further apart than rooms appear. The rooms between them are promised to nobody: what is left
#: of them makes up for an estimate that is too high, and is for those who come unexpected.
_SPACING: Final = 1.1
#: How late one may come: this part of the wait, and at least so many seconds. Producers spread themselves over a fifth.
_LATE: Final = 0.25
_LATE_S: Final = 0.1
_MOST_KEPT: Final = 4  # one part in so many: with more, workers would wait for those who are expected and do not come

#: (tasks, bytes) that a newcomer must leave free, if nobody is expected.
NOTHING_KEPT: Final = 0, 0


@dataclass(slots=True)
class _Expected:
    """A connection that was turned away."""

    due: float  #: its appointment
    last: float  #: the latest moment that one of its tasks was told
    until: float  #: when it is forgotten
    size: int  #: bytes of the task that it was turned away with


class Pressure:
    """The measured rate at which room appears, and the book of appointments. On the owner's thread."""

    def __init__(self, capacity: int, capacity_bytes: int) -> None:
        self._most_kept = capacity // _MOST_KEPT, capacity_bytes // _MOST_KEPT
        self._seen_s = 0.0  # time looked at, fading
        self._seen_ended = 0.0  # tasks that ended in it, fading alike
        self._look: tuple[float, int, int] | None = None  # (time, tasks ended, tasks held) at the last look
        self._next_room = 0.0  # the latest appointment given
        self._expected: dict[int, _Expected] = {}  # by connection, of which there are as many as file descriptors
        self._expected_bytes = 0
        self._looked_through = 0.0  # when those who did not come were last forgotten

    @property
    def room_per_s(self) -> float:
        """Rooms per second, by Laplace's rule of succession: one more is about to appear than was seen.

        So the estimate exists before the first room was seen, and falls as 1/t while none appears.
        """
        return (self._seen_ended + 1) / (self._seen_s + _FIRST_GUESS_S)

    @property
    def is_anyone_expected(self) -> bool:
        """Whether `kept` and `accepted` have anything to say. Asked for every task, and seldom true."""
        return bool(self._expected)

    def kept(self, now: float, connection: int) -> tuple[int, int]:
        """(tasks, bytes) that this connection must leave free now: for others who are expected, and not for it."""
        self._forget_absent(now)
        own = self._expected.get(connection)
        if own is None:
            tasks, size = len(self._expected), self._expected_bytes
        elif own.due <= now:
            return NOTHING_KEPT
        else:
            tasks, size = len(self._expected) - 1, self._expected_bytes - own.size
        return min(tasks, self._most_kept[0]), min(size, self._most_kept[1])

    def accepted(self, now: float, connection: int) -> None:
        """A task of this connection got in. If it has others outside, its next turn is after everybody else's."""
        own = self._expected.get(connection)
        if own is None:
            return
        if own.last > now:
            own.due = min(own.last, now + self._lap_s)
        else:
            self._strike_out(connection)

    def rejected(self, now: float, ended: int, held: int, connection: int = 0, size: int = 0) -> float:
        """Seconds after which the task of `size` bytes that is being rejected should be submitted again.

        `ended`: tasks that have ended so far; `held`: those that hold the rooms now.
        """
        self._measure(now, ended, held)
        self._forget_absent(now)
        in_sight_s = min(max(self._seen_s, _FIRST_GUESS_S), _LONGEST_S)
        own = self._expected.get(connection)
        if own is None:
            one_room_s = _SPACING / self.room_per_s
            self._next_room = max(self._next_room, now) + one_room_s
            if self._next_room > now + in_sight_s:
                self._next_room = now + min(one_room_s, in_sight_s)
            moment = self._next_room
            self._expected[connection] = own = _Expected(moment, moment, moment, size)
            self._expected_bytes += size
        else:
            moment = max(own.last, now) + self._lap_s
            if moment > now + in_sight_s:
                moment = now + min(self._lap_s, in_sight_s)
            own.last = moment
        own.until = max(own.until, moment + max(_LATE_S, _LATE * (moment - now)))
        return max(_SHORTEST_S, moment - now)

    @property
    def _lap_s(self) -> float:
        """Seconds until there was a room for everybody who is expected."""
        return len(self._expected) * _SPACING / self.room_per_s

    def _forget_absent(self, now: float) -> None:
        """Strike out those who did not come, if that was not done just now."""
        if now - self._looked_through < _SHORTEST_LOOK_S:
            return
        self._looked_through = now
        for connection in [connection for connection, one in self._expected.items() if one.until < now]:
            self._strike_out(connection)

    def _strike_out(self, connection: int) -> None:
        self._expected_bytes -= self._expected.pop(connection).size

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
