"""Many hosts as one: endpoints, health, balancing, and the call."""

from holdfast.cluster.balancers import Balancer, PeakEWMA, PowerOfTwo, RoundRobin
from holdfast.cluster.clients import AsyncCluster, Cluster
from holdfast.cluster.core import ClusterCore
from holdfast.cluster.health import Ejection
from holdfast.http.attempts import Attempt

__all__ = [
    "AsyncCluster",
    "Attempt",
    "Balancer",
    "Cluster",
    "ClusterCore",
    "Ejection",
    "PeakEWMA",
    "PowerOfTwo",
    "RoundRobin",
]
