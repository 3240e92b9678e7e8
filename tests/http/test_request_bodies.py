"""Bodies of requests, from whatever they are made."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import AsyncCluster, HoldfastError
from holdfast.errors import CallTimeout, InvalidRequest, NetworkError
from holdfast.http.bodies import body_of, query_string
from tests.http.clients import BARE, Client, StartClient
from tests.servers import (
    Close,
    EchoServer,
    Hold,
    Receive,
    ReceiveBody,
    ReceiveBytes,
    Repeat,
    Reset,
    pattern,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted

BIG = 8 << 20


def sent(client: Client, **options: Any) -> dict[str, Any]:
    """Send a body and return what the server saw."""
    answer = client.post("/", **options)
    assert answer.status_code == 200
    return answer.json()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 1, 100_000, BIG])
def test_bytes(client: StartClient, echo: EchoServer, kind: Any, size: int) -> None:
    """Bytes of any kind and size arrive with their length."""
    seen = sent(client(echo.address), content=kind(pattern(size)))
    assert seen["headers"]["content-length"] == str(size)
    assert "content-type" not in seen["headers"]
    assert seen["sha256"] == hashlib.sha256(pattern(size)).hexdigest()


def test_words_of_memory_are_sent_as_bytes(client: StartClient, echo: EchoServer) -> None:
    """The length of a memoryview of larger items is counted in bytes."""
    words = memoryview(bytearray(range(16))).cast("I")
    assert sent(client(echo.address), content=words)["length"] == 16


def test_text(client: StartClient, echo: EchoServer) -> None:
    """A string is sent in UTF-8, and says so."""
    seen = sent(client(echo.address), content="grüße ☃")
    assert seen["body"] == "grüße ☃"
    assert seen["headers"]["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("value", [{"a": [1, None, "ü"]}, [], 0, "", False, {1: 2}])
def test_json(client: StartClient, echo: EchoServer, value: Any) -> None:
    """Objects are sent as JSON, also those that are false."""
    seen = sent(client(echo.address), json=value)
    assert seen["body"] == json.loads(json.dumps(value))
    assert seen["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ({"a": "1", "b": "x y&z"}, "a=1&b=x+y%26z"),
        ({"a": [1, 2], "b": None, "c": True}, "a=1&a=2&c=true"),
        ([("a", "1"), ("a", "2")], "a=1&a=2"),
        ({"ü": "é"}, "%C3%BC=%C3%A9"),
    ],
)
def test_forms(client: StartClient, echo: EchoServer, form: Any, body: str) -> None:
    """Mappings and pairs are sent as a form."""
    seen = sent(client(echo.address), data=form)
    assert seen["body"] == body
    assert seen["headers"]["content-type"] == "application/x-www-form-urlencoded"


def test_data_may_be_raw(client: StartClient, echo: EchoServer) -> None:
    """What is no form is sent as it is."""
    assert sent(client(echo.address), data=b"raw")["body"] == "raw"


def test_a_content_type_of_ones_own(client: StartClient, echo: EchoServer) -> None:
    """A given Content-Type replaces that of the body, in any case of letters."""
    seen = sent(client(echo.address), json=1, headers={"content-TYPE": "application/x-mine"})
    assert seen["headers"]["content-type"] == "application/x-mine"


@pytest.mark.parametrize("size", [0, 10, BIG])
def test_a_file(client: StartClient, echo: EchoServer, tmp_path: Path, size: int) -> None:
    """A file is sent from where it stands, with its length."""
    path = tmp_path / "file"
    path.write_bytes(b"skip" + pattern(size))
    with path.open("rb") as file:
        file.seek(4)
        seen = sent(client(echo.address), content=file)
    assert seen["headers"]["content-length"] == str(size)
    assert seen["sha256"] == hashlib.sha256(pattern(size)).hexdigest()


def test_a_file_in_memory(client: StartClient, echo: EchoServer) -> None:
    """Whatever has the methods of a file is one."""
    assert sent(client(echo.address), content=io.BytesIO(b"hello"))["body"] == "hello"


def test_a_compressed_file(client: StartClient, echo: EchoServer, tmp_path: Path) -> None:
    """The length of a file is that of what can be read from it."""
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"hello" * 100))
    with gzip.open(path) as file:
        assert sent(client(echo.address), content=file)["body"] == "hello" * 100


def test_a_pipe(client: StartClient, echo: EchoServer) -> None:
    """What cannot be sought is sent in chunks."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            for number in range(3):
                pipe.write(b"%d" % number * 100_000)
                pipe.flush()

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        seen = sent(client(echo.address), content=pipe)
    thread.join(10)
    assert seen["headers"]["transfer-encoding"] == "chunked"
    assert seen["length"] == 300_000


