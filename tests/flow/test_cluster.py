"""`ClusterClient`: the calls of a cluster, stepped, in a time that the tests own."""

from __future__ import annotations

import logging
import select
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from random import Random
from typing import Any, cast

import pytest
from hio.base import doing as hio  # type: ignore[import-untyped]

from holdfast import Breaker, Check, Hedge, Policy, Retry
from holdfast.cluster.balancing import RoundRobin
from holdfast.cluster.discovery import Function
from holdfast.flow.backend import ClientDoer
from holdfast.flow.cluster import ClusterClient
from holdfast.flow.doing import Doist
from holdfast.flow.responses import Response
from holdfast.flow.tyming import Tymist
from tests.conformance.peers import left_open, sockets_open
from tests.drivers.patience import impatient
from tests.servers import Certificates, EchoServer
from tests.servers.fixtures import StartScripted
from tests.servers.messages import json_response
from tests.servers.ports import unanswering_address
from tests.servers.process import EchoProcess
from tests.servers.scripted import Close, Hold, Receive

#: Nothing is tried again, and no host is left out.
PLAIN = Policy(retry=None, breaker=None)

OK = json_response({"ok": True})
BUSY = json_response({"ok": False}, 503)


@pytest.fixture
def tymist() -> Tymist:
    """A time that starts at 0 and goes on when a test says so."""
    return Tymist(tock=1.0)


@pytest.fixture
def echoes() -> Iterator[list[EchoServer]]:
    """Three servers that answer with what they were asked."""
    with ExitStack() as stack:
        yield [stack.enter_context(EchoServer()) for _ in range(3)]


def turn(client: ClusterClient) -> None:
    """Service a client once, and let the servers' threads run."""
    client.service()
    select.select((), (), (), 0)


def serviced(client: ClusterClient, until: Callable[[], Any]) -> None:
    """Service a client until something is so; the time of its requests stands still."""
    for _ in range(1_000_000):
        if until():
            return
        turn(client)
    raise AssertionError("it never came")


def responses(client: ClusterClient, count: int) -> list[Response]:
    """Service a client until it has so many responses, and return them."""
    serviced(client, lambda: len(client.responses) >= count)
    assert len(client.responses) == count
    found = [client.respond() for _ in range(count)]
    assert client.respond() is None
    return [response for response in found if response is not None]


def asked(client: ClusterClient, *arguments: Any, **keywords: Any) -> Response:
    """Make one request, and return its response."""
    client.request(*arguments, **keywords)
    return responses(client, 1)[0]


def later(client: ClusterClient, tymist: Tymist, tyme: float) -> None:
    """Let the time be ``tyme``, and some turns pass."""
    tymist.tyme = tyme
    for _ in range(20):
        turn(client)


# Requests and responses.


def test_a_response_has_nine_parts(echo: EchoServer) -> None:
    """A response is a dict in its queue, and a named tuple from `respond`."""
    with ClusterClient([echo.address]) as client:
        client.request("GET", "/path", reply={"rid": 7}, mine="too")
        assert len(client.requests) == 1
        assert client.respond() is None
        serviced(client, lambda: client.responses)
        assert list(client.responses[0]) == list(Response._fields)
        response = client.respond()
        assert response is not None
        assert isinstance(response, Response)
        assert response.version == (1, 1)
        assert (response.status, response.reason) == (200, "OK")
        assert response.headers["CONTENT-TYPE"] == "application/json"
        assert isinstance(response.body, bytearray)
        assert response.data["path"] == "/path"
        assert (response.errored, response.error) == (False, None)
        assert response.request["method"] == "GET"
        assert response.request["path"] == "/path"
        assert response.request["reply"] == {"rid": 7}
        assert response.request["mine"] == "too"
        assert response.request["host"] == "127.0.0.1"
        assert response.request["port"] == echo.port
        assert response.request["scheme"] == "http"
        assert ClusterClient.attrify(response._asdict()) == response


