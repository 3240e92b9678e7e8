"""Connections that are kept: used again, and replaced when they are stale."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import Any

import pytest

from holdfast import AsyncCluster, Cluster
from holdfast.errors import NetworkError
from tests.conformance.drivers import LOOPS
from tests.http.clients import BARE, Client, StartClient
from tests.servers import (
    Close,
    EchoServer,
    Hold,
    Receive,
    Repeat,
    Reset,
    Script,
    Wait,
    response,
)
from tests.servers.fixtures import StartScripted

IDEMPOTENT = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]
OTHERS = ["POST", "PATCH", "REPORT"]


class Clock:
    """The system's clock, moved forward by a test."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


@pytest.mark.parametrize("method", [*IDEMPOTENT, *OTHERS])
def test_a_connection_is_used_again(client: StartClient, echo: EchoServer, method: str) -> None:
    """Calls one after the other share one connection."""
    one = client(echo.address)
    for _ in range(5):
        assert one.request(method, "/").status_code == 200
        assert one.kept == 1
    assert echo.connection_count == 1


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500])
def test_error_answers_cost_no_connection(
    client: StartClient, echo: EchoServer, status: int
) -> None:
    """An answer is an answer."""
    one = client(echo.address)
    for _ in range(3):
        assert one.get(f"/status/{status}").status_code == status
    assert echo.connection_count == 1


def test_a_server_that_closes_after_each_answer(client: StartClient, echo: EchoServer) -> None:
    """`Connection: close` is believed."""
    one = client(echo.address)
    for number in range(3):
        assert one.get("/close").status_code == 200
        assert (one.kept, echo.connection_count) == (0, number + 1)


def test_so_many_are_kept(echo: EchoServer) -> None:
    """No more than `max_idle`; the others are closed."""

    async def burst(cluster: AsyncCluster) -> None:
        await asyncio.gather(*[cluster.get("/slow") for _ in range(8)])
        await asyncio.sleep(0.001)

    with Client("asyncio", echo.address, max_idle=3) as client:
        threading.Thread(
            target=lambda: (echo.wait_for(lambda: echo.waiting == 8), echo.gate.set())  # type: ignore[func-returns-value]
        ).start()
        client._finish(burst(client.cluster))
        assert client.kept == 3
        echo.wait_for(lambda: echo.open_connections == 3)
    echo.wait_for(lambda: echo.open_connections == 0)


def test_none_are_kept(client: StartClient, echo: EchoServer) -> None:
    """With `max_idle=0` each call has a connection of its own."""
    one = client(echo.address, max_idle=0)
    for _ in range(3):
        assert one.get().status_code == 200
    assert (one.kept, echo.connection_count) == (0, 3)


@pytest.mark.parametrize("limit", [60.0, 0.5])
def test_the_idle_timeout(client: StartClient, echo: EchoServer, limit: float) -> None:
    """A connection that was idle for too long is not used again, but closed."""
    clock = Clock()
    one = client(echo.address, idle_timeout=limit, clock=clock)
    one.get()
    clock.ahead += limit * 0.8
    one.get()
    assert echo.connection_count == 1
    clock.ahead += limit + 0.01
    one.get()
    assert echo.connection_count == 2
    one.rest()
    echo.wait_for(lambda: echo.open_connections == 1)


@pytest.mark.parametrize("ahead", [0.0, 10.0], ids=["soon", "after a pause"])
@pytest.mark.parametrize("method", [*IDEMPOTENT, *OTHERS])
@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
def test_closed_while_idle(
    client: StartClient, scripted: StartScripted, method: str, end: Any, ahead: float
) -> None:
    """A connection that the server closed meanwhile is replaced, for every method."""
    server = scripted([Receive(), response(), end])
    clock = Clock()
    one = client(server.address, clock=clock)
    for number in range(3):
        assert one.request(method, "/").status_code == 200
        assert len(server.requests) == number + 1
        server.wait_for(lambda: server.open_connections == 0)
        clock.ahead += ahead
        one.rest()
    assert server.connection_count == 3


@pytest.mark.parametrize("content", [b"body", [b"bo", b"dy"], b"x" * 200_000])
def test_closed_while_idle_with_a_body(
    client: StartClient, scripted: StartScripted, content: Any
) -> None:
    """A body is sent on the fresh connection, whole."""
    server = scripted([Receive(), response(), Close()])
    one = client(server.address)
    for _ in range(2):
        assert one.post(content=content).status_code == 200
        server.wait_for(lambda: server.open_connections == 0)
        one.rest()
    whole = b"".join(content) if isinstance(content, list) else content
    assert [request.body for request in server.requests] == [whole, whole]


