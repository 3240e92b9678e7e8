"""Thread-safe pools of connections to one host."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from holdfast.errors import NetworkError
from holdfast.rest import AsyncPool, Pool
from tests.rest.faces import Face
from tests.servers import (
    Close,
    EchoServer,
    Hold,
    Receive,
    Repeat,
    Reset,
    Script,
    Step,
    json_response,
    response,
)
from tests.servers.fixtures import StartScripted

TIMED_OUT = response(408, b"", [("Connection", "close")])


# --- how many connections ---------------------------------------------------------------------


def test_nothing_is_kept(face: Face, echo: EchoServer) -> None:
    """With no limit said, or with 0, each request has a connection of its own."""
    for pool in (face.pool(echo.address), face.pool(echo.address, 0), face.pool(echo.address)):
        before = echo.connection_count
        for path in ("/x", "/status/404", "/bytes/100000"):
            pool.call("GET", path)
            pool.call("POST", path, {})
            assert len(pool) == 0
        assert echo.connection_count == before + 6
    face.rest()
    echo.wait_for(lambda: echo.open_connections == 0)


def test_as_many_are_kept_as_said(face: Face, echo: EchoServer) -> None:
    """Up to the limit, connections are kept and used again; those beyond it are closed."""
    pool = face.pool(echo.address, limit=3)
    assert len(pool) == 0
    together(face, pool, echo, 5)
    assert len(pool) == 3
    face.rest()
    echo.wait_for(lambda: echo.open_connections == 3)
    count = echo.connection_count
    for _ in range(5):
        pool.get("/x")
        assert len(pool) == 3
    together(face, pool, echo, 3)
    assert (len(pool), echo.connection_count) == (3, count)


def together(face: Face, pool: Any, echo: EchoServer, count: int) -> None:
    """Make calls that are all under way at the same time."""
    arrived = threading.Thread(target=open_when_full, args=(echo, count))
    arrived.start()
    results = face.at_once([lambda: pool.target.call("GET", "/slow")] * count)
    arrived.join()
    assert [answer.status for answer in results] == [200] * count


def open_when_full(echo: EchoServer, count: int) -> None:
    """Let the slow requests go on as soon as all of them are there, and not before."""
    echo.wait_for(lambda: echo.waiting == count)
    echo.gate.set()
    echo.wait_for(lambda: echo.waiting == 0)
    echo.gate.clear()


@pytest.mark.parametrize("limit", [-1, -100])
def test_what_is_no_limit(face: Face, limit: int) -> None:
    """A negative number of connections is refused."""
    with pytest.raises(ValueError, match="limit"):
        face.pool("h", limit)


def test_an_empty_pool_is_there(face: Face) -> None:
    """A pool without idle connections is not taken for none at all."""
    pool = face.pool("h:1", 3).target
    assert pool
    assert repr(pool) == f"<{type(pool).__name__} h:1: 0 idle>"


def test_closing_a_pool(face: Face, echo: EchoServer) -> None:
    """A closed pool keeps nothing, and nothing of it stays open."""
    pool = face.pool(echo.address, limit=3)
    together(face, pool, echo, 3)
    pool.shut()
    assert len(pool) == 0
    face.rest()
    echo.wait_for(lambda: echo.open_connections == 0)


def test_contexts_close(echo: EchoServer, face: Face) -> None:
    """A pool is closed with its context."""

    async def within() -> None:
        async with AsyncPool(echo.address, 1) as pool:
            assert (await pool.get("/x"))["path"] == "/x"
            assert len(pool) == 1
        assert len(pool) == 0

    if face.kind == "asyncio":
        face.finish(within())
    else:
        with Pool(echo.address, 1) as pool:
            assert pool.get("/x")["path"] == "/x"
            assert len(pool) == 1
        assert len(pool) == 0
    face.rest()
    echo.wait_for(lambda: echo.open_connections == 0)


# --- many at the same time --------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 4])
def test_many_callers(face: Face, echo: EchoServer, limit: int) -> None:
    """Calls from many threads, or tasks, each get their own answer."""
    pool = face.pool(echo.address, limit).target
    verbs = ["GET", "POST", "PUT", "DELETE"]
    numbers = list(range(120))
    results = face.at_once(
        [partial(pool.call, verbs[n % 4], f"/{n}", {"n": n}) for n in numbers], workers=16
    )
    got = [(answer()["path"], answer()["body"]) for answer in results]
    assert got == [(f"/{n}", {"n": n}) for n in numbers]
    assert len(pool) <= limit
    assert pool._endpoint.in_flight == 0
    face.rest()
    echo.wait_for(lambda: echo.open_connections == len(pool))


def test_many_callers_of_a_server_that_closes(face: Face, echo: EchoServer) -> None:
    """Connections that the server closes in between disturb none of many callers."""
    pool = face.pool(echo.address, 4).target
    paths = ["/close", "/x", "/x"] * 60
    results = face.at_once([partial(pool.call, "GET", path) for path in paths])
    assert [answer()["path"] for answer in results] == paths


# --- connections that end ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"])
def test_a_connection_closed_while_idle(face: Face, echo: EchoServer, method: str) -> None:
    """A kept connection that the server closed is replaced, for any method."""
    pool = face.pool(echo.address, 1)
    for count in range(1, 4):
        assert pool.call(method, "/x").status == 200
        assert (len(pool), echo.connection_count) == (1, count)
        echo.drop_connections()
        face.rest()


def test_a_server_that_came_back(face: Face, echo: EchoServer) -> None:
    """All kept connections of a server that was started anew are replaced."""
    pool = face.pool(echo.address, 4)
    together(face, pool, echo, 4)
    echo.stop()
    echo.start()
    face.rest()
    assert pool.post("/x", 1)["body"] == 1
    for _ in range(4):
        assert pool.get("/x")["path"] == "/x"


@pytest.mark.parametrize("end", [Close(), Reset(), TIMED_OUT])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_a_connection_closed_under_a_request(
    face: Face, scripted: StartScripted, end: Step | bytes, method: str
) -> None:
    """A request that a kept connection's server gives up is sent again, where that is safe."""
    last: Script = [Receive(), json_response(2)]
    server = scripted([Receive(), json_response(1), Receive(), end], last)
    pool = face.pool(server.address, 1)
    assert pool.get("/") == 1
    answer = pool.call(method, "/again", [1])
    assert answer.status == 200
    assert method == "HEAD" or answer() == 2
    assert [(r.method, r.target) for r in server.requests[1:]] == [(method, "/again")] * 2
    assert len(answer.attempts) == 1


