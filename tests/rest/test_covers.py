"""The hosts that are asked for several keys: a smallest set, or nearly, and found soon."""

from __future__ import annotations

import random
from itertools import chain, combinations
from math import log
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.rest import Resources, Shards

Holding = dict[str, set[int]]

HOLDINGS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.sets(st.integers(0, 9)), min_size=1, max_size=8
)


class Choosy(Resources):
    """Resources with given priorities."""

    priorities: dict[str, Any]

    def priority(self, host: str) -> Any:
        return self.priorities.get(host, 0)


class ChoosyShards(Shards):
    _resources = Choosy


def shards_of(holding: Holding, priorities: dict[str, Any] | None = None) -> Shards:
    """Return shards of hosts that hold keys."""
    shards = ChoosyShards([(host, key) for host, keys in holding.items() for key in keys])
    assert isinstance(shards.resources, Choosy)
    shards.resources.priorities = priorities or {}
    return shards


def held_by(hosts: Any, holding: Holding) -> set[int]:
    """Return the keys that several hosts hold together."""
    return set(chain.from_iterable(holding[host] for host in hosts))


def smallest(holding: Holding, keys: set[int]) -> int:
    """Return the size of a smallest set of hosts that hold the keys, by trying all of them."""
    return next(
        size
        for size in range(len(holding) + 1)
        if any(held_by(hosts, holding) >= keys for hosts in combinations(holding, size))
    )


def random_holding(hosts: int, keys: int, copies: int, seed: int) -> Holding:
    """Return hosts, each key being held by a number of them."""
    source = random.Random(seed)
    holding: Holding = {f"h{number}": set() for number in range(hosts)}
    for key in range(keys):
        for host in source.sample(sorted(holding), copies):
            holding[host].add(key)
    return holding


@given(HOLDINGS, st.sets(st.sampled_from("abcdefgh"), max_size=3), st.data())
def test_a_cover_is_a_smallest_one(holding: Holding, dead: set[str], data: st.DataObject) -> None:
    """Live hosts hold all the keys together, and no fewer could."""
    live = {host: keys for host, keys in holding.items() if host not in dead}
    known = sorted(held_by(live, live))
    keys = set(data.draw(st.lists(st.sampled_from(known)))) if known else set()
    hosts = shards_of(holding, dict.fromkeys(dead))._cover(keys)
    assert len(set(hosts)) == len(hosts)
    assert set(hosts) <= set(live)
    assert held_by(hosts, live) >= keys
    assert len(hosts) == smallest(live, keys)


@given(HOLDINGS, st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3)))
def test_priorities_choose_among_covers(holding: Holding, priorities: dict[str, int]) -> None:
    """Among the smallest sets, that with the lowest sum of priorities is asked."""
    keys = held_by(holding, holding)
    shards = shards_of(holding, priorities)
    hosts = shards._cover(keys)
    sums = [
        sum(priorities.get(host, 0) for host in others)
        for others in combinations(holding, len(hosts))
        if held_by(others, holding) >= keys
    ]
    assert sum(priorities.get(host, 0) for host in hosts) == min(sums)


def test_ties_are_random() -> None:
    """Sets that are as good as each other are chosen in turns."""
    shards = shards_of({host: {1, 2} for host in "abc"})
    assert {tuple(shards._cover([1, 2])) for _ in range(100)} == {("a",), ("b",), ("c",)}


@pytest.mark.parametrize(
    ("hosts", "keys", "copies"),
    [
        (14, 40, 3),
        (25, 2_000, 2),
        (40, 300, 3),
        (100, 1_000, 2),
        (300, 10_000, 3),
        (1_000, 3_000, 5),
    ],
)
def test_large_covers(hosts: int, keys: int, copies: int) -> None:
    """With many hosts or keys, hosts that hold them all are found soon."""
    holding = random_holding(hosts, keys, copies, seed=hosts)
    shards = shards_of(holding)
    wanted = set(range(keys))
    began = process_time()
    found = shards._cover(wanted)
    took = process_time() - began
    assert held_by(found, holding) >= wanted
    assert len(found) < hosts
    assert took < 1  # of milliseconds; one set after the other would take more than a lifetime


@pytest.mark.parametrize("seed", range(5))
def test_a_greedy_cover_is_nearly_as_small(seed: int) -> None:
    """Where not all sets are tried, the hosts are at most ln(n) + 1 times as many as needed."""
    source = random.Random(seed)
    keys, size = list(range(600)), 12
    source.shuffle(keys)
    # A smallest cover is known: it parts the keys. Others overlap it.
    holding = {f"best{n}": set(keys[n::size]) for n in range(size)}
    holding |= {f"other{n}": set(source.sample(keys, 60)) for n in range(60)}
    found = shards_of(holding)._cover(keys)
    assert held_by(found, holding) == set(keys)
    assert len(found) <= size * (log(len(keys)) + 1)


def test_a_trap_for_the_greedy() -> None:
    """A small input is solved exactly where taking the largest first would not be."""
    top, bottom = set(range(7)), set(range(7, 14))
    holding = {
        "top": top,
        "bottom": bottom,
        "four": {0, 1, 2, 3, 7, 8, 9, 10},
        "two": {4, 5, 11, 12},
        "one": {6, 13},
    }
    assert shards_of(holding)._cover(range(14)) == ["bottom", "top"]


def test_few_hosts_among_many() -> None:
    """A pair that holds all is found among hosts of which there are many pairs."""
    holding = {f"h{n}": {n % 50, 100 + n % 7} for n in range(150)}
    holding |= {"left": set(range(100)), "right": set(range(100, 200))}
    keys = held_by(holding, holding)
    assert sorted(shards_of(holding)._cover(keys)) == ["left", "right"]


def test_each_priority_is_asked_for_once() -> None:
    """A priority that changes meanwhile does no harm."""
    left = {f"h{n}": [0, None] for n in range(40)}

    class Fickle(Resources):
        def priority(self, host: str) -> Any:
            return left[host].pop(0)

    class FickleShards(Shards):
        _resources = Fickle

    holding = random_holding(40, 300, 2, seed=1)
    shards = FickleShards([(host, key) for host, keys in holding.items() for key in keys])
    assert held_by(shards._cover(range(300)), holding) == set(range(300))
