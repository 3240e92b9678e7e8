"""Programs that are cancelled, interrupted or closed at any of their operations."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any

import pytest

from holdfast import AsyncCluster, Cluster, Policy, ops
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from tests.conformance.drivers import LOOPS, among_others
from tests.conformance.peers import Listening, between, left_open, sockets_open
from tests.conformance.test_waiting import interrupted
from tests.servers import Certificates, EchoServer
from tests.servers.fixtures import StartScripted
from tests.servers.scripted import Receive, SendSlowly


class Counted:
    """A program whose operations are counted, and that is stopped before one of them."""

    def __init__(self, program: ops.Program[Any], stop_at: int, stop: Callable[[], Any]) -> None:
        self.count = 0
        self._program = program
        self._stop_at = stop_at
        self._stop = stop

    def run(self) -> ops.Program[Any]:
        """Pass operations and their results on."""
        step: Callable[[Any], ops.Operation] = self._program.send
        value: Any = None
        try:
            while True:
                try:
                    operation = step(value)
                except StopIteration as stop:
                    return stop.value
                self.count += 1
                try:
                    if self.count == self._stop_at:
                        replaced = self._stop()
                        operation = operation if replaced is None else replaced
                    value = yield operation
                    step = self._program.send
                except BaseException as error:
                    value, step = error, self._program.throw
        finally:
            value = None
            self._program.close()


def stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and replace no operation."""
    task.cancel()


