"""Servers, procedures and jobs, in asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.drivers.asyncio import run
from holdfast.jobs.asking import arguments_of, cancel, outcome, submit, value_of
from holdfast.jobs.errors import CommunicationError, RemoteError
from holdfast.jobs.remote import (
    BaseCall,
    BaseIterator,
    BaseProcedure,
    BaseServer,
    refuse_dunder,
)
from holdfast.lifetimes import AsyncClosing

if TYPE_CHECKING:
    from typing import Self

__all__ = ["AsyncRemoteCall", "AsyncRemoteProcedure", "AsyncRemoteServer"]


class AsyncRemoteServer(BaseServer):
    """A server that procedures are called on; see `RemoteServer`."""

    def __getattr__(self, procedure: str) -> AsyncRemoteProcedure:
        refuse_dunder(self, procedure)
        return AsyncRemoteProcedure(self._dispatcher, self, procedure)


class AsyncRemoteProcedure(BaseProcedure):
    """A procedure on a server; see `RemoteProcedure`."""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> AsyncRemoteCall:
        """Submit a job that calls the procedure; see `RemoteProcedure.__call__`.

        Where it is cancelled nobody knows whether the job was submitted.
        """
        program = submit(self._dispatcher._core, self._message(arguments_of(args, kwargs)))
        return AsyncRemoteCall.at(self._dispatcher, *await run(program))


class AsyncRemoteCall(BaseCall):
    """A job; see `RemoteCall`. Iterators over its packets are asynchronous."""

    class StreamIterator(BaseIterator, AsyncClosing):
        """An asynchronous iterator over a job's packets; see `RemoteCall.StreamIterator`.

        The stream is asked for at the first packet, or by ``async with``.
        """

        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> Any:
            if self._over:
                raise StopAsyncIteration
            following = self._following
            packet = following.next_ready()
            if packet is None:
                packet = await run(following.next())
            if packet is None:
                self._over = True
                raise StopAsyncIteration
            return (packet.number, packet.data) if self.numbered else packet.data

        async def all(self) -> list[Any]:
            """Return all packets that are left, as a list."""
            return [packet async for packet in self]

        async def aclose(self) -> None:
            """End the iteration, and close the connection; the job goes on."""
            self._end()

        async def __aenter__(self) -> Self:
            await run(self._following.begin())
            return self

    async def cancel(self) -> bool:
        """Cancel the job; see `RemoteCall.cancel`."""
        return await run(cancel(self._core, self._job_id, self._home))

    async def get(self, wait: bool = True) -> Any:
        """Return the job's result, after waiting for it; see `RemoteCall.get`."""
        return value_of(await run(self._end(wait)), self._job_id)

    async def result(self, wait: bool = False) -> Any:
        """Return what the job came to, however it ended; see `RemoteCall.result`."""
        try:
            return outcome(await run(self._end(wait)))
        except (CommunicationError, RemoteError) as error:
            return error

    def follow(
        self, since: int | None = None, recent: int | None = None, numbered: bool = False
    ) -> StreamIterator:
        """Iterate over the packets of the job, until it ends; see `RemoteCall.follow`."""
        following = self._following("follow", since, recent)
        return self.StreamIterator(self, None, numbered, following=following)

    def stream(
        self, since: int | None = None, recent: int | None = None, numbered: bool = False
    ) -> StreamIterator:
        """Iterate over the packets so far; see `RemoteCall.stream`."""
        following = self._following("read", since, recent)
        return self.StreamIterator(self, None, numbered, following=following)

    async def host(self) -> str:
        """Return the name of the server that the job is for."""
        return await run(self._call("host"))

    async def procedure(self) -> str:
        """Return the name of the procedure that the job calls."""
        return await run(self._call("procedure"))

    async def args(self) -> Any:
        """Return the arguments: a list, or a dict where they have names."""
        return await run(self._call("arguments"))

    async def info(self) -> Any:
        """Return the ``info`` that the job was submitted with, or None."""
        return await run(self._info())

    async def submit_time(self) -> int:
        """Return when the job was submitted, in Unix seconds."""
        return await run(self._submitted())

    async def start_time(self) -> int | None:
        """Return when the job was started, in Unix seconds; None if it was not."""
        return await run(self._time("start"))

    async def end_time(self) -> int | None:
        """Return when the job ended, in Unix seconds; None if it did not yet."""
        return await run(self._time("end"))
