"""Time limits: silence and total."""

from __future__ import annotations

import asyncio
import time

from holdfast.jobs.dispatcher.store import Record
from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.hosts import Call
from tests.jobs.dispatcher.kit import Kit, Peer


async def held(kit: Kit, **limits: int) -> tuple[Peer, Call, str, float]:
    """Begin a call with limits, and tell since when."""
    peer = await kit.peer()
    began = time.monotonic()
    job_id = await peer.call("hold", **limits)
    return peer, await kit.host.call(), job_id, began


def test_limits(dispatch: Dispatch) -> None:
    """A host is left when either limit is reached, and not before; whole messages end silence."""

    async def silent(peer: Peer, call: Call, job_id: str, began: float) -> None:
        end = await peer.result(job_id)
        assert end["error"]["type"] == "timeout"
        assert 1 <= time.monotonic() - began < 20
        await call.closed()

    async def half_a_line(peer: Peer, call: Call, job_id: str, began: float) -> None:
        call.acknowledge(streams=True)
        call.raw(b'{"stream":"')
        ending = asyncio.create_task(peer.result(job_id))
        while not ending.done():
            call.raw(b"x")
            await asyncio.wait((ending,), timeout=0.1)
        assert "silent for 1 s" in ending.result()["error"]["message"]

    async def talking(peer: Peer, call: Call, job_id: str, began: float) -> None:
        call.acknowledge(streams=True)
        ending = asyncio.create_task(peer.result(job_id))
        while not ending.done():
            call.packets("still there")
            await asyncio.wait((ending,), timeout=0.1)
        end = ending.result()
        assert end["error"]["type"] == "timeout"
        assert "longer than 2 s" in end["error"]["message"]
        assert 2 <= time.monotonic() - began < 20

    async def test(kit: Kit) -> None:
        # All at once, since each takes its time.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talking(*await held(kit, timeout=1, max_exec_time=2)))
            tasks.create_task(half_a_line(*await held(kit, timeout=1)))
            for limit in ("timeout", "max_exec_time"):
                for acknowledged in (True, False):
                    peer, call, job_id, began = await held(kit, **{limit: 1})
                    if acknowledged:
                        call.acknowledge()
                    tasks.create_task(silent(peer, call, job_id, began))

    dispatch(test)


LIMITS: list[tuple[dict[str, int], tuple[int, int]]] = [
    ({}, (20, 40)),
    ({"timeout": 30}, (30, 40)),
    ({"timeout": 41}, (41, 40)),
    ({"max_exec_time": 39}, (20, 39)),
    ({"max_exec_time": 40}, (20, 40)),
    ({"max_exec_time": 41}, (20, 40)),
    ({"max_exec_time": 2**53 - 1}, (20, 40)),
]


def test_defaults_and_ceiling(dispatch: Dispatch) -> None:
    """There are defaults for both limits, and a ceiling for the total."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        for asked, limits in LIMITS:
            job_id = await peer.call("echo", **asked)
            record = await kit.service.dispatcher.store.record(job_id)
            assert isinstance(record, Record)
            assert (record.timeout, record.max_exec_time) == limits, asked

    dispatch(test, default_timeout=20, max_exec_time=40)
