"""Redirects: where the next request goes, and what it carries."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import InvalidRequest, ProtocolError, TooManyRedirects
from tests.http.clients import StartClient
from tests.servers import EchoServer, Receive, Repeat, ScriptedServer, response
from tests.servers.fixtures import StartScripted

CODES = [301, 302, 303, 307, 308]
SECRETS = {"Authorization": "Bearer s3cret", "Cookie": "id=s3cret", "X-Other": "kept"}


def to(location: str, status: int = 302) -> bytes:
    """Return a redirect."""
    return response(status, b"{}", [("Location", location)])


@pytest.fixture
def other() -> Iterator[EchoServer]:
    """Another server than the first."""
    with EchoServer() as server:
        yield server


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods(
    blocking_client: StartClient, scripted: StartScripted, code: int, method: str
) -> None:
    """Methods and bodies change as RFC 9110 15.4 says, and as every browser does."""
    server = scripted(
        [
            Receive(),
            response(code, b"", [("Location", "/next")]),
            Receive(),
            response(),
        ]
    )
    body = {"content": b"body", "headers": {"Content-Type": "x/y", "X": "z"}}
    options: dict[str, Any] = {} if method in ("GET", "HEAD") else body
    answer = blocking_client(server.address).request(method, "/", follow_redirects=True, **options)
    becomes_get = (code == 303 and method != "HEAD") or (code in (301, 302) and method == "POST")
    assert answer.status_code == 200
    first, second = server.requests
    assert first.method == method
    assert second.method == ("GET" if becomes_get else method)
    assert second.target == "/next"
    if options:
        assert first.body == b"body"
        assert second.body == (b"" if becomes_get else b"body")
        assert second.header("content-type") == ("" if becomes_get else "x/y")
        assert second.header("content-length") == ("" if becomes_get else "4")
        assert second.header("x") == "z"
    assert len(answer.history) == 1
    assert answer.history[0].status_code == code


@pytest.mark.parametrize("code", [300, 304, 305, 306, 399, 201])
def test_codes_that_are_not_followed(
    blocking_client: StartClient, scripted: StartScripted, code: int
) -> None:
    """Other codes with a Location are answers."""
    server = scripted(
        [Receive(), to("/next", code).replace(b"{}", b"") if code == 304 else to("/next", code)]
    )
    answer = blocking_client(server.address).get(follow_redirects=True)
    assert (answer.status_code, answer.history) == (code, [])


def test_redirects_are_answers_unless_asked(client: StartClient, echo: EchoServer) -> None:
    """Nothing is followed by default, and one call may differ from its client."""
    one = client(echo.address)
    answer = one.get("/redirect/302?to=/next")
    assert (answer.status_code, answer.is_redirect) == (302, True)
    assert one.get("/redirect/302?to=/next", follow_redirects=True).json()["path"] == "/next"
    follows = client(echo.address, follow_redirects=True)
    assert follows.get("/redirect/302?to=/next").json()["path"] == "/next"
    assert follows.get("/redirect/302?to=/next", follow_redirects=False).status_code == 302


def test_a_redirect_without_a_location(client: StartClient, scripted: StartScripted) -> None:
    """Nowhere to go: it is the answer."""
    server = scripted([Receive(), response(302, b"here")])
    assert client(server.address).get(follow_redirects=True).content == b"here"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/next", "/next"),
        ("next", "/dir/next"),
        ("../next", "/next"),
        ("./next", "/dir/next"),
        ("?q=2", "/dir/here?q=2"),
        ("/a/../next", "/next"),
        ("/next#part", "/next"),
        ("#part", "/dir/here?q=1"),
        ("", "/dir/here?q=1"),
        ("/sp ace/ü", "/sp%20ace/%C3%BC"),
        ("/100%/%41", "/100%/%41"),
        ("//{host}/next", "/next"),
        ("http://{host}/next?a=b", "/next?a=b"),
        ("http://{host}", "/"),
        ("HTTP://{host}/next", "/next"),
        ("/deep/http://example.com/x", "/deep/http://example.com/x"),
    ],
)
def test_places(
    blocking_client: StartClient, scripted: StartScripted, location: str, target: str
) -> None:
    """A location is taken relative to where it came from, on the same connection."""
    server: ScriptedServer
    hosts: list[str] = []

    class Redirect:
        def play(self, connection: Any) -> None:
            place = location.replace("{host}", hosts[0])
            connection.send(
                b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
                + place.encode()
                + b"\r\n\r\n"
            )

    server = scripted([Receive(), Redirect(), Receive(), response()])
    hosts.append(server.address)
    answer = blocking_client(server.address).get("/dir/here?q=1", follow_redirects=True)
    assert answer.status_code == 200
    assert server.requests[1].target == target
    assert server.connection_count == 1


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/base/next", "/base/next"),
        ("next", "/base/next"),
        ("/next", "/next"),
        ("..", "/"),
        ("/base", "/base"),
        ("/baseless", "/baseless"),
    ],
)
def test_places_below_a_base(
    blocking_client: StartClient, scripted: StartScripted, location: str, target: str
) -> None:
    """A host's base path is neither lost nor doubled."""
    server = scripted([Receive(), to(location), Receive(), response()], [Receive(), response()])
    client = blocking_client(
        f"http://{server.address}/base", headers={"Authorization": "Bearer s3cret"}
    )
    answer = client.get("/here", follow_redirects=True)
    assert [request.target for request in server.requests] == ["/base/here", target]
    assert server.requests[1].header("authorization") == "Bearer s3cret"
    assert answer.url == f"http://{server.address}{target}"


