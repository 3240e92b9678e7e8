"""Server-sent events as bytes (WHATWG HTML, 9.2.6): a stream in, events out.

Theory of operation: lines end with LF, CR or CRLF, so line ends are made one kind first; a CR at
the end of a piece ends its line at once, and an LF that comes next belongs to it. Complete lines
are decoded together, since no byte of a longer UTF-8 character looks like a line end, and go
through the fields one by one; an empty line completes an event.

Sizes are only counted where they could matter: of the event in progress at the end of a piece, and
line by line once a piece could bring an event over the limit. What is refused does not depend on
how the stream was cut.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from holdfast.wire.http1 import WireLimitError

__all__ = ["MAX_EVENT", "EventStreamParser", "ServerSentEvent"]

#: What one event may hold, in bytes, unless told otherwise.
MAX_EVENT = 16 * 1024 * 1024

#: Longer than this no sensible pause is, in digits (of milliseconds: eleven days).
_RETRY_DIGITS = 9

#: How much is taken apart at once, in bytes: the shortest lines take much more room than that.
_AT_ONCE = 64 * 1024

_DIGITS = re.compile("[0-9]+")

_BOM = "\ufeff"

# An event in a usual form, as a whole, or the end of one; or else any line. All of a text is found
# in one call, which takes a third of the time that a loop over its lines does.
_LINES = re.compile(
    r"(?:event: ([^\n]++)\n)?+(?:id: ([^\n\0]++)\n)?+data: ([^\n]++)\n\n|([^\n]*+)\n"
).findall

#: The last id that the stream has named (None before the first), the name, the data. No named
#: tuple: making one takes as long as all the rest.
ServerSentEvent: TypeAlias = tuple[str | None, str, str]


class EventStreamParser:
    """Takes an event stream apart, however it is cut into pieces.

    ``events`` are those that are complete; the reader takes them out. ``last_id`` is the id to
    resume after: that of the last complete event, None before the stream has named one. ``retry``
    is the pause before a reconnection, in milliseconds, None until the stream sets one.
    ``max_event`` limits the data lines of one event together with any line that follows them, in
    bytes with one for each line's end.
    """

    def __init__(self, last_id: str | None = None, *, max_event: int = MAX_EVENT) -> None:
        self.events: list[ServerSentEvent] = []
        self.last_id = last_id
        self.retry: int | None = None
        self._max_event = max_event
        self._held = bytearray()  # of a line that is not complete
        self._after_cr = False
        self._begun = False
        # Of the event in progress. An id counts only when its event is complete, or else the
        # event would be skipped when the stream is resumed after it.
        self._id = last_id
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take in a piece of the stream.

        Raises WireLimitError when an event is larger than its limit; those before it are there.
        """
        if len(data) > _AT_ONCE:
            for start in range(0, len(data), _AT_ONCE):
                self.feed(data[start : start + _AT_ONCE])
            return
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = data.rfind(b"\n") + 1
        held = self._held
        near = self._size + len(held) + len(data) > self._max_event
        if end:
            lines = data[:end]
            if held:
                lines = bytes(held) + lines
                held.clear()
            if near:
                self._measure(lines)
            else:
                self._take(lines)
                self._count(lines)
        held += data[end:]
        if near and self._size + len(held) > self._max_event:
            raise self._too_large()

    def _measure(self, lines: bytes) -> None:
        """Take lines one by one, none of which may bring the event over the limit."""
        start = 0
        while start < len(lines):
            end = lines.index(b"\n", start) + 1
            if end - start > 1 and self._size + end - start > self._max_event:
                raise self._too_large()
            line = lines[start:end]
            self._take(line)
            self._count(line)
            start = end

    def _count(self, lines: bytes) -> None:
        """Count the data of the event that the lines leave in progress."""
        if lines.endswith(b"\n\n"):
            self._size = 0
            return
        for line in lines[lines.rfind(b"\n\n") + 1 : -1].split(b"\n"):
            if not line:
                self._size = 0
            elif line.startswith(b"data:") or line == b"data":
                self._size += len(line) + 1

    def _take(self, raw: bytes) -> None:
        """Take complete lines."""
        text = raw.decode("utf-8", "replace")
        if not self._begun:
            self._begun = True
            text = text.removeprefix(_BOM)
        pieces = self._data
        add = self.events.append
        for name, id, data, line in _LINES(text):
            if not data:
                self._set(line)
                continue
            if name:
                self._name = name
            if id:
                self._id = id
            if pieces:
                pieces.append(data)
                self._complete()
            else:
                self.last_id = self._id
                add((self.last_id, self._name, data))
                self._name = ""

    def _complete(self) -> None:
        """Take note of an empty line."""
        # Without data it is no event, and its name is forgotten; its id holds.
        id = self.last_id = self._id
        pieces = self._data
        if pieces:
            data = pieces[0] if len(pieces) == 1 else "\n".join(pieces)
            self.events.append((id, self._name, data))
            pieces.clear()
        self._name = ""

    def _set(self, line: str) -> None:
        """Take any line."""
        if not line:
            self._complete()
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "id":
            if "\0" not in value:  # it has to fit into a header
                self._id = value
        elif field == "event":
            self._name = value
        elif field == "retry" and len(value) <= _RETRY_DIGITS and _DIGITS.fullmatch(value):
            self.retry = int(value)

    def _too_large(self) -> WireLimitError:
        return WireLimitError(f"an event is larger than {self._max_event} bytes")
