"""A dispatcher and a stand-in host in one event loop, and a client that sends lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from holdfast.jobs.dispatcher.config import Config, Listen
from holdfast.jobs.dispatcher.registry import parse_host
from holdfast.jobs.dispatcher.service import Service
from holdfast.jobs.dispatcher.store import Store
from tests.jobs.dispatcher.hosts import StandIn
from tests.servers.certificates import Certificates

#: A test as a coroutine function.
Test = Callable[[], Coroutine[Any, Any, None]]


class Peer:
    """A client that knows of lines only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def raw(self, data: bytes) -> None:
        """Send anything."""
        self.writer.write(data)

    def send(self, **fields: Any) -> None:
        """Send a request."""
        self.raw(json.dumps({"harpcaller": 1, **fields}).encode() + b"\n")

    async def line(self) -> bytes:
        """Return the next line, an empty one at the end."""
        return await self._reader.readline()

    async def receive(self) -> Any:
        """Return the next message."""
        line = await self.line()
        assert line.endswith(b"\n"), f"the connection ended: {line!r}"
        return json.loads(line)

    async def ask(self, **fields: Any) -> Any:
        """Send a request and return its answer."""
        self.send(**fields)
        return await self.receive()

    async def call(self, procedure: str, *arguments: Any, **fields: Any) -> str:
        """Submit a job and return its id."""
        asked = {"host": "web01", "procedure": procedure, "arguments": arguments}
        reply = await self.ask(**(asked | fields))
        assert reply.keys() == {"harpcaller", "job_id"}, reply
        assert reply["harpcaller"] == 1
        return str(reply["job_id"])

    async def result(self, job_id: str) -> Any:
        """Wait for the end of a job."""
        return await self.ask(get_result=job_id)

    async def stream(self) -> tuple[list[tuple[int, Any]], Any]:
        """Return the packets that come, and what ends them."""
        packets = []
        while "packet" in (message := await self.receive()):
            packets.append((message["packet"], message["data"]))
        return packets, message

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection, which may be a reset."""
        data = bytearray()
        with suppress(ConnectionResetError):
            while piece := await self._reader.read(1 << 16):
                data += piece
        return bytes(data)

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


class Kit:
    """What a test works with."""

    def __init__(self, service: Service, host: StandIn) -> None:
        self.service = service
        self.host = host
        self._peers: list[Peer] = []

    @property
    def port(self) -> int:
        """The port for clients."""
        return int(self.service.addresses[0].rpartition(":")[2])

    async def peer(self, limit: int = 1 << 25, **options: Any) -> Peer:
        """Return a new client, which reads no further than some bytes ahead."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=limit, **options
        )
        self._peers.append(Peer(reader, writer))
        return self._peers[-1]

    def know(self, name: str, port: int, address: str = "127.0.0.1") -> None:
        """Add a host to the registry."""
        host = parse_host(host_line(name, port, address).encode())
        assert host is not None
        self.service.registry._hosts[name] = host

    def close(self) -> None:
        """Close what is left of the clients."""
        for peer in self._peers:
            peer.close()


def host_line(name: str, port: int, address: str = "127.0.0.1") -> str:
    """Return the line of a host in a registry."""
    credentials = {"user": "dispatcher", "password": "hush"}
    host = {"hostname": name, "address": address, "port": port, "credentials": credentials}
    return json.dumps(host) + "\n"


@asynccontextmanager
async def dispatching(
    directory: Path,
    issued: Certificates,
    store: Store | None = None,
    **options: Any,
) -> AsyncIterator[Kit]:
    """Run a dispatcher that knows the stand-in as web01 and web02."""
    async with StandIn().serve(issued.server_context()) as host:
        registry = directory / "hosts"
        if not registry.exists() or "host_db" not in options:
            registry.write_text(host_line("web01", host.port) + host_line("web02", host.port))
        settings: dict[str, Any] = {
            "listen": (Listen("127.0.0.1", 0),),
            "stream_directory": directory / "jobs",
            "host_db": registry,
            "stop_timeout": 1,
        }
        service = Service(Config(**(settings | options)), store=store)
        await service.open()
        kit = Kit(service, host)
        try:
            yield kit
        finally:
            kit.close()
            service.stop(0)
            await service.stopped()
