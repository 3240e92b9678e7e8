"""Long bodies go past the parser; nobody on either side of the connection notices."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import os
from pathlib import Path
from typing import Any

import pytest
import uvicorn.config
from hypothesis import given
from hypothesis import strategies as st

from holdfast.blocks.server.bulk import Bulk
from holdfast.blocks.server.exchanges import Disconnected, Exchange
from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.blocks.server.parts import CHUNK, LARGEST
from holdfast.blocks.server.volumes import VolumeError
from tests.blocks.server.services import QUIET, locator, md5, read_answer, running
from tests.blocks.server.test_connections import head
from tests.servers.certificates import Certificates

SIZES = [2 * CHUNK + 1, LARGEST + CHUNK, 3 * LARGEST, 3 * LARGEST + 1]


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which event loop the service has."""
    name: str = request.param
    if name == "uvloop":
        pytest.importorskip("uvloop")
    factories = uvicorn.config.LOOP_FACTORIES
    monkeypatch.setitem(factories, "auto", factories[name])
    return name


@pytest.mark.usefixtures("loop")
@pytest.mark.parametrize("size", SIZES)
def test_what_follows(size: int) -> None:
    """Requests that are sent right behind a long body are answered after it, one by one."""
    data = os.urandom(size)
    with running([MemoryVolume()]) as service, service.socket() as sock:
        stream = sock.makefile("rb")
        for _ in range(3):
            for one in (data, b"foo", data, data):
                sock.sendall(head("PUT", f"/{md5(one)}", len(one)) + one)
            for one in (data, b"foo", data, data):
                assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
                while stream.readline() != b"\r\n":
                    pass
                assert stream.readline() == f"{locator(one)}\n".encode()
        stream.close()
        assert service.get(locator(data)).body == data


@pytest.mark.usefixtures("loop")
def test_encrypted(certificates: Certificates) -> None:
    """So it is under TLS."""
    config = dataclasses.replace(QUIET, certfile=certificates.server_file)
    data = os.urandom(3 * LARGEST + 1)
    with running([MemoryVolume()], config) as service:
        connection = http.client.HTTPSConnection(
            "localhost", service.address[1], timeout=30, context=certificates.client_context()
        )
        for method, path, body in 3 * [
            ("PUT", f"/{md5(data)}", f"{locator(data)}\n".encode()),
            ("GET", f"/{locator(data)}", data),
        ]:
            connection.request(method, path, data if method == "PUT" else None)
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, body)
        connection.close()


class Failing(MemoryVolume):
    """Has room for what is announced, but not for what comes."""

    def create(self, md5sum: str, size: int = 0) -> Any:
        writer = super().create(md5sum, size)

        def write(data: memoryview) -> None:
            raise VolumeError("it is broken")

        writer.write = write  # type: ignore[assignment, method-assign]
        return writer


@pytest.mark.usefixtures("loop")
def test_refused_in_the_middle() -> None:
    """Who sends all of a body that is refused in the middle of it reads why, and nothing else."""
    data = os.urandom(30_000_000)
    with running([Failing()]) as service, service.socket() as sock:
        sock.sendall(head("PUT", f"/{md5(data)}", len(data)) + data)
        status, body = read_answer(sock)
        assert status.startswith(b"HTTP/1.1 503 ")
        assert body == b"the block could not be stored\n"
        assert sock.recv(1) == b""


@pytest.mark.usefixtures("loop")
def test_gone_in_the_middle(tmp_path: Path) -> None:
    """Of a client that goes away in the middle of a body nothing stays."""
    data = os.urandom(3 * LARGEST)
    with running([FolderVolume(tmp_path, fsync=False)]) as service:
        for sent in (1, 2 * CHUNK, LARGEST, 2 * LARGEST + 1):
            with service.socket() as sock:
                sock.sendall(head("PUT", f"/{md5(data)}", len(data)) + data[:sent])
        while service.service.exchanges:
            service.request("GET", "/_health/ping")
        assert os.listdir(tmp_path / "tmp") == []
        assert service.put(data).status == 200


class Transport:
    """A transport of which the test is the network."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.protocol: Any = None
        self.reading = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def receive(self, size: int) -> None:
        """Have up to so many bytes come, as many as may."""
        assert self.reading
        buffer = self.protocol.get_buffer(-1)
        assert buffer, "a transport takes an empty buffer for an error"
        size = min(size, len(buffer), len(self.data))
        buffer[:size] = self.data[:size]
        self.data = self.data[size:]
        self.protocol.buffer_updated(size)


class Protocol:
    """What a body gives its connection back to."""

    over = lost = False

    def body_over(self) -> None:
        self.over = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@given(
    data=st.binary(min_size=1, max_size=60),
    behind=st.binary(max_size=5),
    sizes=st.lists(st.integers(1, 20), min_size=1),
    rooms=st.lists(st.integers(1, 25), min_size=1),
)
def test_nothing_but_the_body(
    data: bytes, behind: bytes, sizes: list[int], rooms: list[int]
) -> None:
    """However it comes and is taken, it is the body, and what follows is left to the protocol."""
    transport: Any = Transport(data + behind)
    protocol: Any = Protocol()
    moves = 0

    def moved() -> None:
        nonlocal moves
        moves += 1

    async def main() -> None:
        bulk = Bulk(protocol, transport, len(data))
        taken = b""
        turns = received = 0
        while bulk.left:
            buffer = bytearray(rooms[turns % len(rooms)])
            turns += 1
            task = asyncio.ensure_future(bulk.receive_into(memoryview(buffer), moved))
            await asyncio.sleep(0)
            while transport.reading:
                transport.receive(sizes[received % len(sizes)])
                received += 1
            size = await task
            assert size == len(buffer) or not bulk.left
            taken += buffer[:size]
        assert taken == data
        assert moves == received - turns  # the last one of each is a return
        assert transport.protocol is protocol
        assert protocol.over
        assert transport.data == behind

    asyncio.run(main())


def test_a_slow_sender_is_not_an_idle_one() -> None:
    """With each byte that comes the time begins anew, and no byte comes when none is waited for."""
    transport: Any = Transport(bytes(4 * CHUNK))
    protocol: Any = Protocol()
    now = 0.0

    async def main() -> None:
        nonlocal now
        scope = {
            "method": "PUT",
            "path": "/",
            "headers": [(b"content-length", b"2097152")],
            "bulk": lambda left: Bulk(protocol, transport, left),
        }
        exchange = Exchange(scope, first, nothing, lambda: now)
        buffer = memoryview(bytearray(CHUNK))
        assert await exchange.receive_into(buffer) == 5
        task = asyncio.ensure_future(exchange.receive_into(buffer))
        await asyncio.sleep(0)
        for _ in range(3):
            now += 1
            assert exchange.waiting_since == now - 1
            transport.receive(1)
            assert exchange.waiting_since == now
        task.cancel()
        await asyncio.sleep(0)
        assert exchange.waiting_since is None
        assert not transport.reading
        task = asyncio.ensure_future(exchange.receive_into(buffer))
        await asyncio.sleep(0)
        transport.protocol.connection_lost(None)
        with pytest.raises(Disconnected):
            await task
        assert protocol.lost
        with pytest.raises(Disconnected):
            await exchange.receive_into(buffer)

    async def first() -> Any:
        return {"type": "http.request", "body": b"first", "more_body": True}

    async def nothing(message: Any) -> None:
        raise AssertionError("nothing is sent")

    asyncio.run(main())
