"""What all calls of one cluster, or of one function, share: the state of its policies."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from holdfast.cluster.choosing import Chooser
from holdfast.policy import Policy
from holdfast.policy.admission import AdmissionControl
from holdfast.policy.budget import RetryBudget
from holdfast.policy.coalescing import Flights
from holdfast.policy.events import Event
from holdfast.policy.fallback import StaleAnswers
from holdfast.policy.hedge import LatencyQuantile
from holdfast.policy.limit import Limiter
from holdfast.policy.rate import RateLimiter
from holdfast.policy.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.cluster.balancing import Balancer, SlowStart
    from holdfast.cluster.endpoints import Endpoint, EndpointSet
    from holdfast.ops import Program
    from holdfast.policy.breaker import State
    from holdfast.policy.events import Kind, Listener

__all__ = ["Caller", "weakly"]

_log = logging.getLogger("holdfast")

_CIRCUIT: dict[State, Kind] = {
    "open": "circuit opened",
    "half-open": "circuit half-opened",
    "closed": "circuit closed",
}


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a method while its object is there, and returns None after."""
    reference = WeakMethod(method)

    def call(*arguments: Any) -> Any:
        there = reference()
        return None if there is None else there(*arguments)

    return call


class Caller:
    """Endpoints, a policy and its state; safe among threads."""

    endpoints: EndpointSet

    def __init__(
        self,
        policy: Policy,
        balancer: Balancer,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        listeners: Iterable[Listener] = (),
    ) -> None:
        if not isinstance(policy, Policy):
            raise ValueError(f"policy must be a Policy, not {policy!r}")
        self.policy = policy
        self.balancer = balancer
        self.clock = clock
        self.random = random
        retry = policy.retry
        self.statuses = retry.statuses if retry is not None else frozenset()
        self.attempt_timeout = retry.attempt_timeout if retry is not None else None
        self.budget = RetryBudget(policy.budget) if policy.budget is not None else None
        self.calls = self.budget.window if self.budget is not None else Window(1.0)
        self.limiter = Limiter(policy.cluster_limit) if policy.cluster_limit is not None else None
        self.rate = RateLimiter(policy.rate) if policy.rate is not None else None
        self.admission = AdmissionControl(policy.admission) if policy.admission else None
        self.latencies = LatencyQuantile(policy.hedge) if policy.hedge is not None else None
        self.flights = Flights() if policy.coalesce is not None else None
        fallback = policy.fallback
        self.stale = StaleAnswers(fallback) if fallback and fallback.stale is not None else None
        self.listeners: tuple[Listener, ...] = ()
        #: Returns headers for an attempt, by the numbers of its call and its own, and its endpoint.
        self.inject: Callable[[int, int, str], Iterable[tuple[str, str]]] | None = None
        self.next_call = itertools.count(1).__next__  # numbers of calls, for listeners
        # What an ordinary call knows nothing of.
        special = (self.limiter, self.rate, self.admission, self.latencies, self.flights, fallback)
        self._special = any(part is not None for part in special) or bool(
            policy.faults or policy.deadline_header
        )
        self.plain = not self._special
        for listener in listeners:
            self.listen(listener)

    def call_endpoints(self, endpoints: EndpointSet, slow_start: SlowStart | None = None) -> None:
        """Have these endpoints called from now on."""
        self.endpoints = endpoints
        self.choose = Chooser(endpoints, self.balancer, self.random, slow_start).choose

    def find_hosts(self, deadline: float) -> Program[bool]:
        """Wait for hosts where none is known yet; tell whether that was of use."""
        yield from ()
        return False

    def listen(self, listener: Listener) -> None:
        """Have a function called with every `Event`."""
        self.listeners = (*self.listeners, listener)
        self.plain = False

    def unlisten(self, listener: Listener) -> None:
        """End the listening of a function."""
        self.listeners = tuple(other for other in self.listeners if other != listener)
        self.plain = not self._special and not self.listeners

    def emit(
        self,
        kind: Kind,
        endpoint: str = "",
        attempt: int = 0,
        cause: Any = None,
        policy: str = "",
        seconds: float = 0.0,
        call: int = 0,
    ) -> None:
        """Tell whoever listens. Nobody's failure to listen is the call's."""
        if not self.listeners:
            return
        event = Event(kind, self.clock(), endpoint, attempt, cause, policy, seconds, call)
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("a listener failed at %r", kind)

    def watch(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint whose circuit is listened to."""
        # Weakly, like all that endpoints know of their caller: one that is dropped goes at once.
        emit, name = weakly(self.emit), endpoint.name
        if endpoint.breaker is not None:
            endpoint.breaker.add_listener(
                lambda old, new, now: emit(_CIRCUIT[new], name, 0, old, "breaker")
            )
        return endpoint

    def on_change(self, kind: Kind, endpoint: Endpoint, now: float, cause: Any) -> None:
        """Pass on what happened to an endpoint."""
        self.emit(kind, endpoint.name, 0, cause, "ejection" if kind == "ejected" else "")

    def count(self, now: float) -> None:
        """Count a call, from which the budget of retries grows."""
        if self.budget is not None:
            self.budget.deposit(now)

    def free(self, endpoint: Endpoint, slots: int) -> None:
        """Give a call's slots back: the endpoint's is the first one, the cluster's the second."""
        if slots:
            endpoint.release()
        if self.limiter is not None and slots > 1:
            self.limiter.release()

    def adapt(self, endpoint: Endpoint, seconds: float, dropped: bool, now: float) -> None:
        """Let adaptive limits follow an attempt."""
        for limiter, name in ((endpoint, endpoint.name), (self.limiter, "")):
            if limiter is not None and limiter.adaptive is not None:
                changed = limiter.observe(seconds, dropped, now)
                if changed is not None:
                    self.emit("limit changed", name, 0, changed, "limit")
