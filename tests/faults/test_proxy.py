"""The fault proxy, seen by plain sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults import Fault, FaultProxy
from tests.servers import Close, EchoServer, Hold, Receive, Repeat, Reset, pattern, response
from tests.servers.fixtures import StartFaultProxy, StartScripted

GET = b"GET /bytes/%d HTTP/1.0\r\n\r\n"


def connect(proxy: FaultProxy) -> socket.socket:
    """Connect through the proxy with a bound on all waits."""
    return socket.create_connection((proxy.host, proxy.port), 10)


def receive_all(sock: socket.socket) -> bytes:
    """Receive up to the end."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def get(proxy: FaultProxy, size: int) -> bytes:
    """Make a call on a connection of its own and return all that came."""
    with connect(proxy) as client:
        client.sendall(GET % size)
        return receive_all(client)


@pytest.fixture
def proxy(echo: EchoServer, fault_proxy: StartFaultProxy) -> Iterator[FaultProxy]:
    """A proxy without faults in front of an echo server, none of whose connections stay."""
    proxy = fault_proxy(echo)
    yield proxy
    proxy.wait_for(lambda: proxy.open_connections == 0)
    echo.wait_for(lambda: echo.open_connections == 0)


def test_bytes_pass_both_ways(echo: EchoServer, proxy: FaultProxy) -> None:
    """Without a fault, everything is forwarded and counted."""
    size = 3 << 20
    with connect(proxy) as client:
        head = b"PUT / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % size
        client.sendall(head + pattern(size))
        assert b'"length": %d' % size in receive_all(client)
    assert get(proxy, size).endswith(pattern(size))
    proxy.wait_for(lambda: proxy.open_connections == 0)
    assert (proxy.connection_count, echo.request_count) == (2, 2)
    assert proxy.request_bytes == len(head) + size + len(GET % size)
    assert proxy.response_bytes > size


def test_half_a_closing_is_forwarded(proxy: FaultProxy) -> None:
    """The end of one way leaves the other open."""
    with connect(proxy) as client:
        client.sendall(GET % 10)
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client).endswith(pattern(10))


def test_a_connection_is_cut_after_so_many_bytes(proxy: FaultProxy) -> None:
    """The client gets exactly the bytes allowed, and then the end."""
    whole = get(proxy, 1000)
    for size in (0, 1, 200, 5000):
        proxy.switch(Fault(cut_after=size))
        assert get(proxy, 1000) == whole[:size]


def test_a_connection_is_reset_after_so_many_bytes(echo: EchoServer, proxy: FaultProxy) -> None:
    """The client gets a reset, although the request was carried out."""
    for size in (0, 100):
        proxy.switch(Fault(reset_after=size))
        with pytest.raises(ConnectionResetError):
            get(proxy, 1000)
    assert echo.request_count == 2


def test_an_upload_is_cut_in_the_middle(echo: EchoServer, proxy: FaultProxy) -> None:
    """A limit on the way of the request counts the request's bytes."""
    proxy.switch(Fault(cut_after=100, direction="request"))
    with connect(proxy) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n".ljust(200, b"x"))
        assert receive_all(client) == b""
    assert echo.request_count == 0


def test_an_answer_is_truncated_and_then_silent(
    scripted: StartScripted, fault_proxy: StartFaultProxy
) -> None:
    """The rest is swallowed while the connection stays open."""
    server = scripted([Repeat([Receive(), response(200, b"body")])])
    proxy = fault_proxy(server, Fault(truncate_after=10))
    with connect(proxy) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 2"
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        proxy.wait_for(lambda: proxy.response_bytes == 2 * len(response(200, b"body")))
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(100)
    proxy.wait_for(lambda: proxy.open_connections == 0)


def test_delay_and_rate_take_their_time(proxy: FaultProxy) -> None:
    """A delayed or throttled answer is whole, and not sooner there than it may."""
    proxy.switch(Fault(delay=0.05))
    start = time.monotonic()
    assert get(proxy, 10).endswith(pattern(10))
    assert time.monotonic() - start >= 0.05
    proxy.switch(Fault(rate=10_000))
    start = time.monotonic()
    assert get(proxy, 1000).endswith(pattern(1000))
    # The last piece leaves when those before it have had their time.
    assert time.monotonic() - start >= 0.08


