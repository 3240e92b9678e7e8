"""Responses to parse: made from parts, and read by the parser in any pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

from holdfast.wire.http1 import LIMITS, Limits, ResponseParser, WireError
from tests.servers.messages import chunked

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Parsed:
    """What came out of the parser."""

    status: int
    reason: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    complete: bool
    keep_alive: bool
    surplus: bool


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut bytes at the given places."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


def parse(
    pieces: Sequence[bytes],
    *,
    end: bool = False,
    count: int = 1,
    bodiless: bool = False,
    limits: Limits = LIMITS,
) -> list[Parsed]:
    """Feed a parser as a reader does; return what has begun of so many responses."""
    parser = ResponseParser(limits)
    parser.bodiless = bodiless
    parser.pipelined = count > 1
    found: list[Parsed] = []
    body = bytearray()
    waiting = [*pieces, None] if end else list(pieces)
    while len(found) < count:
        body += b"".join(parser.pieces)
        parser.pieces.clear()
        if parser.message is not None and parser.complete and len(found) < count - 1:
            found.append(_parsed(parser, bytes(body)))
            body.clear()
            parser.next()
            parser.feed(b"")
            continue
        if not waiting:
            if parser.message is None:
                break
            found.append(_parsed(parser, bytes(body)))
            break
        piece = waiting.pop(0)
        if piece is None:
            parser.end()
        else:
            parser.feed(piece)
    return found


def _parsed(parser: ResponseParser, body: bytes) -> Parsed:
    message = parser.message
    assert message is not None
    return Parsed(
        message.status,
        message.reason,
        message.version,
        message.headers,
        body,
        parser.complete,
        message.keep_alive,
        parser.surplus,
    )


def outcome(pieces: Sequence[bytes], *, end: bool = True, count: int = 1) -> list[Parsed] | None:
    """Return what was parsed, None when the bytes were refused."""
    try:
        return parse(pieces, end=end, count=count)
    except WireError:
        return None


@dataclass(frozen=True)
class Example:
    """A response and what it says."""

    data: bytes
    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool
    ends_with_connection: bool


def _latin(text: str) -> bytes:
    return text.encode("latin-1")


names = (
    st.text(TOKEN, min_size=1, max_size=12)
    .map(_latin)
    .filter(
        lambda name: (
            name.lower()
            not in {
                b"content-length",
                b"transfer-encoding",
                b"connection",
                b"proxy-connection",
                b"content-encoding",
                b"upgrade",
            }
        )
    )
)
values = (
    st.text(
        st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"),
        max_size=20,
    )
    .map(str.strip)
    .map(lambda text: text.strip("\xa0\x85 "))
    .map(_latin)
)
bodies = st.binary(max_size=60)


@st.composite
def examples(draw: st.DrawFn, *, last: bool = True) -> Example:
    """Make a valid response; only the ``last`` on a connection may end with it."""
    status = draw(st.one_of(st.sampled_from([200, 204, 304]), st.integers(200, 599)))
    reason = draw(values)
    headers = draw(st.lists(st.tuples(names, values), max_size=5))
    body = draw(bodies)
    framings = ["length", "chunked"] + ["close"] * last
    framing = "none" if status in (204, 304) else draw(st.sampled_from(framings))
    closes = draw(st.booleans()) if last else False
    if closes:
        headers.insert(0, (b"Connection", draw(st.sampled_from([b"close", b"Close"]))))
    coded = body
    if framing == "length":
        headers.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunked":
        headers.append(
            (draw(st.sampled_from([b"Transfer-Encoding", b"transfer-encoding"])), b"chunked")
        )
        coded = chunked(body, draw(st.integers(1, 20)))
    elif framing == "none":
        body = coded = b""
        if status == 304 and draw(st.booleans()):
            headers.append((b"Content-Length", b"50"))  # of the body that is not sent
    head = b"HTTP/1.1 %d %b\r\n" % (status, reason)
    head += b"".join(
        b"%b:%b%b\r\n" % (n, draw(st.sampled_from([b"", b" ", b"\t "])), v) for n, v in headers
    )
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    return Example(
        interim + head + b"\r\n" + coded,
        status,
        reason,
        headers,
        body,
        keep_alive=not closes and framing != "close",
        ends_with_connection=framing == "close",
    )
