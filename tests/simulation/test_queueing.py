"""Simulated hosts wait as queueing theory says, so that what they show of policies is true."""

from __future__ import annotations

from math import factorial
from typing import Any

import pytest

from holdfast.simulation.report import Outcome
from holdfast.simulation.run import simulate
from holdfast.simulation.scenario import Variant

#: Requests a second that one worker can serve.
SPEED = 100.0


def loaded(
    utilisation: float,
    *,
    workers: int = 1,
    hosts: int = 1,
    calls: int = 30_000,
    balancer: str = "random",
    service: Any = None,
) -> Outcome:
    """Return what comes of hosts with that share of their workers busy, without any policy."""
    rate = utilisation * workers * hosts * SPEED
    return simulate(
        Variant.from_dict(
            {
                "duration": calls / rate,
                "interval": calls / rate,
                "load": {"rate": rate},
                "clients": {"ejection": False, "balancer": balancer},
                "hosts": {
                    "count": hosts,
                    "workers": workers,
                    "queue": 1_000_000,
                    "service": service or {"kind": "exponential", "mean": 1 / SPEED},
                },
                "network": {"latency": 0.0},
                "policy": {"timeout": 600.0, "breaker": False, "limit": False, "retry": False},
            }
        ),
        seed=3,
    )


def mean(outcome: Outcome) -> float:
    """Return the mean latency, from the middles of the buckets that calls are counted in."""
    total = 0.0
    for bucket, count in outcome.whole.latency.counts.items():
        middle: float = 1e-6 * 1.01 ** (bucket + 0.5)
        total += middle * count
    return total / outcome.whole.good


def erlang_c(workers: int, load: float) -> float:
    """Return the probability that a request of an M/M/c queue waits (A. K. Erlang, 1917)."""
    waits = load**workers / factorial(workers) * workers / (workers - load)
    return waits / (sum(load**k / factorial(k) for k in range(workers)) + waits)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "utilisation"), [(1, 0.5), (1, 0.8), (4, 0.8), (10, 0.9)])
def test_the_mean_time_of_a_queue(workers: int, utilisation: float) -> None:
    """A host is an M/M/c queue: the mean time in it is that of Erlang's formula."""
    waiting = erlang_c(workers, utilisation * workers) / (SPEED * workers * (1 - utilisation))
    outcome = loaded(utilisation, workers=workers)
    assert outcome.whole.failed == 0
    assert mean(outcome) == pytest.approx(waiting + 1 / SPEED, rel=0.05)


@pytest.mark.slow
def test_the_mean_time_of_even_service() -> None:
    """With a service time that is always the same, requests wait half as long (M/D/1)."""
    waiting = 0.8 / (2 * SPEED * 0.2)
    assert mean(loaded(0.8, service=1 / SPEED)) == pytest.approx(waiting + 1 / SPEED, rel=0.05)


@pytest.mark.slow
def test_two_choices_are_better_than_one() -> None:
    """At random each host is a queue of its own; two choices wait far less.

    M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001: in the limit of
    many hosts the mean is the sum of u^(2^i - 2) service times, of u^(i - 1) for one choice.
    """
    random, two = (mean(loaded(0.7, hosts=50, balancer=name)) for name in ("random", "p2c"))
    limit = sum(0.7 ** (2**i - 2) for i in range(1, 12)) / SPEED
    assert random == pytest.approx(1 / (SPEED * 0.3), rel=0.1)
    assert two == pytest.approx(limit, rel=0.1)
