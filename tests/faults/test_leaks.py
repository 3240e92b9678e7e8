"""Nothing leaks: after thousands of calls that went wrong, only kept connections are open."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast import AsyncCluster, Cluster, HoldfastError, Limit, Policy, Retry
from tests.conformance.drivers import LOOPS
from tests.conformance.peers import left_open, sockets_open
from tests.faults import Fault, FaultProxy
from tests.servers import EchoServer, Receive, ScriptedServer, response_head
from tests.servers.ports import refusing_address, unanswering_address

CALLS = 1200
POLICY = Policy(
    timeout=0.5,
    retry=Retry(attempts=2, base=0.001),
    breaker=None,
    limit=Limit(16, queue=64),
    cluster_limit=Limit(24, queue=200),
)
PATHS = ["/bytes/10", "/chunked/3000", "/drop", "/close", "/status/503", "/gzip", "/bytes/200000"]


@dataclass
class Field:
    """Hosts of every kind, most of them bad."""

    echo: EchoServer
    hosts: list[str]


@contextmanager
def field() -> Iterator[Field]:
    """Start hosts that work, break, lie, hang and refuse."""
    with ExitStack() as stack:
        echo = stack.enter_context(EchoServer())
        faults = [
            Fault(reset_after=30),
            Fault(cut_after=150),
            Fault(black_hole=True),
            Fault(drop=True),
        ]
        ways = [stack.enter_context(FaultProxy(echo.host, echo.port, fault)) for fault in faults]
        short = response_head(200, [("Content-Length", "100")]) + b"short"
        liar = stack.enter_context(ScriptedServer([Receive(), short]))
        refusing = stack.enter_context(refusing_address())
        silent = stack.enter_context(unanswering_address())
        hosts = [echo.address, *(way.address for way in ways), liar.address]
        hosts += [f"{host}:{port}" for host, port in (refusing, silent)]
        yield Field(echo, hosts)


def assert_idle(cluster: Any) -> int:
    """Assert that no slot is taken and nobody waits; return how many connections are kept."""
    for endpoint in cluster.endpoints:
        assert endpoint.in_flight == 0, endpoint
        assert endpoint.waiting == 0, endpoint
    limiter = cluster._core.limiter
    assert (limiter.in_flight, limiter.waiting) == (0, 0)
    return sum(len(endpoint.pool) for endpoint in cluster.endpoints)


def assert_mixed(outcomes: dict[str, int], *names: str) -> None:
    """Assert that calls ended in all the ways that they are meant to, each several times."""
    network = {"NetworkError", "Truncated", "ConnectError"}
    broken = sum(count for name, count in outcomes.items() if name in network)
    late = outcomes.get("DeadlineExceeded", 0)
    assert min(broken, late, *(outcomes.get(name, 0) for name in names)) > 5, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_leaks_from_asyncio(loop: str) -> None:
    """Cancelled, timed-out and failed calls leave no socket, slot, task or timer behind."""
    chance = random.Random(1)
    outcomes: dict[str, int] = {}

    async def one(cluster: AsyncCluster) -> None:
        path = chance.choice(PATHS)
        timeout = chance.choice([0.005, 0.02, 0.1])
        kind = chance.randrange(5)
        try:
            if kind == 0:
                async with cluster.stream("GET", path, timeout=timeout) as response:
                    async for _ in response.aiter_bytes():
                        break
            elif kind == 1:
                await cluster.broadcast("GET", path, timeout=timeout, return_exceptions=True)
            elif kind == 2:
                await cluster.put(path, content=[b"x" * 1000] * 3, timeout=timeout)
            else:
                await cluster.get(path, timeout=timeout)
        except HoldfastError as error:
            outcomes[type(error).__name__] = outcomes.get(type(error).__name__, 0) + 1
        except asyncio.CancelledError:
            outcomes["cancelled"] = outcomes.get("cancelled", 0) + 1
            raise
        else:
            outcomes["well"] = outcomes.get("well", 0) + 1

    async def storm(hosts: list[str], echo: EchoServer) -> None:
        kept = 0
        async with AsyncCluster(hosts, policy=POLICY, ejection=None, max_idle=4) as cluster:
            for _ in range(CALLS // 100):
                tasks = [asyncio.ensure_future(one(cluster)) for _ in range(100)]
                for task in chance.sample(tasks, 40):
                    asyncio.get_running_loop().call_later(chance.random() * 0.02, task.cancel)
                await asyncio.gather(*tasks, return_exceptions=True)
            # The last cancellations may have been late.
            await asyncio.sleep(0.021)
            kept = assert_idle(cluster)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert kept <= 4 * len(hosts)
            for endpoint in cluster.endpoints:
                assert len(endpoint.pool) <= 4
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        running: Any = asyncio.get_running_loop()
        # Timers of streams end with them; uvloop does not show its own.
        live = [t for t in getattr(running, "_scheduled", []) if not t.cancelled()]
        assert live == []

    complaints: list[Any] = []
    with field() as hosts:
        before = sockets_open()
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
            runner.run(storm(hosts.hosts, hosts.echo))
        gc.collect()
        assert not left_open(before)
    assert complaints == []
    assert sum(outcomes.values()) >= CALLS * 0.9
    assert_mixed(outcomes, "well", "cancelled")


@pytest.mark.slow
def test_nothing_leaks_from_threads() -> None:
    """Timed-out and failed calls of many threads leave no socket, slot or thread behind."""
    outcomes: dict[str, int] = {}
    lock = threading.Lock()
    surprises: list[BaseException] = []

    def note(name: str) -> None:
        with lock:
            outcomes[name] = outcomes.get(name, 0) + 1

    def one(cluster: Cluster, chance: random.Random) -> None:
        path = chance.choice(PATHS)
        timeout = chance.choice([0.005, 0.02, 0.05])
        kind = chance.randrange(6)
        try:
            if kind == 0:
                with cluster.stream("GET", path, timeout=timeout) as response:
                    for _ in response.iter_bytes():
                        break
            elif kind == 1:
                cluster.broadcast("GET", path, timeout=timeout, return_exceptions=True)
            elif kind == 2:
                cluster.put(path, content=[b"x" * 1000] * 3, timeout=timeout)
            elif kind == 3:
                cluster.put(path, content=fails(), timeout=timeout)
            else:
                cluster.get(path, timeout=timeout)
        except HoldfastError as error:
            note(type(error).__name__)
        except LookupError:
            note("user's own")
        else:
            note("well")

    def fails() -> Iterator[bytes]:
        yield b"x"
        raise LookupError

    def work(cluster: Cluster, seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(CALLS // 12):
                one(cluster, chance)
        except BaseException as error:
            surprises.append(error)

    with field() as hosts:
        before = sockets_open()
        with Cluster(hosts.hosts, policy=POLICY, ejection=None, max_idle=4) as cluster:
            threads = [threading.Thread(target=work, args=(cluster, seed)) for seed in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert not surprises
            assert assert_idle(cluster) <= 4 * len(hosts.hosts)
        gc.collect()
        assert not left_open(before)
    assert_mixed(outcomes, "well", "user's own")


def test_a_crowd_at_a_limit_leaks_no_slot(echo: EchoServer) -> None:
    """Calls that are cancelled or time out while they wait for a slot give their place back."""
    policy = Policy(timeout=5, retry=None, breaker=None, limit=Limit(2, queue=500))

    async def crowd() -> None:
        async with AsyncCluster([echo.address], policy=policy) as cluster:
            endpoint = cluster.endpoints[0]
            for _ in range(10):
                holding = [asyncio.ensure_future(cluster.get("/slow")) for _ in range(2)]
                while echo.waiting < 2:
                    await asyncio.sleep(0.001)
                late = [asyncio.ensure_future(cluster.get("/", timeout=0.02)) for _ in range(20)]
                waiting = [asyncio.ensure_future(cluster.get("/")) for _ in range(20)]
                await asyncio.sleep(0)
                for task in waiting[::2]:
                    task.cancel()
                results = await asyncio.gather(*late, return_exceptions=True)
                assert all(isinstance(result, TimeoutError) for result in results)
                assert (endpoint.in_flight, endpoint.waiting) == (2, 10)
                holding[0].cancel()
                echo.gate.set()
                await asyncio.gather(*waiting, *holding, return_exceptions=True)
                assert all(task.cancelled() == (n % 2 == 0) for n, task in enumerate(waiting))
                assert (endpoint.in_flight, endpoint.waiting) == (0, 0)
                echo.gate.clear()
            await asyncio.sleep(0)

    before = sockets_open()
    with asyncio.Runner(loop_factory=LOOPS["asyncio"]) as runner:
        runner.run(crowd())
    assert not left_open(before)
