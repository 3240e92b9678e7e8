"""A part of the endpoints for each client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing.balancer import Chance, introduce, is_keyed
from holdfast.cluster.balancing.hashing import mixed, number_of
from holdfast.policy.checks import at_least

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cluster.balancing.names import BalancerTypes
    from holdfast.cluster.endpoints import Endpoint

__all__ = ["Subset", "subset"]


class Subset:
    """``size`` of the endpoints, among which ``inner`` picks: each client has few connections.

    Deterministic subsetting, from "Load Balancing in the Datacenter" in Google's "Site Reliability
    Engineering" (2016). ``client`` is this client's number, from 0 on without gaps: those of
    n // size clients make a round, in which no endpoint is taken twice, and each round deals the
    endpoints anew. When ``size`` does not divide n, the endpoints take turns to sit out, so that
    over any number of clients no two endpoints differ by more than two.

    Endpoints of different priorities are dealt apart, ``size`` of each. While none of the client's
    own is ready, it takes any.
    """

    def __init__(self, inner: BalancerTypes = "p2c", *, size: int, client: int) -> None:
        from holdfast.cluster.balancing.names import balancer_of  # it imports this module

        self.inner = balancer_of(inner)
        self.size = size
        self.client = client
        at_least(self, 1, "size")
        at_least(self, 0, "client")
        self.observes = self.inner.observes
        self.keyed = is_keyed(self.inner)
        self._own: frozenset[Endpoint] = frozenset()
        self._choice: tuple[Sequence[Endpoint], Sequence[Endpoint]] = (), ()

    def members(self, every: Sequence[Endpoint], version: int) -> None:
        """Deal the endpoints anew, and tell the inner balancer who is this client's."""
        own: set[Endpoint] = set()
        for priority in {endpoint.priority for endpoint in every}:
            group = [endpoint for endpoint in every if endpoint.priority == priority]
            own.update(subset(group, self.size, self.client))
        introduce(self.inner, tuple(one for one in every if one in own), version)
        self._own = frozenset(own)
        self._choice = (), ()

    def pick(
        self, ready: Sequence[Endpoint], now: float, random: Chance, key: Any = None
    ) -> Endpoint:
        """Return one of this client's."""
        seen, own = self._choice
        if seen is not ready:
            own = [endpoint for endpoint in ready if endpoint in self._own] or ready
            if isinstance(ready, tuple):
                own = tuple(own)
                self._choice = ready, own
        return self.inner.pick(own, now, random, key)

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Tell the inner balancer."""
        self.inner.observe(endpoint, seconds, now)

    def __repr__(self) -> str:
        return f"Subset({self.inner!r}, size={self.size}, client={self.client})"


def subset(endpoints: Sequence[Endpoint], size: int, client: int) -> list[Endpoint]:
    """Return a client's endpoints, whatever order they are given in."""
    count = len(endpoints)
    if count <= size:
        return list(endpoints)
    numbers = {endpoint: number_of(endpoint.name) for endpoint in endpoints}
    ordered = sorted(endpoints, key=lambda endpoint: (numbers[endpoint], endpoint.name))
    rounds, place = divmod(client, count // size)
    # So many sit out in a round: the next ones, in the next round.
    out = count % size
    first = rounds * out % count
    ordered = (ordered[first:] + ordered[:first])[out:]
    seed = mixed(rounds, 0)
    ordered.sort(key=lambda endpoint: mixed(numbers[endpoint], seed))
    return ordered[place * size : (place + 1) * size]
