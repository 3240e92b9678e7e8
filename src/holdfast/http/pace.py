"""The least rate at which a body must move, over any interval of time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.http.limits import Timeout

__all__ = ["Pace"]

#: Into how many parts an interval is divided: so exact is the time at which it is over.
_PARTS = 64


class Pace:
    """Tells until when a body may stand still.

    ``rate``: bytes per second, on average over any ``interval`` of seconds, the first of which
    begins at 0. Times are those that were spent waiting for the peer. (What curl calls a low
    speed limit.)
    """

    __slots__ = ("_interval", "_least", "_marks", "_total")

    def __init__(self, rate: float, interval: float) -> None:
        self._interval = interval
        self._least = rate * interval
        self._total = 0
        # (time, bytes by then), the oldest being the first that still counts.
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)])

    @classmethod
    def of(cls, timeout: Timeout) -> Pace | None:
        """Return what a timeout asks for; None when it asks for no interval."""
        if timeout.interval is None or timeout.min_bandwidth is None:
            return None
        return cls(timeout.min_bandwidth, timeout.interval)

    def moved(self, size: int, now: float) -> None:
        """Count bytes that have moved by now."""
        self._total += size
        marks = self._marks
        if len(marks) > 1 and now < marks[-1][0]:
            marks[-1] = marks[-1][0], self._total
        else:
            # What moves in the same part of the interval counts as moved at its end.
            marks.append((now + self._interval / _PARTS, self._total))
        while marks[0][1] <= self._total - self._least:
            marks.popleft()

    @property
    def until(self) -> float:
        """When an interval will have been too slow, should nothing move any more."""
        return self._marks[0][0] + self._interval
