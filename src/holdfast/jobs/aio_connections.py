"""Connections that carry JSON, one value a line, in asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.drivers import asyncio as asyncio_driver
from holdfast.jobs.connections import Link, link_of
from holdfast.jobs.messages import REPLY_LIMIT
from holdfast.jobs.places import CAFile

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from holdfast.http.tls import CertTypes

__all__ = ["AsyncJSONConnection", "AsyncJSONSSLConnection"]


class AsyncJSONConnection:
    """A TCP connection, reading and writing JSON lines; see `JSONConnection`.

    It is to be connected first, by `connect` or ``async with``.
    """

    _link: Link

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_timeout: float | None = 5.0,
        timeout: float | None = None,
        max_line: int = REPLY_LIMIT,
    ) -> None:
        self._link = link_of(host, port, False, None, None, connect_timeout, timeout, max_line)

    @classmethod
    def of(cls, link: Link) -> Self:
        """Return the connection that a link is already."""
        connection = cls.__new__(cls)
        connection._link = link
        return connection

    def __repr__(self) -> str:
        state = "closed" if self._link.lines is None else "open"
        return f"<{type(self).__name__} {self._link.pool.name} {state}>"

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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if "_link" in self.__dict__:
            self._link.close()


class AsyncJSONSSLConnection(AsyncJSONConnection):
    """The same over TLS; see `JSONSSLConnection`."""

    def __init__(
        self,
        host: str,
        port: int,
        ca_file: CAFile = None,
        *,
        cert: CertTypes = None,
        connect_timeout: float | None = 5.0,
        timeout: float | None = None,
        max_line: int = REPLY_LIMIT,
    ) -> None:
        self._link = link_of(host, port, True, ca_file, cert, connect_timeout, timeout, max_line)
