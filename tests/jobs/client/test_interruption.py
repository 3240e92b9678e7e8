"""Ctrl-C and cancellation, while something is waited for: connections are closed at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.jobs.client.conftest import StartLines
from tests.jobs.client.faces import Face, scripted
from tests.jobs.client.scripts import Do, Hear, HearEnd, Say
from tests.jobs.client.test_exchanges import CALL, JOB, JOB_ID
from tests.jobs.client.test_server import CALL as HOST_CALL
from tests.jobs.client.test_server import STREAM
from tests.jobs.client.test_streams import END, follow, packets
from tests.servers.certificates import Certificates
from tests.servers.scripted import Script


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt, also where the tests ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interruption:
    """Interrupts the client in its own way, when the server says so and the client waits.

    ``where``: the function that a thread waits in.
    """

    def __init__(self, face: Face, where: str = "_await_socket") -> None:
        self._face = face
        self._where = where
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._expected = threading.Event()
        self._thread = threading.get_ident()
        self.closed = threading.Event()

    def strike(self) -> None:
        """Interrupt it."""
        assert self._expected.wait(10)
        if not self._face.blocks:
            assert self._task is not None
            self._loop.call_soon_threadsafe(self._task.cancel)
            return
        never = threading.Event()
        for _ in range(10_000):
            if sys._current_frames()[self._thread].f_code.co_name == self._where:
                break
            never.wait(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    @property
    def script(self) -> Script:
        """The end of a script: interrupt, and wait until the connection is closed."""
        return [Do(self.strike), HearEnd(self.closed)]

    async def expect(self, waiting: Any) -> None:
        """Wait for what is interrupted."""
        if self._face.blocks:
            with pytest.raises(KeyboardInterrupt):
                self._wait(waiting)
        else:
            self._expected.set()
            with pytest.raises(asyncio.CancelledError):
                await waiting()
            assert self._task is not None
            self._task.uncancel()
        assert await asyncio.to_thread(self.closed.wait, 10)

    def _wait(self, waiting: Any) -> None:
        self._expected.set()
        waiting()


def _run(test: Any, face: Face, lines: StartLines, **more: Any) -> None:
    """Run a test; `asyncio.run` would take SIGINT for itself."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(test(face, lines, **more))
    finally:
        for one in face.made:
            loop.run_until_complete(face.close(one))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


WAITS: dict[str, tuple[Script, Any]] = {
    "call": ([Hear(CALL)], lambda rpc: rpc.web01.restart()),
    "status": ([Hear({"harpcaller": 1, "get_status": JOB})], lambda rpc: rpc.job(JOB).host()),
    "cancel": ([Hear({"harpcaller": 1, "cancel": JOB})], lambda rpc: rpc.job(JOB).cancel()),
    "result": (
        [Hear({"harpcaller": 1, "get_result": JOB, "wait": True})],
        lambda rpc: rpc.job(JOB).get(),
    ),
}


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("wait", WAITS)
def test_interrupted_requests(wait: str, face: Face, lines: StartLines) -> None:
    """A request that is interrupted closes its connection, and is not repeated."""

    async def test(face: Face, lines: StartLines) -> None:
        interruption = Interruption(face)
        script, ask = WAITS[wait]
        server = lines([*script, *interruption.script])
        rpc = face.caller(server)
        await interruption.expect(lambda: ask(rpc))
        assert len(server.messages) == 1
        assert rpc._core.endpoints.all[0].in_flight == 0

    _run(test, face, lines)


@pytest.mark.usefixtures("_ctrl_c")
def test_interrupted_streams(face: Face, lines: StartLines) -> None:
    """A stream that is interrupted closes its connection, and goes on if it is asked again."""

    async def test(face: Face, lines: StartLines) -> None:
        interruption = Interruption(face)
        server = lines(
            [follow(0), Say(*packets(0, 1)), *interruption.script],
            [follow(1), Say(*packets(1, 3), END)],
        )
        iterator = face.caller(server).job(JOB).follow(since=0)
        assert await face.next(iterator) == 0
        await interruption.expect(
            (lambda: next(iterator)) if face.blocks else (lambda: anext(iterator))
        )
        assert await face.all(iterator) == [1, 4]

    _run(test, face, lines)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("said", [[], [STREAM]])
def test_interrupted_calls_of_hosts(
    said: list[Any], face: Face, lines: StartLines, certificates: Certificates
) -> None:
    """A call of a host's procedure that is interrupted closes its connection, which cancels it."""

    async def test(face: Face, lines: StartLines) -> None:
        interruption = Interruption(face)
        server = lines(
            [Hear(HOST_CALL), Say(*said), *interruption.script], tls=certificates.server_context()
        )
        host = face.server(server)

        def blocking() -> None:
            next(host.restart())

        async def awaited() -> None:
            await anext(await host.restart())

        await interruption.expect(blocking if face.blocks else awaited)

    _run(test, face, lines)


@pytest.mark.usefixtures("_ctrl_c")
def test_interrupted_groups(face: Face, lines: StartLines) -> None:
    """Results of many hosts that are interrupted are left: no connection stays open."""

    async def test(face: Face, lines: StartLines) -> None:
        interruption = Interruption(face, "__next__")
        call = {**CALL, "host": "a"}
        result = Hear({"harpcaller": 1, "get_result": "x", "wait": True})
        job = JOB_ID | {"job_id": "x"}
        server = lines([Hear(call), Say(job)], [result, *interruption.script])
        results = face.caller(server).group(["a"]).restart()
        await interruption.expect(
            (lambda: next(results)) if face.blocks else (lambda: _left(results))
        )

    _run(test, face, lines)


async def _left(results: Any) -> None:
    async with results:
        await anext(results)


@scripted
async def test_a_cancelled_task_among_others(face: Face, lines: StartLines) -> None:
    """A task that is cancelled takes nothing from another one that waits."""
    if face.blocks:
        pytest.skip("there are no tasks")
    closed = threading.Event()
    go_on = threading.Event()
    ask = Hear({"harpcaller": 1, "get_result": JOB, "wait": True})

    class Paused:
        def play(self, connection: Any) -> None:
            assert connection.wait(go_on, 10)

    server = lines([ask, HearEnd(closed)], [ask, Paused(), Say({"result": 1})])
    job = face.caller(server).job(JOB)
    first = asyncio.create_task(job.get())
    await asyncio.to_thread(server.wait_for, lambda: len(server.messages) == 1)
    second = asyncio.create_task(job.get())
    await asyncio.to_thread(server.wait_for, lambda: len(server.messages) == 2)
    first.cancel()
    assert await asyncio.to_thread(closed.wait, 10)
    go_on.set()
    assert await second == 1