def test_a_request_is_as_the_one_before_it(echo: EchoServer) -> None:
    """What is not said stays; bodies never do."""
    with ClusterClient([echo.address], concurrency=1) as client:
        client.request("POST", "/a", {"q": "1"}, headers={"X-Mine": "yes"}, data={"a": 1})
        client.request()
        client.request(path="/b", body=b"body")
        client.request(qargs={}, headers={})
        client.request("PUT", fargs={"a": "b c"})
        seen = [response.data for response in responses(client, 5)]
    assert [(one["method"], one["path"], one["query"]) for one in seen] == [
        ("POST", "/a", {"q": ["1"]}),
        ("POST", "/a", {"q": ["1"]}),
        ("POST", "/b", {"q": ["1"]}),
        ("POST", "/b", {}),
        ("PUT", "/b", {}),
    ]
    assert [one["headers"].get("x-mine") for one in seen] == ["yes"] * 3 + [None] * 2
    assert [one["body"] for one in seen] == [{"a": 1}, "", "body", "", "a=b+c"]
    assert [one["headers"].get("content-type") for one in seen] == [
        "application/json; charset=utf-8",
        None,
        None,
        None,
        "application/x-www-form-urlencoded; charset=utf-8",
    ]


def test_a_body_has_its_rank(echo: EchoServer) -> None:
    """JSON wins over a form, which wins over bytes; GET has no body."""
    with ClusterClient([echo.address], concurrency=1) as client:
        every: dict[str, Any] = {"body": "b", "data": [1], "fargs": {"f": 1}}
        client.request("POST", "/", **every)
        client.request(body="b", fargs={"f": 1})
        client.request(body="\xe9")
        client.request(headers={"Content-Type": "multipart/form-data"}, fargs={"f": "g"})
        client.request("GET", headers={}, **every)
        found = responses(client, 5)
    assert found[0].data["body"] == [1]
    assert found[1].data["body"] == "f=1"
    assert found[2].data["length"] == 1
    assert 'name="f"' in found[3].data["body"]
    assert "boundary=" in found[3].data["headers"]["content-type"]
    assert found[4].data["length"] == 0


def test_a_query_in_the_path_wins(echo: EchoServer) -> None:
    """The path's query and the one of the arguments are one; a fragment is not sent."""
    with ClusterClient([echo.address]) as client:
        response = asked(client, "GET", "/ü?a=1&flag#part", {"a": "2", "b": "3&4"})
    assert response.data["query"] == {"a": ["1"], "b": ["3&4"], "flag": ["true"]}
    assert response.data["path"] in ("/ü", "/%C3%BC")
    assert response.request["fragment"] == "part"


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "http://elsewhere.invalid/"},
        {"path": "/a\nb"},
        {"path": 5},
        {"method": "G ET"},
        {"method": 5},
        {"headers": {"A": "b\r\nC: d"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"method": "POST", "data": object()},
        {"method": "POST", "body": 5},
        {"options": {"nothing": 1}},
    ],
)
def test_what_is_no_request_is_an_error_of_its_own(wrong: dict[str, Any], echo: EchoServer) -> None:
    """A request that cannot be sent is answered by the reason, and stops no other."""
    with ClusterClient([echo.address], concurrency=1) as client:
        client.request(**wrong, reply="wrong")
        client.request("GET", "/right", headers={})
        bad, good = responses(client, 2)
    assert bad.errored
    assert bad.error
    assert bad.status is None
    assert bad.request["reply"] == "wrong"
    assert good.status == 200
    assert good.data["path"] == "/right"
    assert echo.request_count == 1


def test_bodies_are_parsed_when_they_say_json(scripted: StartScripted) -> None:
    """JSON is parsed; what says so without being JSON is left as it came."""

    def answer(kind: str, body: bytes) -> bytes:
        head = f"HTTP/1.1 200 \r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    server = scripted(
        [
            Receive(),
            answer("application/problem+JSON; charset=utf-8", b'{"a": 1}'),
            Receive(),
            answer("application/json", b"{broken"),
            Receive(),
            answer("text/plain", b'{"a": 1}'),
        ]
    )
    with ClusterClient([server.address], concurrency=1) as client:
        for _ in range(3):
            client.request()
        found = responses(client, 3)
    assert [response.data for response in found] == [{"a": 1}, None, None]
    assert [bytes(response.body) for response in found] == [b'{"a": 1}', b"{broken", b'{"a": 1}']


def test_a_status_is_no_error(echo: EchoServer) -> None:
    """What a host answers is a response, whatever it is."""
    with ClusterClient([echo.address], policy=PLAIN) as client:
        response = asked(client, "GET", "/status/404")
    assert (response.status, response.errored) == (404, False)


