"""A response whose body is still to be read, as a context manager."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.errors import InvalidRequest
from holdfast.http.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType

    from holdfast.ops import Program

__all__ = ["AsyncStream", "AsyncStreamedResponse", "Stream", "StreamedResponse"]


class _Pieces:
    """Pieces of one size, out of pieces as they come."""

    def __init__(self, size: int | None) -> None:
        if size is not None and size < 1:
            raise InvalidRequest(f"chunk_size is a number of bytes, from 1, not {size!r}")
        self._size = size
        self._held = bytearray()

    def add(self, data: bytes) -> Iterator[bytes]:
        if self._size is None:
            yield data
            return
        self._held += data
        whole = len(self._held) - len(self._held) % self._size
        if whole:
            ready = bytes(self._held[:whole])
            del self._held[:whole]
            yield from _cut(ready, self._size)

    def rest(self) -> Iterator[bytes]:
        if self._held:
            yield bytes(self._held)


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class _Streamed(Response):
    """What both kinds share: the attributes of the response that came."""

    _body: bytes | None = None
    _run: Callable[[Program[Any]], Any]

    @property
    def content(self) -> bytes:
        """The body, once it was read whole."""
        if self._body is None:
            raise InvalidRequest("the body of a streamed response is to be read first")
        return self._body

    @content.setter
    def content(self, value: bytes) -> None:
        self._body = value

    @classmethod
    def _adopt(cls, response: Response, run: Callable[[Program[Any]], Any]) -> Any:
        streamed = cls(response.request, response.origin, response._message)
        for name in ("tried", "history", "seconds", "reader"):
            setattr(streamed, name, getattr(response, name))
        streamed._run = run
        streamed.reader.deadline = inf  # the head is there; from now on each wait has its limit
        return streamed


class StreamedResponse(_Streamed):
    """A response whose body is read piece by piece."""

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Iterate over the decoded body, as it comes, or in pieces of ``chunk_size`` bytes."""
        pieces = _Pieces(chunk_size)
        if self._body is not None:
            yield from _cut(self._body, chunk_size or max(len(self._body), 1))
            return
        while piece := self._run(self.reader.read()):
            yield from pieces.add(piece)
        yield from pieces.rest()

    def read(self) -> bytes:
        """Read the rest of the body, keep it as ``content`` and return it."""
        if self._body is None:
            self._body = self._run(self.reader.read_all())
        return self.content


class AsyncStreamedResponse(_Streamed):
    """A response whose body is read piece by piece, in asyncio."""

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Iterate over the decoded body, as it comes, or in pieces of ``chunk_size`` bytes."""
        pieces = _Pieces(chunk_size)
        if self._body is not None:
            for piece in _cut(self._body, chunk_size or max(len(self._body), 1)):
                yield piece
            return
        while data := await self._run(self.reader.read()):
            for piece in pieces.add(data):
                yield piece
        for piece in pieces.rest():
            yield piece

    async def aread(self) -> bytes:
        """Read the rest of the body, keep it as ``content`` and return it."""
        if self._body is None:
            self._body = await self._run(self.reader.read_all())
        return self.content


class Stream:
    """``with cluster.stream(...) as response``: the connection is given back at the end."""

    def __init__(
        self, program: Program[Response], run: Callable[[Program[Any]], Any] = blocking.run
    ) -> None:
        self._program = program
        self._run = run
        self._response: StreamedResponse | None = None

    def __enter__(self) -> StreamedResponse:
        self._response = StreamedResponse._adopt(self._run(self._program), self._run)
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

    def __init__(
        self,
        program: Program[Response],
        run: Callable[[Program[Any]], Awaitable[Any]] = asyncio_driver.run,
    ) -> None:
        self._program = program
        self._run = run
        self._response: AsyncStreamedResponse | None = None

    async def __aenter__(self) -> AsyncStreamedResponse:
        response = await self._run(self._program)
        self._response = AsyncStreamedResponse._adopt(response, self._run)
        return self._response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.reader.close()
