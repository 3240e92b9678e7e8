"""Counts over the last seconds."""

from __future__ import annotations

__all__ = ["Window"]


class Window:
    """Counts of calls and of failures over a sliding time, in ten buckets.

    The oldest bucket leaves all at once. `hit` may be called without a lock: should two threads
    meet there, one count is lost, which does no harm. The rest is for the owner's lock.
    """

    __slots__ = ("_buckets", "_width", "failures", "hits", "seconds", "until")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._width = seconds / 10
        self.until = float("-inf")  # when the newest bucket ends
        self.hits = 0  # in the newest bucket
        self.failures = 0
        self._buckets: list[tuple[float, int, int]] = []  # older ones, by when they ended

    def hit(self, now: float) -> None:
        """Count a call."""
        if now >= self.until:
            self.turn(now)
        self.hits += 1

    def fail(self, now: float) -> None:
        """Count a failure (or whatever else is set against the calls)."""
        if now >= self.until:
            self.turn(now)
        self.failures += 1

    def totals(self, now: float) -> tuple[int, int]:
        """Return the calls and the failures of the window that ends now."""
        if now >= self.until:
            self.turn(now)
        hits, failures = self.hits, self.failures
        for ended, one, two in self._buckets:
            if ended > now - self.seconds:
                hits += one
                failures += two
        return hits, failures

    def clear(self) -> None:
        """Forget all."""
        self._buckets = []
        self.hits = self.failures = 0

    def turn(self, now: float) -> None:
        """Close the newest bucket, and let go of those that ended too long ago."""
        kept = [*self._buckets, (self.until, self.hits, self.failures)]
        self._buckets = [bucket for bucket in kept if bucket[0] > now - self.seconds]
        self.hits = self.failures = 0
        self.until = now + self._width
