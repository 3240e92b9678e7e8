"""The rate limit: so many calls a second, and some at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.errors import RateLimited
from holdfast.policy.checks import at_least, flag, positive, wrong
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from holdfast.ops import Program

__all__ = ["RateLimit", "RateLimiter"]


@dataclass(frozen=True, slots=True, repr=False)
class RateLimit(Spec):
    """At most ``per_second`` calls a second, and ``burst`` at once (a token bucket).

    ``burst`` None is what comes together in a second, at least 1. A call that finds no token waits
    for its own, in order of arrival, or with ``wait`` False fails at once.
    """

    per_second: float
    burst: int | None = None
    wait: bool = True

    def __post_init__(self) -> None:
        positive(self, "per_second")
        if self.burst is not None:
            at_least(self, 1, "burst")
        if (self.burst or 1) / self.per_second == inf:
            raise wrong(
                self, "per_second", f"must fill a bucket of {self.burst or 1}", self.per_second
            )
        flag(self, "wait")


#: What a token may lack, in seconds, so that rounding of the clock denies nobody; it stays owed.
_ROUNDING = 1e-9

#: How many tokens are set out at most, from how many on it is worth it, and for how many seconds.
_SLICE = 1024
_WORTH = 8
_SLICE_TIME = 0.001


class RateLimiter:
    """The state of a `RateLimit`. Safe among threads.

    The bucket is kept as the time when it would be full again (the "generic cell rate algorithm"
    of ATM): a token is an interval of it. While there are plenty, a slice of them is set out, for
    a millisecond, to be taken without the lock; what is left of it goes back.

    Who waits has its token taken from the beginning, so that the bucket owes it. Only who came
    first sleeps until its token is there; the others wait for their turn, so that when one gives
    up all behind it move forward.
    """

    __slots__ = (
        "_burst",
        "_depth",
        "_full_at",
        "_interval",
        "_lock",
        "_pop",
        "_queue",
        "_slice_ends",
        "_slice_size",
        "spec",
    )

    def __init__(self, spec: RateLimit) -> None:
        self.spec = spec
        self._burst = spec.burst if spec.burst is not None else max(1, int(spec.per_second))
        self._interval = 1 / spec.per_second
        self._depth = self._burst * self._interval + self._interval * 1e-6 + _ROUNDING
        self._full_at = float("-inf")  # without the slice
        self._pop = list[None]().pop  # of the slice
        self._slice_size = 0
        self._slice_ends = float("-inf")
        self._queue: OrderedDict[ops.Signal, None] = OrderedDict()  # in order of arrival
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RateLimiter {self.spec.per_second:g}/s, {len(self._queue)} waiting>"

    @property
    def waiting(self) -> int:
        """How many calls wait for their token."""
        return len(self._queue)

    def balance(self, now: float) -> float:
        """Return how many tokens there are; negative ones are to come for those who wait."""
        with self._lock:
            self._end_slice(now)
            return self._burst - max(self._full_at - now, 0.0) / self._interval

    def try_acquire(self, now: float) -> bool:
        """Take a token if there is one."""
        if now < self._slice_ends:
            try:
                self._pop()  # atomic
                return True
            except IndexError:
                pass
        with self._lock:
            self._end_slice(now)
            full_at = max(self._full_at, now) + self._interval
            if full_at - now > self._depth:
                return False
            self._full_at = full_at
            self._set_out(now)
            return True

    def _set_out(self, now: float) -> None:
        """Set a slice out, where that is worth it."""
        tokens = min(int((self._depth - (self._full_at - now)) / self._interval), _SLICE)
        if tokens >= _WORTH:
            self._pop = ([None] * tokens).pop
            self._slice_size = tokens
            self._slice_ends = now + _SLICE_TIME

    def _end_slice(self, now: float) -> None:
        """Take the slice back, and account for what was taken of it."""
        if not self._slice_size:
            return
        left = 0
        ends, self._slice_ends = self._slice_ends, float("-inf")
        try:
            while True:  # others may still be taking
                self._pop()
                left += 1
        except IndexError:
            pass
        taken, self._slice_size = self._slice_size - left, 0
        if taken:
            # When exactly is not known: at the latest, so that there are never too many.
            self._full_at = max(self._full_at, min(now, ends)) + taken * self._interval

    def acquire(self, now: float, deadline: float) -> Program[None]:
        """Take a token, sleeping until it comes.

        Raises RateLimited at once when that would be after the deadline, or waiting is off.
        """
        spec = self.spec
        with self._lock:
            self._end_slice(now)
            full_at = max(self._full_at, now) + self._interval
            if full_at - now <= self._depth:
                self._full_at = full_at
                return
            at = full_at - self._burst * self._interval
            if not spec.wait or at > deadline:
                late = ", after the deadline" if spec.wait else ""
                raise RateLimited(
                    f"{spec.per_second:g} calls a second are made already:"
                    f" the next token comes in {at - now:.3g} s{late}"
                )
            self._full_at = full_at
            turn = ops.Signal()
            first = not self._queue
            self._queue[turn] = None
        got = False
        try:
            if not first:
                yield ops.Wait(turn, deadline)
            yield ops.Sleep(self._first_at())
            got = True
        finally:
            self._leave(turn, got)

    def _first_at(self) -> float:
        """Return when the token of who came first is there, which may be past."""
        with self._lock:
            behind = len(self._queue) - 1
            return self._full_at - (self._burst + behind) * self._interval

    def _leave(self, turn: ops.Signal, got: bool) -> None:
        """Stop waiting, with the token or without, and let the next one come forward."""
        following: ops.Signal | None = None
        with self._lock:
            first = next(iter(self._queue)) is turn
            del self._queue[turn]
            if not got:
                self._full_at -= self._interval
            if first and self._queue:
                following = next(iter(self._queue))
        if following is not None:
            following.fire()
