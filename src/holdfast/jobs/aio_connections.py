"""Connections that carry JSON, one value a line, in asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.drivers import asyncio as asyncio_driver
from holdfast.jobs.connections import BaseConnection, BaseSSLConnection
from holdfast.lifetimes import AsyncClosing

if TYPE_CHECKING:
    from typing import Self

__all__ = ["AsyncJSONConnection", "AsyncJSONSSLConnection"]


class AsyncJSONConnection(BaseConnection, AsyncClosing):
    """A TCP connection, reading and writing JSON lines; see `JSONConnection`.

    It is to be connected first, by `connect` or ``async with``.
    """

    async def connect(self) -> None:
        """Connect to the address."""
        await asyncio_driver.run(self._link.connect())

    async def send(self, obj: Any) -> None:
        """Send an object as a line; raises InvalidCall for what JSON cannot carry."""
        await asyncio_driver.run(self._link.send(obj))

    async def receive(self) -> Any:
        """Receive a line, and return the object that it is."""
        return await asyncio_driver.run(self._link.receive())

    async def aclose(self) -> None:
        """Close the connection."""
        self._link.close()

    async def __aenter__(self) -> Self:
        if self._link.lines is None:
            await self.connect()
        return self


class AsyncJSONSSLConnection(BaseSSLConnection, AsyncJSONConnection):
    """The same over TLS; see `JSONSSLConnection`."""
