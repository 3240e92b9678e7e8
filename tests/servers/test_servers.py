"""The test servers, seen by plain sockets and the standard library's client."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import (
    CLIENT_NAME,
    BadRequest,
    Certificates,
    Close,
    EchoServer,
    HalfClose,
    Hold,
    ProxyServer,
    Receive,
    ReceiveBody,
    ReceiveBytes,
    ReceiveEnd,
    Repeat,
    Reset,
    ScriptedServer,
    SendForever,
    SendSlowly,
    Wait,
    chunked,
    pattern,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted
from tests.servers.process import EchoProcess

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def connect(server: ScriptedServer | EchoServer | EchoProcess | ProxyServer) -> socket.socket:
    """Connect a plain socket with a bound on all its waits."""
    return socket.create_connection((server.host, server.port), 10)


def receive_all(sock: socket.socket) -> bytes:
    """Receive up to the end."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


@contextmanager
def client_of(server: EchoServer | EchoProcess) -> Iterator[http.client.HTTPConnection]:
    """Connect the standard library's client."""
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=10)) as client:
        yield client


def ask(
    client: http.client.HTTPConnection,
    method: str,
    target: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> tuple[http.client.HTTPResponse, bytes]:
    """Make one call and return the response and its body."""
    client.request(method, target, body, headers or {}, **options)
    answer = client.getresponse()
    return answer, answer.read()


# --- the scripted server ----------------------------------------------------------------------


def test_a_script_is_played_to_each_connection(scripted: StartScripted) -> None:
    """Connection n plays script n, and those beyond the last play the last again."""
    server = scripted([Receive(), response(200, b"one")], [Receive(), b"two", Close()])
    for expected in (response(200, b"one"), b"two", b"two"):
        with connect(server) as client:
            client.sendall(GET)
            assert receive_all(client) == expected
    assert [request.connection for request in server.requests] == [0, 1, 2]


def test_requests_are_recorded_with_head_body_and_trailers(scripted: StartScripted) -> None:
    """A script receives pipelined requests whole, whatever their framing."""
    server = scripted([Repeat([Receive(), response()], times=2)])
    with connect(server) as client:
        client.sendall(
            b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nX: 1\r\nx: 2\r\nContent-Length: 3\r\n\r\nabc"
            b"PUT /%20 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;e=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: end\r\n\r\n"
        )
        assert receive_all(client) == response() * 2
    first, second = server.requests
    assert (first.method, first.target, first.body) == ("POST", "/a?b=c", b"abc")
    assert first.query == {"b": ["c"]}
    assert first.header("x") == "1, 2"
    assert (second.path, second.body, second.trailers) == (
        "/ ",
        b"abc0123456789",
        [("T", "end")],
    )


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    ],
)
def test_a_malformed_request_fails_the_test(request_bytes: bytes) -> None:
    """A client that breaks the protocol is reported when the server ends."""
    server = ScriptedServer([Receive()])
    server.__enter__()
    with connect(server) as client:
        client.sendall(request_bytes)
        assert receive_all(client) == b""
    with pytest.raises(BadRequest):
        server.__exit__(None, None, None)


def test_a_reset_is_seen_as_one(scripted: StartScripted) -> None:
    """The client of a reset connection gets ECONNRESET."""
    server = scripted([Receive(), Reset()])
    with connect(server) as client:
        client.sendall(GET)
        with pytest.raises(ConnectionResetError):
            receive_all(client)


def test_half_a_closing_leaves_the_other_way_open(scripted: StartScripted) -> None:
    """After FIN the server still receives, and notices the client's end."""
    server = scripted([b"bye", HalfClose(), ReceiveEnd()])
    with connect(server) as client:
        assert receive_all(client) == b"bye"
        client.sendall(b"more")
    server.wait_for(lambda: server.open_connections == 0)
    assert server.leftovers == {0: b"more"}


def test_bytes_come_at_the_pace_of_the_test(scripted: StartScripted) -> None:
    """A slow answer goes on only when the test lets it, or by the clock."""
    pace = threading.Semaphore(0)
    server = scripted([SendSlowly(b"abcd", 2, pace=pace), SendSlowly(b"ef", 1, 0.001)])
    with connect(server) as client:
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(10)
        client.settimeout(10)
        pace.release()
        assert client.recv(10) == b"ab"
        pace.release()
        assert receive_all(client) == b"cdef"


