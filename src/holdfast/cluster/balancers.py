"""Which endpoint: algorithms that choose one of those that are ready."""

from __future__ import annotations

import itertools
from math import exp
from typing import TYPE_CHECKING, Protocol, TypeAlias

from holdfast.policy.checks import positive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Balancer", "BalancerTypes", "PeakEWMA", "PowerOfTwo", "RoundRobin", "balancer_of"]

Random: TypeAlias = "Callable[[], float]"


class Balancer(Protocol):
    """Chooses among endpoints; shared by threads."""

    #: Whether `observe` is to be called with latencies.
    observes: bool

    def pick(self, ready: Sequence[Endpoint], now: float, random: Random) -> Endpoint:
        """Return one of ``ready``, which is not empty."""

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Take note of how long an answer took."""


def _two(ready: Sequence[Endpoint], random: Random) -> tuple[Endpoint, Endpoint]:
    """Return two different endpoints at random, when there are two."""
    count = len(ready)
    first = int(random() * count)
    if count == 1:
        return ready[first], ready[first]
    second = int(random() * (count - 1))
    return ready[first], ready[second if second < first else second + 1]


class PowerOfTwo:
    """Of two endpoints at random the one with fewer calls in flight.

    M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).
    """

    observes = False

    def pick(self, ready: Sequence[Endpoint], now: float, random: Random) -> Endpoint:
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

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Need no latencies."""

    def __repr__(self) -> str:
        return "PowerOfTwo()"


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

    def pick(self, ready: Sequence[Endpoint], now: float, random: Random) -> Endpoint:
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


class RoundRobin:
    """One after the other."""

    observes = False

    def __init__(self) -> None:
        self._turns = itertools.count()

    def pick(self, ready: Sequence[Endpoint], now: float, random: Random) -> Endpoint:
        """Return the next one."""
        return ready[next(self._turns) % len(ready)]

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Need no latencies."""

    def __repr__(self) -> str:
        return "RoundRobin()"


#: A balancer, or the name of one.
BalancerTypes: TypeAlias = Balancer | str

_NAMES: dict[str, Callable[[], Balancer]] = {
    "p2c": PowerOfTwo,
    "peak-ewma": PeakEWMA,
    "round-robin": RoundRobin,
}


def balancer_of(value: BalancerTypes) -> Balancer:
    """Return the balancer that a value is or names; ValueError for an unknown name."""
    if not isinstance(value, str):
        return value
    try:
        return _NAMES[value]()
    except KeyError:
        known = ", ".join(_NAMES)
        raise ValueError(f"no balancer is named {value!r}; there are {known}") from None
