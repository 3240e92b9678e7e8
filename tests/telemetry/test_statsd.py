"""Calls are counted and timed at statsd."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import AdaptiveLimit, Breaker, Cluster, Fallback, Limit, Policy, Retry
from holdfast.policy.events import Event
from holdfast.telemetry import UDP, Statsd
from tests.cluster.calls import Virtual
from tests.servers.echo import EchoServer
from tests.telemetry.statsd_server import StatsdServer

PLAIN: dict[str, Any] = {"retry": None, "budget": None, "breaker": None, "limit": None}


class Client:
    """A client that keeps what it is told."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.timings: list[tuple[str, float]] = []
        self.gauges: dict[str, float] = {}

    def incr(self, name: str) -> None:
        self.counts[name] += 1

    def timing(self, name: str, milliseconds: float) -> None:
        self.timings.append((name, milliseconds))

    def gauge(self, name: str, value: float) -> None:
        self.gauges[name] = value


def watched(count: int = 1, **parts: Any) -> tuple[Virtual, Client]:
    """Return a cluster and who counts its calls."""
    client = Client()
    policy = Policy(**{**PLAIN, **parts})
    return Virtual(count, policy, listeners=[Statsd(client, "dep")]), client


def test_a_call_that_goes_well() -> None:
    """It is a success, with its time in milliseconds."""
    cluster, client = watched()
    cluster.all_reply(after=0.25)
    cluster.call()
    assert client.counts == {"dep.success": 1}
    assert client.timings == [("dep.duration", 250.0)]


def test_failures_and_retries() -> None:
    """However many attempts a call had, it fails once."""
    cluster, client = watched(3, retry=Retry(attempts=3, base=1e-9))
    cluster.all_reply(fate="reset")
    cluster.fail()
    assert client.counts == {"dep.failure": 1, "dep.retry": 2}
    cluster.all_reply(status=503)
    cluster.call()
    assert client.counts == {"dep.failure": 2, "dep.retry": 4}
    assert len(client.timings) == 2


def test_a_timeout() -> None:
    """It is no other failure."""
    cluster, client = watched(timeout=0.5)
    cluster.all_reply(after=1)
    cluster.fail()
    assert client.counts == {"dep.timeout": 1}
    assert client.timings == [("dep.duration", 500.0)]


def test_a_circuit_and_its_rejections() -> None:
    """It opens, calls are rejected and fail, it closes."""
    cluster, client = watched(breaker=Breaker(failures=1, open_for=10))
    cluster.all_reply(fate="reset")
    cluster.fail()
    cluster.fail()
    cluster.all_reply()
    cluster.world.advance(11)
    cluster.call()
    assert client.counts == {
        "dep.failure": 2,
        "dep.circuit.open": 1,
        "dep.rejected": 1,
        "dep.circuit.close": 1,
        "dep.success": 1,
    }


def test_a_full_queue_is_a_rejection() -> None:
    """And the call that met it failed."""
    cluster, client = watched(limit=Limit(1, queue=0))
    cluster.all_reply(after=1)
    cluster.world.start(cluster.program())
    cluster.world.advance(0)
    cluster.fail()
    assert client.counts == {"dep.failure": 1, "dep.rejected": 1}


def test_a_fallback() -> None:
    """What it stands in for was a failure, once, and no success."""
    cluster, client = watched(fallback=Fallback(7), timeout=0.5)
    cluster.all_reply(fate="reset")
    cluster.world.run(cluster.program())
    assert client.counts == {"dep.failure": 1, "dep.fallback": 1}
    cluster.all_reply(after=1)
    cluster.world.run(cluster.program())
    assert client.counts["dep.timeout"] == 1
    assert len(client.timings) == 2
    cluster.all_reply()
    cluster.call()
    assert client.counts["dep.success"] == 1


def test_a_cancelled_call() -> None:
    """It is neither a success nor a failure."""
    client = Client()
    listener = Statsd(client, "dep")
    listener(Event("call started", 0.0, call=1))
    listener(Event("call failed", 1.0, cause=asyncio.CancelledError(), seconds=1.0, call=1))
    assert client.counts == {}
    assert client.timings == []


