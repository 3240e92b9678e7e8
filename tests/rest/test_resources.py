"""Many hosts: a mapping to pools, and calls of one or all of them."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import Any

import pytest

from holdfast import HoldfastError
from holdfast.errors import ConnectError, InvalidRequest
from holdfast.rest import AsyncPool, Pool
from tests.rest.conftest import StartEchoes
from tests.rest.faces import Face
from tests.servers import EchoServer, Hold, Receive
from tests.servers.fixtures import StartScripted


def addresses(servers: list[EchoServer]) -> list[str]:
    """Return the hosts of servers."""
    return [server.address for server in servers]


def counts(servers: list[EchoServer]) -> list[int]:
    """Return how many requests each server got."""
    return [server.request_count for server in servers]


# --- the mapping ------------------------------------------------------------------------------


def test_a_mapping_of_hosts(face: Face, echoes: StartEchoes) -> None:
    """Each host, in the order given, leads to its pool, which can be called."""
    servers = echoes(3)
    resources = face.resources(addresses(servers), 2)
    assert list(resources) == addresses(servers)
    assert isinstance(resources.target, dict)
    assert all(isinstance(pool, (Pool, AsyncPool)) for pool in resources.values())
    pool = resources[servers[1].address]
    assert face.finish(pool.get("/x"))["path"] == "/x"
    assert counts(servers) == [0, 1, 0]
    assert [len(pool) for pool in resources.values()] == [0, 1, 0]
    assert resources.get("nobody") is None
    with pytest.raises(KeyError):
        resources["nobody"]


def test_hosts_in_any_form(face: Face, echoes: StartEchoes) -> None:
    """Hosts are called by the names that they were given."""
    one, two = echoes(2)
    hosts = [f"localhost:{one.port}", f"{two.url}/base"]
    resources = face.resources(iter(hosts))
    assert list(resources) == hosts
    answers = resources.broadcast("GET", "/x")
    assert [answer()["path"] for answer in answers] == ["/x", "/base/x"]
    assert [answer.attempts[0].endpoint for answer in answers] == hosts


def test_a_host_twice_is_one(face: Face, echo: EchoServer) -> None:
    """A host that is named twice is one; by two names it is an error."""
    resources = face.resources([echo.address, echo.address])
    assert list(resources) == [echo.address]
    with pytest.raises(ValueError, match="twice"):
        face.resources([echo.address, echo.url])


def test_no_hosts(face: Face) -> None:
    """Without any host, none can be chosen, and all of them are none."""
    resources = face.resources([])
    with pytest.raises(ValueError, match="host"):
        resources.unicast("GET", "/")
    assert resources.broadcast("GET", "/") == []


# --- one of them ------------------------------------------------------------------------------


def test_ties_are_random(face: Face, echoes: StartEchoes) -> None:
    """Among hosts of the same priority each gets its share."""
    servers = echoes(3)
    resources = face.resources(addresses(servers))
    for _ in range(120):
        assert resources.unicast("GET", "/x")()["path"] == "/x"
    assert sum(counts(servers)) == 120
    assert min(counts(servers)) >= 15  # of 40: there are fewer in one of a million runs


def test_among_some(face: Face, echoes: StartEchoes) -> None:
    """The choice may be limited to some of the hosts."""
    servers = echoes(3)
    hosts = addresses(servers)
    resources = face.resources(hosts)
    for _ in range(30):
        resources.unicast("GET", "/x", hosts=hosts[:2])
    assert servers[2].request_count == 0
    assert 0 < servers[0].request_count < 30
    for _ in range(5):
        resources.unicast("GET", "/x", None, iter(hosts[2:]))
    assert servers[2].request_count == 5
    with pytest.raises(KeyError):
        resources.unicast("GET", "/x", hosts=["nobody"])


def test_what_a_unicast_sends(face: Face, echo: EchoServer) -> None:
    """Body and options are those of a pool's call."""
    resources = face.resources([echo.address])
    answer = resources.unicast(
        "PUT", "/redirect/307?to=/x", {"a": 1}, redirect=1, headers={"X-One": "1"}
    )
    assert (answer()["path"], answer()["body"]) == ("/x", {"a": 1})
    assert answer()["headers"]["x-one"] == "1"
    answer = resources.unicast("GET", "/x", params={"a": [1, 2]})
    assert answer()["query"] == {"a": ["1", "2"]}
    assert resources.unicast("GET", "/status/500").status == 500


