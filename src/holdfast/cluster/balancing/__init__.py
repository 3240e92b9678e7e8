"""Which endpoint: algorithms that choose one of those that are ready."""

from holdfast.cluster.balancing.balancer import Balancer, Chance, KnowsMembers
from holdfast.cluster.balancing.bounded import BoundedLoad
from holdfast.cluster.balancing.chance import Random, WeightedRandom
from holdfast.cluster.balancing.hashing import Hashing
from holdfast.cluster.balancing.load import LeastLoaded, PeakEWMA, PowerOfTwo
from holdfast.cluster.balancing.maglev import Maglev
from holdfast.cluster.balancing.names import BALANCERS, BalancerTypes, balancer_of
from holdfast.cluster.balancing.priority import Priority
from holdfast.cluster.balancing.rendezvous import Rendezvous
from holdfast.cluster.balancing.ring import Ring
from holdfast.cluster.balancing.slow_start import SlowStart
from holdfast.cluster.balancing.subset import Subset
from holdfast.cluster.balancing.turns import RoundRobin, WeightedRoundRobin

__all__ = [
    "BALANCERS",
    "Balancer",
    "BalancerTypes",
    "BoundedLoad",
    "Chance",
    "Hashing",
    "KnowsMembers",
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
    "balancer_of",
]
