"""The chooser asks the balancer in the right way, and lets endpoints warm up."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from holdfast.cluster.balancing import BALANCERS, PowerOfTwo, Ring, SlowStart, balancer_of
from holdfast.cluster.choosing import Chooser
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.errors import NoEndpointError
from tests.cluster.members import POLICY


def members(*names: str) -> EndpointSet:
    """Return a set of endpoints."""
    return EndpointSet(lambda host: Endpoint(host.address, POLICY), names, None)


def chooser(
    among: EndpointSet, balancer: Any, slow_start: SlowStart | None = None, seed: int = 1
) -> Chooser:
    """Return a chooser whose chance is seeded."""
    return Chooser(among, balancer_of(balancer), random.Random(seed).random, slow_start)


class Asked(PowerOfTwo):
    """Notes what it is asked and told."""

    def __init__(self) -> None:
        self.told: list[tuple[list[str], int]] = []
        self.keys: list[Any] = []

    def members(self, every: Sequence[Endpoint], version: int) -> None:
        self.told.append(([endpoint.name for endpoint in every], version))

    def pick(self, ready: Sequence[Endpoint], now: float, random: Any, key: Any = None) -> Endpoint:
        self.keys.append(key)
        return super().pick(ready, now, random, key)


def test_members_are_told_once_for_each_change() -> None:
    """A balancer is told who there is before the first pick, and again when that has changed."""
    among, balancer = members("a", "b"), Asked()
    choose = chooser(among, balancer).choose
    assert balancer.told == [(["a", "b"], 0)]
    for now in range(3):
        choose(float(now))
    assert len(balancer.told) == 1
    among.update(["b", "c"], 3.0)
    for _ in range(3):
        assert choose(4.0)[0].name in "bc"
    assert balancer.told[1:] == [(["b", "c"], among.version)]


def test_members_are_told_again_after_an_error() -> None:
    """A table that could not be made is made at the next call."""
    among, balancer = members("a", "b"), Asked()
    choose = chooser(among, balancer).choose
    among.update(["a"], 1.0)
    told, balancer.told = balancer.told, None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        choose(2.0)
    balancer.told = told
    choose(2.0)
    assert balancer.told[-1] == (["a"], among.version)


def test_keys_are_passed_on() -> None:
    """The balancer gets the call's key, at each attempt."""
    among, balancer = members("a", "b"), Asked()
    choose = chooser(among, balancer).choose
    choose(0.0, key="k")
    choose(0.0, tried=among.all[:1], key="l")
    choose(0.0)
    assert set(balancer.keys) == {"k", "l", None}


def test_a_key_goes_to_its_endpoint_and_a_retry_to_the_next() -> None:
    """The same key is tried in the same order of endpoints."""
    among = members(*"abcdefgh")
    ring = Ring()
    choose = chooser(among, ring).choose
    order = list(ring.order(ring.number("k", random.random), among.all))
    tried: tuple[Endpoint, ...] = ()
    for expected in order:
        assert choose(0.0, tried, key="k")[0] is expected
        tried = (*tried, expected)
    assert choose(0.0, tried, key="k")[0] is order[0]


@pytest.mark.parametrize("balancer", BALANCERS)
@pytest.mark.parametrize("key", [None, "k"])
def test_a_retry_goes_elsewhere(balancer: str, key: str | None) -> None:
    """With each balancer, who was tried is tried again only when nobody else is left."""
    among = members(*"abcde")
    choose = chooser(among, balancer).choose
    for _ in range(20):
        tried: tuple[Endpoint, ...] = ()
        for _ in range(5):
            endpoint, _ = choose(0.0, tried, key=key)
            assert endpoint not in tried
            tried = (*tried, endpoint)
        assert choose(0.0, tried, key=key)[0] in among.all


@pytest.mark.parametrize("balancer", BALANCERS)
def test_each_balancer_follows_the_members(balancer: str) -> None:
    """Who was removed is never picked, and who was added is."""
    among = members(*"abcdef")
    choose = chooser(among, balancer).choose
    choose(0.0)
    among.update(["d", "e", "f", "g", "h"], 1.0)
    picked = {choose(2.0, key=None)[0].name for _ in range(200)}
    assert picked == set("defgh")
    among.update([], 3.0)
    with pytest.raises(NoEndpointError):
        choose(4.0)


SLOW = SlowStart()


