"""Packets: recorded, followed, read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from holdfast.jobs.dispatcher.store import StoreError
from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit, Peer

# What is asked for, and with which packet that begins when there are five.
STARTS: list[tuple[dict[str, int], int]] = [
    ({"since": 0}, 0),
    ({"since": 1}, 1),
    ({"since": 4}, 4),
    ({"since": 5}, 5),
    ({"since": 6}, 6),
    ({"since": 2**53 - 1}, 2**53 - 1),
    ({"recent": 0}, 5),
    ({"recent": 1}, 4),
    ({"recent": 4}, 1),
    ({"recent": 5}, 0),
    ({"recent": 6}, 0),
    ({"recent": 2**53 - 1}, 0),
]


def numbered(first: int, stop: int) -> list[tuple[int, Any]]:
    """Return the packets between two positions."""
    return [(number, number) for number in range(first, stop)]


async def recorded(kit: Kit, peer: Peer, job_id: str, count: int) -> None:
    """Wait until a job has so many packets."""
    peer.send(follow_stream=job_id, since=count - 1)
    assert (await peer.receive())["packet"] == count - 1
    peer.close()


def test_read(dispatch: Dispatch) -> None:
    """Reading gives the packets so far, and tells whether there may be more."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for start, first in [*STARTS, ({}, 0)]:
            job_id = await peer.call("hold")
            call = await kit.host.call()
            peer.send(read_stream=job_id, **start)
            assert await peer.stream() == ([], {"continue": True}), start
            call.acknowledge(streams=True)
            call.packets(*range(5))
            await recorded(kit, await kit.peer(), job_id, 5)
            peer.send(read_stream=job_id, **start)
            assert await peer.stream() == (numbered(first, 5), {"continue": True}), start
            call.send({"result": "end"})
            await peer.result(job_id)
            peer.send(read_stream=job_id, **start)
            assert await peer.stream() == (numbered(first, 5), {"result": "end"}), start

    dispatch(test)


def test_follow(dispatch: Dispatch) -> None:
    """Following gives packets recorded before and after, each once, then the end."""

    async def follow(kit: Kit, start: dict[str, int], first: int) -> None:
        peer, later = await kit.peer(), await kit.peer()
        job_id = await peer.call("hold")
        call = await kit.host.call()
        call.acknowledge(streams=True)
        call.packets(*range(5))
        await recorded(kit, await kit.peer(), job_id, 5)
        peer.send(follow_stream=job_id, **start)
        if first < 5:
            assert (await peer.receive())["packet"] == first
        # The status is asked for later on the same connection, so this is not seen first.
        await later.ask(get_status=job_id)
        call.packets(5, 6)
        await recorded(kit, await kit.peer(), job_id, 7)
        call.packets(7)
        call.send({"result": "end"})
        assert await later.result(job_id) == {"result": "end"}
        packets, end = await peer.stream()
        assert packets == numbered(first + 1 if first < 5 else first, 8), start
        assert end == {"result": "end"}
        later.send(follow_stream=job_id, **start)
        total = {"since": first, "recent": max(0, 8 - start.get("recent", 0))}
        begin = total["since"] if "since" in start else total["recent"]
        assert await later.stream() == (numbered(begin, 8), {"result": "end"}), start

    async def test(kit: Kit) -> None:
        for start, first in [*STARTS, ({}, 5)]:
            await follow(kit, start, first)

    dispatch(test)


@pytest.mark.parametrize(
    "end",
    [
        {"result": None},
        {"exception": {"type": "ValueError", "message": "no", "data": {"class": "ValueError"}}},
        {"exception": {"type": "ValueError", "message": "no"}},
        {"harp": 1, "error": {"type": "shutdown", "message": "stopping", "data": [1]}},
    ],
)
def test_ends(dispatch: Dispatch, end: dict[str, Any]) -> None:
    """A stream ends as the call ended; the host's errors lose the mark of its protocol."""
    expected = {name: value for name, value in end.items() if name != "harp"}

    async def test(kit: Kit) -> None:
        peer, follower = await kit.peer(), await kit.peer()
        job_id = await peer.call("hold")
        follower.send(follow_stream=job_id, since=0)
        call = await kit.host.call()
        call.acknowledge(streams=True)
        call.packets("x")
        call.send(end)
        assert await follower.stream() == ([(0, "x")], expected)
        assert await peer.result(job_id) == expected

    dispatch(test)


