"""Sleep, Wait, Signal, Resolve and Invoke, through every driver."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType
from typing import Any

import pytest

from holdfast import ops
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking, lookups
from tests.conformance.drivers import LOOPS, Run, monotonic, real
from tests.conformance.peers import Listening, between, times_out


@contextmanager
def interrupted() -> Iterator[Callable[[], object]]:
    """Give a function to call before a wait, which KeyboardInterrupt then ends after 20 ms."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.02)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_sleep_ends_at_its_time(run: Run) -> None:
    """Sleep is never over before its time, and not much later."""
    lateness = []

    def program() -> ops.Program[None]:
        for milliseconds in (0.3, 1.4, 1.6, 5, 20):
            until = monotonic() + milliseconds / 1000
            assert (yield ops.Sleep(until)) is None
            lateness.append(monotonic() - until)

    for _ in range(20):  # late may be the machine's fault
        run(program())
        assert min(lateness) >= 0
        if max(lateness) < 0.02:
            return
        lateness.clear()
    raise AssertionError("too late")


@pytest.mark.parametrize("until", [0.0, -inf])
def test_sleep_until_the_past_is_over_at_once(run: Run, until: float) -> None:
    """A time that has passed is no reason to wait."""

    def program() -> ops.Program[float]:
        began = monotonic()
        yield ops.Sleep(until)
        return monotonic() - began

    assert run(program()) < 0.5


def test_sleep_may_have_no_end(run: Run) -> None:
    """A program may sleep for ever, until another one is first."""

    def sleeper() -> ops.Program[None]:
        yield ops.Sleep(inf)

    def program() -> ops.Program[Any]:
        return (yield ops.First([sleeper(), _returns("awake")]))

    assert run(program()) == (1, "awake")


@pytest.mark.parametrize("alone", [True, False])
def test_an_interrupt_ends_a_sleep_without_an_end(alone: bool) -> None:
    """KeyboardInterrupt is thrown into a program that sleeps, alone or among others."""
    ended: list[bool] = []

    def sleeper() -> ops.Program[None]:
        try:
            soon()
            yield ops.Sleep(inf)
        finally:
            ended.append(True)

    def program() -> ops.Program[Any]:
        return (yield ops.All([sleeper(), sleeper()]))

    with pytest.raises(KeyboardInterrupt), interrupted() as soon:
        blocking.run(sleeper() if alone else program())
    assert ended == [True] * (1 if alone else 2)


def test_a_signal_that_was_fired_is_not_waited_for(run: Run) -> None:
    """Wait returns at once when it has happened, whatever the deadline."""
    fired = ops.Signal()
    fired.fire()
    fired.fire()

    def program() -> ops.Program[Any]:
        assert (yield ops.Wait(fired, inf)) is None
        operation = ops.Wait(fired, monotonic() + 10)
        assert (yield operation) is None
        return (yield operation)

    assert run(program()) is None


@real
def test_a_signal_comes_from_another_thread(run: Run) -> None:
    """Wait ends when another thread fires the signal."""

    def program() -> ops.Program[float]:
        late = ops.Signal()
        timer = threading.Timer(0.02, late.fire)
        began = monotonic()
        timer.start()
        yield ops.Wait(late, monotonic() + 10)
        assert late.fired
        timer.join()
        return monotonic() - began

    assert 0.015 <= run(program()) < 5