def test_options_of_clusters_and_calls(certificates: Certificates) -> None:
    """What `Cluster` takes is taken: TLS, credentials, headers, redirects."""
    with (
        EchoServer(tls=certificates.server_context()) as echo,
        ClusterClient(
            f"https://localhost:{echo.port}",
            verify=str(certificates.ca_file),
            auth=("user", "password"),
            headers={"X-All": "yes"},
        ) as client,
    ):
        path = "/redirect/302?to=/landed"
        assert asked(client, "GET", path).status == 302
        response = asked(client, path=path, options={"follow_redirects": True})
    assert response.data["path"] == "/landed"
    assert response.data["headers"]["x-all"] == "yes"
    assert response.data["headers"]["authorization"].startswith("Basic ")
    assert response.request["scheme"] == "https"


@pytest.mark.parametrize("name", ["driver", "clock"])
def test_time_is_not_for_clusters_to_tell(name: str, echo: EchoServer) -> None:
    """What runs a client, and by which time, is the client's own."""
    options: dict[str, Any] = {name: None}
    with pytest.raises(TypeError, match=name):
        ClusterClient([echo.address], **options)


def test_a_number_of_requests_is_at_least_one(echo: EchoServer) -> None:
    """A client that may send nothing is a mistake."""
    with pytest.raises(ValueError, match="concurrency"):
        ClusterClient([echo.address], concurrency=0)


# The queues.


def test_one_at_a_time_is_in_order(echoes: list[EchoServer]) -> None:
    """With a concurrency of 1, requests are answered in their order."""
    hosts = [echo.address for echo in echoes]
    with ClusterClient(hosts, concurrency=1) as client:
        for number in range(20):
            client.request("GET", f"/{number}", reply=number)
        found = responses(client, 20)
    assert [response.request["reply"] for response in found] == list(range(20))
    assert [response.data["path"] for response in found] == [f"/{n}" for n in range(20)]


def test_several_are_outstanding_but_not_too_many(echo: EchoServer) -> None:
    """As many requests are begun as are allowed; the others wait their turn."""
    with ClusterClient([echo.address], concurrency=3, policy=Policy(timeout=None)) as client:
        for number in range(5):
            client.request("GET", "/slow", reply=number)
        serviced(client, lambda: echo.waiting == 3)
        assert client.outstanding == 3
        assert len(client.requests) == 2
        echo.gate.set()
        found = responses(client, 5)
        assert client.outstanding == 0
    assert sorted(response.request["reply"] for response in found) == list(range(5))


def test_queues_may_be_shared(echo: EchoServer) -> None:
    """Requests and responses may go through queues of the caller's, as plain dicts."""
    requests: deque[dict[str, Any]] = deque()
    answers: deque[dict[str, Any]] = deque()
    with ClusterClient([echo.address], requests=requests, responses=answers) as client:
        requests.append({"path": "/bare", "mark": 1})
        serviced(client, lambda: answers)
    assert answers[0]["data"]["path"] == "/bare"
    assert answers[0]["request"]["mark"] == 1


# What a cluster is for.


def test_calls_go_to_all_hosts(echoes: list[EchoServer]) -> None:
    """The balancer is the cluster's."""
    hosts = [echo.address for echo in echoes]
    with ClusterClient(hosts, balancer=RoundRobin(), concurrency=1) as client:
        for _ in range(30):
            client.request()
        found = responses(client, 30)
        assert [endpoint.name for endpoint in client.endpoints] == hosts
    ports = Counter(response.request["port"] for response in found)
    assert ports == {echo.port: 10 for echo in echoes}


def test_a_failure_is_tried_again(scripted: StartScripted) -> None:
    """An answer that says "later", and a connection that closes, are no responses."""
    server = scripted([Receive(), BUSY, Receive(), Close()], [Receive(), OK])
    policy = Policy(retry=Retry(attempts=3, base=1e-6))
    with ClusterClient([server.address], policy=policy) as client:
        response = asked(client)
    assert response.data == {"ok": True}
    assert server.request_count == 3


def test_a_failure_is_tried_again_when_the_tyme_is_there(
    scripted: StartScripted, tymist: Tymist
) -> None:
    """The pause between attempts is one of the injected time."""
    server = scripted([Receive(), BUSY, Receive(), OK])
    policy = Policy(retry=Retry(base=50.0, cap=50.0), timeout=None, breaker=None)
    with ClusterClient(
        [server.address], policy=policy, tymth=tymist.tymen(), random=lambda: 0.5
    ) as client:
        client.request()
        serviced(client, lambda: 10 < client._stepper.due < inf)
        assert server.request_count == 1
        pause = client._stepper.due
        assert pause <= 50
        later(client, tymist, pause - 1)
        assert server.request_count == 1
        tymist.tyme = pause
        assert responses(client, 1)[0].status == 200
    assert server.request_count == 2