VALUES = [
    b'{"stream":1}',
    b'{"stream": [1, {"a": "\xc5\xbe\\n"}] }',
    b'{ "stream" : "\\ud800" }',
    b'{"stream":12345678901234567890123456789}\r',
    b'{"stream":"{\\"stream\\":1}"}',
    b'{"stream":{"stream":{}}}',
    b'{"stream":null}',
    b'{"stream":' + b"[" * 199 + b"]" * 199 + b"}",
    b'{"str\\u0065am":[]}',
    b'{"stream":1,"stream":2}',
]


def test_values(dispatch: Dispatch) -> None:
    """A packet's value comes out as it came in, however it was written."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for line in VALUES:
            job_id = await peer.call("hold")
            call = await kit.host.call()
            call.acknowledge(streams=True)
            call.raw(line + b"\n")
            call.send({"result": 0})
            assert await peer.result(job_id) == {"result": 0}, line
            peer.send(read_stream=job_id)
            assert await peer.stream() == ([(0, json.loads(line)["stream"])], {"result": 0}), line

    dispatch(test)


def test_smuggled_packet(dispatch: Dispatch) -> None:
    """A host cannot write into a packet what only the dispatcher may write there."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for line in (b'{"stream":1,"packet":7}', b'{"stream":1},{"a":2}', b'{"stream":}'):
            job_id = await peer.call("hold")
            call = await kit.host.call()
            call.acknowledge(streams=True)
            call.raw(line + b"\n")
            end = await peer.result(job_id)
            assert end["error"]["type"] == "protocol_error"
            peer.send(read_stream=job_id)
            assert await peer.stream() == ([], end)

    dispatch(test)


def test_many_followers(dispatch: Dispatch) -> None:
    """Every follower gets every packet, whenever it came."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("hold")
        call = await kit.host.call()
        call.acknowledge(streams=True)
        followers = []
        for start in range(0, 1000, 100):
            for _ in range(5):
                follower = await kit.peer()
                follower.send(follow_stream=job_id, since=0)
                followers.append(follower)
            call.packets(*range(start, start + 100))
            await call.drain()
        call.send({"result": "end"})
        expected = (numbered(0, 1000), {"result": "end"})
        assert await asyncio.gather(*(one.stream() for one in followers)) == [expected] * 50

    dispatch(test)


def test_slow_follower(dispatch: Dispatch) -> None:
    """A follower that reads nothing delays nobody, costs no memory, and misses nothing."""

    async def test(kit: Kit) -> None:
        slow, fast = await kit.peer(limit=1 << 15), await kit.peer()
        text = "x" * 20_000
        job_id = await fast.call("hold")
        slow.send(follow_stream=job_id, since=0)
        call = await kit.host.call()
        call.acknowledge(streams=True)
        count = 700
        for _ in range(0, count, 10):
            call.packets(*[text] * 10)
            await call.drain()
        call.send({"result": "end"})
        assert await fast.result(job_id) == {"result": "end"}
        held = [
            one._transport.get_write_buffer_size()
            for one in kit.service.port.connections
            if one._transport is not None
        ]
        assert max(held) < 1 << 20
        packets, end = await slow.stream()
        assert [number for number, _ in packets] == list(range(count))
        assert end == {"result": "end"}

    dispatch(test)


def test_store_behind(dispatch: Dispatch) -> None:
    """A host that sends faster than the store records is held back."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("hold")
        call = await kit.host.call()
        job = kit.service.dispatcher.find(job_id)
        assert job is not None
        assert job.run is not None
        release = asyncio.Event()
        store = kit.service.dispatcher.store
        append = store.append
        written = []

        async def slowly(*arguments: Any) -> None:
            written.append(arguments)
            await release.wait()
            await append(*arguments)

        store.append = slowly  # type: ignore[method-assign, assignment]
        call.acknowledge(streams=True)
        text = "x" * 1000
        paused = job.run._connection
        sent = 0
        while not paused._paused:
            call.packets(text)
            sent += 1
            await call.drain()
            await asyncio.sleep(0)
        assert len(written) == 1
        assert job.run._recorder._size < 1 << 20
        release.set()
        call.send({"result": sent})
        assert await peer.result(job_id) == {"result": sent}
        peer.send(read_stream=job_id, since=sent - 1)
        assert await peer.stream() == ([(sent - 1, text)], {"result": sent})

    dispatch(test)


