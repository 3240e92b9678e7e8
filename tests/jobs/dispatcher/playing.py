"""The stand-in host on a thread, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.jobs.dispatcher.hosts import Call, StandIn
from tests.servers.certificates import Certificates


class ThreadedHost:
    """A stand-in whose calls are taken and answered from another thread."""

    def __init__(self, host: StandIn, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop
        self.port = host.port

    def call(self) -> Call:
        """Return the next call of a procedure that has no script."""
        return asyncio.run_coroutine_threadsafe(self._host.call(), self._loop).result(60)

    def finish(self, call: Call, result: object = None) -> None:
        """Answer a call."""
        self._loop.call_soon_threadsafe(call.finish, result)

    def stream(self, call: Call, *packets: object) -> None:
        """Begin a stream."""

        def send() -> None:
            call.acknowledge(streams=True)
            call.packets(*packets)

        self._loop.call_soon_threadsafe(send)


@contextmanager
def playing(certificates: Certificates) -> Iterator[ThreadedHost]:
    """Serve on a thread."""
    ready: list[ThreadedHost] = []
    started = threading.Event()
    ending: list[asyncio.Event] = []

    async def serve() -> None:
        async with StandIn().serve(certificates.server_context()) as host:
            ready.append(ThreadedHost(host, asyncio.get_running_loop()))
            ending.append(asyncio.Event())
            started.set()
            await ending[0].wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(60)
        yield ready[0]
    finally:
        if ending:
            ready[0]._loop.call_soon_threadsafe(ending[0].set)
        thread.join(60)
