"""One host of a cluster, or one function: what is called."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, cast

from holdfast.cluster.health import Health
from holdfast.policy import CircuitBreaker, Limiter
from holdfast.policy.window import Window

if TYPE_CHECKING:
    from holdfast.http.pools import ConnectionPool
    from holdfast.policy import Policy

__all__ = ["Endpoint"]


class Endpoint(Limiter):
    """One host of a cluster: its connections, its health and, as a `Limiter`, its load.

    ``permit`` is the permit for the next call while nothing speaks against it: then neither the
    breaker nor the set needs to be asked. 0 means: ask.
    """

    __slots__ = (
        "__weakref__",
        "breaker",
        "health",
        "identity",
        "latency",
        "name",
        "observed",
        "permit",
        "place",
        "pool",
        "priority",
        "since",
        "successes",
        "uncounted",
        "weight",
        "window",
    )

    def __init__(
        self,
        name: str,
        policy: Policy,
        pool: ConnectionPool | None = None,
        weight: float = 1.0,
        priority: int = 0,
    ) -> None:
        super().__init__(policy.limit)
        self.name = name
        #: What two endpoints of a cluster must not have in common.
        self.identity = pool.origin.url if pool is not None else name
        #: Functions have none, and nobody asks for theirs.
        self.pool = cast("ConnectionPool", pool)
        self.weight = weight  # its share of the calls, for balancers that have weights
        self.priority = priority  # the group that it is in, 0 is the first
        self.since = -inf  # when it was added or came back
        self.breaker = CircuitBreaker(policy.breaker) if policy.breaker is not None else None
        if self.breaker is not None:
            self.window = self.breaker.window
        else:
            self.window = Window(inf)
            self.window.until = inf
        if self.adaptive is not None:
            self.needs_record()
        self.health = Health()
        self.place = -1  # in the set's ``all``, below 0 when it is not in
        self.permit = 0
        self.successes = 0  # since the last sweep
        self.uncounted = 0  # successes that neither breaker nor sweep know of yet
        self.latency = 0.0  # seconds, kept by a balancer that observes
        self.observed = 0.0

    def __repr__(self) -> str:
        state = self.breaker.state if self.breaker is not None else "closed"
        return f"<Endpoint {self.name}: {self.in_flight} in flight, {state}>"

    @property
    def is_host(self) -> bool:
        """Whether it is a host, not a function."""
        return cast("ConnectionPool | None", self.pool) is not None

    def needs_record(self) -> None:
        """Have `leave` refuse from now on: whoever judges needs to know more of each call."""
        # A window whose time is always over, as that of a breaker that is not simple.
        self.window = Window(inf)

    def leave(self, permit: int, now: float) -> bool:
        """Give the slot back after a success, in the ordinary case; False when it is none."""
        if permit != self.permit or self.health.failures or now >= self.window.until:
            return False
        with self._lock:
            if self._queue:
                return False
            self.uncounted += 1
            self.in_flight -= 1
            return True

    def count(self) -> None:
        """Count what `leave` has let go, before anybody judges by the counts."""
        if self.uncounted:
            with self._lock:
                calls, self.uncounted = self.uncounted, 0
            self.window.hits += calls
            self.successes += calls

    def ready_at(self, now: float, panic: bool) -> float:
        """Return when it may be called: not after ``now`` if it may already."""
        at = self.breaker.ready_at(now) if self.breaker is not None else now
        return at if panic else max(at, self.health.ready_at(now))

    def standing(self) -> int:
        """Return the permit while the circuit is closed and no probe is due, 0 otherwise."""
        if self.health.probation:
            return 0
        # Not `acquire`, which may open a circuit half and take a probe's permit.
        return self.breaker._permit if self.breaker is not None else 1
