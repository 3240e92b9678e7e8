"""One host and one connection: its names, its methods, its redirects."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast import HoldfastError, Timeout
from holdfast.errors import (
    CertificateError,
    DeadlineExceeded,
    InvalidRequest,
    ReadTimeout,
    TooManyRedirects,
)
from holdfast.rest import ResponseError
from tests.rest.faces import Face
from tests.servers import (
    Certificates,
    Connection,
    EchoServer,
    Hold,
    ProxyServer,
    Receive,
    json_response,
    response,
)
from tests.servers.fixtures import StartScripted

VERBS = ["get", "delete", "post", "put", "patch"]


# --- hosts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["{0.host}:{0.port}", "localhost:{0.port}", "http://{0.host}:{0.port}", "{0.url}/"]
)
def test_a_host_in_one_string(face: Face, echo: EchoServer, form: str) -> None:
    """A host is named with its port, by a name, or as a URL."""
    assert face.resource(form.format(echo)).get("/x")["path"] == "/x"


def test_a_host_and_its_port(face: Face, echo: EchoServer) -> None:
    """The port may stand beside the host."""
    assert face.resource("127.0.0.1", echo.port).get("/x")["path"] == "/x"
    described = face.resource("localhost", port=echo.port).get("/x")
    assert described["headers"]["host"] == f"localhost:{echo.port}"


def test_a_name_alone_has_the_usual_port(face: Face, forward_proxy: ProxyServer) -> None:
    """A host without a port is called on the scheme's."""
    resource = face.resource("127.0.0.1", proxy=forward_proxy.url)
    resource.call("GET", "/x")
    assert [request.target for request in forward_proxy.requests] == ["http://127.0.0.1/x"]
    assert forward_proxy.requests[0].header("host") == "127.0.0.1"


def test_paths_are_below_the_base(face: Face, echo: EchoServer) -> None:
    """The path of a URL stands before that of each request."""
    resource = face.resource(f"{echo.url}/base/path/")
    assert resource.get("/x")["path"] == "/base/path/x"
    assert resource.post("/y", [1])["path"] == "/base/path/y"


def test_https_with_a_base(face: Face, certificates: Certificates) -> None:
    """A URL with https is called through TLS, its certificate is checked, its base is kept."""
    with EchoServer(tls=certificates.server_context()) as server:
        url = f"https://localhost:{server.port}/base"
        described = face.resource(url, verify=str(certificates.ca_file)).get("/x", a=1)
        assert described["path"] == "/base/x"
        assert described["tls"]["server_name"] == "localhost"
        with pytest.raises(CertificateError) as caught:
            face.resource(url).get("/x")
    assert isinstance(caught.value, OSError)


def test_a_url_and_a_port(face: Face, certificates: Certificates, echo: EchoServer) -> None:
    """The port may stand beside a URL, too, and belongs to its host."""
    assert face.resource("http://127.0.0.1/base", echo.port).get("/x")["path"] == "/base/x"
    with EchoServer(tls=certificates.server_context()) as server:
        resource = face.resource(
            "https://user:word@localhost/base", server.port, verify=str(certificates.ca_file)
        )
        described = resource.get("/x")
    assert described["path"] == "/base/x"
    assert described["headers"]["authorization"] == "Basic dXNlcjp3b3Jk"


@pytest.mark.parametrize("host", ["127.0.0.1:80", "http://127.0.0.1:80/base", "[::1]:80"])
def test_a_port_is_named_once(face: Face, host: str) -> None:
    """Two ports are an error, not a choice."""
    with pytest.raises(InvalidRequest, match="port"):
        face.resource(host, 81)


@pytest.mark.parametrize(
    ("host", "apart"),
    [("[::1]:{}", False), ("http://[::1]:{}", False), ("::1", True), ("[::1]", True)],
)
def test_ipv6(face: Face, host: str, apart: bool) -> None:
    """An address of IPv6 goes with brackets, and without where its port stands beside it."""
    with EchoServer("::1") as server:
        resource = (
            face.resource(host, server.port) if apart else face.resource(host.format(server.port))
        )
        assert resource.get("/x")["headers"]["host"] == f"[::1]:{server.port}"


@pytest.mark.parametrize("host", ["", "a b", "ftp://h", "h:port", "h:0", "h?q", "http://", None])
def test_what_is_no_host(face: Face, host: Any) -> None:
    """A string that names no host is refused at once."""
    with pytest.raises(InvalidRequest):
        face.resource(host)


def test_strict_means_nothing(face: Face, echo: EchoServer) -> None:
    """Strictness may be asked for and changes nothing."""
    for strict in (None, False, True):
        assert face.resource(echo.host, echo.port, strict).get("/x")["path"] == "/x"


