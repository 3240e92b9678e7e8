"""Hosts come and go while calls are made."""

from __future__ import annotations

import gc
import re
import threading
from math import inf
from typing import Any

import pytest

from holdfast import Breaker, Ejection, Policy
from holdfast.cluster import ClusterCore
from holdfast.cluster.endpoints import Endpoint, EndpointSet
from holdfast.cluster.hosts import Host, HostTypes
from holdfast.drivers.simulated import World
from holdfast.http.limits import Timeout
from holdfast.http.requests import Request
from holdfast.simulation.hosts import Host as Simulated
from holdfast.simulation.hosts import Reply
from tests.policy.hammering import hammer

POLICY = Policy(breaker=Breaker(), limit=None)


def members(*hosts: HostTypes, ejection: Ejection | None = None, **options: Any) -> EndpointSet:
    """Return a set of endpoints that nobody connects to."""
    return EndpointSet(
        lambda host: Endpoint(host.address, POLICY, None, host.weight, host.priority),
        hosts,
        ejection if ejection is not None else Ejection(deviations=None),
        **options,
    )


def fail(among: EndpointSet, endpoint: Endpoint, now: float) -> None:
    """Have an endpoint ejected, and its circuit opened."""
    permits = [among.admit(endpoint, now) for _ in range(5)]
    for permit in permits:
        among.record(endpoint, permit, False, now)
    assert endpoint not in among.ready


def names(endpoints: tuple[Endpoint, ...]) -> list[str]:
    """Return the endpoints' names."""
    return [endpoint.name for endpoint in endpoints]


# --- hosts ------------------------------------------------------------------------------------


def test_a_host_has_many_forms() -> None:
    """A string, a mapping and a host say the same."""
    assert Host.of("a:1") == Host.of({"address": "a:1"}) == Host.of(Host("a:1")) == Host("a:1")
    assert Host.of({"address": "a", "weight": 2, "priority": 1}) == Host("a", 2.0, 1)
    assert (
        repr(Host("http://me:secret@a/b", 2.5, 1)) == "Host('http://a/b', weight=2.5, priority=1)"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "Host: address .* ''"),
        (7, "Host: address .* 7"),
        (b"a", "Host: address .* b'a'"),
        ({}, "Host: address is missing"),
        ({"weight": 2}, "Host: address is missing"),
        ({"address": "a", "wieght": 2}, "Host: wieght: there is only address, weight, priority"),
        ({"address": "a", "weight": 0}, "Host: weight .* 0"),
        ({"address": "a", "weight": inf}, "Host: weight .* inf"),
        ({"address": "a", "weight": True}, "Host: weight .* True"),
        ({"address": "a", "priority": -1}, "Host: priority .* -1"),
        ({"address": "a", "priority": 0.5}, "Host: priority .* 0.5"),
    ],
)
def test_what_is_no_host(value: Any, message: str) -> None:
    """An error names the field and the value."""
    with pytest.raises(ValueError, match=f"^{message}"):
        Host.of(value)


# --- membership -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "http://me:secret@a",
        "me:secret@a",
        "http://me:sec/ret@a",
        "me:s://ecret@a",
        "http://me:a@b@a",
    ],
)
def test_no_password_is_shown(address: str) -> None:
    """Not even that of an address which is none, as a slash in the password makes it."""
    assert "ret" not in repr(Host(address))
    assert "b@" not in repr(Host(address))
    assert "ecr" not in repr(Host(address))


@pytest.mark.parametrize("address", ["a", "a:80", "http://a/b@c", "http://a:80/b@c", "unix:/a@b"])
def test_an_address_without_a_password_is_shown_whole(address: str) -> None:
    """A path may have an @, too."""
    assert repr(Host(address)) == f"Host({address!r})"


@pytest.mark.parametrize("weight", [1e-10, 1e10, 1e308, 5e-324])
def test_weights_have_bounds(weight: float) -> None:
    """Beyond them the sums and shares that balancers make of them would mean nothing."""
    with pytest.raises(ValueError, match=rf"^Host: weight .*, not {re.escape(repr(weight))}"):
        Host("a", weight)


def test_who_stays_keeps_its_state() -> None:
    """An endpoint that stays is the same one, ejected as before; the order is the new hosts'."""
    among = members("a", "b", "c", "d")
    a, b, c, d = among.all
    fail(among, b, 0)
    assert among.version == 0
    among.update(["e", "d", "b", "c"], 5)
    e, *others = among.all
    assert others == [d, b, c]
    assert among.ready == (e, d, c)
    assert among.version == 1
    assert (e.since, d.since) == (5, -inf)
    assert a not in among.all
    among.bring_back(30)
    assert names(among.ready) == ["e", "d", "b", "c"]


def test_the_same_again_is_no_change() -> None:
    """A refresh that brings the same hosts replaces nothing."""
    among = members("a", {"address": "b", "weight": 2})
    before = among.all, among.ready
    among.update([Host("a"), Host("b", 2.0)], 1)
    assert among.all is before[0]
    assert among.ready is before[1]
    assert among.version == 0


