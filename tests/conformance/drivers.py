"""Every way to run a program, behind one call."""

from __future__ import annotations

import asyncio
import gc
import select
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import uvloop

from holdfast import ops
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.drivers import twisted as twisted_driver
from holdfast.drivers.simulated import World
from holdfast.drivers.stepped import Stepper
from tests.conformance.reactors import REACTORS, react

T = TypeVar("T")


#: The world of the test that is running, when it is run through the simulated driver.
worlds: list[World] = []


def monotonic() -> float:
    """Return the time of the driver in use."""
    return worlds[-1].now if worlds else time.monotonic()


class Run(Protocol):
    """Run a program to its end and return its result, or raise what it raised."""

    def __call__(self, program: ops.Program[T]) -> T:
        """Run it."""
        ...


def alone(program: ops.Program[T]) -> T:
    """Run a program on this thread, which waits in the system calls themselves."""
    return blocking.run(program)


def among_others(program: ops.Program[T]) -> T:
    """Run a program as one of several that take turns on this thread."""
    return blocking.run(_in_company(program))


def _in_company(program: ops.Program[T]) -> ops.Program[T]:
    results: list[Any] = yield ops.All([_restless(), program, _restless()])
    if isinstance(results[1], BaseException):
        raise results[1]
    return results[1]  # type: ignore[no-any-return]


def _restless() -> ops.Program[None]:
    for _ in range(3):
        yield ops.Sleep(monotonic() + 0.001)


def on_loop(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    """Return a function that runs a program on a new event loop.

    It fails when the loop has something to complain about that nobody else would hear of.
    """

    def run(program: ops.Program[T]) -> T:
        complaints: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
            try:
                return runner.run(asyncio_driver.run(program))
            finally:
                gc.collect()
                assert not complaints

    return run


def on_reactor(new_reactor: Callable[[], Any]) -> Run:
    """Return a function that runs a program on a new reactor of Twisted's."""

    def run(program: ops.Program[T]) -> T:
        return react(lambda reactor: twisted_driver.run(program, reactor), new_reactor)

    return run


def stepped(program: ops.Program[T]) -> T:
    """Run a program turn by turn, in a loop that never waits."""
    with Stepper() as stepper:
        task = stepper.start(program)
        while not task.done:
            stepper.service()
            select.select((), (), (), 0)  # lets the other threads run
        return task.result()


def simulated(program: ops.Program[T]) -> T:
    """Run a program in the test's world."""
    return worlds[-1].run(program)


def real(test: Callable[..., None]) -> Callable[..., None]:
    """Leave a test out of the simulated driver: it needs threads, a kernel, or time that flies."""
    test.real = True  # type: ignore[attr-defined]
    return test


DRIVERS: dict[str, Run] = {
    "alone": alone,
    "among-others": among_others,
    "asyncio": on_loop(asyncio.new_event_loop),
    "uvloop": on_loop(uvloop.new_event_loop),
    "stepped": stepped,
    "twisted": on_reactor(REACTORS["poll"]),
    "twisted-asyncio": on_reactor(REACTORS["asyncio"]),
    "simulated": simulated,
}

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
