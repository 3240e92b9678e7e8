"""What is measured in a simulation: counts and latencies over time.

A call belongs to the period in which it arrived, whenever it ended. So in each period what was
offered is exactly what went well and what failed.
"""

from __future__ import annotations

from math import ceil, exp, log
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["QUANTILES", "Histogram", "Meter", "Period"]

#: The latencies that are shown, by name.
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}

# Buckets a hundredth wide each: a quantile is right within half of that, from a microsecond on.
_LEAST = 1e-6
_SCALE = 1 / log(1.01)


class Histogram:
    """Counts of durations in buckets that grow by a hundredth; may be added to another one."""

    __slots__ = ("count", "counts")

    def __init__(self) -> None:
        self.count = 0
        self.counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count a duration."""
        bucket = int(log(seconds / _LEAST) * _SCALE) if seconds > _LEAST else 0
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1

    def update(self, other: Histogram) -> None:
        """Count what another histogram has counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.count += other.count

    def quantile(self, share: float) -> float | None:
        """Return the duration that this share of all did not exceed; None of nothing."""
        wanted = max(ceil(share * self.count), 1)
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return _LEAST * exp((bucket + 0.5) / _SCALE)
        return None


class Period:
    """What became of the calls that arrived from ``start`` to ``end``, in seconds.

    ``offered`` calls arrived, ``good`` were answered without an error, ``failed`` were not;
    ``attempts`` were made for all of them. ``latency``: of the good ones. ``errors``: how many
    failed by what. ``ejected``, ``open``: how many hosts were ejected, and had an open circuit,
    on average of all clients: the most at any moment.
    """

    __slots__ = (
        "attempts",
        "ejected",
        "end",
        "errors",
        "failed",
        "good",
        "latency",
        "offered",
        "open",
        "start",
    )

    def __init__(self, start: float, end: float) -> None:
        self.start = start
        self.end = end
        self.offered = self.good = self.failed = self.attempts = 0
        self.latency = Histogram()
        self.errors: dict[str, int] = {}
        self.ejected = self.open = 0.0

    def __repr__(self) -> str:
        return (
            f"<Period {self.start:g}–{self.end:g} s: {self.offered} offered, {self.good} good, "
            f"{self.failed} failed>"
        )

    @classmethod
    def of(cls, periods: Sequence[Period]) -> Period:
        """Return periods that follow each other as one."""
        whole = cls(periods[0].start, periods[-1].end)
        for period in periods:
            whole.offered += period.offered
            whole.good += period.good
            whole.failed += period.failed
            whole.attempts += period.attempts
            whole.latency.update(period.latency)
            for name, count in period.errors.items():
                whole.errors[name] = whole.errors.get(name, 0) + count
            whole.ejected = max(whole.ejected, period.ejected)
            whole.open = max(whole.open, period.open)
        return whole

    def succeed(self, seconds: float) -> None:
        """Count a call that went well, and how long it took."""
        self.good += 1
        self.latency.add(seconds)

    def fail(self, error: str) -> None:
        """Count a call that failed, and by what."""
        self.failed += 1
        self.errors[error] = self.errors.get(error, 0) + 1

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start

    @property
    def per_call(self) -> float | None:
        """How many attempts a call took on average; None without calls."""
        return self.attempts / self.offered if self.offered else None

    def quantile(self, share: float) -> float | None:
        """Return the latency, in seconds, that this share of the good calls did not exceed."""
        return self.latency.quantile(share)

    def as_json(self) -> dict[str, Any]:
        """Return an object for JSON; rates are calls a second, latencies milliseconds."""
        quantiles = {name: self.quantile(share) for name, share in QUANTILES.items()}
        return {
            "start": round(self.start, 6),
            "end": round(self.end, 6),
            "offered": self.offered,
            "good": self.good,
            "failed": self.failed,
            "attempts": self.attempts,
            "offered_per_second": round(self.offered / self.seconds, 3),
            "goodput_per_second": round(self.good / self.seconds, 3),
            "attempts_per_call": None if self.per_call is None else round(self.per_call, 4),
            **{
                f"{name}_ms": None if value is None else round(value * 1000, 3)
                for name, value in quantiles.items()
            },
            "ejected": round(self.ejected, 3),
            "circuits_open": round(self.open, 3),
            "errors": dict(sorted(self.errors.items())),
        }


class Meter:
    """Measures a run of ``duration`` seconds in periods of ``interval`` seconds."""

    def __init__(self, duration: float, interval: float) -> None:
        count = max(ceil(round(duration / interval, 9)), 1)
        self._interval = interval
        self.periods = tuple(
            Period(number * interval, min((number + 1) * interval, duration))
            for number in range(count)
        )

    def arrived(self, time: float) -> Period:
        """Count a call that arrives, and return the period that its outcome belongs to."""
        period = self.at(time)
        period.offered += 1
        return period

    def at(self, time: float) -> Period:
        """Return the period that a time is in; the last one for all that is later."""
        return self.periods[min(int(time / self._interval), len(self.periods) - 1)]
