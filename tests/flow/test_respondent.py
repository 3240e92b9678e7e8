"""A `Respondent` takes any response apart, however its bytes come, and never raises."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.flow.responding import Respondent
from holdfast.wire.http1 import Limits
from tests.wire.responses import Example, examples, pieces_of

OK = b"HTTP/1.1 200 OK\r\n"
OLD = b"HTTP/1.0 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EVENTS = b"Content-Type: text/event-stream\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"

ATTRIBUTES = (
    "version",
    "status",
    "code",
    "reason",
    "body",
    "data",
    "length",
    "chunked",
    "parms",
    "jsoned",
    "encoding",
    "evented",
    "retry",
    "leid",
    "persisted",
    "redirectant",
    "headed",
    "bodied",
    "started",
    "ended",
    "closed",
    "errored",
)

ENDED = {
    "version": (1, 1),
    "status": 200,
    "code": 200,
    "reason": "OK",
    "body": b"",
    "data": None,
    "parms": None,
    "trails": None,
    "jsoned": False,
    "encoding": "ISO-8859-1",
    "evented": False,
    "events": [],
    "retry": 100,
    "leid": None,
    "persisted": True,
    "redirectant": False,
    "headed": True,
    "bodied": True,
    "started": True,
    "ended": True,
    "errored": False,
    "rest": b"",
}


def state(respondent: Respondent) -> dict[str, Any]:
    """Return all that a respondent says."""
    found: dict[str, Any] = {name: getattr(respondent, name) for name in ATTRIBUTES}
    for name in ("headers", "trails"):
        fields = getattr(respondent, name)
        found[name] = None if fields is None else fields.multi_items()
    found["events"] = list(respondent.events)
    found["parser"] = respondent.parser is not None
    assert bool(respondent.error) == respondent.errored
    return found


def answer(pieces: list[bytes], *, close: bool = False, **options: Any) -> dict[str, Any]:
    """Feed pieces of a response as a client does; return what was made of them."""
    respondent = Respondent(msg=bytearray(), **options)
    rest = bytearray()
    for piece in pieces:
        if respondent.ended:
            rest += piece
            continue
        respondent.msg += piece
        respondent.parse()
    if close:
        respondent.close()
    return outcome(respondent, bytes(rest))


def outcome(respondent: Respondent, rest: bytes = b"") -> dict[str, Any]:
    """Return what was made of a response, and what was left."""
    found = {**state(respondent), "rest": bytes(respondent.msg) + rest}
    if respondent.errored:
        # An error ends the connection: of what followed nothing is of use. And how far the
        # extensions in its piece were understood is not known.
        found.update(rest=b"", parms=None)
    return found


def everywhere(data: bytes, *, close: bool = False, **options: Any) -> dict[str, Any]:
    """Feed a response in one piece, cut at every place, and byte by byte: all mean the same."""
    whole = answer([data], close=close, **options)
    for cut in range(1, len(data)):
        assert answer([data[:cut], data[cut:]], close=close, **options) == whole, cut
    assert answer([data[i : i + 1] for i in range(len(data))], close=close, **options) == whole
    return whole


TABLE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "length": (HELLO, {"body": b"hello", "length": 5, "chunked": False}),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", {"length": 0}),
    "chunked": (
        OK + CHUNKED + b"\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        {"body": b"hello", "chunked": True, "length": 5, "parms": {}, "trails": []},
    ),
    "extensions and trailers": (
        OK + CHUNKED + b'\r\n5;a=b;c="d;e";f\r\nhello\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n',
        {
            "body": b"hello",
            "parms": {"a": "b", "c": "d;e", "f": None},
            "trails": [("X-Sum", "1"), ("x-sum", "2")],
        },
    ),
    "chunked beats length": (
        OK + CHUNKED + b"Content-Length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        {"body": b"hello", "chunked": True, "parms": {}, "trails": [], "length": 5},
    ),
    "length is beaten by chunked": (
        OK + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n",
        {"body": b"hello", "chunked": True, "parms": {}, "trails": [], "length": 5},
    ),
    "no content": (
        b"HTTP/1.1 204 No Content\r\n\r\n",
        {"status": 204, "code": 204, "reason": "No Content", "length": 0},
    ),
    "not modified": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        {"status": 304, "code": 304, "reason": "Not Modified", "length": 0},
    ),
    "not modified, chunked": (
        b"HTTP/1.1 304 Not Modified\r\n" + CHUNKED + b"\r\n",
        {"status": 304, "code": 304, "reason": "Not Modified", "length": 0},
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", {"reason": ""}),
    "a reason in Latin-1": (b"HTTP/1.1 200 \xe4\r\nContent-Length: 0\r\n\r\n", {"reason": "ä"}),
    "an empty line first": (b"\r\n" + HELLO, {"body": b"hello"}),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, {"body": b"hello"}),
    "interim responses": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + HELLO,
        {"body": b"hello"},
    ),
    "an interim response that closes": (
        b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + HELLO,
        {"body": b"hello"},
    ),
    "an interim response with a length": (
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" + HELLO,
        {"body": b"hello"},
    ),
    "connection close": (
        OK + b"Connection: Close\r\nContent-Length: 5\r\n\r\nhello",
        {"body": b"hello", "persisted": False},
    ),
    "connection close among others": (
        OK + b"Connection: te, close\r\nContent-Length: 5\r\n\r\nhello",
        {"body": b"hello", "persisted": False},
    ),
    "chunked and close": (
        OK + b"Connection: close\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n",
        {"body": b"hello", "parms": {}, "trails": [], "persisted": False},
    ),
    "no content and close": (
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        {"status": 204, "code": 204, "reason": "No Content", "persisted": False},
    ),
    "1.0": (
        OLD + b"Content-Length: 5\r\n\r\nhello",
        {"version": (1, 0), "body": b"hello", "persisted": False},
    ),
    "1.0 keep-alive": (
        OLD + b"Connection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello",
        {"version": (1, 0), "body": b"hello", "persisted": True},
    ),
    "1.0 chunked": (
        OLD + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n",
        {"version": (1, 0), "body": b"hello", "parms": {}, "trails": [], "persisted": False},
    ),
    "1.0 events": (
        OLD + EVENTS + b"Content-Length: 9\r\n\r\ndata: a\n\n",
        {
            "version": (1, 0),
            "events": [{"id": None, "name": "", "data": "a"}],
            "evented": True,
            "encoding": "utf-8",
            "persisted": True,
        },
    ),
    "JSON": (
        OK + b'Content-Type: Application/JSON\r\nContent-Length: 8\r\n\r\n{"a": 1}',
        {"body": b'{"a": 1}', "data": {"a": 1}, "jsoned": True, "encoding": "utf-8"},
    ),
    "JSON of some kind": (
        OK
        + b"Content-Type: application/problem+json; charset=UTF-8\r\nContent-Length: 2\r\n\r\n[]",
        {"body": b"[]", "data": [], "jsoned": True, "encoding": "UTF-8"},
    ),
    "no JSON": (
        OK + b"Content-Type: application/json\r\nContent-Length: 5\r\n\r\nhello",
        {"body": b"hello", "data": None, "jsoned": True, "encoding": "utf-8"},
    ),
    "no JSON at all": (
        OK + b"Content-Type: application/json\r\nContent-Length: 0\r\n\r\n",
        {"data": None, "jsoned": True, "encoding": "utf-8"},
    ),
    "JSON that is not UTF-8": (
        OK + b'Content-Type: application/json\r\nContent-Length: 3\r\n\r\n"\xff"',
        {"body": b'"\xff"', "data": None, "jsoned": True, "encoding": "utf-8"},
    ),
    "JSON of another type": (
        OK + b'Content-Type: text/plain; charset="utf-8"; x=y\r\nContent-Length: 2\r\n\r\n{}',
        {"body": b"{}", "encoding": "utf-8"},
    ),
    "a redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        {"status": 302, "code": 302, "reason": "Found", "redirectant": True},
    ),
    "a redirect to nowhere": (
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        {"status": 302, "code": 302, "reason": "Found", "redirectant": False},
    ),
    "a location of something new": (
        b"HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        {"status": 201, "code": 201, "reason": "Created", "redirectant": False},
    ),
    "events that are refused": (
        b"HTTP/1.1 503 Busy\r\n" + EVENTS + b"Content-Length: 9\r\n\r\ndata: a\n\n",
        {
            "status": 503,
            "code": 503,
            "reason": "Busy",
            "body": b"data: a\n\n",
            "encoding": "utf-8",
        },
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_responses(name: str) -> None:
    """Each kind of response is over where it ends, at every place that it may be cut."""
    data, said = TABLE[name]
    found = everywhere(data)
    expected = {**ENDED, **said}
    assert {key: found[key] for key in expected} == expected
    assert not found["closed"]
    assert not found["parser"]
    assert answer([data], close=True) == {**found, "closed": True}


@pytest.mark.parametrize("name", TABLE)
def test_what_follows_stays(name: str) -> None:
    """What comes behind a response stays in the buffer, whole, for the next one."""
    data, _ = TABLE[name]
    found = everywhere(data + HELLO[:30])
    assert found == {**answer([data]), "rest": HELLO[:30]}


UNTIL_CLOSE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "no length": (OK + b"\r\nuntil the end", {"persisted": False, "body": b"until the end"}),
    "an empty body": (OK + b"\r\n", {"persisted": False, "body": b"", "length": 0}),
    "close": (
        OK + b"Connection: close\r\n\r\nuntil the end",
        {"persisted": False, "body": b"until the end", "length": 13},
    ),
    "1.0": (OLD + b"\r\nend", {"version": (1, 0), "persisted": False, "body": b"end"}),
    "1.0 keep-alive": (
        OLD + b"Connection: keep-alive\r\n\r\nend",
        {"version": (1, 0), "persisted": True, "body": b"end"},
    ),
    "JSON": (
        OK + b"Content-Type: application/json\r\n\r\n[1]",
        {"persisted": False, "body": b"[1]", "data": [1], "jsoned": True, "encoding": "utf-8"},
    ),
    "what looks like another response": (
        OK + b"\r\n" + HELLO,
        {"persisted": False, "body": HELLO},
    ),
    "events": (
        OK + EVENTS + b"\r\nid: 1\ndata: a\n\nid: 2\ndata: b\n",
        {
            "persisted": False,
            "evented": True,
            "encoding": "utf-8",
            "leid": "1",
            "events": [{"id": "1", "name": "", "data": "a"}],
        },
    ),
    "1.0 events": (
        OLD + EVENTS + b"\r\n",
        {"version": (1, 0), "persisted": True, "evented": True, "encoding": "utf-8"},
    ),
}


@pytest.mark.parametrize("name", UNTIL_CLOSE)
def test_responses_without_length(name: str) -> None:
    """A body without length or chunks goes on until the connection is closed, in good order."""
    data, said = UNTIL_CLOSE[name]
    still = everywhere(data)
    assert (still["headed"], still["bodied"], still["ended"]) == (True, False, False)
    found = everywhere(data, close=True)
    expected = {**ENDED, **said}
    assert {key: found[key] for key in expected} == expected
    assert found["closed"]
    respondent = Respondent(msg=bytearray(data))
    respondent.close(True, "reset")
    assert respondent.errored
    assert respondent.error is not None
    assert respondent.error.startswith("reset in the middle of the body")
    assert not respondent.persisted


@pytest.mark.parametrize("method", ["HEAD", "head", "CONNECT"])
@pytest.mark.parametrize(
    "fields", [b"Content-Length: 5\r\n", CHUNKED, b"", EVENTS, b"Connection: keep-alive\r\n"]
)
def test_methods_without_body(method: str, fields: bytes) -> None:
    """The answer to HEAD or CONNECT ends with its head, whatever that says."""
    found = everywhere(OK + fields + b"\r\n" + HELLO, method=method)
    assert found["ended"]
    assert not found["errored"]
    assert found["body"] == b""
    assert found["length"] == 0
    assert found["persisted"]
    assert found["rest"] == HELLO


EARLY: dict[str, tuple[bytes, str, int | None, bytes]] = {
    "nothing": (b"", "before a response came", None, b""),
    "an empty line": (b"\r\n", "before a response came", None, b""),
    "a start line": (OK[:9], "in the middle of the head", None, b""),
    "a head": (OK + b"Content-Length: 5\r\n", "in the middle of the head", None, b""),
    "an interim response": (b"HTTP/1.1 100 Continue\r\n\r\n", "in the middle of", None, b""),
    "a body": (HELLO[:-2], r"in the middle of the body \(3 of 5 bytes\)", 200, b"hel"),
    "before a body": (HELLO[:-5], r"in the middle of the body \(0 of 5 bytes\)", 200, b""),
    "before a chunk": (OK + CHUNKED + b"\r\n", r"body \(0 bytes\)", 200, b""),
    "a chunk's size": (OK + CHUNKED + b"\r\n5", r"body \(0 bytes\)", 200, b""),
    "a chunk's extension": (OK + CHUNKED + b"\r\n5;a=", r"body \(0 bytes\)", 200, b""),
    "a chunk": (OK + CHUNKED + b"\r\n5\r\nhel", r"body \(3 bytes\)", 200, b"hel"),
    "between chunks": (OK + CHUNKED + b"\r\n5\r\nhello\r\n", r"body \(5 bytes\)", 200, b"hello"),
    "the last chunk": (OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n", "body", 200, b"hello"),
    "trailers": (OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX: y\r\n", "body", 200, b"hello"),
    "1.0": (OLD + b"Content-Length: 5\r\n\r\nhel", r"3 of 5", 200, b"hel"),
}


@pytest.mark.parametrize("name", EARLY)
def test_early_close(name: str) -> None:
    """A connection that closes too early gives an error that says where, and what there was."""
    data, where, status, body = EARLY[name]
    found = everywhere(data, close=True)
    assert found["errored"]
    assert found["ended"]
    assert found["closed"]
    assert not found["bodied"]
    assert not found["persisted"]
    assert not found["parser"]
    assert found["status"] == status
    assert found["body"] == body
    respondent = Respondent(msg=bytearray(data))
    respondent.close(reason="127.0.0.1:80: it was closed")
    assert respondent.error is not None
    assert respondent.error.startswith("127.0.0.1:80: it was closed")
    with pytest.raises(AssertionError, match=where):
        raise AssertionError(respondent.error)


BROKEN: dict[str, tuple[bytes, int | None, bytes]] = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", None, b""),
    "a request": (b"GET / HTTP/1.1\r\n\r\n", None, b""),
    "a page": (b"<html></html>", None, b""),
    "HTTP/2": (b"HTTP/2 200 OK\r\n\r\n", None, b""),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n\r\n", None, b""),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", None, b""),
    "a switch of protocols": (b"HTTP/1.1 101 Switching\r\n\r\n", None, b""),
    "another switch": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxyz",
        None,
        b"",
    ),
    "garbage after continue": (b"HTTP/1.1 100 Continue\r\n\r\n\x15\x03\x01", None, b""),
    "interim responses without end": (b"HTTP/1.1 102 X\r\n\r\n" * 40, None, b""),
    "a folded header": (OK + b"X: a\r\n b\r\n\r\n", None, b""),
    "a NUL": (OK + b"X: \0\r\n\r\n", None, b""),
    "two lengths": (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", None, b""),
    "no length": (OK + b"Content-Length: x\r\n\r\nhello!", None, b""),
    "a negative length": (OK + b"Content-Length: -1\r\n\r\nhello!", None, b""),
    "no length beside chunks": (OK + b"Content-Length: x\r\n" + CHUNKED + b"\r\n", None, b""),
    "an unknown coding": (OK + b"Transfer-Encoding: gzip\r\n\r\nhello", None, b""),
    "a coding and a length": (
        OK + b"Transfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        None,
        b"",
    ),
    "no chunk size": (OK + CHUNKED + b"\r\nxyz\r\nhello\r\n", 200, b""),
    "an endless chunk size": (OK + CHUNKED + b"\r\n" + b"F" * 20 + b"\r\nhello\r\n", 200, b""),
    "a chunk that is too long": (OK + CHUNKED + b"\r\n5\r\nhello!\r\n", 200, b"hello"),
    "a broken second chunk": (
        OK + CHUNKED + b"\r\n5;a=b\r\nhello\r\n3;c=d\r\nabcd",
        200,
        b"helloabc",
    ),
    "a broken extension": (OK + CHUNKED + b'\r\n5;a="\r\nhello\r\n', 200, b""),
    "a broken trailer": (OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX\r\n\r\n", 200, b"hello"),
    "a folded trailer": (
        OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
        200,
        b"hello",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_responses(name: str) -> None:
    """What is no response sets an error, and what came before it is there, however it was cut."""
    data, status, body = BROKEN[name]
    found = everywhere(data)
    assert found["errored"]
    assert found["ended"]
    assert not found["persisted"]
    assert not found["bodied"]
    assert not found["parser"]
    assert found["status"] == status
    assert found["body"] == body
    respondent = Respondent(msg=bytearray(data))
    respondent.parse()
    assert respondent.error
    error = respondent.error
    respondent.close()
    assert respondent.closed
    assert respondent.error == error


OVERSIZED: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a start line": (b"HTTP/1.1 200 " + b"x" * 100 + b"\r\n\r\n", {"limits": Limits(line=80)}),
    "a start line without end": (b"HTTP/1.1 200 " + b"x" * 100, {"limits": Limits(line=80)}),
    "a header": (OK + b"X: " + b"x" * 100 + b"\r\n\r\n", {"limits": Limits(line=80)}),
    "headers": (OK + b"X: x\r\n" * 20 + b"\r\n", {"limits": Limits(headers=80)}),
    "headers without end": (OK + b"X: x\r\n" * 20, {"limits": Limits(headers=80)}),
    "too many headers": (OK + b"X: x\r\n" * 20 + b"\r\n", {"limits": Limits(count=10)}),
    "a body": (OK + b"Content-Length: 11\r\n\r\n01234567890", {"max_body": 10}),
    "a body without length": (OK + b"\r\n01234567890", {"max_body": 10}),
    "a chunked body": (OK + CHUNKED + b"\r\n8\r\n01234567\r\n3\r\n890\r\n", {"max_body": 10}),
    "a chunk's header": (
        OK + CHUNKED + b"\r\n5;" + b"x" * 80 + b"\r\n",
        {"limits": Limits(headers=80)},
    ),
    "trailers": (
        OK + CHUNKED + b"\r\n0\r\n" + b"X: x\r\n" * 20 + b"\r\n",
        {"limits": Limits(headers=80)},
    ),
    "an event": (
        OK + EVENTS + b"\r\ndata: 1\n\nid: 2\ndata: 3\n\ndata: 5678901\n\n",
        {"max_body": 12},
    ),
    "an event in chunks": (
        OK + EVENTS + CHUNKED + b"\r\n9\r\ndata: 1\n\n\r\n15\r\ndata: 3456789012345\n\n\r\n",
        {"max_body": 12},
    ),
}


@pytest.mark.parametrize("name", OVERSIZED)
def test_oversized_responses(name: str) -> None:
    """What is over a limit is an error, whether it comes at once or byte by byte."""
    data, options = OVERSIZED[name]
    found = everywhere(data, **options)
    assert found["errored"]
    assert found["ended"]
    assert len(found["body"]) <= options.get("max_body", 10)
    assert answer([data], close=True)["status"] == 200 or name.endswith("without end")


def test_events_before_an_error() -> None:
    """Events that came before a broken chunk, or one that is too large, are delivered."""
    head = OK + EVENTS + CHUNKED + b"\r\n"
    event = b"10\r\nid: 1\r\ndata: a\n\n\r\n"
    found = everywhere(head + event + b"xyz\r\n")
    assert found["errored"]
    assert found["events"] == [{"id": "1", "name": "", "data": "a"}]
    assert found["leid"] == "1"
    found = everywhere(head + event + b"20\r\n" + b"data: " + b"x" * 26, max_body=20)
    assert found["errored"]
    assert found["events"] == [{"id": "1", "name": "", "data": "a"}]
    assert found["leid"] == "1"


def test_an_event_stream_may_be_longer_than_a_body() -> None:
    """A stream of events has no limit, whether it says how long it is or not."""
    stream = b"data: a\n\n" * 100
    for head in (OK + EVENTS + b"Content-Length: 900\r\n\r\n", OK + EVENTS + b"\r\n"):
        found = answer([head + stream], close=True, max_body=20)
        assert not found["errored"]
        assert len(found["events"]) == 100
        assert found["body"] == b""


STREAM = (
    "\ufeff: welcome\nretry: 250\nid: 1\ndata: ä\n\nevent: add\nid: 2\ndata: b\ndata:c\n\n"
    ":\n\nid: 3\n\ndata: d\n\nid: 4\ndata: lost"
)
RECEIVED = [
    {"id": "1", "name": "", "data": "ä"},
    {"id": "2", "name": "add", "data": "b\nc"},
    {"id": "3", "name": "", "data": "d"},
]


def chunks(data: bytes, size: int) -> bytes:
    """Return chunks of such a size, each with an extension."""
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x;n\r\n%b\r\n" % (len(part), part) for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_events_in_every_framing(end: str, size: int) -> None:
    """Events come out the same with each line end, in chunks of any size and without."""
    stream = STREAM.replace("\n", end).encode()
    head = OK + EVENTS.replace(b"\r\n", b"; charset=utf-8\r\n")
    data = head + (CHUNKED + b"\r\n" + chunks(stream, size) if size else b"\r\n" + stream)
    found = everywhere(data)
    assert found["evented"]
    assert found["events"] == RECEIVED
    assert found["leid"] == "3"
    assert found["retry"] == 250
    assert found["body"] == b""
    assert not found["ended"]
    assert found["parms"] == ({"n": None} if size else None)
    assert found["persisted"] == bool(size)
    found = everywhere(data, close=True)
    assert found["errored"] == bool(size)
    assert found["events"] == RECEIVED
    if size:
        found = everywhere(data + b"0\r\nX: y\r\n\r\n")
        assert (found["ended"], found["errored"]) == (True, False)
        assert found["trails"] == [("X", "y")]


def test_events_come_as_soon_as_they_are_complete() -> None:
    """An event is there with its empty line, before its chunk or its response is over."""
    respondent = Respondent(msg=bytearray(OK + EVENTS + CHUNKED + b"\r\n30\r\ndata: a\n"))
    respondent.parse()
    assert not respondent.events
    respondent.msg += b"\n"
    respondent.parse()
    assert list(respondent.events) == [{"id": None, "name": "", "data": "a"}]


def test_events_as_json() -> None:
    """With `dictable`, an event's data that is JSON is parsed, and else stays as it is."""
    stream = b'data: {"a":\ndata: [1]}\n\ndata: {a}\n\ndata\n\ndata: 5\n\ndata: "\xff"\n\n'
    found = everywhere(OK + EVENTS + b"\r\n" + stream, dictable=True)
    assert [event["data"] for event in found["events"]] == [{"a": [1]}, "{a}", "", 5, "\ufffd"]
    found = everywhere(OK + EVENTS + b"\r\n" + stream)
    assert found["events"][0]["data"] == '{"a":\n[1]}'


