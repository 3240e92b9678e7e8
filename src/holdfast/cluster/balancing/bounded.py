"""Consistent hashing with bounded loads."""

from __future__ import annotations

from math import ceil
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing.balancer import Chance, Unobserving
from holdfast.cluster.balancing.hashing import Hashing
from holdfast.policy.checks import above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.balancing.names import BalancerTypes
    from holdfast.cluster.endpoints import Endpoint

__all__ = ["BoundedLoad"]

#: Among so many endpoints or fewer, the load is counted at each pick; among more, once in a
#: number of picks that grows with theirs, so that a pick costs the same.
_COUNTED = 64

#: Seconds after which the load is counted again in any case.
_STALE = 0.1

_in_flight = attrgetter("in_flight")


class BoundedLoad(Unobserving):
    """The key's endpoint, unless it has more than ``c`` times the mean of calls in flight.

    Then the next one in the key's order that has not. V. Mirrokni, M. Thorup and M. Zadimoghaddam,
    "Consistent Hashing with Bounded Loads" (2016): none has more than ⌈c · mean⌉ calls, the new one
    included; the mean is over the endpoints that are ready, in proportion to their weights.
    ``inner`` is a balancer by key: `Ring`, `Maglev` or `Rendezvous`, or the name of one.

    Calls in flight are counted at each pick among up to 64 endpoints, and among n at least every
    n/64 picks and ten times a second: then the mean is that of the last count.
    """

    keyed = True

    def __init__(self, inner: BalancerTypes = "ring", c: float = 1.25) -> None:
        from holdfast.cluster.balancing.names import balancer_of  # it imports this module

        balancer = balancer_of(inner)
        if not isinstance(balancer, Hashing):
            raise ValueError(f"BoundedLoad: inner must be a balancer by key, not {inner!r}")
        self.inner = balancer
        self.c = c
        above(self, 1, "c")
        self._load = _Load((), 0.0)

    def members(self, every: Sequence[Endpoint], version: int) -> None:
        """Tell the inner balancer."""
        self.inner.members(every, version)
        self._load = _Load((), 0.0)  # weights may have changed

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return the first one in the key's order that is not too busy."""
        inner = self.inner
        number = inner.number(key, random)
        endpoint = inner.first(number, ready)
        if not endpoint.in_flight:  # one call is always allowed
            return endpoint
        load = self._load
        if load.ready is not ready or not load.picks or now >= load.until:
            load = self._load = _Load(ready, now)
        load.picks -= 1
        # Calls in flight for a weight of 1. Rounding must not make a whole number more than it is.
        share = self.c * (load.calls + 1) / load.weight - 1e-9
        least, spare = endpoint, 0.0
        for endpoint in inner.order(number, ready):
            calls = endpoint.in_flight
            if calls < ceil(share * endpoint.weight):
                return endpoint
            if endpoint.weight / calls > spare:
                least, spare = endpoint, endpoint.weight / calls
        return least  # there are more calls than were counted

    def __repr__(self) -> str:
        return f"BoundedLoad({self.inner!r}, c={self.c:g})"


class _Load:
    """The calls in flight at those that are ready, and for how many picks that is good."""

    __slots__ = ("calls", "picks", "ready", "until", "weight")

    def __init__(self, ready: Sequence[Endpoint], now: float) -> None:
        self.ready = ready
        self.calls = sum(map(_in_flight, ready))
        self.weight = sum(endpoint.weight for endpoint in ready)
        self.picks = max(1, len(ready) // _COUNTED)
        self.until = now + _STALE
