"""Time limits: which one ended a call, and when."""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
from math import inf
from time import monotonic
from typing import Any

import pytest

from holdfast import AsyncCluster, Cluster, Policy, Timeout, ops
from holdfast.errors import (
    CallTimeout,
    ConnectTimeout,
    DeadlineExceeded,
    NetworkError,
    ReadTimeout,
    TooSlow,
)
from holdfast.http.limits import Timeout as TimeoutLimits
from tests.http.clients import BARE, StartClient
from tests.servers import Hold, Receive, SendSlowly, pattern, response, response_head
from tests.servers.fixtures import StartScripted

LONG = 10.0


def taken(client: Any, kind: type[Exception], timeout: Any, **options: Any) -> tuple[float, str]:
    """Call, expect a time limit to end it, and return how long that took and what it says."""
    began = monotonic()
    with pytest.raises(kind) as caught:
        client.get(timeout=timeout, **options)
    seconds = monotonic() - began
    assert type(caught.value) is kind
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, CallTimeout)
    assert client.kept == 0
    return seconds, str(caught.value)


def about(seconds: float, expected: float) -> bool:
    """Tell whether a time is not less, and more by no more than a busy machine may make it."""
    return expected <= seconds < expected + 2


def test_the_connect_limit(client: StartClient, unanswering: tuple[str, int]) -> None:
    """A host that does not answer is given up after the connect limit."""
    host = f"{unanswering[0]}:{unanswering[1]}"
    one = client(host)
    seconds, told = taken(one, ConnectTimeout, Timeout(total=LONG, connect=0.05))
    assert about(seconds, 0.05)
    assert f"{host}: no connection within 0.05 s" in told
    seconds, told = taken(one, ConnectTimeout, (0.05, None))
    assert about(seconds, 0.05)


@pytest.mark.parametrize("connect", [None, LONG])
def test_the_total_while_connecting(
    client: StartClient, unanswering: tuple[str, int], connect: float | None
) -> None:
    """The whole call's limit ends connecting, too."""
    one = client(f"{unanswering[0]}:{unanswering[1]}")
    seconds, told = taken(one, DeadlineExceeded, Timeout(total=0.05, connect=connect))
    assert about(seconds, 0.05)
    assert "no connection before the deadline" in told


def test_a_timeout_while_connecting_was_not_sent(
    client: StartClient, unanswering: tuple[str, int]
) -> None:
    """Nothing can have been carried out, whichever limit it was."""
    one = client(f"{unanswering[0]}:{unanswering[1]}")
    for timeout in (0.02, Timeout(LONG, connect=0.02)):
        with pytest.raises(CallTimeout) as caught:
            one.get(timeout=timeout)
        assert not caught.value.sent


