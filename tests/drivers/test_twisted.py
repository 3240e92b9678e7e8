"""Clusters on Twisted's reactors: real servers, cancellation both ways, deadlines, threads."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast

import pytest
from twisted.internet import error as failures
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from holdfast import AsyncCluster, Breaker, Cluster, Policy, Retry, ops
from holdfast.cluster.functions import FunctionCore
from holdfast.drivers.twisted import Driver, run
from holdfast.drivers.twisted_dialing import os_error
from holdfast.errors import CertificateError, CircuitOpenError, DeadlineExceeded
from holdfast.policy import Limit
from holdfast.policy.deadline import deadline
from holdfast.testing import instant
from tests.conformance.peers import Listening, between, left_open, received, sockets_open
from tests.conformance.reactors import REACTORS, complaints, react
from tests.conformance.test_interruption import OPTIONS, Counted, calls, is_idle, kept
from tests.servers import Certificates, EchoServer, pattern
from tests.servers.fixtures import StartScripted
from tests.servers.scripted import Hold, Receive, SendForever

T = TypeVar("T")

BARE = Policy(timeout=10, retry=None, budget=None, breaker=None, limit=None)
BIG = 4 << 20


@pytest.fixture
def listening() -> Any:
    """A listening TCP socket."""
    with Listening(socket.AF_INET, ("127.0.0.1", 0)) as listening:
        yield listening


def on_reactor(
    work: Callable[[Any], Coroutine[Any, Any, T]], new_reactor: Any = REACTORS["poll"]
) -> T:
    """Run a coroutine function on a new reactor."""
    return react(lambda reactor: Deferred.fromCoroutine(work(reactor)), new_reactor)


def with_cluster(
    hosts: list[str],
    work: Callable[[Any], Coroutine[Any, Any, T]],
    *,
    kind: Any = Cluster,
    reactor: str = "poll",
    **options: Any,
) -> T:
    """Call a coroutine function with a cluster on a new reactor, and close the cluster then."""

    async def main(running: Any) -> T:
        options.setdefault("policy", BARE)
        cluster = kind(hosts, driver=Driver(running), **options)
        try:
            return await work(cluster)
        finally:
            cluster._core.close()

    return on_reactor(main, REACTORS[reactor])


async def until(reactor: Any, condition: Callable[[], bool]) -> None:
    """Let the reactor go on until something holds."""
    give_up = monotonic() + 10
    while not condition():
        assert monotonic() < give_up
        await deferLater(reactor, 0.001)


def ask(operation: ops.Operation) -> ops.Program[Any]:
    """Ask for one operation."""
    return (yield operation)


# --- clusters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reactor", REACTORS)
def test_calls_fire_deferreds(reactor: str, echo: EchoServer) -> None:
    """The methods of a cluster return Deferreds, whose calls share a kept connection."""

    async def work(cluster: Any) -> None:
        for _ in range(3):
            deferred = cluster.get("/")
            assert isinstance(deferred, Deferred)
            assert (await deferred).json()["connection"] == 0
        body = pattern(BIG)
        seen = (await cluster.post("/", content=body)).json()
        assert seen["sha256"] == hashlib.sha256(body).hexdigest()
        assert (await cluster.get(f"/chunked/{BIG}")).content == body
        buffer = bytearray(BIG)
        await cluster.get(f"/bytes/{BIG}", into=buffer)
        assert buffer == body
        results = await gatherResults([cluster.get(f"/bytes/{n}") for n in range(20)])
        assert [response.content for response in results] == [pattern(n) for n in range(20)]

    before = sockets_open()
    with_cluster([echo.address], work, reactor=reactor)
    echo.wait_for(lambda: echo.open_connections == 0)
    assert not left_open(before)


@pytest.mark.parametrize("reactor", REACTORS)
def test_an_asynchronous_cluster_is_awaited(reactor: str, echo: EchoServer) -> None:
    """In coroutines that Twisted runs an AsyncCluster is as in asyncio, streams included."""

    async def work(cluster: Any) -> None:
        assert (await cluster.get("/")).status_code == 200
        async with cluster.stream("GET", f"/chunked/{BIG}") as response:
            assert b"".join([piece async for piece in response.aiter_bytes()]) == pattern(BIG)
        async with cluster.stream("GET", "/bytes/100000") as response:
            assert await response.aread() == pattern(100_000)
        assert [r.status_code for r in await cluster.broadcast("GET", "/")] == [200, 200]

    hosts = [echo.address, f"localhost:{echo.port}"]
    with_cluster(hosts, work, kind=AsyncCluster, reactor=reactor)


def test_a_stream_that_would_block_is_refused(echo: EchoServer) -> None:
    """Nothing is sent, and the error says what to use instead."""

    async def work(cluster: Any) -> None:
        with pytest.raises(TypeError, match="AsyncCluster"):
            cluster.stream("GET", "/")

    with_cluster([echo.address], work)
    assert echo.request_count == 0


def test_a_stream_that_is_left_early_is_closed(scripted: StartScripted) -> None:
    """Whoever has read enough of an endless body hangs up."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    server = scripted([Receive(), SendForever(head)])

    async def work(cluster: Any) -> None:
        async with cluster.stream("GET", "/") as response:
            async for piece in response.aiter_bytes():
                assert piece
                break

    before = sockets_open()
    with_cluster([server.address], work, kind=AsyncCluster)
    server.wait_for(lambda: server.open_connections == 0)
    assert not left_open(before)


