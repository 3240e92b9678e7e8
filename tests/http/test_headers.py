"""Headers and targets of requests, and what errors say."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import Cluster, Headers
from holdfast.errors import (
    CallTimeout,
    ConnectError,
    HoldfastError,
    InvalidRequest,
    NetworkError,
    ResolveError,
)
from holdfast.http.origins import basic_auth
from tests.http.clients import BARE, StartClient
from tests.servers import EchoServer, Receive, Repeat, response
from tests.servers.fixtures import StartScripted


def seen(
    client: StartClient, echo: EchoServer, *, call: Any = None, **options: Any
) -> dict[str, str]:
    """Return the headers that a server sees of a call."""
    answer = client(echo.address, **options).get(headers=call)
    return answer.json()["headers"]  # type: ignore[no-any-return]


def test_default_headers(client: StartClient, echo: EchoServer) -> None:
    """Each request names its host, its software and what it can decode, and nothing else."""
    headers = seen(client, echo)
    assert headers.pop("host") == echo.address
    assert headers.pop("user-agent").startswith("holdfast/")
    assert headers.pop("accept") == "*/*"
    assert "gzip" in headers.pop("accept-encoding")
    assert headers == {}


@pytest.mark.parametrize("form", [dict, list, Headers])
def test_headers_of_a_client_and_of_a_call(
    client: StartClient, echo: EchoServer, form: Any
) -> None:
    """A call's headers come before its client's, and those before the defaults, in any case."""
    mine = form([("User-Agent", "mine"), ("X-One", "client"), ("X-Two", "client")])
    call = form([("x-ONE", "call"), ("ACCEPT", "text/html")])
    headers = seen(client, echo, call=call, headers=mine)
    assert headers["user-agent"] == "mine"
    assert headers["x-one"] == "call"
    assert headers["x-two"] == "client"
    assert headers["accept"] == "text/html"


def test_a_host_of_ones_own(client: StartClient, echo: EchoServer) -> None:
    """The Host header may be replaced, and is there once."""
    assert seen(client, echo, call={"host": "virtual.example"})["host"] == "virtual.example"


def test_a_host_of_a_client(client: StartClient, echo: EchoServer) -> None:
    """The client's own Host header replaces the default one, and is there once."""
    assert seen(client, echo, headers={"Host": "virtual.example"})["host"] == "virtual.example"


def test_a_header_more_than_once(client: StartClient, echo: EchoServer) -> None:
    """Pairs may repeat a name."""
    assert seen(client, echo, call=[("X", "1"), ("x", "2")])["x"] == "1, 2"


def test_headers_that_are_not_ascii(client: StartClient, echo: EchoServer) -> None:
    """Latin-1 is sent as such, everything else refused."""
    assert seen(client, echo, call={"X": "é"})["x"] == "é"
    with pytest.raises(InvalidRequest, match="X"):
        seen(client, echo, call={"X": "☃"})


def test_values_that_are_no_strings(client: StartClient, echo: EchoServer) -> None:
    """Numbers are written as such."""
    assert seen(client, echo, call={"X": 5})["x"] == "5"


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nY: b"},
        {"X": "a\nb"},
        {"X": "a\0"},
        {"X\r\nY": "a"},
        {"X Y": "a"},
        {"": "a"},
        {"X:": "a"},
        {"Ü": "a"},
    ],
)
@pytest.mark.parametrize("place", ["client", "call"])
def test_header_injection(
    client: StartClient, echo: EchoServer, headers: dict[str, str], place: str
) -> None:
    """What would be more than one header is refused before anything is sent."""
    mine, call = (headers, None) if place == "client" else (None, headers)
    with pytest.raises(InvalidRequest):
        client(echo.address, headers=mine).get(headers=call)
    assert echo.connection_count == 0


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Expect", "Upgrade"])
def test_headers_that_frame(client: StartClient, echo: EchoServer, name: str) -> None:
    """Framing is not the caller's, or it could be a lie."""
    with pytest.raises(InvalidRequest, match=name.lower()):
        client(echo.address).get(headers={name: "5"})
    with pytest.raises(InvalidRequest, match=name.lower()):
        client(echo.address, headers={name: "5"})
    assert echo.connection_count == 0


@pytest.mark.parametrize("method", ["GET POST", "GET\r\n", "", "GÉT", "GET/", None, 5, b"GET"])
def test_method_injection(client: StartClient, echo: EchoServer, method: Any) -> None:
    """What is no method is refused."""
    with pytest.raises(InvalidRequest):
        client(echo.address).request(method, "/")
    assert echo.connection_count == 0