def test_an_iterator(client: StartClient, echo: EchoServer) -> None:
    """Pieces of any kind arrive in order, in chunks, and empty ones do not end the body."""

    def pieces() -> Iterator[Any]:
        yield b"one"
        yield b""
        yield "zwölf"
        yield memoryview(b"three")

    seen = sent(client(echo.address), content=pieces())
    assert seen["headers"]["transfer-encoding"] == "chunked"
    assert "content-length" not in seen["headers"]
    assert seen["body"] == "onezwölfthree"


def test_a_list(client: StartClient, echo: EchoServer) -> None:
    """A list of pieces can be sent, and sent again."""
    pieces = [b"one", b"two"]
    one = client(echo.address)
    assert sent(one, content=pieces)["body"] == "onetwo"
    assert sent(one, content=pieces)["body"] == "onetwo"


def test_an_endless_iterator_is_read_no_further_than_it_is_sent(
    client: StartClient, scripted: StartScripted
) -> None:
    """A peer that does not read holds the iterator back until the time is over."""
    server = scripted([Receive(body=False), Hold()])
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1 << 16)

    with pytest.raises(CallTimeout):
        client(server.address).post(content=endless(), timeout=0.3)
    assert taken < 1000


def test_a_slow_iterator_does_not_outlive_the_call(
    client: StartClient, scripted: StartScripted
) -> None:
    """The deadline also ends a body whose every piece is sent at once."""
    server = scripted([Receive()])
    ended = []

    def slow() -> Iterator[bytes]:
        try:
            while True:
                threading.Event().wait(0.005)
                yield b"x"
        finally:
            ended.append(True)

    with pytest.raises(CallTimeout):
        client(server.address).post(content=slow(), timeout=0.1)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_asynchronous_iterator(loop: str, echo: EchoServer) -> None:
    """In asyncio pieces may be awaited."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            await asyncio.sleep(0)
            yield piece

    with Client(loop, echo.address) as client:
        assert sent(client, content=pieces())["body"] == "onetwo"


def test_an_asynchronous_iterator_cannot_be_awaited_by_a_thread(echo: EchoServer) -> None:
    """Without a loop it is refused in plain words, with nothing left un-awaited."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"

    with (
        Client("blocking", echo.address) as client,
        pytest.raises(InvalidRequest, match="AsyncCluster"),
    ):
        client.post(content=pieces())


def test_an_asynchronous_file(echo: EchoServer) -> None:
    """In asyncio the stream of one connection may be the body of another."""

    async def send() -> Any:
        reader = asyncio.StreamReader()
        reader.feed_data(b"streamed")
        reader.feed_eof()
        async with AsyncCluster([echo.address], policy=BARE) as cluster:
            answer = await cluster.post("/", content=reader)
            return answer.json()["body"]

    assert asyncio.run(send()) == "streamed"


def test_an_iterator_that_fails(client: StartClient, echo: EchoServer) -> None:
    """Its exception reaches the caller, and the half-sent request's connection is closed."""

    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise LookupError("no two")

    one = client(echo.address)
    with pytest.raises(LookupError, match="no two"):
        one.post(content=pieces())
    assert one.kept == 0
    assert sent(one, content=b"next")["body"] == "next"


@pytest.mark.parametrize("piece", [1, None, object(), [b"nested"]])
def test_an_iterator_of_something_else(
    blocking_client: StartClient, echo: EchoServer, piece: Any
) -> None:
    """Pieces that are not bytes are refused; None is not taken for the end."""
    with pytest.raises(InvalidRequest, match="bytes"):
        blocking_client(echo.address).post(content=[piece])


