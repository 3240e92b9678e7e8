"""Long bodies go past the parser; nobody on either side of the connection notices."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import os
import socket
from collections.abc import Callable
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
from holdfast.blocks.server.protocol import BlockProtocol
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


def to(buffer: bytearray) -> Callable[[], memoryview]:
    """Return what gives a buffer."""
    return lambda: memoryview(buffer)


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
            task = asyncio.ensure_future(bulk.receive_into(to(buffer), moved))
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
        assert await exchange.receive_into(room) == 5
        task = asyncio.ensure_future(exchange.receive_into(room))
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
        task = asyncio.ensure_future(exchange.receive_into(room))
        await asyncio.sleep(0)
        transport.protocol.connection_lost(None)
        with pytest.raises(Disconnected):
            await task
        assert protocol.lost
        with pytest.raises(Disconnected):
            await exchange.receive_into(room)

    def room() -> memoryview:
        return memoryview(bytearray(CHUNK))

    async def first() -> Any:
        return {"type": "http.request", "body": b"first", "more_body": True}

    async def nothing(message: Any) -> None:
        raise AssertionError("nothing is sent")

    asyncio.run(main())


def body_of(transport: Any, pieces: list[bytes], length: int) -> tuple[Exchange, Protocol]:
    """Return an exchange whose body begins with pieces, and comes past the parser after them."""
    protocol: Any = Protocol()
    left = iter(pieces)

    async def receive() -> Any:
        return {"type": "http.request", "body": next(left), "more_body": True}

    async def send(message: Any) -> None:
        pass

    scope = {
        "method": "PUT",
        "path": "/",
        "headers": [(b"content-length", b"%d" % length)],
        "bulk": lambda left: Bulk(protocol, transport, left),
    }
    return Exchange(scope, receive, send, lambda: 0.0), protocol


def test_no_memory_for_nothing() -> None:
    """Whoever sends nothing, or nothing more, takes no memory."""
    transport: Any = Transport(bytes(4 * CHUNK))
    rooms = 0

    def room() -> memoryview:
        nonlocal rooms
        rooms += 1
        return memoryview(bytearray(CHUNK))

    async def main() -> None:
        exchange, _ = body_of(transport, [b"first"], 2 * CHUNK + 5)
        assert await exchange.receive_into(room) == 5
        for expected in (1, 2):
            task = asyncio.ensure_future(exchange.receive_into(room))
            await asyncio.sleep(0)
            assert rooms == expected
            transport.receive(CHUNK)
            assert rooms == expected + 1
            assert await task == CHUNK
        assert await exchange.receive_into(room) == 0
        assert rooms == 3

    asyncio.run(main())


@pytest.mark.parametrize("cancelled_first", [True, False])
def test_cancelled_at_the_end(cancelled_first: bool) -> None:
    """One that is cancelled with the last byte leaves the connection alone, and has ended."""
    transport: Any = Transport(bytes(CHUNK))

    def room() -> memoryview:
        return memoryview(bytearray(CHUNK))

    async def main() -> None:
        exchange, protocol = body_of(transport, [b"first"], CHUNK + 5)
        assert await exchange.receive_into(room) == 5
        task = asyncio.ensure_future(exchange.receive_into(room))
        await asyncio.sleep(0)
        if cancelled_first:
            task.cancel()
            transport.receive(CHUNK)
        else:
            transport.receive(CHUNK)
            task.cancel()
        transport.reading = True  # as the protocol has it, whose connection it is
        with pytest.raises(asyncio.CancelledError):
            await task
        assert protocol.over
        assert transport.reading
        assert await exchange.receive_into(room) == 0

    asyncio.run(main())


def test_what_came_before_is_counted() -> None:
    """The rest of a body of which some was read otherwise is no more than the rest."""
    transport: Any = Transport(bytes(4 * CHUNK))

    async def main() -> None:
        exchange, protocol = body_of(transport, [bytes(CHUNK), b"second"], 2 * CHUNK + 6)
        assert await exchange.piece() == bytes(CHUNK)
        buffer = memoryview(bytearray(LARGEST))
        assert await exchange.receive_into(lambda: buffer) == 6
        task = asyncio.ensure_future(exchange.receive_into(lambda: buffer))
        await asyncio.sleep(0)
        transport.receive(LARGEST)
        assert await task == CHUNK
        assert protocol.over
        assert len(transport.data) == 3 * CHUNK

    asyncio.run(main())


@pytest.mark.usefixtures("loop")
def test_the_end_of_a_connection_behind_it() -> None:
    """A request that ends the connection is answered behind a long body as well."""
    data = os.urandom(3 * LARGEST)
    with running([MemoryVolume()]) as service, service.socket() as sock:
        sock.sendall(head("PUT", f"/{md5(data)}", len(data)) + data)
        assert read_answer(sock)[0].startswith(b"HTTP/1.1 200 ")
        last = head("HEAD", f"/{locator(data)}", None, "Connection: close")
        sock.sendall(last + head("GET", f"/{locator(data)}"))
        assert sock.recv(16) == b"HTTP/1.1 200 OK\r"


def test_an_upload_behind_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for the next request has ended when there is one, however long that takes."""
    seen: list[BlockProtocol] = []
    bulk = BlockProtocol.bulk

    def noting(self: BlockProtocol, left: int) -> Bulk | None:
        seen.append(self)
        return bulk(self, left)

    monkeypatch.setattr(BlockProtocol, "bulk", noting)
    data = os.urandom(3 * LARGEST)
    with running([MemoryVolume()]) as service, service.socket() as sock:
        service.put(b"foo")
        put = head("PUT", f"/{md5(data)}", len(data)) + data
        sock.sendall(head("GET", f"/{locator(b'foo')}") + put[:-1])
        assert read_answer(sock)[1] == b"foo"
        while not seen:
            service.request("GET", "/_health/ping")
        assert all(one.timeout_keep_alive_task is None for one in seen)
        sock.sendall(put[-1:])
        assert read_answer(sock)[1] == f"{locator(data)}\n".encode()


def test_idle_ones_linger(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is given up in the middle of a body is told why, without an error of the service."""
    config = dataclasses.replace(QUIET, idle_timeout=0.2)
    with running([MemoryVolume()], config) as service:
        for path in (f"/{md5(b'')}", f"/{md5(b'foo')}"):
            with service.socket() as sock:
                sock.sendall(head("PUT", path, 3 * LARGEST) + bytes(LARGEST))
                assert read_answer(sock)[0].startswith(b"HTTP/1.1 408 ")
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []
