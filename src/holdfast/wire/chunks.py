"""What a chunked body says beside its data (RFC 9112 7.1): chunk extensions and trailers.

Most readers do not ask, and httptools does not tell. A `ChunkNotes` is fed the same bytes after
httptools has accepted them, so it can rely on their grammar.
"""

from __future__ import annotations

import re

__all__ = ["ChunkNotes"]

# RFC 9112 7.1.1: a name, and perhaps a value, which may be a quoted string with escapes.
_EXTENSION = re.compile(
    r';[ \t]*([^=;\s]+)[ \t]*(?:=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*)))?', re.DOTALL
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class ChunkNotes:
    """Collects the extensions of all chunks, by name, and the trailer fields, in order.

    ``extensions`` of one name: the last one holds; None is one without a value. ``limit``: bytes
    that may come between two pieces of data, and of extensions that are kept; ``excessive`` turns
    true when there are more.
    """

    __slots__ = (
        "_between",
        "_kept",
        "_last",
        "_left",
        "_limit",
        "_line",
        "_mark",
        "_step",
        "excessive",
        "extensions",
        "trailers",
    )

    def __init__(self, limit: int) -> None:
        self.extensions: dict[str, str | None] = {}
        self.trailers: list[tuple[str, str]] = []
        self.excessive = False
        self._limit = limit
        self._left = 0  # bytes before the next chunk header
        self._line = b""  # what is there of a line that is not complete
        self._last = False  # whether the last chunk's header was seen
        self._between = 2  # bytes since the last data, whose line end is one of them
        self._kept = 0  # bytes of the extensions
        # The last header without extensions, and how far it is from there to the next one: like
        # chunks often follow each other.
        self._mark = b"\r\n"
        self._step = 0

    def feed(self, data: bytes) -> None:
        """Take note of what accepted bytes of the body say."""
        if self._line:
            data = self._line + data  # nothing is left of a chunk while a line is held
            self._line = b""
        start = self._left
        size = len(data)
        while start < size:
            if self._step and data.startswith(self._mark, start):
                start += self._step
                continue
            end = data.find(b"\r\n", start)
            if end < 0:
                self._line = data[start:]
                self._check(len(self._line))
                start = size
                break
            self._check(end + 2 - start)
            if self._last:
                self._add_trailer(data[start:end])
                start = end + 2
            else:
                start = end + 2 + self._take(data[start:end])
        self._left = start - size

    def _check(self, size: int) -> None:
        """Take note of a line, or of what is there of it."""
        if self._between + size > self._limit:
            self.excessive = True

    def _take(self, line: bytes) -> int:
        """Take a chunk's header; return how many bytes of data and their line end follow it."""
        number, mark, extensions = line.partition(b";")
        length = int(number, 16)
        if mark:
            self._extend(extensions)
        if not length:
            self._last = True
            self._step = 0
            self._between += len(line) + 2
            return 0
        self._between = 2
        if not mark:
            self._mark = line + b"\r\n"
            self._step = len(line) + 2 + length + 2
        return length + 2

    def _add_trailer(self, line: bytes) -> None:
        self._between += len(line) + 2
        name, _, value = line.decode("latin-1").partition(":")
        if name:
            self.trailers.append((name, value.strip(" \t")))

    def _extend(self, text: bytes) -> None:
        for match in _EXTENSION.finditer(";" + text.decode("latin-1")):
            name, quoted, value = match.groups()
            if quoted is not None:
                value = _ESCAPE.sub(r"\1", quoted)
            if name in self.extensions:
                self._kept -= len(self.extensions[name] or "")
            else:
                self._kept += len(name)
            self._kept += len(value or "")
            self.extensions[name] = value
        if self._kept > self._limit:
            self.excessive = True
