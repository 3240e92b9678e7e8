"""Answers: whole, streamed, or into a buffer."""

from __future__ import annotations

import array
import gzip
import json
import mmap
from typing import Any

import pytest

from holdfast import Cluster
from holdfast.errors import (
    DecodingError,
    InvalidRequest,
    NetworkError,
    ProtocolError,
    StatusError,
    TooLarge,
    Truncated,
)
from tests.http.clients import BARE, StartClient
from tests.servers import (
    Close,
    EchoServer,
    Receive,
    Repeat,
    SendForever,
    chunked,
    pattern,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted

SIZES = [0, 1, 1000, 65_536, 300_000, 4 << 20]
ROUTES = ["bytes", "chunked"]
GZIP = ("Content-Encoding", "gzip")
CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("route", ROUTES)
def test_a_whole_body(client: StartClient, echo: EchoServer, route: str, size: int) -> None:
    """Bodies of any size and framing come whole, one after the other on one connection."""
    one = client(echo.address)
    for _ in range(3):
        answer = one.get(f"/{route}/{size}")
        assert answer.content == pattern(size)
        assert isinstance(answer.content, bytes)
    assert (echo.connection_count, one.kept) == (1, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("route", ROUTES)
def test_a_streamed_body(client: StartClient, echo: EchoServer, route: str, size: int) -> None:
    """Pieces come in order, and the connection is given back after the last one."""
    one = client(echo.address)
    for _ in range(2):
        with one.stream("GET", f"/{route}/{size}") as streamed:
            assert streamed.response.status_code == 200
            with pytest.raises(InvalidRequest, match="read first"):
                _ = streamed.response.content
            pieces = list(streamed.pieces())
            assert b"".join(pieces) == pattern(size)
            assert all(pieces)
            assert one.kept == 1
    assert echo.connection_count == 1


def test_pieces_of_a_size(client: StartClient, echo: EchoServer) -> None:
    """A chunk size holds for all pieces but the last."""
    with client(echo.address).stream("GET", "/chunked/1000?chunk=77") as streamed:
        pieces = list(streamed.pieces(300))
    assert [len(piece) for piece in pieces] == [300, 300, 300, 100]
    assert b"".join(pieces) == pattern(1000)


def test_the_rest_of_a_streamed_body(client: StartClient, echo: EchoServer) -> None:
    """What was not iterated over can be read at once, again and again."""
    one = client(echo.address)
    with one.stream("GET", "/bytes/300000") as streamed:
        first = next(iter(streamed.pieces()))
        rest = streamed.read()
        assert first + rest == pattern(300_000)
        assert streamed.read() == rest
        assert streamed.response.content == rest
    assert one.kept == 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("pieces", [0, 1])
def test_a_stream_that_is_left_early(
    client: StartClient, echo: EchoServer, route: str, pieces: int
) -> None:
    """An unread body is not waited for: its connection is closed."""
    one = client(echo.address)
    with one.stream("GET", f"/{route}/8000000") as streamed:
        for _ in range(pieces):
            assert next(iter(streamed.pieces()))
    one.rest()
    assert one.kept == 0
    echo.wait_for(lambda: echo.open_connections == 0)
    assert one.get("/bytes/10").content == pattern(10)
    assert echo.connection_count == 2


def test_a_stream_left_by_an_exception(client: StartClient, echo: EchoServer) -> None:
    """The connection does not outlive the block."""
    one = client(echo.address)
    with pytest.raises(LookupError), one.stream("GET", "/bytes/8000000"):
        raise LookupError
    one.rest()
    echo.wait_for(lambda: echo.open_connections == 0)


def test_a_stream_read_after_its_block(client: StartClient, echo: EchoServer) -> None:
    """A body that was given up is an error of ours, not a wrong result."""
    with client(echo.address).stream("GET", "/bytes/8000000") as streamed:
        pass
    with pytest.raises(NetworkError, match="closed"):
        streamed.read()


def test_a_small_stream_left_unread(client: StartClient, echo: EchoServer) -> None:
    """A body that came with its head costs no connection."""
    one = client(echo.address)
    with one.stream("GET", "/bytes/10"):
        pass
    assert one.kept == 1


# Into a buffer.


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
@pytest.mark.parametrize("room", [0, 1, 1000])
def test_into_a_buffer(
    client: StartClient, echo: EchoServer, route: str, size: int, room: int
) -> None:
    """The body stands at the buffer's start, the rest is as it was, the view is of the body."""
    buffer = bytearray(b"." * (size + room))
    one = client(echo.address)
    for _ in range(2):
        answer = one.get(f"/{route}/{size}", into=buffer)
        assert isinstance(answer.content, memoryview)
        assert answer.content == pattern(size)
        assert answer.content.obj is buffer
        assert buffer == pattern(size) + b"." * room
    assert echo.connection_count == 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("size", "room"), [(1, 0), (1000, 999), (300_000, 299_999), (300_000, 10)])
def test_into_a_buffer_that_is_too_small(
    client: StartClient, echo: EchoServer, route: str, size: int, room: int
) -> None:
    """A body that does not fit is an error, nothing is written past the end."""
    buffer = bytearray(room + 10)
    one = client(echo.address)
    with pytest.raises(TooLarge, match=r"buffer|fit"):
        one.get(f"/{route}/{size}", into=memoryview(buffer)[:room])
    assert buffer[room:] == bytes(10)
    assert one.get("/bytes/5").content == pattern(5)


def test_into_other_buffers(client: StartClient, echo: EchoServer) -> None:
    """Whatever is writable memory will do."""
    one = client(echo.address)
    words = array.array("I", [0] * 25)
    assert one.get("/bytes/100", into=words).content == pattern(100)
    assert words.tobytes() == pattern(100)
    with mmap.mmap(-1, 4096) as pages:
        content = one.get("/bytes/100", into=pages).content
        assert content == pattern(100)
        content.release()


def test_into_a_buffer_that_cannot_be_written(client: StartClient, echo: EchoServer) -> None:
    """What is no writable memory is refused before anything is sent."""
    one = client(echo.address)
    for buffer in (b"." * 100, "text", memoryview(bytearray(200))[::2]):
        with pytest.raises(InvalidRequest, match="writable"):
            one.get("/bytes/100", into=buffer)
    assert echo.request_count == 0


def test_gzip_into_a_buffer(client: StartClient, scripted: StartScripted) -> None:
    """A coded body is decoded into the buffer."""
    body = pattern(100_000)
    server = scripted([Receive(), response(200, gzip.compress(body), [GZIP])])
    buffer = bytearray(100_000)
    assert client(server.address).get(into=buffer).content == body
    assert buffer == body


def test_text_and_json_of_a_buffer(client: StartClient, scripted: StartScripted) -> None:
    """A response in a buffer has the same methods."""
    server = scripted([Receive(), response(200, b'{"a": 1}')])
    answer = client(server.address).get(into=bytearray(100))
    assert answer.text == '{"a": 1}'
    assert answer.json() == {"a": 1}
    assert list(answer.iter_bytes(3)) == [b'{"a', b'": ', b"1}"]


# Limits.


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("size", [1001, 300_000])
def test_a_body_over_its_limit(
    client: StartClient, echo: EchoServer, route: str, size: int
) -> None:
    """`max_body` is enforced with a length and without one; the connection is not kept."""
    one = client(echo.address)
    with pytest.raises(TooLarge, match="1000"):
        one.get(f"/{route}/{size}", max_body=1000)
    assert one.kept == 0
    assert one.get(f"/{route}/1000", max_body=1000).content == pattern(1000)


def test_a_streamed_body_over_its_limit(client: StartClient, echo: EchoServer) -> None:
    """A stream ends with the error when the limit is passed."""
    with (
        client(echo.address).stream("GET", "/chunked/300000", max_body=1000) as streamed,
        pytest.raises(TooLarge),
    ):
        streamed.read()


def test_an_endless_body(client: StartClient, scripted: StartScripted) -> None:
    """What never ends is stopped by the limit."""
    endless = SendForever(chunked(bytes(4096))[:-5])
    server = scripted([Receive(), response_head(200, [CHUNKED]), endless])
    with pytest.raises(TooLarge):
        client(server.address).get(max_body=1 << 20)
    server.wait_for(lambda: server.open_connections == 0)


# What ends too early, or is not what it should be.


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (response_head(200, [("Content-Length", "10")]) + b"hello", "5 of 10 bytes"),
        (response_head(200, [CHUNKED]) + b"a\r\nhello", "5 bytes"),
        (response_head(200, [CHUNKED]) + b"5\r\nhello\r\n", "5 bytes"),
        (response_head(200, [CHUNKED]), "0 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "headers"),
        (b"HTT", "headers"),
        (b"", "without an answer"),
    ],
)
@pytest.mark.parametrize("into", [False, True])
def test_an_answer_that_ends_too_early(
    client: StartClient, scripted: StartScripted, data: bytes, told: str, into: bool
) -> None:
    """Half an answer is never taken for a whole one."""
    server = scripted([Receive(), data, Close()])
    one = client(server.address)
    with pytest.raises(NetworkError, match=told) as caught:
        one.get(into=bytearray(100) if into else None)
    assert isinstance(caught.value, Truncated) == bool(data)
    assert one.kept == 0


