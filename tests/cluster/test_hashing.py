"""The same key goes to the same endpoint, and few keys move."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.cluster.balancing import BoundedLoad, Hashing, Maglev, Rendezvous, Ring
from holdfast.cluster.balancing.hashing import number_of
from holdfast.cluster.endpoints import Endpoint
from tests.cluster.members import endpoints, homes, know, load

KEYS = [f"key {number}" for number in range(2000)]
MAKES: list[Callable[[], Hashing]] = [Rendezvous, Ring, lambda: Maglev(2003)]
#: How much the shares of equal endpoints may differ from the mean, chance aside.
SPREAD = {"Rendezvous": 0.0, "Ring": 0.4, "Maglev": 0.02}

by_key = pytest.mark.parametrize("make", MAKES, ids=SPREAD)


def moved(before: list[str], after: list[str]) -> set[tuple[str, str]]:
    """Return from where to where keys have moved."""
    return {(one, other) for one, other in zip(before, after, strict=True) if one != other}


def test_keys_are_the_same_numbers_everywhere() -> None:
    """A key's number is the same in each process, and for its text as for its bytes."""
    assert number_of("a") == number_of(b"a") == number_of(bytearray(b"a")) == 3405396810240292928
    assert number_of(12) == number_of("12")
    assert number_of("\udc80") != number_of("")


@by_key
def test_homes_are_the_same_everywhere(make: Callable[[], Hashing]) -> None:
    """Another client, with the hosts in another order, sends each key to the same endpoint."""
    among = endpoints(7, [1, 1, 2])
    one, other = make(), make()
    know(one, among)
    know(other, among[::-1])
    assert homes(one, among, KEYS) == homes(other, among[::-1], KEYS)
    known = {"Rendezvous": 3, "Ring": 1, "Maglev": 0}[type(one).__name__]
    assert homes(one, among, ["k"]) == [among[known].name]


@by_key
@pytest.mark.parametrize("key", ["k", b"k", 7, bytearray(b"k")])
def test_a_key_stays(make: Callable[[], Hashing], key: object) -> None:
    """The same key, of whichever kind, has one home."""
    among = endpoints(5)
    balancer = make()
    know(balancer, among)
    assert len(set(homes(balancer, among, [key] * 20))) == 1


@by_key
@pytest.mark.parametrize("key", [1.0, object(), ["k"]])
def test_a_key_of_another_kind_is_refused(make: Callable[[], Hashing], key: object) -> None:
    """What prints differently in another process, or may, is no key."""
    among = endpoints(5)
    balancer = make()
    know(balancer, among)
    homes(balancer, among, [1])  # equal to 1.0, and known
    kind = type(key).__name__
    with pytest.raises(TypeError, match=f"key must be str, bytes or int, not {kind}"):
        homes(balancer, among, [key])


@by_key
def test_without_a_key_chance_picks(make: Callable[[], Hashing]) -> None:
    """Calls without a key are spread as keys are."""
    among = endpoints(4)
    balancer = make()
    know(balancer, among)
    assert min(Counter(homes(balancer, among, [None] * 2000)).values()) > 300


@by_key
@pytest.mark.parametrize("weights", [[1] * 10, [1, 1, 1, 1, 4, 2, 2, 2, 3, 3]])
def test_shares_are_in_proportion(make: Callable[[], Hashing], weights: list[int]) -> None:
    """Each endpoint has a share of the keys in proportion to its weight."""
    among = endpoints(10, weights)
    balancer = make()
    know(balancer, among)
    keys = 20_000
    counts = Counter(homes(balancer, among, range(keys)))
    for endpoint in among:
        expected = keys * endpoint.weight / sum(weights)
        chance = 4 * expected**0.5
        spread = SPREAD[type(balancer).__name__] * expected
        assert counts[endpoint.name] == pytest.approx(expected, abs=chance + spread)


@by_key
@given(st.integers(2, 12), st.data())
@settings(max_examples=30)
def test_while_one_is_out_only_its_keys_move(
    make: Callable[[], Hashing], count: int, data: st.DataObject
) -> None:
    """The keys of those that are ready stay; those of the others are spread, and come home."""
    among = endpoints(count, data.draw(st.lists(st.sampled_from([1, 2, 5]), max_size=count)))
    balancer = make()
    know(balancer, among)
    keys = KEYS[:200]
    before = homes(balancer, among, keys)
    out = data.draw(st.sets(st.sampled_from(among), max_size=count - 1))
    ready = tuple(endpoint for endpoint in among if endpoint not in out)
    gone = {endpoint.name for endpoint in out}
    after = homes(balancer, ready, keys)
    assert {one for one, _ in moved(before, after)} <= gone
    assert not gone & set(after)
    assert homes(balancer, among, keys) == before


