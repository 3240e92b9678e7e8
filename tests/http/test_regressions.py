"""Defects that were found once, at the level of one exchange: each must not come back."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import threading
from array import array
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

import pytest

from holdfast import Breaker, Limit, Policy, Retry, Timeout
from holdfast.errors import (
    CallTimeout,
    DeadlineExceeded,
    DecodingError,
    InvalidRequest,
    NetworkError,
    ReadTimeout,
    Truncated,
)
from holdfast.wire.http1 import encode_chunk
from tests.conformance.drivers import LOOPS
from tests.http.clients import KINDS, Client, StartClient
from tests.http.test_kept_connections import Clock
from tests.rest.faces import KINDS as FACES
from tests.rest.faces import Face
from tests.servers import (
    Certificates,
    Close,
    EchoServer,
    Hold,
    Receive,
    Repeat,
    Wait,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted

LONG = 10.0

BIG = b"x" * 100_000

GOOD = Repeat([Receive(), response(200, b"good")])

#: A host that one failure closes, and one slot: what is lost or blamed is seen at once.
STRICT = Policy(timeout=LONG, budget=None, breaker=Breaker(failures=1), limit=Limit(1))


def health(client: Client) -> tuple[str, int, int]:
    """Return the circuit's state, the failures in a row and the slots in use."""
    (endpoint,) = client.cluster.endpoints
    return endpoint.breaker.state, endpoint.health.failures, endpoint.in_flight


# --- connections that must not be used again --------------------------------------------------


@pytest.mark.parametrize("warm", [False, True])
def test_an_unknown_coding(client: StartClient, scripted: StartScripted, warm: bool) -> None:
    """A body that cannot be decoded leaves no closed connection behind."""
    bad = response(200, b"zz", [("Content-Encoding", "foo")])
    first: list[Any] = [Receive(), response(200, b"good")] if warm else []
    server = scripted([*first, Receive(), bad, GOOD], [GOOD])
    one = client(server.address)
    for _ in first[1:]:
        assert one.get().content == b"good"
    with pytest.raises(DecodingError, match="foo"):
        one.get()
    assert one.kept <= 1
    for _ in range(3):
        assert one.get().content == b"good"
        assert one.kept == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("how", ["whole", "into", "stream"])
@pytest.mark.parametrize("tls", [False, True])
def test_surplus_after_a_long_body(
    client: StartClient,
    scripted: StartScripted,
    certificates: Certificates,
    method: str,
    how: str,
    tls: bool,
) -> None:
    """What follows a body that went past the parser is nobody's answer."""
    both = response(200, BIG) + response(200, b"surplus")
    context = certificates.server_context() if tls else None
    server = scripted([Receive(), both, GOOD], [GOOD], tls=context)
    host = f"https://localhost:{server.port}" if tls else server.address
    one = client(host, verify=str(certificates.ca_file) if tls else True)
    if how == "stream":
        with one.stream("GET", "/") as streamed:
            assert streamed.read() == BIG
    else:
        into: Any = {"into": bytearray(len(BIG))} if how == "into" else {}
        assert one.get(**into).content == BIG
    options: Any = {"content": b"a"} if method == "POST" else {}
    for _ in range(2):
        assert one.request(method, "/", **options).content == b"good"


def test_what_is_idle_for_too_long(client: StartClient, echo: EchoServer) -> None:
    """Connections that nobody takes are closed when another one is given back."""
    clock = Clock()
    one = client(echo.address, idle_timeout=10.0, clock=clock)
    with one.stream("GET", "/") as a, one.stream("GET", "/") as b, one.stream("GET", "/") as c:
        for streamed in (a, b, c):
            streamed.read()
    assert one.kept == 3
    for _ in range(2):
        clock.ahead += 8.0
        one.get()
    assert one.kept == 1
    one.rest()
    echo.wait_for(lambda: echo.open_connections == 1)
    assert echo.connection_count == 3