@real
def test_many_signals_from_many_threads(run: Run) -> None:
    """No signal is missed, however fired and wait meet."""

    def waits(one: ops.Signal) -> ops.Program[None]:
        yield ops.Wait(one, monotonic() + 10)

    def program() -> ops.Program[list[Any]]:
        signals = [ops.Signal() for _ in range(100)]
        threads = [threading.Thread(target=_fire, args=(signals[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        results: list[Any] = yield ops.All([waits(one) for one in signals])
        for thread in threads:
            thread.join()
        return results

    assert run(program()) == [None] * 100


def _fire(signals: list[ops.Signal]) -> None:
    for one in signals:
        one.fire()


def test_waiting_has_a_deadline(run: Run) -> None:
    """Waiting for what does not happen ends at the deadline."""

    def program(deadline: float) -> ops.Program[None]:
        never = ops.Signal()
        try:
            yield ops.Wait(never, deadline)
        finally:
            assert never._listener is None

    times_out(run, program)


def test_a_signal_may_come_too_late(run: Run) -> None:
    """A signal fired after the wait for it, or after the program, harms nobody."""
    late = ops.Signal()

    def program() -> ops.Program[str]:
        with pytest.raises(TimeoutError):
            yield ops.Wait(late, monotonic() + 0.01)
        late.fire()
        yield ops.Sleep(monotonic() + 0.01)
        return "unharmed"

    assert run(program()) == "unharmed"
    late.fire()


def test_a_host_name_is_looked_up(run: Run) -> None:
    """Resolve returns addresses that Connect takes."""

    def program() -> ops.Program[list[ops.Address]]:
        return (yield ops.Resolve("localhost", 8123, monotonic() + 10))  # type: ignore[no-any-return]

    found = run(program())
    assert found
    for family, address in found:
        assert family in (socket.AF_INET, socket.AF_INET6)
        assert address[0] in ("127.0.0.1", "::1")
        assert address[1] == 8123


def test_an_unknown_host_name_is_an_os_error(run: Run) -> None:
    """A name that nobody has raises what the system's resolver says."""

    def program() -> ops.Program[Any]:
        return (yield ops.Resolve("nobody.invalid", 80, monotonic() + 30))

    with pytest.raises(socket.gaierror):
        run(program())


@real
def test_resolving_has_a_deadline(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that is slow does not hold a program beyond its deadline."""
    gate = threading.Event()

    def slow(*arguments: Any, **keywords: Any) -> list[Any]:
        gate.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    def program(deadline: float) -> ops.Program[Any]:
        # A name of its own: who asks for one that is being looked up waits for the same answer.
        return (yield ops.Resolve(f"slow-{id(gate)}-{deadline}.invalid", 80, deadline))

    try:
        times_out(run, program)
    finally:
        gate.set()


def test_a_name_that_is_no_name_is_an_error(run: Run) -> None:
    """What cannot be encoded is thrown into the program like any other failure."""

    def program() -> ops.Program[str]:
        try:
            yield ops.Resolve("x" * 70 + ".invalid", 80, monotonic() + 10)
        except (OSError, UnicodeError):
            return "refused"
        return "found"

    assert run(program()) == "refused"


def test_a_function_is_called(run: Run) -> None:
    """Invoke passes the arguments and returns the result."""

    def program() -> ops.Program[Any]:
        operation = ops.Invoke(divmod, 17, 5)
        assert (yield operation) == (3, 2)
        return (yield operation)

    assert run(program()) == (3, 2)


def test_what_a_function_raises_is_thrown_into_the_program(run: Run) -> None:
    """The program may catch it, or let it pass."""

    def program(catch: bool) -> ops.Program[str]:
        try:
            yield ops.Invoke(int, "none")
        except ValueError:
            if not catch:
                raise
        return "caught"

    assert run(program(True)) == "caught"
    with pytest.raises(ValueError, match="none"):
        run(program(False))


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_function_returns_is_awaited_in_asyncio(loop: str) -> None:
    """A coroutine function's result, or its error, is the operation's."""

    async def half(number: int) -> int:
        await asyncio.sleep(0)
        if number % 2:
            raise ValueError("odd")
        return number // 2

    def program() -> ops.Program[Any]:
        with pytest.raises(ValueError, match="odd"):
            yield ops.Invoke(half, 3)
        return (yield ops.Invoke(half, 4))

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(asyncio_driver.run(program())) == 2


@real
def test_a_program_that_never_waits_lets_others_go_on(run: Run) -> None:
    """A program with much to do does not keep another one from its deadline."""
    done: list[bool] = []

    def busy() -> ops.Program[None]:
        until = monotonic() + 5
        while not done:
            assert monotonic() < until, "nobody else had a turn"
            yield ops.Invoke(int)

    def punctual() -> ops.Program[None]:
        yield ops.Sleep(monotonic() + 0.01)
        done.append(True)

    def program() -> ops.Program[list[Any]]:
        return (yield ops.All([busy(), punctual()]))  # type: ignore[no-any-return]

    assert run(program()) == [None, None]


def test_results_and_errors_of_a_program_pass_through(run: Run) -> None:
    """A program that asks for nothing returns or raises as a function does."""

    def raises() -> ops.Program[None]:
        yield from ()
        raise LookupError("nothing here")

    assert run(_returns("result")) == "result"
    with pytest.raises(LookupError, match="nothing here"):
        run(raises())


def _returns(value: str) -> ops.Program[str]:
    yield from ()
    return value


def test_an_error_keeps_nothing_alive(run: Run, listening: Listening) -> None:
    """A failed program's frames are not kept by the driver once its error is dropped."""
    import gc
    import weakref

    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    def talk(stream: Any, peer: socket.socket) -> ops.Program[None]:
        mine = Held()
        held.append(weakref.ref(mine))
        yield ops.Receive(stream, 1, monotonic() + 0.001)
        del mine

    with pytest.raises(TimeoutError):
        run(between(listening, talk))
    gc.collect()
    assert held[0]() is None


def test_look_ups_use_threads_that_end_with_the_process() -> None:
    """A look-up that hangs does not keep the process from ending."""
    lookup = lookups.Lookup("localhost", 1)
    threads = [t for t in threading.enumerate() if t.name == "holdfast-lookup"]
    assert all(thread.daemon for thread in threads)
    for thread in threads:
        thread.join(10)
    assert lookup.signal.fired
    assert lookup.result()
