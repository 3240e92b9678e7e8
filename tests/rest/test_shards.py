"""Hosts partitioned by keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast import HoldfastError
from holdfast.errors import ConnectError
from holdfast.rest import AsyncResources, Resources
from tests.rest.conftest import StartEchoes
from tests.rest.faces import Face
from tests.rest.test_resources import addresses, counts

# --- the mapping ------------------------------------------------------------------------------


def test_pairs_and_keywords(face: Face) -> None:
    """Keys lead to the sets of their hosts, from pairs of host and key and from keywords."""
    shards = face.shards([("a:1", "x"), ("b:1", "y"), ("b:1", "x")], 2, c=["y", 3])
    assert shards.target == {"x": {"a:1", "b:1"}, "y": {"b:1", "c"}, 3: {"c"}}
    assert isinstance(shards.target, dict)
    assert isinstance(shards.resources, (Resources, AsyncResources))
    assert list(shards.resources) == ["a:1", "b:1", "c"]
    assert face.shards(iter([("a", 1)])).target == {1: {"a"}}
    assert face.shards(**{"a:1": "xy"}).target == {"x": {"a:1"}, "y": {"a:1"}}


def test_no_shards(face: Face) -> None:
    """Without anything there are no keys and no hosts."""
    shards = face.shards()
    assert (shards.target, list(shards.resources)) == ({}, [])
    assert shards.multicast([], "GET", "/") == []


def test_the_limit_is_for_each_host(face: Face, echoes: StartEchoes) -> None:
    """As many idle connections as said are kept for each host, none by default."""
    (server,) = echoes(1)
    for limit in (0, 1):
        shards = face.shards([(server.address, 1)], limit)
        shards.unicast(1, "GET", "/x")
        assert len(shards.resources[server.address]) == limit


def test_how_shards_are_called(face: Face, echoes: StartEchoes) -> None:
    """What is said of all calls does not take the place of a host's name."""
    (server,) = echoes(1)
    shards = face.shards([(server.address, 1)], transport={"auth": "token"}, auth=[2])
    assert list(shards.resources) == [server.address, "auth"]
    (answer,) = shards.multicast([1], "GET", "/x")
    assert answer()["headers"]["authorization"] == "Bearer token"


# --- one key ----------------------------------------------------------------------------------


def test_one_that_holds_the_key(face: Face, echoes: StartEchoes) -> None:
    """A unicast goes to one of the hosts that hold the key."""
    servers = echoes(3)
    one, two, three = addresses(servers)
    shards = face.shards([(one, "x"), (two, "x"), (three, "y")])
    for number in range(30):
        answer = shards.unicast("x", "POST", f"/{number}", number, params={"a": 1})
        assert (answer()["path"], answer()["body"]) == (f"/{number}", number)
    assert min(counts(servers)[:2]) > 0
    assert counts(servers)[2] == 0


def test_all_that_hold_the_key(face: Face, echoes: StartEchoes) -> None:
    """A broadcast goes to all hosts that hold the key."""
    servers = echoes(3)
    one, two, three = addresses(servers)
    shards = face.shards([(one, "x"), (two, "x"), (three, "y")])
    answers = shards.broadcast("x", "PUT", "/x", {"a": 1})
    assert {answer()["headers"]["host"] for answer in answers} == {one, two}
    assert [answer()["body"] for answer in answers] == [{"a": 1}] * 2
    assert counts(servers) == [1, 1, 0]


