"""One call of every host at the same time."""

from __future__ import annotations

import re
from typing import Any

import pytest

from holdfast import Breaker, Cluster, Ejection, HoldfastError, Limit, Policy, errors
from tests.cluster.calls import Reply, Virtual, request
from tests.servers import Receive, ScriptedServer, Step, response


def broadcast(cluster: Virtual, indexes: list[int] | None = None, **options: Any) -> list[Any]:
    """Call all hosts, or those of the indexes."""
    core = cluster.core
    endpoints = core.endpoints.all
    chosen = endpoints if indexes is None else [endpoints[index] for index in indexes]
    program = core.broadcast([(endpoint, request(core, **options)) for endpoint in chosen])
    return cluster.world.run(program)


def test_all_hosts_answer_in_their_order() -> None:
    """Every host is asked at the same time, and the results stand in the order of the hosts."""
    cluster = Virtual(4, Policy())
    for seconds, host in zip((3, 1, 2, 0), cluster.hosts, strict=True):
        host.behaviour = Reply(after=seconds, body=b"%d" % seconds)
    results = broadcast(cluster)
    assert [result.content for result in results] == [b"3", b"1", b"2", b"0"]
    assert cluster.elapsed == 3
    assert [result.seconds for result in results] == [3, 1, 2, 0]
    assert [result.attempts[0].endpoint for result in results] == cluster.names
    assert cluster.idle()


def test_a_failure_stands_in_its_place() -> None:
    """Who fails has an exception instead of a response; the others are not disturbed."""
    cluster = Virtual(3, Policy())
    cluster.hosts[0].accepts = False
    cluster.hosts[2].behaviour = lambda asked: Reply(after=60)
    refused, answered, late = broadcast(cluster)
    assert isinstance(refused, errors.ConnectError)
    assert "GET /: 10.0.0.1:80: connection refused" in str(refused)
    assert answered.status_code == 200
    assert isinstance(late, errors.DeadlineExceeded)
    assert [len(each.attempts) for each in (refused, answered, late)] == [1, 1, 1]
    assert cluster.elapsed == 5
    assert cluster.idle()


def test_each_host_is_asked_once() -> None:
    """There are no retries, and no other host answers for one that fails."""
    cluster = Virtual(3)
    cluster.all_reply(status=503)
    assert [result.status_code for result in broadcast(cluster)] == [503] * 3
    assert [len(host.asked) for host in cluster.hosts] == [1, 1, 1]


def test_a_subset_in_any_order() -> None:
    """Only the named hosts are asked."""
    cluster = Virtual(4)
    results = broadcast(cluster, [3, 1])
    assert [result.attempts[0].endpoint for result in results] == ["10.0.0.4:80", "10.0.0.2:80"]
    assert cluster.hosts[0].asked == cluster.hosts[2].asked == []
    assert broadcast(cluster, []) == []


def test_an_open_circuit_is_respected() -> None:
    """A host whose circuit is open is not asked."""
    cluster = Virtual(2, Policy(breaker=Breaker(failures=1)))
    cluster.hosts[0].behaviour = lambda asked: Reply(fate="reset")
    broadcast(cluster)
    refused, answered = broadcast(cluster)
    assert isinstance(refused, errors.CircuitOpenError)
    assert re.match(r"GET /: the circuit .*is open.*10\.0\.0\.1:80.*again in 10 s", str(refused))
    assert refused.attempts == ()
    assert answered.status_code == 200
    assert len(cluster.hosts[0].asked) == 1


def test_an_ejected_host_was_named_and_is_asked() -> None:
    """Ejection is about choosing; broadcasts reach those that are out, several at once too."""
    cluster = Virtual(3, Policy(breaker=None), ejection=Ejection(failures=1))
    cluster.hosts[0].behaviour = lambda asked: Reply(fate="reset")
    broadcast(cluster)
    assert len(cluster.core.endpoints.ready) == 2
    cluster.hosts[0].behaviour = lambda asked: Reply(after=1)
    core = cluster.core
    tasks = [
        cluster.world.start(core.broadcast([(e, request(core)) for e in core.endpoints.all]))
        for _ in range(2)
    ]
    cluster.world.advance(2)
    for task in tasks:
        assert [result.status_code for result in task.result()] == [200] * 3
    assert len(core.endpoints.ready) == 3


def test_limits_hold_in_broadcasts_too() -> None:
    """Calls wait for the slots of the cluster's own limit."""
    cluster = Virtual(4, Policy(cluster_limit=Limit(1, queue=10)))
    cluster.all_reply(after=1)
    assert [result.status_code for result in broadcast(cluster)] == [200] * 4
    assert cluster.elapsed == 4


def test_a_cancelled_broadcast_gives_everything_back() -> None:
    """Every call of it is closed."""
    cluster = Virtual(4, Policy())
    cluster.all_reply(after=3)
    core = cluster.core
    task = cluster.world.start(core.broadcast([(e, request(core)) for e in core.endpoints.all]))
    cluster.world.advance(1)
    assert sum(endpoint.in_flight for endpoint in core.endpoints.all) == 4
    task.cancel()
    assert cluster.idle()
    assert sum(host.open for host in cluster.hosts) == 0


def test_the_client_raises_or_returns_errors() -> None:
    """The first error is raised after all have finished, or all stand in the list."""
    script: list[Step | bytes] = [Receive(), response(200, b"here")] * 3
    with ScriptedServer(script) as server:
        here = f"127.0.0.1:{server.port}"
        dead = "127.0.0.1:1"
        with Cluster([dead, here]) as cluster:
            with pytest.raises(errors.ConnectError, match=dead):
                cluster.broadcast("GET", "/")
            results = cluster.broadcast("GET", "/", return_exceptions=True)
            assert [type(result) for result in results][:1] == [errors.ConnectError]
            assert isinstance(results[1], HoldfastError) is False
            assert [r.content for r in cluster.broadcast("GET", "/", hosts=[here])] == [b"here"]
            assert cluster.broadcast("GET", "/", hosts=[]) == []
    assert len(server.requests) == 3


def test_a_host_of_another_cluster_is_refused() -> None:
    """A name that is not among the hosts is a ValueError, and nobody is asked."""
    with Cluster(["127.0.0.1:1"]) as cluster:
        with pytest.raises(ValueError, match=r"'127\.0\.0\.1:2' is not a host of this cluster"):
            cluster.broadcast("GET", "/", hosts=["127.0.0.1:1", "127.0.0.1:2"])
        with pytest.raises(ValueError, match="not a host") as caught:
            cluster.broadcast("GET", "/", hosts=["http://me:hunter2@127.0.0.1:1"])
        assert "hunter2" not in str(caught.value)


def test_hosts_are_named_as_when_the_cluster_was_made() -> None:
    """What was given with credentials can be named with them, or without."""
    mine = "http://me:hunter2@127.0.0.1:1"
    with Cluster([mine]) as cluster:
        for name in (mine, "http://127.0.0.1:1"):
            (result,) = cluster.broadcast("GET", "/", hosts=[name], return_exceptions=True)
            assert isinstance(result, errors.ConnectError)


def test_a_body_for_all_must_be_in_memory() -> None:
    """What can be read only once is refused, before anybody is asked."""
    cluster = Cluster(["127.0.0.1:1", "127.0.0.1:2"])
    with pytest.raises(ValueError, match="needs a body in memory"):
        cluster.broadcast("POST", "/", content=iter([b"x"]))
