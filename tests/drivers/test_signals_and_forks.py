"""What the system does to a process meanwhile: signals, forks, clocks and slow resolvers."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from holdfast import AsyncCluster, Timeout
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.errors import CallTimeout, DeadlineExceeded
from tests.conformance.drivers import LOOPS
from tests.http.clients import BARE, KINDS, Client
from tests.servers import Hold, Receive, response_head
from tests.servers.fixtures import StartScripted
from tests.servers.process import EchoProcess

LIMIT = 0.3


# --- forks ------------------------------------------------------------------------------------


def in_child(check: Callable[[], bool]) -> int:
    """Run a check in a forked process, and return 0 when it held."""
    with warnings.catch_warnings():
        # Newer Pythons warn of forks where there are threads; this child needs none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 2
    try:
        status = 0 if check() else 1
    finally:
        os._exit(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("kind", KINDS)
def test_a_child_leaves_the_parents_connections_alone(kind: str, echo_process: EchoProcess) -> None:
    """Two processes on one connection would mix their answers up."""
    with Client(kind, echo_process.address) as parent:
        assert parent.get().json()["connection"] == 0
        assert parent.kept == 1

        def check() -> bool:
            kept = len(parent.cluster.endpoints[0].pool)
            if kind == "blocking":
                numbers = [parent.get().json()["connection"] for _ in range(2)]
            else:
                # Not closed, as the child exits at once: uvloop's closing may hang after a fork.
                numbers = LOOPS[kind]().run_until_complete(_numbers(parent.cluster))
            return kept == 0 and numbers == [1, 1]

        assert in_child(check) == 0
        assert parent.get().json()["connection"] == 0
        assert parent.kept == 1


async def _numbers(cluster: AsyncCluster) -> list[int]:
    return [(await cluster.get("/")).json()["connection"] for _ in range(2)]


# --- signals ----------------------------------------------------------------------------------


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """Interrupt the main thread every 20 ms, with a handler in Python; lists what came."""
    came: list[int] = []
    done = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        while not done.wait(0.02):
            signal.pthread_kill(main, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield came
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("wait", ["head", "body", "buffer", "sending"])
def test_a_deadline_holds_among_signals(
    scripted: StartScripted, signals: list[int], wait: str
) -> None:
    """A signal interrupts a wait, and does not begin it anew."""
    head = [] if wait == "head" else [response_head(200, [("Content-Length", "200000")]) + b"he"]
    if wait == "sending":
        server = scripted([Receive(body=False), Hold()])
    else:
        server = scripted([Receive(), *head, Hold()])
    options: dict[str, Any] = {"timeout": LIMIT}
    if wait == "buffer":
        options["into"] = bytearray(200_000)
    elif wait == "sending":
        options["content"] = bytes(1 << 25)
    with Client("blocking", server.address) as one:
        began = monotonic()
        with pytest.raises(DeadlineExceeded):
            one.request("POST" if wait == "sending" else "GET", "/", **options)
        assert LIMIT <= monotonic() - began < LIMIT + 1
    assert len(signals) >= 2  # on a busy machine, some are one


def test_connecting_among_signals(unanswering: tuple[str, int], signals: list[int]) -> None:
    """The same holds for a connection that is never made."""
    with Client("blocking", f"{unanswering[0]}:{unanswering[1]}") as one:
        began = monotonic()
        with pytest.raises(CallTimeout):
            one.get(timeout=LIMIT)
        assert LIMIT <= monotonic() - began < LIMIT + 1
    assert len(signals) >= 2  # on a busy machine, some are one


# --- clocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("wait", ["received", "drained"])
def test_a_deadline_that_passes_between_two_looks(
    loop: str, wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer that rings a moment too early is set again, and whoever waits is told."""

    async def run() -> None:
        running = asyncio.get_running_loop()
        complaints: list[Any] = []
        running.set_exception_handler(lambda _, context: complaints.append(context))
        stream = asyncio_driver.Stream(running)
        deadline = monotonic() + 60
        future = getattr(stream, wait)(deadline)
        assert stream._alarm is not None
        stream._alarm.cancel()
        looks = itertools.chain([deadline - 1e-7], itertools.repeat(deadline + 1e-7))
        monkeypatch.setattr(asyncio_driver, "monotonic", lambda: next(looks))
        stream._ring()
        await asyncio.wait({future}, timeout=10)
        assert future.done()
        assert isinstance(future.exception(), TimeoutError)
        assert not complaints

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())


# --- resolvers --------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Have every look-up hang until the end of the test; counts them by name."""
    gate = threading.Event()
    names: Counter[str] = Counter()
    before = set(threading.enumerate())

    def hangs(host: str, *arguments: Any, **options: Any) -> list[Any]:
        names[host] += 1
        gate.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    try:
        yield names
    finally:
        gate.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(10)


async def _give_up(names: list[str]) -> list[Any]:
    clusters = [AsyncCluster([name], policy=BARE) for name in names]
    timeout = Timeout(10.0, connect=0.05)
    calls = [cluster.get("/", timeout=timeout) for cluster in clusters for _ in range(3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    for cluster in clusters:
        await cluster.aclose()
    return results


@pytest.mark.parametrize("loop", LOOPS)
def test_look_ups_that_hang(loop: str, asked: Counter[str]) -> None:
    """They keep no event loop from ending, and a name is looked up once at a time."""
    began = monotonic()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        results = runner.run(_give_up(["one.invalid", "two.invalid"]))
    assert monotonic() - began < 5
    assert [type(result).__name__ for result in results] == ["ConnectTimeout"] * 6
    assert asked == {"one.invalid": 1, "two.invalid": 1}


def test_look_ups_that_hang_in_threads(asked: Counter[str]) -> None:
    """Blocking calls wait for the same look-up, too."""
    with Client("blocking", "one.invalid") as one:
        for _ in range(3):
            with pytest.raises(CallTimeout):
                one.get(timeout=0.05)
    assert asked == {"one.invalid": 1}