@pytest.mark.parametrize("idempotent", [None, False])
def test_a_get_that_is_not_idempotent(
    client: StartClient, scripted: StartScripted, idempotent: bool | None
) -> None:
    """On a connection that turns out to be closed it is not sent again, unlike an ordinary one."""
    server = scripted([Receive(), response(200, b"good"), Receive(), Close()], [GOOD])
    one = client(server.address)
    assert one.get("/first").content == b"good"
    if idempotent is None:
        assert one.get("/second").content == b"good"
    else:
        with pytest.raises(NetworkError):
            one.get("/second", idempotent=False)
    targets = [request.target for request in server.requests]
    assert targets == ["/first", "/second"] + ["/second"] * (idempotent is None)


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n{}"],
    ids=["HTTP/1.0", "up to the end"],
)
def test_pipelined_posts_are_not_repeated(
    kind: str, scripted: StartScripted, answer: bytes
) -> None:
    """A server that just closes may have carried the second one out."""
    server = scripted([Receive(), Receive(), answer, Close()], [GOOD])
    with Face(kind) as face:
        answers = face.resource(server.address).multicall(("POST", "/a", {}), ("POST", "/b", {}))
        assert next(answers).status == 200
        with pytest.raises(NetworkError):
            next(answers)
    assert [request.target for request in server.requests] == ["/a", "/b"]


@pytest.mark.parametrize("kind", FACES)
def test_pipelined_posts_after_a_last_answer(kind: str, scripted: StartScripted) -> None:
    """A server that says `Connection: close` has carried nothing else out."""
    last = response(200, b"{}", [("Connection", "close")])
    server = scripted([Receive(), Receive(), last, Close()], [Receive(), response(200, b"{}")])
    with Face(kind) as face:
        answers = face.resource(server.address).multicall(("POST", "/a", {}), ("POST", "/b", {}))
        assert [answer.status for answer in answers] == [200, 200]
    assert [request.target for request in server.requests] == ["/a", "/b", "/b"]


# --- bodies of requests -----------------------------------------------------------------------


class BrokenFile(io.RawIOBase):
    """A file that cannot be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        raise self._error


def broken_iterator(error: Exception) -> Iterator[bytes]:
    """Yield a piece and raise."""
    yield b"a"
    raise error


async def broken_async_iterator(error: Exception) -> AsyncIterator[bytes]:
    """Yield a piece and raise."""
    yield b"a"
    raise error


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError("mine"), OSError("disk"), ValueError("mine"), TimeoutError("mine")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("kind", "source"),
    [
        *[(kind, source) for kind in KINDS for source in (broken_iterator, BrokenFile)],
        *[(kind, broken_async_iterator) for kind in LOOPS],
    ],
)
def test_errors_of_the_callers_source(
    scripted: StartScripted, kind: str, source: Any, error: Exception
) -> None:
    """They come out at once and as they are, and are not the host's fault."""
    server = scripted([Receive(body=False), Hold()])
    with Client(kind, server.address, policy=STRICT) as one:
        began = monotonic()
        with pytest.raises(type(error)) as caught:
            one.post(content=source(error))
        assert caught.value is error
        assert monotonic() - began < LONG / 2
        assert health(one) == ("closed", 0, 0)
        assert one.kept == 0
        one.rest()
        server.wait_for(lambda: server.connection_count == 1 and not server.open_connections)
    assert server.connection_count == 1


@pytest.mark.parametrize("kind", LOOPS)
def test_an_asynchronous_source_that_hangs(scripted: StartScripted, kind: str) -> None:
    """The deadline of the call ends the wait for the caller's own source."""

    async def hangs() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.get_running_loop().create_future()

    server = scripted([Receive(body=False), Hold()])
    with Client(kind, server.address) as one:
        began = monotonic()
        with pytest.raises(DeadlineExceeded):
            one.post(content=hangs(), timeout=0.1)
        assert 0.1 <= monotonic() - began < 2
        assert one.kept == 0


def test_items_wider_than_a_byte(client: StartClient, echo: EchoServer) -> None:
    """A chunk has the length of its bytes, not of its items."""
    numbers = array("I", [1, 2, 3])
    assert len(memoryview(numbers).cast("B")) != len(numbers)
    one = client(echo.address)
    for content in ([memoryview(numbers)], memoryview(numbers), [memoryview(b"abcdef")[::2]]):
        seen = one.post(content=content).json()
        whole = content if isinstance(content, memoryview) else content[0]
        assert seen["sha256"] == hashlib.sha256(whole.tobytes()).hexdigest()
        assert seen["length"] == whole.nbytes
    assert bytes(encode_chunk(memoryview(numbers).cast("B"))).startswith(b"c\r\n")


