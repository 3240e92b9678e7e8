"""What it costs to choose an endpoint, among few and among many.

No call is made: this is what a call does between its start and the moment it knows its endpoint.
It looks whether the time of one that is out has come, lets the balancer choose, and asks the
endpoint's breaker and health for a permit. A balancer by key gets another key each time, more of
them than it remembers.

All but rendezvous hashing, which has no table, are to cost about the same among many as among few.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import cycle
from time import monotonic
from typing import TYPE_CHECKING

from benchmarks.rounds import Contestant, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.cluster import Balancer

FEW, MANY = 10, 10_000
BALANCERS = (
    "p2c",
    "peak-ewma",
    "least-loaded",
    "round-robin",
    "random",
    "weighted-random",
    "weighted-round-robin",
    "rendezvous",
    "ring",
    "maglev",
    "bounded-load",
    "priority",
    "subset",
)
KEYS = [f"/item/{number}" for number in range(10_000)]


def name_of(balancer: str, count: int) -> str:
    """Return the name of the row for a balancer among so many endpoints."""
    return f"{balancer}, {count:,} endpoints"


def contestants() -> list[Contestant]:
    """List the balancers, each among few and many endpoints."""
    return [
        Contestant(name_of(balancer, count), partial(pick, balancer, count), ours=True)
        for balancer in BALANCERS
        for count in (FEW, MANY)
    ]


@contextmanager
def pick(name: str, count: int) -> Iterator[Run]:
    """Pick an endpoint as a call does, with every default policy on."""
    from holdfast.cluster import ClusterCore, Subset
    from holdfast.cluster.balancing.balancer import is_keyed

    balancer: str | Balancer = Subset(size=FEW // 2, client=7) if name == "subset" else name
    hosts = [
        # Different weights where they count.
        {"address": f"host-{number}", "weight": 1 + number % 3 if "weighted" in name else 1}
        for number in range(count)
    ]
    cluster = ClusterCore(hosts, balancer=balancer)
    for endpoint in cluster.endpoints.all:
        # So that those who weigh have a weight.
        cluster.balancer.observe(endpoint, 0.001, monotonic())
    if name == "bounded-load":
        # Calls in flight, so that there is something to bound: at a third of the endpoints.
        for endpoint in cluster.endpoints.all[::3]:
            endpoint.try_acquire()
    keys = cycle(KEYS)

    def run(calls: int) -> None:
        choose = cluster.choose
        for _ in range(calls):
            choose(monotonic())

    def run_with_keys(calls: int) -> None:
        choose = cluster.choose
        for _ in range(calls):
            choose(monotonic(), (), None, next(keys))

    try:
        yield run_with_keys if is_keyed(cluster.balancer) else run
    finally:
        cluster.close()
