"""HTTP/1.1 as bytes (RFC 9112): requests out, responses in.

Theory of operation: one `ResponseParser` serves one connection, one response after another. It
waits for a whole head, whose size it limits; httptools (llhttp), which knows the grammar and
refuses what is ambiguous (a second Content-Length, Content-Length with Transfer-Encoding, folded
headers, bare line feeds), checks it and decodes the body. Ordinarily the answer to a small call is
there in one piece and goes through httptools at once; header fields are only taken apart when
someone asks for them, or when the body is not complete yet and its framing matters.

After some heads httptools must not see what follows, because it would misunderstand it (the
answer to HEAD has no body whatever its head says) or run on into the next response. Such heads are
fed alone: those of interim responses, of answers without a body, and of pipelined answers, whose
bodies are then fed exactly to their end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import httptools

from holdfast.wire.chunks import ChunkNotes

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Limits",
    "Message",
    "ResponseParser",
    "WireError",
    "WireLimitError",
    "encode_chunk",
    "encode_headers",
    "encode_method",
    "encode_target",
]


class WireError(ValueError):
    """The bytes are not an HTTP/1.x response, or the strings make no HTTP/1.1 request."""


class WireLimitError(WireError):
    """A part of the response is larger than its limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large the parts of a response may be.

    ``line``: one line of the head (start line or header), in bytes. ``headers``: the whole head, or
    what stands between two pieces of a chunked body, in bytes. ``count``: how many headers.
    """

    line: int = 16 * 1024
    headers: int = 64 * 1024
    count: int = 200


#: The limits that hold unless others are given.
LIMITS = Limits()

# A message's framing: where its body ends.
NONE = "none"
LENGTH = "length"
CHUNKED = "chunked"
CLOSE = "close"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Visible ASCII. Everything else must come percent-encoded.
_TARGET = re.compile(r"[!-~]+")
# RFC 9110 5.5: visible characters, space and tab; obs-text as Latin-1. No CR, LF or NUL.
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@lru_cache(maxsize=256)
def encode_method(method: str) -> bytes:
    """Return the method as bytes; raise WireError when it is not a token."""
    if not _TOKEN.fullmatch(method):
        raise WireError(f"not an HTTP method: {method!r}")
    return method.encode("ascii")


@lru_cache(maxsize=4096)
def encode_target(target: str) -> bytes:
    """Return the request target as bytes; raise WireError when it could inject anything."""
    if not _TARGET.fullmatch(target):
        raise WireError(f"not a request target (percent-encode it): {target!r}")
    return target.encode("ascii")


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return header lines as bytes; raise WireError for names or values that could inject."""
    lines = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise WireError(f"not a header name: {name!r}")
        if not _VALUE.fullmatch(value):
            # The value itself may be a secret.
            raise WireError(f"the value of header {name!r} has forbidden characters")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")


def encode_chunk(data: bytes | bytearray | memoryview) -> bytes:
    """Return one chunk of a chunked body; of empty data, which would end it, nothing."""
    return b"%x\r\n%b\r\n" % (len(data), bytes(data)) if len(data) else b""


#: What ends a chunked body.
LAST_CHUNK = b"0\r\n\r\n"


