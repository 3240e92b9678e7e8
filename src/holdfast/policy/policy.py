"""All policies of a cluster or a call, together."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.policy.breaker import Breaker
from holdfast.policy.budget import Budget
from holdfast.policy.checks import limit, part
from holdfast.policy.limit import Limit
from holdfast.policy.retry import Retry

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done so that a call survives. A part that is None is turned off.

    ``timeout``: seconds for the whole call, with retries and waits. ``retry`` and ``budget``:
    further attempts, and how many of them all calls together may make. ``breaker`` and ``limit``:
    each endpoint's own circuit breaker and concurrency limit. ``cluster_limit``: a limit over all
    endpoints together.
    """

    timeout: float | None = 5.0
    retry: Retry | None = Retry()
    budget: Budget | None = Budget()
    breaker: Breaker | None = Breaker()
    limit: Limit | None = Limit()
    cluster_limit: Limit | None = None

    def __post_init__(self) -> None:
        limit(self, "timeout")
        part(self, Retry, "retry")
        part(self, Budget, "budget")
        part(self, Breaker, "breaker")
        part(self, Limit, "limit", "cluster_limit")
