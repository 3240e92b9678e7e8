"""Hosts that replicate each other: where writes and reads go, and what is tried again."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from holdfast import Timeout
from holdfast.errors import InvalidRequest, NetworkError
from holdfast.rest import AsyncResources, Resources, ResponseError
from tests.rest.conftest import StartEchoes
from tests.rest.faces import Face
from tests.rest.test_resources import addresses, counts
from tests.servers import Close, EchoServer, Receive, Repeat, ScriptedServer, json_response
from tests.servers.fixtures import StartScripted

WRITES = ["POST", "PUT", "PATCH", "DELETE"]
READS = ["GET", "HEAD", "OPTIONS"]


def asked(outcome: Any) -> list[str]:
    """Return the hosts that a call asked, in order."""
    return [attempt.endpoint for attempt in outcome.attempts]


# --- in order ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", WRITES)
def test_writes_go_to_the_first(face: Face, echoes: StartEchoes, method: str) -> None:
    """Each write goes to the first host."""
    servers = echoes(3)
    replicas = face.replicas(addresses(servers), 1)
    for number in range(5):
        answer = replicas.call(method, "/x", {"a": number}, {"q": [1, 2]})
        assert (answer()["body"], answer()["query"]) == ({"a": number}, {"q": ["1", "2"]})
    assert counts(servers) == [5, 0, 0]


@pytest.mark.parametrize("method", READS)
def test_reads_are_spread_over_the_rest(face: Face, echoes: StartEchoes, method: str) -> None:
    """Each read goes to one of the other hosts, and each of these gets its share."""
    servers = echoes(4)
    replicas = face.replicas(addresses(servers), 1)
    for _ in range(90):
        replicas.call(method, "/x", None, {"q": 1})
    first, *rest = counts(servers)
    assert (first, sum(rest)) == (0, 90)
    assert min(rest) >= 8  # of 30: there are fewer in one of a million runs


def test_reads_at_the_same_time(face: Face, echoes: StartEchoes) -> None:
    """A read goes to the host with the fewest calls under way."""
    servers = echoes(3)
    replicas = face.replicas(addresses(servers), 8).target
    changed = servers[1].changed = servers[2].changed

    def let_go() -> None:
        with changed:
            assert changed.wait_for(lambda: servers[1].waiting + servers[2].waiting == 16, 10)
        for server in servers:
            server.gate.set()

    thread = threading.Thread(target=let_go)
    thread.start()
    results = face.at_once([partial(replicas.call, "GET", "/slow")] * 16, workers=16)
    thread.join()
    assert [answer.status for answer in results] == [200] * 16
    # Threads may look both before either has begun.
    fewest = 8 if face.kind == "asyncio" else 1
    assert min(counts(servers)[1:]) >= fewest


def test_one_host_does_all(face: Face, echo: EchoServer) -> None:
    """A single host gets writes and reads."""
    replicas = face.replicas(echo.address)
    assert replicas.post("/x", 1)["body"] == 1
    assert replicas.get("/x")["method"] == "GET"


def test_no_hosts(face: Face) -> None:
    """Without any host there are no replicas."""
    with pytest.raises(ValueError, match="host"):
        face.replicas([])


def test_verbs(face: Face, echoes: StartEchoes) -> None:
    """Verbs return the decoded body, take what `call` takes, and raise the status."""
    servers = echoes(2)
    replicas = face.replicas(addresses(servers))
    assert replicas.get("/x", q=[1, 2])["query"] == {"q": ["1", "2"]}
    assert replicas.delete("/x", q=1)["query"] == {"q": ["1"]}
    for verb in ("post", "put", "patch"):
        described = getattr(replicas, verb)("/x", [1], params={"a": 2}, headers={"X-One": "1"})
        assert (described["method"], described["body"]) == (verb.upper(), [1])
        assert (described["query"], described["headers"]["x-one"]) == ({"a": ["2"]}, "1")
        with pytest.raises(ResponseError) as caught:
            getattr(replicas, verb)("/status/404", retry=False)
        assert caught.value.status == 404
    described = replicas.post("/redirect/307?to=/there", 1, redirect=True)
    assert (described["path"], described["body"]) == ("/there", 1)


def test_replicas_are_resources(face: Face, echoes: StartEchoes) -> None:
    """All that many hosts can do, replicas can."""
    servers = echoes(3)
    replicas = face.replicas(addresses(servers), 2)
    assert isinstance(replicas.target, (Resources, AsyncResources))
    assert list(replicas) == addresses(servers)
    answers = replicas.broadcast("GET", "/x")
    assert [answer()["headers"]["host"] for answer in answers] == addresses(servers)
    assert [len(pool) for pool in replicas.values()] == [1, 1, 1]
    answer = replicas.unicast("POST", "/x", 1, hosts=addresses(servers)[2:])
    assert asked(answer) == addresses(servers)[2:]


def test_a_broadcast_retries_nothing(face: Face, echoes: StartEchoes) -> None:
    """In a broadcast each host is asked once, whatever it says."""
    servers = echoes(3)
    answers = face.replicas(addresses(servers)).broadcast("GET", "/status/503")
    assert [answer.status for answer in answers] == [503] * 3
    assert counts(servers) == [1, 1, 1]


def test_another_priority(face: Face, echoes: StartEchoes) -> None:
    """Reads go to the host with the lowest priority, and to none that is excluded."""
    servers = echoes(4)
    hosts = addresses(servers)
    priorities = dict(zip(hosts, [0, 2, 1, None], strict=True))
    replicas = face.replicas(hosts, overriding={"priority": lambda self, host: priorities[host]})
    for _ in range(5):
        replicas.get("/x")
    assert counts(servers) == [0, 0, 5, 0]
    servers[2].stop()
    assert asked(replicas.call("GET", "/x")) == [hosts[2], hosts[1]]
    servers[1].stop()
    replicas.get("/x")
    assert (counts(servers)[0], counts(servers)[3]) == (1, 0)


# --- errors that are answers ------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 408, 429, 500, 503])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_http_errors_are_answers(face: Face, echoes: StartEchoes, method: str, status: int) -> None:
    """An HTTP error is returned, not tried again elsewhere, when nobody said so."""
    servers = echoes(3)
    replicas = face.replicas(addresses(servers))
    answer = replicas.call(method, f"/status/{status}")
    assert answer.status == status
    assert len(answer.attempts) == sum(counts(servers)) == 1


def test_http_errors_do_not_move_writes(face: Face, echoes: StartEchoes) -> None:
    """However often the first host answers with an error, it stays the first."""
    servers = echoes(2)
    replicas = face.replicas(addresses(servers), 1)
    for status in (500, 503, 502, 500, 500, 500):
        assert replicas.call("POST", f"/status/{status}").status == status
    assert replicas.post("/x", 1)["body"] == 1
    assert counts(servers) == [7, 0]


@pytest.mark.parametrize("method", ["GET", *WRITES])
def test_retry_asks_each_host_once(face: Face, echoes: StartEchoes, method: str) -> None:
    """With ``retry`` an HTTP error is tried at each host once, and the last one is returned."""
    servers = echoes(3)
    replicas = face.replicas(addresses(servers))
    answer = replicas.call(method, "/status/503", retry=True)
    assert answer.status == 503
    assert counts(servers) == [1, 1, 1]
    assert [attempt.status for attempt in answer.attempts] == [503] * 3
    assert method == "GET" or asked(answer) == addresses(servers)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_retry_so_many_times(face: Face, echoes: StartEchoes, method: str, count: int) -> None:
    """A count says how often an HTTP error is tried again, hosts may have their turn twice."""
    servers = echoes(2)
    answer = face.replicas(addresses(servers)).call(method, "/status/500", retry=count)
    assert answer.status == 500
    assert len(answer.attempts) == sum(counts(servers)) == count + 1


def test_retry_until_it_is_well(face: Face, scripted: StartScripted) -> None:
    """With ``retry`` the first answer that is no error is returned, as after a promotion."""
    first = answering(scripted, 405)
    second = answering(scripted, 405)
    third = answering(scripted, 201)
    replicas = face.replicas([first.address, second.address, third.address])
    answer = replicas.call("POST", "/x", [1], retry=True)
    assert (answer.status, len(answer.attempts)) == (201, 3)
    assert [server.requests[0].body for server in (first, second, third)] == [b"[1]"] * 3
    assert replicas.post("/x", [1], retry=2) == 0
    # The errors were answers: the first host is still the first.
    assert len(first.requests) == 2


def answering(scripted: StartScripted, status: int) -> ScriptedServer:
    """Start a server that always answers with a status."""
    return scripted([Repeat([Receive(), json_response(0, status)])])


def test_a_negative_retry(face: Face, echo: EchoServer) -> None:
    """A negative count is refused before anything is sent."""
    with pytest.raises(InvalidRequest, match="retry"):
        face.replicas([echo.address]).call("GET", "/", retry=-1)
    assert echo.connection_count == 0


# --- writes that may have been carried out ----------------------------------------------------


def swallowing(scripted: StartScripted) -> ScriptedServer:
    """Start a server that reads requests and closes, so that nobody knows what it did."""
    return scripted([Receive(), Close()])


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_write_is_not_sent_elsewhere(
    face: Face, scripted: StartScripted, echo: EchoServer, method: str
) -> None:
    """A write that may have been carried out is an error, and goes to no other host."""
    server = swallowing(scripted)
    replicas = face.replicas([server.address, echo.address])
    with pytest.raises(NetworkError, match="may have been carried out") as caught:
        replicas.call(method, "/x", [1])
    assert isinstance(caught.value, OSError)
    assert asked(caught.value) == [server.address]
    assert (len(server.requests), echo.connection_count) == (1, 0)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_idempotent_write_is_sent_elsewhere(
    face: Face, scripted: StartScripted, echo: EchoServer, method: str
) -> None:
    """A write that may be carried out twice is sent to the next host."""
    server = swallowing(scripted)
    answer = face.replicas([server.address, echo.address]).call(method, "/x", [1])
    assert asked(answer) == [server.address, echo.address]
    assert answer()["body"] == [1]


@pytest.mark.parametrize("retry", [True, 1])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_retry_sends_elsewhere(
    face: Face, scripted: StartScripted, echo: EchoServer, method: str, retry: bool | int
) -> None:
    """With ``retry`` any write is sent to the next host."""
    server = swallowing(scripted)
    answer = face.replicas([server.address, echo.address]).call(method, "/x", [1], retry=retry)
    assert asked(answer) == [server.address, echo.address]
    assert answer()["body"] == [1]


@pytest.mark.parametrize("method", WRITES)
def test_a_write_that_was_not_sent(
    face: Face, echo: EchoServer, refusing: tuple[str, int], method: str
) -> None:
    """A write whose host refuses was not carried out, and goes to the next one."""
    dead = "{}:{}".format(*refusing)
    answer = face.replicas([dead, echo.address]).call(method, "/x", [1])
    assert asked(answer) == [dead, echo.address]
    assert answer()["body"] == [1]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_host_that_does_not_answer(
    face: Face, echo: EchoServer, unanswering: tuple[str, int], method: str
) -> None:
    """A host to which no connection comes about in time is left for the next one."""
    silent = "{}:{}".format(*unanswering)
    replicas = face.replicas(
        [silent, echo.address] if method == "POST" else [echo.address, silent],
        timeout=Timeout(connect=0.05),
    )
    answer = replicas.call(method, "/x")
    assert asked(answer) == [silent, echo.address]
    # It is known by now.
    assert asked(replicas.call(method, "/x")) == [echo.address]


def test_nobody_can_be_reached(face: Face, refusing: tuple[str, int]) -> None:
    """When all hosts refuse, the error is an OSError and lists each of them."""
    port = refusing[1]
    hosts = [f"127.0.0.1:{port}", f"localhost:{port}", f"http://127.0.0.1:{port}/base"]
    replicas = face.replicas(hosts)
    for _ in range(3):
        with pytest.raises(OSError, match="refused") as caught:
            replicas.post("/x", 1)
        assert asked(caught.value) == hosts
        with pytest.raises(OSError, match="refused") as caught:
            replicas.get("/x")
        assert sorted(asked(caught.value)) == sorted(hosts)
        assert all(host in str(caught.value) for host in hosts)
