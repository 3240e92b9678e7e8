"""An event stream gives the events that the standard says, however it is cut and framed."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.wire.http1 import WireLimitError
from holdfast.wire.sse import EventStreamParser, ServerSentEvent
from tests.wire.responses import pieces_of

Outcome = tuple[list[ServerSentEvent], str | None, int | None]


def read(
    *pieces: bytes, last_id: str | None = None, max_event: int = 1 << 20
) -> list[ServerSentEvent]:
    """Return the events in pieces of a stream."""
    parser = EventStreamParser(last_id, max_event=max_event)
    for piece in pieces:
        parser.feed(piece)
    return parser.events


def outcome(pieces: list[bytes]) -> Outcome:
    """Return the events, the last id and the pause."""
    parser = EventStreamParser()
    for piece in pieces:
        parser.feed(piece)
    return parser.events, parser.last_id, parser.retry


def by_the_book(stream: bytes) -> Outcome:
    """Read a stream as WHATWG HTML 9.2.6 says, one line after another."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = re.split("\r\n|\n|\r", text)[:-1]
    events: list[ServerSentEvent] = []
    last_id: str | None = None
    id, name, data, retry = last_id, "", "", None
    for line in lines:
        if not line:
            last_id = id
            if data:
                events.append((id, name, data[:-1]))
            name = data = ""
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            id = value
        elif field == "retry" and re.fullmatch("[0-9]{1,9}", value):
            retry = int(value)
    return events, last_id, retry


TABLE: dict[str, tuple[bytes, list[ServerSentEvent]]] = {
    "one line": (b"data: a\n\n", [(None, "", "a")]),
    "no space": (b"data:a\n\n", [(None, "", "a")]),
    "one space of two": (b"data:  a \n\n", [(None, "", " a ")]),
    "lines": (b"data: a\ndata:\ndata: b\n\n", [(None, "", "a\n\nb")]),
    "no colon": (b"data\n\ndata\ndata\n\n", [(None, "", ""), (None, "", "\n")]),
    "an empty line first": (b"\n\n\ndata: a\n\n", [(None, "", "a")]),
    "no empty line": (b"data: a\n\ndata: b\n", [(None, "", "a")]),
    "half a line": (b"data: a\n\ndata: b", [(None, "", "a")]),
    "a name": (b"event: add\ndata: a\n\ndata: b\n\n", [(None, "add", "a"), (None, "", "b")]),
    "a name behind": (b"data: a\nevent: add\n\n", [(None, "add", "a")]),
    "two names": (b"event: x\nevent: add\ndata: a\n\n", [(None, "add", "a")]),
    "a name alone": (b"event: add\n\ndata: a\n\n", [(None, "", "a")]),
    "an id stays": (b"id: 1\ndata: a\n\ndata: b\n\n", [("1", "", "a"), ("1", "", "b")]),
    "an id behind": (b"data: a\nid: 1\n\n", [("1", "", "a")]),
    "an id alone": (b"id: 1\n\ndata: a\n\n", [("1", "", "a")]),
    "an id is taken back": (
        b"id: 1\ndata: a\n\nid\ndata: b\n\nid:\ndata: c\n\n",
        [("1", "", "a"), ("", "", "b"), ("", "", "c")],
    ),
    "an id with NUL": (
        b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\nid: \x003\ndata: c\n\n",
        [("1", "", "a"), ("1", "", "b"), ("1", "", "c")],
    ),
    "NUL in data": (b"data: a\x00\n\n", [(None, "", "a\x00")]),
    "comments": (b":\n: hello\ndata: a\n:data: x\ndata: b\n:\n\n:\n\n", [(None, "", "a\nb")]),
    "a comment alone": (b": ping\n\ndata: a\n\n", [(None, "", "a")]),
    "unknown fields": (b"x: y\nDATA: a\n data: b\nda ta: c\ndata: d\n\n", [(None, "", "d")]),
    "a field's name alone": (b"id\nevent\nretry\nx\ndata: a\n\n", [("", "", "a")]),
    "colons in data": (b"data: a: b:c\n\n", [(None, "", "a: b:c")]),
    "a mark": (b"\xef\xbb\xbfdata: a\n\n", [(None, "", "a")]),
    "two marks": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [(None, "", "b")]),
    "a mark later": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(None, "", "a")]),
    "a mark and an empty line": (b"\xef\xbb\xbf\ndata: a\n\n", [(None, "", "a")]),
    "UTF-8": ("id: ä\nevent: ö\ndata: ü€😀\n\n".encode(), [("ä", "ö", "ü€😀")]),
    "not UTF-8": (b"data: \xff\xe2\x82\ndata: \xf0\n\n", [(None, "", "\ufffd\ufffd\n\ufffd")]),
    "other line ends": (
        "data: a\u2028b\x85c\x0bd\x0ce\n\n".encode(),
        [(None, "", "a\u2028b\x85c\x0bd\x0ce")],
    ),
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("name", TABLE)
def test_every_form_and_framing(name: str, end: bytes) -> None:
    """Each form of an event is understood with each line end, at every place it may be cut."""
    data, events = TABLE[name]
    data = data.replace(b"\n", end)
    whole = outcome([data])
    assert whole[0] == events
    assert by_the_book(data) == whole
    for cut in range(1, len(data)):
        assert outcome([data[:cut], data[cut:]]) == whole
        assert outcome([data[:cut], b"", data[cut:], b""]) == whole
    assert outcome([data[i : i + 1] for i in range(len(data))]) == whole


