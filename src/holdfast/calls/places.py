"""A function that is called at many places, one circuit and one limit for each.

As `holdfast.cluster.functions` has one endpoint for a function, here are as many as the load
balancer names: they come when it names them first, and of very many those used longest ago are
forgotten.
"""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.calls.agents import PLACES
from holdfast.calls.balancers import Place
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.cluster.functions import FunctionCore
from holdfast.cluster.hosts import shown
from holdfast.errors import CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.calls.balancers import LoadBalancer
    from holdfast.cluster.hosts import Host
    from holdfast.ops import Program
    from holdfast.policy import Policy

__all__ = ["BalancedCore", "Netloc"]

_NOWHERE: Place = ("", "")


class Netloc(Endpoint):
    """One place that the load balancer named, with its circuit and its limit."""

    __slots__ = ("used", "where")

    def __init__(self, address: str, policy: Policy) -> None:
        protocol, _, netloc = address.partition("://")
        super().__init__(shown(netloc), policy)
        self.identity = address
        self.where: Place = (protocol, netloc)
        self.used = 0.0  # when it was chosen last


class BalancedCore(FunctionCore):
    """The state of a function whose attempts go where a load balancer says, if there is one."""

    def __init__(
        self,
        policy: Policy,
        name: str,
        balancer: LoadBalancer | None,
        *,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(policy, name, clock=clock)
        self.load = balancer
        if balancer is not None:
            # What no ordinary first attempt can do.
            self._special = True
            self._places: dict[Place, Netloc] = {}
            self._adding = threading.Lock()
            self.call_endpoints(EndpointSet(self._netloc))
            self.choose = self._choose

    def find_hosts(self, deadline: float) -> Program[bool]:
        """Wait for hosts where the load balancer knows none yet."""
        if self.load is None:
            return super().find_hosts(deadline)
        return self.load.find(deadline)

    def free(self, endpoint: Endpoint, slots: int) -> None:
        """Give an attempt's slots back, and tell the load balancer."""
        super().free(endpoint, slots)
        if self.load is not None and isinstance(endpoint, Netloc):
            self.load.ended(endpoint.where)

    def place_of(self, endpoint: Endpoint) -> Place:
        """Return where an attempt goes."""
        return endpoint.where if isinstance(endpoint, Netloc) else _NOWHERE

    def _choose(
        self,
        now: float,
        tried: Sequence[Endpoint] = (),
        prefer: Callable[[], Iterable[Endpoint]] | None = None,
        key: Any = None,
    ) -> tuple[Endpoint, int]:
        """Return the netloc for an attempt, and the permit: if possible one not tried yet."""
        balancer = self.load
        assert balancer is not None
        if now >= self.endpoints.next_return:
            self.endpoints.bring_back(now)
        avoid = {self.place_of(endpoint) for endpoint in tried}
        shut: list[Endpoint] = []
        while True:  # each turn returns, or has one more to avoid
            place = balancer.choose(avoid)
            permit = 0
            try:
                if place in avoid:
                    break
                other = self._at(place, now)
                permit = other.permit or self.endpoints.admit(other, now)
            finally:
                if not permit:
                    balancer.declined(place)
            if permit:
                balancer.began(place)
                return other, permit
            avoid.add(place)
            shut.append(other)
        # Nobody new: rather one that has failed in this call than none.
        for endpoint in tried:
            if endpoint in shut or endpoint.place < 0:
                continue
            permit = endpoint.permit or self.endpoints.admit(endpoint, now)
            if permit:
                balancer.began(self.place_of(endpoint))
                return endpoint, permit
        raise _all_open([*shut, *tried], now)

    def _at(self, place: Place, now: float) -> Netloc:
        """Return the endpoint of a place, new ones included."""
        endpoint = self._places.get(place)
        if endpoint is None:
            endpoint = self._add(place, now)
        endpoint.used = now
        return endpoint

    def _add(self, place: Place, now: float) -> Netloc:
        with self._adding:
            endpoint = self._places.get(place)
            if endpoint is not None:
                return endpoint
            if len(self._places) >= PLACES:
                idle = [one for one in self._places.values() if not one.in_flight]
                if idle:
                    del self._places[min(idle, key=lambda one: one.used).where]
            address = "://".join(place)
            self.endpoints.update(["://".join(other) for other in self._places] + [address], now)
            added = self.endpoints.all[-1]
            assert isinstance(added, Netloc)
            self._places[place] = added
            return added

    def _netloc(self, host: Host) -> Endpoint:
        return self.watch(Netloc(host.address, self.policy))


def _all_open(endpoints: Sequence[Endpoint], now: float) -> CircuitOpenError:
    soonest = min((endpoint.ready_at(now, True) - now for endpoint in endpoints), default=inf)
    when = f"tried again in {soonest:.3g} s" if soonest < inf else "they are being probed"
    names = ", ".join(dict.fromkeys(endpoint.name for endpoint in endpoints[:5]))
    more = f" and {len(endpoints) - 5} more" if len(endpoints) > 5 else ""
    return CircuitOpenError(f"the circuit of every netloc is open ({names}{more}); {when}")
