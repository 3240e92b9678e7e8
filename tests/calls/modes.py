"""The three modes of a function, behind one way to write tests.

A test is a generator that yields what calls return and is sent what becomes of it; a function under
test is a generator, too, which yields what `call.http` returns. Each mode makes of them what its
users would write: plain functions, coroutines, or functions of Twisted's.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from twisted.internet.defer import Deferred, inlineCallbacks

from holdfast.calls import fault_tolerant
from tests.conformance.reactors import react

Script = Generator[Any, Any, Any]

LIMIT = 10.0


class Mode(Protocol):
    """What tests do in each mode."""

    name: str

    def make(self, body: Callable[..., Any], **options: Any) -> Any:
        """Return a function under `fault_tolerant` that does what the body says."""

    def plain(self, body: Callable[..., Any]) -> Any:
        """Return the function as it is without a decorator."""

    def run(self, script: Callable[[], Script]) -> Any:
        """Run a test."""

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        """Begin a call beside the test; what it returns may be yielded, or given to `cancel`."""

    def turn(self) -> Any:
        """Let others go on for a moment: what it returns is to be yielded."""


class _Mode:
    def __init__(self) -> None:
        self.made: list[Any] = []

    def until(self, condition: Callable[[], bool]) -> Script:
        """Wait until a condition holds: ``yield from``."""
        for _ in range(20_000):
            if condition():
                return
            yield self.turn()
        raise AssertionError("it never came")

    def make(self, body: Callable[..., Any], **options: Any) -> Any:
        function = fault_tolerant(**{**self.defaults(), **options})(self.plain(body))
        self.made.append(function)
        return function

    def defaults(self) -> dict[str, Any]:
        return {}

    def plain(self, body: Callable[..., Any]) -> Any:
        raise NotImplementedError

    def turn(self) -> Any:
        raise NotImplementedError

    def all(self, calls: Sequence[Callable[[], Any]]) -> Any:
        raise NotImplementedError


class Sync(_Mode):
    """Plain functions, in threads."""

    name = "sync"

    def plain(self, body: Callable[..., Any]) -> Any:
        @functools.wraps(body)
        def function(*args: Any, **keywords: Any) -> Any:
            made = body(*args, **keywords)
            return drive(made) if inspect.isgenerator(made) else made

        return function

    def run(self, script: Callable[[], Script]) -> Any:
        try:
            return drive(script())
        finally:
            for function in self.made:
                function.core.close()

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def turn(self) -> Any:
        threading.Event().wait(0.0005)


def drive(script: Script) -> Any:
    """Run a script on this thread."""
    value: Any = None
    step: Callable[[Any], Any] = script.send
    while True:
        try:
            value = step(value)
        except StopIteration as stop:
            return stop.value
        step = script.send
        if isinstance(value, Future):
            try:
                value = value.result(LIMIT)
            except Exception as error:
                value, step = error, script.throw


class Asyncio(_Mode):
    """Coroutines."""

    name = "asyncio"

    def plain(self, body: Callable[..., Any]) -> Any:
        @functools.wraps(body)
        async def function(*args: Any, **keywords: Any) -> Any:
            made = body(*args, **keywords)
            return await self._drive(made) if inspect.isgenerator(made) else made

        return function

    def run(self, script: Callable[[], Script]) -> Any:
        async def main() -> Any:
            try:
                return await self._drive(script())
            finally:
                for function in self.made:
                    function.core.close()
                await asyncio.sleep(0)

        return asyncio.run(main())

    async def _drive(self, script: Script) -> Any:
        value: Any = None
        step: Callable[[Any], Any] = script.send
        while True:
            try:
                value = step(value)
            except StopIteration as stop:
                return stop.value
            step = script.send
            if inspect.isawaitable(value):
                try:
                    value = await value
                except asyncio.CancelledError as error:
                    if not isinstance(value, asyncio.Task) or not value.cancelled():
                        script.close()
                        raise
                    value, step = error, script.throw
                except Exception as error:
                    value, step = error, script.throw

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        return asyncio.ensure_future(function(*args))

    def turn(self) -> Any:
        return asyncio.sleep(0.0005)


class Twisted(_Mode):
    """Deferreds, on a reactor that is new for each test."""

    name = "twisted"
    reactor: Any = None

    def defaults(self) -> dict[str, Any]:
        return {"reactor": self.reactor}

    def plain(self, body: Callable[..., Any]) -> Any:
        return inlineCallbacks(body) if inspect.isgeneratorfunction(body) else body

    def run(self, script: Callable[[], Script]) -> Any:
        @inlineCallbacks
        def main() -> Generator[Deferred[Any], Any, Any]:
            try:
                return (yield inlineCallbacks(script)())
            finally:
                for function in self.made:
                    closing = function.core.close()
                    if closing is not None:
                        yield closing

        def work(reactor: Any) -> Deferred[Any]:
            self.reactor = reactor
            return main()

        return react(work)

    def start(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def turn(self) -> Any:
        turned: Deferred[None] = Deferred()
        self.reactor.callLater(0.0005, turned.callback, None)
        return turned


MODES: dict[str, Callable[[], Any]] = {"sync": Sync, "asyncio": Asyncio, "twisted": Twisted}

__all__ = ["MODES", "Asyncio", "Mode", "Script", "Sync", "Twisted", "drive"]