def test_dictable_bodies() -> None:
    """With `dictable`, a body is parsed as JSON whatever its type, and None when it is not."""
    assert everywhere(OK + b"Content-Length: 3\r\n\r\n[1]", dictable=True)["data"] == [1]
    assert everywhere(HELLO, dictable=True)["data"] is None
    respondent = Respondent(msg=bytearray(OK + b"Content-Length: 3\r\n\r\n[1]"))
    respondent.parse()
    respondent.dictify()
    assert respondent.data is None
    respondent.dictable = True
    respondent.dictify()
    assert respondent.data == [1]


def test_leid_and_retry_are_carried() -> None:
    """The last id and the pause hold for the streams that follow, until they say otherwise."""
    events: deque[dict[str, Any]] = deque()
    respondent = Respondent(events=events, retry=5, leid="7")
    assert (respondent.retry, respondent.leid) == (5, "7")
    for stream, leid, retry in (
        (b"data: a\n\n", "7", 5),
        (b"id: 8\nretry: 6\ndata: b\n\n", "8", 6),
        (b"data: c\n\nid: 9\ndata: half", "8", 6),
        (b"id\ndata: d\n\n", "", 6),
    ):
        respondent.msg += OK + EVENTS + b"\r\n" + stream
        respondent.close()
        assert (respondent.leid, respondent.retry) == (leid, retry)
        respondent.reinit()
    assert [event["id"] for event in events] == ["7", "8", "8", ""]
    assert respondent.events is events