def test_a_host_that_dies_is_missed_by_nobody() -> None:
    """Requests go on at the host that is left."""
    with EchoProcess() as first, EchoProcess() as second:
        hosts = [first.address, second.address]
        with ClusterClient(hosts, concurrency=4, policy=Policy(timeout=30.0)) as client:
            found = []
            for number in range(40):
                if number == 20:
                    first.kill()
                client.request("GET", f"/{number}")
                if number % 4 == 3:
                    found += responses(client, 4)
    assert len(found) == 40
    assert not any(response.errored for response in found)
    assert {response.request["port"] for response in found[20:]} == {second.port}
    assert {response.request["port"] for response in found[:20]} == {first.port, second.port}


def test_an_error_tells_what_was_tried(refusing: tuple[str, int]) -> None:
    """When all attempts are in vain, the response has the reason, and nothing else."""
    host, port = refusing
    policy = Policy(retry=Retry(attempts=2, base=1e-6), breaker=None)
    with ClusterClient([f"{host}:{port}"], policy=policy) as client:
        response = asked(client, "GET", "/x", reply="mine")
    assert response.errored
    assert response.error is not None
    assert "refused" in response.error
    assert "2 attempts" in response.error
    assert (response.version, response.status, response.reason) == (None, None, None)
    assert (bytes(response.body), response.data, len(response.headers)) == (b"", None, 0)
    assert response.request["reply"] == "mine"
    assert response.request["host"] is None


def test_a_circuit_opens_and_closes_with_the_tyme(echo: EchoServer, tymist: Tymist) -> None:
    """A host that fails is left alone for a time, which is the injected one."""
    policy = Policy(retry=None, breaker=Breaker(failures=2, rate=None, open_for=60.0))
    with ClusterClient(
        [echo.address], policy=policy, ejection=None, tymth=tymist.tymen(), random=lambda: 0.5
    ) as client:
        for _ in range(2):
            assert asked(client, "GET", "/status/500").status == 500
        response = asked(client, "GET", "/")
        assert response.errored
        assert "circuit" in (response.error or "")
        tymist.tyme = 30.0
        assert asked(client).errored
        tymist.tyme = 120.0
        assert asked(client).status == 200
    assert echo.request_count == 3


def test_a_deadline_is_one_of_the_tyme(scripted: StartScripted, tymist: Tymist) -> None:
    """A host that never answers is waited for as long as the injected time says."""
    server = scripted([Receive(), Hold()])
    policy = Policy(timeout=10.0, retry=None)
    with ClusterClient([server.address], policy=policy, tymth=tymist.tymen()) as client:
        client.request()
        serviced(client, lambda: server.request_count)
        later(client, tymist, 9.99)
        assert not client.responses
        tymist.tyme = 10.0
        response = responses(client, 1)[0]
    assert response.errored
    assert "deadline" in (response.error or "")


def test_a_hedge_is_sent_when_the_tyme_is_there(
    scripted: StartScripted, echo: EchoServer, tymist: Tymist
) -> None:
    """A second host is asked when the first one takes too long, and the first answer counts."""
    silent = scripted([Receive(), Hold()])
    policy = Policy(hedge=Hedge(after=5.0), timeout=60.0)
    with ClusterClient(
        [silent.address, echo.address],
        policy=policy,
        balancer=RoundRobin(),
        tymth=tymist.tymen(),
    ) as client:
        found: list[Response] = []
        for number in (1, 2):  # whoever is first in turn
            client.request("GET", f"/{number}")
        serviced(client, lambda: silent.request_count and client.responses)
        later(client, tymist, 4.9)
        assert len(client.responses) == 1
        tymist.tyme = 5.0
        found = responses(client, 2)
    assert {response.request["port"] for response in found} == {echo.port}
    assert echo.request_count == 2