@pytest.mark.parametrize(
    "script",
    [
        [Receive(), Hold()],
        [Receive(), b"HTTP/1.1 200 OK\r\nContent-", Hold()],
        [Receive(), response_head(200, [("Content-Length", "10")]) + b"half", Hold()],
        [Receive(), response_head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nhe", Hold()],
    ],
    ids=["nothing", "half a head", "half a body", "half a chunk"],
)
def test_silence(client: StartClient, scripted: StartScripted, script: Any) -> None:
    """Wherever a server falls silent, the read limit or the total ends the wait."""
    server = scripted(script)
    one = client(server.address)
    seconds, told = taken(one, ReadTimeout, Timeout(LONG, read=0.05))
    assert about(seconds, 0.05)
    assert f"{server.address}: silent for 0.05 s" in told
    seconds, told = taken(one, DeadlineExceeded, 0.2)
    assert about(seconds, 0.2)
    # On a machine that stands still at times, not even a connection may be made by then.
    assert re.search(f"{server.address}: no (complete answer|connection) before the deadline", told)
    seconds, _ = taken(one, ReadTimeout, Timeout(LONG, read=0.05), into=bytearray(100))
    assert about(seconds, 0.05)
    one.rest()
    server.wait_for(lambda: server.open_connections == 0)


def test_the_read_limit_is_for_each_wait(client: StartClient, scripted: StartScripted) -> None:
    """An answer that comes slowly but steadily is not silent."""
    answer = response(200, b"slow but steady")
    server = scripted([Receive(), SendSlowly(answer, chunk=10, interval=0.01)])
    began = monotonic()
    got = client(server.address).get(timeout=Timeout(LONG, read=0.05))
    assert got.content == b"slow but steady"
    assert monotonic() - began > 0.05


def test_the_total_is_for_the_whole_call(client: StartClient, scripted: StartScripted) -> None:
    """Steady progress does not lengthen it."""
    server = scripted([Receive(), SendSlowly(response(200, bytes(1000)), interval=0.01)])
    seconds, _ = taken(client(server.address), DeadlineExceeded, Timeout(0.1, read=0.05))
    assert about(seconds, 0.1)


def test_the_total_while_sending(client: StartClient, scripted: StartScripted) -> None:
    """A server that does not read the body holds nobody up for longer."""
    server = scripted([Receive(body=False), Hold()])
    seconds, _ = taken(client(server.address), DeadlineExceeded, 0.1, content=bytes(1 << 25))
    assert about(seconds, 0.1)


def test_the_least_bandwidth(
    client: StartClient, scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that comes in too slowly is given up, however steady it is."""
    monkeypatch.setattr("holdfast.http.readers.GRACE", 0.05)
    slow = SendSlowly(bytes(1000), chunk=10, interval=0.01)  # 1000 bytes a second at most
    for head in ([("Content-Length", "1000")], []):
        server = scripted([Receive(), response_head(200, head), slow])
        seconds, told = taken(client(server.address), TooSlow, Timeout(LONG, min_bandwidth=100_000))
        assert about(seconds, 0.05)
        assert f"{server.address}: the body came in slower than 100000 bytes/s" in told


def test_enough_bandwidth(
    client: StartClient, scripted: StartScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that comes in fast enough is not disturbed, and neither is a short one."""
    monkeypatch.setattr("holdfast.http.readers.GRACE", 0.05)
    slow = SendSlowly(response(200, bytes(1000)), chunk=100, interval=0.01)
    server = scripted([Receive(), slow])
    timeout = Timeout(LONG, min_bandwidth=500)
    assert client(server.address).get(timeout=timeout).content == bytes(1000)


def test_a_stream_has_no_total(client: StartClient, scripted: StartScripted) -> None:
    """The total is over with the head: the body may take its time, a wait for it may not."""
    gate = threading.Semaphore(0)
    head = response_head(200, [("Content-Length", "5")])
    server = scripted([Receive(), head, SendSlowly(b"hello", chunk=1, pace=gate), Hold()])
    with client(server.address).stream("GET", "/", timeout=1) as streamed:
        timers = [threading.Timer(0.3 * turn, gate.release) for turn in range(1, 6)]
        for timer in timers:
            timer.start()
        assert streamed.read() == b"hello"
        for timer in timers:
            timer.join()


def test_a_stream_does_not_hang(client: StartClient, scripted: StartScripted) -> None:
    """Without a limit for reading, the total is one for each wait."""
    server = scripted([Receive(), response_head(200, [("Content-Length", "5")]) + b"he", Hold()])
    with client(server.address).stream("GET", "/", timeout=0.5) as streamed:
        pieces = streamed.pieces()
        assert next(pieces) == b"he"
        with pytest.raises(ReadTimeout):
            next(pieces)


def test_a_stream_has_a_read_limit(client: StartClient, scripted: StartScripted) -> None:
    """Each wait for a piece has its limit."""
    server = scripted([Receive(), response_head(200, [("Content-Length", "5")]) + b"he", Hold()])
    with client(server.address).stream("GET", "/", timeout=Timeout(LONG, read=0.05)) as streamed:
        pieces = streamed.pieces()
        assert next(pieces) == b"he"
        with pytest.raises(ReadTimeout, match="silent"):
            next(pieces)


def test_a_stream_whose_head_is_late(client: StartClient, scripted: StartScripted) -> None:
    """Until the head is there the total holds."""
    server = scripted([Receive(), Hold()])
    with (
        pytest.raises(DeadlineExceeded),
        client(server.address).stream("GET", "/", timeout=0.05),
    ):
        pass


def test_no_limit_at_all(client: StartClient, scripted: StartScripted) -> None:
    """None waits for as long as it takes."""
    gate = threading.Event()
    server = scripted([Receive(), Hold(until=gate), response(200, b"at last")])
    timer = threading.Timer(0.05, gate.set)
    timer.start()
    assert (
        client(server.address, policy=Policy(timeout=0.01, retry=None)).get(timeout=None).content
        == b"at last"
    )
    timer.join()


def test_limits_of_a_client(client: StartClient, scripted: StartScripted) -> None:
    """The policy's time is the default, a `Timeout` of the client says more."""
    server = scripted([Receive(), Hold()])
    with pytest.raises(DeadlineExceeded):
        client(server.address, policy=Policy(timeout=0.05, retry=None)).get()
    with pytest.raises(ReadTimeout):
        client(server.address, timeout=Timeout(LONG, read=0.05)).get()
    with pytest.raises(ReadTimeout):
        client(server.address, timeout=Timeout(LONG, read=0.05)).get(timeout=LONG - 1)


def test_forms_of_a_timeout() -> None:
    """A number, a pair, None and a `Timeout` are understood as in requests and httpx."""
    default = Timeout(5, 2, 3, 100)
    assert Timeout.of(1.5, default) == Timeout(1.5, 2, 3, 100)
    assert Timeout.of(1, default) == Timeout(1, 2, 3, 100)
    assert Timeout.of((1, 7), default) == Timeout(5, 1, 7, 100)
    assert Timeout.of((None, None), default) == Timeout(5, None, None, 100)
    assert Timeout.of(None, default) == Timeout(None, None, None, None)
    assert Timeout.of(Timeout(9), default) == Timeout(9)
    assert TimeoutLimits is Timeout


@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", True, (1,), (0, 1), (1, 2, 3), [1, 2]])
def test_what_is_no_timeout(value: Any) -> None:
    """Anything else is a ValueError before anything is sent."""
    with Cluster(["name.invalid"]) as cluster, pytest.raises((ValueError, TypeError)) as caught:
        cluster.get("/", timeout=value)
    assert not isinstance(caught.value, OSError)


def test_a_timeout_of_infinity() -> None:
    """Infinity is no limit, as None is."""
    assert Timeout(total=inf).total in (None, inf)


class Broken:
    """A system that answers one operation by an error, and closes streams."""

    def __init__(self, kind: type[ops.Operation], error: Exception) -> None:
        self._kind = kind
        self._error = error
        self.closed = False

    trusted = 1.0

    def close(self) -> None:
        self.closed = True

    def usable(self, idle: float) -> bool:
        return True

    def run(self, program: ops.Program[Any]) -> Any:
        """Perform operations: everything else goes well."""
        operation = next(program)
        try:
            while True:
                if isinstance(operation, self._kind):
                    operation = program.throw(self._error)
                else:
                    operation = program.send(self if isinstance(operation, ops.Connect) else None)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize("kind", [ops.Connect, ops.Receive])
@pytest.mark.parametrize("timeout", [None, LONG, Timeout(None, LONG, LONG)])
def test_a_timeout_of_the_system(kind: type[ops.Operation], timeout: Any) -> None:
    """The kernel gives up connections by itself: that is an error of ours with its words."""
    error = OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    assert isinstance(error, TimeoutError)
    kinds: Any = (ops.Receive, ops.RoundTrip) if kind is ops.Receive else kind
    broken = Broken(kinds, error)
    with Cluster(["127.0.0.1:1"], policy=BARE) as cluster:
        program = cluster._core.call(cluster._build("GET", "/", {"timeout": timeout}))
        with pytest.raises((CallTimeout, NetworkError), match=r"127\.0\.0\.1:1"):
            broken.run(program)
    assert broken.closed == (kind is ops.Receive)


def test_name_look_up_is_part_of_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resolver that hangs is ended by the connect limit."""
    gate = threading.Event()

    def hangs(*arguments: Any, **keywords: Any) -> list[Any]:
        gate.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    try:
        with Cluster(["slow.invalid"], policy=BARE) as cluster:
            began = monotonic()
            with pytest.raises(ConnectTimeout):
                cluster.get("/", timeout=Timeout(LONG, connect=0.05))
            assert about(monotonic() - began, 0.05)
    finally:
        gate.set()


def test_timeouts_in_a_broadcast(
    client: StartClient, scripted: StartScripted, unanswering: tuple[str, int]
) -> None:
    """Each host has the limits for itself; the fast ones are not held up by the slow ones."""
    fast = scripted([Receive(), response(200, pattern(10))])
    silent = scripted([Receive(), Hold()])
    one = client(fast.address, silent.address, f"{unanswering[0]}:{unanswering[1]}")
    began = monotonic()
    results = one._finish(
        one.cluster.broadcast("GET", "/", return_exceptions=True, timeout=Timeout(0.6, connect=0.3))
    )
    assert about(monotonic() - began, 0.6)
    assert results[0].content == pattern(10)
    assert type(results[1]) is DeadlineExceeded
    assert type(results[2]) is ConnectTimeout
    assert isinstance(one.cluster, (Cluster, AsyncCluster))
