"""Where requests go: Unix sockets, IPv6, proxies, and the strings that name hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConnectError, InvalidRequest, ProxyError
from holdfast.http.origins import Origin, basic_auth
from holdfast.http.proxies import Proxies
from tests.http.clients import BARE, Client, StartClient
from tests.servers import (
    Certificates,
    Close,
    EchoServer,
    Hold,
    ProxyServer,
    Receive,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}", "http+unix://{quoted}"])
def test_a_unix_socket(client: StartClient, tmp_path: Path, form: str) -> None:
    """A path is called like any host; its Host header is localhost."""
    path = str(tmp_path / "a socket")
    with EchoServer(path=path) as server:
        one = client(form.format(path, quoted=path.replace("/", "%2F").replace(" ", "%20")))
        for _ in range(2):
            assert one.get("/x").json()["headers"]["host"] == "localhost"
        assert server.connection_count == 1


def test_a_unix_socket_with_a_base(client: StartClient, tmp_path: Path) -> None:
    """The URL form of a socket may have a path for all requests."""
    with EchoServer(path=tmp_path / "s") as server:
        one = client(f"http+unix://{str(server.path).replace('/', '%2F')}/base")
        assert one.get("/x").json()["path"] == "/base/x"


def test_no_unix_socket(client: StartClient, tmp_path: Path) -> None:
    """The error names the path and the reason."""
    path = tmp_path / "none"
    with pytest.raises(ConnectError, match="no such file") as caught:
        client(f"unix:{path}").get()
    assert f"unix:{path}" in str(caught.value)


@pytest.mark.parametrize("form", ["[::1]:{}", "http://[::1]:{}"])
def test_ipv6(client: StartClient, form: str) -> None:
    """An IPv6 address stands in brackets, also in the Host header."""
    with EchoServer("::1") as server:
        one = client(form.format(server.port))
        assert one.get().json()["headers"]["host"] == f"[::1]:{server.port}"


def test_a_name(client: StartClient, echo: EchoServer) -> None:
    """A name is looked up, and the addresses that refuse are passed over."""
    one = client(f"localhost:{echo.port}")
    assert one.get().json()["headers"]["host"] == f"localhost:{echo.port}"


def test_a_base_path(client: StartClient, echo: EchoServer) -> None:
    """The path of a host comes before that of a request."""
    for base in ("/a/b", "/a/b/"):
        assert client(f"http://{echo.address}{base}").get("/x?y").json()["path"] == "/a/b/x"


def test_a_source_address(client: StartClient, echo: EchoServer, scripted: StartScripted) -> None:
    """Connections come from the local address that was chosen."""
    peers = []

    class NotePeer:
        def play(self, connection: Any) -> None:
            peers.append(connection.sock.getpeername()[0])

    server = scripted([Receive(), NotePeer(), response()])
    client(server.address, source_address=("127.0.0.3", 0)).get()
    assert peers == ["127.0.0.3"]
    with pytest.raises(ConnectError):
        client(server.address, source_address=("192.0.2.1", 0)).get()


# The strings that name hosts.


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("name", Origin("http", "name", 80)),
        ("Name:8080", Origin("http", "name", 8080)),
        ("127.0.0.1:1", Origin("http", "127.0.0.1", 1)),
        ("::1", Origin("http", "::1", 80)),
        ("[::1]:5", Origin("http", "::1", 5)),
        ("fe80::1%eth0", Origin("http", "fe80::1%eth0", 80)),
        ("fe80::1%é", None),
        ("http://name/", Origin("http", "name", 80)),
        ("https://name", Origin("https", "name", 443)),
        ("HTTPS://name:8443/base/", Origin("https", "name", 8443, "/base")),
        ("https://name/a%20b/ü", Origin("https", "name", 443, "/a%20b/%C3%BC")),
        ("https://name/a b", None),
        ("name_with_underscore", Origin("http", "name_with_underscore", 80)),
        ("name.", Origin("http", "name.", 80)),
        ("bücher.example", Origin("http", "xn--bcher-kva.example", 80)),
        ("u:p@name", Origin("http", "name", 80, credentials=basic_auth("u", "p"))),
        ("u:p@name:81", Origin("http", "name", 81, credentials=basic_auth("u", "p"))),
        ("http://u:p%40@name", Origin("http", "name", 80, credentials=basic_auth("u", "p@"))),
        ("http://u@name", Origin("http", "name", 80, credentials=basic_auth("u", ""))),
        ("unix:/a/b", Origin("http", "localhost", 80, unix="/a/b")),
        ("unix:///a/b", Origin("http", "localhost", 80, unix="/a/b")),
        ("http+unix://%2Fa/base", Origin("http", "localhost", 80, "/base", "/a")),
        ("", None),
        (" ", None),
        ("name:", Origin("http", "name", 80)),
        ("name:x", None),
        ("name:0", None),
        ("name:65536", None),
        ("name:-1", None),
        ("na me", None),
        ("name\n", None),
        ("na\r\nme", None),
        ("http://name\r\nX: y/", None),
        ("http://name/\r\nX: y", None),
        ("-name", None),
        (".name", None),
        ("x" * 254, None),
        ("http://", None),
        ("ftp://name", None),
        ("http://name/?q", None),
        ("http://name/#f", None),
        ("http://[::1", None),
        ("[nonsense]", None),
        ("[::1]x", None),
        ("1:2:3:4:5:6:7:8:9", None),
        ("unix:", None),
        ("unix:/" + "x" * 200, None),
        ("http+unix://", None),
        ("http://a:b:c@", None),
    ],
)
def test_hosts(text: str, origin: Origin | None) -> None:
    """A string names a host in one of the known forms, or is refused."""
    if origin is None:
        with pytest.raises(InvalidRequest):
            Origin.parse(text)
        return
    parsed = Origin.parse(text)
    assert parsed == origin
    assert parsed.credentials == origin.credentials


@given(st.one_of(st.text(), st.text("a1.-_:/[]@%?#\r\n\0 é", max_size=20)))
def test_any_string_is_a_host_or_refused(text: str) -> None:
    """Nothing but InvalidRequest is raised, and what passes can be sent as it is."""
    try:
        origin = Origin.parse(text)
    except InvalidRequest:
        return
    for part in (origin.netloc, origin.base):
        assert part.isascii()
        assert not set(part) & set("\r\n\0 ")
    assert 0 < origin.port < 65536


@pytest.mark.parametrize("value", [None, 1, b"name", ["name"]])
def test_hosts_are_strings(value: Any) -> None:
    """Something else is refused in plain words."""
    with pytest.raises(InvalidRequest, match="string"):
        Origin.parse(value)


@pytest.mark.parametrize(
    "text",
    [
        "user:s3kr3t@na me",
        "user:s3kr3t@name:x",
        "user:s3kr3t@[::1",
        "http://user:s3kr3t@na me/",
        "http://user:s3kr3t@name:x/",
        "http://user:s3kr3t@[nonsense]/",
        "http://user:s3@kr3t@na me/",
        "ftp://user:s3kr3t@name/",
        "http://user:s3kr3t@name/?q",
        "http://us:er:s3kr3t@:80/",
    ],
)
def test_passwords_are_not_in_errors(text: str) -> None:
    """A host that is refused is named without what is secret in it."""
    with pytest.raises(InvalidRequest) as caught:
        Origin.parse(text)
    assert "kr3t" not in str(caught.value)


def test_passwords_are_not_shown() -> None:
    """No representation of an origin has its credentials."""
    origin = Origin.parse("http://user:s3cret@name/base")
    for shown in (repr(origin), str(origin), origin.url, origin.name, origin.netloc):
        assert "s3cret" not in shown
        assert "czNjcmV0" not in shown
        assert "user" not in shown
    assert origin.same(Origin.parse("name"))


def test_a_user_with_a_colon() -> None:
    """Basic authentication cannot carry it."""
    with pytest.raises(InvalidRequest, match="colon"):
        basic_auth("us:er", "password")


# Proxies.


@pytest.fixture
def proxy() -> Iterator[ProxyServer]:
    """A proxy that asks for credentials."""
    with ProxyServer(credentials="user:s3cret") as server:
        yield server


def test_plain_requests_through_a_proxy(
    client: StartClient, echo: EchoServer, forward_proxy: ProxyServer
) -> None:
    """The proxy is asked in absolute form, on one connection; the path stays as it was."""
    one = client(f"http://{echo.address}/base", proxy=forward_proxy.url)
    for _ in range(2):
        answer = one.get("/x", params={"q": "1 2"})
        assert answer.json()["path"] == "/base/x"
        assert answer.json()["headers"]["host"] == echo.address
    request = forward_proxy.requests[0]
    assert request.target == f"http://{echo.address}/base/x?q=1+2"
    assert request.header("host") == echo.address
    assert forward_proxy.connection_count == 1
    assert one.post(content=b"body").json()["body"] == "body"


def test_credentials_for_a_proxy(client: StartClient, echo: EchoServer, proxy: ProxyServer) -> None:
    """They are told to the proxy and to nobody else."""
    url = f"http://user:s3cret@{proxy.address}"
    answer = client(echo.address, proxy=url, auth="token").get()
    assert answer.status_code == 200
    assert answer.json()["headers"]["authorization"] == "Bearer token"
    assert "proxy-authorization" not in answer.json()["headers"]
    assert proxy.requests[0].header("proxy-authorization") == basic_auth("user", "s3cret")
    assert client(echo.address, proxy=proxy.url).get().status_code == 407


def test_tls_through_a_proxy(
    client: StartClient, certificates: Certificates, proxy: ProxyServer
) -> None:
    """A tunnel is asked for, and what goes through it is for the origin alone."""
    with EchoServer(tls=certificates.server_context()) as server:
        one = client(
            f"https://localhost:{server.port}",
            proxy=f"http://user:s3cret@{proxy.address}",
            verify=str(certificates.ca_file),
            auth="token",
        )
        for _ in range(2):
            headers = one.get().json()["headers"]
            assert headers["authorization"] == "Bearer token"
            assert "proxy-authorization" not in headers
        assert proxy.tunnels == [f"localhost:{server.port}"]
        assert proxy.requests[0].header("proxy-authorization") == basic_auth("user", "s3cret")
        assert proxy.requests[0].header("authorization") == ""
        assert proxy.requests[0].header("host") == f"localhost:{server.port}"
        assert server.connection_count == 1


def test_a_tunnel_that_is_refused(client: StartClient, certificates: Certificates) -> None:
    """The error names the proxy, its answer and where the tunnel should have led."""
    with ProxyServer(credentials="user:s3cret") as proxy:
        one = client("https://localhost:1", proxy=f"http://user:wrong@{proxy.address}")
        with pytest.raises(ProxyError, match=r"407 .* CONNECT localhost:1") as caught:
            one.get()
        assert proxy.address in str(caught.value)
        assert not caught.value.sent
        assert "wrong" not in str(caught.value)
        one.rest()
        proxy.wait_for(lambda: proxy.open_connections == 0)
    with ProxyServer(tunnel_status=503) as proxy, pytest.raises(ProxyError, match="503"):
        client("https://localhost:1", proxy=proxy.url).get()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ([Receive(), Close()], "closed"),
        ([Receive(), b"SSH-2.0\r\n\r\n"], "proxy"),
        ([Receive(), response_head(200) + b"too early"], "200"),
        ([Receive(), response_head(301, [("Location", "http://x/")])], "301"),
    ],
)
def test_a_proxy_that_misbehaves(
    client: StartClient, scripted: StartScripted, script: Any, told: str
) -> None:
    """Whatever a proxy answers, no request goes out over what is no tunnel."""
    server = scripted(script)
    with pytest.raises(ProxyError, match=told) as caught:
        client("https://localhost:1", proxy=f"http://{server.address}").get()
    assert server.address in str(caught.value)


def test_a_proxy_that_hangs(client: StartClient, scripted: StartScripted) -> None:
    """The connect limit holds for the tunnel."""
    from holdfast import Timeout

    server = scripted([Receive(), Hold()])
    with pytest.raises(TimeoutError):
        client("https://localhost:1", proxy=f"http://{server.address}").get(
            timeout=Timeout(5, connect=0.05)
        )


def test_a_proxy_that_is_not_there(client: StartClient, refusing: tuple[str, int]) -> None:
    """The error is that no connection could be made, and names who could not be reached."""
    host, port = refusing
    with pytest.raises(ConnectError, match=f"{host}:{port}"):
        client("name.invalid", proxy=f"http://{host}:{port}").get()


def test_a_name_that_only_the_proxy_knows(client: StartClient, scripted: StartScripted) -> None:
    """The proxy looks names up."""
    server = scripted([Receive(), response(200, b"ok")])
    assert client("name.invalid", proxy=f"http://{server.address}").get().content == b"ok"
    assert server.requests[0].target == "http://name.invalid/"


def chosen(host: str, **options: Any) -> str | None:
    """Return the name of the proxy for a host, None when it is called directly."""
    found = Proxies(**options).of(Origin.parse(host))
    return None if found is None else found.origin.name


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("name", "*", True),
        ("name", "", False),
        ("name.example", "example", True),
        ("name.example", ".example", True),
        ("name.example", "*.example", True),
        ("example", ".example", True),
        ("badexample", "example", False),
        ("example.com", "example", False),
        ("name", "other, NAME ,third", True),
        ("name:81", "name:80", False),
        ("name:81", "name:81", True),
        ("https://name", "name:443", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.0/8", True),
        ("128.0.0.1", "127.0.0.0/8", False),
        ("127.0.0.1:5", "127.0.0.1:6", False),
        ("[::1]:5", "::1", True),
        ("[::1]:5", "[::1]:5", True),
        ("[::1]:5", "[::1]:6", False),
        ("[fd00::1]", "fd00::/8", True),
        ("127.0.0.1", "name", False),
        ("1.2.3.4", "3.4", False),
        ("name", "10.0.0.0/8", False),
    ],
)
def test_no_proxy(host: str, no_proxy: str, direct: bool) -> None:
    """Names, domains, addresses and networks are called directly, each with a port perhaps."""
    found = chosen(host, proxy="http://proxy:3128", no_proxy=no_proxy)
    assert found == (None if direct else "proxy:3128")
    found = chosen(host, proxy="http://proxy:3128", no_proxy=no_proxy.split(","))
    assert found == (None if direct else "proxy:3128")


def test_unix_sockets_have_no_proxy() -> None:
    """A socket of this machine is called directly."""
    assert chosen("unix:/a", proxy="http://proxy:3128") is None


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked on request only; arguments come first; HTTP_PROXY could be a request's header."""
    monkeypatch.setenv("http_proxy", "http://plain:1")
    monkeypatch.setenv("https_proxy", "http://secure:2")
    monkeypatch.setenv("no_proxy", "direct.example")
    assert chosen("name") is None
    assert chosen("name", trust_env=True) == "plain:1"
    assert chosen("https://name", trust_env=True) == "secure:2"
    assert chosen("direct.example", trust_env=True) is None
    assert chosen("direct.example", trust_env=True, no_proxy="") == "plain:1"
    assert chosen("name", trust_env=True, proxy="http://given:3") == "given:3"
    monkeypatch.delenv("http_proxy")
    monkeypatch.delenv("https_proxy")
    monkeypatch.setenv("HTTP_PROXY", "http://evil:4")
    assert chosen("name", trust_env=True) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://capital:5")
    monkeypatch.setenv("all_proxy", "http://every:6")
    assert chosen("name", trust_env=True) == "every:6"
    assert chosen("https://name", trust_env=True) == "capital:5"


