"""Counts over the last seconds, or over the last calls."""

from __future__ import annotations

__all__ = ["LastCalls", "Window"]


class Window:
    """Counts of calls, failures and slow calls over a sliding time, in ten buckets.

    The oldest bucket leaves all at once. `hit` may be called without a lock: should two threads
    meet there, one count is lost, which does no harm. The rest is for the owner's lock.
    """

    __slots__ = ("_buckets", "_width", "failures", "hits", "seconds", "slow", "until")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._width = seconds / 10
        self.until = float("-inf")  # when the newest bucket ends
        self.hits = 0  # in the newest bucket
        self.failures = 0
        self.slow = 0
        self._buckets: list[tuple[float, int, int, int]] = []  # older ones, by when they ended

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

    def add(self, failed: bool, slow: bool, now: float) -> None:
        """Count a call with its verdict."""
        if now >= self.until:
            self.turn(now)
        self.hits += 1
        self.failures += failed
        self.slow += slow

    def totals(self, now: float) -> tuple[int, int]:
        """Return the calls and the failures of the window that ends now."""
        return self.counts(now)[:2]

    def counts(self, now: float) -> tuple[int, int, int]:
        """Return the calls, the failures and the slow calls of the window that ends now."""
        if now >= self.until:
            self.turn(now)
        hits, failures, slow = self.hits, self.failures, self.slow
        for ended, one, two, three in self._buckets:
            if ended > now - self.seconds:
                hits += one
                failures += two
                slow += three
        return hits, failures, slow

    def clear(self) -> None:
        """Forget all."""
        self._buckets = []
        self.hits = self.failures = self.slow = 0

    def turn(self, now: float) -> None:
        """Close the newest bucket, and let go of those that ended too long ago."""
        kept = [*self._buckets, (self.until, self.hits, self.failures, self.slow)]
        self._buckets = [bucket for bucket in kept if bucket[0] > now - self.seconds]
        self.hits = self.failures = self.slow = 0
        self.until = now + self._width


class LastCalls:
    """Counts of failures and slow calls among the last ``size`` calls, exactly.

    For the owner's lock. It answers to what a `Window` does; the time has no influence.
    """

    __slots__ = ("_failures", "_next", "_slow", "_verdicts", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._verdicts = bytearray()  # a byte for each call: 1 is failed, 2 is slow; then a ring
        self._next = 0  # where the oldest is, once the ring is full
        self._failures = 0
        self._slow = 0

    def add(self, failed: bool, slow: bool, now: float) -> None:
        """Count a call with its verdict; the oldest call leaves when the window is full."""
        verdict = failed | slow << 1
        if len(self._verdicts) < self.size:
            self._verdicts.append(verdict)
        else:
            oldest = self._verdicts[self._next]
            self._failures -= oldest & 1
            self._slow -= oldest >> 1
            self._verdicts[self._next] = verdict
            self._next = (self._next + 1) % self.size
        self._failures += failed
        self._slow += slow

    def counts(self, now: float) -> tuple[int, int, int]:
        """Return how many calls there are, how many of them failed, and how many were slow."""
        return len(self._verdicts), self._failures, self._slow

    def clear(self) -> None:
        """Forget all."""
        self._verdicts.clear()
        self._next = self._failures = self._slow = 0