def test_checks_take_their_turns(echoes: list[EchoServer], tymist: Tymist) -> None:
    """Active checks run along with the requests, at the injected time."""
    hosts = [echo.address for echo in echoes]

    def more(before: list[int]) -> list[bool]:
        return [echo.request_count > count for echo, count in zip(echoes, before, strict=True)]

    check = Check(path="/health", interval=10.0, unhealthy=1)
    with ClusterClient(hosts, check=check, tymth=tymist.tymen()) as client:
        later(client, tymist, 0.0)
        for _ in range(3):
            before = [echo.request_count for echo in echoes]
            tymist.tick(20.0)
            serviced(client, lambda: all(more(before)))  # noqa: B023 - it is called at once


def test_a_discovery_takes_its_turns(echoes: list[EchoServer], tymist: Tymist) -> None:
    """Requests wait for the first hosts, and go to the new ones when they are found."""
    known = [echoes[0].address]
    discovery = Function(lambda: list(known), interval=30.0)
    with ClusterClient(discovery, tymth=tymist.tymen()) as client:
        assert client.endpoints == ()
        assert asked(client).request["port"] == echoes[0].port
        known[:] = [echoes[1].address]
        assert asked(client).request["port"] == echoes[0].port
        tymist.tyme = 30.0
        serviced(client, lambda: client.endpoints[0].name == echoes[1].address)
        assert asked(client).request["port"] == echoes[1].port


def test_events_can_be_listened_to(echo: EchoServer) -> None:
    """Listeners hear of every call until they no longer listen."""
    kinds: list[str] = []

    def listener(event: Any) -> None:
        kinds.append(event.kind)

    with ClusterClient([echo.address]) as client:
        client.listen(listener)
        asked(client)
        assert "call succeeded" in kinds
        client.unlisten(listener)
        kinds.clear()
        asked(client)
        assert kinds == []


def test_a_mistake_in_the_programs_own_code_is_in_the_log(
    echo: EchoServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A balancer that raises is nobody's host: the loop goes on, and the log has the place."""

    class Broken(RoundRobin):
        def pick(self, *arguments: Any) -> Any:
            raise ZeroDivisionError("by nothing")

    with (
        caplog.at_level(logging.ERROR, "holdfast"),
        ClusterClient([echo.address], balancer=Broken()) as client,
    ):
        response = asked(client)
    assert response.error == "ZeroDivisionError: by nothing"
    assert "in pick" in caplog.text


# Time.


def test_winding_lets_time_go_on(scripted: StartScripted, tymist: Tymist) -> None:
    """A client that is wound while it waits does so as long as it would have."""
    server = scripted([Receive(), Hold()])
    with ClusterClient([server.address], policy=Policy(timeout=1000.0, retry=None)) as client:
        client.request()
        serviced(client, lambda: server.request_count)
        client.wind(tymist.tymen())
        later(client, tymist, 900.0)
        assert not client.responses
        other = Tymist(tyme=1e6)
        client.wind(other.tymen())
        later(client, other, 1e6 + 1)
        assert not client.responses
        other.tyme += 100.0
        assert responses(client, 1)[0].errored


@pytest.mark.slow
def test_an_hour_of_polling(tymist: Tymist) -> None:
    """A host that comes and goes all through an hour of tyme is survived in a moment."""
    with EchoServer() as first, EchoServer() as second:
        policy = Policy(timeout=20.0, breaker=Breaker(failures=1, rate=None, open_for=30.0))
        with ClusterClient(
            [first.address, second.address],
            policy=policy,
            ejection=None,
            tymth=tymist.tymen(),
            idle_timeout=5.0,
            random=Random(1).random,
        ) as client:
            found: list[Response] = []
            for minute in range(60):
                if minute % 5 == 0:
                    first.stop()
                if minute % 5 == 2:
                    first.start()
                for _ in range(6):
                    client.request("GET", f"/{minute}")
                    while not client.responses:
                        tymist.tick(0.001)  # for the pauses between attempts
                        turn(client)
                    found += responses(client, 1)
                    tymist.tick(10.0)
    assert len(found) == 360
    assert tymist.tyme > 3600
    assert not [response.error for response in found if response.errored]
    ports = Counter(response.request["port"] for response in found)
    assert ports[first.port] > 60
    assert ports[second.port] > 180


def test_while_there_is_no_response(echo: EchoServer) -> None:
    """`serviceWhileGen` yields b"" until it can return the response."""

    def asks() -> Iterator[Any]:
        client.request("GET", "/x")
        response = yield from client.serviceWhileGen(tymeout=30.0)
        assert response is not None
        assert response.data["path"] == "/x"

    with ClusterClient([echo.address]) as client:
        yielded = list(asks())
    assert yielded
    assert set(yielded) == {b""}


def test_while_there_is_still_time(scripted: StartScripted, tymist: Tymist) -> None:
    """`serviceWhileGen` returns None when the tyme is over; the request goes on."""
    server = scripted([Receive(), Hold(), OK])
    with ClusterClient([server.address], tymth=tymist.tymen()) as client:
        client.request("GET", "/x")
        waiting = client.serviceWhileGen(tymeout=2.0)
        for _ in range(100):
            assert next(waiting) == b""
        tymist.tick()
        assert next(waiting) == b""
        tymist.tick()
        with pytest.raises(StopIteration) as stop:
            next(waiting)
        assert stop.value.value is None
        assert client.outstanding == 1


@pytest.mark.parametrize("Either", [Doist, hio.Doist], ids=["ours", "hio"])
def test_a_doist_runs_it(Either: Any, echo: EchoServer) -> None:
    """A `ClientDoer` steps it like any client, under either doist."""
    client = ClusterClient([echo.address])
    for number in range(3):
        client.request("GET", f"/{number}")
    before = sockets_open()
    doist = Either(doers=[ClientDoer(cast(Any, client))], limit=30.0, tock=0.001, real=False)
    doist.enter()
    while len(client.responses) < 3:
        doist.recur()
        select.select((), (), (), 0)
    doist.exit()
    assert sorted(r["data"]["path"] for r in client.responses) == ["/0", "/1", "/2"]
    echo.wait_for(lambda: echo.open_connections == 0)
    assert not left_open(before)


# Nothing waits, and nothing is left.


def test_no_call_waits(tymist: Tymist) -> None:
    """Whatever hosts do not do, every method returns at once."""
    with socket.socket() as silent, unanswering_address() as (host, port):
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)  # connected to by the system, and read by nobody
        hosts = [f"127.0.0.1:{silent.getsockname()[1]}", f"{host}:{port}", "localhost:1"]
        policy = Policy(timeout=100.0, retry=Retry(attempts=5))
        with impatient() as patience:
            client = ClusterClient(
                hosts, policy=policy, tymth=tymist.tymen(), check=Check(interval=1.0)
            )
            client.request("PUT", "/small", data=list(range(10)))
            client.request("PUT", "/big", body=bytes(16 << 20))
            client.request("GET", "/plain")
            for tyme in range(120):
                tymist.tyme = float(tyme)
                for _ in range(10):
                    client.service()
                client.respond()
                next(client.serviceWhileGen(0.5), None)
            client.wind(lambda: 0.0)
            assert client.reopen()
            client.request()
            client.service()
            client.close()
            assert patience.counts["select"] <= 120 * 11 + 2
            assert patience.counts["connect"] > 3


