"""Clients of both kinds behind one face, and an API object that lists services."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

from holdfast.blocks.aio import AsyncKeepClient
from holdfast.blocks.client import KeepClient

KINDS = ["blocking", "asyncio"]

TOKEN = "v2/zzzzz-gj3su-077z32aux8dg2s1/3kg6k6lzmp9kj5cpkcoxie963cmvjahbt2fod9zru30k1jqdmi"


def md5(data: bytes) -> str:
    """Return a block's hash."""
    return hashlib.md5(data).hexdigest()


def locator(data: bytes) -> str:
    """Return a block's locator, unsigned."""
    return f"{md5(data)}+{len(data)}"


def uuid_of(number: int, cluster: str = "zzzzz") -> str:
    """Return the uuid of a service."""
    return f"{cluster}-bi6l4-{number:015x}"


def item(number: int, host: str, port: int = 80, kind: str = "disk", **more: Any) -> dict[str, Any]:
    """Return a service as an API server lists it."""
    return {
        "uuid": uuid_of(number),
        "service_host": host,
        "service_port": port,
        "service_ssl_flag": False,
        "service_type": kind,
        "read_only": False,
        **more,
    }


class Api:
    """An API object: lists ``items``, as they are at each call; ``asked`` counts the calls."""

    def __init__(self, items: list[dict[str, Any]], token: str = TOKEN) -> None:
        self.items = items
        self.api_token = token
        self.asked = 0
        self.error: Exception | None = None

    def keep_services(self) -> Api:
        return self

    def accessible(self) -> Api:
        return self

    def execute(self) -> dict[str, Any]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"items": [dict(one) for one in self.items]}


class Client:
    """A `KeepClient`, or an `AsyncKeepClient` on a loop of its own that runs during each call."""

    def __init__(self, kind: str, *arguments: Any, **options: Any) -> None:
        self.keep: Any
        self._runner: asyncio.Runner | None = None
        if kind == "blocking":
            self.keep = KeepClient(*arguments, **options)
        else:
            self.keep = AsyncKeepClient(*arguments, **options)
            self._runner = asyncio.Runner()

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method, and wait for it where it has to be awaited."""
        if self._runner is None:
            return getattr(self.keep, name)(*arguments, **options)

        async def awaited() -> Any:
            result = getattr(self.keep, name)(*arguments, **options)
            return await result if asyncio.iscoroutine(result) else result

        return self._runner.run(awaited())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **options: self.call(name, *arguments, **options)

    def together(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Make several calls at the same time; returns results and exceptions."""
        if self._runner is None:
            return _in_threads([(getattr(self.keep, name), rest) for name, *rest in calls])

        async def gathered() -> list[Any]:
            return await asyncio.gather(
                *[getattr(self.keep, name)(*rest) for name, *rest in calls],
                return_exceptions=True,
            )

        return self._runner.run(gathered())

    def close(self) -> None:
        """Close the client and its loop."""
        if self._runner is None:
            self.keep.close()
            return
        try:
            self._runner.run(self.keep.aclose())
            self._runner.run(asyncio.sleep(0.001))
        finally:
            self._runner.close()


def _in_threads(calls: list[tuple[Callable[..., Any], list[Any]]]) -> list[Any]:
    import threading

    results: list[Any] = [None] * len(calls)

    def call(index: int, function: Callable[..., Any], arguments: list[Any]) -> None:
        try:
            results[index] = function(*arguments)
        except Exception as error:
            results[index] = error

    threads = [
        threading.Thread(target=call, args=(index, function, arguments))
        for index, (function, arguments) in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
