"""Content codings (RFC 9110 8.4.1): gzip and deflate; br and zstd when their packages are there.

Theory of operation: a step undoes one coding and yields what comes out in pieces of bounded size,
however much a few bytes stand for. Each piece goes through the next step, and is counted after
the last one, before there is another: so a bomb is noticed before it has gone off, also one that
is packed twice.
"""

from __future__ import annotations

import importlib.util
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.errors import DecodingError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ACCEPTED", "Decoder", "decoder"]


def _available() -> str:
    names = ["gzip", "deflate"]
    if importlib.util.find_spec("brotli") is not None:
        names.append("br")
    if importlib.util.find_spec("zstandard") is not None:
        names.append("zstd")
    return ", ".join(names)


#: The Accept-Encoding that can be decoded here.
ACCEPTED = _available()


#: What one step yields at once, in bytes.
_PIECE = 1 << 18

#: What zstd is fed at once: a block of four bytes may stand for 128 KiB.
_ZSTD_FEED = 256

#: The largest window of a zstd body (RFC 9659).
_ZSTD_WINDOW = 1 << 23


class Decoder:
    """Decodes a body piece by piece, up to a limit in bytes."""

    def __init__(self, steps: Sequence[_Step], limit: int | None) -> None:
        self._steps = steps
        self._limit = limit
        self._size = 0

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what a piece decodes to, in pieces of bounded size, perhaps nothing yet."""
        for piece in _through(self._steps, data):
            self._size += len(piece)
            if self._limit is not None and self._size > self._limit:
                raise TooLarge(f"the body decodes to more than {self._limit} bytes")
            if piece:
                yield piece

    def finish(self) -> None:
        """Raise DecodingError when the body ended too early."""
        for step in self._steps:
            step.finish()


class _Step(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield all that the data decodes to."""

    def finish(self) -> None:
        """Raise DecodingError unless this is a proper place to end."""


def _through(steps: Sequence[_Step], data: bytes) -> Iterator[bytes]:
    if not steps:
        yield data
        return
    for piece in steps[0].pieces(data):
        yield from _through(steps[1:], piece)


def decoder(encoding: str, limit: int | None = None) -> Decoder | None:
    """Return the decoder for a Content-Encoding, None when there is nothing to decode.

    ``limit`` is how many bytes the body may decode to. Raises DecodingError for a coding that is
    not known, or is known only with a package that is not installed.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not names:
        return None
    if len(names) > 4:
        raise DecodingError("more than four content codings on one body")
    return Decoder([_one(name) for name in reversed(names)], limit)


def _one(name: str) -> _Step:
    if name in ("gzip", "x-gzip"):
        return _Gzip()
    if name == "deflate":
        return _Deflate()
    if name == "br":
        return _Brotli()
    if name == "zstd":
        return _Zstandard()
    raise DecodingError(f"the content coding {name[:40]!r} is not known")


def _inflated(stream: Any, data: bytes, name: str) -> Iterator[bytes]:
    """Yield what a zlib stream makes of data, up to the stream's end."""
    while True:
        try:
            piece = stream.decompress(data, _PIECE)
        except zlib.error as error:
            raise DecodingError(f"the {name} body is damaged ({error})") from None
        yield piece
        data = stream.unconsumed_tail
        # A full piece may leave more to come even when all of the data was taken in.
        if stream.eof or (not data and len(piece) < _PIECE):
            return


class _Gzip:
    """RFC 1952: one or more members in a row."""

    def __init__(self) -> None:
        self._member: Any = zlib.decompressobj(31)
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")  # padding after the last member
                if not data:
                    return
                self._member = zlib.decompressobj(31)
            self._begun = True
            yield from _inflated(self._member, data, "gzip")
            data = self._member.unused_data

    def finish(self) -> None:
        if self._begun and not self._member.eof:
            raise DecodingError("the gzip body ends too early")


class _Deflate:
    """zlib format, as RFC 9110 says, or raw deflate, as some servers send."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._first = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            self._first = data = self._first + data
            if len(data) < 2:
                return
            wrapped = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(15 if wrapped else -15)
        if not self._stream.eof:
            yield from _inflated(self._stream, data, "deflate")

    def finish(self) -> None:
        if self._first and (self._stream is None or not self._stream.eof):
            raise DecodingError("the deflate body ends too early")


class _Brotli:
    def __init__(self) -> None:
        try:
            import brotli
        except ImportError:
            raise DecodingError("a br body needs the package brotli") from None
        self._error = brotli.error
        self._stream = brotli.Decompressor()
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        self._begun = True
        while True:
            try:
                piece = self._stream.process(data, output_buffer_limit=_PIECE)
            except self._error:
                raise DecodingError("the br body is damaged") from None
            if not piece:
                return
            yield piece
            data = b""  # the stream took it, and may have more to give

    def finish(self) -> None:
        if self._begun and not self._stream.is_finished():
            raise DecodingError("the br body ends too early")


class _Zstandard:
    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            raise DecodingError("a zstd body needs the package zstandard") from None
        self._error = zstandard.ZstdError
        self._new = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj
        self._frame: Any = self._new()
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_FEED):
            yield self._decoded(data[start : start + _ZSTD_FEED])

    def _decoded(self, data: bytes) -> bytes:
        out = []
        while data:
            if self._frame.eof:
                self._frame = self._new()
            self._begun = True
            try:
                out.append(self._frame.decompress(data))
            except self._error as error:
                raise DecodingError(f"the zstd body is damaged ({error})") from None
            data = self._frame.unused_data
        return b"".join(out)

    def finish(self) -> None:
        if self._begun and not self._frame.eof:
            raise DecodingError("the zstd body ends too early")