def test_a_stream_that_ends_too_early(client: StartClient, scripted: StartScripted) -> None:
    """What came is given out before the error."""
    server = scripted(
        [Receive(), response_head(200, [("Content-Length", "10")]) + b"hello", Close()]
    )
    with client(server.address).stream("GET", "/") as streamed:
        pieces = streamed.pieces()
        assert next(pieces) == b"hello"
        with pytest.raises(Truncated, match=server.address):
            next(pieces)


def test_a_body_that_ends_with_the_connection(client: StartClient, scripted: StartScripted) -> None:
    """Without a length the end is the end, and the connection is not kept."""
    server = scripted([Receive(), b"HTTP/1.1 200 OK\r\n\r\n", pattern(100_000), Close()])
    one = client(server.address)
    assert one.get().content == pattern(100_000)
    with one.stream("GET", "/") as streamed:
        assert streamed.read() == pattern(100_000)
    assert one.get(into=bytearray(100_000)).content == pattern(100_000)
    assert (one.kept, server.connection_count) == (0, 3)


@pytest.mark.parametrize(
    "more", [b"x", response(200, b"poison"), b"HTTP/1.1 200 OK\r\nContent-Length", b"0\r\n\r\n"]
)
@pytest.mark.parametrize("size", [5, 100_000])
@pytest.mark.parametrize("way", ["whole", "stream", "into"])
def test_more_than_was_asked_for(
    client: StartClient, scripted: StartScripted, more: bytes, size: int, way: str
) -> None:
    """What follows an answer is never the answer to the next request."""
    server = scripted(
        [Receive(), response(200, pattern(size)) + more, Receive(), response(200, b"poison")],
        [Receive(), response(200, b"good")],
    )
    one = client(server.address)
    if way == "stream":
        with one.stream("GET", "/") as streamed:
            assert streamed.read() == pattern(size)
    else:
        into = bytearray(size) if way == "into" else None
        assert one.get(into=into).content == pattern(size)
    one.rest()
    assert one.post().content == b"good"


