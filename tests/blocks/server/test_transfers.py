"""Large blocks on their way in and out: in parts, and with an end to everything that was begun."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from holdfast.blocks.server.exchanges import Exchange
from holdfast.blocks.server.incoming import Incoming
from holdfast.blocks.server.parts import CHUNK, LARGEST
from holdfast.blocks.server.workers import Workers, over


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 4 * CHUNK])
@pytest.mark.parametrize("more", [True, False])
def test_each_chunk_is_waited_for_by_itself(size: int, more: bool) -> None:
    """Who reads a large part slowly is not taken for one who does not read."""
    data = os.urandom(size)
    sent: list[tuple[bytes, bool]] = []
    since: list[float | None] = []
    clock = iter(range(100))
    exchange: Any = None

    async def send(message: Any) -> None:
        sent.append((bytes(message["body"]), message["more_body"]))
        since.append(exchange.waiting_since)

    async def main() -> None:
        nonlocal exchange
        scope = {"method": "GET", "path": "/", "headers": []}
        exchange = Exchange(scope, receive, send, lambda: float(next(clock)))
        await exchange.send(data, more=more)
        assert exchange.waiting_since is None

    async def receive() -> Any:
        raise AssertionError("nothing is received")

    asyncio.run(main())
    assert b"".join(part for part, _ in sent) == data
    assert all(len(part) <= CHUNK for part, _ in sent)
    assert [one for _, one in sent] == [True] * (len(sent) - 1) + [more]
    assert since == [float(number) for number in range(len(sent))]


class Storing:
    """A block that is written when it may be."""

    size = 4 * LARGEST

    def __init__(self) -> None:
        self.writing, self.may_write, self.written = (threading.Event() for _ in range(3))
        self.closed = False

    def open(self) -> bool:
        return True

    def write(self, pieces: Any) -> None:
        self.writing.set()
        self.may_write.wait(30)
        self.written.set()

    def close(self) -> None:
        assert self.written.is_set(), "closed while it was used"
        self.closed = True


@pytest.mark.parametrize("times", [1, 2, 3])
def test_given_up_again_and_again(times: int) -> None:
    """However often it is cancelled, a transfer is closed once its threads are done with it."""
    storing: Any = Storing()

    async def receive(workers: Workers) -> None:
        async with Incoming(storing, "0" * 32, workers) as incoming:
            await incoming.add(bytes(LARGEST))
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        workers = Workers(4)
        task = asyncio.create_task(receive(workers))
        await asyncio.to_thread(storing.writing.wait, 30)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        storing.may_write.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert storing.closed
        workers.parts.begin()
        assert workers.parts.size == LARGEST
        assert workers.parts._transfers == 1
        workers.close()

    asyncio.run(main())


def test_over_waits_for_all() -> None:
    """What one job raises does not keep it from waiting for the others."""
    done: list[int] = []

    def fail() -> None:
        raise ValueError

    async def main() -> None:
        workers = Workers(2)
        await over([workers.run(fail), workers.run(done.append, 1), workers.run(fail)])
        assert done == [1]
        workers.close()

    asyncio.run(main())
