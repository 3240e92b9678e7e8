"""Request bodies: bytes, JSON, forms, files, iterators."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import AsyncIterable, Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable
from urllib.parse import quote, urlencode

import orjson

from holdfast import ops
from holdfast.errors import InvalidRequest

if TYPE_CHECKING:
    from holdfast.ops import Program

__all__ = ["Body", "BytesBody", "ContentTypes", "SourceError", "body_of", "query_string"]

_QUERY = "/%:@!$&'()*+,;=~?-._"

#: Bytes read from a file at once.
_PIECE = 1 << 18


@runtime_checkable
class _Readable(Protocol):
    def read(self, size: int, /) -> Any: ...


#: What ``content`` may be.
ContentTypes: TypeAlias = (
    ops.Buffer | str | _Readable | Iterable[bytes | str] | AsyncIterable[bytes | str]
)


class SourceError(Exception):
    """What the caller's own file or iterator raised, on its way back to the caller untouched.

    It is nobody else's fault: neither the network's nor the endpoint's.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _asked(function: Any, *arguments: Any, deadline: float = inf) -> Program[Any]:
    """Ask the source for something, and set what it raises apart from what the network does."""
    try:
        return (yield ops.Invoke(function, *arguments, deadline=deadline))
    except Exception as error:
        raise SourceError(error) from error


class Body:
    """A request's body, sent piece by piece.

    ``length`` is in bytes, None when it is not known, so that the body goes in chunks.
    """

    length: int | None = None
    content_type: str | None = None
    #: Whether several requests may send it at the same time.
    shared = False

    def pieces(self) -> Program[Pieces]:
        """Start from the beginning; only called again when ``replayable``, and not of bytes."""
        raise NotImplementedError

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent (once more)."""
        raise NotImplementedError


class Pieces(Protocol):
    """The pieces of a body that is being sent."""

    def next(self, deadline: float) -> Program[ops.Buffer | None]:
        """Return the next piece, None at the end; raises SourceError."""


class BytesBody(Body):
    """A body in memory."""

    shared = True

    def __init__(self, data: ops.Buffer, content_type: str | None = None) -> None:
        self.data = data if isinstance(data, bytes) else _flat(data)
        self.length = len(self.data)
        self.content_type = content_type

    @property
    def replayable(self) -> bool:
        """Always."""
        return True


class FileBody(Body):
    """What an open binary file holds from where it stands."""

    def __init__(self, file: Any) -> None:
        if isinstance(file, io.TextIOBase):
            raise InvalidRequest("a file to send is opened in binary mode")
        self._file = file
        self._start: int | None = None
        self._begun = False
        try:
            self._start = file.tell()
            end = file.seek(0, os.SEEK_END)
            file.seek(self._start)
            self.length = end - self._start
        except (AttributeError, OSError, io.UnsupportedOperation):
            self._start = None  # a pipe, or something that only reads: sent in chunks, once

    @property
    def replayable(self) -> bool:
        """When it can be sought, or was not read yet."""
        return self._start is not None or not self._begun

    def pieces(self) -> Program[Pieces]:
        """Rewind to where the file stood."""
        if self._start is not None and self._begun:
            yield from _asked(self._file.seek, self._start)
        self._begun = True
        return _FilePieces(self._file)


class _FilePieces:
    def __init__(self, file: Any) -> None:
        self._file = file

    def next(self, deadline: float) -> Program[ops.Buffer | None]:
        data = yield from _asked(self._file.read, _PIECE, deadline=deadline)
        return _as_bytes(data) or None


class IterableBody(Body):
    """Pieces from an iterable, or an asynchronous one where the driver can wait for it."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._begun = False
        self._once = isinstance(source, AsyncIterable) or iter(source) is source

    @property
    def replayable(self) -> bool:
        """When it is no iterator, which runs only once, or has not been begun."""
        return not (self._once and self._begun)

    def pieces(self) -> Program[Pieces]:
        """Begin to iterate."""
        yield from ()  # a program, though it asks for nothing
        self._begun = True
        if isinstance(self._source, AsyncIterable):
            return _IteratorPieces(aiter(self._source).__anext__)
        return _IteratorPieces(iter(self._source).__next__)


class _IteratorPieces:
    def __init__(self, advance: Any) -> None:
        self._advance = advance

    def next(self, deadline: float) -> Program[ops.Buffer | None]:
        piece = yield from _asked(_step, self._advance, deadline=deadline)
        return None if piece is _END else _as_bytes(piece)


_END = object()


def _step(advance: Any) -> Any:
    """Advance an iterator; what it has at its end is no exception, as StopIteration would be."""
    try:
        piece = advance()
    except StopIteration:
        return _END
    return _later(piece) if inspect.isawaitable(piece) else piece


async def _later(piece: Any) -> Any:
    try:
        return await piece
    except StopAsyncIteration:
        return _END


def _flat(data: ops.Buffer) -> ops.Buffer:
    """Return a view whose items are bytes, so that its length is what goes on the wire."""
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous else view.tobytes()


def _as_bytes(data: Any) -> ops.Buffer:
    if inspect.iscoroutine(data):  # the driver could not await it
        data.close()
        raise InvalidRequest("a body that is awaited needs AsyncCluster")
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return _flat(data)
    raise InvalidRequest(f"a body is made of bytes, not {type(data).__name__}")


def body_of(content: Any = None, json: Any = None, data: Any = None) -> Body | None:
    """Return the body for the arguments of a call; at most one of them may be given.

    ``content``: bytes, str, a binary file, an iterable of bytes (also asynchronous). ``json``:
    what orjson can encode. ``data``: a mapping or pairs for a form; anything else as ``content``.
    """
    if (content is not None) + (json is not None) + (data is not None) > 1:
        raise InvalidRequest("a call has one body: content, json or data")
    if json is not None:
        try:
            encoded = orjson.dumps(json, option=orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError as error:
            raise InvalidRequest(f"not JSON: {error}") from None
        return BytesBody(encoded, "application/json")
    if data is not None:
        if isinstance(data, Mapping) or (
            isinstance(data, (list, tuple)) and all(isinstance(item, tuple) for item in data)
        ):
            form = query_string(data).encode()
            return BytesBody(form, "application/x-www-form-urlencoded")
        content = data
    if content is None:
        return None
    if isinstance(content, str):
        return BytesBody(content.encode(), "text/plain; charset=utf-8")
    if isinstance(content, (bytes, bytearray, memoryview)):
        return BytesBody(content)
    if hasattr(content, "read"):
        return FileBody(content)
    if isinstance(content, (Iterable, AsyncIterable)) and not isinstance(content, Mapping):
        return IterableBody(content)
    raise InvalidRequest(f"{type(content).__name__} cannot be a body; json= takes objects")


def query_string(params: Any) -> str:
    """Return parameters as a query: a mapping or pairs; a sequence of values repeats its key.

    A string is a query already; what cannot stand in one is quoted.

    A value that is None is left out, as in requests; true and false are written as in JSON.
    """
    if isinstance(params, (str, bytes)):
        text = params if isinstance(params, str) else params.decode("latin-1")
        return quote(text.removeprefix("?"), safe=_QUERY)
    items = params.items() if isinstance(params, Mapping) else params
    flat = []
    for key, value in items:
        several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
        flat += [
            (key, str(one).lower() if isinstance(one, bool) else one)
            for one in (value if several else (value,))
            if one is not None
        ]
    return urlencode(flat)