def test_idle_connections_are_preferred(face: Face, echoes: StartEchoes) -> None:
    """By default a host with more idle connections comes first."""
    servers = echoes(3)
    hosts = addresses(servers)
    resources = face.resources(hosts, limit=1)
    resources.unicast("GET", "/x", hosts=hosts[1:2])
    assert [resources.priority(host) for host in hosts] == [0, -1, 0]
    for _ in range(10):
        resources.unicast("GET", "/x")
    assert counts(servers) == [0, 11, 0]
    assert resources.choice(hosts) == hosts[1]
    assert resources.choice([hosts[0], hosts[2]]) in hosts


def test_another_priority(face: Face, echoes: StartEchoes) -> None:
    """The host with the lowest priority is chosen, and None excludes."""
    servers = echoes(4)
    hosts = addresses(servers)
    priorities = dict(zip(hosts, [None, 3, 2, 2], strict=True))
    resources = face.resources(hosts, overriding={"priority": lambda self, host: priorities[host]})
    for _ in range(40):
        resources.unicast("GET", "/x")
    first, second, third, fourth = counts(servers)
    assert (first, second) == (0, 0)
    assert min(third, fourth) > 0
    resources.unicast("GET", "/x", hosts=hosts[:2])
    assert counts(servers)[:2] == [0, 1]


def test_nobody_is_left(face: Face, echo: EchoServer) -> None:
    """When all hosts are excluded, it is a ValueError of ours."""
    resources = face.resources([echo.address], overriding={"priority": lambda self, host: None})
    for choose in (resources.choice, lambda hosts: resources.unicast("GET", "/", hosts=hosts)):
        with pytest.raises(ValueError, match="host") as caught:
            choose([echo.address])
        assert isinstance(caught.value, HoldfastError)
    assert echo.connection_count == 0


def test_another_choice(face: Face, echoes: StartEchoes) -> None:
    """The choice itself may be overridden."""
    servers = echoes(3)
    hosts = addresses(servers)
    resources = face.resources(hosts, overriding={"choice": lambda self, hosts: max(hosts)})
    for _ in range(5):
        resources.unicast("GET", "/x")
    assert resources.choice(hosts) == max(hosts)
    assert dict(zip(hosts, counts(servers), strict=True))[max(hosts)] == 5


def test_one_that_cannot_be_reached(
    face: Face, echo: EchoServer, refusing: tuple[str, int]
) -> None:
    """A host that was chosen and refuses is an OSError with the attempt; no other is called."""
    dead = "{}:{}".format(*refusing)
    resources = face.resources([dead, echo.address])
    with pytest.raises(ConnectError, match=dead) as caught:
        resources.unicast("GET", "/", hosts=[dead])
    assert [attempt.endpoint for attempt in caught.value.attempts] == [dead]
    assert echo.connection_count == 0


# --- all of them ------------------------------------------------------------------------------


def test_a_broadcast(face: Face, echoes: StartEchoes) -> None:
    """All hosts get the request, and the responses are in their order."""
    servers = echoes(5)
    resources = face.resources(addresses(servers), 1)
    for _ in range(2):
        answers = resources.broadcast("POST", "/x", {"a": 1})
        assert [answer()["headers"]["host"] for answer in answers] == addresses(servers)
        assert [answer()["body"] for answer in answers] == [{"a": 1}] * 5
    assert [server.connection_count for server in servers] == [1] * 5
    assert [len(pool) for pool in resources.values()] == [1] * 5


