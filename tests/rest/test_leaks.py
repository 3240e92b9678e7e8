"""Whatever becomes of a call, its error tells what was tried, and nothing is left of it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from holdfast import HoldfastError
from holdfast.errors import DeadlineExceeded
from holdfast.rest import AsyncReplicas, AsyncResource, AsyncShards
from tests.faults import Fault
from tests.rest.conftest import StartEchoes
from tests.rest.faces import Face
from tests.rest.test_resources import addresses
from tests.servers import EchoServer
from tests.servers.fixtures import StartFaultProxy

FAULTS = {
    "drop": Fault(drop=True),
    "cut": Fault(cut_after=0),
    "reset": Fault(reset_after=30),
    "cut in the body": Fault(cut_after=1000),
    "truncate": Fault(truncate_after=1000),
    "black hole": Fault(black_hole=True),
}


def sockets() -> int:
    """Return how many sockets this process has."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:  # that of the folder itself
            pass
    return count


def in_flight(handle: Any) -> int:
    """Return how many slots are taken."""
    return sum(endpoint.in_flight for endpoint in handle._core.endpoints.all)


def calls_of(face: Face, host: str, **options: Any) -> dict[str, tuple[Any, Callable[[], Any]]]:
    """Return one call of each class, with the object that makes it."""
    path = "/bytes/20000"
    resource = face.resource(host, **options).target
    pool = face.pool(host, 2, **options).target
    resources = face.resources([host], 2, **options).target
    shards = face.shards([(host, 1)], 2, **options).target
    replicas = face.replicas([host], 2, **options).target
    return {
        "resource": (resource, partial(resource.call, "GET", path)),
        "pool": (pool, partial(pool.call, "POST", path, 1)),
        "unicast": (resources, partial(resources.unicast, "GET", path)),
        "broadcast": (resources, partial(resources.broadcast, "GET", path)),
        "shards": (shards, partial(shards.multicast, [1], "PUT", path)),
        "replicas": (replicas, partial(replicas.call, "POST", path)),
        "verb": (pool, partial(pool.get, path)),
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_errors_tell_what_was_tried(
    face: Face, echo: EchoServer, fault_proxy: StartFaultProxy, fault: str
) -> None:
    """Every failure of the network is an OSError of ours that names the host and the attempts."""
    proxy = fault_proxy(echo, FAULTS[fault])
    callers = calls_of(face, proxy.address, timeout=0.1)
    for _ in range(2):
        errors = face.at_once([call for _, call in callers.values()])
        for name, error in zip(callers, errors, strict=True):
            assert isinstance(error, OSError), name
            assert isinstance(error, HoldfastError), name
            assert {attempt.endpoint for attempt in error.attempts} == {proxy.address}, name
            assert all(attempt.error is not None for attempt in error.attempts), name
            assert str(error).count(proxy.address) >= 2, name
    assert [name for name, (caller, _) in callers.items() if in_flight(caller)] == []
    face.rest()
    proxy.wait_for(lambda: proxy.open_connections == 0)
    echo.wait_for(lambda: echo.open_connections == 0)


def test_a_host_recovers(face: Face, echo: EchoServer, fault_proxy: StartFaultProxy) -> None:
    """After any failure, the next call is as good as the first one."""
    proxy = fault_proxy(echo)
    callers = calls_of(face, proxy.address, timeout=0.6)
    for fault in FAULTS.values():
        proxy.switch(fault)
        errors = face.at_once([call for _, call in callers.values()])
        assert all(isinstance(error, OSError) for error in errors)
        proxy.heal()
        face.rest()
        answers = face.at_once([call for _, call in callers.values()])
        for _ in range(20):
            if not any(isinstance(answer, DeadlineExceeded) for answer in answers):
                break
            # The machine was too slow for 0.6 s, not the host.
            answers = face.at_once([call for _, call in callers.values()])
        assert [answer for answer in answers if isinstance(answer, Exception)] == []


def test_many_failed_calls(face: Face, refusing: tuple[str, int]) -> None:
    """Failing often leaves no socket and no slot behind."""
    dead = "{}:{}".format(*refusing)
    replicas = face.replicas([dead, f"localhost:{refusing[1]}"], 2)
    face.rest()  # a loop has sockets of its own
    before = sockets()
    for _ in range(4):
        results = face.at_once([partial(replicas.target.call, "GET", "/")] * 100)
        assert all(isinstance(error, OSError) for error in results)
    assert in_flight(replicas) == 0
    assert sockets() == before


def test_cancelled_at_any_point(echoes: StartEchoes) -> None:
    """A call that is cancelled, wherever it is, leaves no socket and no slot behind."""
    servers = echoes(3)
    hosts = addresses(servers)
    source = random.Random(1)

    async def cancel_many() -> None:
        before = sockets()
        async with (
            AsyncReplicas(hosts, 2) as replicas,
            AsyncShards([(host, 1) for host in hosts], 2) as shards,
            AsyncResource(hosts[0]) as resource,
        ):
            made: list[Callable[[], Any]] = [
                partial(replicas.call, "PUT", "/bytes/100000", [1] * 1000),
                partial(replicas.broadcast, "GET", "/x"),
                partial(shards.unicast, 1, "POST", "/chunked/100000", 1),
                partial(resource.call, "GET", "/gzip"),
            ]
            for _ in range(100):
                tasks = [asyncio.ensure_future(call()) for call in made]
                for _ in range(source.randrange(40)):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for core in (replicas._core, shards._core, resource._core):
                assert all(endpoint.in_flight == 0 for endpoint in core.endpoints.all)
            for call in made:
                assert await call()
        await asyncio.sleep(0)
        for server in servers:
            server.wait_for(lambda server=server: server.open_connections == 0)  # type: ignore[misc]
        assert sockets() == before

    asyncio.run(cancel_many())
