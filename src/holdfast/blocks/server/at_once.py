"""The answers to the most frequent requests, GET and PUT of small blocks: at once.

A GET of what is in memory waits for nothing, nor does a PUT where blocks need not reach the disk
first. So they need no task, no queue of messages and no second thread; those take longer than what
there is to do. Whatever is not the plain case, or would be refused, is left to the ordinary way.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from holdfast.blocks.locators import EMPTY, HASH, KeepLocator
from holdfast.blocks.server.access import token_of
from holdfast.blocks.server.exchanges import length_of, request_id_of
from holdfast.blocks.server.putting import classes_of, receipt
from holdfast.blocks.server.reading import INLINE, is_content
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.storing import Storing

if TYPE_CHECKING:
    from holdfast.blocks.server.service import Service

__all__ = ["AtOnce"]

#: Headers of requests that are not plain.
_OTHERS = frozenset({b"connection", b"expect", b"transfer-encoding", b"upgrade"})
_OTHER_GETS = _OTHERS | {b"content-length", b"x-keep-signature"}

#: When a PUT has taken more seconds than others should wait for it, they are left to threads for so
#: many times as long: no more than a hundredth of the time is lost to slow ones.
SLOW = 0.005
REST = 100
#: For so many seconds they are when a volume has failed: it would fail both ways.
BROKEN = 10.0

_HEAD = (
    b"HTTP/1.1 200 OK\r\nx-request-id: %b\r\ncontent-length: %d\r\n"
    b"content-type: application/octet-stream\r\nvary: X-Keep-Signature\r\n\r\n"
)
_STORED = b"HTTP/1.1 200 OK\r\nx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n"


class AtOnce:
    """Answers requests to one service, within its event loop."""

    def __init__(self, service: Service) -> None:
        self._mounts = service.mounts
        self._quick_from = 0.0
        self._reading = service.reading
        self._access = service.access
        self._metrics = service.metrics

    def get(self, path: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """Return the whole answer to a GET, None when it takes the ordinary way."""
        if path[33:34] != b"+":
            return None
        began = perf_counter()
        token, request_id = "", b""
        for name, value in headers:
            if name in _OTHER_GETS:
                return None
            if name == b"authorization":
                token = token_of(value)
            elif name == b"x-request-id":
                request_id = value
        try:
            locator = KeepLocator(path[1:].decode("latin-1"))
            size = locator.size
            if size is None or size > INLINE or locator.md5sum == EMPTY.md5sum:
                return None
            if locator.perm_sig is None and locator.remote is not None:
                return None
            self._access.check_read(locator, token)
        except (Refused, ValueError):
            return None
        data = self._reading.cached(locator.md5sum, size)
        if data is None:
            return None
        self._metrics.sent.inc(size)
        self._metrics.answered("GET", 200, perf_counter() - began)
        return _HEAD % (request_id_of(request_id), size) + data

    def takes_put(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Return whether `put` may answer a PUT with such headers."""
        length = -1
        for name, value in headers:
            if name in _OTHERS:
                return False
            if name == b"content-length":
                length = length_of(value)
        return (
            0 < length <= INLINE
            and perf_counter() >= self._quick_from
            and all(volume.quick for volume in self._mounts if volume.writable)
        )

    def put(self, path: bytes, headers: list[tuple[bytes, bytes]], data: bytes) -> bytes | None:
        """Store a block; return the whole answer, None when it takes the ordinary way.

        A block that is there already does so, too: it is compared with that one.
        """
        began = perf_counter()
        token, request_id = "", b""
        classes: tuple[str, ...] = ()
        name = path[1:].decode("latin-1")
        try:
            for field, value in headers:
                if field == b"authorization":
                    token = token_of(value)
                elif field == b"x-request-id":
                    request_id = value
                elif field == b"x-keep-storage-classes" and not classes:
                    classes = classes_of(value.decode("latin-1"))
            self._access.check_token(token)
        except Refused:
            return None
        if not HASH.fullmatch(name) or not is_content(name, data):
            return None
        classes = classes or classes_of("")
        storing = Storing(self._mounts, self._reading, name, size=len(data), classes=classes)
        added = storing.add(data)
        now = perf_counter()
        if storing.failed:
            self._quick_from = now + BROKEN
        elif now - began > SLOW:
            self._quick_from = now + REST * (now - began)
        if not added:
            return None
        self._metrics.received.inc(len(data))
        self._metrics.answered("PUT", 200, now - began)
        text, told = receipt(self._access, name, len(data), storing.kept, token)
        fields = b"".join(b"%b: %b\r\n" % one for one in told)
        return _STORED % (request_id_of(request_id), len(text), fields) + text