def test_a_key_that_nobody_holds(face: Face) -> None:
    """A key without a host is a ValueError of ours that names it."""
    shards = face.shards([("a:1", "x")])
    calls: list[Callable[[], Any]] = [
        lambda: shards.unicast("nope", "GET", "/"),
        lambda: shards.broadcast("nope", "GET", "/"),
        lambda: shards.multicast(["x", "nope"], "GET", "/"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="'nope'") as caught:
            call()
        assert isinstance(caught.value, HoldfastError)


def test_the_priority_of_several(face: Face) -> None:
    """Fewer hosts come first, then a lower sum; one that is excluded excludes them all."""
    priorities = {"a": 1, "b": 2, "c": 10, "d": None}
    shards = with_priorities(face, priorities)
    assert shards.priority(["a", "b"]) == (2, 3)
    assert shards.priority({"c"}) == (1, 10)
    assert shards.priority(()) == (0, 0)
    assert shards.priority(["a", "d"]) is None
    assert shards.choice([{"a", "b"}, {"c"}, {"d"}]) == {"c"}
    assert shards.choice([{"a", "c"}, {"a", "b"}]) == {"a", "b"}
    with pytest.raises(ValueError, match="host") as caught:
        shards.choice([{"a", "d"}, {"d"}])
    assert isinstance(caught.value, HoldfastError)


def with_priorities(face: Face, priorities: dict[str, Any], *pairs: tuple[str, Any]) -> Any:
    """Make shards whose hosts have given priorities."""
    base = type(face.shards().resources)
    mine = type("Mine", (base,), {"priority": lambda self, host: priorities[host]})
    return face.shards(pairs or [(host, 1) for host in priorities], overriding={"_resources": mine})


def test_another_priority(face: Face, echoes: StartEchoes) -> None:
    """Hosts that are excluded get no unicast and no multicast."""
    servers = echoes(3)
    one, two, three = addresses(servers)
    pairs = [(one, "x"), (two, "x"), (one, "y"), (three, "y")]
    shards = with_priorities(face, {one: None, two: 0, three: 0}, *pairs)
    for _ in range(10):
        shards.unicast("x", "GET", "/x")
    answers = shards.multicast(["x", "y"], "GET", "/x")
    assert {answer()["headers"]["host"] for answer in answers} == {two, three}
    assert counts(servers) == [0, 11, 1]
    nobody = with_priorities(face, {one: None, two: 0}, (one, "x"), (two, "y"))
    calls: list[Callable[[], Any]] = [
        lambda: nobody.unicast("x", "GET", "/"),
        lambda: nobody.multicast(["x", "y"], "GET", "/"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="host"):
            call()


def test_another_choice(face: Face, echoes: StartEchoes) -> None:
    """Among the smallest sets that hold all the keys, the choice may be overridden."""
    servers = echoes(3)
    hosts = sorted(addresses(servers))
    shards = face.shards(
        [(host, "x") for host in hosts],
        overriding={"choice": lambda self, sets: max(sets, key=sorted)},
    )
    for _ in range(5):
        (answer,) = shards.multicast(["x"], "GET", "/x")
        assert answer()["headers"]["host"] == hosts[-1]


# --- several keys -----------------------------------------------------------------------------


def test_a_smallest_set(face: Face, echoes: StartEchoes) -> None:
    """All keys are reached through as few hosts as possible."""
    servers = echoes(4)
    one, two, three, four = addresses(servers)
    pairs = [(one, 1), (one, 2), (two, 3), (two, 4), (three, 1), (three, 3), (four, 2)]
    shards = face.shards(pairs)
    answers = shards.multicast([1, 2, 3, 4], "POST", "/x", {"a": 1}, params={"b": 2})
    assert {answer()["headers"]["host"] for answer in answers} == {one, two}
    assert [(answer()["body"], answer()["query"]) for answer in answers] == [
        ({"a": 1}, {"b": ["2"]})
    ] * 2
    assert len(shards.multicast(iter([1, 3, 1]), "GET", "/")) == 1
    assert shards.multicast([], "GET", "/") == []
    assert counts(servers) == [1, 1, 1, 0]


def test_a_dead_host(face: Face, echoes: StartEchoes, refusing: tuple[str, int]) -> None:
    """A host of the set that cannot be reached raises, after the others have finished."""
    (server,) = echoes(1)
    dead = "{}:{}".format(*refusing)
    shards = face.shards([(server.address, 1), (dead, 2)])
    calls: list[Callable[[], Any]] = [
        lambda: shards.multicast([1, 2], "GET", "/x"),
        lambda: shards.unicast(2, "GET", "/x"),
        lambda: shards.broadcast(2, "GET", "/x"),
    ]
    for call in calls:
        with pytest.raises(ConnectError, match=dead) as caught:
            call()
        assert [attempt.endpoint for attempt in caught.value.attempts] == [dead]
    assert counts([server]) == [1]


def test_many_callers(face: Face, echoes: StartEchoes) -> None:
    """Many threads, or tasks, may use the same shards."""
    servers = echoes(3)
    hosts = addresses(servers)
    shards = face.shards([(host, n % 3) for n, host in enumerate(hosts * 2)], 4).target
    results = face.at_once([lambda: shards.multicast([0, 1, 2], "GET", "/x")] * 50)
    assert [[answer.status for answer in answers] for answers in results] == [[200] * 3] * 50
    assert counts(servers) == [50] * 3
