"""Deadlines of coroutines, by one timer for each event loop.

``asyncio.timeout`` arms a timer and cancels it again, every time, which costs more than most of
what it guards. Here the deadlines of a loop are kept in a heap, and the one timer is set for the
nearest of them; a wait that ends in time only marks its entry. What is marked leaves the heap when
its time comes, or when there is too much of it.
"""

from __future__ import annotations

import asyncio
import heapq
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Expiry"]

#: Loops round to a millisecond: late rather than early, which would mean once more.
_ROUNDING = 0.002

#: Entries that are done and may stay before the heap is made anew.
_SLACK = 1000


class _Alarms:
    """The deadlines of one event loop."""

    __slots__ = ("done", "entries", "handle", "loop", "number", "rings_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.entries: list[tuple[float, int, Expiry]] = []
        self.number = 0
        self.done = 0  # entries that wait for nothing any more
        self.rings_at = inf
        self.handle: asyncio.TimerHandle | None = None

    def add(self, expiry: Expiry) -> None:
        self.number = number = self.number + 1
        deadline = expiry.deadline
        heapq.heappush(self.entries, (deadline, number, expiry))
        if deadline < self.rings_at:
            self._arm(deadline)

    def _arm(self, deadline: float) -> None:
        if self.handle is not None:
            self.handle.cancel()
        self.rings_at = deadline
        remaining = max(deadline - monotonic(), 0.0)
        self.handle = self.loop.call_later(remaining + _ROUNDING, self._ring)

    def _ring(self) -> None:
        self.handle = None
        self.rings_at = inf
        entries = self.entries
        now = monotonic()
        while entries and (entries[0][2].over or entries[0][0] <= now):
            expiry = heapq.heappop(entries)[2]
            if expiry.over:
                self.done -= 1
            else:
                expiry.expire()
        if entries:
            self._arm(entries[0][0])

    def leave(self) -> None:
        """Count an entry that is done, and clear the heap when most of them are."""
        self.done = done = self.done + 1
        if done > _SLACK and done * 2 > len(self.entries):
            self.entries = [entry for entry in self.entries if not entry[2].over]
            heapq.heapify(self.entries)
            self.done = 0


_ALARMS: dict[asyncio.AbstractEventLoop, _Alarms] = {}


def _alarms_of(loop: asyncio.AbstractEventLoop) -> _Alarms:
    """Return a loop's new deadlines, and forget those of loops that were closed."""
    # Weak keys would not do: a timer that is left over knows its loop.
    for other in list(_ALARMS):
        if other.is_closed():
            _ALARMS.pop(other, None)
    alarms = _ALARMS[loop] = _Alarms(loop)
    return alarms


class Expiry:
    """``async with Expiry(deadline)``: cancels what is awaited in it, and raises TimeoutError.

    ``deadline`` is a time of ``time.monotonic``, infinity is none. Cancellation from outside goes
    through as it is, as with ``asyncio.timeout``.
    """

    __slots__ = ("_alarms", "_cancelling", "_task", "deadline", "expired", "over")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._task: asyncio.Task[object] | None = None
        self.expired = False
        self.over = False

    def begin(self) -> None:
        """Let the time count for the task that runs."""
        if self.deadline == inf:
            return
        loop = asyncio.get_running_loop()
        alarms = _ALARMS.get(loop)
        if alarms is None:
            alarms = _alarms_of(loop)
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._alarms = alarms
        alarms.add(self)

    def end(self, error: BaseException | None) -> bool:
        """Let it count no more; tell whether the error is the cancellation by this."""
        if self.deadline == inf:
            return False
        self.over = True
        task, self._task = self._task, None  # the heap may keep this for long
        if not self.expired:
            self._alarms.leave()
            return False
        assert task is not None
        return task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)

    def expire(self) -> None:
        """Cancel the task."""
        assert self._task is not None
        self.expired = True
        self._task.cancel()

    async def __aenter__(self) -> None:
        self.begin()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.end(error):
            raise TimeoutError from error
