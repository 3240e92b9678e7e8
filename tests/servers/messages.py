"""Read requests and write responses, independently of the code under test.

The reader is stricter than most servers: what it refuses is a mistake of the client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

HEAD_LIMIT = 1 << 20
LINE_LIMIT = 8192
RECEIVE_SIZE = 1 << 16

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_START_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) (HTTP/1\.[01])")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")


class PeerClosed(Exception):
    """The peer has gone, or the server is stopping: the conversation ends quietly."""


class BadRequest(Exception):
    """The client sent something that is no HTTP/1.1 request."""


@dataclass
class Request:
    """A request as it was received."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    connection: int = 0
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    head: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """Return the decoded path of the target."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        """Return the decoded query of the target."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def header(self, name: str, default: str = "") -> str:
        """Return the values of a header, joined by a comma where there are several."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else default

    @property
    def expects_continue(self) -> bool:
        """Tell whether the client waits for `100 Continue` before it sends the body."""
        return self.header("expect").lower() == "100-continue"

    @property
    def keeps_alive(self) -> bool:
        """Tell whether the client wants the connection kept."""
        options = self.header("connection").lower()
        if self.version == "HTTP/1.0":
            return "keep-alive" in options
        return "close" not in options


class RequestReader:
    """Read requests, one after the other, from a function that receives bytes."""

    def __init__(self, receive: Callable[[int], bytes], connection: int = 0) -> None:
        """Read by `receive(size)`, which returns nothing at the end."""
        self._receive = receive
        self._buffer = bytearray()
        self._connection = connection

    def request(self) -> Request:
        """Return the next request with its body."""
        request = self.head()
        self.body(request)
        return request

    def head(self) -> Request:
        """Return the next request without its body."""
        head = self._until(b"\r\n\r\n", HEAD_LIMIT)
        first, *lines = head.split(b"\r\n")
        start = _START_LINE.fullmatch(first)
        if start is None:
            raise BadRequest(f"not a request line: {first[:200]!r}")
        method, target, version = (part.decode("ascii") for part in start.groups())
        return Request(
            method, target, version, _headers(lines), self._connection, head=head + b"\r\n\r\n"
        )

    def body(self, request: Request) -> None:
        """Read the body of a request whose head was read before."""
        lengths = {v for k, v in request.headers if k.lower() == "content-length"}
        coding = request.header("transfer-encoding").lower()
        if coding and lengths:
            raise BadRequest("both Content-Length and Transfer-Encoding")
        if len(lengths) > 1:
            raise BadRequest(f"conflicting Content-Length: {sorted(lengths)}")
        if coding:
            if coding != "chunked":
                raise BadRequest(f"unknown Transfer-Encoding: {coding!r}")
            self._chunked_body(request)
        elif lengths:
            length = lengths.pop()
            if not (length.isascii() and length.isdigit()):
                raise BadRequest(f"not a Content-Length: {length!r}")
            request.body = self.exactly(int(length))

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        while len(self._buffer) < size:
            self._fill(max(RECEIVE_SIZE, min(size - len(self._buffer), 1 << 20)))
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return data

    def drain(self) -> bytes:
        """Return everything up to the end of the stream."""
        try:
            while True:
                self._fill(RECEIVE_SIZE)
        except PeerClosed:
            return self.take()

    def take(self) -> bytes:
        """Return what was received and not read."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def _chunked_body(self, request: Request) -> None:
        parts = []
        while True:
            line = self._until(b"\r\n", LINE_LIMIT).split(b";")[0].strip()
            if re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line) is None:
                raise BadRequest(f"not a chunk size: {line[:40]!r}")
            size = int(line, 16)
            if not size:
                break
            parts.append(self.exactly(size))
            if self.exactly(2) != b"\r\n":
                raise BadRequest("a chunk does not end where its size says")
        request.body = b"".join(parts)
        lines = []
        while line := self._until(b"\r\n", LINE_LIMIT):
            lines.append(line)
        request.trailers = _headers(lines)

    def _until(self, end: bytes, limit: int) -> bytes:
        start = 0
        while (position := self._buffer.find(end, start)) < 0:
            if len(self._buffer) > limit:
                raise BadRequest(f"no {end!r} within {limit} bytes")
            start = max(0, len(self._buffer) - len(end) + 1)
            self._fill(RECEIVE_SIZE)
        data = bytes(memoryview(self._buffer)[:position])
        del self._buffer[: position + len(end)]
        return data

    def _fill(self, size: int) -> None:
        data = self._receive(size)
        if not data:
            raise PeerClosed
        self._buffer += data


def _headers(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    headers = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise BadRequest(f"not a header: {line[:200]!r}")
        headers.append((match[1].decode("latin-1"), match[2].decode("latin-1")))
    return headers


def reason_of(status: int) -> str:
    """Return the usual reason phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def response_head(status: int, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Return a response up to the empty line, with exactly the given headers."""
    lines = [f"HTTP/1.1 {status} {reason_of(status)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def response(
    status: int = 200, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """Return a whole response with its Content-Length."""
    return response_head(status, [*headers, ("Content-Length", str(len(body)))]) + body


def json_response(value: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Return a whole response that carries a value as JSON."""
    kind = ("Content-Type", "application/json")
    return response(status, json.dumps(value).encode(), [kind, *headers])


def chunked(data: bytes, size: int = 8192, trailers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Return data in the chunked coding, in chunks of `size` bytes, with its end."""
    parts = []
    for start in range(0, len(data), size):
        chunk = data[start : start + size]
        parts += [b"%x\r\n" % len(chunk), chunk, b"\r\n"]
    parts.append(b"0\r\n")
    parts += [f"{name}: {value}\r\n".encode("latin-1") for name, value in trailers]
    return b"".join([*parts, b"\r\n"])


def pattern(size: int) -> bytes:
    """Return bytes in which a lost, doubled or moved piece shows.

    The period is a prime number, so that no buffer size is a multiple of it.
    """
    period = bytes(range(251))
    return (period * (size // len(period) + 1))[:size]
