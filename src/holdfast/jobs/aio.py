"""`AsyncHarpCaller`: dispatchers, in asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.drivers.asyncio import run
from holdfast.jobs.aio_calls import AsyncRemoteCall, AsyncRemoteServer
from holdfast.jobs.aio_connections import AsyncJSONConnection, AsyncJSONSSLConnection
from holdfast.jobs.aio_groups import AsyncGroup
from holdfast.jobs.asking import ask_anything
from holdfast.jobs.caller import BaseCaller
from holdfast.jobs.remote import refuse_dunder
from holdfast.lifetimes import AsyncClosing

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["AsyncHarpCaller"]


class AsyncHarpCaller(BaseCaller, AsyncClosing):
    """A dispatcher, or several; any other attribute is a server that procedures are called on.

    For one event loop. Use it as an asynchronous context manager, or `aclose` it. Its arguments
    are those of `HarpCaller`; what blocks there is awaited here.
    """

    def __getattr__(self, host: str) -> AsyncRemoteServer:
        refuse_dunder(self, host)
        return AsyncRemoteServer(self, host)

    def host(self, host: str, **kwargs: Any) -> AsyncRemoteServer:
        """Return a server, with options for its jobs; see `RemoteServer`."""
        return AsyncRemoteServer(self, host)(**kwargs)

    def job(self, job_id: str) -> AsyncRemoteCall:
        """Return a job by its identifier."""
        return AsyncRemoteCall(self, job_id)

    def group(self, hosts: str | Iterable[str], *, at_once: int = 10, **kwargs: Any) -> AsyncGroup:
        """Return several servers, to call a procedure on all of them; see `HarpCaller.group`."""
        return AsyncGroup(self, hosts, at_once, kwargs)

    async def connect(self) -> AsyncJSONConnection:
        """Connect to a dispatcher, to send a request and read replies."""
        link = await run(self._open())
        return (AsyncJSONSSLConnection if self._core.secure else AsyncJSONConnection).of(link)

    async def request(self, req: dict[str, Any]) -> dict[str, Any]:
        """Send a request to a dispatcher, and return its first reply; see `HarpCaller.request`."""
        return await run(ask_anything(self._core, req))

    async def aclose(self) -> None:
        """Close the kept connections."""
        self._core.close()
