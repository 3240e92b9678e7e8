"""Balancers choose as their papers say."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cluster.balancing import (
    BALANCERS,
    Balancer,
    LeastLoaded,
    Maglev,
    PeakEWMA,
    PowerOfTwo,
    Random,
    Ring,
    RoundRobin,
    Subset,
    WeightedRandom,
    WeightedRoundRobin,
    balancer_of,
)
from holdfast.cluster.endpoints import Endpoint
from tests.cluster.members import endpoints, know, load, picks
from tests.policy.hammering import hammer

#: All of them; a small table is quicker to make.
MAKES: dict[str, Callable[[], Balancer]] = {
    **BALANCERS,
    "maglev": lambda: Maglev(251),
    "subset": lambda: Subset(size=3, client=5),
    "subset of a ring": lambda: Subset("ring", size=3, client=5),
}
#: Those that pick all endpoints alike; a ring does so only on average.
FAIR = [PowerOfTwo, PeakEWMA, LeastLoaded, RoundRobin, Random, WeightedRandom, WeightedRoundRobin]

weights = st.lists(st.integers(1, 20), min_size=1, max_size=8)


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("introduced", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_pick_is_one_of_those_that_are_ready(name: str, introduced: bool, seed: int) -> None:
    """Whatever is ready from one pick to the next, and whatever chance says, it is one of them."""
    balancer = MAKES[name]()
    chance = random.Random(seed)
    among = endpoints(6, [chance.choice([0.5, 1, 3]) for _ in range(6)], [0, 0, 1, 0, 1, 2])
    if introduced:
        know(balancer, among[:5])
    lowest, middle, highest = (lambda: 0.0), (lambda: 0.5), (lambda: 1 - 2**-53)
    for turn in range(300):
        if introduced and turn == 150:
            know(balancer, among[1:], 1)
        chosen = chance.sample(among, chance.randint(1, 6))
        ready = chosen if chance.random() < 0.3 else tuple(chosen)
        load(chance.choice(among), chance.randint(0, 2))
        now = chance.uniform(0, 100)
        key = chance.choice([None, "key", b"key", 7])
        picked = balancer.pick(ready, now, chance.choice([chance.random, highest]), key)
        assert picked in ready
        assert balancer.pick(ready, 0, lowest) in ready
        assert balancer.pick(ready, 0, middle, key) in ready
        balancer.observe(picked, chance.uniform(0, 10), chance.uniform(0, 100))
        for endpoint in among:
            while endpoint.in_flight > 20:
                endpoint.release()


@pytest.mark.parametrize("make", FAIR)
def test_equal_endpoints_are_picked_equally(make: Callable[[], Balancer]) -> None:
    """Without a difference in load each gets its share."""
    balancer, among = make(), endpoints(6)
    know(balancer, among)
    for count in picks(balancer, among):
        assert count == pytest.approx(500, abs=80)


@pytest.mark.parametrize("make", [PowerOfTwo, PeakEWMA, LeastLoaded])
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


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 1000))
def test_the_least_loaded_has_the_least_load(loads: list[int], seed: int) -> None:
    """Nobody has fewer calls in flight than who is picked."""
    among = endpoints(len(loads))
    for endpoint, calls in zip(among, loads, strict=True):
        load(endpoint, calls)
    assert LeastLoaded().pick(among, 0, random.Random(seed).random).in_flight == min(loads)


@pytest.mark.parametrize("busy", [0, 1])
def test_of_several_least_loaded_any_is_picked(busy: int) -> None:
    """Each of them has the same share, wherever they stand beside the busy ones."""
    among = endpoints(20)
    for place, endpoint in enumerate(among):
        load(endpoint, busy + (place not in (3, 4, 11)))
    counts = picks(LeastLoaded(), among)
    assert [counts[place] for place in (3, 4, 11)] == pytest.approx([1000] * 3, abs=100)


def test_round_robin_is_exact() -> None:
    """One after the other, in the order of the hosts, for ever."""
    among = endpoints(3)
    balancer = RoundRobin()
    order = [balancer.pick(among, 0, random.random) for _ in range(9)]
    assert order == list(among) * 3


@given(weights, st.integers(1, 5))
def test_weighted_turns_are_exact_and_smooth(weights: list[int], cycles: int) -> None:
    """In every cycle each has its weight's number of turns; at any time nearly its share."""
    among = endpoints(len(weights), weights)
    balancer = WeightedRoundRobin()
    know(balancer, among)
    total = sum(weights)
    counts: Counter[Endpoint] = Counter()
    for turn in range(1, cycles * total + 1):
        counts[balancer.pick(among, 0, random.random)] += 1
        for endpoint in among:
            share = endpoint.weight / total
            # Half a turn too early or too late, the n/2 that all others are early, and ties.
            assert abs(counts[endpoint] - turn * share) <= 1.5 + len(among) / 2 * share
        if turn % total == 0:
            assert [counts[endpoint] for endpoint in among] == [
                weight * turn // total for weight in weights
            ]