words = st.sampled_from(
    [
        b"data",
        b"id",
        b"event",
        b"retry",
        b":",
        b": ",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"x",
        b"12",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xe2\x82\xac",
        b"\xff",
        b"data: a\n\n",
        b"id: 1\ndata: b\n\n",
        b"event: e\nid: 2\ndata: c\n\n",
    ]
)


@given(st.lists(words, max_size=40).map(b"".join), st.lists(st.integers(0, 200), max_size=8))
@example(b"data: a\r\ndata: b\r\n\r\n", [8, 17, 18])
def test_any_stream_is_read_by_the_book(stream: bytes, cuts: list[int]) -> None:
    """Whatever a stream has in it, and wherever it is cut, it means what the standard says."""
    assert outcome(pieces_of(stream, cuts)) == by_the_book(stream)


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_garbage_is_no_error(pieces: list[bytes]) -> None:
    """Any bytes are a stream, of which the same is made as by the book."""
    assert outcome(pieces) == by_the_book(b"".join(pieces))


@pytest.mark.parametrize(
    ("value", "retry"),
    [
        (b"10", 10),
        (b"0", 0),
        (b"007", 7),
        (b"999999999", 999_999_999),
        (b"9999999999", None),
        (b"9" * 5000, None),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1.5", None),
        (b"1 ", None),
        (b" 1", None),
        (b"1_0", None),
        ("٣".encode(), None),
        ("²".encode(), None),
    ],
)
def test_retry_is_digits(value: bytes, retry: int | None) -> None:
    """Only plain digits, and not too many, set the pause, without an event or an empty line."""
    parser = EventStreamParser()
    parser.feed(b"retry: " + value + b"\n")
    assert parser.retry == retry
    assert parser.events == []


def test_an_id_counts_with_its_event() -> None:
    """The id to resume after is that of an event that came whole."""
    parser = EventStreamParser("0")
    assert parser.last_id == "0"
    parser.feed(b"id: 1\ndata: a\n")
    assert parser.last_id == "0"
    parser.feed(b"\nid: 2\ndata: b")
    assert parser.events == [("1", "", "a")]
    assert parser.last_id == "1"


