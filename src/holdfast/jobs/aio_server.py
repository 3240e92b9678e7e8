"""Procedures on a host daemon, called directly from asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from holdfast.drivers import asyncio as asyncio_driver
from holdfast.jobs.host_calls import HostCall
from holdfast.jobs.remote import refuse_dunder
from holdfast.jobs.results import Result
from holdfast.jobs.server import BaseHarpProcedure, BaseHarpServer
from holdfast.lifetimes import AsyncClosing

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["AsyncHarpProcedure", "AsyncHarpServer", "AsyncHarpStreamIterator"]


class AsyncHarpServer(BaseHarpServer):
    """A host daemon; any attribute is a procedure, to be called and awaited. See `HarpServer`."""

    def __getattr__(self, procedure: str) -> AsyncHarpProcedure:
        refuse_dunder(self, procedure)
        return AsyncHarpProcedure(self, procedure)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: each call has a connection of its own."""


class AsyncHarpProcedure(BaseHarpProcedure):
    """A procedure on a host: ``AsyncHarpProcedure(server, name)``."""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the procedure once; see `HarpProcedure.__call__`. Cancelling ends the call.

        Returns its result, or an `AsyncHarpStreamIterator` where it streams.
        """
        found = await asyncio_driver.run(self._server._core.call(self._name, args, kwargs))
        return AsyncHarpStreamIterator(_Values(found)) if isinstance(found, HostCall) else found


class _Values(AsyncIterator[Any]):
    """The packets of a call, and its `Result`."""

    def __init__(self, call: HostCall) -> None:
        self._call: HostCall | None = call

    async def __anext__(self) -> Any:
        if self._call is None:
            raise StopAsyncIteration
        more = False
        try:
            reply = await asyncio_driver.run(self._call.next())
            more = not isinstance(reply, Result)
        finally:
            if not more:
                self._close()
        return reply if isinstance(reply, Result) else reply.data

    async def aclose(self) -> None:
        self._close()

    def _close(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.close()

    def __del__(self) -> None:
        self._close()


class AsyncHarpStreamIterator(AsyncClosing):
    """An asynchronous iterator over what a procedure streams; see `HarpStreamIterator`."""

    def __init__(self, orig_iterator: AsyncIterator[Any]) -> None:
        self._iterator = orig_iterator

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._iterator)

    async def aclose(self) -> None:
        """End the call."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()
