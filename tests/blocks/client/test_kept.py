"""Small blocks to services whose connections are kept: they are sent before an answer is read."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from holdfast.blocks import AsyncKeepClient
from holdfast.blocks.errors import KeepWriteError
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.simulation import Asked, Reply
from tests.blocks.client.clients import Api, Client, item, md5
from tests.blocks.client.stubs import Stubs
from tests.blocks.client.test_writing import DATA, FAULTS, NAME
from tests.blocks.server.services import running


@pytest.fixture
def warm(stubs: Stubs, client: Client) -> Client:
    """Have a client with a kept connection to each service."""
    client.put(b"something else", copies=3)
    for service in stubs.services:
        service.asked.clear()
        service.copies_stored = 0
    return client


def has(stubs: Stubs) -> list[bool]:
    """Return which services have the block, in its order."""
    return [NAME in service.blocks for service in stubs.order(NAME)]


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_copies(stubs: Stubs, warm: Client, copies: int) -> None:
    """As many services as copies are asked, once each."""
    assert warm.put(DATA, copies=copies).startswith(f"{NAME}+3+A")
    assert has(stubs) == [index < copies for index in range(3)]
    assert [len(one.asked) for one in stubs.order(NAME)] == [int(one) for one in has(stubs)]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_more_for_each_failure(stubs: Stubs, warm: Client, fault: str) -> None:
    """Whatever a service does, two copies are stored, and no more."""
    answer, _, _ = FAULTS[fault]
    # A connection that breaks may have been too old: the service is asked once more.
    twice = answer in (ConnectionResetError, EOFError, 408)
    stubs.order(NAME)[0].plan.extend([answer, answer] if twice else [answer])
    warm.put(DATA, copies=2)
    assert has(stubs) == [False, True, True]
    assert sum(one.copies_stored for one in stubs.services) == 2


@pytest.mark.parametrize("answer", [ConnectionResetError, EOFError, 408])
def test_connection_that_was_too_old(stubs: Stubs, warm: Client, answer: Any) -> None:
    """A kept connection that was given up meanwhile is replaced."""
    stubs.order(NAME)[1].plan.append(answer)
    warm.put(DATA, copies=2)
    assert has(stubs) == [True, True, False]


def test_all_fail(stubs: Stubs, warm: Client) -> None:
    """The error lists each service in the order asked."""
    for service in stubs.services:
        service.plan.append(503)
    with pytest.raises(KeepWriteError, match="wanted 2 copies but wrote 0") as caught:
        warm.put(DATA, copies=2)
    assert list(caught.value.request_errors()) == [one.root for one in stubs.order(NAME)]


def test_side_by_side(stubs: Stubs, warm: Client) -> None:
    """Slow services are slow at the same time."""
    before = stubs.world.now
    for service in stubs.services:
        service.plan.append(lambda asked: Reply(200, f"{NAME}+3\n".encode(), after=1.0))
    warm.put(DATA, copies=3)
    assert stubs.world.now - before == pytest.approx(1.0)


def test_a_slow_one_keeps_nobody_waiting(stubs: Stubs, warm: Client) -> None:
    """When one service is slow and another fails, the next is asked before the slow one is done."""
    slow, failing, third = stubs.order(NAME)
    before = stubs.world.now
    asked: list[float] = []

    def note(request: Asked) -> Reply:
        asked.append(stubs.world.now - before)
        return third.usual(request)

    slow.plan.append(lambda request: Reply(200, f"{NAME}+3\n".encode(), after=100.0))
    failing.plan.append(503)
    third.plan.append(note)
    warm.put(DATA, copies=2)
    assert len(asked) == 1
    assert asked[0] < 0.2
    assert stubs.world.now - before == pytest.approx(100.0)


class Waiting(MemoryVolume):
    """A volume that waits before it stores a block, once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = False
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def add(self, md5sum: str, data: bytes) -> bool:
        if self.waits:
            self.entered.set()
            self.go_on.wait(20)
        return super().add(md5sum, data)


def test_cancelled() -> None:
    """A put that is cancelled while it waits keeps no connection that is still to be answered."""
    volumes = [Waiting(), Waiting()]

    async def put(services: list[Any]) -> None:
        api = Api([item(n, *one.address) for n, one in enumerate(services)])
        async with AsyncKeepClient(api, proxy="") as client:
            await client.put(b"warm")
            for volume in volumes:
                volume.waits = True
            task = asyncio.create_task(client.put(DATA))
            for volume in volumes:
                await asyncio.to_thread(volume.entered.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for volume in volumes:
                volume.go_on.set()
            assert (await client.put(b"and on")).startswith(md5(b"and on"))
            assert await client.get(await client.put(b"more")) == b"more"

    with contextlib.ExitStack() as stack:
        services = [stack.enter_context(running([volume])) for volume in volumes]
        asyncio.run(put(services))
