"""Queues: order, concurrency, names, ends."""

from __future__ import annotations

import json

from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit, Peer


async def queued(peer: Peer, name: str, *, concurrency: int | None = None) -> str:
    """Submit a job that tells its name, in the queue of the tests."""
    queue: dict[str, object] = {"name": {"service": "nginx"}}
    if concurrency is not None:
        queue["concurrency"] = concurrency
    return await peer.call("hold", name, queue=queue)


async def settled(kit: Kit) -> None:
    """Wait until what was to start has started."""
    peer = await kit.peer()
    await peer.result(await peer.call("echo"))
    peer.close()


def test_order(dispatch: Dispatch) -> None:
    """Jobs of a queue run one at a time, in the order of submission."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        ids = [await queued(peer, str(number)) for number in range(5)]
        for number, job_id in enumerate(ids):
            call = await kit.host.call()
            assert call.arguments == [str(number)]
            await settled(kit)
            assert kit.host.received.empty()
            started = [(await peer.ask(get_status=one))["time"]["start"] for one in ids]
            assert [one is not None for one in started] == [n <= number for n in range(5)]
            call.finish(number)
            assert await peer.result(job_id) == {"result": number}
        assert kit.service.dispatcher.store.queues() == []

    dispatch(test)


def test_order_of_simultaneous_submissions(dispatch: Dispatch) -> None:
    """Jobs that come together start in the order in which they came."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        fields = {"harpcaller": 1, "host": "web01", "procedure": "hold", "queue": {"name": {}}}
        for number in range(50):
            peer.raw(json.dumps({**fields, "arguments": [number]}).encode() + b"\n")
        for _ in range(50):
            await peer.receive()
        for number in range(50):
            call = await kit.host.call()
            assert call.arguments == [number]
            call.finish()

    dispatch(test)


def test_concurrency_of_the_first_job(dispatch: Dispatch) -> None:
    """A queue runs as many jobs at a time as its first job said, until it has ended."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        ids = [await queued(peer, "a", concurrency=2)]
        ids += [await queued(peer, name, concurrency=9) for name in "bcd"]
        running = [await kit.host.call(), await kit.host.call()]
        await settled(kit)
        assert kit.host.received.empty()
        for _ in range(2):
            running.pop(0).finish()
            running.append(await kit.host.call())
            await settled(kit)
            assert kit.host.received.empty()
        for call in running:
            call.finish()
        for job_id in ids:
            await peer.result(job_id)
        # The queue is gone. A new one has the concurrency of its own first job.
        ids = [await queued(peer, name, concurrency=3) for name in "efgh"]
        running = [await kit.host.call() for _ in range(3)]
        await settled(kit)
        assert kit.host.received.empty()
        for call in running:
            call.finish()
        (await kit.host.call()).finish()

    dispatch(test)


def test_names(dispatch: Dispatch) -> None:
    """Names are equal when they are equal as objects; other queues go their own way."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        line = (
            '{"harpcaller":1,"host":"web01","procedure":"hold","arguments":[],'
            '"queue":{"name":%s}}\n'
        )
        for name in ('{"a":1,"b":{"x":1,"y":[]}}', '{ "b": {"y":[],"x":1}, "a": 1 }'):
            peer.raw((line % name).encode())
            await peer.receive()
        first = await kit.host.call()
        await settled(kit)
        assert kit.host.received.empty()
        for name in ('{"a":1}', "{}", '{"b":{"x":1,"y":[0]},"a":1}'):
            peer.raw((line % name).encode())
            await peer.receive()
        others = [await kit.host.call() for _ in range(3)]
        await settled(kit)
        assert kit.host.received.empty()
        first.finish()
        others.append(await kit.host.call())
        for call in others:
            call.finish()

    dispatch(test)


def test_cancel_in_queue(dispatch: Dispatch) -> None:
    """A job that is cancelled in its queue never starts; those behind it move up."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        ids = [await queued(peer, name) for name in "abc"]
        call = await kit.host.call()
        assert await peer.ask(cancel=ids[1]) == {"cancelled": True}
        assert await peer.ask(cancel=ids[1]) == {"cancelled": False}
        assert await peer.result(ids[1]) == {"cancelled": True}
        times = (await peer.ask(get_status=ids[1]))["time"]
        assert times["start"] is None
        assert times["end"] is not None
        peer.send(follow_stream=ids[1])
        assert await peer.stream() == ([], {"cancelled": True})
        call.finish()
        call = await kit.host.call()
        assert call.arguments == ["c"]
        call.finish()

    dispatch(test)


def test_cancel_the_running(dispatch: Dispatch) -> None:
    """When a running job is cancelled, the next of its queue starts."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        ids = [await queued(peer, name) for name in "ab"]
        first = await kit.host.call()
        assert await peer.ask(cancel=ids[0]) == {"cancelled": True}
        await first.closed()
        second = await kit.host.call()
        assert second.arguments == ["b"]
        second.finish()
        assert await peer.result(ids[1]) == {"result": None}

    dispatch(test)


def test_failures_free_the_slot(dispatch: Dispatch) -> None:
    """However a job ends, its slot is given to the next."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        queue: dict[str, object] = {"name": {}}
        await peer.call("echo", host="unknown", queue=queue)
        await peer.call("play", "rubbish\n", queue=queue)
        await peer.call("play", "", queue=queue)
        await peer.call("fail", queue=queue)
        job_id = await peer.call("echo", 1, queue=queue)
        assert await peer.result(job_id) == {"result": [1]}

    dispatch(test)


def test_waiting_jobs_are_not_limited(dispatch: Dispatch) -> None:
    """The time in a queue counts for no limit."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        await queued(peer, "a")
        job_id = await peer.call(
            "hold", queue={"name": {"service": "nginx"}}, timeout=1, max_exec_time=1
        )
        call = await kit.host.call()
        # Another job of the same limits reaches them, and the one that waits does not.
        end = await peer.result(await peer.call("hold", timeout=1, max_exec_time=1))
        assert end["error"]["type"] == "timeout"
        await kit.host.call()
        call.finish()
        (await kit.host.call()).finish("in time")
        assert await peer.result(job_id) == {"result": "in time"}

    dispatch(test)