def test_another_origin_gets_no_credentials(
    client: StartClient, echo: EchoServer, other: EchoServer
) -> None:
    """Authorization and Cookie stay with the host that they are for, wherever they were set."""
    path = f"/redirect/307?to=http://{other.address}/next"
    given: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"headers": SECRETS}, {}),
        ({}, {"headers": SECRETS}),
        ({"auth": "s3cret"}, {}),
        ({"auth": ("user", "s3cret")}, {}),
    ]
    for options, call in given:
        answer = client(echo.address, **options).get(path, follow_redirects=True, **call)
        headers = answer.json()["headers"]
        assert headers["host"] == other.address
        assert "authorization" not in headers
        assert "cookie" not in headers
        assert headers.get("x-other") == ("kept" if options.get("headers") or call else None)


def test_another_origin_gets_no_credentials_of_a_host(
    client: StartClient, echo: EchoServer, other: EchoServer
) -> None:
    """Credentials in a host's URL stay there, and those in a Location are not believed."""
    one = client(f"http://user:s3cret@{echo.address}")
    assert one.get("/").json()["headers"]["authorization"].startswith("Basic ")
    path = f"/redirect/307?to=http://evil:pw@{other.address}/next"
    assert "authorization" not in one.get(path, follow_redirects=True).json()["headers"]


@pytest.mark.parametrize("place", ["client", "call"])
def test_another_origin_gets_its_own_host(
    client: StartClient, echo: EchoServer, other: EchoServer, place: str
) -> None:
    """A Host header that was set is meant for the host that was called."""
    mine = {"Host": "virtual.example"}
    one = client(echo.address, headers=mine if place == "client" else None)
    path = f"/redirect/307?to=http://{other.address}/next"
    answer = one.get(path, headers=mine if place == "call" else None, follow_redirects=True)
    assert answer.json()["headers"]["host"] == other.address


def test_credentials_do_not_come_back(
    client: StartClient, echo: EchoServer, other: EchoServer
) -> None:
    """A detour over another origin loses the request's own credentials for good."""
    back = f"http://{echo.address}/next"
    path = f"/redirect/307?to=http://{other.address}/redirect/307%3Fto={back}"
    answer = client(echo.address).get(path, headers=SECRETS, follow_redirects=True)
    assert answer.json()["path"] == "/next"
    assert answer.json()["headers"]["host"] == echo.address
    assert "authorization" not in answer.json()["headers"]
    assert len(answer.history) == 2


