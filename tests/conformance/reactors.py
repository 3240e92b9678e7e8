"""Twisted's reactors, each run a new one, which leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure

T = TypeVar("T")

REACTORS: dict[str, Callable[[], Any]] = {
    "poll": PollReactor,
    "select": SelectReactor,
    "asyncio": lambda: AsyncioSelectorReactor(asyncio.new_event_loop()),
}

try:
    from twisted.internet.epollreactor import EPollReactor
except ImportError:  # not on Linux
    pass
else:
    REACTORS["epoll"] = EPollReactor


def react(work: Callable[[Any], Deferred[T]], new_reactor: Callable[[], Any] = PollReactor) -> T:
    """Run a new reactor until the Deferred of ``work(reactor)`` fires; return its result.

    It fails when a timer or a connection is left, and when something was logged that nobody else
    would hear of.
    """
    outcome: list[Any] = []
    left: list[Any] = []
    with complaints() as complained:
        reactor = new_reactor()
        try:
            reactor.callWhenRunning(_begin, reactor, work, outcome, left)
            reactor.run(installSignalHandlers=False)
        finally:
            _dispose(reactor)
        gc.collect()
    result = outcome.pop()
    if isinstance(result, Failure):
        assert result.value is not None
        try:
            raise result.value
        finally:
            del result
    assert not left
    assert not complained
    return result  # type: ignore[no-any-return]


def _begin(
    reactor: Any, work: Callable[[Any], Deferred[Any]], outcome: list[Any], left: list[Any]
) -> None:
    def over(result: Any) -> None:
        outcome.append(result)
        _settle(reactor, left, 10)

    maybeDeferred(work, reactor).addBoth(over)


def _settle(reactor: Any, left: list[Any], turns: int) -> None:
    """Stop when nothing is left to do: connections that were closed are gone in a turn or two."""
    there = held(reactor)
    if there and turns:
        reactor.callLater(0, _settle, reactor, left, turns - 1)
        return
    left.extend(there)
    reactor.stop()


def held(reactor: Any) -> list[Any]:
    """Return the connections and the timers of a reactor."""
    selectables = {*reactor.getReaders(), *reactor.getWriters()} - reactor._internalReaders
    return [*selectables, *reactor.getDelayedCalls()]


@contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect the failures that Twisted logs."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            found.append(failure.getTraceback())

    observer = cast(ILogObserver, observe)  # any function is one
    globalLogPublisher.addObserver(observer)
    try:
        yield found
    finally:
        globalLogPublisher.removeObserver(observer)


def _dispose(reactor: Any) -> None:
    """Give back what a reactor that was never installed keeps until the process ends."""
    waker = reactor.waker
    for descriptor in (waker.i, waker.o):
        os.close(descriptor)
    for name in ("_poller", "_asyncioEventloop"):
        close = getattr(getattr(reactor, name, None), "close", None)
        if close is not None:
            close()
