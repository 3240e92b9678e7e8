"""Several requests in a pipeline on one connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from holdfast import HoldfastError
from holdfast.errors import DeadlineExceeded, InvalidRequest, NetworkError
from tests.rest.faces import Face
from tests.servers import (
    Close,
    Connection,
    EchoServer,
    Hold,
    Receive,
    ReceiveEnd,
    Repeat,
    Reset,
    ScriptedServer,
    json_response,
    pattern,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted

CLOSING = [("Connection", "close")]


def gets(*numbers: int) -> list[tuple[str, str]]:
    """Return a GET for each number."""
    return [("GET", f"/{number}") for number in numbers]


def answers(*numbers: int) -> bytes:
    """Return an answer with each number."""
    return b"".join(json_response(number) for number in numbers)


# --- in order ---------------------------------------------------------------------------------


def test_responses_come_in_order(face: Face, echo: EchoServer) -> None:
    """Each request has its response in its place, all on one connection."""
    requests: list[Any] = [
        ("GET", "/a"),
        ("POST", "/b", {"x": 1}),
        ("DELETE", "/c"),
        ("GET", "/status/404"),
        ("PUT", "/d", [2]),
    ]
    resource = face.resource(echo.address)
    responses = list(resource.multicall(*requests))
    assert [answer.status for answer in responses] == [200, 200, 200, 404, 200]
    bodies = [(r()["method"], r()["path"], r()["body"]) for r in responses if r]
    assert bodies == [
        ("GET", "/a", ""),
        ("POST", "/b", {"x": 1}),
        ("DELETE", "/c", ""),
        ("PUT", "/d", [2]),
    ]
    assert [[a.endpoint for a in r.attempts] for r in responses] == [[echo.address]] * 5
    assert resource.get("/after")["connection"] == 0
    assert echo.connection_count == 1


def test_no_request_no_response(face: Face, echo: EchoServer) -> None:
    """Without requests there are no responses, and no connection."""
    assert list(face.resource(echo.address).multicall()) == []
    assert echo.connection_count == 0


def test_several_are_under_way(face: Face, scripted: StartScripted) -> None:
    """The second request is sent before the first one has its answer."""
    server = scripted([Receive(), Receive(), Receive(), answers(1, 2, 3), ReceiveEnd()])
    responses = face.resource(server.address).multicall(*gets(1, 2, 3))
    assert [answer() for answer in responses] == [1, 2, 3]


@pytest.mark.parametrize("count", [15, 16, 17, 200])
def test_many(face: Face, echo: EchoServer, count: int) -> None:
    """Any number of requests goes over one connection."""
    responses = face.resource(echo.address).multicall(*gets(*range(count)))
    assert [answer()["path"] for answer in responses] == [f"/{n}" for n in range(count)]
    assert echo.connection_count == 1


def test_bodies_of_many_kinds(face: Face, echo: EchoServer) -> None:
    """Bodies of any size and framing are told apart."""
    paths = ["/bytes/0", "/chunked/70000", "/bytes/200000", "/status/204", "/chunked/0", "/gzip"]
    paths += ["/chunked/5?chunk=1", "/bytes/3"]
    got = list(face.resource(echo.address).multicall(*[("GET", path) for path in paths]))
    sizes = [0, 70_000, 200_000, 0, 0, None, 5, 3]
    for answer, path, size in zip(got, paths, sizes, strict=True):
        if size is None:
            assert answer()["path"] == path
        else:
            assert answer() == pattern(size)
    assert echo.connection_count == 1


def test_head_among_others(face: Face, echo: EchoServer) -> None:
    """The answer to HEAD has a length and no body, and those around it are not confused."""
    requests = [
        ("HEAD", "/bytes/10"),
        ("GET", "/bytes/2"),
        ("HEAD", "/bytes/20"),
        ("HEAD", "/bytes/30"),
        ("GET", "/bytes/3"),
    ]
    responses = list(face.resource(echo.address).multicall(*requests))
    assert [answer.body for answer in responses] == [b"", pattern(2), b"", b"", pattern(3)]
    assert [r.headers["content-length"] for r in responses] == ["10", "2", "20", "30", "3"]
    assert echo.connection_count == 1


def test_large_bodies_both_ways(face: Face, echo: EchoServer) -> None:
    """A server that answers before it reads on does not block a client that sends."""
    text = "x" * 16_000_000
    requests = [
        ("GET", "/bytes/16000000"),
        ("POST", "/a", text),
        ("POST", "/b", text),
        ("GET", "/"),
    ]
    responses = list(face.resource(echo.address, timeout=3).multicall(*requests))
    assert responses[0].body == pattern(16_000_000)
    assert [answer()["length"] for answer in responses[1:]] == [len(text) + 2, len(text) + 2, 0]


def test_many_bodies_both_ways(face: Face, echo: EchoServer) -> None:
    """What is under way at once stays small enough for the buffers in between."""
    text = "x" * 60_000
    pairs = [(("GET", "/bytes/3000000"), ("PUT", "/", text))] * 12
    requests = [request for pair in pairs for request in pair]
    responses = list(face.resource(echo.address, timeout=3).multicall(*requests))
    assert [len(answer.body) for answer in responses[::2]] == [3_000_000] * 12
    assert [answer()["length"] for answer in responses[1::2]] == [60_002] * 12


def test_a_used_connection_is_used_again(face: Face, echo: EchoServer) -> None:
    """Calls before and after share the connection, which is in order afterwards."""
    resource = face.resource(echo.address)
    for _ in range(2):
        resource.get("/")
        list(resource.multicall(*gets(1, 2)))
        resource.call("HEAD", "/")
        list(resource.multicall(("HEAD", "/"), ("GET", "/")))
    assert echo.connection_count == 1


@pytest.mark.parametrize("request_", [("GET",), "GET /", ("GET", "/", None, None), ["GET", "/"]])
def test_what_is_no_request(face: Face, echo: EchoServer, request_: Any) -> None:
    """Something else than (method, path[, body]) is refused before anything is sent."""
    with pytest.raises(InvalidRequest, match="multicall"):
        list(face.resource(echo.address).multicall(("GET", "/"), request_))
    assert echo.connection_count == 0


# --- connections that end ---------------------------------------------------------------------


def test_a_server_that_closes_after_some(face: Face, scripted: StartScripted) -> None:
    """What a server has not answered when it closes is sent again on another connection."""
    server = scripted(
        [Repeat([Receive()], 5), answers(1, 2), Close()],
        [Repeat([Receive()], 3), answers(3, 4, 5), ReceiveEnd()],
    )
    responses = face.resource(server.address).multicall(*gets(1, 2, 3, 4, 5))
    assert [answer() for answer in responses] == [1, 2, 3, 4, 5]
    assert [request.target for request in server.requests_on(1)] == ["/3", "/4", "/5"]


def test_a_reset_connection(face: Face, scripted: StartScripted) -> None:
    """A connection that is reset is an error, or sent again, as one that is closed."""
    server = scripted([Repeat([Receive()], 3), Reset()], [Repeat([Receive(), answers(1)])])
    resource = face.resource(server.address)
    with pytest.raises(NetworkError, match=server.address):
        list(resource.multicall(("POST", "/1", 1), *gets(2, 3)))
    assert [answer() for answer in resource.multicall(*gets(1, 2, 3))] == [1, 1, 1]


@dataclass
class AnswerTarget:
    """Answer the last request with its target."""

    def play(self, connection: Connection) -> None:
        """Send it."""
        assert isinstance(connection.server, ScriptedServer)
        last = connection.server.requests_on(connection.number)[-1]
        connection.send(json_response(last.target))


def test_a_server_that_closes_after_each(face: Face, scripted: StartScripted) -> None:
    """A server that closes after every answer, without saying so, is asked again and again."""
    server = scripted([Receive(), AnswerTarget(), Close()])
    responses = face.resource(server.address).multicall(*gets(*range(20)))
    assert [answer() for answer in responses] == [f"/{number}" for number in range(20)]
    assert server.connection_count >= 20


def test_a_server_that_says_so(face: Face, echo: EchoServer) -> None:
    """After an answer with `Connection: close`, the rest goes over another connection."""
    requests: list[Any] = [("GET", "/1"), ("GET", "/close"), ("POST", "/2", 2), ("GET", "/3")]
    responses = list(face.resource(echo.address).multicall(*requests))
    assert [answer()["path"] for answer in responses] == ["/1", "/close", "/2", "/3"]
    assert [answer()["connection"] for answer in responses] == [0, 0, 1, 1]


def test_a_connection_that_ends_is_not_kept(face: Face, scripted: StartScripted) -> None:
    """A connection whose server said that it closes it is not used again, though it is open."""
    closing = json_response(1, 200, CLOSING)
    server = scripted([Receive(), closing, Hold()], [Receive(), answers(2), ReceiveEnd()])
    resource = face.resource(server.address)
    assert [answer() for answer in resource.multicall(("GET", "/1"))] == [1]
    assert resource.post("/2") == 2
    face.rest()
    server.wait_for(lambda: server.open_connections == 1)


def test_a_body_that_ends_with_its_connection(face: Face, scripted: StartScripted) -> None:
    """An answer without a length ends with its connection, and the rest goes over another one."""
    server = scripted(
        [Receive(), response_head(200) + b"old style", Close()],
        [Receive(), answers(2), ReceiveEnd()],
    )
    responses = face.resource(server.address).multicall(*gets(1, 2))
    assert [answer() for answer in responses] == [b"old style", 2]


@pytest.mark.parametrize("first", [answers(1), b""])
def test_writes_are_not_repeated(face: Face, scripted: StartScripted, first: bytes) -> None:
    """A connection that breaks with a POST under way is an error, after what was answered."""
    server = scripted([Receive(), Receive(), first, Close()], [Hold()])
    resource = face.resource(server.address)
    got: list[Any] = []
    with pytest.raises(NetworkError, match=server.address) as caught:
        got.extend(answer() for answer in resource.multicall(("GET", "/1"), ("POST", "/2", 2)))
    assert got == ([1] if first else [])
    assert [attempt.endpoint for attempt in caught.value.attempts] == [server.address]
    assert (server.connection_count, len(server.requests)) == (1, 2)


def test_writes_that_were_not_carried_out(face: Face, scripted: StartScripted) -> None:
    """A POST behind an answer with `Connection: close` was not carried out, and is sent again."""
    server = scripted(
        [Receive(), Receive(), json_response(1, 200, CLOSING)],
        [Receive(), answers(2), ReceiveEnd()],
    )
    responses = face.resource(server.address).multicall(("GET", "/1"), ("POST", "/2", 2))
    assert [answer() for answer in responses] == [1, 2]
    assert [request.method for request in server.requests_on(1)] == ["POST"]


def test_a_server_that_never_answers(face: Face, scripted: StartScripted) -> None:
    """A connection that breaks without an answer is tried once more, with one request alone."""
    server = scripted([Receive(), Receive(), Receive(), Close()], [Receive(), Close()])
    with pytest.raises(NetworkError, match=server.address):
        list(face.resource(server.address).multicall(*gets(1, 2, 3)))
    assert [len(server.requests_on(number)) for number in range(2)] == [3, 1]
    assert server.connection_count == 2


def test_a_server_that_knows_no_pipelines(face: Face, scripted: StartScripted) -> None:
    """A server that gives up at the second request under way is asked for one after the other."""
    server = scripted([Receive(), Receive(), Reset()], [Repeat([Receive(), answers(1)])])
    responses = face.resource(server.address).multicall(*gets(1, 2, 3))
    assert [answer() for answer in responses] == [1, 1, 1]
    assert [request.target for request in server.requests_on(1)] == ["/1", "/2", "/3"]


@pytest.mark.parametrize("damaged", [b"garbage\r\n\r\n", response_head(200, [("X", "y" * 70_000)])])
def test_a_damaged_answer(face: Face, scripted: StartScripted, damaged: bytes) -> None:
    """Something that is not HTTP is an error of ours, and its connection is closed."""
    server = scripted([Receive(), Receive(), damaged, Hold()])
    resource = face.resource(server.address)
    with pytest.raises(OSError, match=server.address) as caught:
        list(resource.multicall(*gets(1, 2)))
    assert isinstance(caught.value, HoldfastError)
    face.rest()
    server.wait_for(lambda: server.open_connections == 0)


def test_a_kept_connection_was_closed(face: Face, echo: EchoServer) -> None:
    """A kept connection that the server closed meanwhile is replaced, also for a POST."""
    resource = face.resource(echo.address)
    for requests in ([("POST", "/1", 1), ("GET", "/2")], [("GET", "/1"), ("POST", "/2", 2)]):
        resource.get("/")
        echo.drop_connections()
        face.rest()
        responses = list(resource.multicall(*requests))
        assert [answer()["path"] for answer in responses] == ["/1", "/2"]


def test_head_on_a_broken_connection(face: Face, scripted: StartScripted) -> None:
    """A HEAD that gets no answer, behind others that did, is an error as any other."""
    server = scripted([Receive(), answers(1), Receive(), Close()], [Receive(), Close()])
    resource = face.resource(server.address)
    got: list[Any] = []
    with pytest.raises(NetworkError, match=server.address):
        got.extend(
            answer() for answer in resource.multicall(("GET", "/1"), ("HEAD", "/2"), ("GET", "/3"))
        )
    assert got == [1]
    assert [request.method for request in server.requests] == ["GET", "HEAD", "HEAD"]


def test_a_refusing_host(face: Face, refusing: tuple[str, int]) -> None:
    """A host that cannot be reached is an OSError with the attempt."""
    host, port = refusing
    with pytest.raises(OSError, match="refused") as caught:
        list(face.resource(host, port).multicall(*gets(1, 2)))
    assert len(caught.value.attempts) == 1  # type: ignore[attr-defined]


def test_the_time_limit_is_for_each(face: Face, scripted: StartScripted) -> None:
    """An answer that does not come in time is an error, and its connection is closed."""
    server = scripted([Receive(), answers(1), Receive(), Hold()])
    got: list[Any] = []
    with pytest.raises(DeadlineExceeded, match=server.address):
        got.extend(
            answer() for answer in face.resource(server.address, timeout=0.1).multicall(*gets(1, 2))
        )
    assert got == [1]
    face.rest()
    server.wait_for(lambda: server.open_connections == 0)


def test_an_abandoned_pipeline(face: Face, scripted: StartScripted) -> None:
    """Who stops in the middle closes the connection, on which answers are still to come."""
    server = scripted(
        [Repeat([Receive()], 3), answers(1, 2), ReceiveEnd()], [Receive(), answers(9)]
    )
    resource = face.resource(server.address)
    pipeline = resource.multicall(*gets(1, 2, 3))
    assert next(pipeline)() == 1
    pipeline.close()
    face.rest()
    server.wait_for(lambda: server.open_connections == 0)
    assert resource.get("/9") == 9


def test_a_pipeline_abandoned_at_its_end(face: Face, echo: EchoServer) -> None:
    """Who stops after the last answer leaves a connection that is in order."""
    resource = face.resource(echo.address)
    pipeline = resource.multicall(*gets(1, 2))
    next(pipeline)
    next(pipeline)
    pipeline.close()
    assert resource.get("/")["connection"] == 0


def test_a_pipeline_that_never_began(face: Face, echo: EchoServer) -> None:
    """A pipeline that nobody iterates over sends nothing."""
    face.resource(echo.address).multicall(*gets(1, 2)).close()
    assert echo.connection_count == 0


def test_an_answer_nobody_asked_for(face: Face, scripted: StartScripted) -> None:
    """A connection with more answers than requests is not kept."""
    extra = answers(1, 2) + response(200, b"extra")
    server = scripted([Receive(), Receive(), extra, ReceiveEnd()], [Receive(), answers(3)])
    resource = face.resource(server.address)
    assert [answer() for answer in resource.multicall(*gets(1, 2))] == [1, 2]
    assert resource.get("/3") == 3
