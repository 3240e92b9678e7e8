"""What requests of a call carry, in every mode, and bodies that run out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.calls import Call, Http, RoundRobin
from holdfast.errors import InvalidRequest
from tests.calls.modes import Script
from tests.calls.test_behaviour import OK, status, unavailable
from tests.servers import Close, EchoServer, Receive, Reset, response
from tests.servers import Script as Steps
from tests.servers.fixtures import StartScripted


def told(call: Call, method: str = "PUT", url: str = "/x", **options: Any) -> Script:
    """Return what an echo server has understood."""
    answer = yield call.http.request(method, url, **options)
    body = answer.json()
    return (yield body) if hasattr(answer, "deliverBody") else body


def send(call: Call, source: Any) -> Script:
    """Send what was given to the function."""
    answer = yield call.http.request("PUT", "/x", data=source)
    if hasattr(answer, "deliverBody"):
        yield answer.content()
    return answer


@pytest.mark.parametrize(
    "headers",
    [
        {"X-One": ["1", "2"], "X-Two": b"b"},
        {b"X-One": [b"1", b"2"], b"X-Two": ("b",)},
        [("X-One", "1"), ("X-One", "2"), (b"X-Two", b"b")],
    ],
)
def test_headers(mode: Any, echo: EchoServer, headers: Any) -> None:
    """Header fields are strings or bytes, and a list of values is a field for each."""

    def script() -> Script:
        function = mode.make(told, load_balancer=lambda: ("http", echo.address))
        found = (yield function(headers=headers))["headers"]
        assert (found["x-one"], found["x-two"]) == ("1, 2", "b")

    mode.run(script)


def test_headers_of_twisted(mode: Any, echo: EchoServer) -> None:
    """The headers of Twisted's are headers in every mode."""
    from twisted.web.http_headers import Headers

    def script() -> Script:
        function = mode.make(told, load_balancer=lambda: ("http", echo.address))
        found = (yield function(headers=Headers({"X-One": ["1", "2"]})))["headers"]
        assert found["x-one"] == "1, 2"

    mode.run(script)


@pytest.mark.parametrize("headers", [{"X": None}, {"X": {}}, 3, ["ab", "cde"], {"X\r\nY": "1"}])
def test_headers_that_are_none(mode: Any, echo: EchoServer, headers: Any) -> None:
    """What makes no header is refused, instead of being sent as some text."""

    def script() -> Script:
        function = mode.make(told, load_balancer=lambda: ("http", echo.address))
        with pytest.raises(InvalidRequest):
            yield function(headers=headers)

    mode.run(script)
    assert echo.request_count == 0


def test_one_authorization(mode: Any, echo: EchoServer) -> None:
    """``auth`` takes the place of a header of that name, it does not stand beside it."""

    def script() -> Script:
        function = mode.make(told, load_balancer=lambda: ("http", echo.address))
        found = yield function(headers={"authorization": "other"}, auth=("u", "p"))
        assert found["headers"]["authorization"] == "Basic dTpw"

    mode.run(script)


def test_credentials_of_a_url(mode: Any, echo: EchoServer) -> None:
    """A URL's user and password are sent as a header, and never looked up as a host."""

    def script() -> Script:
        function = mode.make(told)
        found = yield function(url=f"http://u:p@{echo.address}/x")
        assert found["headers"]["authorization"] == "Basic dTpw"

    mode.run(script)


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("/a%2Fb?q=a%26b&c=100%25&plus=a+b&s=a%20b", {}),
        ("/ü x?z=[é]#fragment", {}),
        ("//name/x", {}),
        ("?q=1", {"params": [("r", "2"), ("r", "3")]}),
        ("/", {"params": {"a": 1, "b": True, "c": None, "d": ["x", "y"]}}),
        ("/", {"data": {"a": 1, "b": True, "c": None, "d": ["x", "y"]}}),
        ("/", {"data": [("a", "ü &"), ("a", "2")]}),
        ("/", {"data": "é"}),
    ],
)
def test_the_same_in_every_mode(
    echo: EchoServer, target: str, options: dict[str, Any], mode: Any
) -> None:
    """Targets, parameters and forms mean the same in every mode."""
    from holdfast import Cluster

    with Cluster([echo.address]) as cluster:
        path, mark, query = target.partition("?")
        expected = cluster.request("PUT", f"{path or '/'}{mark}{query}", **options).json()

    def script() -> Script:
        function = mode.make(told, load_balancer=lambda: ("HTTP", echo.address))
        found = yield function(url=target, **options)
        for name in ("path", "query", "body"):
            assert found[name] == expected[name]
        kind = "content-type"
        assert found["headers"].get(kind) == expected["headers"].get(kind)

    mode.run(script)