def test_an_adaptive_limit_of_all() -> None:
    """Is a gauge."""
    cluster, client = watched(cluster_limit=AdaptiveLimit(algorithm="aimd", initial=20))
    cluster.all_reply(status=503)
    cluster.call()
    assert set(client.gauges) == {"dep.limit"}
    assert client.gauges["dep.limit"] < 20


def test_adaptive_limits_of_endpoints() -> None:
    """Are a gauge for each, which do not overwrite each other's values."""
    client = Client()
    listener = Statsd(client, "dep")
    listener(Event("call started", 0.0, cause=object(), call=1))
    for endpoint, limit in (("10.0.0.1:80", 18), ("10.0.0.2:80", 5), ("", 40)):
        listener(Event("limit changed", 0.0, endpoint, cause=limit))
    assert client.gauges == {
        "dep.limit.10_0_0_1_80": 18,
        "dep.limit.10_0_0_2_80": 5,
        "dep.limit": 40,
    }


def test_gauges_of_endpoints_are_bounded() -> None:
    """Hosts that come and go do not fill the statsd server; places of those gone are free."""
    client = Client()
    listener = Statsd(client, max_endpoints=2)
    for name in ("a", "b", "c", "a"):
        listener(Event("limit changed", 0.0, name, cause=3))
    assert set(client.gauges) == {"limit.a", "limit.b"}
    listener(Event("removed", 0.0, "a"))
    listener(Event("limit changed", 0.0, "d", cause=3))
    assert set(client.gauges) == {"limit.a", "limit.b", "limit.d"}
    with pytest.raises(ValueError, match="max_endpoints"):
        Statsd(client, max_endpoints=-1)


def test_an_adaptive_limit_of_a_function() -> None:
    """Is that of the whole: a function is its own only endpoint."""
    client = Client()

    @Policy(**{**PLAIN, "limit": AdaptiveLimit(algorithm="aimd", initial=20)})
    def work() -> None:
        raise TimeoutError

    work.core.listen(Statsd(client, "dep"))  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError):
        work()
    assert set(client.gauges) == {"dep.limit"}


def test_a_function_under_a_policy() -> None:
    """Counts as well."""
    client = Client()

    @Policy(**PLAIN)
    def work(fail: bool) -> int:
        if fail:
            raise ValueError
        return 3

    work.core.listen(Statsd(client))  # type: ignore[attr-defined]
    assert work(False) == 3
    with pytest.raises(ValueError):  # noqa: PT011  there is no more to it
        work(True)
    assert client.counts == {"success": 1, "failure": 1}


def test_names_cannot_break_the_protocol() -> None:
    """What separates a name from its value becomes an underscore."""
    client = Client()
    Statsd(client, "a:80|x\n@#b")(Event("retried", 0.0))
    assert client.counts == {"a_80_x___b.retry": 1}
    Statsd(client, "c.\0d.")(Event("retried", 0.0))
    assert client.counts["c._d.retry"] == 1


def test_what_is_no_client() -> None:
    """Is refused with what one has."""
    with pytest.raises(TypeError, match="incr, timing and gauge"):
        Statsd(object())  # type: ignore[arg-type]


def test_real_calls_and_real_datagrams(echo: EchoServer) -> None:
    """What threads call at once arrives as so many successes, and none is lost."""
    with StatsdServer() as server, UDP(port=server.port, interval=3600) as udp:
        listeners = [Statsd(udp, "dep")]
        with Cluster([f"127.0.0.1:{echo.port}"], listeners=listeners) as cluster:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(cluster.get, ["/x"] * 20))
            assert cluster.post("/status/500").status_code == 500
        udp.flush()
        server.receive()
        while len(server.timings) < 21:
            server.receive()
    assert server.counts == {"dep.success": 20, "dep.failure": 1}
    assert {name for name, _ in server.timings} == {"dep.duration"}
    assert all(0 < milliseconds < 30_000 for _, milliseconds in server.timings)