def test_a_held_connection_ends_by_event_client_or_server(scripted: StartScripted) -> None:
    """Holding ends with whatever comes first, and never outlives the server."""
    event = threading.Event()
    server = scripted([ReceiveBytes(1), Hold(event), b"done"], [Hold()])
    with connect(server) as first:
        first.sendall(b"x")
        event.set()
        assert receive_all(first) == b"done"
    connect(server).close()
    server.wait_for(lambda: server.connection_count == 2 and server.open_connections == 0)
    with connect(server) as third:
        server.wait_for(lambda: server.open_connections == 1)
        server.stop()
        assert receive_all(third) == b""


def test_an_answer_without_end_stops_with_the_client(scripted: StartScripted) -> None:
    """Sending for ever ends as soon as the client has closed."""
    server = scripted([Receive(), SendForever(b"X: y\r\n")])
    with connect(server) as client:
        client.sendall(GET)
        assert client.recv(6, socket.MSG_WAITALL) == b"X: y\r\n"
    server.wait_for(lambda: server.open_connections == 0)


def test_an_expectation_is_answered_between_head_and_body(scripted: StartScripted) -> None:
    """Head and body of a request can be received apart."""
    seen = threading.Event()
    server = scripted(
        [Receive(body=False), Wait(seen), response_head(100), ReceiveBody(), response()]
    )
    with connect(server) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        server.wait_for_requests(1)
        seen.set()
        assert client.recv(9, socket.MSG_WAITALL) == b"HTTP/1.1 "
        client.sendall(b"ok")
        assert receive_all(client).endswith(response())
    assert server.requests[0].expects_continue
    assert server.requests[0].body == b"ok"


def test_a_server_listens_on_ipv6_and_on_a_path(scripted: StartScripted, tmp_path: Path) -> None:
    """The same scripts are played on ::1 and on a Unix socket, which is removed at the end."""
    server = scripted([b"six"], host="::1")
    assert server.url == f"http://[::1]:{server.port}"
    with connect(server) as client:
        assert receive_all(client) == b"six"
    path = tmp_path / "socket"
    with (
        ScriptedServer([b"path"], path=path),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix_client,
    ):
        unix_client.connect(str(path))
        assert receive_all(unix_client) == b"path"
    assert not path.exists()


def test_nothing_is_left_of_a_server() -> None:
    """A stopped server has no thread, no connection and a port that refuses."""
    before = threading.active_count()
    with ScriptedServer([Hold()]) as server, connect(server), connect(server):
        server.wait_for(lambda: server.open_connections == 2)
        server.stop()
        assert server.open_connections == 0
        assert threading.active_count() == before
        with pytest.raises(ConnectionRefusedError):
            connect(server)


# --- addresses --------------------------------------------------------------------------------


def test_a_refusing_address_refuses(refusing: tuple[str, int]) -> None:
    """Every connection to it is refused."""
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(refusing, 10)


def test_an_unanswering_address_lets_clients_wait(unanswering: tuple[str, int]) -> None:
    """Connecting to it neither succeeds nor fails."""
    with pytest.raises(TimeoutError):
        socket.create_connection(unanswering, 0.05)


# --- the echo server --------------------------------------------------------------------------


def test_a_request_is_described(echo: EchoServer) -> None:
    """The answer tells method, path, query, headers and decoded body."""
    with client_of(echo) as client:
        answer, body = ask(
            client,
            "POST",
            "/some%20path?a=1&a=2&b=",
            json.dumps({"x": [1]}),
            {"Content-Type": "application/json", "X-One": "1"},
        )
        described = json.loads(body)
        assert answer.status == 200
        assert (described["method"], described["path"]) == ("POST", "/some path")
        assert described["query"] == {"a": ["1", "2"], "b": [""]}
        assert described["headers"]["x-one"] == "1"
        assert described["body"] == {"x": [1]}
        _, body = ask(client, "PUT", "/", iter([b"te", b"xt"]), encode_chunked=True)
        assert json.loads(body)["body"] == "text"
    assert (echo.connection_count, echo.request_count) == (1, 2)


def test_the_routes_answer_as_they_say(echo: EchoServer) -> None:
    """Status, sizes, codings and redirections are what the path asks for."""
    with client_of(echo) as client:
        assert ask(client, "GET", "/status/503")[0].status == 503
        assert ask(client, "GET", "/status/204")[1] == b""
        assert ask(client, "GET", "/bytes/100000")[1] == pattern(100000)
        answer, body = ask(client, "GET", "/chunked/1000?chunk=7")
        assert answer.getheader("transfer-encoding") == "chunked"
        assert body == pattern(1000)
        answer, body = ask(client, "HEAD", "/bytes/1000")
        assert (answer.getheader("content-length"), body) == ("1000", b"")
        answer, _ = ask(client, "GET", "/redirect/307?to=http://h/%3Fa%3Db")
        assert (answer.status, answer.getheader("location")) == (307, "http://h/?a=b")
        assert echo.connection_count == 1
        assert ask(client, "GET", "/close")[0].will_close
        with pytest.raises(http.client.RemoteDisconnected):
            ask(client, "GET", "/drop")


