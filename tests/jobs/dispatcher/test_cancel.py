"""Cancelling a job, whatever it is doing."""

from __future__ import annotations

import asyncio

from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit


def test_running(dispatch: Dispatch) -> None:
    """Cancelling a running job closes the connection to the host, and everyone hears of it."""

    async def test(kit: Kit) -> None:
        peer, waiting, following = [await kit.peer() for _ in range(3)]
        job_id = await peer.call("hold")
        call = await kit.host.call()
        call.acknowledge(streams=True)
        waiting.send(get_result=job_id)
        following.send(follow_stream=job_id, since=0)
        call.packets("x")
        assert await following.receive() == {"packet": 0, "data": "x"}
        assert await peer.ask(cancel=job_id) == {"cancelled": True}
        await call.closed()
        assert await waiting.receive() == {"cancelled": True}
        assert await following.receive() == {"cancelled": True}
        assert await peer.ask(cancel=job_id) == {"cancelled": False}
        peer.send(read_stream=job_id)
        assert await peer.stream() == ([(0, "x")], {"cancelled": True})
        times = (await peer.ask(get_status=job_id))["time"]
        assert None not in times.values()

    dispatch(test)


def test_ended(dispatch: Dispatch) -> None:
    """A job that has ended cannot be cancelled."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo")
        end = await peer.result(job_id)
        assert await peer.ask(cancel=job_id) == {"cancelled": False}
        assert await peer.result(job_id) == end

    dispatch(test)


def test_by_many_at_once(dispatch: Dispatch) -> None:
    """Of several who cancel a job, one has done it."""

    async def test(kit: Kit) -> None:
        peers = [await kit.peer() for _ in range(5)]
        job_id = await peers[0].call("hold")
        await kit.host.call()
        replies = await asyncio.gather(*(peer.ask(cancel=job_id) for peer in peers))
        assert sorted(reply["cancelled"] for reply in replies) == [False] * 4 + [True]

    dispatch(test)


def test_while_connecting(dispatch: Dispatch) -> None:
    """A job whose host does not answer the handshake can be cancelled."""

    async def test(kit: Kit) -> None:
        accepted: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.put_nowait(reader)
            await reader.read()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            kit.know("silent", port)
            peer = await kit.peer()
            job_id = await peer.call("echo", host="silent")
            reader = await accepted.get()
            assert await peer.ask(cancel=job_id) == {"cancelled": True}
            assert await peer.result(job_id) == {"cancelled": True}
            await reader.read()

    dispatch(test)


def test_at_any_time(dispatch: Dispatch) -> None:
    """Whenever a job is cancelled, it has one end, which is the one that was told."""

    async def test(kit: Kit) -> None:
        async def one(turns: int) -> None:
            peer, other = await kit.peer(), await kit.peer()
            job_id = await peer.call("count", 50)
            for _ in range(turns):
                await asyncio.sleep(0)
            cancelled = (await peer.ask(cancel=job_id))["cancelled"]
            end = await other.result(job_id)
            assert end == ({"cancelled": True} if cancelled else {"result": 50})
            peer.send(read_stream=job_id)
            packets, again = await peer.stream()
            assert packets == [(number, number) for number in range(len(packets))]
            assert again == end
            peer.close()
            other.close()

        for turns in range(0, 60, 2):
            await one(turns)
        assert kit.service.dispatcher.jobs() == []

    dispatch(test)
