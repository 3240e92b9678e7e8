"""Chunk extensions and trailers are noted as they are written, however the body was cut."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.chunks import ChunkNotes
from holdfast.wire.http1 import LIMITS, Limits, ResponseParser, WireError, WireLimitError
from tests.wire.responses import TOKEN, pieces_of

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Notes = tuple[dict[str, str | None], list[tuple[str, str]]]


def read(pieces: list[bytes], limits: Limits = LIMITS) -> tuple[bytes, Notes]:
    """Return the body, the extensions and the trailers of a response."""
    parser = ResponseParser(limits)
    parser.pipelined = parser.noting = True
    for piece in pieces:
        parser.feed(piece)
    assert parser.complete
    assert parser.notes is not None
    return b"".join(parser.pieces), (parser.notes.extensions, parser.notes.trailers)


TABLE: dict[str, tuple[bytes, Notes]] = {
    "nothing": (b"5\r\nhello\r\n0\r\n\r\n", ({}, [])),
    "no data": (b"0\r\n\r\n", ({}, [])),
    "a value": (b"5;a=b\r\nhello\r\n0\r\n\r\n", ({"a": "b"}, [])),
    "several": (b"5;a=b;c=d\r\nhello\r\n0;e=f\r\n\r\n", ({"a": "b", "c": "d", "e": "f"}, [])),
    "no value": (b"5;a\r\nhello\r\n0;b\r\n\r\n", ({"a": None, "b": None}, [])),
    "an empty value": (b'5;a=;b=""\r\nhello\r\n0\r\n\r\n', ({"a": "", "b": ""}, [])),
    "quoted": (b'5;a="b c";d=e\r\nhello\r\n0\r\n\r\n', ({"a": "b c", "d": "e"}, [])),
    "what looks like more": (
        b'5;a="b;c=d\\"e\\\\";f\r\nhello\r\n0\r\n\r\n',
        ({"a": 'b;c=d"e\\', "f": None}, []),
    ),
    "the last one holds": (b"2;a=b\r\nhe\r\n3;a=c\r\nllo\r\n0;a\r\n\r\n", ({"a": None}, [])),
    "trailers": (
        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-sum:\t2 \r\nX-None:\r\n\r\n",
        ({}, [("X-Sum", "1"), ("x-sum", "2"), ("X-None", "")]),
    ),
    "colons in trailers": (b"0\r\nX: a:b\r\n\r\n", ({}, [("X", "a:b")])),
    "Latin-1": (b"5\r\nhello\r\n0\r\nX: \xe4\r\n\r\n", ({}, [("X", "ä")])),
    "data like headers": (
        b"f\r\n\r\n\r\n0;a=b\r\n\r\n\r\n\r\n0;c\r\n\r\n",
        ({"c": None}, []),
    ),
    "like chunks": (
        b"2\r\nab\r\n" * 9 + b"2;a=b\r\nab\r\n" + b"2\r\nab\r\n" * 9 + b"3\r\nabc\r\n0;c\r\n\r\n",
        ({"a": "b", "c": None}, []),
    ),
    "zeros before": (b"0005;a\r\nhello\r\n000\r\n\r\n", ({"a": None}, [])),
    "capitals": (
        b"A;a\r\n0123456789\r\na;b\r\n0123456789\r\n0\r\n\r\n",
        ({"a": None, "b": None}, []),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_notes(name: str) -> None:
    """What is noted is the same at every place that the body may be cut."""
    data, notes = TABLE[name]
    data = HEAD + data
    whole = read([data])
    assert whole[1] == notes
    for cut in range(1, len(data)):
        assert read([data[:cut], data[cut:]]) == whole
    assert read([data[i : i + 1] for i in range(len(data))]) == whole


tokens = st.text(TOKEN, min_size=1, max_size=5)
quotable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=5)
extensions = st.lists(st.tuples(tokens, st.one_of(st.none(), tokens, quotable)), max_size=3)
chunks = st.tuples(st.binary(min_size=1, max_size=20), extensions)


def _written(pairs: list[tuple[str, str | None]]) -> bytes:
    text = ""
    for name, value in pairs:
        text += f";{name}"
        if value is not None and value and set(value) <= set(TOKEN):
            text += f"={value}"
        elif value is not None:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            text += f'="{escaped}"'
    return text.encode()


@given(
    st.lists(chunks, max_size=6),
    extensions,
    st.lists(st.tuples(tokens, tokens), max_size=3),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_any_body_in_any_pieces(
    parts: list[tuple[bytes, list[tuple[str, str | None]]]],
    last: list[tuple[str, str | None]],
    trailers: list[tuple[str, str]],
    cuts: list[int],
) -> None:
    """Data, extensions and trailers come out as they went in."""
    trailers = [(f"X-{name}", value) for name, value in trailers]
    data = HEAD
    for piece, pairs in parts:
        data += b"%x%b\r\n%b\r\n" % (len(piece), _written(pairs), piece)
    data += b"0%b\r\n" % _written(last)
    data += "".join(f"{name}: {value}\r\n" for name, value in trailers).encode() + b"\r\n"
    expected = dict([pair for _, pairs in parts for pair in pairs] + last)
    assert read(pieces_of(data, cuts)) == (
        b"".join(piece for piece, _ in parts),
        (expected, trailers),
    )


OVER = {
    "a chunk's header": b"5;a=" + b"x" * 100 + b"\r\nhello\r\n0\r\n\r\n",
    "a later chunk's header": b"5\r\nhello\r\n5;a=" + b"x" * 100 + b"\r\nhello\r\n0\r\n\r\n",
    "the last chunk's header": b"5\r\nhello\r\n0;a=" + b"x" * 100 + b"\r\n\r\n",
    "a trailer": b"5\r\nhello\r\n0\r\nX: " + b"x" * 100 + b"\r\n\r\n",
    "trailers": b"5\r\nhello\r\n0\r\n" + b"X: x\r\n" * 20 + b"\r\n",
    "extensions of all": b"".join(b"1;x%02d=abc\r\n.\r\n" % i for i in range(20)) + b"0\r\n\r\n",
}


@pytest.mark.parametrize("name", OVER)
def test_limits(name: str) -> None:
    """What is over a limit is refused, whether it comes at once or byte by byte."""
    data = HEAD + OVER[name]
    assert read([data])
    for cut in range(len(data)):
        with pytest.raises(WireLimitError):
            read([data[:cut], data[cut:]], Limits(headers=80))
    with pytest.raises(WireLimitError):
        read([data[i : i + 1] for i in range(len(data))], Limits(headers=80))


def test_like_extensions_are_kept_once() -> None:
    """An endless stream whose chunks all have an extension takes no more and more memory."""
    notes = ChunkNotes(LIMITS.headers)
    size = 0
    tracemalloc.start()
    try:
        for number in range(10_000):
            chunk = b"4;signature=%064d\r\nabcd\r\n" % number
            notes.feed(chunk)
            size += len(chunk)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert notes.extensions == {"signature": f"{9999:064}"}
    assert not notes.excessive
    assert size > LIMITS.headers
    assert kept < 10_000


@pytest.mark.parametrize("chunked_first", [True, False])
@pytest.mark.parametrize("length", [b"0", b"2", b"500"])
def test_chunks_beside_a_length(chunked_first: bool, length: bytes) -> None:
    """Chunks beside a Content-Length win where that was asked for, and are refused otherwise."""
    fields = [b"Transfer-Encoding: chunked\r\n", b"Content-Length: " + length + b"\r\n"]
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(fields if chunked_first else fields[::-1]) + b"\r\n"
    data = head + b"5;a\r\nhello\r\n0\r\n\r\n"
    with pytest.raises(WireError):
        ResponseParser(LIMITS).feed(data)
    parser = ResponseParser(LIMITS, chunked_wins=True)
    parser.pipelined = True
    for _ in range(2):
        parser.feed(data)
        assert (parser.complete, b"".join(parser.pieces)) == (True, b"hello")
        assert parser.message is not None
        assert parser.message.length == -1
        parser.next()
