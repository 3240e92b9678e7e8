"""The simulated network: how long, how surely, and between whom."""

from __future__ import annotations

from math import inf
from statistics import fmean, median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.drivers.simulated import World
from holdfast.simulation import (
    Constant,
    Distribution,
    Exponential,
    LogNormal,
    Network,
    Pareto,
    Uniform,
    distribution,
)

DISTRIBUTIONS = [
    Constant(0.25),
    Uniform(0.1, 0.4),
    Exponential(0.25),
    LogNormal(0.2, 0.5),
    Pareto(0.1, 3.0),
]


@pytest.mark.parametrize("one", DISTRIBUTIONS, ids=lambda one: type(one).__name__)
def test_distributions_have_their_mean(one: Distribution) -> None:
    """Many samples have the mean that was promised, none is negative, a seed repeats them."""
    random = World(1).randomness("x").random
    samples = [one.sample(random) for _ in range(20_000)]
    assert min(samples) >= 0
    assert fmean(samples) == pytest.approx(one.mean, rel=0.05)
    again = World(1).randomness("x").random
    assert [one.sample(again) for _ in range(100)] == samples[:100]


@given(share=st.floats(0, 1, exclude_max=True))
def test_distributions_take_every_random_number(share: float) -> None:
    """Whatever the generator returns, the seconds are finite and not negative."""
    for one in DISTRIBUTIONS:
        assert 0 <= one.sample(lambda: share) < inf


def test_distributions_have_their_shape() -> None:
    """A log-normal has its median, a Pareto its least, and a mean only where it is light."""
    random = World(1).randomness("x").random
    assert median(LogNormal(0.2).sample(random) for _ in range(9999)) == pytest.approx(
        0.2, rel=0.05
    )
    assert min(Pareto(0.1).sample(random) for _ in range(9999)) >= 0.1
    assert Pareto(0.1, 1.0).mean == inf


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "Constant.seconds must be a number 0 or more, not -1"),
        (inf, "Constant.seconds"),
        ("fast", "Constant.seconds must be a number 0 or more, not 'fast'"),
        ({"kind": "normal"}, "kind must be one of constant, .*, not 'normal'"),
        ({"kind": "exponential", "mean": 0}, "Exponential.mean must be a number above 0, not 0"),
        (
            {"kind": "uniform", "low": 2, "high": 1},
            r"Uniform.high must be .* low \(2\), not 1",
        ),
        ({"kind": "pareto", "median": 1}, "pareto takes least, shape, not median"),
        ({"kind": "lognormal", "median": True}, "LogNormal.median"),
    ],
)
def test_a_wrong_distribution_is_named(value: Any, message: str) -> None:
    """A ValueError tells the field and the value."""
    with pytest.raises(ValueError, match=message):
        distribution(value)


def test_a_distribution_is_read_from_a_mapping() -> None:
    """As a configuration has it: a number, or the kind and its parameters."""
    assert distribution(0.5) == Constant(0.5)
    assert distribution({"kind": "lognormal", "median": 0.1}) == LogNormal(0.1)
    assert distribution(Exponential(1)) == Exponential(1)


def test_everything_may_change() -> None:
    """Latency, links, slowness and bandwidth hold from the moment they are set."""
    network = Network(World(), 0.01)
    ask = network.delay
    assert ask("client", "a", 100) == 0.01
    network.latency = 0.02
    assert ask("client", "a", 100) == 0.02
    network.link("a", 0.5)
    assert (ask("client", "a", 0), ask("a", "client", 0), ask("client", "b", 0)) == (0.5, 0.5, 0.02)
    network.link("a", None)
    network.slow("b", 10)
    assert ask("b", "client", 0) == pytest.approx(0.2)
    network.slow("b", 1)
    network.bandwidth = 1000
    assert ask("client", "b", 500) == 0.02  # how long the sending takes is the connection's
    assert repr(network) == "<Network Constant(seconds=0.02), 0 partitions>"


def test_a_loss_is_a_delay() -> None:
    """What is lost is sent again: later, never not at all."""
    network = Network(World(), 0.01, loss=0.2)
    delays = [network.delay("client", "a", 0) for _ in range(5000)]
    late = [delay for delay in delays if delay > 0.01]
    assert len(late) / len(delays) == pytest.approx(0.2, abs=0.03)
    assert min(late) == pytest.approx(0.21)
    network.loss = 0
    network.lose("a", 1)
    assert 0.2 < network.delay("a", "client", 0) < inf
    assert network.delay("b", "client", 0) == 0.01
    network.lose("a", 0)
    assert network.delay("a", "client", 0) == 0.01


def test_partitions_cut_both_ways_and_heal() -> None:
    """Two sets, or a set and all others; each partition ends alone."""
    network = Network(World(), 0.01)
    first = network.partition(["a", "b"])
    assert network.delay("a", "b", 0) == network.delay("client", "c", 0) == 0.01
    assert network.delay("a", "client", 0) == network.delay("client", "a", 0) == inf
    second = network.partition(["a"], ["b"])
    network.heal(first)
    assert network.delay("a", "client", 0) == 0.01
    assert network.delay("b", "a", 0) == network.delay("a", "b", 0) == inf
    network.heal(second)
    network.heal(second)
    network.partition(["a"])
    network.heal()
    assert network.delay("b", "a", 0) == 0.01


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda world: Network(world, loss=1.5), "loss must be a share from 0 to 1, not 1.5"),
        (lambda world: Network(world, -1), "Constant.seconds"),
        (lambda world: Network(world, bandwidth=0), "bandwidth must be a number above 0, not 0"),
        (lambda world: Network(world).slow("a", -1), "factor must be a number above 0, not -1"),
        (lambda world: Network(world).lose("a", 2), "share must be a share from 0 to 1, not 2"),
    ],
)
def test_a_wrong_network_is_named(how: Any, message: str) -> None:
    """A ValueError tells the field and the value."""
    with pytest.raises(ValueError, match=message):
        how(World())
