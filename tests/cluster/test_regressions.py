"""Defects that were found once, at the level of the cluster: each must not come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import Breaker, Budget, Ejection, Policy, Retry
from holdfast.errors import InvalidRequest
from tests.cluster.calls import Virtual
from tests.http.clients import KINDS, Client
from tests.http.test_kept_connections import Clock
from tests.servers import EchoServer, Hold, Receive, Repeat, response, response_head
from tests.servers.fixtures import StartScripted

GOOD = Repeat([Receive(), response(200, b"good")])


@pytest.mark.parametrize("kind", KINDS)
def test_a_broadcast_into_one_buffer(kind: str, echo: EchoServer) -> None:
    """The answers of many hosts do not fit into one buffer, so it is refused."""
    with EchoServer() as other, Client(kind, echo.address, other.address) as one:
        with pytest.raises(InvalidRequest, match="into"):
            one._finish(one.cluster.broadcast("GET", "/", into=bytearray(100)))
        assert echo.connection_count == other.connection_count == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_as_the_probe(kind: str, scripted: StartScripted) -> None:
    """The head of a streamed answer closes the circuit: the body may take as long as it likes."""
    head = response_head(200, [("Transfer-Encoding", "chunked")])
    server = scripted(
        [Receive(), response(500), Receive(), head + b"1\r\na\r\n", Hold()],
        [GOOD],
    )
    clock = Clock()
    policy = Policy(timeout=10, retry=None, breaker=Breaker(failures=1, open_for=5.0))
    with Client(kind, server.address, policy=policy, clock=clock) as one:
        (endpoint,) = one.cluster.endpoints
        assert one.get("/fail").status_code == 500
        assert endpoint.breaker.state == "open"
        clock.ahead += 6.0
        with one.stream("GET", "/events") as streamed:
            assert next(streamed.pieces()) == b"a"
            assert endpoint.breaker.state == "closed"
            assert one.get("/other").content == b"good"


def test_a_cancelled_backoff_gives_its_retry_back() -> None:
    """A retry that was not made is not counted, whether it was cancelled or closed."""
    retry = Retry(attempts=3, base=50.0, cap=50.0)
    policy = Policy(timeout=None, retry=retry, budget=Budget(), breaker=None, limit=None)
    cluster = Virtual(2, policy)
    cluster.all_reply(status=503)
    budget: Any = cluster.core.budget
    for error in (None, asyncio.CancelledError()):
        before = budget.balance(cluster.world.now)
        task = cluster.world.start(cluster.program())
        cluster.world.advance(0.001)
        assert not task.done
        assert budget.balance(cluster.world.now) < before
        task.cancel(error)
        assert budget.balance(cluster.world.now) >= before
    assert cluster.idle()


@pytest.mark.parametrize("loop", [kind for kind in KINDS if kind != "blocking"])
def test_a_task_cancelled_during_its_backoff(loop: str, scripted: StartScripted) -> None:
    """A cancelled task gives its retry back, too."""
    later = response(503, b"", [("Retry-After", "30")])
    server = scripted([Repeat([Receive(), later])])
    policy = Policy(timeout=60, budget=Budget(per_second=1, window=60), breaker=None)

    async def call_and_cancel(cluster: Any) -> None:
        budget = cluster._core.budget
        spent = budget.balance(cluster._core.clock())
        for _ in range(3):
            task = asyncio.ensure_future(cluster.get("/"))
            while budget.window.failures == 0:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
        assert budget.window.failures == 0
        assert budget.balance(cluster._core.clock()) >= spent

    with Client(loop, server.address, policy=policy) as one:
        one._finish(call_and_cancel(one.cluster))


def test_panic_counts_open_circuits() -> None:
    """Hosts whose circuit is open are not well: with too few others, ejection is ignored."""
    ejection = Ejection(failures=2, most=0.25, panic=0.5)
    policy = Policy(retry=None, budget=None, breaker=Breaker(failures=3, rate=None), limit=None)
    cluster = Virtual(4, policy, ejection=ejection)
    endpoints: Any = cluster.core.endpoints
    a, b, c, d = endpoints.all
    now = cluster.world.now

    def fail(endpoint: Any, times: int) -> None:
        for _ in range(times):
            endpoints.record(endpoint, endpoints.admit(endpoint, now, anyway=True), False, now)

    fail(c, 2)
    assert endpoints.ready == (a, b, d)
    fail(a, 3)
    assert endpoints.ready == (b, d)
    fail(b, 3)
    assert set(endpoints.ready) == {c, d}
    chosen = {cluster.core.choose(now)[0] for _ in range(50)}
    assert chosen == {c, d}