@pytest.mark.parametrize("reactor", REACTORS)
def test_calls_over_tls(reactor: str, certificates: Certificates) -> None:
    """TLS goes through any transport, in both directions, and checks who answers."""

    async def work(cluster: Any) -> None:
        body = pattern(BIG)
        seen = (await cluster.post("/", content=body)).json()
        assert seen["sha256"] == hashlib.sha256(body).hexdigest()
        assert seen["tls"]["server_name"] == "localhost"
        assert (await cluster.get(f"/bytes/{BIG}")).content == body
        assert (await cluster.get("/")).json()["connection"] == 0

    async def mistrusts(cluster: Any) -> None:
        with pytest.raises(CertificateError):
            await cluster.get("/")

    with EchoServer(tls=certificates.server_context()) as server:
        host = [f"https://localhost:{server.port}"]
        with_cluster(host, work, reactor=reactor, verify=str(certificates.ca_file))
        with_cluster(host, mistrusts, reactor=reactor)


@pytest.mark.parametrize("reactor", REACTORS)
def test_calls_over_a_unix_socket(reactor: str, tmp_path: Path) -> None:
    """A host may be the path of a socket."""

    async def work(cluster: Any) -> None:
        for _ in range(2):
            assert (await cluster.get("/bytes/100000")).content == pattern(100_000)

    with EchoServer(path=tmp_path / "socket") as server:
        with_cluster([f"unix:{tmp_path / 'socket'}"], work, reactor=reactor)
        assert server.connection_count == 1


def test_a_call_goes_on_elsewhere(echo: EchoServer, refusing: tuple[str, int]) -> None:
    """A host that refuses connections is left for the other one."""

    async def work(cluster: Any) -> None:
        responses = [await cluster.get("/") for _ in range(10)]
        assert {response.status_code for response in responses} == {200}
        assert max(len(response.attempts) for response in responses) == 2

    with instant():
        policy = Policy(breaker=None, retry=Retry(attempts=2))
        hosts = [f"{refusing[0]}:{refusing[1]}", echo.address]
        with_cluster(hosts, work, policy=policy, balancer="round-robin", ejection=None)


def test_a_deadline_ends_a_call(echo: EchoServer) -> None:
    """A call has its time, or what an outer deadline leaves of it."""

    async def work(cluster: Any) -> None:
        with pytest.raises(DeadlineExceeded):
            await cluster.get("/slow", timeout=0.05)
        with deadline(0.05):
            call = cluster.get("/slow", timeout=30)
        with pytest.raises(DeadlineExceeded):
            await call
        assert is_idle(cluster)
        assert kept(cluster) == 0

    began = monotonic()
    with_cluster([echo.address], work)
    assert 0.1 <= monotonic() - began < 5