def test_the_same_origin_keeps_credentials(client: StartClient, echo: EchoServer) -> None:
    """On the same host nothing is dropped."""
    answer = client(echo.address, auth="token").get(
        f"/redirect/302?to=http://{echo.address}/next", headers=SECRETS, follow_redirects=True
    )
    headers = answer.json()["headers"]
    assert headers["authorization"] == "Bearer s3cret"
    assert headers["cookie"] == "id=s3cret"
    assert echo.connection_count == 1


def test_another_port_is_another_origin(
    blocking_client: StartClient, echo: EchoServer, other: EchoServer
) -> None:
    """The same name with another port is trusted no more than another name."""
    answer = blocking_client(f"localhost:{echo.port}").get(
        f"/redirect/302?to=http://localhost:{other.port}/", headers=SECRETS, follow_redirects=True
    )
    assert "cookie" not in answer.json()["headers"]


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit(client: StartClient, scripted: StartScripted, limit: int) -> None:
    """More redirects than allowed are an error that says where it went wrong."""
    server = scripted([Repeat([Receive(), to("/again?secret=1")])])
    with pytest.raises(TooManyRedirects, match=f"more than {limit} redirect") as caught:
        client(server.address).get(follow_redirects=limit)
    assert server.address in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(server.requests) == limit + 1
    assert len(caught.value.attempts) == 1


def test_a_circle(client: StartClient, scripted: StartScripted) -> None:
    """A loop ends at the usual limit, as that of httpx."""
    circle = scripted([Repeat([Receive(), to("/")])])
    with pytest.raises(TooManyRedirects, match="more than 20"):
        client(circle.address).get(follow_redirects=True)
    assert len(circle.requests) == 21


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1",
        "http://[nonsense]/",
        "http://:80/",
        "http://host:port/",
        "http://host:99999/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "mailto:x@example.com",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/containers",
        "unix:/var/run/docker.sock",
        "https://",
        "http://exa mple/",
    ],
)
def test_redirects_to_nowhere(
    blocking_client: StartClient, scripted: StartScripted, location: str
) -> None:
    """A place that cannot be called, or must not, is a protocol error of the server."""
    server = scripted([Receive(), to(location)])
    with pytest.raises(ProtocolError, match="nowhere") as caught:
        blocking_client(server.address).get(follow_redirects=True)
    assert server.address in str(caught.value)


def test_a_server_cannot_send_us_to_a_unix_socket(
    client: StartClient, scripted: StartScripted, tmp_path: Path
) -> None:
    """A host of the network gets nobody to call sockets of this machine."""
    path = tmp_path / "private"
    with EchoServer(path=path) as private:
        place = "http+unix://" + str(path).replace("/", "%2F") + "/"
        server = scripted([Receive(), to(place)])
        with pytest.raises(ProtocolError):
            client(server.address).get(follow_redirects=True)
        assert private.connection_count == 0


def test_redirects_on_a_unix_socket(client: StartClient, tmp_path: Path) -> None:
    """Relative places, and those named after the Host that was sent, are on the same socket."""
    with EchoServer(path=tmp_path / "socket") as server:
        one = client(f"unix:{server.path}", auth="s3cret")
        for place in ("/next", "http://localhost/next"):
            answer = one.get(f"/redirect/302?to={place}", follow_redirects=True)
            assert answer.json()["path"] == "/next"
            assert answer.json()["headers"]["authorization"] == "Bearer s3cret"
        assert server.connection_count == 1