def test_garbage_for_chunks(client: StartClient, scripted: StartScripted) -> None:
    """A body that breaks the protocol is an error of ours, which names the host."""
    server = scripted([Receive(), response_head(200, [CHUNKED]) + b"zz\r\n", Close()])
    with pytest.raises(ProtocolError, match=server.address):
        client(server.address).get()


def test_a_damaged_coding(client: StartClient, scripted: StartScripted) -> None:
    """A body that cannot be decoded is a ValueError as well, and is not asked for again."""
    server = scripted([Receive(), response(200, b"no gzip at all", [GZIP])])
    with pytest.raises(DecodingError, match="gzip") as caught:
        client(server.address).get()
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, OSError)


def test_an_unknown_coding(client: StartClient, scripted: StartScripted) -> None:
    """Nobody asked for it, so it is an error rather than a riddle."""
    server = scripted([Receive(), response(200, b"?", [("Content-Encoding", "x-riddle")])])
    with pytest.raises(DecodingError, match="x-riddle"):
        client(server.address).get()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "deflate?raw=1", "br", "zstd"])
def test_codings_of_a_server(client: StartClient, echo: EchoServer, coding: str) -> None:
    """Every coding that is offered is understood, whole and in a stream."""
    one = client(echo.address)
    offered = one.get(f"/{coding}").json()["headers"]["accept-encoding"]
    assert coding.partition("?")[0] in offered
    with one.stream("GET", f"/{coding}") as streamed:
        assert b'"method": "GET"' in streamed.read()
    assert echo.connection_count == 1


# The head.


def test_the_answer_to_head(client: StartClient, echo: EchoServer) -> None:
    """HEAD has the headers of the body, no body, and leaves the connection in order."""
    one = client(echo.address)
    for route in ("bytes", "chunked", "gzip"):
        answer = one.request("HEAD", f"/{route}/5")
        assert (answer.status_code, answer.content) == (200, b"")
        assert one.get("/bytes/5").content == pattern(5)
    assert one.request("HEAD", "/bytes/5").headers["content-length"] == "5"
    assert echo.connection_count == 1


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(client: StartClient, echo: EchoServer, status: int) -> None:
    """204 and 304 end with their head."""
    one = client(echo.address)
    assert one.get(f"/status/{status}").content == b""
    assert one.get("/bytes/5").content == pattern(5)
    assert echo.connection_count == 1