@pytest.mark.parametrize(
    ("target", "coding", "decode"),
    [
        ("/gzip", "gzip", gzip.decompress),
        ("/deflate", "deflate", zlib.decompress),
        ("/deflate?raw=1", "deflate", lambda data: zlib.decompress(data, wbits=-15)),
        ("/br", "br", "brotli"),
        ("/zstd", "zstd", "zstandard"),
    ],
)
def test_answers_are_compressed(
    echo: EchoServer, target: str, coding: str, decode: Callable[[bytes], bytes] | str
) -> None:
    """A compressed answer names its coding and decodes to the description."""
    decompress = pytest.importorskip(decode).decompress if isinstance(decode, str) else decode
    with client_of(echo) as client:
        answer, body = ask(client, "GET", target)
        assert answer.getheader("content-encoding") == coding
        assert json.loads(decompress(body))["method"] == "GET"


def test_an_expectation_is_met_or_rejected(echo: EchoServer) -> None:
    """A client that waits for `100 Continue` gets it, or a final answer at once."""
    head = b"POST %b HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
    with connect(echo) as client:
        client.sendall(head % b"/" + b"Connection: close\r\n\r\n")
        assert client.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert b'"body": "ok"' in receive_all(client)
    with connect(echo) as client:
        client.sendall(head % b"/reject" + b"\r\n")
        assert receive_all(client).startswith(b"HTTP/1.1 417 ")


def test_pipelined_requests_are_answered_in_order(echo: EchoServer) -> None:
    """Requests sent together get their answers one after the other."""
    with connect(echo) as client:
        client.sendall(
            b"GET /bytes/1 HTTP/1.1\r\n\r\nHEAD /bytes/5 HTTP/1.1\r\n\r\n"
            b"GET /bytes/2 HTTP/1.0\r\n\r\n"
        )
        answers = receive_all(client).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"\0", b"", b"\0\1"]


def test_a_slow_answer_waits_for_the_test(echo: EchoServer) -> None:
    """The answer comes when the gate is opened; a client that leaves is let go."""
    with connect(echo) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
        echo.wait_for(lambda: echo.waiting == 1)
    echo.wait_for(lambda: echo.waiting == 0 and echo.open_connections == 0)
    with client_of(echo) as patient:
        patient.request("GET", "/slow")
        echo.wait_for(lambda: echo.waiting == 1)
        echo.gate.set()
        assert patient.getresponse().read()


def test_a_stopped_server_comes_back_on_its_port(echo: EchoServer) -> None:
    """Connections end with the server, and new ones are served after its start."""
    with client_of(echo) as client:
        ask(client, "GET", "/")
        echo.drop_connections()
        with pytest.raises(ConnectionError):
            ask(client, "GET", "/")
        ask(client, "GET", "/")
        echo.stop()
        client.close()
        with pytest.raises(ConnectionRefusedError):
            ask(client, "GET", "/")
        client.close()
        echo.start()
        assert ask(client, "GET", "/")[0].status == 200