def test_an_upload_that_is_not_read(client: StartClient, scripted: StartScripted) -> None:
    """Without a total, the read limit ends a wait for the peer to take more."""
    server = scripted([Receive(body=False), Hold()])
    one = client(server.address)
    began = monotonic()
    with pytest.raises(ReadTimeout):
        one.post(content=bytes(1 << 25), timeout=Timeout(total=None, read=0.2))
    assert 0.2 <= monotonic() - began < 5
    assert one.kept == 0


# --- bodies of answers ------------------------------------------------------------------------


def test_the_readers_pauses_are_not_the_hosts(client: StartClient, scripted: StartScripted) -> None:
    """The least bandwidth counts the waiting, not what the reader does in between."""
    clock = Clock()
    gate = threading.Event()
    head = response_head(200, [("Content-Length", "5")])
    server = scripted([Receive(), head + b"he", Wait(gate), b"llo", Hold()])
    one = client(server.address, clock=clock)
    timeout = Timeout(LONG, min_bandwidth=1000)
    with one.stream("GET", "/", timeout=timeout) as streamed:
        pieces = streamed.pieces()
        assert next(pieces) == b"he"
        clock.ahead += 100.0
        gate.set()
        assert b"".join(pieces) == b"llo"


@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip"])
def test_a_bomb_comes_in_small_pieces(
    client: StartClient, scripted: StartScripted, coding: str
) -> None:
    """However much a small piece decodes to, it is not decoded at once."""
    size = 1 << 24
    body = bytes(size)
    for _ in coding.split(","):
        body = gzip.compress(body)
    server = scripted([Receive(), response(200, body, [("Content-Encoding", coding)])])
    with client(server.address).stream("GET", "/") as streamed:
        sizes = [len(piece) for piece in streamed.pieces()]
    assert sum(sizes) == size
    assert max(sizes) <= 1 << 20


def test_reading_a_truncated_body_whole(client: StartClient, scripted: StartScripted) -> None:
    """A streamed body that ends too early counts against the host, also when read at once."""
    head = response_head(200, [("Content-Length", "100")])
    server = scripted([Receive(), head + b"abc", Close()])
    one = client(server.address, policy=STRICT)
    with one.stream("GET", "/") as streamed, pytest.raises(Truncated):
        streamed.read()
    assert health(one) == ("open", 1, 0)


def test_pieces_after_reading(client: StartClient, echo: EchoServer) -> None:
    """A body that was read whole can still be iterated over."""
    one = client(echo.address)
    with one.stream("GET", "/bytes/10") as streamed:
        whole = streamed.read()
        assert list(streamed.pieces()) == [whole]
        assert list(streamed.pieces(4)) == [whole[:4], whole[4:8], whole[8:]]


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("size", [0, -1])
def test_pieces_of_no_size(client: StartClient, echo: EchoServer, size: int, read: bool) -> None:
    """Pieces of nothing would never end."""
    one = client(echo.address)
    with one.stream("GET", "/bytes/10") as streamed:
        if read:
            streamed.read()
        with pytest.raises(InvalidRequest):
            next(streamed.pieces(size))
    with pytest.raises(InvalidRequest):
        next(one.get("/bytes/10").iter_bytes(size))


@pytest.mark.parametrize(
    "charset", ["idna", "undefined", "rot13", "unicode_escape", "utf-7", "punycode", "hex"]
)
def test_odd_character_sets(
    blocking_client: StartClient, scripted: StartScripted, charset: str
) -> None:
    """A text in a character set that is none, or cannot be decoded, is a text all the same."""
    kind = [("Content-Type", f"text/plain; charset={charset}")]
    server = scripted([Receive(), response(200, b"\xffab.c\xffd", kind)])
    assert isinstance(blocking_client(server.address).get().text, str)


def test_a_no_break_space_in_a_header(
    blocking_client: StartClient, scripted: StartScripted
) -> None:
    """A byte that is a space in Latin-1 alone is part of the value."""
    raw = "voilà".encode()
    assert raw.endswith(b"\xa0")
    head = b"HTTP/1.1 200 OK\r\nX: " + raw + b"\r\nContent-Length: 0\r\n\r\n"
    server = scripted([Receive(), head])
    got = blocking_client(server.address).get()
    assert got.headers["x"].encode("latin-1") == raw
    assert (b"x", raw) in [(name.lower(), value) for name, value in got.raw_headers]