def shares(among: EndpointSet, balancer: str, slow: SlowStart | None, now: float) -> Counter[str]:
    """Return the share of each endpoint, at one time."""
    choose = chooser(among, balancer, slow).choose
    picks = 2000
    counts = Counter(choose(now, key=number)[0].name for number in range(picks))
    return Counter({name: count / picks for name, count in counts.items()})


@pytest.mark.parametrize("balancer", BALANCERS)
@pytest.mark.parametrize("others", [1, 9])
def test_a_new_endpoint_gets_its_share_by_and_by(balancer: str, others: int) -> None:
    """With each balancer, its share grows evenly from a tenth to the whole."""
    names = [f"h{number}" for number in range(others)]
    among = members(*names)
    among.update([*names, "new"], 100.0)
    whole = shares(among, balancer, None, 100.0)["new"]
    for age, part in ((0, 0.1), (15, 0.55), (29, 0.97), (30, 1), (1e9, 1)):
        share = shares(among, balancer, SLOW, 100.0 + age)["new"]
        # Part of its share, or as if its weight were that part of the others' (with turns).
        assert whole * part - 0.03 < share < whole * part / (1 - whole * (1 - part)) + 0.03


def test_the_load_is_spread_where_nobody_is_well() -> None:
    """When all fail their checks, and there is no panic, calls go to all of them."""
    among = members(*"abcde")
    for endpoint in among.all:
        among.judge(endpoint, False, 0.0, "")
    assert among.ready == ()
    choose = chooser(among, "p2c").choose
    counts = Counter(choose(1.0)[0].name for _ in range(500))
    assert min(counts[name] for name in "abcde") > 50


def test_slow_start_can_be_set() -> None:
    """Seconds and the share to begin with are as said."""
    among = members("a")
    among.update(["a", "new"], 0.0)
    slow = SlowStart(seconds=10, least=0.5)
    assert shares(among, "random", slow, 0.0)["new"] == pytest.approx(0.25, abs=0.03)
    assert shares(among, "random", slow, 10.0)["new"] == pytest.approx(0.5, abs=0.03)
    assert shares(among, "random", SlowStart(least=0), 0.0)["new"] == 0


def test_who_is_new_among_the_new_is_picked() -> None:
    """Where nobody has warmed up, somebody is picked all the same."""
    among = members()
    among.update(["a", "b"], 0.0)
    found = shares(among, "p2c", SLOW, 0.0)
    assert found["a"] == pytest.approx(0.5, abs=0.05)
    assert found["a"] + found["b"] == 1


def test_the_first_hosts_need_not_warm_up() -> None:
    """A cluster begins with all of its hosts."""
    among = members("a", "b")
    assert {endpoint.since for endpoint in among.all} == {-inf}
    choose = Chooser(among, PowerOfTwo(), lambda: 0.999, SLOW).choose
    assert choose(0.0)[0] is among.all[1]


def test_a_retry_warms_nobody_up_twice() -> None:
    """Who was tried is not picked again because the others are new."""
    among = members("a")
    among.update(["a", "b", "c"], 0.0)
    choose = chooser(among, "p2c", SLOW).choose
    old = among.all[:1]
    for _ in range(50):
        assert choose(0.0, old)[0] is not old[0]


@pytest.mark.parametrize("wrong", [7, None, object(), Ring])
def test_what_is_no_balancer_is_refused(wrong: Any) -> None:
    """At once, not in the first call; a class is no balancer yet."""
    with pytest.raises(ValueError, match=r"^balancer must be .* not "):
        balancer_of(wrong)


@pytest.mark.parametrize("wrong", [30, 30.0, True, SlowStart])
def test_what_is_no_slow_start_is_refused(wrong: Any) -> None:
    """The error names the argument and the value."""
    with pytest.raises(ValueError, match="slow_start must be a SlowStart or None, not "):
        chooser(members("a"), "p2c", wrong)


def test_bad_slow_starts_are_refused() -> None:
    """What makes no sense fails at once, and is named."""
    with pytest.raises(ValueError, match="SlowStart: seconds must be above 0 and finite, not 0"):
        SlowStart(seconds=0)
    with pytest.raises(ValueError, match="SlowStart: least is a share, 0 to 1, not 2"):
        SlowStart(least=2)
    assert repr(SlowStart(least=0.5)) == "SlowStart(least=0.5)"
