"""Clients and the block service together, and faults of real connections."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from holdfast import ops
from holdfast.blocks.aio import AsyncKeepClient
from holdfast.blocks.cache import KeepBlockCache, MemoryCache
from holdfast.blocks.client import KeepClient
from holdfast.blocks.errors import KeepReadError, KeepWriteError
from holdfast.blocks.locators import BLOCK
from holdfast.drivers import blocking
from holdfast.testing import instant
from tests.blocks.client.clients import Api, item, locator, md5
from tests.blocks.client.conftest import StartClient
from tests.conformance.peers import left_open, sockets_open
from tests.faults import Fault
from tests.servers import EchoServer, Hold, Receive, Repeat, Reset, response, response_head
from tests.servers.fixtures import StartFaultProxy, StartScripted

pytest.importorskip("uvicorn", reason="the service needs it")

from holdfast.blocks.server.memory import MemoryVolume
from tests.blocks.server.services import QUIET, Running, running

DATA = b"foo" * 1000
NAME = md5(DATA)
TEXT = locator(DATA)
MUCH = bytes(1_200_000)


@pytest.fixture(scope="module")
def services() -> Iterator[list[Running]]:
    """Serve three services that sign locators with one key."""
    config = dataclasses.replace(QUIET, signing_key="key")
    with ExitStack() as stack:
        yield [stack.enter_context(running([MemoryVolume()], config)) for _ in range(3)]


def api(services: list[Running]) -> Api:
    """List services."""
    return Api([item(n, *one.address) for n, one in enumerate(services)])


def copies(services: list[Running], md5sum: str) -> int:
    """Return how many services have a block."""
    return sum(len(list(volume.index(md5sum))) for one in services for volume in one.service.mounts)


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, 65537, 3_000_001])
def test_there_and_back(services: list[Running], start: StartClient, size: int) -> None:
    """What is put with two copies is on two services, and read back by another client."""
    data = os.urandom(size)
    text = start(api(services), proxy="").put(data)
    assert text.startswith(f"{locator(data)}+A")
    if size:
        assert copies(services, md5(data)) == 2
    other = start(api(services), proxy="")
    assert other.get(text) == data
    assert other.head(text) is True
    if size:
        with pytest.raises(KeepReadError, match="400 Bad Request"):
            start(api(services), proxy="").get(locator(data))


@pytest.mark.slow
def test_a_whole_block(services: list[Running], start: StartClient) -> None:
    """A block of 64 MiB goes there and back."""
    data = os.urandom(1 << 20) * 64
    assert len(data) == BLOCK
    client = start(api(services), proxy="")
    text = client.put(data, copies=1)
    assert client.get(text) == data
    assert client.get_from_cache(text) is not None


def test_services_as_urls(services: list[Running], start: StartClient) -> None:
    """Services that are named by URLs are asked one after the other for what is missing."""
    client = start(proxy=" ".join(one.url for one in services), api_token="t")
    text = client.put(DATA, copies=3)
    assert copies(services, NAME) == 3
    assert client.get(text) == DATA


def test_many_threads(services: list[Running]) -> None:
    """One client serves many threads at the same time."""
    wrong: list[object] = []
    with KeepClient(api(services), proxy="", block_cache=KeepBlockCache(1)) as client:

        def work(seed: int) -> None:
            try:
                for step in range(20):
                    data = b"%d/%d" % (seed % 3, step) * 50
                    if client.get(client.put(data)) != data:
                        wrong.append(data)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="others keep no such memory")
def test_one_block_after_the_other(
    services: list[Running], start: StartClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who drops a block gets the next one into its memory; who keeps one keeps it."""
    reclaimed: list[bool] = []
    reclaim = MemoryCache.reclaim

    def recorded(self: MemoryCache, size: int) -> Any:
        memory = reclaim(self, size)
        reclaimed.append(memory is not None)
        return memory

    monkeypatch.setattr(MemoryCache, "reclaim", recorded)
    blocks = [bytes([number]) * 1_200_000 for number in range(3)]
    writer = start(api(services), proxy="")
    names = [writer.put(data) for data in blocks]
    client = start(api(services), proxy="", block_cache=KeepBlockCache(max_slots=1))

    def right(number: int) -> bool:  # an assertion would keep it
        return bool(client.get(names[number]) == blocks[number])

    assert all(right(number) for number in range(3))
    assert reclaimed == [False, True, True]
    kept = client.get(names[0])
    hash(client.get(names[1]))
    assert right(2)
    assert reclaimed[3:] == [True, False, False]
    assert kept == blocks[0]