def test_the_environment_of_a_client(
    client: StartClient,
    echo: EchoServer,
    forward_proxy: ProxyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients look at it when told to."""
    monkeypatch.setenv("http_proxy", forward_proxy.url)
    assert client(echo.address).get().status_code == 200
    assert not forward_proxy.requests
    assert client(echo.address, trust_env=True).get().status_code == 200
    assert len(forward_proxy.requests) == 1


@pytest.mark.parametrize("url", ["https://proxy", "socks5://proxy", "unix:/proxy", "http://"])
def test_what_is_no_proxy(url: str) -> None:
    """Other kinds of proxies are refused, without their passwords."""
    with pytest.raises(InvalidRequest):
        Proxies(url)
    with pytest.raises(InvalidRequest) as caught:
        Proxies(url.replace("//", "//user:s3kr3t@"))
    assert "s3kr3t" not in str(caught.value)


def test_redirects_choose_the_proxy_anew(
    blocking_client: StartClient, echo: EchoServer, forward_proxy: ProxyServer
) -> None:
    """Where a redirect leads to another origin, `no_proxy` is asked for that one."""
    with EchoServer() as other:
        one = blocking_client(
            echo.address, proxy=forward_proxy.url, no_proxy=f"127.0.0.1:{other.port}"
        )
        path = f"/redirect/302?to=http://{other.address}/next"
        assert one.get(path, follow_redirects=True).json()["path"] == "/next"
        assert len(forward_proxy.requests) == 1


def test_bare_clients_are_closed() -> None:
    """The helper of these tests leaves nothing open itself."""
    with Client("blocking", "name", policy=BARE) as one:
        assert one.kept == 0