def test_a_closed_connection_is_replaced(echo: EchoServer) -> None:
    """A server that closed a kept connection does not fail the next call."""

    async def work(cluster: Any) -> None:
        for _ in range(3):
            assert (await cluster.get("/close")).status_code == 200

    with_cluster([echo.address], work)
    assert echo.connection_count == 3


def test_a_call_makes_no_timer_of_its_own(echo: EchoServer) -> None:
    """Deadlines that are met share one timer for each stream."""
    made: list[float] = []

    async def main(reactor: Any) -> None:
        call_later = reactor.callLater

        def noting(seconds: float, *arguments: Any) -> Any:
            made.append(seconds)
            return call_later(seconds, *arguments)

        cluster: Any = Cluster([echo.address], policy=BARE, driver=Driver(reactor))
        await cluster.get("/")
        reactor.callLater = noting
        for _ in range(20):
            await cluster.get("/")
        del reactor.callLater
        cluster.close()

    on_reactor(main)
    assert not made


# --- cancellation -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("pending", [False, True], ids=["before", "pending"])
@pytest.mark.parametrize(("kind", "tls"), [*((kind, False) for kind in OPTIONS), ("json", True)])
def test_a_call_is_cancelled_at_every_operation(
    kind: str, tls: bool, pending: bool, certificates: Certificates
) -> None:
    """Whenever a Deferred is cancelled, its call has given back all before `cancel` returns."""
    before = sockets_open()

    def cancelled_at(echo: EchoServer, stop_at: int) -> bool:
        """Return whether the call got as far as that."""

        async def main(reactor: Any) -> bool:
            host = f"https://localhost:{echo.port}" if tls else echo.address
            cluster = Cluster(
                [host],
                policy=Policy(retry=None),
                verify=str(certificates.ca_file),
                driver=Driver(reactor),
            )

            def stop() -> None:
                if pending:
                    reactor.callLater(0, cancel)
                else:
                    cancel()

            def cancel() -> None:
                call.cancel()
                assert pending is False or is_idle(cluster)

            counted = Counted(calls(cluster, kind), stop_at, stop)
            call: Deferred[Any] = run(_after_a_turn(counted.run()), reactor)
            try:
                await call
            except CancelledError:
                pass
            assert is_idle(cluster)
            assert kept(cluster) <= 1
            cluster.close()
            return counted.count >= stop_at

        return on_reactor(main)

    with EchoServer(tls=certificates.server_context() if tls else None) as echo:
        stop_at = 1
        while cancelled_at(echo, stop_at):
            stop_at += 1
        assert stop_at > 3
        echo.wait_for(lambda: echo.open_connections == 0)
    assert not left_open(before)


def _after_a_turn(program: ops.Program[T]) -> ops.Program[T]:
    """Let whoever runs a program have its Deferred before the program begins."""
    yield ops.Sleep(monotonic() + 0.001)
    return (yield from program)


def test_a_broadcast_is_cancelled(scripted: StartScripted) -> None:
    """Every program of an All is closed with the one that asked for it."""
    server = scripted([Receive(), Hold()])
    before = sockets_open()

    async def work(cluster: Any) -> None:
        reactor = cluster._run.__self__.reactor
        call = cluster.broadcast("GET", "/")
        await until(reactor, lambda: server.request_count == 5)
        assert not is_idle(cluster)
        call.cancel()
        assert is_idle(cluster)
        assert kept(cluster) == 0
        with pytest.raises(CancelledError):
            await call

    with_cluster([f"http://{server.address}/{number}" for number in range(5)], work)
    server.wait_for(lambda: server.open_connections == 0)
    assert not left_open(before)


