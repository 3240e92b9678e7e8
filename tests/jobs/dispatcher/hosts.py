"""A stand-in of a host daemon: it plays what its procedures say, over real TLS.

    python -m tests.jobs.dispatcher.hosts KEY_AND_CERTIFICATE

serves until its standard input closes, after it has printed its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

#: What `StandIn.call` gives to a procedure.
Procedure = Callable[["Call"], Awaitable[None]]


class Call:
    """A call that the stand-in has received, and the ways to answer it."""

    def __init__(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.request = request
        self.arguments = request["arguments"]
        self._reader = reader
        self._writer = writer
        self.resumed = False

    def raw(self, data: bytes) -> None:
        """Send anything."""
        self._writer.write(data)

    def send(self, *messages: Any) -> None:
        """Send messages."""
        self.raw(b"".join(json.dumps(one).encode() + b"\n" for one in messages))

    def acknowledge(self, streams: bool = False) -> None:
        """Send the acknowledgement."""
        self.send({"harp": 1, "stream_result": streams})

    def finish(self, result: Any = None) -> None:
        """Send the acknowledgement and a result."""
        self.send({"harp": 1, "stream_result": False}, {"result": result})

    def packets(self, *packets: Any) -> None:
        """Send packets."""
        self.send(*({"stream": one} for one in packets))

    async def drain(self) -> None:
        """Wait until there is room for more."""
        await self._writer.drain()

    async def closed(self) -> None:
        """Wait until the caller has closed the connection."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while await self._reader.read(65536):
                pass

    def abort(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()


class StandIn:
    """The daemon; `received` tells a test of each call of an unknown procedure."""

    def __init__(self) -> None:
        self.port = 0
        self.address = "127.0.0.1"
        self.calls = 0
        self.resumed = 0
        self.received: asyncio.Queue[Call] = asyncio.Queue()
        self._procedures: dict[str, Procedure] = {
            "echo": _echo,
            "count": _count,
            "play": _play,
            "fail": _fail,
        }

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext) -> AsyncIterator[StandIn]:
        """Serve on a port that the system picks."""
        server = await asyncio.start_server(
            self._connected, self.address, 0, ssl=tls, limit=1 << 24, backlog=1024
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def call(self) -> Call:
        """Return the next call of a procedure that has no script: the test is to play it."""
        return await self.received.get()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        self.resumed += bool(writer.get_extra_info("ssl_object").session_reused)
        try:
            line = await reader.readline()
            if not line:
                return
            call = Call(json.loads(line), reader, writer)
            procedure = self._procedures.get(call.request["procedure"])
            if procedure is None:
                self.received.put_nowait(call)
                await call.closed()
            else:
                await procedure(call)
                await call.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await writer.wait_closed()


async def _echo(call: Call) -> None:
    call.finish(call.arguments)


async def _count(call: Call) -> None:
    """Stream the numbers below the argument, and return it."""
    call.acknowledge(streams=True)
    (count,) = call.arguments
    for first in range(0, count, 200):
        numbers = range(first, min(count, first + 200))
        call.raw(b"".join(b'{"stream":%d}\n' % number for number in numbers))
        await call.drain()
    call.send({"result": count})


async def _play(call: Call) -> None:
    """Send the argument as it is, then close the connection."""
    call.raw(call.arguments[0].encode("utf-8", "surrogateescape"))


async def _fail(call: Call) -> None:
    call.acknowledge()
    call.send({"exception": {"type": "ValueError", "message": "no", "data": {"class": "x"}}})


async def _serve(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    async with StandIn().serve(context) as host:
        print(host.port, flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve until the standard input closes."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(sys.argv[1]))
    else:
        uvloop.run(_serve(sys.argv[1]))


if __name__ == "__main__":
    main()
