"""`Respondent`: what comes in on a stepped connection, taken apart as far as it is there."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from holdfast.http.headers import Headers
from holdfast.wire.http1 import CHUNKED, CLOSE, LENGTH, LIMITS, Limits, ResponseParser, WireError
from holdfast.wire.sse import MAX_EVENT, EventStreamParser

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableSequence

    from holdfast.wire.http1 import Message

__all__ = ["REDIRECTS", "Respondent"]

#: Statuses that lead elsewhere when they name a location.
REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})

#: Methods to which no answer has a body.
_BODILESS = frozenset({"HEAD", "CONNECT"})

_VERSIONS = {"1.1": (1, 1), "1.0": (1, 0)}


def _attributes(message: Message) -> dict[str, Any]:
    """Return what the head of a response says, as a respondent's attributes."""
    headers = Headers.from_raw(message.headers)
    kind, _, parameters = headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    jsoned = kind == "application/json" or kind.endswith("+json")
    encoding = "utf-8" if jsoned or kind == _EVENTS else "ISO-8859-1"
    for parameter in parameters.split(";") if parameters else ():
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value:
            encoding = value.strip().strip('"')
    return {
        "version": _VERSIONS[message.version],
        "status": message.status,
        "reason": message.reason.decode("latin-1"),
        "headers": headers,
        "encoding": encoding,
        "chunked": message.framing == CHUNKED,
        "jsoned": jsoned,
        "evented": kind == _EVENTS and message.status == 200,
        "redirectant": message.status in REDIRECTS and "location" in headers,
        "started": True,
        "headed": True,
        "_framing": message.framing,
    }


#: What a respondent knows before anything has come.
_NOTHING: dict[str, Any] = {
    "version": None,
    "status": None,
    "reason": None,
    "headers": None,
    "data": None,
    "length": None,
    "chunked": None,
    "parms": None,
    "trails": None,
    "jsoned": None,
    "encoding": "ISO-8859-1",
    "evented": None,
    "persisted": None,
    "redirectant": None,
    "redirected": None,
    "headed": False,
    "bodied": False,
    "started": False,
    "ended": False,
    "closed": False,
    "errored": False,
    "error": None,
    "_source": None,
    "_framing": "",
}


_EVENTS = "text/event-stream"

_NO_FIELDS = Headers()


class _Known(NamedTuple):
    """An answer that came whole: the same head again, with the same size, means the same."""

    raw: bytes
    size: int
    attributes: dict[str, Any]  # of the head and of the end, but for body and data


