"""Clients that say nothing, and more clients than there is room for."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any

import pytest

from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit
from tests.servers.certificates import Certificates


def test_silence(dispatch: Dispatch) -> None:
    """A client that asks nothing for long is left; one that waits for a job is not."""

    async def test(kit: Kit) -> None:
        following, waiting = await kit.peer(), await kit.peer()
        job_id = await following.call("hold")
        call = await kit.host.call()
        following.send(follow_stream=job_id)
        waiting.send(get_result=job_id)
        began = time.monotonic()
        silent, answered, slow = [await kit.peer() for _ in range(3)]
        assert await answered.ask(get_result=job_id, wait=False) == {"no_result": True}
        ends = asyncio.gather(silent.rest(), answered.rest(), slow.rest())
        while not ends.done():
            slow.raw(b" ")  # which makes no request
            await asyncio.wait((ends,), timeout=0.05)
        assert list(ends.result()) == [b"", b"", b""]
        assert 0.99 <= time.monotonic() - began < 20
        call.finish(1)
        assert await following.receive() == {"result": 1}
        assert await waiting.receive() == {"result": 1}

    dispatch(test, idle_timeout=1)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_room(
    dispatch: Dispatch, caplog: pytest.LogCaptureFixture, certificates: Certificates, tls: bool
) -> None:
    """When there are too many clients, the one that was silent longest gives way."""
    options: dict[str, Any] = {"max_connections": 3}
    if tls:
        options |= {"certfile": certificates.server_file, "keyfile": certificates.server_file}
    ssl: dict[str, Any] = {"ssl": certificates.client_context()} if tls else {}

    async def turned_away(kit: Kit) -> None:
        with suppress(ConnectionError):  # TLS may not have come to its end
            assert await (await kit.peer(**ssl)).rest() == b""

    async def test(kit: Kit) -> None:
        waiting, silent, other = [await kit.peer(**ssl) for _ in range(3)]
        job_id = await waiting.call("hold")
        call = await kit.host.call()
        waiting.send(get_result=job_id)
        assert await silent.ask(get_result=job_id, wait=False) == {"no_result": True}
        assert await other.ask(get_result=job_id, wait=False) == {"no_result": True}
        another = await kit.peer(**ssl)
        another.send(follow_stream=job_id)
        assert await silent.rest() == b""
        other.send(get_result=job_id)
        await other.writer.drain()
        while kit.service.port._resting:
            await asyncio.sleep(0)
        # All of them wait for something.
        await turned_away(kit)
        await turned_away(kit)
        call.finish(1)
        for peer in (waiting, other, another):
            assert await peer.receive() == {"result": 1}
        late = await kit.peer(**ssl)
        assert await late.ask(get_result=job_id) == {"result": 1}
        assert len(kit.service.port.connections) <= 3

    dispatch(test, **options)
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "there are 3 clients" in warning


def test_vanished(dispatch: Dispatch) -> None:
    """Whether a client that says nothing is still there, the system asks."""

    async def test(kit: Kit) -> None:
        await (await kit.peer()).ask(hosts="*")
        (connection,) = kit.service.port.connections
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60

    dispatch(test)


def test_handshakes(dispatch: Dispatch, certificates: Certificates) -> None:
    """Who does not go on with the handshake of TLS gives way, and keeps nobody out."""

    async def test(kit: Kit) -> None:
        silent = [await kit.peer() for _ in range(5)]
        # Those that came first had the most time.
        assert [await one.rest() for one in silent[:2]] == [b"", b""]
        talking = await kit.peer(ssl=certificates.client_context())
        assert await talking.ask(get_result="x") == {
            "error": {"type": "invalid_jobid", "message": "no job has this id"}
        }
        assert await silent[2].rest() == b""
        assert len(kit.service._listener._handshakes) == 2

    certificate = certificates.server_file
    dispatch(test, max_connections=3, certfile=certificate, keyfile=certificate)