def test_a_new_weight_changes_the_same_endpoint() -> None:
    """Weights and priorities are set anew, and whoever keeps tables of them is made aware."""
    among = members("a", "b")
    a = among.all[0]
    fail(among, a, 0)
    among.update([{"address": "a", "weight": 3, "priority": 2}, "b"], 1)
    assert among.all[0] is a
    assert (a.weight, a.priority) == (3, 2)
    assert names(among.ready) == ["b"]
    assert among.version == 1


def test_a_removed_endpoint_is_never_chosen() -> None:
    """It is out of both tuples at once, whoever still holds it gets no permit."""
    among = members("a", "b")
    a = among.all[0]
    among.update(["b"], 1)
    assert names(among.all) == names(among.ready) == ["b"]
    assert not among.admit(a, 1)
    assert not among.admit(a, 1, anyway=True)


@pytest.mark.parametrize("ok", [True, False, None])
def test_calls_of_a_removed_endpoint_end_normally(ok: bool | None) -> None:
    """They give their slots back, and what comes of them changes nothing for those who stay."""
    among = members("a", "b")
    a = among.all[0]
    permits = [among.admit(a, 0) for _ in range(9)]
    for _ in permits:
        assert a.try_acquire()
    among.update(["b"], 1)
    for permit in permits:
        assert not a.leave(permit, 2)
        a.release()
        among.record(a, permit, ok, 2)
    among.judge(a, False, 2, "")
    assert a.in_flight == 0
    assert names(among.ready) == ["b"]
    assert repr(among) == "<EndpointSet 1 of 1 ready>"
    among.bring_back(1e6)
    assert names(among.ready) == ["b"]


def test_who_comes_back_is_a_new_one() -> None:
    """A host that went and came again has a clean record."""
    among = members("a", "b")
    a = among.all[0]
    fail(among, a, 0)
    among.update(["b"], 1)
    among.update(["a", "b"], 2)
    assert among.all[0] is not a
    assert len(among.ready) == 2


def test_fewer_endpoints_may_have_fewer_ejected() -> None:
    """When those who are well go, so many of the ejected come back that the share is kept."""
    among = members(*"abcdefgh", ejection=Ejection(panic=0, deviations=None))
    for number, endpoint in enumerate(among.all[:4]):
        fail(among, endpoint, number)
        breaker = endpoint.breaker
        assert breaker is not None
        breaker.force(None, number)
        breaker.force("closed", number)
    assert names(among.ready) == ["e", "f", "g", "h"]
    among.update("abcde", 10)
    # Two of five: the other two have been out for longest, and may show themselves.
    assert names(among.ready) == ["a", "b", "e"]
    probe = among.admit(among.all[0], 11)
    assert not among.admit(among.all[0], 11)
    among.record(among.all[0], probe, True, 11)
    assert among.admit(among.all[0], 11)


def test_panic_follows_the_members() -> None:
    """When too few of those who stay are well, all are called; with new ones, no more."""
    among = members(*"abcdef", ejection=Ejection(most=1, panic=0.5, deviations=None))
    for endpoint in among.all[:3]:
        fail(among, endpoint, 0)
        endpoint.breaker.force("closed", 0)  # type: ignore[union-attr]
    assert names(among.ready) == ["d", "e", "f"]
    among.update("abcd", 1)
    assert names(among.ready) == ["a", "b", "c", "d"]
    among.update("abcdxyz", 2)
    assert names(among.ready) == ["d", "x", "y", "z"]


def test_all_may_go() -> None:
    """A set may be empty, and be filled again."""
    among = members("a")
    among.update([], 1)
    assert (among.all, among.ready) == ((), ())
    among.bring_back(2)
    among.update(["b"], 3)
    assert names(among.ready) == ["b"]


@pytest.mark.parametrize("hosts", [["c", "c"], ["a", "c", "a"], ["c", ""], ["c", {"address": 1}]])
def test_a_wrong_list_changes_nothing(hosts: list[Any]) -> None:
    """Hosts that are named twice, or are none, are refused, and all stays as it is."""
    among = members("a", "b")
    before = among.all
    with pytest.raises(ValueError, match=r"twice|address"):
        among.update(hosts, 1)
    assert among.all is before
    among.update(["a", "c"], 2)
    assert names(among.all) == ["a", "c"]


def test_the_same_host_in_other_words() -> None:
    """It is the same endpoint, and both at once are refused."""
    core = ClusterCore(["10.0.0.1:80", "10.0.0.2:80"])
    before = core.endpoints.all
    core.endpoints.update(["http://10.0.0.1", "10.0.0.2:80"], 1)
    assert core.endpoints.all == before
    for twice in (["10.0.0.1", "http://10.0.0.1"], ["10.0.0.3", "10.0.0.3:80"]):
        with pytest.raises(ValueError, match="twice"):
            core.endpoints.update(twice, 2)
    core.endpoints.update(["10.0.0.2:80"], 3)
    core.endpoints.update(["10.0.0.1", "10.0.0.2:80"], 4)
    assert core.endpoints.all[0] is not before[0]
    assert core.endpoints.all[1] is before[1]


