"""Replicas that are killed and come back, and what is left of them at the end."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from holdfast.errors import NetworkError
from tests.rest.conftest import StartEchoes
from tests.rest.faces import Clock, Face
from tests.rest.test_replicas import asked
from tests.rest.test_resources import addresses, counts
from tests.servers import EchoServer


@pytest.mark.parametrize("limit", [0, 2])
def test_writes_fail_over_in_order(
    face: Face, echoes: StartEchoes, clock: Clock, limit: int
) -> None:
    """A write goes to the first host that is left, and back to the first one in time."""
    servers = echoes(3)
    hosts = addresses(servers)
    replicas = face.replicas(hosts, limit, clock=clock, timeout=None)
    assert asked(replicas.call("POST", "/x", 1)) == hosts[:1]
    servers[0].stop()
    face.rest()
    assert asked(replicas.call("POST", "/x", 2)) == hosts[:2]
    # It is known by now that the first one is out.
    assert asked(replicas.call("POST", "/x", 3)) == hosts[1:2]
    servers[1].stop()
    face.rest()
    assert asked(replicas.call("POST", "/x", 4)) == hosts[1:]
    assert asked(replicas.call("POST", "/x", 5)) == hosts[2:]
    servers[0].start()
    servers[1].start()
    assert asked(replicas.call("POST", "/x", 6)) == hosts[2:]
    clock.advance(2)
    assert asked(replicas.call("POST", "/x", 7)) == hosts[:1]
    assert counts(servers) == [2, 2, 3]


@pytest.mark.parametrize("limit", [0, 2])
def test_reads_fail_over(face: Face, echoes: StartEchoes, clock: Clock, limit: int) -> None:
    """Reads leave a host that is killed, go to the first one last, and come back."""
    servers = echoes(3)
    hosts = addresses(servers)
    replicas = face.replicas(hosts, limit, clock=clock, timeout=None)
    for server in servers[1:]:
        server.stop()
        face.rest()
        for _ in range(10):
            answer = replicas.call("GET", "/x")
            assert answer()["path"] == "/x"
            assert len(answer.attempts) <= 2
    before = servers[0].request_count
    assert before >= 9
    for server in servers[1:]:
        server.start()
    clock.advance(60)
    for _ in range(40):
        replicas.get("/x")
    assert servers[0].request_count == before
    assert min(counts(servers)[1:]) > 0


def test_nothing_else_is_left(face: Face, echoes: StartEchoes, clock: Clock) -> None:
    """When all other hosts are out, reads go to the first one at once."""
    servers = echoes(3)
    hosts = addresses(servers)
    replicas = face.replicas(hosts, clock=clock, timeout=None)
    for server in servers[1:]:
        server.stop()
    answer = replicas.call("GET", "/x")
    assert sorted(asked(answer)[:2]) == sorted(hosts[1:])
    assert asked(answer)[2:] == hosts[:1]
    assert asked(replicas.call("GET", "/x")) == hosts[:1]


def test_a_host_that_stays_away(face: Face, echoes: StartEchoes, clock: Clock) -> None:
    """A host that fails again when its time has come is left out for longer."""
    servers = echoes(2)
    hosts = addresses(servers)
    replicas = face.replicas(hosts, clock=clock, timeout=None)
    servers[0].stop()
    for rest in (1, 2, 3):
        assert asked(replicas.call("POST", "/x")) == hosts
        clock.advance(rest - 0.5)
        assert asked(replicas.call("POST", "/x")) == hosts[1:]
        clock.advance(0.6)
    servers[0].start()
    assert asked(replicas.call("POST", "/x")) == hosts[:1]


def test_all_were_away(face: Face, echoes: StartEchoes, clock: Clock) -> None:
    """When every host was out, those that are back are called without waiting for their time."""
    servers = echoes(3)
    hosts = addresses(servers)
    replicas = face.replicas(hosts, 1, clock=clock, timeout=None)
    for server in servers:
        server.stop()
    with pytest.raises(OSError, match="refused"):
        replicas.get("/x")
    with pytest.raises(OSError, match="refused"):
        replicas.post("/x")
    for server in servers:
        server.start()
    assert asked(replicas.call("POST", "/x")) == hosts[:1]
    assert len(asked(replicas.call("GET", "/x"))) == 1


def test_an_error_does_not_end_it(face: Face, echoes: StartEchoes, clock: Clock) -> None:
    """A write that may have been carried out is an error once; the next one goes elsewhere."""
    servers = echoes(2)
    hosts = addresses(servers)
    replicas = face.replicas(hosts, 1, clock=clock, timeout=None)
    with pytest.raises(NetworkError):
        replicas.post("/drop", 1)
    assert asked(replicas.call("POST", "/x", 1)) == hosts[1:]
    clock.advance(1.1)
    assert asked(replicas.call("POST", "/x", 1)) == hosts[:1]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_killed_under_many_callers(
    face: Face, echoes: StartEchoes, clock: Clock, victim: int
) -> None:
    """A host that is killed and comes back costs none of many callers an error."""
    servers = echoes(3)
    hosts = addresses(servers)
    replicas = face.replicas(hosts, 4, clock=clock, timeout=None)

    verbs = ["GET"] if victim else ["PUT", "GET"]

    def kill(server: EchoServer) -> None:
        server.wait_for(lambda: server.request_count >= 10)
        server.stop()

    for action in (kill, EchoServer.start):
        calls = [
            partial(replicas.target.call, verbs[n % len(verbs)], f"/{n}", n) for n in range(80)
        ]
        thread = threading.Thread(target=action, args=(servers[victim],))
        thread.start()
        results = face.at_once(calls)
        thread.join()
        assert [answer()["path"] for answer in results] == [f"/{n}" for n in range(80)]
        assert [answer()["body"] for answer in results] == list(range(80))

    clock.advance(60)
    before = servers[victim].request_count
    for _ in range(40):
        replicas.call("GET" if victim else "PUT", "/x")
    assert servers[victim].request_count > before
    assert all(pool._endpoint.in_flight == 0 for pool in replicas.values())
    assert all(len(pool) <= 4 for pool in replicas.values())
    replicas.shut()
    face.rest()
    for server in servers:
        server.wait_for(lambda server=server: server.open_connections == 0)  # type: ignore[misc]