def test_methods_in_small_letters(client: StartClient, echo: EchoServer) -> None:
    """Methods are written in capitals, as in requests."""
    assert client(echo.address).request("get", "/").json()["method"] == "GET"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/", "/"),
        ("", "/"),
        ("x", "/x"),
        ("/a/b?c=d&e", "/a/b?c=d&e"),
        ("/a b", "/a%20b"),
        ("/ü☃", "/%C3%BC%E2%98%83"),
        ("/%41%2f", "/%41%2f"),
        ("/100%", "/100%"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B|%7D"),
        ("/a#b", "/a"),
        ("/a?b#c", "/a?b"),
        ("?q", "/?q"),
        ("/;:@!$&'()*+,=~-._[]", "/;:@!$&'()*+,=~-._[]"),
        ("//double", "//double"),
        ("/../up", "/../up"),
        ("/at/http://example.com/", "/at/http://example.com/"),
        ("/q?u=http://example.com/", "/q?u=http://example.com/"),
    ],
)
def test_targets(
    blocking_client: StartClient, scripted: StartScripted, path: str, target: str
) -> None:
    """Paths are quoted where they must be, and otherwise left as they are."""
    server = scripted([Repeat([Receive(), response()])])
    one = blocking_client(server.address)
    one.get(path)
    one.get(path, headers={"X": "y"})
    assert [request.target for request in server.requests] == [target, target]


@pytest.mark.parametrize(
    ("path", "params", "target"),
    [
        ("/", {"a": "b c"}, "/?a=b+c"),
        ("/?x", {"a": "b"}, "/?x&a=b"),
        ("/?x=1", [("a", "ü")], "/?x=1&a=%C3%BC"),
        ("/", {}, "/"),
        ("/", {"a": None}, "/"),
        ("/", {"a": "\r\nX: y"}, "/?a=%0D%0AX%3A+y"),
        ("/#f", {"a": 1}, "/?a=1"),
    ],
)
def test_params(
    blocking_client: StartClient, scripted: StartScripted, path: str, params: Any, target: str
) -> None:
    """Parameters are added to the query that is there, quoted."""
    server = scripted([Receive(), response()])
    blocking_client(server.address).get(path, params=params)
    assert server.requests[0].target == target


@pytest.mark.parametrize(
    "path",
    [
        "/\r\nX: y",
        "/\n",
        "/a\0b",
        "/\x7f",
        "\t/",
        "http://other/",
        "HTTPS://other/x",
        None,
        5,
        b"/",
    ],
)
def test_target_injection(client: StartClient, echo: EchoServer, path: Any) -> None:
    """What could be more than a target, or is another host's, is refused."""
    with pytest.raises(InvalidRequest):
        client(echo.address).get(path)
    assert echo.connection_count == 0


@pytest.mark.parametrize(
    ("auth", "value"),
    [
        (("user", "pass:word"), "Basic dXNlcjpwYXNzOndvcmQ="),
        (("üser", "é"), basic_auth("üser", "é")),
        ("t0ken", "Bearer t0ken"),
    ],
)
def test_authentication(client: StartClient, echo: EchoServer, auth: Any, value: str) -> None:
    """A pair is basic, a string bearer authentication."""
    assert seen(client, echo, auth=auth)["authorization"] == value
    assert seen(client, echo, auth=auth, call={"Authorization": "Mine"})["authorization"] == "Mine"


def test_credentials_of_a_host(client: StartClient, echo: EchoServer) -> None:
    """Credentials in a host's URL come before those of the client, and are quoted there."""
    one = client(f"http://us%40er:p%2Fw@{echo.address}", auth="other")
    value = one.get().json()["headers"]["authorization"]
    assert value == basic_auth("us@er", "p/w")


@pytest.mark.parametrize("auth", [5, ("a",), ("a", "b", "c"), b"token", "tok\r\nX: y"])
def test_what_is_no_authentication(auth: Any) -> None:
    """Anything else is refused when the client is made."""
    with pytest.raises(InvalidRequest) as caught:
        Cluster(["name"], auth=auth)
    assert "tok" not in str(caught.value).replace("bearer token", "")


def test_header_mappings() -> None:
    """Headers are a mapping without case that keeps its order and repetitions."""
    headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
    assert headers["a"] == headers["A"] == "1, 3"
    assert headers.get_list("a") == ["1", "3"]
    assert headers.get_list("c") == []
    assert list(headers) == ["a", "b"]
    assert len(headers) == 2
    assert "B" in headers
    assert not headers.__contains__(5)
    assert headers.get("c") is None
    assert dict(headers) == {"a": "1, 3", "b": "2"}
    assert headers.multi_items() == [("A", "1"), ("b", "2"), ("a", "3")]
    with pytest.raises(KeyError):
        headers["c"]
    assert Headers(headers).multi_items() == headers.multi_items()
    assert Headers({"X": "y"})["x"] == "y"
    assert Headers().multi_items() == []


@pytest.mark.parametrize("name", ["Authorization", "proxy-authorization", "COOKIE", "Set-Cookie"])
def test_secrets_are_not_shown(name: str) -> None:
    """The representation of headers has no credentials."""
    headers = Headers([(name, "s3kr3t"), ("X", "shown")])
    assert "s3kr3t" not in repr(headers)
    assert "shown" in repr(headers)