def test_a_broadcast_to_some(face: Face, echoes: StartEchoes) -> None:
    """The responses are in the order in which the hosts were named."""
    servers = echoes(3)
    hosts = addresses(servers)
    resources = face.resources(hosts)
    answers = resources.broadcast("GET", "/x", None, iter([hosts[2], hosts[0]]), params={"a": 1})
    assert [answer()["headers"]["host"] for answer in answers] == [hosts[2], hosts[0]]
    assert counts(servers) == [1, 0, 1]
    with pytest.raises(KeyError):
        resources.broadcast("GET", "/x", hosts=[hosts[0], "nobody"])
    assert counts(servers) == [1, 0, 1]


def test_a_broadcast_is_at_the_same_time(face: Face, echoes: StartEchoes) -> None:
    """No host waits for another: all of them hold their request at once."""
    servers = echoes(4)
    resources = face.resources(addresses(servers))

    def let_go() -> None:
        for server in servers:
            server.wait_for(lambda server=server: server.waiting == 1)  # type: ignore[misc]
        for server in servers:
            server.gate.set()

    thread = threading.Thread(target=let_go)
    thread.start()
    answers = resources.broadcast("GET", "/slow")
    thread.join()
    assert [answer.status for answer in answers] == [200] * 4


def test_errors_are_answers(face: Face, echoes: StartEchoes) -> None:
    """A status that is an error is a response as any other."""
    servers = echoes(2)
    answers = face.resources(addresses(servers)).broadcast("GET", "/status/503")
    assert [answer.status for answer in answers] == [503, 503]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_broadcast_with_one_that_is_dead(
    face: Face, echoes: StartEchoes, refusing: tuple[str, int], position: int
) -> None:
    """A host that cannot be reached raises, after the others have finished."""
    servers = echoes(2)
    dead = "{}:{}".format(*refusing)
    hosts = addresses(servers)
    hosts.insert(position, dead)
    resources = face.resources(hosts, 1)
    with pytest.raises(ConnectError, match=dead) as caught:
        resources.broadcast("POST", "/bytes/300000", 1)
    assert isinstance(caught.value, OSError)
    assert [attempt.endpoint for attempt in caught.value.attempts] == [dead]
    assert counts(servers) == [1, 1]
    assert [len(resources[host]) for host in addresses(servers)] == [1, 1]


def test_the_others_finish_first(
    face: Face, echo: EchoServer, scripted: StartScripted, refusing: tuple[str, int]
) -> None:
    """The error waits for a slow host, whatever becomes of that."""
    silent = scripted([Receive(), Hold()])
    dead = "{}:{}".format(*refusing)
    resources = face.resources([dead, silent.address, echo.address], timeout=0.2)
    with pytest.raises(ConnectError, match=dead):
        resources.broadcast("GET", "/")
    face.rest()
    silent.wait_for(lambda: len(silent.requests) == 1 and silent.open_connections == 0)
    assert echo.request_count == 1


def test_a_broadcast_that_makes_no_sense(face: Face, echoes: StartEchoes) -> None:
    """A request that cannot be made is refused before anybody gets it."""
    servers = echoes(2)
    with pytest.raises(InvalidRequest):
        face.resources(addresses(servers)).broadcast("GET", "/a\nb")
    assert counts(servers) == [0, 0]


# --- many at the same time --------------------------------------------------------------------


def test_many_callers(face: Face, echoes: StartEchoes) -> None:
    """Unicasts and broadcasts from many threads, or tasks, get their own answers."""
    servers = echoes(3)
    resources = face.resources(addresses(servers), 4).target

    def call(number: int) -> Any:
        if number % 5:
            return resources.unicast("POST", f"/{number}", number)
        return resources.broadcast("POST", f"/{number}", number)

    results = face.at_once([partial(call, n) for n in range(150)])
    for number, result in enumerate(results):
        answers = result if isinstance(result, list) else [result]
        assert [answer()["path"] for answer in answers] == [f"/{number}"] * len(answers)
        assert len(answers) == (1 if number % 5 else 3)
    total = Counter({server.address: server.request_count for server in servers})
    assert total.total() == 120 + 30 * 3
    assert all(len(pool) <= 4 for pool in resources.values())
    assert all(pool._endpoint.in_flight == 0 for pool in resources.values())