def interrupts() -> ops.Operation:
    """Return an operation that is interrupted by the user."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    return ops.Invoke(interrupt)


OPTIONS: dict[str, dict[str, Any]] = {
    "get": {},
    "json": {"json": [1, 2, 3]},
    "pieces": {"content": [b"one", b"two"]},
    "continue": {"content": b"x" * 100, "expect_continue": True},
    "redirect": {"follow_redirects": True},
}

PATHS = {"get": "/chunked/300000", "redirect": "/redirect/307?to=/x"}


def calls(cluster: Any, kind: str) -> ops.Program[Any]:
    """Make two calls, so that the second is on a kept connection."""
    for _ in range(2):
        request = cluster._build("PUT", PATHS.get(kind, "/"), OPTIONS[kind])
        response = yield from cluster._core.call(request)
        assert response.status_code == 200


def is_idle(cluster: Any) -> bool:
    """Tell whether no call is counted as in flight."""
    return all(endpoint.in_flight == 0 for endpoint in cluster.endpoints)


def kept(cluster: Any) -> int:
    """Return how many connections are kept."""
    return sum(len(endpoint.pool) for endpoint in cluster.endpoints)


@pytest.mark.parametrize("pending", [False, True], ids=["before", "pending"])
@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_is_cancelled_at_every_operation(
    loop: str, kind: str, pending: bool, echo: EchoServer
) -> None:
    """Whenever a task is cancelled, nothing of its call stays open, taken or running."""
    before = sockets_open()

    async def cancelled_at(stop_at: int) -> bool:
        """Return whether the call got as far as that."""
        async with AsyncCluster([echo.address], policy=Policy(retry=None)) as cluster:

            def stop() -> None:
                if pending:
                    asyncio.get_running_loop().call_soon(task.cancel)
                else:
                    task.cancel()

            counted = Counted(calls(cluster, kind), stop_at, stop)
            task = asyncio.ensure_future(asyncio_driver.run(counted.run()))
            try:
                await task
            except asyncio.CancelledError:
                pass
            assert is_idle(cluster)
            assert kept(cluster) <= 1
        # Aborted transports are closed in the loop's next turns.
        until = monotonic() + 5
        while echo.open_connections and monotonic() < until:
            await asyncio.sleep(0.001)
        assert not echo.open_connections
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return counted.count >= stop_at

    complaints: list[Any] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        stop_at = 1
        while runner.run(cancelled_at(stop_at)):
            stop_at += 1
    assert stop_at > 4
    assert not complaints
    assert not left_open(before)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_over_tls_is_cancelled_at_every_operation(
    loop: str, certificates: Certificates
) -> None:
    """The same holds in the middle of a handshake."""
    before = sockets_open()
    with EchoServer(tls=certificates.server_context()) as echo:
        host = f"https://localhost:{echo.port}"

        async def cancelled_at(stop_at: int) -> bool:
            async with AsyncCluster(
                [host], policy=Policy(retry=None), verify=str(certificates.ca_file)
            ) as cluster:
                counted = Counted(calls(cluster, "json"), stop_at, lambda: stop(task))
                task = asyncio.ensure_future(asyncio_driver.run(counted.run()))
                try:
                    await task
                except asyncio.CancelledError:
                    pass
                assert is_idle(cluster)
            return counted.count >= stop_at

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            stop_at = 1
            while runner.run(cancelled_at(stop_at)):
                stop_at += 1
        assert stop_at > 6
        echo.wait_for(lambda: echo.open_connections == 0)
    assert not left_open(before)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("alone", [True, False])
def test_a_call_is_interrupted_at_every_operation(alone: bool, kind: str, echo: EchoServer) -> None:
    """Whenever KeyboardInterrupt comes, nothing of the call stays open or taken."""
    run = blocking.run if alone else among_others
    before = sockets_open()
    stop_at = 1
    while True:
        with Cluster([echo.address], policy=Policy(retry=None)) as cluster:
            counted = Counted(calls(cluster, kind), stop_at, interrupts)
            try:
                run(counted.run())
            except KeyboardInterrupt:
                pass
            assert is_idle(cluster)
            assert kept(cluster) <= 1
        echo.wait_for(lambda: echo.open_connections == 0)
        assert not left_open(before)
        if counted.count < stop_at:
            break
        stop_at += 1
    assert stop_at > 3


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_call_is_closed_at_every_operation(kind: str, echo: EchoServer) -> None:
    """A program that is given up in the middle gives back what it holds."""
    before = sockets_open()
    stop_at = 1
    while True:
        with Cluster([echo.address], policy=Policy(retry=None)) as cluster:
            program = calls(cluster, kind)
            finished = _advanced(program, stop_at)
            program.close()
            assert is_idle(cluster)
            assert kept(cluster) <= 1
        echo.wait_for(lambda: echo.open_connections == 0)
        assert not left_open(before)
        if finished:
            break
        stop_at += 1
    assert stop_at > 3


def _advanced(program: ops.Program[Any], operations: int) -> bool:
    """Run a program until it asks for its n-th operation; True when it was over before."""

    def one(operation: ops.Operation) -> ops.Program[Any]:
        return (yield operation)

    value: Any = None
    for number in range(operations):
        try:
            operation = program.send(value)
        except StopIteration:
            return True
        if number < operations - 1:
            value = blocking.run(one(operation))
    return False


@pytest.mark.parametrize("operation", ["receive", "into", "send", "wait", "round trip", "all"])
def test_a_real_interrupt_reaches_a_waiting_program(operation: str, listening: Listening) -> None:
    """Ctrl-C ends every kind of wait of the blocking driver, and the program tidies up."""
    tidy: list[bool] = []

    def asked(stream: Any) -> ops.Operation:
        waits: dict[str, ops.Operation] = {
            "receive": ops.Receive(stream, 10, monotonic() + 30),
            "into": ops.ReceiveInto(stream, memoryview(bytearray(10)), inf),
            "send": ops.Send(stream, bytes(8 << 20), inf),
            "wait": ops.Wait(ops.Signal(), inf),
            "round trip": ops.RoundTrip(stream, b"x", 10, monotonic() + 30),
            "all": ops.All([talk_of(ops.Receive(stream, 10, inf))]),
        }
        return waits[operation]

    def talk_of(one: ops.Operation) -> ops.Program[None]:
        try:
            soon()
            yield one
        finally:
            tidy.append(True)

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        yield from talk_of(asked(stream))

    before = sockets_open()
    with pytest.raises(KeyboardInterrupt), interrupted() as soon:
        blocking.run(between(listening, talk))
    assert tidy in ([True], [True, True])
    listening.close_accepted()
    assert not left_open(before)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_broadcast_closes_every_connection(loop: str, scripted: StartScripted) -> None:
    """Cancelling an All cancels all of its programs, and waits until they have tidied up."""
    server = scripted([Receive(), SendSlowly(b"HTTP/1.1 200 OK\r\n" * 1000)])
    before = sockets_open()

    async def broadcast() -> None:
        hosts = [f"http://{server.address}/{number}" for number in range(5)]
        async with AsyncCluster(hosts) as cluster:
            task = asyncio.ensure_future(cluster.broadcast("GET", "/"))
            while server.request_count < 5:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert is_idle(cluster)
            assert kept(cluster) == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(broadcast())
    server.wait_for(lambda: server.open_connections == 0)
    assert not left_open(before)