@pytest.mark.parametrize("wrong", [{"method": b"GET"}, {"method": "G T"}, {"data": io.StringIO()}])
def test_wrong_requests(mode: Any, echo: EchoServer, wrong: Any) -> None:
    """What is no request is the caller's error in every mode."""

    def script() -> Script:
        function = mode.make(told, load_balancer=lambda: ("http", echo.address))
        with pytest.raises(InvalidRequest):
            yield function(**wrong)

    mode.run(script)
    assert echo.request_count == 0


def test_http_of_an_agent(mode: Any, echo: EchoServer) -> None:
    """`Http` made of a call's agent goes where the call goes."""

    def work(call: Call) -> Script:
        http = Http(call.agent, call.reactor)
        answer = yield http.request("GET", "/x", persistent=False)
        body = answer.json()
        return (yield body) if hasattr(answer, "deliverBody") else body

    def script() -> Script:
        function = mode.make(work, load_balancer=lambda: ("http", echo.address))
        assert (yield function())["headers"]["connection"] == "close"

    mode.run(script)


def test_a_file_is_sent_again_as_a_whole(mode: Any, scripted: StartScripted) -> None:
    """A further attempt sends a file from where it stood, or there is none: never the rest."""
    server = scripted(unavailable(), OK)
    file = io.BytesIO(b"--content")
    file.seek(2)

    def script() -> Script:
        function = mode.make(send, load_balancer=lambda: ("http", server.address))
        code = status((yield function(file)))
        # Twisted closes the files that it has sent.
        assert code == (503 if mode.name == "twisted" else 200)

    mode.run(script)
    assert {request.body for request in server.requests} == {b"content"}


def test_a_file_goes_elsewhere(mode: Any, echo: EchoServer, refusing: tuple[str, int]) -> None:
    """A file of which nothing was read is sent by the next attempt, in every mode."""
    dead = "{}:{}".format(*refusing)

    def script() -> Script:
        function = mode.make(send, load_balancer=RoundRobin([dead, echo.address]))
        assert status((yield function(io.BytesIO(b"content")))) == 200

    mode.run(script)


def pieces() -> Iterator[bytes]:
    """Yield a body."""
    yield b"con"
    yield b"tent"


@pytest.fixture(params=["sync", "asyncio"])
def own(request: pytest.FixtureRequest) -> Any:
    """Give each mode of our own HTTP."""
    from tests.calls.modes import MODES

    return MODES[request.param]()


def test_an_iterator_is_not_sent_again(own: Any, scripted: StartScripted) -> None:
    """An iterator that was given to the function is used up: its error is the call's."""
    server = scripted([Receive(), Reset()], OK)

    def script() -> Script:
        function = own.make(send, load_balancer=lambda: ("http", server.address))
        with pytest.raises(ConnectionError) as caught:
            yield function(pieces())
        assert "cannot be sent again" in str(caught.value.__notes__)

    own.run(script)
    assert len(server.requests) == 1


def test_an_iterator_of_each_attempt(own: Any, scripted: StartScripted) -> None:
    """An iterator that the function makes is one for each attempt."""
    server = scripted([Receive(), Close()], OK)

    def make(call: Call) -> Script:
        return (yield from send(call, pieces()))

    def script() -> Script:
        function = own.make(make, load_balancer=lambda: ("http", server.address))
        assert status((yield function())) == 200

    own.run(script)
    assert len(server.requests) == 2


def test_an_iterator_from_elsewhere(own: Any, scripted: StartScripted) -> None:
    """The rest of an iterator is never sent as if it were the whole."""
    server = scripted([Receive(), Close()], OK)
    shared = pieces()

    def make(call: Call) -> Script:
        return (yield from send(call, shared))

    def script() -> Script:
        function = own.make(make, load_balancer=lambda: ("http", server.address))
        with pytest.raises(InvalidRequest, match="used up"):
            yield function()

    own.run(script)
    assert len(server.requests) == 1


def test_redirects_free_their_connections(mode: Any, scripted: StartScripted) -> None:
    """The large body of a redirect does not keep its connection."""
    long = b"x" * 1_000_000
    moved: Steps = [Receive(), response(302, long, [("Location", "/there")])]
    server = scripted([*moved, Receive(), response(200, b"")], OK)

    def get(call: Call) -> Script:
        answer = yield call.http.request("GET", "/x")
        if hasattr(answer, "deliverBody"):
            yield answer.content()
            previous = answer.original.previousResponse
            assert previous._state != "INITIAL"
        return answer

    def script() -> Script:
        function = mode.make(get, load_balancer=lambda: ("http", server.address))
        assert status((yield function())) == 200

    mode.run(script)
