"""What Twisted's agents send as a body."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Cooperator
from twisted.web import client as twisted_client
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer  # type: ignore[import-untyped]

from holdfast.errors import InvalidRequest
from holdfast.http.bodies import query_string

__all__ = ["body_of"]

FileBodyProducer: Any = twisted_client.FileBodyProducer


def body_of(data: Any, reactor: Any) -> tuple[Any, str | None]:
    """Return what treq takes, and the type of its content."""
    if data is None or IBodyProducer.providedBy(data):
        return data, None
    if isinstance(data, str):
        return _Bytes(data.encode()), "text/plain; charset=utf-8"
    if isinstance(data, bytes | bytearray | memoryview):
        return _Bytes(bytes(data)), None
    if isinstance(data, Mapping | list | tuple):
        try:
            form = query_string(data)
        except (TypeError, ValueError):
            raise InvalidRequest("a form is a mapping, or pairs of a name and a value") from None
        return _Bytes(form.encode()), "application/x-www-form-urlencoded"
    if hasattr(data, "read"):
        if isinstance(data, io.TextIOBase):
            raise InvalidRequest("a file to send is opened in binary mode")
        # The usual cooperator is the installed reactor's.
        cooperator = Cooperator(scheduler=lambda turn: reactor.callLater(0, turn))
        return FileBodyProducer(data, cooperator), None
    raise InvalidRequest(f"{type(data).__name__} cannot be a body: bytes, a file, IBodyProducer")


@implementer(IBodyProducer)
class _Bytes:
    """A body in memory, which may be sent again."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Hand it to the transport, which has it sent."""
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: it is written already."""

    def resumeProducing(self) -> None:
        """Do nothing, as well."""

    def stopProducing(self) -> None:
        """Do nothing, as well."""
