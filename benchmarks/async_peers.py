"""Fifty calls in flight on one event loop, by every asynchronous client, with uvloop and without.

Fifty workers each make calls in a row, so fifty are in flight but for the last moments of a round.
As in the synchronous part, everybody reads the status and the body and nobody decodes the JSON.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import cast

from benchmarks.rounds import Contestant, Run
from benchmarks.serving import SMALL_ANSWER, Target
from benchmarks.sync_peers import PATH, check

IN_FLIGHT = 50

AsyncRun = Callable[[int], Awaitable[None]]
Open = Callable[[Target], AbstractAsyncContextManager[AsyncRun]]
Worker = Callable[[int], Awaitable[None]]


def contestants(target: Target, uvloop: bool) -> list[Contestant]:
    """List who makes asynchronous calls, on one kind of loop."""
    opens: list[tuple[str, Open]] = [
        ("raw protocol loop", raw),
        ("holdfast", holdfast),
        ("pyreqwest", pyreqwest),
        ("aiohttp", aiohttp),
        ("httpx2", httpx2),
    ]
    return [
        Contestant(name, partial(on_loop, open, target, uvloop), ours=name == "holdfast")
        for name, open in opens
    ]


@contextmanager
def on_loop(open: Open, target: Target, uvloop: bool) -> Iterator[Run]:
    """Give a contestant an event loop of its own, which runs only while it is its turn."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if uvloop:
        import uvloop as package

        factory = package.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:

        async def enter(context: AbstractAsyncContextManager[AsyncRun]) -> AsyncRun:
            return await context.__aenter__()

        async def leave(context: AbstractAsyncContextManager[AsyncRun]) -> None:
            await context.__aexit__(None, None, None)

        async def turn(run: AsyncRun, calls: int) -> None:
            await run(calls)

        context = open(target)
        run = runner.run(enter(context))
        try:
            yield lambda calls: runner.run(turn(run, calls))
        finally:
            runner.run(leave(context))


async def fifty(worker: Worker, calls: int) -> None:
    """Share calls among the workers."""
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(as_coroutine(worker(calls // IN_FLIGHT)))


async def as_coroutine(awaitable: Awaitable[None]) -> None:
    """Await, for those who ask for a coroutine."""
    await awaitable


class RawConnection(asyncio.Protocol):
    """Count bytes, parse nothing, and send the next request when an answer's worth is there."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.got = 0
        self.left = 0
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to send."""
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write

    def start(self, calls: int) -> "asyncio.Future[None]":
        """Send the first of so many requests."""
        self.done = asyncio.get_running_loop().create_future()
        self.left = calls
        self.write(self.request)
        return self.done

    def data_received(self, data: bytes) -> None:
        """Count, and send the next."""
        self.got += len(data)
        if self.got < SMALL_ANSWER:
            return
        self.got = 0
        self.left -= 1
        if self.left:
            self.write(self.request)
        elif self.done is not None:
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the round when the server goes away in the middle of it."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server went away"))


@asynccontextmanager
async def raw(target: Target) -> AsyncIterator[AsyncRun]:
    """Fifty connections, each of which sends the next request as data arrives: the ceiling."""
    loop = asyncio.get_running_loop()
    request = target.get(PATH)
    connections = [
        (await loop.create_connection(lambda: RawConnection(request), *target.address))[1]
        for _ in range(IN_FLIGHT)
    ]

    async def run(calls: int) -> None:
        each = calls // IN_FLIGHT
        await asyncio.gather(*[connection.start(each) for connection in connections])

    try:
        yield run
    finally:
        for connection in connections:
            connection.transport.close()


@asynccontextmanager
async def holdfast(target: Target) -> AsyncIterator[AsyncRun]:
    """Call with every default policy on."""
    from holdfast import AsyncCluster

    async with AsyncCluster([target.hosts[0]]) as cluster:

        async def worker(calls: int) -> None:
            for _ in range(calls):
                response = await cluster.get(PATH)
                check(response.status_code, len(response.content))

        yield partial(fifty, worker)


@asynccontextmanager
async def pyreqwest(target: Target) -> AsyncIterator[AsyncRun]:
    """Keep one client."""
    from pyreqwest.client import ClientBuilder

    url = target.url + PATH
    async with ClientBuilder().build() as client:

        async def worker(calls: int) -> None:
            for _ in range(calls):
                response = await client.get(url).build().send()
                check(response.status, len(await response.bytes()))

        yield partial(fifty, worker)


@asynccontextmanager
async def aiohttp(target: Target) -> AsyncIterator[AsyncRun]:
    """Keep one session, whose connector allows a hundred connections as it is."""
    from aiohttp import ClientSession

    url = target.url + PATH
    async with ClientSession() as session:

        async def worker(calls: int) -> None:
            for _ in range(calls):
                async with session.get(url) as response:
                    check(response.status, len(await response.read()))

        yield partial(fifty, worker)


@asynccontextmanager
async def httpx2(target: Target) -> AsyncIterator[AsyncRun]:
    """Keep one client that may keep every connection; by itself it keeps twenty."""
    from httpx2 import AsyncClient, Limits

    url = target.url + PATH
    limits = Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with AsyncClient(limits=limits) as client:

        async def worker(calls: int) -> None:
            for _ in range(calls):
                response = await client.get(url)
                check(response.status_code, len(response.content))

        yield partial(fifty, worker)
