"""What simulated hosts are asked and what they reply: HTTP/1.1, quickly.

Only what the clients of a simulation send is understood; a real server is stricter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = ["Asked", "Fate", "Head", "Reply", "head_of", "response_of", "size_of_body"]

#: What becomes of a request; see `Reply`.
Fate: TypeAlias = Literal["answer", "reset", "close", "cut"] | OSError

_HEADER = re.compile(rb"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)")
_FATES: tuple[str, ...] = ("answer", "reset", "close", "cut")
_NOTHING: Mapping[str, str] = MappingProxyType({})

#: Heads that are remembered: those of clients that ask the same again.
_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request, and what it says about its body."""

    method: str
    target: str
    text: str
    length: int
    chunked: bool
    expects: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as the host received it at ``time``, in seconds; ``source`` is who asks."""

    method: str
    target: str
    head: str
    body: bytes
    time: float
    source: str = "client"

    @property
    def headers(self) -> dict[str, str]:
        """The headers by their names in lower case; of several the last one."""
        pairs = _HEADER.findall(self.head.encode("latin-1"))
        return {
            name.decode("latin-1").lower(): value.decode("latin-1").rstrip()
            for name, value in pairs
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What a host does with a request, ``after`` some seconds; infinity is silence.

    ``pieces`` of the body follow the head and ``body``, each with the seconds before it. ``fate``
    is ``"answer"``, or instead of an answer ``"reset"`` or ``"close"`` (of the connection) or the
    OSError that breaks it, or after all the pieces ``"cut"``: less than what the head has
    promised, and then the end.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    after: float = 0.0
    pieces: Sequence[tuple[float, bytes]] = ()
    fate: Fate = "answer"

    def __post_init__(self) -> None:
        if self.status.__class__ is not int or not 200 <= self.status <= 999:
            raise ValueError(f"Reply: status must be a code from 200 to 999, not {self.status!r}")
        if not isinstance(self.body, bytes | bytearray | memoryview):
            raise ValueError(f"Reply: body must be bytes, not {self.body!r}")
        if not self.after >= 0:
            raise ValueError(f"Reply: after must be at least 0 seconds, not {self.after!r}")
        if self.fate not in _FATES and not isinstance(self.fate, OSError):
            fates = ", ".join(map(repr, _FATES))
            raise ValueError(f"Reply: fate must be one of {fates} or an OSError, not {self.fate!r}")


_heads: dict[bytes, Head] = {}
_starts: dict[tuple[int, int], bytes] = {}


def head_of(data: bytes) -> tuple[Head, int] | None:
    """Return the head of a request and its size in bytes, None when it is not complete."""
    known = _heads.get(data)
    if known is not None:
        return known, len(data)
    size = data.find(b"\r\n\r\n") + 4
    if size < 4:
        return None
    raw = data[:size]
    known = _heads.get(raw)
    if known is None:
        method, target, _ = raw.decode("latin-1").split(" ", 2)
        headers = {name.lower(): value.lower().rstrip() for name, value in _HEADER.findall(raw)}
        known = Head(
            method,
            target,
            raw.decode("latin-1"),
            int(headers.get(b"content-length", b"0")),
            b"chunked" in headers.get(b"transfer-encoding", b""),
            headers.get(b"expect") == b"100-continue",
        )
        if len(_heads) >= _KNOWN:
            _heads.clear()
        _heads[raw] = known
    return known, size


def size_of_body(head: Head, data: bytes, start: int) -> int | None:
    """Return the size of a body as it was sent, None when it is not complete."""
    if not head.chunked:
        return head.length if len(data) >= start + head.length else None
    at = start
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at:end].partition(b";")[0], 16)
        at = end + 2 + size + 2
        if len(data) < at:
            return None
        if size == 0:
            return at - start


def response_of(reply: Reply, bodiless: bool) -> bytes:
    """Return the head of a response and the part of its body that comes with it."""
    body = reply.body
    length = len(body)
    if reply.pieces:
        length += sum(len(piece) for _, piece in reply.pieces)
    if reply.fate == "cut":
        length += 10
    start = _starts.get((reply.status, length))
    if start is None:
        try:
            phrase = HTTPStatus(reply.status).phrase
        except ValueError:
            phrase = "Unknown"
        start = f"HTTP/1.1 {reply.status} {phrase}\r\nContent-Length: {length}\r\n".encode()
        if len(_starts) >= _KNOWN:
            _starts.clear()
        _starts[reply.status, length] = start
    if reply.headers:
        lines = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        start += lines.encode("latin-1")
    return start + b"\r\n" if bodiless else b"%b\r\n%b" % (start, body)
