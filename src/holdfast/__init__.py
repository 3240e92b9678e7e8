"""Call a cluster as if it were one host.

``Cluster`` and ``AsyncCluster`` are HTTP clients for several hosts that serve the same; see
`holdfast.rest` for JSON resources on pools, shards and replicas.
"""

from holdfast._version import __version__
from holdfast.cluster import (
    AsyncCluster,
    Attempt,
    Cluster,
    Ejection,
    PeakEWMA,
    PowerOfTwo,
    RoundRobin,
)
from holdfast.errors import HoldfastError
from holdfast.http.headers import Headers
from holdfast.http.limits import Timeout
from holdfast.http.responses import Response
from holdfast.policy import Breaker, Budget, Limit, Policy, Retry

__all__ = [
    "AsyncCluster",
    "Attempt",
    "Breaker",
    "Budget",
    "Cluster",
    "Ejection",
    "Headers",
    "HoldfastError",
    "Limit",
    "PeakEWMA",
    "Policy",
    "PowerOfTwo",
    "Response",
    "Retry",
    "RoundRobin",
    "Timeout",
    "__version__",
]
