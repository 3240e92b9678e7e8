"""Which endpoint to call: the balancer's choice among those that may be called."""

from __future__ import annotations

from itertools import chain, islice
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.cluster.balancing import KnowsMembers, SlowStart
from holdfast.errors import CircuitOpenError, HoldfastError, NoEndpointError
from holdfast.policy.checks import part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.cluster.balancing import Balancer
    from holdfast.cluster.endpoints import Endpoint, EndpointSet

__all__ = ["Chooser"]


class Chooser:
    """Chooses endpoints and gets the permits to call them.

    ``slow_start``: how endpoints that are new, or are back, get their share; None for at once.
    """

    def __init__(
        self,
        endpoints: EndpointSet,
        balancer: Balancer,
        random: Callable[[], float],
        slow_start: SlowStart | None = None,
    ) -> None:
        self.slow_start = slow_start
        part(self, SlowStart, "slow_start")
        self._endpoints = endpoints
        self._balancer = balancer
        self._random = random
        self._introduced = balancer if isinstance(balancer, KnowsMembers) else None
        # Whether a pick needs more than a balancer that looks at nobody but those it may pick.
        self._special = slow_start is not None or self._introduced is not None
        self._introduce()

    def choose(
        self,
        now: float,
        tried: Sequence[Endpoint] = (),
        prefer: Callable[[], Iterable[Endpoint]] | None = None,
        key: Any = None,
    ) -> tuple[Endpoint, int]:
        """Return an endpoint to call and the permit for it, if possible one not tried yet.

        ``key`` is for balancers that send the same key to the same endpoint. Raises
        CircuitOpenError when none may be called, NoEndpointError when there is none, and TypeError
        for a key that is neither a string, bytes nor a whole number.
        """
        endpoints = self._endpoints
        if now >= endpoints.next_return:
            endpoints.bring_back(now)
        if prefer is not None:
            return self._preferred(prefer(), tried, now)
        if tried or self._special:
            return self._specially(now, tried, key)
        while ready := endpoints.ready:  # each refusal takes one out
            endpoint = self._balancer.pick(ready, now, self._random)
            permit = endpoint.permit or endpoints.admit(endpoint, now)
            if permit:
                return endpoint, permit
        return self._anyone(now)

    def _specially(self, now: float, tried: Sequence[Endpoint], key: Any) -> tuple[Endpoint, int]:
        """Choose as `choose` does, where a pick needs more than a look at those that are ready."""
        endpoints = self._endpoints
        while ready := endpoints.ready:
            endpoint = self._special_pick(ready, tried, now, key)
            permit = endpoint.permit or endpoints.admit(endpoint, now)
            if permit:
                return endpoint, permit
        return self._anyone(now)

    def _anyone(self, now: float) -> tuple[Endpoint, int]:
        """Return one that is not ready, and a permit."""
        endpoints = self._endpoints
        every = endpoints.all
        # Whoever is ejected but has a closed circuit is better than nobody. From anywhere on, so
        # that not all calls go to the first one.
        first = int(self._random() * len(every))
        for endpoint in chain(islice(every, first, None), islice(every, first)):
            if endpoint.breaker is not None and endpoint.breaker.state == "open":
                continue  # it costs little to be told so, as often as there are calls in an outage
            permit = endpoints.admit(endpoint, now, anyway=True)
            if permit:
                return endpoint, permit
        raise _all_open(every, now)

    def _introduce(self) -> None:
        """Tell the balancer who there is, if it needs to know."""
        # First, so that other threads go on with what the balancer knows, meanwhile.
        self._version = version = self._endpoints.version
        try:
            if self._introduced is not None:
                self._introduced.members(self._endpoints.all, version)
        except BaseException:
            self._version = -1
            raise

    def _special_pick(
        self, ready: Sequence[Endpoint], tried: Sequence[Endpoint], now: float, key: Any
    ) -> Endpoint:
        """Pick one that was not tried in this call and has warmed up, where there is one."""
        if self._endpoints.version != self._version:
            self._introduce()
        among = ready
        endpoint = self._balancer.pick(ready, now, self._random, key)
        if endpoint in tried:
            endpoint, among = self._another(endpoint, ready, tried, now, key)
        slow_start = self.slow_start
        if slow_start is None or slow_start.accepts(endpoint, now, self._random):
            return endpoint
        other = self._balancer.pick(among, now, self._random, key)
        # Not the same one again, of which a balancer by key thinks first each time.
        if (
            other is not endpoint
            and other not in tried
            and slow_start.accepts(other, now, self._random)
        ):
            return other
        # Neither: those that have warmed up are enough to choose from.
        warm = slow_start.warm(among, now)
        warm = [one for one in warm if one not in tried] if tried else warm
        return self._balancer.pick(warm, now, self._random, key) if warm else endpoint

    def _another(
        self,
        endpoint: Endpoint,
        ready: Sequence[Endpoint],
        tried: Sequence[Endpoint],
        now: float,
        key: Any,
    ) -> tuple[Endpoint, Sequence[Endpoint]]:
        """Pick one that was not tried, where there is one; and tell among which."""
        for _ in range(3):
            other = self._balancer.pick(ready, now, self._random, key)
            if other not in tried:
                return other, ready
            if other is endpoint and self._introduced is not None:
                break  # the balancer may think of nobody else
        fresh = [endpoint for endpoint in ready if endpoint not in tried]
        among = fresh or ready
        return self._balancer.pick(among, now, self._random, key), among

    def _preferred(
        self, candidates: Iterable[Endpoint], tried: Sequence[Endpoint], now: float
    ) -> tuple[Endpoint, int]:
        ready = self._endpoints.ready
        candidates = list(candidates)
        fresh = [endpoint for endpoint in candidates if endpoint not in tried] or candidates
        if len(fresh) > 1:  # those that are out come last, in their order: a sort is stable
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