def test_a_host_that_cannot_be_one() -> None:
    """What is no host for the one who makes endpoints changes nothing either."""
    core = ClusterCore(["10.0.0.1:80"])
    with pytest.raises(ValueError, match="not a host"):
        core.endpoints.update(["10.0.0.2:80", "10.0.0.3:80:80:x"], 1)
    assert names(core.endpoints.all) == ["10.0.0.1:80"]


def test_listeners_are_told_of_changes() -> None:
    """Of the first hosts they are not."""
    told: list[tuple[str, str, float]] = []
    among = members(
        "a", "b", listener=lambda kind, endpoint, now, _: told.append((kind, endpoint.name, now))
    )
    among.update(["b", "c"], 7)
    assert sorted(told) == [("added", "c", 7), ("removed", "a", 7)]


def test_threads_and_changes() -> None:
    """Whatever threads do meanwhile, members are ready in the end, and nobody else."""
    among = members(*"abcd", ejection=Ejection(failures=2, base=3, sweep=1))
    lists = ["abcd", "bcde", "ae", "edcba", "fghijk"]
    turns = threading.Lock()

    def work(number: int) -> None:
        for now in range(600):
            if now % 10 == number:
                with turns:
                    among.update(lists[now % len(lists)], now)
            for endpoint in among.ready[:2]:
                if now >= among.next_return:
                    among.bring_back(now)
                permit = among.admit(endpoint, now)
                if permit:
                    among.record(endpoint, permit, (now * 31 + number) % 5 > 1, now)

    hammer(work)
    among.update("abc", 1000)
    assert set(among.ready) <= set(among.all)
    assert among._out == sum(among._is_out(endpoint) for endpoint in among.all)
    assert set(among._unwell) <= set(among.all)


def test_a_set_that_nobody_needs_is_gone() -> None:
    """No cycle keeps it: connections are closed when their cluster goes."""
    gc.collect()
    gc.disable()
    try:
        among = members("a", "b", ejection=Ejection())
        endpoint = among.all[0]
        fail(among, endpoint, 0)
        among.update(["b", "c"], 1)
        before = sum(isinstance(one, EndpointSet) for one in gc.get_objects())
        del among
        assert sum(isinstance(one, EndpointSet) for one in gc.get_objects()) == before - 1
    finally:
        gc.enable()


def test_a_rolling_change_leaves_nothing_behind() -> None:
    """After hosts were replaced one by one, there is no more to remember than before."""
    hosts = [f"h{number}" for number in range(50)]
    among = members(*hosts)
    for now in range(500):
        fail(among, among.all[now % 50], now)
        hosts[now % 50] = f"n{now}"
        among.update(hosts, now)
    assert among.version == 500
    assert names(among.ready) == hosts
    assert len(among._members._addresses) == len(among._members.endpoints) == 50
    assert len(among._unwell) == among._out == 0
    among.bring_back(1e6)
    assert len(among._returns) == len(among._listed) == 0


# --- with connections -------------------------------------------------------------------------


def test_a_removed_host_is_drained() -> None:
    """The call in flight is answered, and then no connection to the host is left."""
    world = World()
    hosts = [Simulated(world, f"10.0.0.{n}:80", Reply(after=2.0)) for n in (1, 2)]
    core = ClusterCore([hosts[0].address], clock=world.clock, random=world.random)
    (endpoint,) = core.endpoints.all

    def request() -> Any:
        return core.call(Request("GET", "/", Timeout(total=9)))

    assert world.run(request()).status_code == 200
    tasks = [world.start(request()) for _ in range(2)]
    world.advance(1)
    assert (endpoint.in_flight, hosts[0].open) == (2, 2)
    core.endpoints.update([hosts[1].address], world.now)
    world.advance(5)
    assert [task.result().status_code for task in tasks] == [200, 200]
    assert (endpoint.in_flight, hosts[0].open) == (0, 0)
    assert world.run(request()).status_code == 200
    assert hosts[1].requests == 1


def test_idle_connections_of_a_removed_host_are_closed() -> None:
    """Nothing has to be called for that."""
    world = World()
    hosts = [Simulated(world, f"10.0.0.{n}:80") for n in (1, 2)]
    core = ClusterCore([h.address for h in hosts], clock=world.clock, random=world.random)
    for _ in range(20):
        world.run(core.call(Request("GET", "/", Timeout(total=9))))
    assert [host.open for host in hosts] == [1, 1]
    core.endpoints.update([hosts[1].address], world.now)
    world.advance(1)
    assert [host.open for host in hosts] == [0, 1]