@by_key
def test_keys_of_one_that_is_out_are_spread(make: Callable[[], Hashing]) -> None:
    """No single other endpoint has to carry them all."""
    among = endpoints(10)
    balancer = make()
    know(balancer, among)
    before = homes(balancer, among, KEYS)
    heirs = Counter(
        after
        for home, after in zip(before, homes(balancer, among[1:], KEYS), strict=True)
        if home == among[0].name
    )
    assert len(heirs) == 9
    assert max(heirs.values()) < 0.35 * sum(heirs.values())


@pytest.mark.slow
@by_key
@given(st.integers(2, 12), st.data())
@settings(max_examples=30, deadline=None)
def test_a_changed_endpoint_moves_few_keys(
    make: Callable[[], Hashing], count: int, data: st.DataObject
) -> None:
    """Who comes takes about its share, and who goes leaves its own; little else moves."""
    every = endpoints(count)
    place = data.draw(st.integers(0, count - 1))
    changed = every[place]
    rest = every[:place] + every[place + 1 :]
    balancer = make()
    know(balancer, every, 0)
    before = homes(balancer, every, KEYS)
    know(balancer, rest, 1)
    after = homes(balancer, rest, KEYS)
    share = len(KEYS) / count
    moves = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    others = [move for move in moves if move[0] != changed.name]
    assert len(moves) <= 1.7 * share
    # Maglev trades a few moves for its even shares, as its paper says.
    assert len(others) <= (0.1 * len(KEYS) if isinstance(balancer, Maglev) else 0)
    know(balancer, every, 2)
    assert homes(balancer, every, KEYS) == before


@by_key
def test_a_removed_endpoint_is_not_picked(make: Callable[[], Hashing]) -> None:
    """Whoever is in the table, only those that are ready are picked: many out do no harm."""
    among = endpoints(500)
    balancer = make()
    know(balancer, among[:490])
    ready = among[488:]
    assert set(homes(balancer, ready, KEYS)) == {endpoint.name for endpoint in ready}
    fewer = homes(balancer, ready[1:2], KEYS[:50])
    assert set(fewer) == {ready[1].name}


@by_key
@given(st.integers(1, 9), st.integers(0, 2**64 - 1), st.data())
@settings(max_examples=40)
def test_an_order_names_each_once(
    make: Callable[[], Hashing], count: int, number: int, data: st.DataObject
) -> None:
    """A key's order has everybody who is ready once, and leaving one out changes nothing else."""
    among = endpoints(count, [1, 3, 1])
    balancer = make()
    know(balancer, among)
    order = list(balancer.order(number, among))
    assert sorted(order, key=among.index) == list(among)
    assert order[0] is balancer.first(number, among)
    out = data.draw(st.sampled_from(among))
    ready = tuple(endpoint for endpoint in among if endpoint is not out)
    assert list(balancer.order(number, ready)) == [one for one in order if one is not out]


def test_a_ring_has_a_limited_number_of_points() -> None:
    """Many endpoints have fewer points each, and everybody has one; then few keys move, too."""
    among = endpoints(40)
    balancer = Ring(points=100, most=400)
    know(balancer, among)
    points, owners = balancer._table
    assert len(points) == 400
    assert len(owners) == 40
    before = homes(balancer, among, KEYS)
    know(balancer, among[:38], 1)
    after = homes(balancer, among[:38], KEYS)
    assert sum(one != other for one, other in zip(before, after, strict=True)) < 0.15 * len(KEYS)
    tiny = endpoints(2, [1e-6, 1])
    know(balancer, tiny, 2)
    assert len(balancer._table[0]) == 201


def test_maglev_fills_its_table_evenly() -> None:
    """Each endpoint has as many places as another, or one more; with weights, in proportion."""
    balancer = Maglev()
    among = endpoints(100)
    know(balancer, among)
    counts = Counter(balancer._table)
    assert sum(counts.values()) == 65537
    assert {counts[endpoint] for endpoint in among} == {655, 656}
    among = endpoints(3, [1, 2, 0.5])
    know(balancer, among, 1)
    counts = Counter(balancer._table)
    assert [counts[one] for one in among] == pytest.approx([18725, 37450, 9362], abs=2)