def test_a_known_id_is_carried_on() -> None:
    """Events of a resumed stream that names no id have the one that it was resumed after."""
    assert read(b"data: a\n\nid: 8\ndata: b\n\n", last_id="7") == [("7", "", "a"), ("8", "", "b")]


def test_nothing_but_an_empty_piece_in_a_line_end() -> None:
    """An empty piece between CR and LF does not make two line ends of them."""
    assert read(b"data: a\r", b"", b"\ndata: b\r", b"\n", b"", b"\r", b"\n") == [(None, "", "a\nb")]


LIMITED = {
    "the limit": (b"data: 3456789\n\n", True),
    "a byte more": (b"data: 34567890\n\n", False),
    "an unfinished line": (b"data: 345678901", False),
    "two lines": (b"data: 3\ndata:\n\n", True),
    "two lines, a byte more": (b"data: 3\ndata: \n\n", False),
    "empty lines": (b"data\ndata\n\n", True),
    "too many empty lines": (b"data\ndata\ndata\n\n", False),
    "a comment": (b":2345678901234\n\n", False),
    "a comment in between": (b"data: a\n:2345\n\n", True),
    "a long comment in between": (b"data: a\n:23456\n\n", False),
    "comments without number": (b"data: a\n" + b":\n" * 100 + b"\n", True),
    "another event": (b"data: 3456789\n\ndata: 3456789\n\n", True),
    "an event without data between": (b"data: a\n\n\nid: 1\n\ndata: 3456789\n\n", True),
    "characters of several bytes": ("data: äöü6\n\n".encode(), True),
    "a byte more of them": ("data: äöüä\n\n".encode(), False),
    "CRLF": (b"data: 3456789\r\n\r\n", True),
    "CRLF, a byte more": (b"data: 34567890\r\n\r\n", False),
}


@pytest.mark.parametrize("name", LIMITED)
def test_size_of_an_event(name: str) -> None:
    """An event over its limit is refused, and its size does not depend on the pieces it came in."""
    data, accepted = LIMITED[name]
    every = [[data[:cut], data[cut:]] for cut in range(len(data))]
    for pieces in [*every, [data[i : i + 1] for i in range(len(data))]]:
        if accepted:
            read(*pieces, max_event=14)
        else:
            with pytest.raises(WireLimitError, match="larger than 14 bytes"):
                read(*pieces, max_event=14)


def test_events_before_one_that_is_too_large() -> None:
    """Events that were complete before one that is too large are not lost with it."""
    parser = EventStreamParser(max_event=20)
    with pytest.raises(WireLimitError):
        parser.feed(b"id: 1\ndata: a\n\nretry: 5\nid: 2\ndata: " + b"x" * 30)
    assert parser.events == [("1", "", "a")]
    assert (parser.last_id, parser.retry) == ("1", 5)


@pytest.mark.parametrize("line", [b":\n", b": ping\r\n", b"event: x\n", b"id: 1\r", b"\n", b"x\n"])
def test_lines_without_data_take_no_memory(line: bytes) -> None:
    """A stream may go on for ever without data, in bounded memory."""
    parser = EventStreamParser(max_event=1000)
    piece = line * 1000
    parser.feed(b"data: a\n" + piece)
    tracemalloc.start()
    try:
        for _ in range(4):  # until the interpreter keeps what it keeps of lists and tuples
            parser.feed(piece)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20):
            parser.feed(piece)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What it keeps of them still varies a little; 20,000 lines would be much more.
    assert kept - before < 20_000
    assert peak < 1_000_000
    parser.feed(b"\n\ndata: b\n\n")
    assert parser.events[-1][2] == "b"


def test_a_large_piece_is_taken_apart_in_parts() -> None:
    """A piece of many short lines takes no more memory than a few times its size."""
    piece = b":\n" * 150_000 + b"data: a\n\n"
    parser = EventStreamParser()
    tracemalloc.start()
    try:
        parser.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parser.events == [(None, "", "a")]
    assert peak < 12_000_000