@pytest.mark.parametrize("method", IDEMPOTENT)
@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
def test_closed_before_the_answer(
    client: StartClient, scripted: StartScripted, method: str, end: Any
) -> None:
    """A kept connection closed instead of an answer: sent again once, on a fresh one."""
    server = scripted([Receive(), response(), Receive(), end], [Receive(), response(201)])
    one = client(server.address)
    assert one.get().status_code == 200
    answer = one.request(method, "/again")
    assert answer.status_code == 201
    assert len(answer.attempts) == 1
    assert [request.method for request in server.requests] == ["GET", method, method]


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_closed_before_the_answer_again(
    client: StartClient, scripted: StartScripted, method: str
) -> None:
    """Sent again once, not for ever: a fresh connection that is closed is an error."""
    server = scripted([Receive(), response(), Receive(), Close()], [Receive(), Close()])
    one = client(server.address)
    one.get()
    with pytest.raises(NetworkError, match="without an answer"):
        one.request(method, "/")
    assert len(server.requests) == 3


def test_many_kept_connections_closed_before_the_answer(
    scripted: StartScripted,
) -> None:
    """Whatever else is kept, the second try is on a fresh connection."""
    gate = threading.Event()
    kept: Script = [Receive(), Wait(gate), response(), Receive(), Close()]
    server = scripted(kept, kept, kept, [Receive(), response(201)])

    async def burst(cluster: AsyncCluster) -> None:
        calls = [asyncio.ensure_future(cluster.get("/")) for _ in range(3)]
        while len(server.requests) < 3:
            await asyncio.sleep(0.001)
        gate.set()
        await asyncio.gather(*calls)

    with Client("asyncio", server.address) as client:
        client._finish(burst(client.cluster))
        assert client.kept == 3
        assert client.get().status_code == 201
        assert len(server.requests) == 5


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
def test_a_request_that_may_have_been_carried_out(
    client: StartClient, scripted: StartScripted, method: str, end: Any
) -> None:
    """What is not idempotent is never sent twice behind the caller's back."""
    server = scripted([Receive(), response(), Receive(), end], [Receive(), response()])
    one = client(server.address)
    one.get()
    with pytest.raises(NetworkError) as caught:
        one.request(method, "/", content=b"body")
    assert caught.value.sent
    assert len(server.requests) == 2
    assert server.connection_count == 1


def test_the_caller_may_know_better(client: StartClient, scripted: StartScripted) -> None:
    """`idempotent` says for one call whether it may be sent twice."""
    script: Script = [Receive(), response(), Receive(), Close()]
    for method, idempotent in (("POST", True), ("GET", False)):
        server = scripted(script, [Receive(), response(201)])
        one = client(server.address)
        one.get()
        if idempotent:
            assert one.request(method, "/", idempotent=True).status_code == 201
        else:
            with pytest.raises(NetworkError):
                one.request(method, "/", idempotent=False)
        assert len(server.requests) == (3 if idempotent else 2)


def test_a_body_that_cannot_be_repeated(client: StartClient, scripted: StartScripted) -> None:
    """An iterator that was begun is not sent again, even when the method might be."""
    server = scripted([Receive(), response(), Receive(), Close()], [Receive(), response()])
    one = client(server.address)
    one.get()
    with pytest.raises(NetworkError):
        one.request("PUT", "/", content=iter([b"body"]))
    assert len(server.requests) == 2


def test_half_an_answer_is_no_stale_connection(
    client: StartClient, scripted: StartScripted
) -> None:
    """Once the answer has begun, the connection's end is an error for every method."""
    server = scripted([Receive(), response(), Receive(), b"HTTP/1.1 200", Close()])
    one = client(server.address)
    one.get()
    with pytest.raises(NetworkError, match="middle of the headers"):
        one.get()
    assert len(server.requests) == 2


def test_an_interim_answer_is_an_answer(client: StartClient, scripted: StartScripted) -> None:
    """After a 100 or 103 the server is at work: it is not asked a second time."""
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    server = scripted([Receive(), response(), Receive(), hints, Close()])
    one = client(server.address)
    one.get()
    with pytest.raises(NetworkError):
        one.get()
    assert len(server.requests) == 2


@pytest.mark.parametrize("method", [*IDEMPOTENT, *OTHERS])
def test_a_timeout_of_the_server(client: StartClient, scripted: StartScripted, method: str) -> None:
    """A 408 on a kept connection says that nothing was carried out: sent again, any method."""
    late = response(408, b"", [("Connection", "close")])
    server = scripted([Receive(), response(), Receive(), late], [Receive(), response(201)])
    one = client(server.address)
    one.get()
    answer = one.request(method, "/", content=None if method in ("GET", "HEAD") else b"body")
    assert answer.status_code == 201
    assert len(server.requests) == 3