def test_more_endpoints_than_places_do_no_harm() -> None:
    """Some have no place, then; the table is full, and everybody may be picked who must be."""
    among = endpoints(9)
    balancer = Maglev(5)
    know(balancer, among)
    assert len(set(balancer._table)) == 5
    for endpoint in among:
        assert homes(balancer, (endpoint,), ["k"]) == [endpoint.name]


@given(
    st.sampled_from(["rendezvous", "ring", "maglev"]),
    st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=12),
    st.floats(1.01, 4),
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=150),
    st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_bounded_load_holds(
    name: str, weights: list[int], c: float, calls: list[tuple[int, bool]], seed: int
) -> None:
    """However skewed the keys, nobody gets a call above ⌈c × the mean⌉, by weight."""
    among = endpoints(len(weights), weights)
    inner: Hashing = Maglev(251) if name == "maglev" else {"ring": Ring}.get(name, Rendezvous)()
    balancer = BoundedLoad(inner, c)
    know(balancer, among)
    chance = random.Random(seed)
    flying: list[Endpoint] = []
    for key, ends in calls:
        if ends and flying:
            flying.pop(chance.randrange(len(flying))).release()
        endpoint = balancer.pick(among, 0.0, chance.random, key)
        mean = (len(flying) + 1) * endpoint.weight / sum(weights)
        assert endpoint.in_flight + 1 <= ceil(c * mean - 1e-9)
        # Nobody before it in the key's order had room.
        for other in inner.order(number_of(key), among):
            if other is endpoint:
                break
            mean = (len(flying) + 1) * other.weight / sum(weights)
            assert other.in_flight + 1 > ceil(c * mean - 1e-6)
        load(endpoint, 1)
        flying.append(endpoint)


@pytest.mark.parametrize("name", ["ring", "maglev", "rendezvous"])
def test_bounded_load_holds_among_many(name: str) -> None:
    """Among many, where not each pick counts the load, a single key still fills nobody."""
    among = endpoints(300)
    balancer = BoundedLoad(name)
    know(balancer, among)
    for number in range(900):
        load(balancer.pick(among, number * 0.001, random.random, "hot"), 1)
    # The mean is 3, ⌈1.25 × 3⌉ = 4.
    assert max(endpoint.in_flight for endpoint in among) == 4


def test_bounded_load_counts_again_in_time() -> None:
    """After a tenth of a second the mean is that of now, among many too."""
    among = endpoints(640)
    balancer = BoundedLoad()
    know(balancer, among)
    [home] = homes(balancer, among, ["k"])
    endpoint = next(one for one in among if one.name == home)
    load(endpoint, 1)
    assert balancer.pick(among, 0.0, random.random, "k") is not endpoint
    idle = among[0] if endpoint is not among[0] else among[1]
    for other in among:
        load(other, 0 if other is idle else 1)
    # A second call there is too many by the old count: ⌈1.25 × 2/640⌉ = 1.
    assert balancer.pick(among, 0.05, random.random, "k") is idle
    for other in among:
        load(other, 1)
    # By the new one three are allowed, ⌈1.25 × 1281/640⌉, and the key's second endpoint has two.
    assert balancer.pick(among, 0.15, random.random, "k") is not idle


@by_key
def test_bounded_load_keeps_keys_at_home_while_it_can(make: Callable[[], Hashing]) -> None:
    """With even load each key stays where it is without a bound."""
    among = endpoints(10)
    inner = make()
    balancer = BoundedLoad(inner)
    know(balancer, among)
    assert homes(balancer, among, KEYS) == homes(inner, among, KEYS)


def test_bad_balancers_by_key_are_refused() -> None:
    """What makes no sense fails at once, and is named."""
    with pytest.raises(ValueError, match="Maglev: size must be a prime number, not 65536"):
        Maglev(65536)
    with pytest.raises(ValueError, match="Maglev: size must be a prime number, not 9"):
        Maglev(9)
    with pytest.raises(ValueError, match="Maglev: size must be a whole number from 3, not 2"):
        Maglev(2)
    with pytest.raises(ValueError, match="Ring: points must be a whole number from 1, not 0"):
        Ring(points=0)
    with pytest.raises(ValueError, match="BoundedLoad: c must be above 1 and finite, not 1"):
        BoundedLoad(c=1)
    with pytest.raises(ValueError, match="BoundedLoad: inner must be a balancer by key, not 'p2c'"):
        BoundedLoad("p2c")
