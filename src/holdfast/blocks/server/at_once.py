"""The answer to the most frequent request, a GET of a small block that is in memory: at once.

Nothing of it waits, so it needs no task, no queue of messages and no second thread; those take
longer than what there is to do. Whatever is not the plain case, or would be refused, is left to
the ordinary way.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from holdfast.blocks.locators import EMPTY, KeepLocator
from holdfast.blocks.server.access import token_of
from holdfast.blocks.server.exchanges import request_id_of
from holdfast.blocks.server.reading import INLINE
from holdfast.blocks.server.refusals import Refused

if TYPE_CHECKING:
    from holdfast.blocks.server.service import Service

__all__ = ["AtOnce"]

#: Headers of requests that are not plain.
_OTHERS = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"transfer-encoding",
        b"upgrade",
        b"x-keep-signature",
    }
)

_HEAD = (
    b"HTTP/1.1 200 OK\r\nx-request-id: %b\r\ncontent-length: %d\r\n"
    b"content-type: application/octet-stream\r\nvary: X-Keep-Signature\r\n\r\n"
)


class AtOnce:
    """Answers GETs of one service, within its event loop."""

    def __init__(self, service: Service) -> None:
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
            if name in _OTHERS:
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