def test_a_function_that_cancels_its_own_call() -> None:
    """A program that is running is closed at the operation that it asked for."""
    came: list[str] = []

    def program() -> ops.Program[None]:
        try:
            yield ops.Sleep(monotonic() + 0.001)
            yield ops.Invoke(lambda: call.cancel())
            came.append("too far")
        finally:
            came.append("tidy")

    call: Deferred[None]

    async def main(reactor: Any) -> None:
        nonlocal call
        call = run(program(), reactor)
        with pytest.raises(CancelledError):
            await call

    on_reactor(main)
    assert came == ["tidy"]


def test_a_program_that_stumbles_when_it_is_closed() -> None:
    """What goes wrong while a cancelled program tidies up is the Deferred's failure."""

    def program() -> ops.Program[None]:
        try:
            yield ops.Sleep(inf)
        finally:
            raise ValueError("stumbled")

    async def main(reactor: Any) -> None:
        call = run(program(), reactor)
        call.cancel()
        with pytest.raises(ValueError, match="stumbled"):
            await call

    on_reactor(main)


def test_a_cancelled_call_is_no_failure_of_the_host(echo: EchoServer) -> None:
    """Cancellations neither are repeated nor open a circuit."""

    async def work(cluster: Any) -> None:
        reactor = cluster._run.__self__.reactor
        for number in range(10):
            call = cluster.get("/slow")
            await until(reactor, lambda: echo.request_count > number)  # noqa: B023
            call.cancel()
            with pytest.raises(CancelledError):
                await call
        assert (await cluster.get("/")).status_code == 200

    with_cluster([echo.address], work, policy=Policy(timeout=30))
    assert echo.request_count == 11


# --- functions --------------------------------------------------------------------------------


async def _half(reactor: Any, number: int) -> int:
    await deferLater(reactor, 0)
    if number % 2:
        raise ValueError("odd")
    return number // 2


