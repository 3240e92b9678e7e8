"""The names of balancers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from holdfast.cluster.balancing.balancer import Balancer
from holdfast.cluster.balancing.bounded import BoundedLoad
from holdfast.cluster.balancing.chance import Random, WeightedRandom
from holdfast.cluster.balancing.load import LeastLoaded, PeakEWMA, PowerOfTwo
from holdfast.cluster.balancing.maglev import Maglev
from holdfast.cluster.balancing.priority import Priority
from holdfast.cluster.balancing.rendezvous import Rendezvous
from holdfast.cluster.balancing.ring import Ring
from holdfast.cluster.balancing.turns import RoundRobin, WeightedRoundRobin

__all__ = ["BALANCERS", "BalancerTypes", "balancer_of"]

#: A balancer, or the name of one.
BalancerTypes: TypeAlias = Balancer | str

#: What makes each balancer that needs no argument. `Subset` needs some.
BALANCERS: dict[str, Callable[[], Balancer]] = {
    "p2c": PowerOfTwo,
    "peak-ewma": PeakEWMA,
    "least-loaded": LeastLoaded,
    "round-robin": RoundRobin,
    "random": Random,
    "weighted-random": WeightedRandom,
    "weighted-round-robin": WeightedRoundRobin,
    "rendezvous": Rendezvous,
    "ring": Ring,
    "maglev": Maglev,
    "bounded-load": BoundedLoad,
    "priority": Priority,
}


def balancer_of(value: BalancerTypes) -> Balancer:
    """Return the balancer that a value is or names; ValueError for anything else."""
    if not isinstance(value, str):
        given: object = value
        if isinstance(given, type) or not hasattr(given, "pick"):
            raise ValueError(f"balancer must be a balancer, or the name of one, not {given!r}")
        return value
    try:
        return BALANCERS[value]()
    except KeyError:
        known = ", ".join(BALANCERS)
        raise ValueError(f"no balancer is named {value!r}; there are {known}") from None
