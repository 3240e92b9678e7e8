"""Connections to hosts that carry one call after the other, where the host knows how."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from holdfast.jobs.dispatcher import hosts
from holdfast.jobs.keeping import PROTOCOL
from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit, Peer
from tests.servers.certificates import Certificates

ACK = '{"harp":1,"stream_result":false}\n'
RESULT = ACK + '{"result":1}\n'

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Keeping:
    """A host that keeps connections: each call plays its argument."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[asyncio.StreamWriter] = []
        self.calls: list[int] = []
        self.closed = asyncio.Event()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self.connections.append(writer)
        number = len(self.connections)
        with suppress(ConnectionError, ssl.SSLError):
            while line := await reader.readline():
                request = json.loads(line)
                assert request["auth"] == {"user": "dispatcher", "password": "hush"}
                self.calls.append(number)
                played, *rest = request["arguments"]
                writer.write(played.encode())
                if rest:
                    await writer.drain()
                    writer.close()
        self.closed.set()
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


@asynccontextmanager
async def keeping(kit: Kit, context: ssl.SSLContext) -> AsyncIterator[Keeping]:
    """Add a host "kept" to the registry."""
    host = Keeping()
    context.set_alpn_protocols([PROTOCOL])
    server = await asyncio.start_server(host.connected, "127.0.0.1", 0, ssl=context)
    host.port = server.sockets[0].getsockname()[1]
    kit.know("kept", host.port)
    try:
        yield host
    finally:
        server.close()


async def played(peer: Peer, *arguments: Any) -> Any:
    """Call the host and return the end of the job."""
    return await peer.result(await peer.call("play", *arguments, host="kept"))


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    """Give the TLS of a host."""
    return certificates.server_context()


def test_calls_share_a_connection(dispatch: Dispatch, context: ssl.SSLContext) -> None:
    """Results, exceptions and streams leave the connection to the next call."""
    exception = ACK + '{"exception":{"type":"x","message":"y"}}\n'
    stream = '{"harp":1,"stream_result":true}\n{"stream":1}\n{"result":2}\n'

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context) as host:
            assert await played(peer, RESULT) == {"result": 1}
            assert "exception" in await played(peer, exception)
            assert await played(peer, stream) == {"result": 2}
            assert await played(peer, RESULT) == {"result": 1}
            assert host.calls == [1, 1, 1, 1]

    dispatch(test)


def test_calls_at_once_have_their_own(dispatch: Dispatch, context: ssl.SSLContext) -> None:
    """No call waits for another one's connection."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context) as host:
            waiting = await peer.call("play", ACK, host="kept")
            assert await played(peer, RESULT) == {"result": 1}
            assert await played(peer, RESULT) == {"result": 1}
            assert sorted(host.calls) == [1, 2, 2]
            await peer.ask(cancel=waiting)
            # What was cancelled cannot be used again.
            await host.closed.wait()
            assert await played(peer, RESULT) == {"result": 1}
            assert sorted(host.calls) == [1, 2, 2, 2]

    dispatch(test)


@pytest.mark.parametrize(
    "end",
    [
        RESULT + "more\n",
        RESULT + "m",
        ACK + '{"harp":1,"error":{"type":"odd","message":""}}\n',
        ACK + "rubbish\n",
    ],
)
def test_not_kept(dispatch: Dispatch, context: ssl.SSLContext, end: str) -> None:
    """After an error, or where more has come than the end, the next call gets a new connection."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context) as host:
            await played(peer, end)
            assert await played(peer, RESULT) == {"result": 1}
            assert host.calls == [1, 2]

    dispatch(test)


@pytest.mark.parametrize("how", ["close", "says something"])
def test_a_host_that_leaves(dispatch: Dispatch, context: ssl.SSLContext, how: str) -> None:
    """A kept connection that the host closes, or says something on, is not used again."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context) as host:
            assert await played(peer, RESULT, *([True] if how == "close" else [])) == {"result": 1}
            if how != "close":
                host.connections[0].write(b"{}\n")
            await host.closed.wait()
            while any(kit.service.dispatcher.hosts._kept.values()):
                await asyncio.sleep(0)
            assert await played(peer, RESULT) == {"result": 1}
            assert host.calls == [1, 2]

    dispatch(test)


def test_silence_on_a_kept_connection(dispatch: Dispatch, context: ssl.SSLContext) -> None:
    """A host that is silent on a kept connection has the time that the call has."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context):
            assert await played(peer, RESULT) == {"result": 1}
            job_id = await peer.call("play", "", host="kept", timeout=1)
            end = await peer.result(job_id)
            assert end["error"]["type"] == "timeout"
            assert "silent for 1 s" in end["error"]["message"]

    dispatch(test)


def test_old_ones_are_closed(
    dispatch: Dispatch, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that nobody has used for a while is closed."""
    monkeypatch.setattr(hosts, "CALLER_IDLE", 0.01)

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context) as host:
            assert await played(peer, RESULT) == {"result": 1}
            await host.closed.wait()
            assert not kit.service.dispatcher.hosts._kept

    dispatch(test)


def test_few_are_kept(
    dispatch: Dispatch, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a limit to what is kept for a host."""
    monkeypatch.setattr(hosts, "KEPT", 1)

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context) as host:
            jobs = [await peer.call("play", ACK, host="kept") for _ in range(3)]
            while len(host.calls) < 3:
                await asyncio.sleep(0)
            for writer in host.connections:
                writer.write(b'{"result":1}\n')
            assert [await peer.result(one) for one in jobs] == [{"result": 1}] * 3
            await host.closed.wait()
            (kept,) = kit.service.dispatcher.hosts._kept.values()
            assert len(kept) == 1

    dispatch(test)


def test_new_certificates_mean_new_connections(dispatch: Dispatch, context: ssl.SSLContext) -> None:
    """What was accepted by an earlier configuration is not used under another one."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context) as host:
            waiting = await peer.call("play", ACK, host="kept")
            assert await played(peer, RESULT) == {"result": 1}
            kit.service._reload = lambda: kit.service.config
            kit.service.reload()
            while len(host.calls) < 2:
                await asyncio.sleep(0)
            # What ran goes on, and is not kept.
            for writer in host.connections:
                if not writer.is_closing():
                    writer.write(b'{"result":3}\n')
            assert await peer.result(waiting) == {"result": 3}
            assert await played(peer, RESULT) == {"result": 1}
            assert max(host.calls) == 3

    dispatch(test)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such option")
def test_requests_must_be_confirmed(dispatch: Dispatch, context: ssl.SSLContext) -> None:
    """The system breaks a connection whose other end does not confirm that a request has come."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        async with keeping(kit, context):
            assert await played(peer, RESULT) == {"result": 1}
            (kept,) = kit.service.dispatcher.hosts._kept.values()
            ((connection, _),) = kept.items()
            assert connection._transport is not None
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000

    dispatch(test, connect_timeout=7)