def test_a_get_that_fails(services: list[Running], start: StartClient) -> None:
    """Of a full cache it takes no more than what would have gone for it."""
    blocks = [bytes([number]) * 1_200_000 for number in range(2)]
    writer = start(api(services), proxy="")
    names = [writer.put(data) for data in blocks]
    client = start(api(services), proxy="", block_cache=KeepBlockCache(max_slots=2))
    for name in names:
        client.get(name)
    for _ in range(2):
        with pytest.raises(KeepReadError):
            client.get(locator(bytes([9]) * 1_200_000))
        assert client.get_from_cache(names[1]) == blocks[1]
    assert client.get(names[0]) == blocks[0]


def test_many_large_blocks(services: list[Running], start: StartClient) -> None:
    """What somebody keeps is what they asked for, while others fall out of the cache."""
    blocks = [bytes([number]) * 1_200_000 for number in range(7)]
    writer = start(api(services), proxy="")
    names = [writer.put(data) for data in blocks]
    client = start(api(services), proxy="", block_cache=KeepBlockCache(max_slots=2))
    kept: list[tuple[int, bytes]] = []
    for step in range(20):
        numbers = [(step * 3 + one * (step % 2 + 1)) % 7 for one in range(3)]
        got = client.together(*[("get", names[number]) for number in numbers])
        kept = [*kept[step % 4 :], *zip(numbers, got, strict=True)]
        assert [number for number, data in kept if data != blocks[number]] == []


PROXIED: dict[str, tuple[Fault, str]] = {
    "dropped at once": (Fault(drop=True), "NetworkError|ConnectError"),
    "silent": (Fault(black_hole=True), "ReadTimeout|TooSlow"),
    "cut in the head": (Fault(cut_after=20), "Truncated"),
    "reset in the body": (Fault(reset_after=50_000), "NetworkError"),
    "cut in the body": (Fault(cut_after=50_000), "Truncated"),
    "stopped in the body": (Fault(truncate_after=50_000), "TooSlow"),
    "too slow": (Fault(rate=20_000), "TooSlow"),
}


@pytest.mark.parametrize("fault", PROXIED)
def test_connections_at_fault(
    services: list[Running], start: StartClient, fault_proxy: StartFaultProxy, fault: str
) -> None:
    """Whatever happens to a connection, another service is asked, or the error tells of it."""
    plan, told = PROXIED[fault]
    data = os.urandom(200_000)

    class Upstream:
        host, port = services[0].address

    proxy = fault_proxy(Upstream(), plan)
    text = start(api(services), proxy="").put(data, copies=3)
    items = [item(n, *one.address) for n, one in enumerate(services)]
    items[0].update(service_host=proxy.host, service_port=proxy.port)
    limits = (2, 0.5, 100_000)
    assert start(Api(items), proxy="", timeout=limits).get(text) == data
    with pytest.raises(KeepReadError, match=told):
        start(Api(items[:1]), proxy="", timeout=limits).get(text)


def test_services_that_cannot_be_reached(
    services: list[Running],
    start: StartClient,
    refusing: tuple[str, int],
    unanswering: tuple[str, int],
) -> None:
    """A service that refuses, and one that does not answer, cost at most the time to connect."""
    items = [item(0, *services[0].address), item(1, *refusing), item(2, *unanswering)]
    client = start(Api(items), proxy="", timeout=(0.1, 5, 1))
    for number in range(4):
        data = b"%d" % number
        assert client.get(client.put(data, copies=1)) == data
    with pytest.raises(KeepWriteError) as caught:
        client.put(DATA, copies=2)
    text = str(caught.value)
    assert "wrote 1" in text
    assert "refused" in text
    assert "within 0.1 s" in text


def test_rounds_on_real_connections(scripted: StartScripted, start: StartClient) -> None:
    """A service that recovers between two rounds has the block."""
    server = scripted(
        [Receive(), Reset()], [Receive(), response(503)], [Receive(), response(200, DATA)]
    )
    client = start(proxy=server.url, num_retries=3)
    with instant():
        assert client.get(TEXT) == DATA
    assert server.request_count == 3


def test_a_kept_connection_that_was_closed(scripted: StartScripted, start: StartClient) -> None:
    """A connection that the service closed meanwhile is replaced, for a put as well."""
    stored = response(200, f"{NAME}+3000\n".encode())
    server = scripted([Receive(), stored], [Receive(), stored])
    client = start(proxy=server.url)
    client.put(DATA, copies=1)
    server.wait_for(lambda: server.open_connections == 0)
    client.put(DATA, copies=1)
    assert server.connection_count == 2


def stopped(program: ops.Program[Any], at: int) -> ops.Program[Any]:
    """Run a program, and end it instead of the operation of that number."""
    count = 0
    step: Callable[[Any], ops.Operation] = program.send
    value: Any = None
    while True:
        try:
            operation = step(value)
        except StopIteration as stop:
            return stop.value
        count += 1
        if count == at:
            value, step = KeyboardInterrupt(), program.throw
            continue
        try:
            value = yield operation
            step = program.send
        except BaseException as error:
            value, step = error, program.throw


OPERATIONS: dict[str, Callable[[KeepClient], ops.Program[Any]]] = {
    "get": lambda client: client.core.get(TEXT),
    "get of much": lambda client: client.core.get(locator(MUCH)),
    "head": lambda client: client.core.head(TEXT),
    "put": lambda client: client.core.put(DATA, 1),
    "put of much": lambda client: client.core.put(MUCH, 1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_interrupted_at_every_operation(name: str) -> None:
    """Whenever it is interrupted, nothing stays open, and the client goes on."""
    with running([MemoryVolume()]) as service:
        before = sockets_open()
        service.put(DATA)
        service.put(MUCH)
        at = 0
        over = False
        while not over:
            at += 1
            cache = KeepBlockCache(1)
            with KeepClient(proxy=service.url, block_cache=cache) as client:
                try:
                    blocking.run(stopped(OPERATIONS[name](client), at))
                    over = True
                except KeyboardInterrupt:
                    pass
                assert client.get(TEXT) == DATA
            assert not left_open(before), at
        assert at > 3


def test_a_cancelled_get(scripted: StartScripted) -> None:
    """A task that is cancelled lets go of its connection; one that waits takes its place."""
    server = scripted([Receive(), Hold()], [Receive(), response(200, DATA)])

    async def main() -> None:
        async with AsyncKeepClient(proxy=server.url) as client:
            first = asyncio.create_task(client.get(TEXT))
            second = asyncio.create_task(client.get(TEXT))
            await asyncio.to_thread(server.wait_for_requests, 1)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert await second == DATA

    asyncio.run(main())
    assert server.request_count == 2


def test_an_interrupted_put_of_two(scripted: StartScripted) -> None:
    """An interrupt of a put to two services ends both."""
    servers = [scripted([Receive(), Hold()]) for _ in range(2)]
    items = [item(n, one.host, one.port) for n, one in enumerate(servers)]
    main = threading.get_ident()

    def interrupt() -> None:
        for server in servers:
            server.wait_for_requests(1)
        signal.pthread_kill(main, signal.SIGALRM)

    def raised(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, raised)
    with KeepClient(Api(items), proxy="") as client:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.put(DATA)
        thread.join()
    signal.signal(signal.SIGALRM, before)
    for server in servers:
        server.wait_for(lambda server=server: server.open_connections == 0)  # type: ignore[misc]


def test_a_redirect_is_not_followed(
    scripted: StartScripted, start: StartClient, echo: EchoServer
) -> None:
    """A token never goes where a service points to."""
    head = response_head(302, [("Location", f"{echo.url}/x"), ("Content-Length", "0")])
    server = scripted([Repeat([Receive(), head])])
    client = start(proxy=server.url, api_token="t")
    with pytest.raises(KeepReadError, match="302 Found"):
        client.get(TEXT)
    assert echo.request_count == 0


def test_a_compressed_answer(scripted: StartScripted, start: StartClient) -> None:
    """No compression is asked for: blocks come as they are."""
    server = scripted([Receive(), response(200, DATA)])
    start(proxy=server.url).get(TEXT)
    assert server.requests[0].header("accept-encoding") == "identity"