def test_pruned_while_reading(dispatch: Dispatch) -> None:
    """A reader whose job is pruned meanwhile is told so."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer(limit=1 << 15)
        job_id = await peer.call("hold")
        call = await kit.host.call()
        call.acknowledge(streams=True)
        text = "x" * 20_000  # all of them are more than the buffers of the system hold
        call.packets(*[text] * 600)
        call.send({"result": "end"})
        await (await kit.peer()).result(job_id)
        peer.send(follow_stream=job_id, since=0)
        first = await peer.receive()
        assert first == {"packet": 0, "data": text}
        assert await kit.service.prune(-5) == 1
        packets, end = await peer.stream()
        assert packets == [(number, text) for number in range(1, len(packets) + 1)]
        assert end["error"]["type"] == "invalid_jobid"

    dispatch(test)


def test_pruned_before_reading(dispatch: Dispatch) -> None:
    """A job that is pruned while its packets are counted does not look like one without any."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("count", 3)
        await peer.result(job_id)
        store = kit.service.dispatcher.store
        count = store.count

        async def late(job_id: str) -> int:
            assert await kit.service.prune(-5) == 1
            return await count(job_id)

        store.count = late  # type: ignore[method-assign]
        assert (await peer.ask(read_stream=job_id))["error"]["type"] == "invalid_jobid"

    dispatch(test)


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
@pytest.mark.parametrize("what", ["follow_stream", "read_stream"])
def test_unreadable(dispatch: Dispatch, what: str, ended: bool) -> None:
    """A stream whose packets cannot be read now breaks off; it does not look like an end."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("hold")
        call = await kit.host.call()
        call.acknowledge(streams=True)
        call.packets(*range(5))
        await recorded(kit, await kit.peer(), job_id, 5)
        if ended:
            call.send({"result": 1})
            await peer.result(job_id)
        store = kit.service.dispatcher.store
        packets = store.packets
        served = []

        async def fails_later(job_id: str, since: int, limit: int, size: int = 0) -> Any:
            if since >= 2:
                raise StoreError("the disk cannot be read")
            served.append(since)
            return (await packets(job_id, since, 1))[:1]

        store.packets = fails_later  # type: ignore[method-assign]
        peer.send(**{what: job_id, "since": 0})
        # What was asked already is not answered either: it would look like the stream's end.
        peer.send(get_status=job_id)
        received = (await peer.rest()).splitlines()
        assert [json.loads(line) for line in received] == [
            {"packet": number, "data": number} for number in range(2)
        ]
        assert served == [0, 1]
        store.packets = packets  # type: ignore[method-assign]
        other = await kit.peer()
        other.send(**{what: job_id, "since": 2})
        assert [(await other.receive())["packet"] for _ in range(3)] == [2, 3, 4]
        call.send({"result": 1})

    dispatch(test)


@pytest.mark.parametrize(
    ("error", "type"),
    [(StoreError("the disk cannot be read"), "os_error"), (LookupError("a bug"), "system_error")],
)
@pytest.mark.parametrize("what", ["follow_stream", "read_stream", "get_result"])
def test_unreadable_record(dispatch: Dispatch, what: str, error: Exception, type: str) -> None:
    """Whoever asks how a job ended is not told of our own trouble as if it were the end."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo", 1)
        assert await peer.result(job_id) == {"result": [1]}
        store = kit.service.dispatcher.store
        record = store.record

        async def fails(job_id: str) -> Any:
            raise error

        store.record = fails  # type: ignore[method-assign]
        assert (await peer.ask(get_status=job_id))["error"]["type"] == type
        peer.send(**{what: job_id})
        peer.send(hosts="*")
        assert await peer.rest() == b""
        store.record = record  # type: ignore[method-assign]
        assert await (await kit.peer()).result(job_id) == {"result": [1]}

    dispatch(test)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_million(dispatch: Dispatch) -> None:
    """A job may have a million packets."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("count", 1_000_000)
        peer.send(follow_stream=job_id, since=0)
        for number in range(1_000_000):
            assert await peer.line() == b'{"packet":%d,"data":%d}\n' % (number, number)
        assert await peer.receive() == {"result": 1_000_000}
        peer.send(read_stream=job_id, recent=1)
        assert await peer.stream() == ([(999_999, 999_999)], {"result": 1_000_000})
        peer.send(read_stream=job_id, since=500_000)
        assert await peer.receive() == {"packet": 500_000, "data": 500_000}

    dispatch(test)