# --- time limits and addresses ----------------------------------------------------------------


def test_a_time_limit(face: Face, scripted: StartScripted) -> None:
    """A call that takes longer than the time limit raises a TimeoutError that is an OSError."""
    server = scripted([Receive(), Hold()])
    with pytest.raises(DeadlineExceeded) as caught:
        face.resource(server.host, server.port, None, 0.05).get("/")
    assert isinstance(caught.value, (TimeoutError, OSError))
    assert server.address in str(caught.value)
    server.wait_for(lambda: server.open_connections == 0)


@pytest.mark.parametrize("timeout", [(1, 0.05), Timeout(read=0.05)])
def test_a_limit_of_silence(face: Face, scripted: StartScripted, timeout: Any) -> None:
    """A pair, or a `Timeout`, limits each wait."""
    server = scripted([Receive(), Hold()])
    with pytest.raises(ReadTimeout):
        face.resource(server.address, timeout=timeout).get("/")


def test_no_time_limit(face: Face, echo: EchoServer) -> None:
    """None is no limit."""
    assert face.resource(echo.address, timeout=None).get("/x")["path"] == "/x"


@pytest.mark.parametrize("timeout", [0, -1, "soon"])
def test_what_is_no_time_limit(face: Face, timeout: Any) -> None:
    """A time limit that is no positive number is refused at once."""
    with pytest.raises(ValueError, match="positive"):
        face.resource("h", timeout=timeout)


@dataclass
class NotePeer:
    """Note where the client comes from."""

    peers: list[str] = field(default_factory=list)

    def play(self, connection: Connection) -> None:
        """Ask the socket."""
        self.peers.append(connection.sock.getpeername()[0])


def test_the_local_address(face: Face, scripted: StartScripted) -> None:
    """Connections come from the source address that was asked for."""
    note = NotePeer()
    server = scripted([note, Receive(), json_response(1)])
    assert face.resource(server.address, source_address=("127.0.0.2", 0)).get("/") == 1
    assert note.peers == ["127.0.0.2"]


def test_an_address_of_somebody_else(face: Face, echo: EchoServer) -> None:
    """A source address that this machine does not have is an OSError that names the host."""
    resource = face.resource(echo.address, source_address=("192.0.2.1", 0))
    with pytest.raises(OSError, match=echo.address) as caught:
        resource.get("/")
    assert isinstance(caught.value, HoldfastError)
    assert isinstance(caught.value.__cause__, HoldfastError)
    assert getattr(caught.value.__cause__.__cause__, "errno", None) == errno.EADDRNOTAVAIL


# --- methods ----------------------------------------------------------------------------------


def test_one_connection_is_kept(face: Face, echo: EchoServer) -> None:
    """All calls go over one connection, whatever their outcome."""
    resource = face.resource(echo.address)
    for path in ("/a", "/status/500", "/status/204", "/bytes/100000", "/chunked/100000"):
        resource.call("GET", path)
        resource.call("POST", path, {"a": 1})
        resource.call("HEAD", path)
    assert (echo.connection_count, echo.request_count) == (1, 15)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
