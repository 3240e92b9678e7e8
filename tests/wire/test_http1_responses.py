"""Responses come out of the parser as they are, however they were cut into pieces."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.wire.http1 import (
    LIMITS,
    Limits,
    Message,
    ResponseParser,
    WireError,
    WireLimitError,
)
from tests.servers.messages import chunked
from tests.wire.responses import (
    Example,
    Parsed,
    examples,
    outcome,
    parse,
    pieces_of,
)

OK = b"HTTP/1.1 200 OK\r\n"

TABLE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", {"body": b"hello"}),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", {}),
    "chunked": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"hello", 2),
        {"body": b"hello"},
    ),
    "chunks in capitals": (
        OK + b"Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        {"body": b"0123456789"},
    ),
    "chunk extensions": (
        OK + b'Transfer-Encoding: chunked\r\n\r\n5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n',
        {"body": b"hello"},
    ),
    "trailers": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"hello", 5, [("X-Sum", "1")]),
        {"body": b"hello"},
    ),
    "close": (OK + b"\r\nuntil the end", {"body": b"until the end", "keep_alive": False}),
    "close and said so": (
        OK + b"Connection: close\r\n\r\nuntil the end",
        {"body": b"until the end", "keep_alive": False},
    ),
    "connection close": (
        OK + b"Content-Length: 2\r\nConnection: Close\r\n\r\nok",
        {"body": b"ok", "keep_alive": False},
    ),
    "connection tokens": (
        OK + b"Content-Length: 2\r\nConnection: Keep-Alive, Upgrade\r\nUpgrade: h2c\r\n\r\nok",
        {"body": b"ok"},
    ),
    "close wins": (
        OK + b"Content-Length: 2\r\nConnection: close\r\nConnection: keep-alive\r\n\r\nok",
        {"body": b"ok", "keep_alive": False},
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", {"status": 204, "reason": b"No Content"}),
    "not modified": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
        {"status": 304, "reason": b"Not Modified"},
    ),
    "1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        {"body": b"ok", "keep_alive": False, "version": "1.0"},
    ),
    "1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        {"body": b"ok", "version": "1.0"},
    ),
    "1.0 to the end": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nuntil the end",
        {"body": b"until the end", "keep_alive": False, "version": "1.0"},
    ),
    # RFC 9112 6.1: chunks are not of HTTP/1.0, so its framing cannot be trusted any further.
    "1.0 chunked": (
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
        + chunked(b"hello"),
        {"body": b"hello", "keep_alive": False, "version": "1.0"},
    ),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", {"reason": b""}),
    "no reason, no space": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", {"reason": b""}),
    "a status of one's own": (
        b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n",
        {"status": 799, "reason": b"Odd"},
    ),
    "an empty line first": (b"\r\n" + OK + b"Content-Length: 2\r\n\r\nok", {"body": b"ok"}),
    "continue": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        {"body": b"ok"},
    ),
    "early hints": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + OK + b"Content-Length: 2\r\n\r\nok",
        {"body": b"ok"},
    ),
    "a continue with a length": (
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        {"body": b"ok"},
    ),
    "the same length twice in one": (OK + b"Content-Length: 0005\r\n\r\nhello", {"body": b"hello"}),
}

REFUSED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
    "a page": b"<html>\r\n\r\n</html>",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces before an interim response": b"HTTP/1.1  100 Continue\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "conflicting lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "a signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "a hexadecimal length": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "a fractional length": OK + b"Content-Length: 5.0\r\n\r\nhello",
    "a length with an underscore": OK + b"Content-Length: 1_0\r\n\r\n0123456789",
    "an empty length": OK + b"Content-Length: \r\n\r\nhello",
    "a length without end": OK + b"Content-Length: 99999999999999999999999999\r\n\r\n",
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "a coding before chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "chunked twice": OK
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "almost chunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "a silent switch": b"HTTP/1.1 101 Switching\r\n\r\n",
    "a folded header": OK + b"X-Long: one\r\n two\r\nContent-Length: 0\r\n\r\n",
    "a folded length": OK + b"Content-Length:\r\n 5\r\n\r\nhello",
    "a bare line feed": OK + b"X-A: 1\nContent-Length: 5\r\n\r\nhello",
    "a bare line feed after the status": b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
    "only line feeds": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "a bare carriage return": OK + b"X-A: 1\rContent-Length: 5\r\n\r\nhello",
    "a NUL": OK + b"X-A: \0\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a header without a name": OK + b": 5\r\nContent-Length: 0\r\n\r\n",
    "a header without a colon": OK + b"Content-Length\r\n\r\nhello",
    "a space before the first header": OK + b" Content-Length: 5\r\n\r\nhello",
    "no chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n0\r\n\r\n",
    "an empty chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\n\r\nhello",
    "a negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a chunk without end": OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello",
    "a chunk longer than it says": OK
    + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
    "chunks with line feeds": OK + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
}


@pytest.mark.parametrize("name", TABLE)
def test_valid_responses(name: str) -> None:
    """Each way to write a response is understood, at every place it may be cut."""
    data, said = TABLE[name]
    expected = {
        "status": 200,
        "reason": b"OK",
        "version": "1.1",
        "body": b"",
        "keep_alive": True,
        "complete": True,
        "surplus": False,
        **said,
    }
    whole = parse([data], end=True)[0]
    assert {key: getattr(whole, key) for key in expected} == expected
    for cut in range(1, len(data)):
        assert parse([data[:cut], data[cut:]], end=True) == [whole]
    assert parse([data[i : i + 1] for i in range(len(data))], end=True) == [whole]


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_responses(name: str) -> None:
    """What is not HTTP/1.x, or ambiguous, is refused at every place it may be cut."""
    data = REFUSED[name]
    with pytest.raises(WireError):
        parse([data])
    for cut in range(1, len(data)):
        with pytest.raises(WireError):
            parse([data[:cut], data[cut:]])


@given(examples(), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=200)
def test_any_response_in_any_pieces(example: Example, cuts: list[int]) -> None:
    """Status, headers and body come out as they went in."""
    (parsed,) = parse(pieces_of(example.data, cuts), end=True)
    assert parsed == Parsed(
        example.status,
        example.reason,
        "1.1",
        example.headers,
        example.body,
        complete=True,
        keep_alive=example.keep_alive,
        surplus=False,
    )


@pytest.mark.slow
@given(
    st.lists(examples(last=False), min_size=2, max_size=5),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_pipelined_responses_in_any_pieces(several: list[Example], cuts: list[int]) -> None:
    """Answers that follow one another are told apart."""
    data = b"".join(example.data for example in several)
    parsed = parse(pieces_of(data, cuts), count=len(several))
    assert [(p.status, p.headers, p.body, p.complete) for p in parsed] == [
        (e.status, e.headers, e.body, True) for e in several
    ]


@given(
    examples(last=False),
    st.binary(min_size=1, max_size=30).filter(lambda more: more.strip(b"\r\n")),
    st.lists(st.integers(0, 400)),
)
def test_surplus_is_noticed(example: Example, more: bytes, cuts: list[int]) -> None:
    """Whatever follows a complete response is surplus, never a part or an error of it."""
    (parsed,) = parse(pieces_of(example.data + more, cuts))
    assert parsed.complete
    assert parsed.surplus
    assert (parsed.status, parsed.body) == (example.status, example.body)


@pytest.mark.slow
@given(examples(), st.data(), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=200)
def test_damaged_responses_in_any_pieces(
    example: Example, data: st.DataObject, cuts: list[int]
) -> None:
    """Where the pieces are cut never changes what is made of a damaged response."""
    bad = bytearray(example.data)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(bad) - 1))
        damage = data.draw(
            st.sampled_from([b"", b"\n", b"\r", b"\r\n", b" ", b":", b"\0", b"1", b"c"])
        )
        bad[place : place + data.draw(st.integers(0, 2))] = damage
        if not bad:
            return
    whole = _essence([bytes(bad)])
    assert _essence(pieces_of(bytes(bad), cuts)) == whole
    assert _essence([bytes(bad[i : i + 1]) for i in range(len(bad))]) == whole


def _essence(pieces: list[bytes]) -> list[Parsed] | None:
    """Return the outcome, whether or not a line break that is left over counts as surplus."""
    found = outcome(pieces)
    return None if found is None else [replace(one, surplus=False) for one in found]


@given(st.lists(st.binary(max_size=200), max_size=10))
@settings(max_examples=150)
def test_garbage_is_refused(pieces: list[bytes]) -> None:
    """Arbitrary bytes raise nothing but WireError."""
    outcome(pieces)


@given(
    st.lists(st.binary(max_size=100), max_size=10), st.sampled_from(["length", "chunked", "close"])
)
@settings(max_examples=150)
def test_garbage_after_a_head_is_refused(pieces: list[bytes], framing: str) -> None:
    """A valid head is no reason to trust what follows."""
    head = {
        "length": b"Content-Length: 100\r\n",
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "close": b"",
    }[framing]
    outcome([OK + head + b"\r\n", *pieces])


@pytest.mark.parametrize("body", [b"", b"hello", b"HTTP/1.1 200 OK\r\n\r\n"])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
def test_the_answer_to_head_has_no_body(framing: bytes, body: bytes) -> None:
    """It is complete with its head, whatever that says; what follows is surplus."""
    head = OK + framing + b"\r\n"
    for cut in range(1, len(head) + 1):
        (parsed,) = parse([head[:cut], head[cut:] + body], bodiless=True)
        assert parsed.complete
        assert parsed.body == b""
        assert parsed.keep_alive
        assert parsed.surplus == bool(body)


def test_a_parser_serves_one_response_after_the_other() -> None:
    """After each kind of answer the next one is understood."""
    parser = ResponseParser(LIMITS)
    answers = [
        (False, OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (True, OK + b"Content-Length: 5\r\n\r\n", b""),
        (False, b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (True, OK + b"Transfer-Encoding: chunked\r\n\r\n", b""),
        (False, OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"hello"), b"hello"),
        (False, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
        (False, b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
        (False, OK + b"\r\nto the end", b"to the end"),
    ]
    for bodiless, data, body in answers:
        parser.bodiless = bodiless
        parser.feed(data)
        assert parser.message is not None
        assert b"".join(parser.pieces) == body
        if body == b"to the end":
            assert not parser.complete
            assert parser.end()
        assert parser.complete
        assert not parser.surplus
        parser.next()


def test_interim_responses_are_counted_for_each_response() -> None:
    """A server may send as many in all as it likes, and too many for one response is an error."""
    parser = ResponseParser(LIMITS)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    for _ in range(100):
        before = parser.heard
        parser.feed(interim)
        assert (before, parser.heard) == (False, True)
        parser.feed(interim + OK + b"Content-Length: 2\r\n\r\nok")
        assert parser.complete
        parser.next()
    with pytest.raises(WireLimitError):
        parser.feed(interim * 40)


def test_a_body_may_be_read_past_the_parser() -> None:
    """The next response is understood after a body that the parser never saw the end of."""
    parser = ResponseParser(LIMITS)
    parser.feed(OK + b"Content-Length: 100\r\n\r\nbegin")
    before = parser.complete
    parser.skip_body()
    assert (before, parser.complete) == (False, True)
    parser.next()
    parser.feed(OK + b"Content-Length: 2\r\n\r\nok")
    assert parser.complete
    assert parser.pieces == [b"ok"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        OK,
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_the_end_comes_too_early(data: bytes) -> None:
    """Only a body that ends with the connection is completed by its end."""
    parser = ResponseParser(LIMITS)
    if data:
        parser.feed(data)
    assert not parser.end()


def test_continue_is_noted() -> None:
    """A 100 (Continue) is told apart from other interim responses."""
    parser = ResponseParser(LIMITS)
    parser.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert [parser.continued, parser.message] == [False, None]
    parser.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert [parser.continued, parser.message] == [True, None]


SMALL = Limits(line=100, headers=300, count=5)

TOO_LARGE = {
    "a reason": b"HTTP/1.1 200 " + b"x" * 200 + b"\r\n\r\n",
    "a header": OK + b"X: " + b"x" * 200 + b"\r\n\r\n",
    "a name": OK + b"x" * 200 + b": 1\r\n\r\n",
    "many headers": OK + b"X: 1\r\n" * 6 + b"\r\n",
    "long headers": OK + (b"X: " + b"x" * 80 + b"\r\n") * 4 + b"\r\n",
    "no end of a reason": b"HTTP/1.1 200 " + b"x" * 1000,
    "no end of a header": OK + b"X: " + b"x" * 1000,
    "no end of headers": OK + b"X: 1\r\n" * 1000,
    "no end of interim responses": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
    "a chunk extension": OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 1000,
    "trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: 1\r\n" * 1000,
}


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("name", TOO_LARGE)
def test_limits(name: str, size: int) -> None:
    """What is too large is refused as such, long before it would have ended."""
    data = TOO_LARGE[name]
    with pytest.raises(WireLimitError):
        parse([data[i : i + size] for i in range(0, len(data), size)], limits=SMALL)


def test_what_is_just_within_the_limits() -> None:
    """A head that uses its limits up is accepted, in one piece and byte by byte."""
    line = b"X: " + b"x" * 97
    head = b"\r\n".join([b"HTTP/1.1 204 OK", line, line, b"Y: 1", b"Y: 2", b"Y: 3"]) + b"\r\n\r\n"
    assert len(head) <= 300
    for pieces in ([head], [head[i : i + 1] for i in range(len(head))]):
        (parsed,) = parse(pieces, limits=SMALL)
        assert len(parsed.headers) == 5


def test_bodies_have_no_limit_of_the_parsers_own() -> None:
    """Limits are for heads: a body in many small chunks is as long as it is."""
    body = b"x" * 10_000
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    data = head + chunked(body, 3)
    pieces = [data[i : i + 11] for i in range(0, len(data), 11)]
    assert parse(pieces, limits=SMALL)[0].body == body


@pytest.mark.parametrize(
    "endless",
    [b"x", b"X: 1\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"\r\n", b"X:\r\n"],
)
@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n1;"]
)
def test_memory_is_bounded(begin: bytes, endless: bytes) -> None:
    """What never ends is given up soon, and is not kept until then."""
    parser = ResponseParser(LIMITS)
    block = endless * (4096 // len(endless))
    tracemalloc.start()
    try:
        received = 0
        try:
            parser.feed(begin)
            while received < 1 << 23 and not parser.complete:
                parser.feed(block)
                parser.pieces.clear()
                received += len(block)
        except WireError:
            pass
        assert received < 1 << 18 or parser.message is not None
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [OK + b"Content-Length: 10000000\r\n\r\n", OK + b"\r\n"])
def test_errors_say_little_of_what_came(data: bytes) -> None:
    """A message quotes no more than a glimpse of a hostile peer's bytes."""
    for hostile in (
        b"x" * 100_000 + b"\r\n\r\n",
        OK + b"Transfer-Encoding: " + b"y" * 10_000 + b"\r\n\r\n",
    ):
        with pytest.raises(WireError) as caught:
            parse([hostile])
        assert len(str(caught.value)) < 300
    assert parse([data])[0].status == 200


def test_empty_lines_after_a_response_are_no_surplus() -> None:
    """An empty line that follows an answer means nothing, in one piece or in several."""
    bodiless = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    for pieces in ([bodiless + b"\r\n"], [bodiless, b"\r\n"], [bodiless, b"\r", b"\n"]):
        (parsed,) = parse(pieces)
        assert parsed.complete
        assert not parsed.surplus


@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "a", "a-b", "B", "ab"]), st.text("ab: \t")), max_size=6
    )
)
def test_one_field(fields: list[tuple[str, str]]) -> None:
    """A field that is looked up by itself is the first one of that name."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    message = Message(f"HTTP/1.1 200 OK a: b\r\n{lines}\r\n".encode(), 200)
    for wanted in (b"a", b"a-b", b"b", b"ab", b"c"):
        found = [value for name, value in message.headers if name.lower() == wanted]
        assert message.field(wanted) == (found[0] if found else None)