def test_tls_tells_names_and_certificates(certificates: Certificates) -> None:
    """The description has the name asked for by SNI and those of the client's certificate."""
    server_context = certificates.server_context(client_required=True)
    with EchoServer(tls=server_context) as server:
        context = certificates.client_context(certificate=True)
        with (
            connect(server) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            _, _, body = receive_all(client).partition(b"\r\n\r\n")
        assert json.loads(body)["tls"] == {"server_name": "localhost", "client": [CLIENT_NAME]}


def test_an_untrusted_server_is_refused_by_its_client(certificates: Certificates) -> None:
    """A handshake that fails is counted, and the server goes on."""
    with EchoServer(tls=certificates.server_context()) as server:
        with connect(server) as plain, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
        server.wait_for(lambda: len(server.handshake_failures) == 1)
    with EchoServer(tls=certificates.server_context("other.example")) as server:
        context = certificates.client_context()
        with connect(server) as plain, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(plain, server_hostname="localhost")


# --- the echo process -------------------------------------------------------------------------


def test_a_process_is_killed_and_comes_back(echo_process: EchoProcess) -> None:
    """A killed server refuses, and answers on the same port after its restart."""
    with client_of(echo_process) as client:
        assert ask(client, "GET", "/")[0].status == 200
        echo_process.kill()
        assert not echo_process.alive
        client.close()
        with pytest.raises(ConnectionRefusedError):
            ask(client, "GET", "/")
        client.close()
        echo_process.restart()
        assert ask(client, "GET", "/")[0].status == 200


def test_a_paused_process_is_silent(echo_process: EchoProcess) -> None:
    """A paused server accepts and says nothing until it is resumed."""
    for _ in range(2):
        echo_process.pause()
        with connect(echo_process) as client:
            client.sendall(b"GET /bytes/3 HTTP/1.0\r\n\r\n")
            client.settimeout(0.05)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(10)
            echo_process.resume()
            assert receive_all(client).endswith(pattern(3))
    echo_process.pause()


def test_a_process_that_dies_by_itself_is_noticed(echo_process: EchoProcess) -> None:
    """A process that somebody else ended counts as not alive and can be started again."""
    os.kill(echo_process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, echo_process.pid, os.WEXITED | os.WNOWAIT)
    assert not echo_process.alive
    echo_process.start()
    assert echo_process.alive


# --- the forward proxy ------------------------------------------------------------------------


def test_absolute_requests_are_forwarded(echo: EchoServer, forward_proxy: ProxyServer) -> None:
    """The origin gets its own form of the request, without what was meant for the proxy."""
    proxy = http.client.HTTPConnection(forward_proxy.host, forward_proxy.port, timeout=10)
    with closing(proxy) as client:
        for _ in range(2):
            headers = {"Proxy-Authorization": "Basic x", "X-A": "b"}
            answer, body = ask(client, "POST", f"{echo.url}/p?q=1", b"data", headers)
            described = json.loads(body)
            assert answer.status == 200
            assert (described["path"], described["query"]) == ("/p", {"q": ["1"]})
            assert described["body"] == "data"
            assert described["headers"]["x-a"] == "b"
            assert described["headers"]["host"] == echo.address
            assert "proxy-authorization" not in described["headers"]
        answer, _ = ask(client, "HEAD", f"{echo.url}/bytes/10")
        assert answer.getheader("content-length") == "10"
    assert [r.target for r in forward_proxy.requests][:2] == [f"{echo.url}/p?q=1"] * 2
    assert forward_proxy.connection_count == 1


def test_tunnels_carry_anything(certificates: Certificates, forward_proxy: ProxyServer) -> None:
    """CONNECT opens a tunnel through which TLS reaches the origin."""
    with EchoServer(tls=certificates.server_context()) as origin:
        client = http.client.HTTPSConnection(
            forward_proxy.host,
            forward_proxy.port,
            timeout=10,
            context=certificates.client_context(),
        )
        with closing(client):
            client.set_tunnel("localhost", origin.port)
            assert ask(client, "GET", "/bytes/300000")[1] == pattern(300000)
        assert forward_proxy.tunnels == [f"localhost:{origin.port}"]


def test_a_proxy_asks_for_credentials_and_refuses(
    echo: EchoServer, refusing: tuple[str, int]
) -> None:
    """Wrong credentials get 407, a refused tunnel its status, a dead origin 502."""
    with ProxyServer(credentials="user:pass word") as proxy, connect(proxy) as client:
        client.sendall(b"GET http://%b/ HTTP/1.0\r\n\r\n" % echo.address.encode())
        assert receive_all(client).startswith(b"HTTP/1.1 407 ")
    good = b"Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n"
    with ProxyServer(credentials="user:pass word") as proxy, connect(proxy) as client:
        client.sendall(b"GET http://%b/ HTTP/1.0\r\n%b\r\n" % (echo.address.encode(), good))
        assert receive_all(client).startswith(b"HTTP/1.1 200 ")
    with ProxyServer(tunnel_status=403) as proxy, connect(proxy) as client:
        client.sendall(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        assert receive_all(client).startswith(b"HTTP/1.1 403 ")
    with ProxyServer() as proxy, connect(proxy) as client:
        client.sendall(b"CONNECT %b:%d HTTP/1.1\r\n\r\n" % (refusing[0].encode(), refusing[1]))
        assert receive_all(client).startswith(b"HTTP/1.1 502 ")


def test_chunks_have_their_sizes_and_trailers() -> None:
    """The chunked coding is written as RFC 9112 says."""
    assert chunked(b"abcde", 3) == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert chunked(b"", trailers=[("A", "b")]) == b"0\r\nA: b\r\n\r\n"
