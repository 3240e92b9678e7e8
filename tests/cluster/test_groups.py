"""Priorities and subsets: balancers that pick among a part of the endpoints."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Ejection
from holdfast.cluster.balancing import PeakEWMA, PowerOfTwo, Priority, RoundRobin, Subset
from holdfast.cluster.balancing.balancer import is_keyed
from holdfast.cluster.balancing.subset import subset
from holdfast.cluster.choosing import Chooser
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.cluster.hosts import Host
from tests.cluster.members import POLICY, endpoints, homes, know


def priorities(balancer: Priority, ready: Sequence[Endpoint], now: float = 0.0) -> set[int]:
    """Return the priorities of those that are picked."""
    chance = random.Random(1).random
    return {balancer.pick(ready, now, chance).priority for _ in range(100)}


@pytest.mark.parametrize(
    ("ready", "chosen"),
    [
        ((10, 10), {0}),
        ((7, 10), {0}),
        ((6, 10), {1}),
        ((0, 10), {1}),
        ((0, 7), {1}),
        ((6, 6), {0, 1}),
        ((0, 3), {1}),
        ((3, 0), {0}),
        ((10, 0), {0}),
    ],
)
def test_the_first_group_that_is_healthy_enough_is_used(
    ready: tuple[int, int], chosen: set[int]
) -> None:
    """From 70 % on a group is; when none is, all that are ready are used."""
    every = endpoints(20, priorities=[0] * 10 + [1] * 10)
    balancer = Priority()
    know(balancer, every)
    assert priorities(balancer, every[: ready[0]] + every[10 : 10 + ready[1]]) == chosen


@pytest.mark.parametrize(("enough", "chosen"), [(0.0, 5), (0.5, 5), (0.6, 3), (1.0, 9)])
def test_how_healthy_is_enough_can_be_said(enough: float, chosen: int) -> None:
    """Groups come in the order of their numbers, whatever these are, and none is empty."""
    every = endpoints(12, priorities=[9, 9, 9, 9, 3, 3, 3, 3, 5, 5, 5, 5])
    order = {5: (4, 4, 2), 3: (4, 3, 4), 9: (4, 3, 3)}[chosen]
    by_priority = {9: every[:4], 3: every[4:8], 5: every[8:]}
    ready = by_priority[9][: order[0]] + by_priority[3][: order[1]] + by_priority[5][: order[2]]
    if chosen == 5:
        ready = by_priority[9] + by_priority[3][: 0 if enough == 0 else 1] + by_priority[5][:2]
    balancer = Priority(enough=enough)
    know(balancer, every)
    assert priorities(balancer, ready) == {chosen}


def test_a_retry_stays_in_the_group() -> None:
    """Who is left out because it was tried is not unhealthy; its group is left when it is empty."""
    every = endpoints(4, priorities=[0, 0, 1, 2])
    balancer = Priority()
    know(balancer, every)
    assert priorities(balancer, every) == {0}
    assert priorities(balancer, list(every[1:])) == {0}
    assert priorities(balancer, list(every[2:])) == {1}
    assert priorities(balancer, list(every[3:])) == {2}


def test_a_panic_makes_no_group_healthy() -> None:
    """While health is ignored because most are out, a group that is down is not used again."""
    hosts = [Host(f"h{number}", priority=int(number >= 12)) for number in range(20)]
    among = EndpointSet(
        lambda host: Endpoint(host.address, POLICY, priority=host.priority),
        hosts,
        Ejection(failures=1, most=1.0, deviations=None),
    )
    balancer = Priority()
    choose = Chooser(among, balancer, random.Random(1).random).choose
    assert choose(0.0)[0].priority == 0
    for endpoint in among.all[:12]:
        among.record(endpoint, among.admit(endpoint, 0.0), False, 0.0)
    assert len(among.ready) == 20
    assert {choose(1.0)[0].priority for _ in range(50)} == {1}
    # When their time has come, a probe of each may show that they are back.
    probed = []
    for _ in range(12):
        endpoint, permit = choose(31.0)
        probed.append(endpoint.priority)
        among.record(endpoint, permit, True, 31.0)
    assert set(probed) == {0}


def test_recovery_in_a_panic_is_seen_in_a_second() -> None:
    """Then ``ready`` stays the same, so the groups are judged again now and then."""
    every = endpoints(4, priorities=[0, 0, 1, 1])
    for endpoint in every[:2]:
        endpoint.health.out_until = 5.0
    balancer = Priority(RoundRobin())
    know(balancer, every)
    assert priorities(balancer, every, 4.5) == {1}
    assert priorities(balancer, every, 5.4) == {1}
    assert priorities(balancer, every, 5.5) == {0}


def test_priorities_work_with_balancers_that_know_members() -> None:
    """Keys stay at their endpoints while their group is used, and come home to it."""
    every = endpoints(20, priorities=[0] * 10 + [1] * 10)
    balancer = Priority("maglev")
    know(balancer, every)
    keys = range(300)
    before = homes(balancer, every, keys)
    assert set(before) == {endpoint.name for endpoint in every[:10]}
    elsewhere = homes(balancer, every[5:], keys)
    assert set(elsewhere) == {endpoint.name for endpoint in every[10:]}
    nine = homes(balancer, every[1:], keys)
    gone = every[0].name
    assert [a for a, b in zip(before, nine, strict=True) if a != b] == [gone] * before.count(gone)
    assert homes(balancer, every, keys) == before


sizes = st.tuples(st.integers(1, 30), st.integers(1, 12), st.integers(0, 60))


@given(sizes)
def test_subsets_are_even(sizes: tuple[int, int, int]) -> None:
    """Over any number of clients, no endpoint has more than two more than another."""
    count, size, clients = sizes
    every = endpoints(count)
    counts = Counter[Endpoint](dict.fromkeys(every, 0))
    for client in range(clients):
        own = subset(every, size, client)
        assert len(set(own)) == len(own) == min(size, count)
        counts.update(own)
    assert max(counts.values()) - min(counts.values()) <= (2 if count % size else 1)


@given(sizes)
def test_a_round_takes_nobody_twice(sizes: tuple[int, int, int]) -> None:
    """The clients of a round share no endpoint, whatever order these are given in."""
    count, size, rounds = sizes
    every = endpoints(count)
    clients = max(1, count // size)
    taken = [
        endpoint
        for client in range(rounds * clients, (rounds + 1) * clients)
        for endpoint in subset(every[::-1] if client % 2 else every, size, client)
    ]
    assert len(taken) == len(set(taken)) == clients * min(size, count)


def test_rounds_are_dealt_anew() -> None:
    """Two clients that share an endpoint do not share all: a loss is spread widely."""
    every = endpoints(100)
    rounds = [subset(every, 10, 10 * number) for number in range(20)]
    heirs = {
        other
        for client in range(200)
        if every[0] in (own := subset(every, 10, client))
        for other in own
    }
    assert len({frozenset(own) for own in rounds}) == 20
    assert len(heirs) > 70


def test_a_client_picks_among_its_own() -> None:
    """Each client talks to its part of the endpoints, of which each has as many clients."""
    every = endpoints(12)
    clients: Counter[str] = Counter()
    for client in range(6):
        balancer = Subset(RoundRobin(), size=4, client=client)
        know(balancer, every)
        names = homes(balancer, every, [None] * 40)
        assert set(Counter(names).values()) == {10}
        clients.update(set(names))
    assert set(clients.values()) == {2}
    assert len(clients) == 12


def test_a_client_whose_own_are_out_picks_any() -> None:
    """Better a try elsewhere than none; and back to its own when one is ready."""
    every = endpoints(12)
    balancer = Subset("p2c", size=4, client=1)
    know(balancer, every)
    own = set(homes(balancer, every, [None] * 100))
    others = tuple(endpoint for endpoint in every if endpoint.name not in own)
    assert len(set(homes(balancer, others, [None] * 200))) == 8
    assert set(homes(balancer, every[:11], [None] * 100)) <= own
    one = [endpoint for endpoint in every if endpoint.name in own][:1]
    assert set(homes(balancer, [*others, *one], [None] * 20)) == {one[0].name}


def test_priorities_are_dealt_apart() -> None:
    """Each client has some of each group, so that priorities mean something to all of them."""
    every = endpoints(12, priorities=[0, 0, 0] + [1] * 9)
    for client in range(9):
        balancer = Subset(Priority(), size=1, client=client)
        know(balancer, every)
        assert set(homes(balancer, every, [None] * 20)) <= {one.name for one in every[:3]}
        assert set(homes(balancer, every[3:], [None] * 20)) <= {one.name for one in every[3:]}


def test_who_wraps_passes_on_what_the_inner_balancer_wants() -> None:
    """Latencies are observed for one that needs them, and keys passed to one that does."""
    endpoint = endpoints(1)[0]
    for make in (Priority, lambda inner: Subset(inner, size=2, client=0)):
        assert make(PeakEWMA()).observes
        assert not make(PowerOfTwo()).observes
        make(PeakEWMA()).observe(endpoint, 0.5, 1.0)
        assert endpoint.latency == 0.5
        endpoint.latency = 0.0
        assert is_keyed(make("ring"))
        assert is_keyed(make("bounded-load"))
        assert not is_keyed(make("p2c"))


def test_bad_groups_are_refused() -> None:
    """What makes no sense fails at once, and is named."""
    with pytest.raises(ValueError, match=r"Priority: enough is a share, 0 to 1, not 1\.5"):
        Priority(enough=1.5)
    with pytest.raises(ValueError, match="Subset: size must be a whole number from 1, not 0"):
        Subset(size=0, client=0)
    with pytest.raises(ValueError, match="Subset: client must be a whole number from 0, not -1"):
        Subset(size=1, client=-1)
    with pytest.raises(ValueError, match="no balancer is named 'best'"):
        Priority("best")