def test_a_timeout_of_the_server_on_a_fresh_connection(
    client: StartClient, scripted: StartScripted
) -> None:
    """There a 408 is the answer."""
    server = scripted([Receive(), response(408)])
    assert client(server.address).get().status_code == 408


def test_a_timeout_that_came_while_idle(client: StartClient, scripted: StartScripted) -> None:
    """Some servers send 408 on their own when they close an idle connection."""
    unasked = response(408, b"", [("Connection", "close")])
    server = scripted([Receive(), response() + unasked, Close()], [Receive(), response(201)])
    one = client(server.address)
    one.get()
    one.rest()
    for method in ("POST", "GET"):
        assert one.request(method, "/").status_code == 201


def test_an_answer_that_nobody_asked_for(client: StartClient, scripted: StartScripted) -> None:
    """What a server says on an idle connection is not the answer to the next request."""
    gate, said = threading.Event(), threading.Event()

    class Say:
        def play(self, connection: Any) -> None:
            connection.send(response(200, b"poison"))
            said.set()

    server = scripted(
        [Receive(), response(), Wait(gate), Say(), Hold()], [Receive(), response(201)]
    )
    clock = Clock()
    one = client(server.address, clock=clock)
    one.get()
    gate.set()
    assert said.wait(10)
    clock.ahead += 2
    one.rest()
    assert one.get().status_code == 201


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
@pytest.mark.parametrize("option", [b"keep-alive", b"close", b""])
def test_what_a_server_says_of_the_connection(
    client: StartClient, scripted: StartScripted, version: bytes, option: bytes
) -> None:
    """Connections of HTTP/1.0 are kept on request, of HTTP/1.1 unless it is said otherwise."""
    head = b"%b 200 OK\r\nContent-Length: 2\r\n" % version
    head += b"Connection: %b\r\n" % option if option else b""
    server = scripted([Repeat([Receive(), head + b"\r\nok"])])
    one = client(server.address)
    for _ in range(2):
        assert one.get().content == b"ok"
    kept = option == b"keep-alive" or (version == b"HTTP/1.1" and not option)
    assert server.connection_count == (1 if kept else 2)
    assert one.kept == (1 if kept else 0)


def test_a_closed_client_keeps_nothing(echo: EchoServer) -> None:
    """What is in use when a client is closed is closed when it comes back."""
    cluster = Cluster([echo.address], policy=BARE)
    with cluster.stream("GET", "/bytes/100000") as response:
        cluster.close()
        assert len(response.read()) == 100_000
    echo.wait_for(lambda: echo.open_connections == 0)
    assert len(cluster.endpoints[0].pool) == 0


@pytest.mark.parametrize("pause", [0.0, 5.0], ids=["at once", "after a pause"])
@pytest.mark.parametrize("loop", LOOPS)
def test_one_cluster_on_several_loops(loop: str, pause: float, echo: EchoServer) -> None:
    """Connections belong to their loop: on another one there are others."""
    clock = Clock()
    cluster = AsyncCluster([echo.address], policy=BARE, clock=clock)

    async def call(last: bool) -> int:
        response = await cluster.get("/")
        if last:
            await cluster.aclose()
            await asyncio.sleep(0.001)
        return response.status_code

    first, second = LOOPS[loop](), LOOPS[loop]()
    try:
        # Both loops live on: an orderly end of the connections is theirs to bring about.
        assert first.run_until_complete(call(False)) == 200
        clock.ahead += pause
        assert second.run_until_complete(call(False)) == 200
        clock.ahead += pause
        assert second.run_until_complete(call(True)) == 200
        first.run_until_complete(asyncio.sleep(0.001))
    finally:
        first.close()
        second.close()
    assert echo.connection_count == 2
    echo.wait_for(lambda: echo.open_connections == 0)


def test_threads_share_connections(echo: EchoServer) -> None:
    """Threads that call at the same time never share one connection at the same time."""
    errors: list[BaseException] = []

    def work(number: int, cluster: Cluster) -> None:
        try:
            for turn in range(40):
                path = f"/echo/{number}/{turn}"
                assert cluster.get(path).json()["path"] == path
        except BaseException as error:
            errors.append(error)

    with Cluster([echo.address], policy=BARE, max_idle=4) as cluster:
        threads = [threading.Thread(target=work, args=(n, cluster)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not errors
        assert len(cluster.endpoints[0].pool) <= 4
        assert echo.request_count == 320
    echo.wait_for(lambda: echo.open_connections == 0)