def test_a_client_need_not_wait_for_a_delay(proxy: FaultProxy) -> None:
    """A delay of a minute holds back neither the client's end nor a healing."""
    proxy.switch(Fault(delay=60))
    with connect(proxy) as client:
        client.sendall(GET % 10)
        proxy.wait_for(lambda: proxy.response_bytes > 0)
    proxy.wait_for(lambda: proxy.open_connections == 0)
    first = proxy.response_bytes
    with connect(proxy) as client:
        client.sendall(GET % 10)
        proxy.wait_for(lambda: proxy.response_bytes == 2 * first)
        proxy.heal()
        assert receive_all(client).endswith(pattern(10))


def test_a_black_hole_swallows_until_it_is_healed(echo: EchoServer, proxy: FaultProxy) -> None:
    """Nothing passes, nothing is answered, and what was held passes later."""
    proxy.switch(Fault(black_hole=True))
    with connect(proxy) as deserted:
        deserted.sendall(GET % 10)
    proxy.wait_for(lambda: proxy.connection_count == 1 and proxy.open_connections == 0)
    with connect(proxy) as client:
        client.sendall(GET % 10)
        proxy.wait_for(lambda: proxy.request_bytes == 2 * len(GET % 10))
        assert echo.connection_count == 0
        proxy.heal()
        assert receive_all(client).endswith(pattern(10))


def test_a_refusing_proxy_keeps_its_connections(proxy: FaultProxy) -> None:
    """New connections are refused while the open ones go on."""
    with connect(proxy) as client:
        proxy.wait_for(lambda: proxy.open_connections == 1)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        client.sendall(GET % 10)
        assert receive_all(client).endswith(pattern(10))
    proxy.listen()
    assert get(proxy, 10).endswith(pattern(10))


def test_a_plan_gives_each_connection_its_fault(proxy: FaultProxy) -> None:
    """A sequence or a function of the number decides for connections to come."""
    proxy.switch([Fault(drop=True), Fault(cut_after=4)])
    with pytest.raises(ConnectionError):
        get(proxy, 10)
    assert get(proxy, 10) == b"HTTP"
    assert get(proxy, 10).endswith(pattern(10))
    proxy.switch(lambda number: Fault(cut_after=number))
    assert [get(proxy, 10) for _ in range(3)] == [b"", b"H", b"HT"]


def test_open_connections_are_dropped_at_once(proxy: FaultProxy) -> None:
    """Dropping closes or resets what is open; a single fault takes hold of it, too."""
    with connect(proxy) as first:
        proxy.wait_for(lambda: proxy.open_connections == 1)
        proxy.drop_connections()
        assert proxy.open_connections == 0
        assert first.recv(1) == b""
    with connect(proxy) as second:
        proxy.wait_for(lambda: proxy.open_connections == 1)
        proxy.drop_connections(reset=True)
        with pytest.raises(ConnectionResetError):
            second.recv(1)
    with connect(proxy) as third:
        proxy.wait_for(lambda: proxy.open_connections == 1)
        proxy.switch(Fault(drop=True))
        with pytest.raises(ConnectionResetError):
            third.recv(1)


def test_the_upstreams_end_is_forwarded(
    scripted: StartScripted,
    fault_proxy: StartFaultProxy,
) -> None:
    """A closing stays a closing and a reset a reset."""
    proxy = fault_proxy(scripted([Receive(), b"bye", Close()], [Receive(), Reset()]))
    assert get(proxy, 1) == b"bye"
    with pytest.raises(ConnectionResetError):
        get(proxy, 1)


def test_an_upstream_that_is_down_resets_the_client(echo: EchoServer, proxy: FaultProxy) -> None:
    """The proxy accepts, cannot reach the upstream, and says so by a reset."""
    echo.stop()
    with pytest.raises(ConnectionError):
        get(proxy, 1)
    echo.start()
    assert get(proxy, 1).endswith(pattern(1))


def test_nothing_is_left_of_a_proxy(scripted: StartScripted) -> None:
    """Connections and thread end with the proxy's context, whatever they wait for."""
    server = scripted([Hold()])
    before = threading.active_count()
    with FaultProxy(server.host, server.port) as proxy:
        client = connect(proxy)
        server.wait_for(lambda: server.open_connections == 1)
    with client:
        assert client.recv(1) == b""
    server.wait_for(lambda: server.open_connections == 0)
    assert threading.active_count() == before


def test_a_plan_that_raises_fails_the_test(echo: EchoServer) -> None:
    """An error in the test's own plan is raised at the end of the proxy's context."""

    def plan(number: int) -> Fault:
        raise LookupError(number)

    with (
        pytest.raises(LookupError),
        FaultProxy(echo.host, echo.port, plan) as proxy,
        connect(proxy) as client,
    ):
        assert client.recv(1) == b""
