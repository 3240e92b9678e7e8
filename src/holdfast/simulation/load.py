"""When calls arrive: a rate that changes over time, and arrivals drawn from it.

Calls arrive whether earlier ones were answered or not (an open loop), as the users of a large
service do: a client that waits for its answer before it asks again would hide an overload.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite, log, sqrt
from typing import TYPE_CHECKING, Literal

from holdfast.policy.checks import choice, not_negative
from holdfast.policy.specs import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

__all__ = ["Curve", "Load"]

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Calls a second over time, as straight pieces.

    A piece is ``(start, rate, slope)``: from ``start`` seconds on the rate is ``rate`` calls a
    second and grows by ``slope`` each second, until the next piece begins. The last one has no
    slope and lasts for ever. Before the first one there are no calls.
    """

    pieces: tuple[tuple[float, float, float], ...]

    @classmethod
    def constant(cls, rate: float) -> Self:
        """Return the curve of one rate for ever."""
        return cls(((0.0, rate, 0.0),))

    @classmethod
    def steps(cls, points: Sequence[tuple[float, float]]) -> Self:
        """Return a curve that jumps to each rate at its time and keeps it."""
        return cls(tuple((start, rate, 0.0) for start, rate in points))

    @classmethod
    def ramp(cls, points: Sequence[tuple[float, float]]) -> Self:
        """Return a curve of straight lines between points of a time and a rate."""
        pieces = [
            (start, rate, (next_rate - rate) / (end - start))
            for (start, rate), (end, next_rate) in pairwise(points)
        ]
        last, rate = points[-1]
        return cls((*pieces, (last, rate, 0.0)))

    def rate(self, time: float) -> float:
        """Return the calls a second at a time."""
        rate = 0.0
        for start, first, slope in self.pieces:
            if start > time:
                break
            rate = first + slope * (time - start)
        return rate

    def times(self, spacing: Callable[[], float]) -> Iterator[float]:
        """Iterate over the times of arrivals, which end when the rate is 0 for ever.

        ``spacing`` returns how many arrivals are to be expected until the next one: always 1 for
        even ones, exponentially distributed numbers of mean 1 for a Poisson process (the inverse
        of the cumulative rate turns a process of unit rate into one of this rate; see E. Çınlar,
        "Introduction to Stochastic Processes", 1975).
        """
        left = spacing()
        for number, (start, rate, slope) in enumerate(self.pieces):
            end = self.pieces[number + 1][0] if number + 1 < len(self.pieces) else inf
            while (after := _until(left, rate, slope)) < inf and start + after <= end:
                start += after
                rate += slope * after
                yield start
                left = spacing()
            # Not within this piece: what is expected of it is taken off, the next one goes on.
            if end < inf:
                left -= (rate + slope * (end - start) / 2) * (end - start)


def _until(expected: float, rate: float, slope: float) -> float:
    """Return the seconds until so many arrivals are expected: infinity when there are never."""
    if slope == 0:
        return expected / rate if rate > 0 else inf
    # rate · t + slope / 2 · t² = expected, solved without cancellation for a small slope.
    square = rate * rate + 2 * slope * expected
    if square < 0:
        return inf
    below = rate + sqrt(square)
    return 2 * expected / below if below > 0 else inf


@dataclass(frozen=True, slots=True, repr=False)
class Load(Spec):
    """How many calls arrive, and how regularly.

    One of: ``rate``, calls a second all the time; ``steps``, pairs of a time in seconds and the
    rate from then on; ``ramp``, pairs of a time and the rate at it, with straight lines between
    them. The rates are those of all clients together. ``arrivals``: ``"poisson"``, as many
    independent users make them, or ``"even"``, one after the other in equal distances.
    """

    rate: float | None = None
    steps: Points | None = None
    ramp: Points | None = None
    arrivals: Literal["poisson", "even"] = "poisson"

    def __post_init__(self) -> None:
        given = [name for name in ("rate", "steps", "ramp") if getattr(self, name) is not None]
        if len(given) != 1:
            have = " and ".join(given) or "none of them"
            raise ValueError(f"Load: one of rate, steps and ramp is to be given, not {have}")
        if self.rate is not None:
            not_negative(self, "rate")
        for name in ("steps", "ramp"):
            _check(getattr(self, name), name)
        choice(self, ("poisson", "even"), "arrivals")

    @property
    def curve(self) -> Curve:
        """The rate over time."""
        if self.rate is not None:
            return Curve.constant(self.rate)
        return Curve.steps(self.steps) if self.steps is not None else Curve.ramp(self.ramp or ())

    def times(self, random: Callable[[], float]) -> Iterator[float]:
        """Iterate over the times of arrivals, in seconds; ``random`` returns numbers in [0, 1)."""
        if self.arrivals == "even":
            return self.curve.times(lambda: 1.0)
        return self.curve.times(lambda: -log(1.0 - random()))


def _check(points: Points | None, name: str) -> None:
    if points is None:
        return
    if not points:
        raise ValueError(f"Load: {name} must have a point at least, not {points!r}")
    for time, rate in points:
        if not (isfinite(time) and isfinite(rate) and time >= 0 and rate >= 0):
            raise ValueError(f"Load: {name} must have times and rates from 0, not {[time, rate]!r}")
    for (one, _), (other, _) in pairwise(points):
        if not one < other:
            raise ValueError(f"Load: {name} must go forward in time, not from {one:g} to {other:g}")