class Respondent:
    """Parses responses, one after another, from a buffer that others fill.

    ``redirects``: where the client keeps the responses that led elsewhere. ``redirectable``:
    whether redirects are followed. ``events``: where server-sent events go, as dictionaries
    with ``id``, ``name`` and ``data``. ``retry``: milliseconds before a stream is asked for
    again (100); ``leid``: the last event's id. ``msg``: the buffer, a bytearray. ``dictable``:
    whether bodies and events are parsed as JSON whatever their type. ``method``: that of the
    request that is answered. ``limits``: of the head; ``max_body``: bytes of a body, and of an
    event (16 MiB unless it is less).

    Nothing is raised for what a server sends: ``errored`` and ``error`` tell. ``ended`` says that
    the response is over, either way.
    """

    #: Milliseconds before an event stream is asked for again, unless it says otherwise.
    Retry = 100
    #: Bytes that a body may have.
    MaxBody = 1 << 30

    version: tuple[int, int] | None
    status: int | None
    reason: str | None
    headers: Headers | None
    data: Any
    length: int | None
    chunked: bool | None
    parms: dict[str, str | None] | None
    trails: Headers | None
    jsoned: bool | None
    encoding: str
    evented: bool | None
    persisted: bool | None
    redirectant: bool | None
    redirected: bool | None
    headed: bool
    bodied: bool
    started: bool
    ended: bool
    closed: bool
    errored: bool
    error: str | None
    _source: EventStreamParser | None
    _framing: str

    def __init__(
        self,
        redirects: MutableSequence[dict[str, Any]] | None = None,
        redirectable: bool = True,
        events: MutableSequence[dict[str, Any]] | None = None,
        retry: int | None = None,
        leid: str | None = None,
        *,
        msg: bytearray | None = None,
        dictable: bool | None = None,
        method: str = "GET",
        limits: Limits = LIMITS,
        max_body: int | None = None,
    ) -> None:
        self.redirects: MutableSequence[dict[str, Any]] = redirects if redirects is not None else []
        self.redirectable = bool(redirectable)
        self.events: MutableSequence[dict[str, Any]] = events if events is not None else deque()
        self.retry = self.Retry if retry is None else retry
        self.leid = leid
        self.msg = msg if msg is not None else bytearray()
        self.dictable = bool(dictable)
        # Fixed, for what is known of an answer includes that it was within them.
        self._limits = limits
        self._max_body = self.MaxBody if max_body is None else max_body
        self._known: _Known | None = None
        self.parser: ResponseParser | None = None
        self._engine = self._new_parser()
        self.method = method.upper()
        self.makeParser()

    def reinit(
        self,
        redirectable: bool | None = None,
        msg: bytearray | None = None,
        dictable: bool | None = None,
        method: str | None = "GET",
        **kwa: Any,
    ) -> None:
        """Get ready for the next response; what is None stays as it was."""
        if kwa:
            raise TypeError(f"unknown arguments of a response: {', '.join(sorted(kwa))}")
        if msg is not None:
            self.msg = msg
        if dictable is not None:
            self.dictable = bool(dictable)
        if redirectable is not None:
            self.redirectable = bool(redirectable)
        self.method = (method or self.method).upper()
        self.makeParser()

    @property
    def code(self) -> int | None:
        """The status, by another name."""
        return self.status

    def makeParser(self, msg: bytearray | None = None) -> None:
        """Begin to parse a response, from ``msg`` when it is given."""
        if msg is not None:
            self.msg = msg
        parser = self._engine
        if parser.heard:
            # Left in the middle of a response: what it holds must not leak into the next one.
            parser = self._engine = self._new_parser()
        parser.bodiless = self.method in _BODILESS
        self.parser = parser
        self.body = bytearray()
        # One step instead of one for each: this is done for each response.
        self.__dict__.update(_NOTHING)

    def _new_parser(self) -> ResponseParser:
        parser = ResponseParser(self._limits, chunked_wins=True)
        # So that nothing after the end of a response is taken from the buffer for good.
        parser.pipelined = True
        parser.noting = True
        return parser

    def parse(self) -> None:
        """Take apart what is in the buffer, as far as it goes, and consume it."""
        parser = self.parser
        msg = self.msg
        if parser is None or not msg:
            return
        known = self._known
        if (
            known is not None
            and len(msg) == known.size
            and msg.startswith(known.raw)
            and not parser.heard
            and not parser.bodiless
        ):
            self.body += msg[len(known.raw) :]
            msg.clear()
            self.__dict__.update(known.attributes)
            self.parser = None
            if known.attributes["jsoned"] or self.dictable:
                self.dictify()
            return
        self.started = True
        size = 0 if parser.heard else len(msg)
        data = bytes(msg)
        msg.clear()
        try:
            try:
                parser.feed(data)
            finally:
                self._take(parser, size)  # also what came before a fault
        except WireError as error:
            self._fail(str(error))

    def parseHead(self) -> Iterator[bool | None]:
        """Parse at each step, and give None until the head is there, then True.

        What has come of the body by then is taken with it. A response that is over, well or not,
        has no more to give, either.
        """
        while not self._past_head:
            self.parse()
            if not self._past_head:
                yield None
        yield True

    @property
    def _past_head(self) -> bool:
        return self.headed or self.ended

    def parseBody(self) -> Iterator[bool | None]:
        """Parse at each step, and give None until the response is over, then True."""
        while not self.ended:
            self.parse()
            if not self.ended:
                yield None
        yield True

    def _take(self, parser: ResponseParser, size: int) -> None:
        """Take what the parser has found; ``size``: of a response that may have come whole."""
        message = parser.message
        if message is None:
            return
        if not self.headed:
            attributes = _attributes(message)
            self.__dict__.update(attributes)
            self.checkPersisted()
            if self.evented:
                limit = min(self._max_body, MAX_EVENT)
                self._source = EventStreamParser(self.leid, max_event=limit)
            if parser.notes is not None:
                self.parms = parser.notes.extensions
            if message.framing == LENGTH:
                self.length = message.length
                if self.evented:
                    pass  # each event has its limit
                elif message.length > self._max_body:
                    raise self._too_long()
                elif message.length + len(message.head) == size:
                    attributes |= {
                        "length": message.length,
                        "persisted": self.persisted,
                        "bodied": True,
                        "ended": True,
                    }
                    self._known = _Known(message.head, size, attributes)
        pieces = parser.pieces
        if pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._source is None:
                self._take_body(piece)
            else:
                self._take_events(self._source, piece)
        if parser.complete:
            if parser.notes is not None:
                trailers = parser.notes.trailers
                self.trails = Headers(trailers) if trailers else _NO_FIELDS
            self._end_message(parser)
            self.msg[:0] = parser.take_held()
            self._finish()

    def _end_message(self, parser: ResponseParser) -> None:
        # The next response may come on another connection: to httptools it begins anew.
        parser.skip_body()
        parser.next()

    def _take_body(self, piece: bytes) -> None:
        body = self.body
        body += piece
        if len(body) > self._max_body:
            del body[self._max_body :]
            raise self._too_long()

    def _too_long(self) -> WireError:
        return WireError(f"the body is longer than {self._max_body} bytes")

    def _take_events(self, source: EventStreamParser, piece: bytes) -> None:
        try:
            source.feed(piece)
        finally:
            # Also what came before an event that is too large.
            if source.retry is not None:
                self.retry = source.retry
            self.leid = source.last_id
            found = source.events
            if self.dictable:
                self.events.extend(
                    [
                        {"id": id, "name": name, "data": _parsed(data, data)}
                        for id, name, data in found
                    ]
                )
            else:
                self.events.extend(
                    [{"id": id, "name": name, "data": data} for id, name, data in found]
                )
            found.clear()

    def _finish(self) -> None:
        self.bodied = self.ended = True
        self.length = len(self.body)
        self.parser = None
        self.dictify()

    def _fail(self, reason: str) -> None:
        self.errored = self.ended = True
        self.error = reason
        self.persisted = False
        self.parser = None
        self._engine = self._new_parser()
        self.msg.clear()

    def close(self, abrupt: bool = False, reason: str = "the connection was closed") -> None:
        """Take note that the connection was closed: the response ends here, well or not.

        ``abrupt``: it was not closed in an orderly way, so what ends with the connection may
        have been cut off. ``reason``: how an error begins.
        """
        self.parse()
        self.closed = True
        parser = self.parser
        if parser is None:
            return
        message = parser.message
        if message is None:
            where = "in the middle of the head" if parser.heard else "before a response came"
            self._fail(f"{reason} {where}")
        elif message.framing == CLOSE and not abrupt:
            self._end_message(parser)
            self._finish()
        else:
            of = f" of {self.length}" if self.length is not None else ""
            self._fail(f"{reason} in the middle of the body ({len(self.body)}{of} bytes)")

    def checkPersisted(self) -> None:
        """Set ``persisted``: whether the connection stays open after this response."""
        tokens = "" if self.headers is None else self.headers.get("connection", "").lower()
        if self.version == (1, 0):
            self.persisted = "keep-alive" in tokens or bool(self.evented)
        else:
            self.persisted = "close" not in tokens and self._framing != CLOSE

    def dictify(self) -> None:
        """Parse the body as JSON into ``data`` when its type is JSON, or it is ``dictable``.

        What is not JSON gives None.
        """
        if self.jsoned or self.dictable:
            self.data = _parsed(self.body, None) if self.body else None


def _parsed(text: Any, otherwise: Any) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return otherwise
