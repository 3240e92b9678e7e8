"""Both clients, the blocking and the asynchronous one, behind one way to write tests.

A test is a coroutine. `Face.got` takes what a method returns, which may have to be awaited;
`Face.each` and `Face.all` take iterators of either kind.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from holdfast.jobs import (
    AsyncHarpCaller,
    AsyncHarpServer,
    AsyncJSONConnection,
    AsyncJSONSSLConnection,
    HarpCaller,
    HarpServer,
    JSONConnection,
    JSONSSLConnection,
)

LIMIT = 20.0


class Face:
    """The classes of one client; what a test made is closed at its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.blocks = name == "blocking"
        self.made: list[Any] = []

    def caller(self, *hosts: Any, **options: Any) -> Any:
        """Return a caller of one dispatcher, ``(host, port)`` or a server, or of several."""
        names = [f"{host[0]}:{host[1]}" for host in (getattr(h, "at", h) for h in hosts)]
        kind = HarpCaller if self.blocks else AsyncHarpCaller
        caller: Any = kind(names if len(names) > 1 else names[0], **options)
        self.made.append(caller)
        return caller

    def server(self, at: Any, **options: Any) -> Any:
        """Return the client of a host daemon."""
        host, port = getattr(at, "at", at)
        kind = HarpServer if self.blocks else AsyncHarpServer
        return kind(host, "me", "secret", port=port, **options)

    async def connection(self, at: Any, *arguments: Any, tls: bool = False, **options: Any) -> Any:
        """Return a connection that is open."""
        host, port = getattr(at, "at", at)
        if self.blocks:
            kind = JSONSSLConnection if tls else JSONConnection
            made: Any = kind(host, port, *arguments, **options)
        else:
            made = (AsyncJSONSSLConnection if tls else AsyncJSONConnection)(
                host, port, *arguments, **options
            )
            await made.connect()
        self.made.append(made)
        return made

    async def got(self, value: Any) -> Any:
        """Return what a method returned, awaited where it must be."""
        return await value if inspect.isawaitable(value) else value

    async def each(self, iterator: Any) -> AsyncIterator[Any]:
        """Iterate, in either way."""
        if self.blocks:
            for value in iterator:
                yield value
        else:
            async for value in iterator:
                yield value

    async def all(self, iterator: Any) -> list[Any]:
        """Return all that an iterator gives."""
        return [value async for value in self.each(iterator)]

    async def next(self, iterator: Any) -> Any:
        """Return the next one that an iterator gives."""
        return next(iterator) if self.blocks else await anext(iterator)

    async def close(self, value: Any) -> None:
        """Close whatever can be closed."""
        await self.got(value.close() if self.blocks else value.aclose())


def scripted(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine that is a test, in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, face: Face, **keywords: Any) -> None:
        async def bounded() -> None:
            try:
                async with asyncio.timeout(LIMIT):
                    await test(*args, face=face, **keywords)
            finally:
                for one in face.made:
                    await face.close(one)

        asyncio.run(bounded())

    return run
