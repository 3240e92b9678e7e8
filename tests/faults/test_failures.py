"""What a network does to calls: clear errors in time, and no connection used again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from holdfast import Breaker, Budget, Policy, Retry, Timeout
from holdfast.errors import (
    AttemptTimeout,
    CallTimeout,
    CircuitOpenError,
    ConnectError,
    ConnectTimeout,
    DeadlineExceeded,
    HoldfastError,
    LimitExceeded,
    NetworkError,
    ProtocolError,
    ResolveError,
    TooLarge,
    Truncated,
)
from tests.faults import Fault, FaultProxy
from tests.http.clients import BARE, KINDS, Client
from tests.servers import (
    Close,
    EchoServer,
    Hold,
    Receive,
    Reset,
    Script,
    SendForever,
    pattern,
    response_head,
)
from tests.servers.fixtures import StartFaultProxy, StartScripted

DEADLINE = 5.0
RETRYING = Policy(
    timeout=DEADLINE, retry=Retry(attempts=3, base=0.001), budget=Budget(), breaker=None, limit=None
)
CHUNKED = [("Transfer-Encoding", "chunked")]

StartClient = Callable[..., Client]


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest) -> Iterator[StartClient]:
    """Clients of each kind: `client(host, …, **options)`."""
    started: list[Client] = []

    def start(*hosts: str, **options: Any) -> Client:
        started.append(Client(request.param, *hosts, **options))
        return started[-1]

    yield start
    for one in started:
        one.__exit__(None, None, None)


def failed(one: Client, host: str, kind: type[HoldfastError], **options: Any) -> HoldfastError:
    """Call a host and return the error, having checked what holds for all of them."""
    began = monotonic()
    with pytest.raises(kind) as caught:
        one.get("/path", **options)
    error: HoldfastError = caught.value
    assert monotonic() - began < DEADLINE
    assert issubclass(kind, (OSError, ValueError))
    text = str(error)
    assert text.startswith("GET /path: ")
    assert host in error.summary
    assert error.attempts
    assert f"[{len(error.attempts)} attempt" in text
    for number, attempt in enumerate(error.attempts, 1):
        assert attempt.number == number
        assert attempt.endpoint == host
        assert attempt.error is not None
        assert attempt.elapsed >= 0
        assert f"{number}. {host}: " in text
    assert one.kept == 0
    return error


SCRIPTS: dict[str, tuple[Script, type[HoldfastError]]] = {
    "nothing at all": ([Receive()], NetworkError),
    "an early end": ([Close()], NetworkError),
    "an early reset": ([Reset()], NetworkError),
    "a reset instead of an answer": ([Receive(), Reset()], NetworkError),
    "half a head": ([Receive(), b"HTTP/1.1 200 OK\r\nContent-Le"], Truncated),
    "garbage": ([Receive(), b"\x00\x01\x02 garbage \xff" * 10], ProtocolError),
    "another protocol": ([b"220 mail.example ESMTP ready\r\n", Hold()], ProtocolError),
    "an endless header": (
        [Receive(), b"HTTP/1.1 200 OK\r\nX: ", SendForever(b"x" * 100)],
        TooLarge,
    ),
    "endless headers": ([Receive(), b"HTTP/1.1 200 OK\r\n", SendForever(b"X: y\r\n")], TooLarge),
    "an endless start line": ([Receive(), b"HTTP/1.1 200 ", SendForever(b"OK")], TooLarge),
    "endless interim answers": ([Receive(), SendForever(response_head(103))], TooLarge),
    "endless nothing": ([Receive(), SendForever(b"\r\n")], ProtocolError),
    "half a chunk": ([Receive(), response_head(200, CHUNKED) + b"ff\r\nhalf"], Truncated),
    "a chunk that lies": (
        [Receive(), response_head(200, CHUNKED) + b"3\r\nlonger\r\n0\r\n\r\n", Hold()],
        ProtocolError,
    ),
    "an endless chunk header": (
        [Receive(), response_head(200, CHUNKED) + b"1;", SendForever(b"x")],
        TooLarge,
    ),
    "endless trailers": (
        [Receive(), response_head(200, CHUNKED) + b"0\r\n", SendForever(b"X: y\r\n")],
        TooLarge,
    ),
    "a short body": (
        [Receive(), response_head(200, [("Content-Length", "100")]) + b"short"],
        Truncated,
    ),
    "a reset in the body": (
        [Receive(), response_head(200, [("Content-Length", "100")]) + b"short", Reset()],
        NetworkError,
    ),
    "two lengths": (
        [Receive(), response_head(200, [("Content-Length", "1"), ("Content-Length", "2")]) + b"ab"],
        ProtocolError,
    ),
    "a length and chunks": (
        [Receive(), response_head(200, [("Content-Length", "5"), *CHUNKED]) + b"0\r\n\r\n"],
        ProtocolError,
    ),
}


@pytest.mark.parametrize("retrying", [False, True], ids=["once", "retrying"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_servers_that_misbehave(
    client: StartClient, scripted: StartScripted, name: str, retrying: bool
) -> None:
    """Whatever a server says, the error is of the right kind, names it, and lists the attempts."""
    script, kind = SCRIPTS[name]
    server = scripted(script)
    one = client(server.address, policy=RETRYING if retrying else BARE)
    error = failed(one, server.address, kind)
    worth_it = retrying and kind is not TooLarge
    assert len(error.attempts) == (3 if worth_it else 1)
    assert server.connection_count == (3 if worth_it else 1)
    assert ("no attempt is left" in str(error)) == worth_it
    assert error.sent or isinstance(error, ConnectError)  # a reset may come before the request
    one.rest()
    server.wait_for(lambda: server.open_connections == 0)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_good_host_beside_one_that_misbehaves(
    client: StartClient, scripted: StartScripted, echo: EchoServer, name: str
) -> None:
    """A call survives on another host, where another attempt makes sense."""
    script, kind = SCRIPTS[name]
    bad = scripted(script)
    one = client(bad.address, echo.address, policy=RETRYING, balancer="round-robin")
    for _ in range(4):
        try:
            answer = one.get("/path")
        except kind:
            assert kind is TooLarge
        else:
            assert answer.json()["path"] == "/path"
            assert answer.attempts[-1].endpoint == echo.address
            assert all(attempt.endpoint == bad.address for attempt in answer.attempts[:-1])
    assert bad.connection_count >= 2


def test_an_unknown_host(client: StartClient) -> None:
    """A name that nobody has is told apart, and nothing was sent."""
    for policy, attempts in ((BARE, 1), (RETRYING, 3)):
        error = failed(client("nobody.invalid", policy=policy), "nobody.invalid", ResolveError)
        assert "the host name is not known" in str(error)
        assert len(error.attempts) == attempts
        assert not error.sent


def test_a_refused_port(client: StartClient, refusing: tuple[str, int]) -> None:
    """Nothing was sent, so that even a POST is tried again."""
    host = f"{refusing[0]}:{refusing[1]}"
    error = failed(client(host), host, ConnectError)
    assert "connection refused" in str(error)
    assert not error.sent
    one = client(host, policy=RETRYING)
    with pytest.raises(ConnectError) as caught:
        one.post("/", content=b"body")
    assert len(caught.value.attempts) == 3


def test_a_post_is_not_repeated(client: StartClient, scripted: StartScripted) -> None:
    """Where a POST may have been carried out there is one attempt, and the error says why."""
    server = scripted([Receive(), Reset()])
    with pytest.raises(NetworkError, match="may have been carried out") as caught:
        client(server.address, policy=RETRYING).post("/", content=b"body")
    assert len(caught.value.attempts) == 1
    assert len(server.requests) == 1


def test_silence(client: StartClient, scripted: StartScripted) -> None:
    """A host that accepts and says nothing is given up at the deadline, never later."""
    server = scripted([Receive(), Hold()])
    error = failed(client(server.address), server.address, DeadlineExceeded, timeout=0.1)
    assert isinstance(error, TimeoutError)
    policy = Policy(retry=Retry(attempts=3, base=0.001, attempt_timeout=0.05), breaker=None)
    error = failed(client(server.address, policy=policy), server.address, AttemptTimeout)
    assert len(error.attempts) == 3
    assert "time limit" in str(error)


# What happens on the way.


@pytest.fixture
def way(echo: EchoServer, fault_proxy: StartFaultProxy) -> FaultProxy:
    """The way to an echo server."""
    return fault_proxy(echo)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(drop=True), NetworkError),
        (Fault(cut_after=0), NetworkError),
        (Fault(reset_after=0), NetworkError),
        (Fault(cut_after=10), Truncated),
        (Fault(reset_after=10), NetworkError),
        (Fault(cut_after=1000), Truncated),
        (Fault(cut_after=50_000), Truncated),
        (Fault(reset_after=50_000), NetworkError),
        (Fault(cut_after=20, direction="request"), NetworkError),
        (Fault(reset_after=20, direction="request"), NetworkError),
    ],
    ids=repr,
)
def test_a_way_that_breaks(
    client: StartClient, way: FaultProxy, fault: Fault, kind: type[HoldfastError]
) -> None:
    """A connection cut or reset anywhere is an error; once it is healed, calls go well again."""
    one = client(way.address)
    assert one.get("/bytes/10").content == pattern(10)
    way.switch(fault)
    with pytest.raises(kind):
        one.get("/bytes/100000")
    assert one.kept == 0
    way.heal()
    assert one.get("/bytes/100000").content == pattern(100_000)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(black_hole=True),
        Fault(truncate_after=10),
        Fault(truncate_after=1000),
        Fault(truncate_after=20, direction="request"),
        Fault(rate=1000),
        Fault(delay=30),
    ],
    ids=repr,
)
def test_a_way_that_swallows(client: StartClient, way: FaultProxy, fault: Fault) -> None:
    """What comes too slowly, or never, ends at the deadline, and the connection with it."""
    one = client(way.address)
    assert one.get("/bytes/10").content == pattern(10)
    way.switch(fault)
    began = monotonic()
    with pytest.raises(DeadlineExceeded):
        one.get("/bytes/100000", timeout=0.1)
    assert 0.1 <= monotonic() - began < 1
    assert one.kept == 0
    one.rest()
    way.heal()
    way.wait_for(lambda: way.open_connections == 0)
    assert one.get("/bytes/100000").content == pattern(100_000)


def test_a_slow_way(client: StartClient, way: FaultProxy) -> None:
    """Slowness within the limits is no failure."""
    way.switch(Fault(rate=1_000_000, delay=0.01))
    assert client(way.address).get("/bytes/50000").content == pattern(50_000)


def test_a_way_that_is_blocked_and_opened(
    client: StartClient, way: FaultProxy, echo: EchoServer
) -> None:
    """A host that is down refuses; a call that retries finds the other one."""
    one = client(way.address, echo.address, policy=RETRYING, balancer="round-robin")
    way.refuse()
    for _ in range(6):
        assert one.get("/path").status_code == 200
    way.listen()
    assert {one.get("/path").attempts[0].endpoint for _ in range(4)} == {way.address, echo.address}


def test_a_reset_way_while_sending(client: StartClient, way: FaultProxy) -> None:
    """A body that cannot be sent to its end is an error of ours."""
    way.switch(Fault(reset_after=100_000, direction="request"))
    one = client(way.address)
    with pytest.raises(NetworkError) as caught:
        one.post("/", content=bytes(8 << 20))
    assert way.address in str(caught.value)
    assert one.kept == 0


@pytest.mark.parametrize("fault", [Fault(cut_after=20_000), Fault(reset_after=20_000)], ids=repr)
def test_a_streamed_body_that_breaks(client: StartClient, way: FaultProxy, fault: Fault) -> None:
    """The pieces before the break are given out, then the error comes, then nothing is kept."""
    way.switch(fault)
    one = client(way.address)
    got: list[bytes] = []
    with pytest.raises(NetworkError), one.stream("GET", "/bytes/100000") as streamed:
        got.extend(streamed.pieces())
    assert pattern(100_000).startswith(b"".join(got))
    assert one.kept == 0
    one.rest()
    way.wait_for(lambda: way.open_connections == 0)


def test_a_host_that_does_not_answer_connections(
    client: StartClient, unanswering: tuple[str, int], echo: EchoServer
) -> None:
    """A host that swallows packets costs the connect limit, and then another one is called."""
    host = f"{unanswering[0]}:{unanswering[1]}"
    timeout = Timeout(DEADLINE, connect=0.05)
    error = failed(client(host, timeout=timeout), host, ConnectTimeout)
    assert not error.sent
    one = client(host, echo.address, policy=RETRYING, timeout=timeout, balancer="round-robin")
    for _ in range(2):
        assert one.get("/path").status_code == 200


# Policies that give up before anything is sent.


def test_an_open_circuit(client: StartClient, refusing: tuple[str, int]) -> None:
    """After enough failures the error says that the circuit is open and for how long."""
    host = f"{refusing[0]}:{refusing[1]}"
    policy = Policy(retry=None, breaker=Breaker(failures=2, open_for=60))
    one = client(host, policy=policy)
    for _ in range(2):
        failed(one, host, ConnectError)
    with pytest.raises(CircuitOpenError, match=re.escape(host)) as caught:
        one.get("/path")
    assert caught.value.attempts == ()
    assert not caught.value.sent
    assert isinstance(caught.value, OSError)


def test_an_exhausted_budget(client: StartClient, refusing: tuple[str, int]) -> None:
    """Without a budget for it there is no second attempt, and the error says so."""
    host = f"{refusing[0]}:{refusing[1]}"
    policy = Policy(
        retry=Retry(attempts=3, base=0.001),
        budget=Budget(share=0.0, per_second=0.1, window=10),
        breaker=None,
    )
    one = client(host, policy=policy)
    errors = [failed(one, host, ConnectError) for _ in range(3)]
    assert [len(error.attempts) for error in errors] == [2, 1, 1]
    assert all("budget" in str(error) for error in errors)


def test_errors_are_not_confused(client: StartClient, refusing: tuple[str, int]) -> None:
    """Catching one family of errors does not catch another."""
    host = f"{refusing[0]}:{refusing[1]}"
    error = failed(client(host), host, ConnectError)
    assert not isinstance(error, (CallTimeout, LimitExceeded, ValueError))
    assert isinstance(error.__cause__, ConnectError)
    assert isinstance(error.__cause__.__cause__, ConnectionRefusedError)
