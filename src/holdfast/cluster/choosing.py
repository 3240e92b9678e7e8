"""Which endpoint to call: the balancer's choice among those that may be called."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from holdfast.errors import CircuitOpenError, HoldfastError, NoEndpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.cluster.balancers import Balancer
    from holdfast.cluster.endpoints import Endpoint, EndpointSet

__all__ = ["Chooser"]


class Chooser:
    """Chooses endpoints and gets the permits to call them."""

    def __init__(
        self, endpoints: EndpointSet, balancer: Balancer, random: Callable[[], float]
    ) -> None:
        self._endpoints = endpoints
        self._balancer = balancer
        self._random = random

    def choose(
        self,
        now: float,
        tried: Sequence[Endpoint] = (),
        prefer: Callable[[], Iterable[Endpoint]] | None = None,
    ) -> tuple[Endpoint, int]:
        """Return an endpoint to call and the permit for it, if possible one not tried yet.

        Raises CircuitOpenError when none may be called, NoEndpointError when there is none.
        """
        endpoints = self._endpoints
        if now >= endpoints.next_return:
            endpoints.bring_back(now)
        if prefer is not None:
            return self._preferred(prefer(), tried, now)
        while ready := endpoints.ready:  # each refusal takes one out
            endpoint = self._balancer.pick(ready, now, self._random)
            if tried and endpoint in tried:
                endpoint = self._another(ready, tried, now)
            permit = endpoint.permit or endpoints.admit(endpoint, now)
            if permit:
                return endpoint, permit
        # Whoever is ejected but has a closed circuit is better than nobody.
        for endpoint in endpoints.all:
            permit = endpoints.admit(endpoint, now, anyway=True)
            if permit:
                return endpoint, permit
        raise _all_open(endpoints.all, now)

    def _another(
        self, ready: Sequence[Endpoint], tried: Sequence[Endpoint], now: float
    ) -> Endpoint:
        """Pick one that was not tried in this call, where there is one."""
        for _ in range(3):
            endpoint = self._balancer.pick(ready, now, self._random)
            if endpoint not in tried:
                return endpoint
        fresh = [endpoint for endpoint in ready if endpoint not in tried]
        return self._balancer.pick(fresh or ready, now, self._random)

    def _preferred(
        self, candidates: Iterable[Endpoint], tried: Sequence[Endpoint], now: float
    ) -> tuple[Endpoint, int]:
        ready = self._endpoints.ready
        candidates = list(candidates)
        fresh = [endpoint for endpoint in candidates if endpoint not in tried] or candidates
        # Those that are out come last, in their order: a sort is stable.
        fresh.sort(key=lambda endpoint: endpoint not in ready)
        for anyway in (False, True):
            for endpoint in fresh:
                permit = self._endpoints.admit(endpoint, now, anyway)
                if permit:
                    return endpoint, permit
        raise _all_open(fresh, now)


def _all_open(endpoints: Sequence[Endpoint], now: float) -> HoldfastError:
    if not endpoints:
        return NoEndpointError("there is no host to call")
    soonest = min(endpoint.ready_at(now, True) - now for endpoint in endpoints)
    when = f"tried again in {soonest:.3g} s" if soonest < inf else "it is being probed"
    names = ", ".join(endpoint.name for endpoint in endpoints[:5])
    more = len(endpoints) - 5
    names += f" and {more} more" if more > 0 else ""
    which = "every endpoint" if len(endpoints) > 1 else "the endpoint"
    return CircuitOpenError(f"the circuit of {which} is open ({names}); {when}")