def test_weighted_turns_are_exact_among_threads() -> None:
    """No turn is lost or taken twice, however many threads take them."""
    among = endpoints(3, [3, 2, 1])
    balancer = WeightedRoundRobin()
    know(balancer, among)
    counts: Counter[Endpoint] = Counter()
    lock = threading.Lock()

    def work(number: int) -> None:
        mine = Counter(balancer.pick(among, 0, random.random) for _ in range(1500))
        with lock:
            counts.update(mine)

    hammer(work)
    assert [counts[endpoint] for endpoint in among] == [3000, 2000, 1000]


def test_weighted_turns_are_spread() -> None:
    """Five turns of one do not come one after the other while others wait."""
    among = endpoints(3, [5, 1, 1])
    balancer = WeightedRoundRobin()
    know(balancer, among)
    order = [among.index(balancer.pick(among, 0, random.random)) for _ in range(14)]
    assert order == [0, 0, 0, 1, 2, 0, 0] * 2


@given(weights.filter(lambda weights: len(weights) > 1), st.integers(1, 60))
def test_turns_go_on_beside_one_that_is_out(weights: list[int], before: int) -> None:
    """While one is out the others have their shares, and when it is back all have theirs."""
    among = endpoints(len(weights), weights)
    balancer = WeightedRoundRobin()
    know(balancer, among)
    for _ in range(before):
        balancer.pick(among, 0, random.random)
    rest = among[1:]
    counts = picks(balancer, rest, 3 * sum(weights[1:]))
    assert counts == pytest.approx([3 * weight for weight in weights[1:]], abs=2)
    counts = picks(balancer, among, 3 * sum(weights))
    assert counts == pytest.approx([3 * weight for weight in weights], abs=2)


def test_a_retry_disturbs_no_turns() -> None:
    """Who is left out of one pick, which a list says, keeps its turn."""
    among = endpoints(3)
    balancer = WeightedRoundRobin()
    know(balancer, among)
    assert balancer.pick(among, 0, random.random) is among[0]
    assert balancer.pick([among[2]], 0, random.random) is among[2]
    order = [balancer.pick(among, 0, random.random) for _ in range(4)]
    assert order == [among[1], among[0], among[1], among[2]]


def test_turns_are_kept_when_the_members_change() -> None:
    """Who stays keeps its turns, who is new gets some, also when that happens again and again."""
    among = endpoints(3, [0.01, 1, 1])
    balancer = WeightedRoundRobin()
    counts: Counter[Endpoint] = Counter()
    for version in range(100):
        every = among if version % 2 else (*among[:2], endpoints(4)[3])
        know(balancer, every, version)
        counts.update(balancer.pick(every, 0, random.random) for _ in range(20))
    assert counts[among[0]] == pytest.approx(10, abs=1)
    assert counts[among[1]] == pytest.approx(990, abs=30)


def test_a_new_weight_counts_at_once() -> None:
    """Who waited for a turn at a small weight needs not wait for it at a large one."""
    among = endpoints(2, [0.001, 1])
    balancer = WeightedRoundRobin()
    know(balancer, among)
    picks(balancer, among, 10)
    among[0].weight = 1.0
    know(balancer, among, 1)
    assert picks(balancer, among, 100) == pytest.approx([50, 50], abs=2)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12))
def test_weighted_chance_is_exact(weights: list[float]) -> None:
    """Over all that chance may say, each is picked in proportion to its weight."""
    among = endpoints(len(weights), weights)
    balancer = WeightedRandom()
    know(balancer, among)
    steps = 200 * len(among)
    chances = iter([(step + 0.5) / steps for step in range(steps)])
    counts = Counter(balancer.pick(among, 0, chances.__next__) for _ in range(steps))
    for endpoint in among:
        share = endpoint.weight / sum(weights)
        assert counts[endpoint] == pytest.approx(steps * share, abs=len(among) + 1)


@pytest.mark.parametrize("out", [1, 9, 99])
def test_weighted_chance_holds_among_those_that_are_ready(out: int) -> None:
    """However many are out, the others keep their proportions."""
    among = endpoints(out + 3, [50.0] * out + [1, 2, 3])
    balancer = WeightedRandom()
    know(balancer, among)
    assert picks(balancer, among[out:], 3000) == pytest.approx([500, 1000, 1500], abs=100)


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
    assert {name: repr(balancer_of(name)) for name in BALANCERS} == {
        "p2c": "PowerOfTwo()",
        "peak-ewma": "PeakEWMA(decay=10)",
        "least-loaded": "LeastLoaded()",
        "round-robin": "RoundRobin()",
        "random": "Random()",
        "weighted-random": "WeightedRandom()",
        "weighted-round-robin": "WeightedRoundRobin()",
        "rendezvous": "Rendezvous()",
        "ring": "Ring(points=100)",
        "maglev": "Maglev(size=65537)",
        "bounded-load": "BoundedLoad(Ring(points=100), c=1.25)",
        "priority": "Priority(PowerOfTwo(), enough=0.7)",
    }
    assert repr(Subset("random", size=3, client=5)) == "Subset(Random(), size=3, client=5)"
    mine = Ring(points=3)
    assert balancer_of(mine) is mine
    with pytest.raises(ValueError, match="no balancer is named 'best'; there are p2c, peak-ewma"):
        balancer_of("best")
    with pytest.raises(ValueError, match="PeakEWMA: decay must be above 0"):
        PeakEWMA(decay=0)