@pytest.mark.parametrize("end", [Close(), Reset()])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_write_that_may_have_been_carried_out(
    face: Face, scripted: StartScripted, end: Step, method: str
) -> None:
    """A request that must not be carried out twice is not sent again, but is an error."""
    server = scripted([Receive(), json_response(1), Receive(), end], [Hold()])
    pool = face.pool(server.address, 1)
    assert pool.get("/") == 1
    with pytest.raises(NetworkError, match=server.address) as caught:
        pool.call(method, "/", [1])
    assert len(caught.value.attempts) == 1
    assert (server.connection_count, len(server.requests)) == (1, 2)
    assert len(pool) == 0


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_timed_out_connection(face: Face, scripted: StartScripted, method: str) -> None:
    """408 on a kept connection says that nothing was carried out: any request is sent again."""
    server = scripted(
        [Receive(), json_response(1), Receive(), TIMED_OUT], [Receive(), json_response(2)]
    )
    pool = face.pool(server.address, 1)
    assert pool.get("/") == 1
    assert pool.call(method, "/", [1])() == 2
    assert [request.body for request in server.requests] == [b"", b"[1]", b"[1]"]


def test_again_only_once(face: Face, scripted: StartScripted) -> None:
    """The new connection's outcome is final, be it an error or 408 once more."""
    server = scripted(
        [Receive(), json_response(1), Receive(), Close()],
        [Receive(), Close()],
        [Receive(), json_response(2), Receive(), TIMED_OUT],
        [Receive(), TIMED_OUT],
    )
    pool = face.pool(server.address, 1)
    assert pool.get("/") == 1
    with pytest.raises(NetworkError, match=server.address):
        pool.get("/")
    assert server.connection_count == 2
    assert pool.get("/") == 2
    assert pool.call("GET", "/").status == 408
    assert server.connection_count == 4


def test_408_on_a_new_connection(face: Face, scripted: StartScripted) -> None:
    """408 is an answer as any other where the connection is new."""
    server = scripted([Repeat([Receive(), TIMED_OUT], 1)])
    answer = face.pool(server.address, 1).call("POST", "/", 1)
    assert (answer.status, server.connection_count) == (408, 1)
