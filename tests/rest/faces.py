"""The blocking and the asynchronous classes behind one interface, so that a test holds for both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from types import TracebackType
from typing import Any, Self

from holdfast import rest

KINDS = ["blocking", "asyncio"]

LONG_AGO = -1e6
"""Seconds by which a test's clock is slow."""


class Clock:
    """A clock that the test advances; it runs by itself as well, like any other.

    It is slow, so that a wait until one of its times is over at once. Whoever uses it sets no
    time limit, which would be over as well.
    """

    def __init__(self) -> None:
        self.offset = LONG_AGO

    def __call__(self) -> float:
        """Return the time in seconds."""
        return monotonic() + self.offset

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.offset += seconds


class Handle:
    """An object of a face: what has to be awaited comes at once, from a loop that runs for it."""

    def __init__(self, target: Any, face: Face) -> None:
        self.target = target
        self._face = face

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.target, name)
        if not inspect.ismethod(attribute):
            return attribute

        def method(*arguments: Any, **options: Any) -> Any:
            return self._face.finish(attribute(*arguments, **options))

        return method

    def __getitem__(self, key: Any) -> Any:
        return self.target[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.target)

    def __len__(self) -> int:
        return len(self.target)

    def shut(self) -> None:
        """Close it, by the name that its kind has for this."""
        close = "aclose" if hasattr(self.target, "aclose") else "close"
        self._face.finish(getattr(self.target, close)())


class Face:
    """One kind of classes; closes what it made at its end."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._prefix = "" if kind == "blocking" else "Async"
        self._runner = None if kind == "blocking" else asyncio.Runner()
        self._made: list[Handle] = []

    def _make(self, name: str, arguments: Any, options: dict[str, Any]) -> Handle:
        """Make an object; options that are functions of ``self`` become methods of its class."""
        cls = getattr(rest, self._prefix + name)
        overriding = options.pop("overriding", None)
        if overriding is not None:
            cls = type(f"My{name}", (cls,), overriding)
        handle = Handle(cls(*arguments, **options), self)
        self._made.append(handle)
        return handle

    def resource(self, *arguments: Any, **options: Any) -> Handle:
        """Make a `Resource`."""
        return self._make("Resource", arguments, options)

    def pool(self, *arguments: Any, **options: Any) -> Handle:
        """Make a `Pool`."""
        return self._make("Pool", arguments, options)

    def resources(self, *arguments: Any, **options: Any) -> Handle:
        """Make `Resources`; ``overriding`` are methods of a subclass."""
        return self._make("Resources", arguments, options)

    def shards(self, *arguments: Any, **options: Any) -> Handle:
        """Make `Shards`; ``overriding`` are methods of a subclass."""
        return self._make("Shards", arguments, options)

    def replicas(self, *arguments: Any, **options: Any) -> Handle:
        """Make `Replicas`; ``overriding`` are methods of a subclass."""
        return self._make("Replicas", arguments, options)

    def finish(self, result: Any) -> Any:
        """Return what a method returns, or what that comes to."""
        if self._runner is None:
            return result
        if inspect.isasyncgen(result):
            return self._iterated(result)
        return self._runner.run(_awaited(result)) if inspect.isawaitable(result) else result

    def _iterated(self, generator: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self.finish(anext(generator))
                except StopAsyncIteration:
                    return
        finally:
            self.finish(generator.aclose())

    def at_once(self, calls: Iterable[Callable[[], Any]], workers: int = 8) -> list[Any]:
        """Make calls of the targets at the same time, and return results and exceptions."""
        calls = list(calls)
        if self._runner is None:
            with ThreadPoolExecutor(workers) as executor:
                return list(executor.map(_outcome, calls))
        return self._runner.run(_gathered(calls))

    def rest(self) -> None:
        """Let the loop, if there is one, see what has happened meanwhile."""
        if self._runner is not None:
            self._runner.run(asyncio.sleep(0.001))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for handle in self._made:
                handle.shut()
            self.rest()
        finally:
            if self._runner is not None:
                self._runner.close()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _gathered(calls: list[Callable[[], Any]]) -> list[Any]:
    return await asyncio.gather(*[call() for call in calls], return_exceptions=True)


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error
