"""The endpoints of a cluster, and which of them may be called now.

Theory of operation: ``ready`` is an immutable tuple of the endpoints that may be chosen, so that
choosing takes no lock and costs the same among 10 and 10,000. What changes an endpoint's
availability (its breaker, its ejection, a probe) replaces the tuple; such changes are rare. When
the time of one that is out comes is kept in a heap, whose top every call compares with the clock.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from math import inf
from typing import TYPE_CHECKING

from holdfast.cluster.health import Ejection, Health
from holdfast.policy import CircuitBreaker, Limiter
from holdfast.policy.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.http.pools import ConnectionPool
    from holdfast.policy import Policy

__all__ = ["Endpoint", "EndpointSet"]

#: Marks the permit of a probe after an ejection, above what a breaker counts up to.
_PROBE = 1 << 62


class Endpoint(Limiter):
    """One host of a cluster: its connections, its health and, as a `Limiter`, its load.

    ``permit`` is the permit for the next call while nothing speaks against it: then neither the
    breaker nor the set needs to be asked. 0 means: ask.
    """

    __slots__ = ("breaker", "health", "latency", "name", "observed", "permit", "pool", "window")

    def __init__(self, pool: ConnectionPool, policy: Policy) -> None:
        super().__init__(policy.limit)
        self.name = pool.name
        self.pool = pool
        self.breaker = CircuitBreaker(policy.breaker) if policy.breaker is not None else None
        self.window = self.breaker.window if self.breaker is not None else Window(inf)
        self.health = Health()
        self.permit = self._standing(0.0)
        self.latency = 0.0  # seconds, kept by a balancer that observes
        self.observed = 0.0

    def __repr__(self) -> str:
        state = self.breaker.state if self.breaker is not None else "closed"
        return f"<Endpoint {self.name}: {self.in_flight} in flight, {state}>"

    def leave(self, permit: int, now: float) -> bool:
        """Give the slot back after a success, in the ordinary case; False when it is none."""
        window = self.window
        if permit != self.permit or self.health.failures or self._queue or now >= window.until:
            return False
        window.hits += 1
        with self._lock:
            if self._queue:
                return False
            self.in_flight -= 1
            return True

    def ready_at(self, now: float, panic: bool) -> float:
        """Return when it may be called: not after ``now`` if it may already."""
        at = self.breaker.ready_at(now) if self.breaker is not None else now
        return at if panic else max(at, self.health.ready_at(now))

    def _standing(self, now: float) -> int:
        """Return the permit while the circuit is closed and no probe is due, 0 otherwise."""
        if self.health.probation:
            return 0
        if self.breaker is None:
            return 1
        return self.breaker.acquire(now) if self.breaker.state == "closed" else 0


class EndpointSet:
    """All endpoints, and the ``ready`` ones among them. Safe among threads."""

    def __init__(self, endpoints: Iterable[Endpoint], ejection: Ejection | None) -> None:
        self.all = tuple(endpoints)
        self.ready = self.all
        self.next_return = inf
        self._ejection = ejection
        self._out = 0  # how many are ejected
        self._panic = False
        self._unwell: set[Endpoint] = set()
        self._returns: list[tuple[float, int, Endpoint]] = []
        self._listed: set[tuple[float, Endpoint]] = set()  # what is in the heap
        self._order = itertools.count()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<EndpointSet {len(self.ready)} of {len(self.all)} ready>"

    def bring_back(self, now: float) -> None:
        """Make those ready whose time has come."""
        with self._lock:
            while self._returns and self._returns[0][0] <= now:
                time, _, endpoint = heapq.heappop(self._returns)
                self._listed.discard((time, endpoint))
                if endpoint.health.out_until <= now:
                    self._end_ejection(endpoint, now)
                self._refresh(endpoint, now)
            self.next_return = self._returns[0][0] if self._returns else inf

    def admit(self, endpoint: Endpoint, now: float, anyway: bool = False) -> int:
        """Return a permit for a call to an endpoint, 0 when it must not be called now.

        ``anyway`` asks its circuit alone, not its ejection.
        """
        permit = endpoint.permit
        if permit:
            return permit
        permit = endpoint.breaker.acquire(now) if endpoint.breaker is not None else 1
        with self._lock:
            health = endpoint.health
            if permit and health.probation:
                if not health.probing or self._panic:
                    health.probing = True
                    permit |= _PROBE
                elif not anyway:
                    if endpoint.breaker is not None:
                        endpoint.breaker.release(permit)
                    permit = 0
            self._refresh(endpoint, now)
        return permit

    def record(self, endpoint: Endpoint, permit: int, ok: bool | None, now: float) -> None:
        """Take the verdict on a call; None when it came to none."""
        breaker = endpoint.breaker
        changed = probe = False
        if permit >= _PROBE:
            permit -= _PROBE
            probe = True
        if breaker is not None:
            changed = breaker.release(permit) if ok is None else breaker.record(permit, ok, now)
        health = endpoint.health
        if ok and not changed and not health.failures and not health.probation:
            return  # the ordinary case, without a lock
        with self._lock:
            if probe:
                health.probing = False
            if ok:
                health.failures = 0
                if probe:
                    health.probation = False
                    health.returned_at = now
                    self._end_ejection(endpoint, now)
                    changed = True
            elif ok is not None:
                changed = self._failed(endpoint, probe, now) or changed
            if changed or health.probation:
                self._refresh(endpoint, now)

    def _failed(self, endpoint: Endpoint, probe: bool, now: float) -> bool:
        """Count a failure; True when it ejected the endpoint."""
        ejection = self._ejection
        health = endpoint.health
        health.failures += 1
        if ejection is None or self._is_out(endpoint):
            return False
        if health.probation and not probe:
            return False  # it began before the ejection: the probe decides
        if health.failures < ejection.failures and not probe:
            return False
        if self._out >= max(1, int(ejection.most * len(self.all))):
            return False
        if not probe and now - health.returned_at > ejection.cap:
            health.ejections = 0  # it has been well for long
        health.ejections += 1
        health.failures = 0
        health.probation = True
        health.out_until = now + min(ejection.cap, ejection.base * health.ejections)
        self._out += 1
        return True

    def _is_out(self, endpoint: Endpoint) -> bool:
        return endpoint.health.out_until > -inf

    def _end_ejection(self, endpoint: Endpoint, now: float) -> None:
        if self._is_out(endpoint):
            endpoint.health.out_until = -inf
            self._out -= 1

    def _judge_panic(self, now: float) -> None:
        """Ignore ejection while too few are well: neither ejected nor with an open circuit."""
        if self._ejection is None:
            return
        panic = len(self.all) - len(self._unwell) < self._ejection.panic * len(self.all)
        if panic != self._panic:
            self._panic = panic
            for endpoint in self.all:
                self._place(endpoint, now)

    def _refresh(self, endpoint: Endpoint, now: float) -> None:
        """Put an endpoint where it belongs; the lock is held."""
        breaker = endpoint.breaker
        if endpoint.health.probation or (breaker is not None and breaker.state != "closed"):
            self._unwell.add(endpoint)
        else:
            self._unwell.discard(endpoint)
        self._judge_panic(now)
        self._place(endpoint, now)

    def _place(self, endpoint: Endpoint, now: float) -> None:
        endpoint.permit = endpoint._standing(now)
        at = endpoint.ready_at(now, self._panic)
        if at <= now:
            if endpoint not in self.ready:
                self.ready = (*self.ready, endpoint)
        elif endpoint in self.ready:
            self.ready = tuple(other for other in self.ready if other is not endpoint)
        for time in {at, endpoint.health.out_until}:
            if now < time < inf and (time, endpoint) not in self._listed:
                self._listed.add((time, endpoint))
                heapq.heappush(self._returns, (time, next(self._order), endpoint))
                self.next_return = min(self.next_return, time)
