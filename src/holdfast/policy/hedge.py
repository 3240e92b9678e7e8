"""Hedged requests: when an answer is late, another endpoint is asked as well."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import ceil, log

from holdfast.policy.checks import at_least, limit, positive, quantile
from holdfast.policy.specs import Spec

__all__ = ["Hedge", "LatencyQuantile"]


@dataclass(frozen=True, slots=True, repr=False)
class Hedge(Spec):
    """A second attempt elsewhere once the first one is slower than usual.

    It begins when the first has taken longer than the share ``quantile`` of recent attempts did;
    ``extra`` of them follow each other at that distance. Whichever answers well first wins, and
    the others are cancelled. Hedges are paid from the retry budget, and made only for what may be
    carried out twice. Recent are the last ``window`` seconds; with fewer than ``calls`` in them
    there is no hedge. ``after`` is a fixed wait in seconds, instead of the quantile.
    (J. Dean, L. A. Barroso, "The Tail at Scale", 2013.)
    """

    quantile: float = 0.95
    extra: int = 1
    window: float = 30.0
    calls: int = 20
    after: float | None = None

    def __post_init__(self) -> None:
        quantile(self, "quantile")
        positive(self, "window")
        at_least(self, 1, "extra", "calls")
        limit(self, "after")


# Buckets of a histogram grow by a twentieth: that is how exact a quantile is.
_STEP = log(1.05)
_LEAST = 1e-5  # seconds


class LatencyQuantile:
    """The state of a `Hedge`: a quantile of recent latencies. Safe among threads.

    Two histograms of half the window each: the newer one collects, both count.
    """

    __slots__ = ("_count", "_known", "_known_until", "_lock", "_new", "_old", "_turn_at", "spec")

    def __init__(self, spec: Hedge) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._turn_at = float("-inf")
        self._known: float | None = None
        self._known_until = float("-inf")
        self._count = 0

    def record(self, seconds: float, now: float) -> None:
        """Count an attempt that answered."""
        bucket = ceil(log(max(seconds, _LEAST) / _LEAST) / _STEP)
        with self._lock:
            if now >= self._turn_at:
                self._turn(now)
            self._new[bucket] = self._new.get(bucket, 0) + 1
            self._count += 1

    def delay(self, now: float) -> float | None:
        """Return the seconds after which to hedge, None when too little is known."""
        if self.spec.after is not None:
            return self.spec.after
        with self._lock:
            if now >= self._turn_at:
                self._turn(now)
            # A quantile changes slowly: it is computed anew a hundred times a window.
            if now >= self._known_until:
                self._known = self._quantile()
                if self._known is not None:
                    self._known_until = now + self.spec.window / 100
            return self._known

    def _turn(self, now: float) -> None:
        half = self.spec.window / 2
        # After a long silence the newer half is too old as well.
        self._old = self._new if now < self._turn_at + half else {}
        self._new = {}
        self._count = sum(self._old.values())
        self._turn_at = now + half

    def _quantile(self) -> float | None:
        if self._count < self.spec.calls:
            return None
        left = self.spec.quantile * self._count
        for bucket in sorted(self._new.keys() | self._old.keys()):
            left -= self._new.get(bucket, 0) + self._old.get(bucket, 0)
            if left <= 1e-9:
                break
        return float(_LEAST * 1.05**bucket)