class Message:
    """The head of a response; ``framing`` tells where its body ends."""

    # Defaults, so that an ordinary message sets only what it has.
    closing = False  # whether the server said that this is its last answer
    keep_alive = True  # whether the connection may carry another request
    encoding = ""  # Content-Encoding, "" without
    framing = CLOSE
    length = -1  # of the body, by Content-Length
    _headers: list[tuple[bytes, bytes]] | None = None

    def __init__(self, head: bytes, status: int) -> None:
        self.head = head
        self.status = status

    @property
    def version(self) -> str:
        """``1.1`` or ``1.0``."""
        return self.head[5:8].decode("ascii")

    @property
    def reason(self) -> bytes:
        """The reason phrase, as it came."""
        return self.head[13 : self.head.index(b"\r\n")]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header fields, as they came."""
        if self._headers is None:
            # The grammar was checked: no folding, a colon in each line.
            lines = self.head[:-4].split(b"\r\n")
            parted = (line.partition(b":") for line in lines[1:])
            self._headers = [(name, value.strip(b" \t")) for name, _, value in parted]
        return self._headers

    def field(self, name: bytes) -> bytes | None:
        """Return the first header field of a name, given in lower case, without reading others."""
        start = self.head.lower().find(b"\r\n%b:" % name) + 3 + len(name)
        if start < 3 + len(name):
            return None
        return self.head[start : self.head.index(b"\r\n", start)].strip(b" \t")

    def frame(self, bodiless: bool) -> None:
        """Read from the header fields where the body ends (RFC 9112 6.3), and how it is coded."""
        keep_alive = self.head[5:8] == b"1.1"
        closes = False
        for field, value in self.headers:
            name = field.lower()
            if name == b"content-length":
                self.length = int(value)
                if self.framing != CHUNKED:
                    self.framing = LENGTH
            elif name == b"connection":
                tokens = value.lower()
                if b"close" in tokens:
                    closes = self.closing = True
                elif b"keep-alive" in tokens:
                    keep_alive = True
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked" or self.framing == CHUNKED:
                    raise WireError(f"the transfer encoding {value[:80]!r} is not supported")
                self.framing = CHUNKED
                # HTTP/1.0 knows no chunks: its framing is not to be trusted (RFC 9112 6.1).
                closes = closes or self.head[7] == _ZERO
            elif name == b"content-encoding":
                coding = value.decode("latin-1")
                self.encoding += f",{coding}" if self.encoding else coding
        if bodiless or self.status < 200 or self.status in (204, 304):
            self.framing = NONE
        elif self.framing == CHUNKED:
            self.length = -1
        self.keep_alive = keep_alive and not closes and self.framing != CLOSE


class ResponseParser:
    """The incoming half of one connection.

    ``message`` is the response in progress once its head is there; ``pieces`` of its body are
    taken out by the reader, who calls `next` when it is done with it. ``complete`` tells that the
    body came to its end. ``bodiless`` is set for a request whose answer has no body whatever its
    head says (HEAD, CONNECT), ``pipelined`` while several answers are expected. ``continued``
    turns true at a 100 (Continue); ``surplus`` when the peer sends more than was asked for, so
    that the connection cannot be trusted any more. ``noting``: whether ``notes`` are taken of the
    extensions and trailers of chunked bodies, in a pipeline.

    ``chunked_wins``: whether chunks beat a Content-Length that stands beside them. Otherwise that
    is refused: it may come from an attempt to smuggle a response (RFC 9112 6.3).
    """

    __slots__ = (
        "_chunked_wins",
        "_held",
        "_informational",
        "_limits",
        "_may_begin",
        "_open",
        "_parser",
        "_piled",
        "_restart",
        "_small",
        "_tail",
        "_taken",
        "bodiless",
        "complete",
        "continued",
        "known",
        "known_size",
        "message",
        "notes",
        "noting",
        "on_body",
        "on_message_begin",
        "on_message_complete",
        "pieces",
        "pipelined",
        "surplus",
    )

    def __init__(self, limits: Limits, *, chunked_wins: bool = False) -> None:
        self._limits = limits
        self._chunked_wins = chunked_wins
        # A head of this size cannot be over a limit: the shortest header line has four bytes.
        self._small = min(limits.line, limits.headers, limits.count * 4)
        self.bodiless = False
        self.pipelined = False
        self.continued = False
        self.surplus = False
        self.message: Message | None = None
        self.complete = False
        self.pieces: list[bytes] = []
        self.noting = False
        self.notes: ChunkNotes | None = None
        # What httptools calls are methods of lists, for a function of ours costs more than all of
        # its parsing: a token is taken for each message that begins, so that one too many fails;
        # pieces of the body are collected; at the end of a message nothing is open any more.
        self._may_begin = [True]
        self._open = [True]
        self.on_message_begin = self._may_begin.pop
        self.on_body = self.pieces.append
        self.on_message_complete = self._open.clear
        #: The last response that came whole and with nothing special about it.
        self.known: Message | None = None
        #: How long it was with its body. The same head and size again mean the same again, and
        #: need not be parsed.
        self.known_size = -1
        self._held = b""  # of a head that is not complete; what follows a pipelined response
        self._tail = b""  # the last bytes of a chunked body in a pipeline
        self._taken = 0  # bytes of a body of known length in a pipeline
        self._informational = 0  # interim responses before the one in progress
        self._piled = 0  # bytes between two pieces of a body
        self._begin()

    def _begin(self) -> None:
        """Have a parser that has seen nothing."""
        self._restart = False
        self._parser = httptools.HttpResponseParser(self)
        if self._chunked_wins:
            self._parser.set_dangerous_leniencies(lenient_chunked_length=True)

    @property
    def heard(self) -> bool:
        """Whether anything of the response in progress was received."""
        return self.message is not None or bool(self._held) or self._informational > 0

    def feed(self, data: bytes) -> None:
        """Parse what was received.

        Raises WireError when it is not HTTP/1.x, WireLimitError when it is over a limit; the
        connection is of no use after that.
        """
        if self.message is not None:
            if not self.complete:
                self._feed_body(data)
            else:
                self._hold_surplus(data)
            return
        if self._held:
            data = self._held + data
            self._held = b""
        known = self.known
        if known is not None and data.startswith(known.head):
            # A busy server's answers to like requests have like heads, for a second at a time.
            head = known.head
        else:
            known = None
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or not data.startswith(_PREFIX):
                self._feed_oddity(data)
                return
            head = data[:end]
            if end > self._small:
                self._check(head)
        if not self._may_begin:
            # The last message took both.
            self._may_begin.append(True)
            self._open.append(True)
        if self.pipelined or self.bodiless or self._restart or head[9] == _ONE:
            self._feed_alone(head, data[len(head) :])
            return
        try:
            self._parser.feed_data(data)
        except _REFUSALS as error:
            self._failed(error)
        self.complete = not self._open
        self._informational = 0
        if known is not None and self.complete:
            self.message = known
            return
        message = self.message = Message(head, self._parser.get_status_code())
        lower = head.lower()
        # (`find` takes half as long as `in`.)
        if (
            not self.complete
            or lower.find(b"encoding:") > 0
            or lower.find(b"close") > 0
            or head[7] == _ZERO
        ):
            message.frame(False)
            self._piled = 0
        elif message.status != 408 and not self.surplus:
            self.known = message
            self.known_size = len(data)

    def next(self) -> None:
        """Go on to the next response; in a pipeline, `feed` b"" to see whether it is there."""
        self.message = None
        self.pieces.clear()

    def skip_body(self) -> None:
        """Take the body for complete: the reader received the rest of it past the parser."""
        self._end_message()

    def _end_message(self) -> None:
        """End a message that httptools has not seen the end of: it must not see what follows."""
        self._open.clear()
        self.complete = self._restart = True

    def take_held(self) -> bytes:
        """Take away what is held: a head that is not complete, or what follows a response."""
        held, self._held = self._held, b""
        return held

    def end(self) -> bool:
        """Take note of the end of the stream; tell whether the response is complete by it."""
        if self.message is not None and self.message.framing == CLOSE:
            self.complete = True
        return self.complete and self.message is not None

    def _feed_oddity(self, data: bytes) -> None:
        """Keep a head that is not complete, or begin after empty lines."""
        if data[:7] == _PREFIX[: len(data)]:
            self._hold(data)
            return
        stripped = data.lstrip(b"\r\n")  # RFC 9112 2.2
        if len(data) - len(stripped) not in range(1, 9):
            raise WireError(f"it begins with {data[:20]!r}")
        self.feed(stripped)

    def _feed_alone(self, head: bytes, rest: bytes) -> None:
        """Have the head checked, and see to what follows it here."""
        self._parse(head)
        message = Message(head, self._parser.get_status_code())
        message.frame(self.bodiless)
        if message.status < 200:
            self._on_informational(message.status)
            self._restart = True  # it may say "Connection: close", which is for the last one
            if rest:
                self.feed(rest)
            return
        self.message = message
        self.complete = False
        self._tail = b""
        self.notes = None
        if self.noting and message.framing == CHUNKED:
            self.notes = ChunkNotes(self._limits.headers)
        self._taken = self._piled = self._informational = 0
        if message.framing == NONE or message.length == 0:
            self._end_message()
            self._hold_surplus(rest)
        elif rest:
            self._feed_body(rest)

    def _on_informational(self, status: int) -> None:
        if status == 101:
            raise WireError("it switched protocols, which nobody asked for")
        self.continued = self.continued or status == 100
        self._informational += 1
        if self._informational > 32:
            raise WireLimitError("it sent more than 32 interim responses")

    def _feed_body(self, data: bytes) -> None:
        message = self.message
        assert message is not None
        if not self.pipelined:
            before = len(self.pieces)
            self._parse(data)
            self._pile(len(data), before)
        elif message.framing == CHUNKED:
            self._feed_chunks(data)
        else:
            left = message.length - self._taken if message.framing == LENGTH else len(data)
            piece = data[:left]
            self.pieces.append(piece)
            self._taken += len(piece)
            if self._taken == message.length:
                self._end_message()
                self._hold_surplus(data[left:])

    def _feed_chunks(self, data: bytes) -> None:
        """Feed no more than the end of a chunked body, which is always an empty line."""
        start = 0
        known = len(self._tail)
        text = self._tail + data
        while start < len(data):
            # It may overlap the last one, and begin in what was fed before.
            stop = text.find(b"\r\n\r\n", max(start + known - 3, 0))
            end = stop + 4 - known if stop >= 0 else len(data)
            before = len(self.pieces)
            part = data[start:end]
            self._parse(part)
            if self.notes is not None:
                self.notes.feed(part)
                if self.notes.excessive:
                    self.complete = False
                    raise self._too_much_between()
            self._pile(end - start, before)
            start = end
            if self.complete:
                break
        self._tail = text[-3:]
        self._hold_surplus(data[start:])

    def _hold_surplus(self, data: bytes) -> None:
        """Keep what follows a complete response, for the next one if there is to be one."""
        if self.pipelined:
            self._held += data
        elif data.strip(b"\r\n"):  # empty lines before a message mean nothing (RFC 9112 2.2)
            self.surplus = True

    def _parse(self, data: bytes) -> None:
        if self._restart:
            self._begin()
        try:
            self._parser.feed_data(data)
        except _REFUSALS as error:
            self._failed(error)
        self.complete = not self._open

    def _failed(self, error: Exception) -> None:
        """Refuse what httptools refused, unless the response was complete before."""
        if isinstance(error, httptools.HttpParserUpgrade):
            raise WireError("it switched protocols, which nobody asked for") from None
        if self._open:
            raise WireError(str(error)) from None
        self.surplus = True

    def _hold(self, data: bytes) -> None:
        """Keep a head that is not complete, unless it cannot become one."""
        if b"\n\n" in data:
            raise WireError("a line feed without a carriage return")
        if len(data) > self._limits.line and b"\r\n" not in data:
            raise WireLimitError(f"a line is longer than {self._limits.line} bytes")
        if len(data) > self._limits.headers:
            raise WireLimitError(f"the headers are longer than {self._limits.headers} bytes")
        self._held = data

    def _check(self, head: bytes) -> None:
        """Enforce the limits on a complete head."""
        limits = self._limits
        if head.count(b"\r\n") > limits.count + 2:
            raise WireLimitError(f"there are more than {limits.count} headers")
        if len(head) > limits.headers:
            raise WireLimitError(f"the headers are longer than {limits.headers} bytes")
        if len(head) > limits.line and max(map(len, head.split(b"\r\n"))) > limits.line:
            raise WireLimitError(f"a line is longer than {limits.line} bytes")

    def _pile(self, size: int, pieces: int) -> None:
        """Limit what comes in between pieces of a body: chunk headers and trailers."""
        if self.complete or len(self.pieces) > pieces:
            self._piled = 0
            return
        self._piled += size
        if self._piled > self._limits.headers:
            raise self._too_much_between()

    def _too_much_between(self) -> WireLimitError:
        return WireLimitError(f"chunk headers are longer than {self._limits.headers} bytes")


# The second is no subclass of the first.
_REFUSALS = (httptools.HttpParserError, httptools.HttpParserUpgrade)

_PREFIX = b"HTTP/1."
_ONE = ord("1")
_ZERO = ord("0")