def test_one_response_after_another() -> None:
    """Several responses in one buffer are taken one by one, each as it is."""
    msg = bytearray(b"".join(data for data, _ in TABLE.values()))
    respondent = Respondent(msg=msg)
    for data, said in TABLE.values():
        expected = {**ENDED, **said}
        del expected["rest"]
        respondent.parse()
        found = state(respondent)
        assert {key: found[key] for key in expected if key != "events"} == {
            key: expected[key] for key in expected if key != "events"
        }, data
        assert respondent.msg is msg
        respondent.reinit()
        assert not respondent.headed
    assert not msg
    assert list(respondent.events) == [{"id": None, "name": "", "data": "a"}]


BEFORE = [case[0] for table in (TABLE, UNTIL_CLOSE, BROKEN, EARLY) for case in table.values()]


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("data", BEFORE)
def test_another_connection(data: bytes, left: bool) -> None:
    """What came on a connection before, to its end or not, has nothing to do with the next."""
    fresh = everywhere(HELLO)
    for cut in range(len(data)) if left else [len(data)]:
        respondent = Respondent(msg=bytearray(data[:cut]))
        respondent.parse()
        if not left:
            respondent.close()
        kept = respondent.leid
        respondent.events.clear()
        respondent.msg.clear()
        respondent.reinit()
        respondent.msg += HELLO
        respondent.parse()
        assert outcome(respondent) == {**fresh, "leid": kept}


