"""What a call on a kept connection does not cost: timers, tasks, threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from math import inf
from time import monotonic
from typing import Any

import pytest

from holdfast import ops
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from tests.conformance.drivers import LOOPS
from tests.conformance.peers import Listening, between, in_thread

CALLS = 100


def calls(stream: Any, peer: socket.socket, seconds: float) -> ops.Program[None]:
    """Make round trips, each with a deadline of its own."""

    def echo() -> None:
        for _ in range(CALLS):
            peer.sendall(peer.recv(100))

    thread = in_thread(echo)
    operation = ops.RoundTrip(stream, b"ping", 100, inf)
    for _ in range(CALLS):
        operation.deadline = monotonic() + seconds
        assert (yield operation) == b"ping"
    thread.join(10)


@pytest.fixture
def listening() -> Any:
    """A listening TCP socket."""
    with Listening(socket.AF_INET, ("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_in_asyncio_makes_no_timer_and_no_task(loop: str, listening: Listening) -> None:
    """Deadlines that are met share one timer for each stream."""
    made: list[str] = []

    async def run() -> None:
        running: Any = asyncio.get_running_loop()
        running.set_task_factory(_noting(made))
        watch = asyncio_driver.Stream.watch

        def noting(stream: asyncio_driver.Stream) -> None:
            made.append("timer")
            watch(stream)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio_driver.Stream, "watch", noting)
            await asyncio_driver.run(between(listening, calls, 60.0))
        assert made == ["timer"]

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())


def _noting(made: list[str]) -> Any:
    def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append("task")
        return asyncio.Task(coroutine, loop=loop, **options)

    return factory


def test_blocking_programs_need_no_threads(listening: Listening) -> None:
    """Several programs at once run on the thread of their caller."""
    seen: set[int] = set()

    def one() -> ops.Program[None]:
        yield ops.Sleep(monotonic() + 0.001)
        seen.add(threading.get_ident())
        yield ops.Invoke(lambda: seen.add(threading.get_ident()))

    def program() -> ops.Program[None]:
        yield ops.All([one() for _ in range(20)])

    before = threading.active_count()
    blocking.run(program())
    assert seen == {threading.get_ident()}
    assert threading.active_count() == before
