"""Time limits: silence and total."""

from __future__ import annotations

import asyncio
import time

import pytest

from holdfast.jobs.dispatcher.store import Record
from tests.jobs.dispatcher.conftest import Dispatch
from tests.jobs.dispatcher.kit import Kit


@pytest.mark.parametrize("limit", ["timeout", "max_exec_time"])
@pytest.mark.parametrize("acknowledged", [True, False])
def test_silence(dispatch: Dispatch, limit: str, acknowledged: bool) -> None:
    """A host that says nothing is left when either limit is reached."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        began = time.monotonic()
        job_id = await peer.call("hold", **{limit: 1})
        call = await kit.host.call()
        if acknowledged:
            call.acknowledge()
        end = await peer.result(job_id)
        assert end["error"]["type"] == "timeout"
        assert 1 <= time.monotonic() - began < 20
        await call.closed()

    dispatch(test)


def test_talk_ends_silence(dispatch: Dispatch) -> None:
    """Every message begins the time of silence anew; the total goes on."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        began = time.monotonic()
        job_id = await peer.call("hold", timeout=1, max_exec_time=2)
        call = await kit.host.call()
        call.acknowledge(streams=True)

        ending = asyncio.create_task(peer.result(job_id))
        while not ending.done():
            call.packets("still there")
            await asyncio.wait((ending,), timeout=0.1)
        end = await ending
        assert end["error"]["type"] == "timeout"
        assert "longer than 2 s" in end["error"]["message"]
        assert 2 <= time.monotonic() - began < 20

    dispatch(test)


def test_half_a_line_is_silence(dispatch: Dispatch) -> None:
    """A message counts when it is whole."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("hold", timeout=1)
        call = await kit.host.call()
        call.acknowledge(streams=True)

        call.raw(b'{"stream":"')
        ending = asyncio.create_task(peer.result(job_id))
        while not ending.done():
            call.raw(b"x")
            await asyncio.wait((ending,), timeout=0.1)
        end = await ending
        assert "silent for 1 s" in end["error"]["message"]

    dispatch(test)


@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        ({}, (20, 40)),
        ({"timeout": 30}, (30, 40)),
        ({"timeout": 41}, (41, 40)),
        ({"max_exec_time": 39}, (20, 39)),
        ({"max_exec_time": 40}, (20, 40)),
        ({"max_exec_time": 41}, (20, 40)),
        ({"max_exec_time": 2**53 - 1}, (20, 40)),
    ],
)
def test_defaults_and_ceiling(
    dispatch: Dispatch, asked: dict[str, int], limits: tuple[int, int]
) -> None:
    """There are defaults for both limits, and a ceiling for the total."""

    async def test(kit: Kit) -> None:
        peer = await kit.peer()
        job_id = await peer.call("echo", **asked)
        record = await kit.service.dispatcher.store.record(job_id)
        assert isinstance(record, Record)
        assert (record.timeout, record.max_exec_time) == limits

    dispatch(test, default_timeout=20, max_exec_time=40)