def test_a_body_is_json(face: Face, echo: EchoServer, method: str) -> None:
    """A body that is not None goes as JSON, with any method."""
    resource = face.resource(echo.address)
    bodies: list[Any] = [{"a": [1, "ü"]}, [], 0, False, ""]
    for body in bodies:
        described = resource.call(method, "/x", body)()
        assert (described["method"], described["body"]) == (method, body)
        assert described["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_no_body(face: Face, echo: EchoServer, method: str) -> None:
    """None is no body, and has no type."""
    described = face.resource(echo.address).call(method, "/x")()
    assert (described["method"], described["length"]) == (method, 0)
    assert "content-type" not in described["headers"]


def test_a_body_that_is_no_json(face: Face, echo: EchoServer) -> None:
    """What JSON cannot hold is refused before anything is sent."""
    with pytest.raises(InvalidRequest, match="JSON"):
        face.resource(echo.address).post("/x", object())
    assert echo.connection_count == 0


@pytest.mark.parametrize(
    "params", [{"a": [1, 2], "b": "x y&"}, [("a", 1), ("b", "x y&"), ("a", 2)], {"a": (1, 2)}]
)
def test_params_repeat(face: Face, echo: EchoServer, params: Any) -> None:
    """Parameters are a mapping or pairs; a sequence of values repeats its key."""
    described = face.resource(echo.address).call("GET", "/x", params=params)()
    assert described["query"]["a"] == ["1", "2"]
    assert described["query"].get("b", ["x y&"]) == ["x y&"]


def test_params_join_a_query(face: Face, echo: EchoServer) -> None:
    """Parameters are added to a query that the path has already; those that are None are not."""
    described = face.resource(echo.address).call("GET", "/x?a=1", params={"b": 2, "c": None})()
    assert described["query"] == {"a": ["1"], "b": ["2"]}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_return_the_body(face: Face, echo: EchoServer, verb: str) -> None:
    """Each verb is its method and returns the decoded body."""
    described = getattr(face.resource(echo.address), verb)("/x")
    assert (described["method"], described["path"]) == (verb.upper(), "/x")


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_keywords_are_the_query(face: Face, echo: EchoServer, verb: str) -> None:
    """The keywords of GET and DELETE are their query."""
    described = getattr(face.resource(echo.address), verb)("/x", q="a b", n=[1, 2])
    assert described["query"] == {"q": ["a b"], "n": ["1", "2"]}


@pytest.mark.parametrize("verb", ["post", "put", "patch"])
def test_keywords_are_those_of_call(face: Face, echo: EchoServer, verb: str) -> None:
    """The keywords of POST, PUT and PATCH are those of `call`."""
    resource = face.resource(echo.address)
    described = getattr(resource, verb)(
        "/redirect/307?to=/there", {"a": 1}, redirect=True, headers={"X-One": "1"}
    )
    assert (described["path"], described["body"]) == ("/there", {"a": 1})
    assert described["headers"]["x-one"] == "1"
    described = getattr(resource, verb)("/x", body=[1], params={"a": [1, 2]})
    assert (described["query"], described["body"]) == ({"a": ["1", "2"]}, [1])


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_raise_the_status(face: Face, echo: EchoServer, verb: str) -> None:
    """Each verb raises the error of a status that is not 2xx."""
    with pytest.raises(ResponseError) as caught:
        getattr(face.resource(echo.address), verb)("/status/409")
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    assert caught.value.body["method"] == verb.upper()


@pytest.mark.parametrize("path", ["/a\r\nX: y", "/a\0", "http://other/x"])
def test_what_is_no_path(face: Face, echo: EchoServer, path: str) -> None:
    """A path that would inject something, or lead elsewhere, is refused before it is sent."""
    with pytest.raises(InvalidRequest):
        face.resource(echo.address).get(path)
    assert echo.connection_count == 0


# --- redirects --------------------------------------------------------------------------------


def test_redirects_are_answers(face: Face, echo: EchoServer) -> None:
    """Without being asked to, no redirect is followed."""
    answer = face.resource(echo.address).call("GET", "/redirect/302?to=/x")
    assert (answer.status, answer.headers["location"]) == (302, "/x")
    assert echo.request_count == 1


def test_redirects_are_followed(face: Face, echo: EchoServer) -> None:
    """When asked to, redirects are followed to their end."""
    twice = "/redirect/302?to=/redirect/307?to=/x"
    assert face.resource(echo.address).call("GET", twice, redirect=True)()["path"] == "/x"


@pytest.mark.parametrize("count", [2, 3])
def test_a_count_of_redirects(face: Face, echo: EchoServer, count: int) -> None:
    """As many redirects are followed as were said, and it is an error when there are more."""
    twice = "/redirect/302?to=/redirect/302?to=/x"
    resource = face.resource(echo.address)
    assert resource.call("GET", twice, redirect=count)()["path"] == "/x"
    with pytest.raises(TooManyRedirects) as caught:
        resource.call("GET", twice, redirect=1)
    assert isinstance(caught.value, OSError)
    assert len(caught.value.attempts) == 1


def test_an_endless_redirect(face: Face, echo: EchoServer) -> None:
    """A redirect in a circle comes to an end."""
    with pytest.raises(TooManyRedirects):
        face.resource(echo.address).call("GET", "/redirect/302?to=", redirect=True)


def test_a_negative_count(face: Face, echo: EchoServer) -> None:
    """A negative count of redirects is refused."""
    with pytest.raises(InvalidRequest, match="redirect"):
        face.resource(echo.address).call("GET", "/", redirect=-1)


def test_a_redirect_keeps_the_base(face: Face, scripted: StartScripted) -> None:
    """A redirect's place is the server's, not below the base once more."""
    there = response(302, b"", [("Location", "/base/there")])
    server = scripted([Receive(), there, Receive(), json_response("here")])
    resource = face.resource(f"{server.url}/base")
    assert resource.call("GET", "/x", redirect=True)() == "here"
    assert [request.target for request in server.requests] == ["/base/x", "/base/there"]
