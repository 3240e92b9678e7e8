"""Call a cluster as if it were one host.

``Cluster`` and ``AsyncCluster`` are HTTP clients for several hosts that serve the same; a
``Policy`` says what is done so that their calls survive, and decorates functions as well. See
`holdfast.rest` for JSON resources on pools, shards and replicas, `holdfast.cluster.discovery` for
where hosts come from, and `holdfast.testing` for your own tests.
"""

from holdfast._version import __version__
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
    deadline,
)

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
