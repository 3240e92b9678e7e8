"""Balancers choose as their papers say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from holdfast import PeakEWMA, PowerOfTwo, RoundRobin
from holdfast.cluster import Balancer, ClusterCore
from holdfast.cluster.balancers import balancer_of
from holdfast.cluster.endpoints import Endpoint

BALANCERS: list[Callable[[], Balancer]] = [PowerOfTwo, PeakEWMA, RoundRobin]


def endpoints(count: int) -> tuple[Endpoint, ...]:
    """Return endpoints that nobody connects to."""
    return ClusterCore([f"10.0.0.{number}:80" for number in range(count)]).endpoints.all


def load(endpoint: Endpoint, calls: int) -> None:
    """Have calls in flight."""
    for _ in range(calls):
        assert endpoint.try_acquire()


def picks(balancer: Balancer, ready: tuple[Endpoint, ...], count: int = 3000) -> list[int]:
    """Return how often each endpoint is picked."""
    chance = random.Random(7).random
    counts = Counter(balancer.pick(ready, 0.0, chance).name for _ in range(count))
    return [counts[endpoint.name] for endpoint in ready]


@pytest.mark.parametrize("make", BALANCERS)
@pytest.mark.parametrize("seed", range(5))
def test_a_pick_is_one_of_those_that_are_ready(make: Callable[[], Balancer], seed: int) -> None:
    """Whatever is ready from one pick to the next, and whatever chance says, it is one of them."""
    balancer = make()
    among = endpoints(6)
    chance = random.Random(seed)
    extremes = (0.0, 0.5, 1 - 2**-53)
    for _ in range(500):
        ready = tuple(chance.sample(among, chance.randint(1, 6)))
        for _ in range(chance.randint(0, 2)):
            load(chance.choice(among), 1)
        picked = balancer.pick(
            ready, chance.uniform(0, 100), chance.choice([chance.random, lambda: extremes[2]])
        )
        assert picked in ready
        assert balancer.pick(ready, 0, lambda: extremes[0]) in ready
        assert balancer.pick(ready, 0, lambda: extremes[1]) in ready
        balancer.observe(picked, chance.uniform(0, 10), chance.uniform(0, 100))
        for endpoint in among:
            while endpoint.in_flight > 20:
                endpoint.release()


@pytest.mark.parametrize("make", BALANCERS)
def test_equal_endpoints_are_picked_equally(make: Callable[[], Balancer]) -> None:
    """Without a difference in load each gets its share."""
    for count in picks(make(), endpoints(6)):
        assert count == pytest.approx(500, abs=80)


@pytest.mark.parametrize("make", [PowerOfTwo, PeakEWMA])
def test_the_busiest_of_all_is_never_picked(make: Callable[[], Balancer]) -> None:
    """Of two different ones the busier is not taken, so the busiest never is."""
    among = endpoints(5)
    load(among[2], 1)
    counts = picks(make(), among)
    assert counts[2] == 0
    assert min(counts[:2] + counts[3:]) > 500


def test_two_choices_are_taken_among_all_pairs() -> None:
    """With loads 0 to 4 the endpoints are picked in the ratio 4 : 3 : 2 : 1 : 0."""
    among = endpoints(5)
    for calls, endpoint in enumerate(among):
        load(endpoint, calls)
    for share, count in zip((0.4, 0.3, 0.2, 0.1, 0), picks(PowerOfTwo(), among), strict=True):
        assert count / 3000 == pytest.approx(share, abs=0.03)


def test_two_choices_keep_the_load_even() -> None:
    """Calls that never end pile up evenly: the fullest is hardly fuller than the mean."""
    among = endpoints(20)
    chance = random.Random(1).random
    balancer = PowerOfTwo()
    for _ in range(1500):
        load(balancer.pick(among, 0, chance), 1)
    loads = [endpoint.in_flight for endpoint in among]
    assert max(loads) - min(loads) <= 6  # one random choice spreads by some 35


def test_round_robin_is_exact() -> None:
    """One after the other, in the order of the hosts, for ever."""
    among = endpoints(3)
    balancer = RoundRobin()
    order = [balancer.pick(among, 0, random.random) for _ in range(9)]
    assert order == list(among) * 3


def test_peak_ewma_avoids_the_slow() -> None:
    """Of two idle ones the faster is taken."""
    among = endpoints(2)
    balancer = PeakEWMA()
    for _ in range(5):
        balancer.observe(among[0], 0.010, 1.0)
        balancer.observe(among[1], 0.100, 1.0)
    chance = random.Random(1).random
    assert {balancer.pick(among, 1.0, chance) for _ in range(50)} == {among[0]}
    load(among[0], 8)
    assert {balancer.pick(among, 1.0, chance) for _ in range(50)} == {among[0]}
    load(among[0], 2)  # 11 × 10 ms are more than 1 × 100 ms
    assert {balancer.pick(among, 1.0, chance) for _ in range(50)} == {among[1]}


def test_peak_ewma_takes_peaks_at_once_and_forgets_them_slowly() -> None:
    """One slow answer counts whole; fast ones bring the mean down over the decay time."""
    balancer = PeakEWMA(decay=10)
    endpoint = endpoints(1)[0]
    now = 1000.0
    balancer.observe(endpoint, 0.01, now)
    assert balancer.cost(endpoint, now) == pytest.approx(0.01)
    balancer.observe(endpoint, 2.0, now + 1)
    assert balancer.cost(endpoint, now + 1) == 2.0
    balancer.observe(endpoint, 0.01, now + 2)
    assert 1.7 < balancer.cost(endpoint, now + 2) < 2.0
    costs = []
    for second in range(3, 60):
        balancer.observe(endpoint, 0.01, now + second)
        costs.append(balancer.cost(endpoint, now + second))
    assert costs == sorted(costs, reverse=True)
    assert costs[8] == pytest.approx(2.0 / 2.718, rel=0.05)  # ten seconds after the peak
    assert costs[-1] == pytest.approx(0.01, abs=0.02)


def test_peak_ewma_gives_the_slow_another_chance() -> None:
    """An endpoint that was slow is tried again after a while without calls."""
    among = endpoints(2)
    balancer = PeakEWMA(decay=10)
    balancer.observe(among[1], 1.0, 0)
    now = 0.0
    while balancer.cost(among[1], now) >= 0.01:
        now += 1
        assert now < 100
        balancer.observe(among[0], 0.01, now)
    assert balancer.pick(among, now, random.Random(1).random) is among[1]
    assert 40 < now < 60


def test_peak_ewma_asks_a_new_endpoint_one_call() -> None:
    """Who has never answered gets one call, and no second one until it has answered."""
    among = endpoints(2)
    balancer = PeakEWMA()
    balancer.observe(among[0], 0.01, 0)
    chance = random.Random(1).random
    assert balancer.pick(among, 0, chance) is among[1]
    load(among[1], 1)
    load(among[0], 50)
    assert balancer.pick(among, 0, chance) is among[0]


def test_balancers_have_names() -> None:
    """A name makes a balancer, a balancer stays itself, and an unknown name is refused."""
    names = {"p2c": PowerOfTwo, "peak-ewma": PeakEWMA, "round-robin": RoundRobin}
    for name, kind in names.items():
        assert type(balancer_of(name)) is kind
    mine = PeakEWMA(decay=3)
    assert balancer_of(mine) is mine
    assert [repr(make()) for make in BALANCERS] == [
        "PowerOfTwo()",
        "PeakEWMA(decay=10)",
        "RoundRobin()",
    ]
    with pytest.raises(ValueError, match="no balancer is named 'best'; there are p2c, peak-ewma"):
        balancer_of("best")
    with pytest.raises(ValueError, match="PeakEWMA: decay must be above 0"):
        PeakEWMA(decay=0)