def test_answers_do_not_share_what_can_be_changed(client: StartClient, echo: EchoServer) -> None:
    """What a caller does to the headers of an answer or of its request changes no other."""
    one = client(echo.address)
    first = one.get("/x")
    count = len(first.raw_headers)
    first.raw_headers.clear()
    assert len(first.raw_headers) == len(one.get("/x").raw_headers) == count
    assert not isinstance(first.request.headers, list)
    mine = [("X-Mine", "1")]
    changed: Any = one.get("/x", headers=mine).request.headers
    if isinstance(changed, list):
        changed.clear()
    assert mine == [("X-Mine", "1")]
    assert one.get("/x", headers=mine).json()["headers"]["x-mine"] == "1"
    assert "x-mine" not in one.get("/x").json()["headers"]


# --- what is asked for ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/\ud800", ["x"], 7, None, b"/x", {"a": 1}], ids=repr)
@pytest.mark.parametrize("options", [{}, {"params": {"a": 1}}], ids=["bare", "params"])
def test_what_is_no_path(
    client: StartClient, refusing: tuple[str, int], path: Any, options: Any
) -> None:
    """It is an error of ours, before anything is sent."""
    one = client(f"{refusing[0]}:{refusing[1]}")
    with pytest.raises(InvalidRequest):
        one.request("GET", path, **options)
    with pytest.raises(InvalidRequest):
        one._finish(one.cluster.get(path, **options))


def test_a_query_as_a_string(client: StartClient, echo: EchoServer) -> None:
    """Parameters may be a query already."""
    one = client(echo.address)
    assert one.get("/x", params="a=1&b=2").json()["query"] == {"a": ["1"], "b": ["2"]}
    assert one.get("/x?c=3", params="a=1").json()["query"] == {"c": ["3"], "a": ["1"]}


@pytest.mark.parametrize("method", ["CONNECT", "connect"])
def test_connect_is_refused(client: StartClient, refusing: tuple[str, int], method: str) -> None:
    """A tunnel is no call: its answer would never end."""
    with pytest.raises(InvalidRequest):
        client(f"{refusing[0]}:{refusing[1]}").request(method, "/x")


def test_a_url_inside_a_path(blocking_client: StartClient, echo: EchoServer) -> None:
    """A path may contain what looks like a URL, even when it has to be quoted."""
    one = blocking_client(echo.address)
    for path in ("/a b/http://x/", "/a/http://x/", "a b/http://x/"):
        assert one.get(path).json()["path"] == "/" + path.removeprefix("/")


def test_the_options_of_a_server(client: StartClient, scripted: StartScripted) -> None:
    """`OPTIONS *` asks the server itself, also where calls go below a base."""
    server = scripted([GOOD])
    one = client(f"http://{server.address}/base")
    assert one.request("OPTIONS", "*").content == b"good"
    assert one.get("/x").content == b"good"
    assert [request.target for request in server.requests] == ["*", "/base/x"]


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["call", "client"])
def test_a_timeout_without_a_total(
    client: StartClient, scripted: StartScripted, where: str
) -> None:
    """A `Timeout` that says nothing of the total leaves the policy's."""
    server = scripted([Receive(), Hold()])
    policy = Policy(timeout=0.1, retry=None)
    limits: Any = {"timeout": Timeout(read=LONG)}
    one = client(server.address, policy=policy, **(limits if where == "client" else {}))
    began = monotonic()
    with pytest.raises(DeadlineExceeded):
        one.get(**(limits if where == "call" else {}))
    assert 0.1 <= monotonic() - began < 2


def test_a_client_with_a_timeout(client: StartClient, scripted: StartScripted) -> None:
    """A number is taken by a client as it is by a call."""
    server = scripted([Receive(), Hold()])
    with pytest.raises(CallTimeout):
        client(server.address, policy=Policy(retry=None), timeout=0.1).get()
    server = scripted([GOOD])
    assert client(server.address, timeout=2.0).get().content == b"good"


def test_a_retry_is_not_for_the_callers_errors(
    client: StartClient, scripted: StartScripted
) -> None:
    """A source that could be read again is not asked again when it raised."""
    asked = []

    class Source:
        def __iter__(self) -> Iterator[bytes]:
            asked.append(1)
            raise OSError("disk")

    server = scripted([Receive(body=False), Hold()])
    one = client(server.address, policy=Policy(timeout=LONG, retry=Retry(attempts=3)))
    with pytest.raises(OSError, match="disk"):
        one.request("PUT", "/", content=Source())
    assert len(asked) <= 2  # once to see whether it is an iterator