SECRET_HOST = "http://user:s3kr3t@{}"


def _shown(value: Any, depth: int = 0) -> str:
    """Return what a log might show of an error: itself, its causes and its attempts."""
    parts = [str(value), repr(value)]
    if isinstance(value, BaseException) and depth < 5:
        parts += [repr(value.args)]
        parts += [
            _shown(cause, depth + 1) for cause in (value.__cause__, value.__context__) if cause
        ]
        parts += [f"{attempt} {attempt!r}" for attempt in getattr(value, "attempts", ())]
    return " ".join(parts)


def test_secrets_are_in_no_error(
    client: StartClient, scripted: StartScripted, refusing: tuple[str, int]
) -> None:
    """Neither the errors of a client with credentials nor its representation tell them."""
    silent = scripted([Receive()])
    garbage = scripted([Receive(), b"garbage\r\n\r\n"])
    hosts = [f"{refusing[0]}:{refusing[1]}", silent.address, garbage.address, "name.invalid"]
    for host in hosts:
        one = client(
            SECRET_HOST.format(host),
            headers={"Cookie": "s3kr3t", "Proxy-Authorization": "s3kr3t"},
            proxy=None,
        )
        with pytest.raises(HoldfastError) as caught:
            one.get("/path?key=s3kr3t", headers={"Authorization": "s3kr3t"})
        assert host in str(caught.value)
        for shown in (_shown(caught.value), repr(one.cluster), repr(one.cluster.endpoints)):
            assert "s3kr3t" not in shown
            assert basic_auth("user", "s3kr3t")[6:] not in shown


@pytest.mark.parametrize("options", [{"unknown": 1}, {"param": {}}, {"verify": False}])
def test_options_that_do_not_exist(blocking_client: StartClient, options: dict[str, Any]) -> None:
    """A misspelt option is a TypeError that names it."""
    with pytest.raises(TypeError, match=next(iter(options))):
        blocking_client("name").get(**options)


# What errors say: what failed, where, what was tried.

MESSAGES = {
    "refused": (
        ConnectError,
        "GET /p: {host}: connection refused [1 attempt: 1. {host}: connection refused (",
    ),
    "closed": (
        NetworkError,
        "GET /p: {host}: it closed the connection without an answer [1 attempt: 1. {host}: "
        "it closed the connection without an answer (",
    ),
    "silent": (
        CallTimeout,
        "GET /p: {host}: no complete answer before the deadline [1 attempt: 1. {host}: "
        "no complete answer before the deadline (",
    ),
    "short": (
        NetworkError,
        "GET /p: {host}: it closed the connection in the middle of the body (4 of 10 bytes) [1 att",
    ),
    "garbage": (NetworkError, "GET /p: {host}: the answer is not HTTP/1.1: it begins with b'SSH-"),
}

SCRIPTS: dict[str, Any] = {
    "closed": [Receive()],
    "silent": [Receive(), Repeat([Receive()])],
    "short": [Receive(), b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"],
    "garbage": [Receive(), b"SSH-2.0-OpenSSH_9.6\r\n\r\n"],
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(
    client: StartClient, scripted: StartScripted, refusing: tuple[str, int], name: str
) -> None:
    """Errors say what failed, where and what was tried, in the same words on every driver."""
    kind, message = MESSAGES[name]
    host = f"{refusing[0]}:{refusing[1]}" if name == "refused" else scripted(SCRIPTS[name]).address
    with pytest.raises(kind) as caught:
        client(host).get("/p?q", timeout=0.1 if name == "silent" else 10)
    assert str(caught.value).startswith(message.format(host=host))
    assert len(caught.value.attempts) == 1
    assert caught.value.attempts[0].endpoint == host
    assert caught.value.attempts[0].error is not None
    assert caught.value.attempts[0].status is None


def test_the_message_for_an_unknown_name(client: StartClient) -> None:
    """A name that nobody has is an error of its own kind."""
    with pytest.raises(
        ResolveError, match=r"nobody\.invalid.*: the host name is not known \("
    ) as caught:
        client("nobody.invalid").get()
    assert isinstance(caught.value, OSError)
    assert not caught.value.sent


def test_errors_are_what_python_people_expect() -> None:
    """The network is OSError, arguments are ValueError, ours are all HoldfastError."""
    from holdfast import errors

    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, HoldfastError)
        if kind is not HoldfastError:
            assert issubclass(kind, (OSError, ValueError))
        assert kind.__doc__
    assert issubclass(errors.CallTimeout, TimeoutError)
    assert issubclass(errors.ConnectError, ConnectionError)
    assert issubclass(errors.InvalidRequest, ValueError)
    assert BARE.retry is None