def test_closing_answers_what_is_outstanding(echo: EchoServer) -> None:
    """Requests in progress end with an error, those in the queue stay, and no socket is left."""
    before = sockets_open()
    client = ClusterClient([echo.address], concurrency=2, policy=Policy(timeout=None))
    for number in range(3):
        client.request("GET", "/slow", reply=number)
    serviced(client, lambda: echo.waiting == 2)
    client.close()
    assert client.outstanding == 0
    found = [client.respond(), client.respond()]
    assert [one is not None and one.errored for one in found] == [True, True]
    assert [one is not None and one.request["reply"] for one in found] == [0, 1]
    assert found[0] is not None
    assert "closed" in (found[0].error or "")
    assert client.respond() is None
    assert len(client.requests) == 1
    echo.gate.set()
    echo.wait_for(lambda: echo.open_connections == 0)
    assert not left_open(before)
    client.close()
    # It may go on.
    assert responses(client, 1)[0].request["reply"] == 2
    client.close()
    echo.wait_for(lambda: echo.open_connections == 0)
    assert not left_open(before)


def test_closing_in_the_middle_of_a_call_answers_it_once(echo: EchoServer) -> None:
    """A listener may close the client; what was begun is answered by an error, once."""
    client = ClusterClient([echo.address])
    client.listen(lambda event: client.close() if event.kind == "attempt started" else None)
    client.request(reply=1)
    client.request(reply=2)
    client.service()
    client._listeners.clear()
    assert [response["request"]["reply"] for response in client.responses] == [1, 2]
    assert all(response["errored"] for response in client.responses)
    assert client.outstanding == 0
    client.close()
    echo.wait_for(lambda: echo.open_connections == 0)