@pytest.mark.parametrize("code", [307, 308])
def test_a_body_that_cannot_be_sent_again(
    client: StartClient, scripted: StartScripted, code: int
) -> None:
    """A redirect that wants the body of an iterator again is an error that says so."""
    server = scripted([Receive(), to("/next", code)])
    with pytest.raises(InvalidRequest, match=f"{code}.*cannot be"):
        client(server.address).post(content=iter([b"body"]), follow_redirects=True)


def test_a_body_that_can_be_sent_again(client: StartClient, scripted: StartScripted) -> None:
    """Files are rewound to where they stood, lists begin again."""
    server = scripted([Repeat([Receive(), to("/next", 307), Receive(), response()])])
    file = io.BytesIO(b"skipbody")
    file.seek(4)
    for content in (file, [b"bo", b"dy"], b"body", "body"):
        answer = client(server.address).post(content=content, follow_redirects=True)
        assert answer.status_code == 200
    assert {request.body for request in server.requests} == {b"body"}


def test_an_iterator_is_no_hindrance_to_a_get(client: StartClient, scripted: StartScripted) -> None:
    """When the body is dropped it need not be sent again."""
    server = scripted([Receive(), to("/next", 303), Receive(), response(200, b"ok")])
    answer = client(server.address).post(content=iter([b"body"]), follow_redirects=True)
    assert answer.content == b"ok"


def test_a_streamed_redirect(client: StartClient, echo: EchoServer) -> None:
    """A stream is that of the last answer."""
    with client(echo.address).stream(
        "GET", "/redirect/302?to=/bytes/100000", follow_redirects=True
    ) as streamed:
        assert len(streamed.read()) == 100_000
        assert len(streamed.response.history) == 1


def test_the_page_of_a_redirect_is_not_the_body(
    client: StartClient, scripted: StartScripted
) -> None:
    """A buffer for the answer need not hold the pages on the way to it."""
    page = response(302, b"<html>moved</html>" * 100, [("Location", "/next")])
    server = scripted([Receive(), page, Receive(), response(200, b"1234")])
    buffer = bytearray(4)
    one = client(server.address)
    assert one.get(follow_redirects=True, into=buffer).content == b"1234"
    assert buffer == b"1234"


def test_many_other_origins_are_not_kept_for_ever(
    blocking_client: StartClient, scripted: StartScripted
) -> None:
    """Connections to where redirects lead are kept for some origins, and closed with the client."""
    targets = [scripted([Repeat([Receive(), response()])]) for _ in range(40)]
    redirects = [step for t in targets for step in (Receive(), to(f"http://{t.address}/"))]
    server = scripted(redirects)
    client = blocking_client(server.address)
    for _ in targets:
        assert client.get(follow_redirects=True).status_code == 200
    for target in targets[:8]:  # the first ones made room for the last
        target.wait_for(partial(is_alone, target))
    assert sum(target.open_connections for target in targets) <= 32
    client.cluster.close()
    for target in targets:
        target.wait_for(partial(is_alone, target))


def is_alone(server: ScriptedServer) -> bool:
    """Tell whether nobody is connected."""
    return server.open_connections == 0


@pytest.mark.parametrize("place", ["client", "call"])
def test_another_origin_gets_the_trace_without_its_baggage(
    client: StartClient, echo: EchoServer, other: EchoServer, place: str
) -> None:
    """Baggage may hold anything; the numbers of a trace, and what vendors add to them, go on."""
    trace = {"traceparent": "00-1-2-01", "tracestate": "ot=th:8"}
    private = {"Baggage": "user=ada", "uberctx-user": "ada", "OT-Baggage-User": "ada"}
    mine = trace | private
    one = client(echo.address, headers=mine if place == "client" else None)
    options: dict[str, Any] = {"headers": mine} if place == "call" else {}
    for to, kept in ((other, trace), (echo, mine)):
        path = f"/redirect/307?to=http://{to.address}/next"
        headers = one.get(path, follow_redirects=True, **options).json()["headers"]
        assert {name: headers.get(name.lower()) for name in mine} == {
            name: kept.get(name) for name in mine
        }
