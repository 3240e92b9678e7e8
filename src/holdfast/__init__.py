"""Call a cluster as if it were one host.

``Cluster`` and ``AsyncCluster`` are HTTP clients for several hosts that serve the same; a
``Policy`` says what is done so that their calls survive, and decorates functions as well. See
`holdfast.rest` for JSON resources on pools, shards and replicas, `holdfast.cluster.discovery` for
where hosts come from, and `holdfast.testing` for your own tests.

Names are imported when they are used: who needs a part of this package does not pay for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast._lazy import on_use
from holdfast._version import __version__

if TYPE_CHECKING:
    from holdfast.cluster import (
        AsyncCluster,
        Attempt,
        BoundedLoad,
        Check,
        Cluster,
        Ejection,
        Host,
        LeastLoaded,
        Maglev,
        PeakEWMA,
        PowerOfTwo,
        Priority,
        Random,
        Rendezvous,
        Ring,
        RoundRobin,
        SlowStart,
        Subset,
        WeightedRandom,
        WeightedRoundRobin,
    )
    from holdfast.errors import HoldfastError
    from holdfast.http.headers import Headers
    from holdfast.http.limits import Timeout
    from holdfast.http.responses import Response
    from holdfast.policy import (
        AdaptiveLimit,
        Admission,
        Breaker,
        Budget,
        Coalesce,
        Event,
        Fallback,
        Fault,
        Hedge,
        Limit,
        Policy,
        RateLimit,
        Retry,
    )
    from holdfast.policy.deadline import deadline

__all__ = [
    "AdaptiveLimit",
    "Admission",
    "AsyncCluster",
    "Attempt",
    "BoundedLoad",
    "Breaker",
    "Budget",
    "Check",
    "Cluster",
    "Coalesce",
    "Ejection",
    "Event",
    "Fallback",
    "Fault",
    "Headers",
    "Hedge",
    "HoldfastError",
    "Host",
    "LeastLoaded",
    "Limit",
    "Maglev",
    "PeakEWMA",
    "Policy",
    "PowerOfTwo",
    "Priority",
    "Random",
    "RateLimit",
    "Rendezvous",
    "Response",
    "Retry",
    "Ring",
    "RoundRobin",
    "SlowStart",
    "Subset",
    "Timeout",
    "WeightedRandom",
    "WeightedRoundRobin",
    "__version__",
    "deadline",
]

_MODULES = {
    "AsyncCluster": "cluster",
    "Attempt": "cluster",
    "BoundedLoad": "cluster",
    "Check": "cluster",
    "Cluster": "cluster",
    "Ejection": "cluster",
    "Host": "cluster",
    "LeastLoaded": "cluster",
    "Maglev": "cluster",
    "PeakEWMA": "cluster",
    "PowerOfTwo": "cluster",
    "Priority": "cluster",
    "Random": "cluster",
    "Rendezvous": "cluster",
    "Ring": "cluster",
    "RoundRobin": "cluster",
    "SlowStart": "cluster",
    "Subset": "cluster",
    "WeightedRandom": "cluster",
    "WeightedRoundRobin": "cluster",
    "HoldfastError": "errors",
    "Headers": "http.headers",
    "Timeout": "http.limits",
    "Response": "http.responses",
    "AdaptiveLimit": "policy",
    "Admission": "policy",
    "Breaker": "policy",
    "Budget": "policy",
    "Coalesce": "policy",
    "Event": "policy",
    "Fallback": "policy",
    "Fault": "policy",
    "Hedge": "policy",
    "Limit": "policy",
    "Policy": "policy",
    "RateLimit": "policy",
    "Retry": "policy",
    "deadline": "policy.deadline",
}

__getattr__, __dir__ = on_use(globals(), _MODULES)
