"""Many hosts as one: endpoints, health, balancing, discovery, and the call."""

from holdfast.cluster.balancing import (
    Balancer,
    BoundedLoad,
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
from holdfast.cluster.checking import Check
from holdfast.cluster.clients import AsyncCluster, Cluster
from holdfast.cluster.core import ClusterCore
from holdfast.cluster.health import Ejection
from holdfast.cluster.hosts import Host
from holdfast.http.attempts import Attempt

__all__ = [
    "AsyncCluster",
    "Attempt",
    "Balancer",
    "BoundedLoad",
    "Check",
    "Cluster",
    "ClusterCore",
    "Ejection",
    "Host",
    "LeastLoaded",
    "Maglev",
    "PeakEWMA",
    "PowerOfTwo",
    "Priority",
    "Random",
    "Rendezvous",
    "Ring",
    "RoundRobin",
    "SlowStart",
    "Subset",
    "WeightedRandom",
    "WeightedRoundRobin",
]
