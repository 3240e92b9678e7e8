"""Endpoints that nobody connects to, for balancers to pick from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from holdfast import Policy
from holdfast.cluster.balancing import Balancer, KnowsMembers
from holdfast.cluster.endpoints import Endpoint

POLICY = Policy()


def endpoints(
    count: int, weights: Sequence[float] = (), priorities: Sequence[int] = ()
) -> tuple[Endpoint, ...]:
    """Return so many endpoints; those without a weight or a priority have the default."""
    return tuple(
        Endpoint(
            f"10.0.{number >> 8}.{number & 255}:80",
            POLICY,
            weight=weights[number] if number < len(weights) else 1.0,
            priority=priorities[number] if number < len(priorities) else 0,
        )
        for number in range(count)
    )


def load(endpoint: Endpoint, calls: int) -> None:
    """Have calls in flight."""
    for _ in range(calls):
        assert endpoint.try_acquire()


def know(balancer: Balancer, every: Sequence[Endpoint], version: int = 0) -> None:
    """Tell a balancer who there is, as a chooser does."""
    if isinstance(balancer, KnowsMembers):
        balancer.members(every, version)


def picks(
    balancer: Balancer, ready: tuple[Endpoint, ...], count: int = 3000, seed: int = 7
) -> list[int]:
    """Return how often each endpoint is picked, without keys."""
    chance = random.Random(seed).random
    counts = Counter(balancer.pick(ready, 0.0, chance).name for _ in range(count))
    return [counts[endpoint.name] for endpoint in ready]


def homes(balancer: Balancer, ready: Sequence[Endpoint], keys: Iterable[Any]) -> list[str]:
    """Return where each key goes."""
    return [balancer.pick(ready, 0.0, random.random, key).name for key in keys]
