"""Balancers that look at the load, or at the latency."""

from __future__ import annotations

from math import exp
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing.balancer import Chance, Unobserving
from holdfast.policy.checks import positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["LeastLoaded", "PeakEWMA", "PowerOfTwo"]

#: How many endpoints `LeastLoaded` looks at before it looks at all.
_GLANCES = 4

_in_flight = attrgetter("in_flight")


def _two(ready: Sequence[Endpoint], random: Chance) -> tuple[Endpoint, Endpoint]:
    """Return two different endpoints at random, when there are two."""
    count = len(ready)
    first = int(random() * count)
    if count == 1:
        return ready[first], ready[first]
    second = int(random() * (count - 1))
    return ready[first], ready[second if second < first else second + 1]


class PowerOfTwo(Unobserving):
    """Of two endpoints at random the one with fewer calls in flight.

    M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).
    """

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return the less loaded of two."""
        # As `_two`, without the call: this is the default.
        count = len(ready)
        if count == 1:
            return ready[0]
        one = ready[int(random() * count)]
        other = ready[int(random() * count)]
        if other is one:
            one, other = _two(ready, random)
        return one if one.in_flight <= other.in_flight else other

    def __repr__(self) -> str:
        return "PowerOfTwo()"


class LeastLoaded(Unobserving):
    """The endpoint with the fewest calls in flight, one of them at random when there are several.

    What nginx's ``least_conn`` and HAProxy's ``leastconn`` do. An idle endpoint is as little
    loaded as any, so that a few looks at random find one while a good part of the endpoints is
    idle: a pick is then O(1). Only when these looks fail are all endpoints looked at.
    """

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return the least loaded of all."""
        count = len(ready)
        for _ in range(min(_GLANCES, count)):
            endpoint = ready[int(random() * count)]
            if not endpoint.in_flight:
                return endpoint
        loads = list(map(_in_flight, ready))
        least = min(loads)
        place = -1
        for _ in range(1 + int(random() * loads.count(least))):
            place = loads.index(least, place + 1)
        return ready[place]

    def __repr__(self) -> str:
        return "LeastLoaded()"


class PeakEWMA:
    """Of two endpoints at random the one with less latency × (calls in flight + 1).

    Latency is an exponentially weighted moving average that a peak raises at once and that
    decays in ``decay`` seconds (Finagle's p2cPeakEwma). An endpoint that has not answered yet is
    taken when it is idle, and avoided while its first call is under way.
    """

    observes = True

    def __init__(self, decay: float = 10.0) -> None:
        self.decay = decay
        positive(self, "decay")

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return the one of two with the lesser cost."""
        one, other = _two(ready, random)
        return one if self.cost(one, now) <= self.cost(other, now) else other

    def cost(self, endpoint: Endpoint, now: float) -> float:
        """Return an endpoint's cost, in seconds."""
        pending = endpoint.in_flight
        if not endpoint.latency:
            return 1e6 + pending if pending else 0.0
        age = max(now - endpoint.observed, 0.0)
        return endpoint.latency * exp(-age / self.decay) * (pending + 1)

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Move the average; a peak counts whole."""
        age = max(now - endpoint.observed, 0.0)
        weight = exp(-age / self.decay)
        mean = endpoint.latency * weight + seconds * (1 - weight)
        endpoint.latency = max(seconds, mean)
        endpoint.observed = now

    def __repr__(self) -> str:
        return f"PeakEWMA(decay={self.decay:g})"