def test_what_a_function_returns_is_waited_for() -> None:
    """A Deferred, fired already or not, or a coroutine: its result or its error."""

    def program(reactor: Any) -> ops.Program[None]:
        assert (yield ops.Invoke(lambda: succeed(1))) == 1
        assert (yield ops.Invoke(deferLater, reactor, 0, lambda: 2)) == 2
        assert (yield ops.Invoke(_half, reactor, 6)) == 3
        assert (yield ops.Invoke(_Awaitable, _half(reactor, 8))) == 4
        with pytest.raises(KeyError):
            yield ops.Invoke(lambda: fail(KeyError("none")))
        with pytest.raises(ValueError, match="odd"):
            yield ops.Invoke(_half, reactor, 7)
        with pytest.raises(ZeroDivisionError):
            yield ops.Invoke(deferLater, reactor, 0, lambda: 1 // 0)

    react(lambda reactor: run(program(reactor), reactor))


class _Awaitable:
    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable

    def __await__(self) -> Any:
        return self._awaitable.__await__()


def test_futures_are_waited_for_on_asyncios_reactor() -> None:
    """There a function may return a future, and is cancelled with it."""

    def program(reactor: Any, futures: list[Any]) -> ops.Program[None]:
        loop = reactor._asyncioEventloop
        task = loop.create_task(asyncio.sleep(0, "slept"))
        assert (yield ops.Invoke(lambda: task)) == "slept"
        futures.append(loop.create_future())
        with pytest.raises(TimeoutError):
            yield ops.Invoke(futures.pop, deadline=monotonic() + 0.01)

    react(lambda reactor: run(program(reactor, []), reactor), REACTORS["asyncio"])


def test_a_function_is_cancelled_with_its_program() -> None:
    """Cancellation goes on into the Deferred or the coroutine that is waited for."""
    cancelled: list[str] = []

    async def waits() -> None:
        try:
            await Deferred()
        except CancelledError:
            cancelled.append("coroutine")
            raise

    def programs() -> list[ops.Program[Any]]:
        pending: Deferred[None] = Deferred(lambda _: cancelled.append("deferred"))
        return [ask(ops.Invoke(lambda: pending)), ask(ops.Invoke(waits))]

    async def main(reactor: Any) -> None:
        for program in [*programs(), ask(ops.All(programs()))]:
            call = run(program, reactor)
            call.cancel()
            with pytest.raises(CancelledError):
                await call
        first = ask(ops.First([*programs(), ask(ops.Invoke(_half, reactor, 2))]))
        assert await run(first, reactor) == (2, 1)

    on_reactor(main)
    assert cancelled == ["deferred", "coroutine"] * 3


def test_a_deferred_that_cannot_be_cancelled_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """A canceller that raises is reported, and the program is closed all the same."""

    def refuse(deferred: Deferred[Any]) -> None:
        raise RuntimeError("no way")

    async def main(reactor: Any) -> None:
        stubborn: Deferred[Any] = Deferred(refuse)
        call = run(ask(ops.Invoke(lambda: stubborn)), reactor)
        call.cancel()
        with pytest.raises(CancelledError):
            await call
        stubborn = Deferred(refuse)
        with pytest.raises(RuntimeError, match="no way"):
            await run(ask(ops.Invoke(lambda: stubborn, deadline=monotonic())), reactor)

    on_reactor(main)
    assert "no way" in caplog.text


def test_what_fails_after_it_was_given_up_is_told_to_the_log() -> None:
    """An error of a cancelled function's clean-up is not lost, nor anybody's result."""

    async def fails_later(reactor: Any) -> None:
        try:
            await Deferred()
        finally:
            await deferLater(reactor, 0.005)
            raise ValueError("in the end")

    async def main(reactor: Any) -> None:
        with pytest.raises(TimeoutError):
            await run(ask(ops.Invoke(fails_later, reactor, deadline=monotonic() + 0.01)), reactor)
        await deferLater(reactor, 0.02)

    with complaints() as complained, pytest.raises(AssertionError):
        on_reactor(main)
    assert "in the end" in complained[0]


def test_retries_and_limits_of_functions() -> None:
    """A policy's loop calls a function that returns Deferreds as it does any other."""

    async def main(reactor: Any) -> None:
        policy = Policy(retry=Retry(attempts=3, exceptions=(OSError,)), limit=Limit(1), timeout=5)
        core = FunctionCore(policy, "work")
        outcomes: list[Any] = [OSError("one"), OSError("two"), "three"]

        def work() -> Deferred[Any]:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                return deferLater(reactor, 0).addCallback(lambda _: fail(outcome))
            return succeed(outcome)

        with instant():
            assert await run(core.call(work, (), {}), reactor) == "three"
        never: Deferred[Any] = Deferred()
        calls = [run(core.call(lambda: never, (), {}), reactor)]
        calls.append(run(core.call(lambda: succeed("next"), (), {}), reactor))
        assert (core.endpoint.in_flight, core.endpoint.waiting) == (1, 1)
        calls[0].cancel()
        with pytest.raises(CancelledError):
            await calls[0]
        assert await calls[1] == "next"
        assert (core.endpoint.in_flight, core.endpoint.waiting) == (0, 0)

    on_reactor(main)


def test_a_function_under_a_policy() -> None:
    """Its Deferreds are waited for: attempts, time limits, circuit and cancellation are real."""
    clock = Clock()
    driver = Driver(clock)
    made: list[Deferred[str]] = []

    @driver.under(
        Policy(
            timeout=10,
            retry=Retry(attempts=2, base=1, cap=1, exceptions=(OSError,)),
            breaker=Breaker(failures=3, open_for=60),
            limit=Limit(1),
        )
    )
    def work(name: str, *, fails: bool = False) -> Deferred[str]:
        """Do it."""
        if fails:
            return fail(OSError(name))
        made.append(Deferred())
        return made[-1]

    endpoint = work.core.endpoint  # type: ignore[attr-defined]
    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    good, waiting = work("a"), outcome_of(work("b"))
    found = outcome_of(good)
    assert (len(made), endpoint.in_flight, endpoint.waiting) == (1, 1, 1)
    made[0].errback(OSError("first"))
    clock.advance(1)
    assert len(made) == 2
    made[1].callback("b done")
    clock.advance(1)
    made[2].callback("a done")
    assert (found, waiting) == (["a done"], ["b done"])
    cancelled = work("c")
    stopped = outcome_of(cancelled)
    cancelled.cancel()
    assert isinstance(stopped[0], CancelledError)
    assert made[3].called
    late = outcome_of(work("d"))
    clock.advance(10)
    assert isinstance(late[0], DeadlineExceeded)
    assert endpoint.in_flight == 0
    failed = [outcome_of(work("e", fails=True)) for _ in range(2)]
    clock.pump([1, 1, 1])
    assert isinstance(failed[0][0], OSError)
    assert isinstance(outcome_of(work("f"))[0], CircuitOpenError)
    assert not clock.getDelayedCalls()


def test_context_variables_are_a_programs_own() -> None:
    """Functions see what was set where the program was run, and what others of it have set."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def program(reactor: Any, name: str) -> ops.Program[Any]:
        seen = [(yield ops.Invoke(variable.get))]
        yield ops.Invoke(variable.set, name)
        yield ops.Invoke(deferLater, reactor, 0)
        inner = yield ops.All([ask(ops.Invoke(variable.get)), ask(ops.Invoke(variable.set, "x"))])
        seen.append(inner[0])
        yield ops.Sleep(monotonic() + 0.001)
        seen.append((yield ops.Invoke(variable.get)))
        return seen

    async def main(reactor: Any) -> None:
        variable.set("outside")
        both = [run(program(reactor, name), reactor) for name in "ab"]
        assert await gatherResults(both) == [["outside", n, n] for n in "ab"]
        assert variable.get() == "outside"

    on_reactor(main)


# --- time -------------------------------------------------------------------------------------


def outcome_of(deferred: Deferred[Any]) -> list[Any]:
    """Return a list that will hold the result, or the exception."""
    found: list[Any] = []
    deferred.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found


def test_a_clock_of_tests_is_obeyed() -> None:
    """With Twisted's Clock for a reactor, hours are over when the test says so."""
    clock = Clock()
    driver = Driver(clock)
    sleeping = outcome_of(driver.run(ask(ops.Sleep(3600))))
    waiting = outcome_of(driver.run(ask(ops.Wait(ops.Signal(), 7200))))
    calling = outcome_of(driver.run(ask(ops.Invoke(Deferred, deadline=7200))))
    signal = ops.Signal()
    signalled = outcome_of(driver.run(ask(ops.Wait(signal, 7200))))
    clock.advance(3599)
    assert not sleeping
    signal.fire()
    clock.advance(1)
    assert sleeping == [None]
    assert signalled == [None]
    assert not waiting
    clock.advance(3600)
    assert [type(outcome[0]) for outcome in (waiting, calling)] == [TimeoutError, TimeoutError]
    assert driver.clock() == 7200
    assert not clock.getDelayedCalls()


class Queueing(Clock):
    """A clock that has other threads' calls wait."""

    def __init__(self) -> None:
        super().__init__()
        self.queued: list[Callable[[], None]] = []

    def callFromThread(self, function: Callable[[], None]) -> None:
        self.queued.append(function)


def test_a_signal_at_the_last_moment_is_in_time() -> None:
    """What has happened when the deadline comes has happened, though its news is on the way."""
    clock = Queueing()
    signal = ops.Signal()
    found = outcome_of(Driver(clock).run(ask(ops.Wait(signal, 5))))
    thread = threading.Thread(target=signal.fire)
    thread.start()
    thread.join(10)
    clock.advance(5)
    assert not found
    clock.queued.pop()()
    assert found == [None]


def test_a_reactor_whose_clock_runs_ahead() -> None:
    """A timer that rings too early is set again: deadlines are of a clock that never jumps."""
    times = iter([0.0, 0.0, 4.0, 4.0, 10.0])
    clock = Clock()
    driver = Driver(clock)
    driver.clock = lambda: next(times)
    sleeping = outcome_of(driver.run(ask(ops.Sleep(10.0))))
    clock.advance(10)
    assert not sleeping
    clock.advance(6)
    assert sleeping == [None]


def test_a_deferred_that_has_a_result_when_it_is_cancelled() -> None:
    """What a function makes of the cancellation at its deadline is its result."""
    clock = Clock()
    gives_in: Deferred[str] = Deferred(lambda d: d.callback("partial"))
    fails: Deferred[str] = Deferred(lambda d: d.errback(KeyError("why")))
    found = [
        outcome_of(Driver(clock).run(ask(ops.Invoke(lambda d=d: d, deadline=5))))
        for d in (gives_in, fails)
    ]
    clock.advance(5)
    assert found[0] == ["partial"]
    assert isinstance(found[1][0], KeyError)


def test_a_function_that_ignores_its_deadline_is_not_waited_for() -> None:
    """The program goes on in time, whatever the Deferred does with its cancellation."""
    clock = Clock()
    stubborn: Deferred[Any] = Deferred()
    other: Deferred[Any] = Deferred()
    stubborn.addErrback(lambda _: other)
    found = outcome_of(Driver(clock).run(ask(ops.Invoke(lambda: stubborn, deadline=5))))
    clock.advance(5)
    assert isinstance(found[0], TimeoutError)
    other.callback("too late")
    assert len(found) == 1


# --- streams ----------------------------------------------------------------------------------


def test_a_peer_that_does_not_read_keeps_no_socket(listening: Listening) -> None:
    """A stream that is closed is gone at once, though its last bytes could not leave."""
    before = sockets_open()

    def fills(stream: Any, peer: socket.socket) -> ops.Program[None]:
        # Up to the point where the system takes no more of what the transport holds.
        try:
            while True:
                yield ops.Send(stream, bytes(1 << 16), monotonic() + 0.05)
        except TimeoutError:
            peers.append(peer)

    peers: list[socket.socket] = []
    react(lambda reactor: run(between(listening, fills), reactor))
    assert peers[0].fileno() >= 0
    listening.close_accepted()
    assert not left_open(before)


def test_a_stream_of_another_reactor_is_refused(listening: Listening) -> None:
    """A program cannot wait on a connection that another reactor looks after."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        for operation in (
            ops.Receive(stream, 1, inf),
            ops.Send(stream, b"x", inf),
            ops.RoundTrip(stream, b"x", 1, inf),
            ops.ReceiveInto(stream, memoryview(bytearray(1)), inf),
        ):
            found = outcome_of(Driver(Clock()).run(ask(operation)))
            assert isinstance(found[0], ConnectionResetError)
        yield ops.Send(stream, b"x", inf)

    react(lambda reactor: run(between(listening, talk), reactor))


def test_other_threads_may_close_a_stream_but_not_use_it(listening: Listening) -> None:
    """A stream is usable in the reactor's thread; closing is safe anywhere."""

    async def main(reactor: Any) -> None:
        stream: Any = await run(ask(ops.Connect(listening.address, inf)), reactor)
        assert stream.usable(inf)
        pool = ThreadPool(0, 1)
        pool.start()
        try:
            usable = await deferToThreadPool(reactor, pool, stream.usable, inf)
            assert not usable
            await deferToThreadPool(reactor, pool, stream.close)
        finally:
            pool.stop()
        await until(reactor, lambda: not stream.transport.connected)
        assert listening.accept().recv(1) == b""

    on_reactor(main)


def test_unasked_data_and_half_a_message(listening: Listening) -> None:
    """What comes while nobody waits is kept for who asks, and counts against the stream."""

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        assert stream.trusted > 0
        peer.sendall(b"unasked")
        until = monotonic() + 10
        while stream.usable(0):
            assert monotonic() < until
            yield ops.Sleep(monotonic() + 0.001)
        assert stream.trusted < 0
        assert (yield from received(stream, 7)) == b"unasked"
        assert stream.usable(0)
        stream.forget()
        assert not stream.usable(0)
        stream.transport.abortConnection()

    react(lambda reactor: run(between(listening, talk), reactor))


REFUSED, TIMED_OUT, BIND, ODD = (
    cast(Any, failures.getConnectError)((errno.ECONNREFUSED, "")),
    cast(Any, failures.getConnectError)((errno.ETIMEDOUT, "")),
    cast(Any, failures.ConnectBindError)(errno.EACCES, ""),
    cast(Any, failures.ConnectError)(string="odd"),
)


@pytest.mark.parametrize(
    ("error", "expected", "says"),
    [
        (REFUSED, ConnectionRefusedError, "refused"),
        (TIMED_OUT, TimeoutError, "timed out"),
        (BIND, PermissionError, "denied"),
        (failures.DNSLookupError("no such name"), OSError, "no such name"),
        (ODD, ConnectionError, "odd"),
    ],
)
def test_errors_of_connecting_are_the_systems(
    error: Exception, expected: type[Exception], says: str
) -> None:
    """Twisted's own exceptions, which are no OSError, are put into the system's words."""
    found = os_error(error)
    assert isinstance(found, expected)
    assert says in str(found)


def test_a_connection_that_nobody_waits_for_is_closed(listening: Listening) -> None:
    """A connection that is made when nobody wants it any more is dropped."""
    before = sockets_open()

    async def main(reactor: Any) -> None:
        call = run(ask(ops.Connect(listening.address, inf)), reactor)
        call.cancel()
        with pytest.raises(CancelledError):
            await call

    on_reactor(main)
    assert not left_open(before)


# --- the installed reactor --------------------------------------------------------------------


def in_process(program: str, *arguments: str) -> str:
    """Run a Python program in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_reactor_is_the_default(echo: EchoServer) -> None:
    """No reactor is installed by an import: it is the one that the program runs."""
    program = """
import sys
from twisted.internet.task import react
from holdfast import Cluster
from holdfast.drivers.twisted import Driver, run
from holdfast.drivers.twisted_dialing import os_error

driver = Driver()
cluster = Cluster([sys.argv[1]], driver=driver)
assert "twisted.internet.reactor" not in sys.modules

def main(reactor, address):
    def answered(response):
        assert driver.reactor is reactor
        print(response.status_code)
        cluster.close()
    return cluster.get("/").addCallback(answered)

react(main, sys.argv[1:])
"""
    assert in_process(program, echo.address) == "200\n"


def test_programs_are_run_in_the_reactors_thread(echo: EchoServer) -> None:
    """Another thread is told how to have its call made there."""
    program = """
import sys
from twisted.internet.task import react
from twisted.internet.threads import blockingCallFromThread, deferToThread
from holdfast import Cluster
from holdfast.drivers.twisted import Driver

def main(reactor, address):
    cluster = Cluster([address], driver=Driver())

    def elsewhere():
        print(blockingCallFromThread(reactor, cluster.get, "/").status_code)
        try:
            cluster.get("/")
        except RuntimeError as error:
            print(error)
        reactor.callFromThread(cluster.close)

    return deferToThread(elsewhere)

react(main, sys.argv[1:])
"""
    printed = in_process(program, echo.address)
    assert printed.startswith("200\n")
    assert "blockingCallFromThread" in printed


def test_without_twisted_the_error_says_what_to_install() -> None:
    """Nothing else of the package needs it."""
    program = """
import sys
sys.modules["twisted"] = None
import holdfast
try:
    import holdfast.drivers.twisted
except ImportError as error:
    print(error)
"""
    assert "pip install 'holdfast[twisted]'" in in_process(program)


def test_a_cluster_of_threads_and_one_of_twisted_do_not_meet(echo: EchoServer) -> None:
    """Programs on a reactor and blocking ones in another thread may share a process."""
    statuses: list[int] = []

    def blocking() -> None:
        with Cluster([echo.address], policy=BARE) as cluster:
            statuses.extend(cluster.get("/").status_code for _ in range(50))

    async def work(cluster: Any) -> None:
        thread = threading.Thread(target=blocking)
        thread.start()
        for _ in range(50):
            statuses.append((await cluster.get("/")).status_code)  # noqa: PERF401
        thread.join(10)

    with_cluster([echo.address], work)
    assert statuses == [200] * 100