def test_a_file_that_shrinks(client: StartClient, echo: EchoServer, tmp_path: Path) -> None:
    """A file shorter than its length said is an error, and its connection is closed."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)

    class Shrinking(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return (super().read(size) or b"")[:10] if self.tell() == 0 else b""

    one = client(echo.address)
    with Shrinking(path) as file, pytest.raises(HoldfastError, match="shorter"):
        one.post(content=file)
    assert one.kept == 0


def test_a_file_that_grows(client: StartClient, echo: EchoServer) -> None:
    """A file longer than its length said is an error: the rest would be another request."""

    class Growing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size) + b"GET /smuggled HTTP/1.1\r\n\r\n"

    one = client(echo.address)
    with pytest.raises(HoldfastError, match="grown"):
        one.post(content=Growing(b"x" * 10))
    assert one.kept == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "GET", "DELETE"])
def test_no_body(client: StartClient, echo: EchoServer, method: str) -> None:
    """Methods that usually have a body say that there is none."""
    seen = client(echo.address).request(method, "/").json()
    assert seen["headers"].get("content-length") == (
        "0" if method in ("POST", "PUT", "PATCH") else None
    )


def test_any_method_may_have_a_body(client: StartClient, echo: EchoServer) -> None:
    """A GET or DELETE with a body has it sent with its length."""
    for method in ("GET", "DELETE", "OPTIONS", "REPORT"):
        seen = client(echo.address).request(method, "/", content=b"body").json()
        assert (seen["method"], seen["body"]) == (method, "body")


@pytest.mark.parametrize(
    "arguments",
    [
        {"content": b"", "json": 1},
        {"content": b"", "data": {}},
        {"json": 1, "data": {"a": 1}},
        {"json": object()},
        {"json": {"a": {1, 2}}},
        {"content": 5},
        {"content": {"a": 1}},
        {"content": io.StringIO("text")},
    ],
)
def test_what_makes_no_body(arguments: dict[str, Any]) -> None:
    """What cannot be sent is refused before anything is."""
    with pytest.raises(InvalidRequest):
        body_of(**arguments)


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({"a": 1, "b": "x y"}, "a=1&b=x+y"),
        ([("a", 1), ("a", 2)], "a=1&a=2"),
        ({"a": [1, 2], "b": ()}, "a=1&a=2"),
        ({"a": None, "b": False}, "b=false"),
        ({"a": "ü&="}, "a=%C3%BC%26%3D"),
        ({"a": b"\xff"}, "a=%FF"),
        ({}, ""),
    ],
)
def test_queries(params: Any, query: str) -> None:
    """Parameters become a query as people know it."""
    assert query_string(params) == query


# Expect: 100-continue.


def test_the_server_wants_the_body(client: StartClient, scripted: StartScripted) -> None:
    """The body is sent once the server says 100, and not before."""
    server = scripted(
        [Repeat([Receive(body=False), response_head(100), ReceiveBody(), response(200, b"got it")])]
    )
    one = client(server.address)
    for _ in range(2):
        assert one.post(content=b"body", expect_continue=True).content == b"got it"
    assert server.connection_count == 1
    assert server.requests[0].header("expect") == "100-continue"
    assert server.requests[1].body == b"body"


def test_many_continues_on_one_connection(client: StartClient, echo: EchoServer) -> None:
    """Interim answers do not add up over the calls on a connection."""
    one = client(echo.address)
    for _ in range(50):
        assert one.post(content=b"body", expect_continue=True).status_code == 200
    assert echo.connection_count == 1


def test_the_server_does_not_want_the_body(client: StartClient, scripted: StartScripted) -> None:
    """A final answer instead of 100 is the answer; the connection is not used again."""
    server = scripted([Receive(body=False), response(417, b"no"), Hold()], [Receive(), response()])
    one = client(server.address)
    answer = one.post(content=b"body", expect_continue=True)
    assert (answer.status_code, answer.content) == (417, b"no")
    assert one.get().status_code == 200
    assert server.connection_count == 2


def test_the_server_never_says_continue(
    client: StartClient, scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the body is sent all the same."""
    monkeypatch.setattr("holdfast.http.exchange.CONTINUE", 0.05)
    server = scripted([Receive(), response(200, b"got it")])
    assert client(server.address).post(content=b"body", expect_continue=True).content == b"got it"
    assert server.requests[0].body == b"body"


def test_the_server_closes_instead_of_continuing(
    client: StartClient, scripted: StartScripted
) -> None:
    """No answer at all is an error."""
    server = scripted([Receive(body=False), Close()])
    with pytest.raises(NetworkError):
        client(server.address).post(content=b"body", expect_continue=True)


def test_waiting_for_continue_ends_at_the_deadline(
    client: StartClient, scripted: StartScripted
) -> None:
    """The time for the whole call holds there, too."""
    server = scripted([Receive(body=False), Hold()])
    with pytest.raises(CallTimeout):
        client(server.address).post(content=b"body", expect_continue=True, timeout=0.1)


# Answers that come before the body was sent.


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
@pytest.mark.parametrize("kind", ["bytes", "iterator"])
def test_an_answer_while_the_body_is_sent(
    client: StartClient, scripted: StartScripted, end: Any, kind: str
) -> None:
    """A server that refuses a long body and closes is heard, and its answer returned."""
    # It reads on for a while: a reset may overtake an answer that is right before it.
    server = scripted(
        [Receive(body=False), response(413, b"too much"), ReceiveBytes(BIG), end],
        [Receive(), response(200, b"ok")],
    )
    # More than the kernels' buffers and what a closing server reads.
    size = 1 << 26
    content: Any = bytes(size) if kind == "bytes" else (bytes(1 << 16) for _ in range(size >> 16))
    one = client(server.address)
    answer = one.post(content=content)
    assert (answer.status_code, answer.content) == (413, b"too much")
    assert one.kept == 0
    assert one.get().content == b"ok"


def test_no_answer_while_the_body_is_sent(client: StartClient, scripted: StartScripted) -> None:
    """A server that resets without an answer is a network error."""
    server = scripted([Receive(body=False), ReceiveBytes(1000), Reset()])
    with pytest.raises(NetworkError) as caught:
        client(server.address).post(content=bytes(BIG))
    assert server.address in str(caught.value)