def test_what_a_response_tells(client: StartClient, scripted: StartScripted) -> None:
    """A response has the attributes that people know from requests and httpx."""
    head = [("Content-Type", "text/plain; charset=latin-1"), ("X-Two", "1"), ("x-two", "2")]
    server = scripted([Receive(), response(201, "grüße".encode("latin-1"), head)])
    answer = client(server.address).get("/path?q=1")
    assert answer.status_code == 201
    assert answer.reason_phrase == answer.reason == "Created"
    assert answer.http_version == "HTTP/1.1"
    assert answer.ok
    assert answer.is_success
    assert not answer.is_redirect
    assert answer.text == "grüße"
    assert answer.encoding == "latin-1"
    assert answer.headers["CONTENT-type"] == head[0][1]
    assert answer.headers["x-two"] == "1, 2"
    assert answer.headers.get_list("X-TWO") == ["1", "2"]
    assert "x-none" not in answer.headers
    assert answer.url == f"http://{server.address}/path?q=1"
    assert 0 < answer.elapsed.total_seconds() < 10
    assert len(answer.attempts) == 1
    assert answer.raise_for_status() is answer
    assert repr(answer) == "<Response [201 Created]>"
    assert list(answer.iter_bytes(2)) == [b"gr", b"\xfc\xdf", b"e"]
    assert list(answer.iter_bytes()) == [answer.content]
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("text/plain", "ü�"),
        ('text/plain; charset="UTF-8"', "ü�"),
        ("text/plain; charset=latin-1", "Ã¼ÿ"),
        ("text/plain; charset=no-such-thing", "ü�"),
        ("text/plain; charset=", "ü�"),
        ("text/plain; charset=base64", "ü�"),
    ],
)
def test_text(
    blocking_client: StartClient, scripted: StartScripted, content_type: str, text: str
) -> None:
    """Text is decoded as it says, and never fails."""
    body = "ü".encode() + b"\xff"
    server = scripted([Receive(), response(200, body, [("Content-Type", content_type)])])
    assert blocking_client(server.address).get().text == text


@pytest.mark.parametrize(("status", "kind"), [(404, "client"), (503, "server"), (799, "server")])
def test_error_statuses(
    client: StartClient, scripted: StartScripted, status: int, kind: str
) -> None:
    """Error statuses are answers; whoever asks has them raised."""
    server = scripted([Receive(), response(status, b"why")])
    answer = client(server.address).get("/x?secret=1")
    assert not answer.ok
    with pytest.raises(StatusError, match=f"{status} .*{kind} error") as caught:
        answer.raise_for_status()
    assert caught.value.response is answer
    assert caught.value.status_code == status
    assert caught.value.attempts == answer.attempts
    assert "secret" not in str(caught.value)


def test_trailers_are_no_headers(client: StartClient, scripted: StartScripted) -> None:
    """What comes after the body cannot pass for what came before it (RFC 9110 6.5.1)."""
    trailers = [("Location", "/elsewhere"), ("Content-Encoding", "gzip"), ("X-Sum", "1")]
    server = scripted(
        [
            Repeat(
                [
                    Receive(),
                    response_head(200, [CHUNKED, ("X-Sum", "0")]) + chunked(b"hello", 5, trailers),
                ]
            )
        ]
    )
    one = client(server.address)
    answer = one.get()
    assert answer.content == b"hello"
    assert answer.headers.multi_items() == [CHUNKED, ("X-Sum", "0")]
    assert one.get().content == b"hello"
    assert server.connection_count == 1


def test_a_response_with_a_huge_head(client: StartClient, scripted: StartScripted) -> None:
    """A head up to the limits is understood, and beyond them refused."""
    headers = [(f"X-{number}", "x" * 500) for number in range(100)]
    server = scripted([Receive(), response(200, b"ok", headers)])
    assert client(server.address).get().headers["x-99"] == "x" * 500
    more = scripted([Receive(), response(200, b"ok", headers * 2)])
    with pytest.raises(TooLarge, match=more.address):
        client(more.address).get()


def test_limits_of_ones_own(scripted: StartScripted) -> None:
    """The limits of the head can be set."""
    from holdfast.wire.http1 import Limits

    server = scripted([Receive(), response(200, b"ok", [("X", "x" * 100)])])
    with (
        Cluster([server.address], policy=BARE, limits=Limits(line=50)) as cluster,
        pytest.raises(TooLarge, match="50"),
    ):
        cluster.get("/")


def test_a_response_is_described_without_its_secrets(
    blocking_client: StartClient, scripted: StartScripted
) -> None:
    """Cookies do not show in the representation of headers."""
    server = scripted([Receive(), response(200, b"", [("Set-Cookie", "id=s3cret"), ("X", "y")])])
    answer: Any = blocking_client(server.address).get()
    assert "s3cret" not in repr(answer.headers)
    assert "'y'" in repr(answer.headers)
    assert answer.headers["set-cookie"] == "id=s3cret"
