"""What it costs to choose an endpoint, among few and among many.

No call is made: this is what a call does between its start and the moment it knows its endpoint.
It looks whether the time of one that is out has come, lets the balancer choose, and asks the
endpoint's breaker and health for a permit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic

from benchmarks.rounds import Contestant, Run

FEW, MANY = 10, 10_000
BALANCERS = ("p2c", "peak-ewma", "round-robin")


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
def pick(balancer: str, count: int) -> Iterator[Run]:
    """Pick an endpoint as a call does, with every default policy on."""
    from holdfast.cluster.core import ClusterCore

    cluster = ClusterCore([f"host-{number}" for number in range(count)], balancer=balancer)
    for endpoint in cluster.endpoints.all:
        # So that those who weigh have a weight.
        cluster.balancer.observe(endpoint, 0.001, monotonic())

    def run(calls: int) -> None:
        choose = cluster.choose
        for _ in range(calls):
            choose(monotonic())

    try:
        yield run
    finally:
        cluster.close()