def test_the_same_answer_again() -> None:
    """An answer with the head and size of one before is parsed as if it were the first."""
    respondent = Respondent()
    for body, data in ((b"[1]", [1]), (b"[2]", [2]), (b"{x}", None), (b"[3]", [3])):
        respondent.reinit(dictable=data != [2])
        respondent.msg += OK + b"Content-Length: 3\r\n\r\n" + body
        respondent.parse()
        assert outcome(respondent) == answer(
            [OK + b"Content-Length: 3\r\n\r\n" + body], dictable=data != [2]
        )


FOOLING: dict[str, tuple[str, list[bytes]]] = {
    "HEAD": ("HEAD", [HELLO]),
    "HEAD, in pieces": ("HEAD", [HELLO[:20], HELLO[20:]]),
    "another status": ("GET", [HELLO.replace(b"200", b"304")]),
    "another body": ("GET", [HELLO.replace(b"hello", b"world")]),
    "a shorter body": ("GET", [HELLO[:-1]]),
    "a longer one": ("GET", [HELLO + b"!"]),
    "an empty line first": ("GET", [b"\r\n" + HELLO[:-2]]),
    "two": ("GET", [HELLO + HELLO]),
    "an interim response and no end": ("GET", [b"HTTP/1.1 100 Continue\r\n\r\n", HELLO[:-1]]),
    "after an interim response": ("GET", [b"HTTP/1.1 100 Continue\r\n\r\n", HELLO]),
    "after an interim response, more": (
        "GET",
        [b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO[:3], HELLO[3:] + HELLO],
    ),
    "in two pieces": ("GET", [HELLO[:4], HELLO[4:]]),
    "within a body": ("GET", [OK + b"\r\n", HELLO]),
    "within a chunk": ("GET", [OK + CHUNKED + b"\r\n%x\r\n" % len(HELLO), HELLO]),
    "within a body of that length": (
        "GET",
        [OK + b"Content-Length: %d\r\n\r\n" % len(HELLO), HELLO],
    ),
    "within a header": ("GET", [OK + b"X: ", HELLO]),
    "other spelling": ("GET", [HELLO.replace(b": ", b":\t")]),
    "chunked": ("GET", [OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n"]),
}


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("name", FOOLING)
def test_what_only_looks_like_the_same_answer(name: str, close: bool) -> None:
    """What begins like an answer before it is still taken for what it is."""
    method, pieces = FOOLING[name]
    respondent = Respondent(msg=bytearray(HELLO))
    respondent.parse()
    assert respondent.ended
    respondent.reinit(method=method)
    for piece in pieces:
        respondent.msg += piece
        respondent.parse()
    if close:
        respondent.close()
    assert outcome(respondent) == answer(pieces, method=method, close=close)


def test_what_is_not_known_as_an_answer() -> None:
    """Events, and heads whose bodies do not follow, are no answers to know again."""
    stream = OK + EVENTS + b"Content-Length: 9\r\n\r\ndata: a\n\n"
    respondent = Respondent()
    for number in range(1, 4):
        respondent.msg += stream
        respondent.parse()
        assert len(respondent.events) == number
        respondent.reinit()
    for method, data in (("HEAD", HELLO[:-5]), ("GET", HELLO[:-5].replace(b"200 OK", b"304 OK"))):
        respondent.reinit(method=method)
        respondent.msg += data
        respondent.parse()
        assert respondent.ended
        respondent.reinit(method="GET")
        respondent.msg += data.replace(b"304", b"200")
        respondent.parse()
        assert not respondent.ended


def test_a_shared_buffer_and_queues() -> None:
    """The buffer, the events and the redirects that were given are the ones that are used."""
    msg = bytearray()
    events: list[dict[str, Any]] = []
    redirects: list[dict[str, Any]] = []
    respondent = Respondent(redirects, False, events, msg=msg)
    msg += OK + EVENTS + b"\r\ndata: a\n\n"
    respondent.parse()
    assert not msg
    assert events == [{"id": None, "name": "", "data": "a"}]
    assert (respondent.redirects is redirects, respondent.redirectable) == (True, False)
    other = bytearray(HELLO)
    respondent.reinit(msg=other, redirectable=True)
    respondent.parse()
    assert respondent.body == b"hello"
    assert respondent.redirectable is True
    another = bytearray(HELLO + b"!")
    respondent.makeParser(another)
    assert not respondent.bodied
    respondent.parse()
    assert respondent.ended
    assert (bytes(respondent.body), bytes(another)) == (b"hello", b"!")


def test_parsing_nothing() -> None:
    """Without anything to parse, nothing happens, however often it is tried."""
    respondent = Respondent()
    for _ in range(3):
        respondent.parse()
    assert not respondent.started
    respondent.msg += HELLO
    respondent.parse()
    for _ in range(3):
        respondent.msg += b"x"
        respondent.parse()
        respondent.close()
    assert respondent.body == b"hello"
    assert respondent.msg == b"xxx"
    assert not respondent.errored


def test_unknown_arguments() -> None:
    """A misspelt argument of `reinit` is an error of the program."""
    with pytest.raises(TypeError, match="unknown arguments of a response: methd"):
        Respondent().reinit(methd="HEAD")


@pytest.mark.slow
@given(examples(), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=200)
def test_any_response_in_any_pieces(example: Example, cuts: list[int]) -> None:
    """Every response is the same cut anywhere as it is in one piece."""
    close = example.ends_with_connection
    whole = answer([example.data], close=close)
    assert whole["ended"]
    assert not whole["errored"]
    assert whole["body"] == example.body
    assert whole["headers"] == [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in example.headers
    ]
    assert answer(pieces_of(example.data, cuts), close=close) == whole
    for cut in range(1, len(example.data), 7):
        assert answer([example.data[:cut], example.data[cut:]], close=close) == whole


SNIPPETS = st.sampled_from(
    [
        *(data for data, _ in TABLE.values()),
        OK,
        OLD,
        EVENTS,
        CHUNKED,
        HELLO,
        b"\r\n",
        b"\n",
        b"5\r\n",
        b"0\r\n\r\n",
        b";a=b",
        b"data: x\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"Content-Length: 3\r\n",
        b"Connection: upgrade\r\nUpgrade: x\r\n",
        b"Content-Type: application/json; charset\r\n",
        b"Location: \xff\r\n",
        b"\0",
    ]
)


@given(
    st.lists(st.one_of(st.binary(max_size=20), SNIPPETS), max_size=10),
    st.booleans(),
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.booleans(),
)
@settings(max_examples=300)
def test_garbage_never_raises(
    pieces: list[bytes], dictable: bool, method: str, abrupt: bool
) -> None:
    """Whatever comes, and however it ends, it is a response or an error, never an exception."""
    respondent = Respondent(dictable=dictable, method=method)
    for piece in pieces:
        respondent.msg += piece
        respondent.parse()
        if respondent.ended:
            state(respondent)
            respondent.reinit()
    respondent.close(abrupt)
    assert respondent.ended
    assert state(respondent)["closed"]


@given(st.lists(SNIPPETS, max_size=8), st.lists(st.integers(0, 400), max_size=6), st.booleans())
@settings(max_examples=300)
def test_almost_responses_in_any_pieces(parts: list[bytes], cuts: list[int], close: bool) -> None:
    """Also what is half right, or wrong, is the same however it comes."""
    data = b"".join(parts)
    whole, cut = answer([data], close=close), answer(pieces_of(data, cuts), close=close)
    assert cut == whole


AS_HIO = [
    "length",
    "no body",
    "chunked",
    "no content",
    "not modified",
    "connection close",
    "chunked and close",
    "1.0",
    "1.0 keep-alive",
    "1.0 chunked",
    "a redirect",
    "JSON",
    "chunked beats length",
]


def test_as_hio_does() -> None:
    """Where hio understands a response, the same is made of it here."""
    clienting = pytest.importorskip("hio.core.http.clienting")
    responses = [(TABLE[name][0], False) for name in AS_HIO]
    responses += [(data, True) for data, _ in UNTIL_CLOSE.values()]
    for data, close in responses:
        ours = Respondent(msg=bytearray(data))
        theirs = clienting.Respondent(msg=bytearray(data))
        for respondent in (ours, theirs):
            respondent.parse()
            if close:
                respondent.close()
                if respondent.parser:
                    respondent.parse()
        theirs.dictify()
        for attribute in (
            "version",
            "status",
            "code",
            "reason",
            "body",
            "data",
            "length",
            "chunked",
            "parms",
            "persisted",
            "ended",
            "errored",
            "error",
        ):
            assert getattr(ours, attribute) == getattr(theirs, attribute), (data, attribute)
        assert bool(ours.evented) == bool(theirs.evented), data
        assert ours.headers is not None
        assert list(ours.headers.items()) == [
            (key.lower(), value) for key, value in theirs.headers.items()
        ]
        assert bool(ours.redirectant) == bool(theirs.redirectant), data


def test_events_as_hio_does() -> None:
    """Where hio understands a stream of events, the same comes out here."""
    clienting = pytest.importorskip("hio.core.http.clienting")
    stream = (
        b"retry: 250\n: x\n\nid: 1\ndata: a\n\nevent: add\nid: 2\ndata: "
        + json.dumps({"a": 1}).encode()
        + b"\n\ndata: b\ndata:c\n\n"
    )
    for head, body in (
        (OK + EVENTS + b"\r\n", stream),
        (OK + EVENTS + CHUNKED + b"\r\n", chunks(stream, 9).replace(b";n", b"")),
    ):
        for dictable in (True, False):
            ours = Respondent(msg=bytearray(head + body), dictable=dictable)
            theirs = clienting.Respondent(msg=bytearray(head + body), dictable=dictable)
            ours.parse()
            theirs.parse()
            assert list(ours.events) == list(theirs.events)
            assert len(ours.events) == 3
            assert (ours.leid, ours.retry) == (theirs.leid, theirs.retry) == ("2", 250)
            assert ours.evented == theirs.evented


def test_step_by_step() -> None:
    """The generators give None for as long as something is missing, whatever comes at a time."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    respondent = Respondent()
    head, body = respondent.parseHead(), respondent.parseBody()
    said: list[bool | None] = []
    for byte in whole[:-5]:
        respondent.msg.append(byte)
        said.append(next(head))
    assert said == [None] * (len(whole) - 6) + [True]
    assert list(head) == []
    assert (respondent.status, respondent.length, respondent.ended) == (200, 5, False)
    assert next(body) is None
    respondent.msg += b"hello"
    assert list(body) == [True]
    assert bytes(respondent.body) == b"hello"
    assert list(respondent.parseHead()) == list(respondent.parseBody()) == [True]


def test_steps_of_rubbish() -> None:
    """What is no response is over at once, with its error."""
    respondent = Respondent(msg=bytearray(b"rubbish\r\n\r\n"))
    assert list(respondent.parseHead()) == [True]
    assert respondent.errored
    assert not respondent.headed
