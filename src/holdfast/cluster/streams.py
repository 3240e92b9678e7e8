"""A response whose body is still to be read, as a context manager."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.http.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from holdfast.ops import Program

__all__ = ["AsyncStream", "AsyncStreamedResponse", "Stream", "StreamedResponse"]


class _Streamed(Response):
    """What both kinds share: the attributes of the response that came."""

    @classmethod
    def _adopt(cls, response: Response) -> Any:
        streamed = cls(response.request, response.origin, response._message)
        for name in ("tried", "history", "seconds", "reader"):
            setattr(streamed, name, getattr(response, name))
        streamed.content = None
        streamed.reader.deadline = inf  # the head is there; from now on each wait has its limit
        return streamed


class StreamedResponse(_Streamed):
    """A response whose body is read piece by piece."""

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Iterate over the decoded body, as it comes, or in pieces of ``chunk_size`` bytes."""
        held = b""
        while piece := blocking.run(self.reader.read()):
            if chunk_size is None:
                yield piece
                continue
            held += piece
            while len(held) >= chunk_size:
                yield held[:chunk_size]
                held = held[chunk_size:]
        if held:
            yield held

    def read(self) -> bytes:
        """Read the rest of the body, keep it as ``content`` and return it."""
        if self.content is None:
            self.content = blocking.run(self.reader.read_all())
        return self.content  # type: ignore[no-any-return]


class AsyncStreamedResponse(_Streamed):
    """A response whose body is read piece by piece, in asyncio."""

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Iterate over the decoded body, as it comes, or in pieces of ``chunk_size`` bytes."""
        held = b""
        while piece := await asyncio_driver.run(self.reader.read()):
            if chunk_size is None:
                yield piece
                continue
            held += piece
            while len(held) >= chunk_size:
                yield held[:chunk_size]
                held = held[chunk_size:]
        if held:
            yield held

    async def aread(self) -> bytes:
        """Read the rest of the body, keep it as ``content`` and return it."""
        if self.content is None:
            self.content = await asyncio_driver.run(self.reader.read_all())
        return self.content  # type: ignore[no-any-return]


class Stream:
    """``with cluster.stream(...) as response``: the connection is given back at the end."""

    def __init__(self, program: Program[Response]) -> None:
        self._program = program
        self._response: StreamedResponse | None = None

    def __enter__(self) -> StreamedResponse:
        self._response = StreamedResponse._adopt(blocking.run(self._program))
        return self._response

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.reader.close()


class AsyncStream:
    """``async with cluster.stream(...) as response``."""

    def __init__(self, program: Program[Response]) -> None:
        self._program = program
        self._response: AsyncStreamedResponse | None = None

    async def __aenter__(self) -> AsyncStreamedResponse:
        self._response = AsyncStreamedResponse._adopt(await asyncio_driver.run(self._program))
        return self._response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.reader.close()
