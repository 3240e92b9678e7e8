"""Adaptive concurrency limits: the limit follows what the host can take.

Theory of operation: by Little's law, calls beyond what a host can do at once only wait there.
*Gradient* sees that wait: it compares the latency of now with that of long, and lowers the limit
by their ratio. *AIMD* sees only what is lost. Both are from Netflix's concurrency-limits
(`Gradient2Limit`, fed by a `WindowedLimit`; `AIMDLimit`), with one difference: a loss lowers the
limit at most once a round trip, as in TCP. A call that began before the limit was lowered says
nothing about the new limit; otherwise a hundred calls lost at once would lower it a hundred times.

Nothing here has a lock: a `Limiter` guards its algorithm with its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from holdfast.policy.checks import (
    at_least,
    choice,
    limit,
    ordered,
    positive,
    quantile,
    share,
    wrong,
)
from holdfast.policy.specs import Spec

__all__ = ["AIMD", "AdaptiveLimit", "Algorithm", "Gradient", "algorithm_of"]


@dataclass(frozen=True, slots=True, repr=False)
class AdaptiveLimit(Spec):
    """A concurrency limit that adapts, from ``initial`` on, between ``least`` and ``most``.

    ``queue`` more calls may wait for their turn. Whatever the ``algorithm``, a call that is lost
    to overload (a time limit, a refusal, 429 or 503) lowers the limit to ``backoff`` times what it
    was, and the limit only grows while at least half of it is used.

    ``"gradient"`` takes the mean latency of windows of at least ``window`` seconds and ``samples``
    calls, and an average over about ``long_window`` of them. While the window's is at most
    ``tolerance`` times the average, the limit grows; above, it shrinks by their ratio, at most by
    half; ``smoothing`` is the share of a step that is made at once. ``headroom`` is how many calls
    may wait at the host: by so many a step grows.

    ``"aimd"`` (additive increase, multiplicative decrease) adds 1 with every success. Calls that
    take longer than ``slow_after`` seconds count as lost.

    The parameters' defaults are those of Netflix's concurrency-limits, save the bounds.
    """

    algorithm: Literal["gradient", "aimd"] = "gradient"
    initial: int = 20
    least: int = 1
    most: int = 1000
    queue: int = 100
    backoff: float = 0.9
    smoothing: float = 0.2
    tolerance: float = 1.5
    headroom: int = 4
    long_window: int = 600
    window: float = 1.0
    samples: int = 10
    slow_after: float | None = None

    def __post_init__(self) -> None:
        choice(self, ("gradient", "aimd"), "algorithm")
        at_least(self, 1, "initial", "least", "most", "headroom", "long_window", "samples")
        at_least(self, 0, "queue")
        ordered(self, "least", "initial", "most")
        quantile(self, "backoff")
        share(self, "smoothing")
        positive(self, "smoothing", "tolerance", "window")
        if self.tolerance < 1:  # it would shrink while nothing changes
            raise wrong(self, "tolerance", "must be at least 1", self.tolerance)
        limit(self, "slow_after")


class _Losses:
    """When the limit was last lowered because of a loss, to do so once a round trip."""

    __slots__ = ("_lowered",)

    def __init__(self) -> None:
        self._lowered = -inf

    def lowers(self, seconds: float, now: float) -> bool:
        """Tell whether a call of so many seconds, lost now, may lower the limit."""
        if now - seconds <= self._lowered:
            return False
        self._lowered = now
        return True


class AIMD:
    """The state of the algorithm ``"aimd"``; ``limit`` is what it came to."""

    __slots__ = ("_losses", "limit", "spec")

    def __init__(self, spec: AdaptiveLimit) -> None:
        self.spec = spec
        self.limit = spec.initial
        self._losses = _Losses()

    def __repr__(self) -> str:
        return f"<AIMD {self.limit}>"

    def update(self, seconds: float, dropped: bool, in_flight: int, now: float) -> int:
        """Take a call that ended, and how many were in flight with it; return the limit."""
        spec = self.spec
        if dropped or (spec.slow_after is not None and seconds > spec.slow_after):
            if self._losses.lowers(seconds, now):
                self.limit = max(spec.least, int(self.limit * spec.backoff))
        elif in_flight * 2 >= self.limit:
            self.limit = min(spec.most, self.limit + 1)
        return self.limit


class Gradient:
    """The state of the algorithm ``"gradient"``; ``limit`` is what it came to.

    ``latency`` is the mean of the last window, ``usual`` the average over the long one, both in
    seconds.
    """

    __slots__ = (
        "_count",
        "_estimate",
        "_losses",
        "_peak",
        "_sum",
        "_until",
        "_windows",
        "latency",
        "limit",
        "spec",
        "usual",
    )

    #: So many windows make a plain mean, before the average becomes exponential.
    WARM_UP = 10
    #: An average that is more than so many times the window's latency is from bad times,
    STALE = 2.0
    #: and is lowered by this, so that it does not take ``long_window`` to forget them.
    FORGET = 0.95
    #: A step shrinks the limit by this at most: one window may be an outlier.
    STEEPEST = 0.5

    def __init__(self, spec: AdaptiveLimit) -> None:
        self.spec = spec
        self.limit = spec.initial
        self.latency = self.usual = 0.0
        self._estimate = float(spec.initial)
        self._losses = _Losses()
        self._windows = 0
        self._until = -inf  # when the window ends, if it has its samples by then
        self._sum = 0.0  # of the window: seconds,
        self._count = 0  # calls,
        self._peak = 0  # and the most in flight

    def __repr__(self) -> str:
        return f"<Gradient {self.limit}: {self.latency:.4g} s, usually {self.usual:.4g} s>"

    def update(self, seconds: float, dropped: bool, in_flight: int, now: float) -> int:
        """Take a call that ended, and how many were in flight with it; return the limit."""
        if dropped:
            # What was cut short, or refused at once, has no latency to learn from.
            if self._losses.lowers(seconds, now):
                self._move(self._estimate * self.spec.backoff)
            return self.limit
        self._sum += seconds
        self._count += 1
        if in_flight > self._peak:
            self._peak = in_flight
        if self._count >= self.spec.samples and now >= self._until:
            self._learn(self._sum / self._count)
            if self._peak * 2 >= self.limit:  # otherwise it is not the limit that makes latency
                self._step()
            self._until = now + self.spec.window
            self._sum = 0.0
            self._count = self._peak = 0
        return self.limit

    def _learn(self, latency: float) -> None:
        """Take a window's latency into the average."""
        self.latency = latency
        if self._windows < self.WARM_UP:
            self._windows += 1
            self.usual += (latency - self.usual) / self._windows
        else:
            self.usual += (latency - self.usual) * 2 / (self.spec.long_window + 1)
        if self.usual > self.STALE * self.latency:
            self.usual *= self.FORGET

    def _step(self) -> None:
        spec = self.spec
        bound = spec.tolerance * self.usual
        gradient = 1.0 if self.latency <= bound else max(self.STEEPEST, bound / self.latency)
        goal = self._estimate * gradient + spec.headroom
        self._move(self._estimate + (goal - self._estimate) * spec.smoothing)

    def _move(self, estimate: float) -> None:
        self._estimate = min(float(self.spec.most), max(float(self.spec.least), estimate))
        self.limit = int(self._estimate)


Algorithm = AIMD | Gradient


def algorithm_of(spec: AdaptiveLimit) -> Algorithm:
    """Return the algorithm of a specification, at its beginning."""
    return Gradient(spec) if spec.algorithm == "gradient" else AIMD(spec)
