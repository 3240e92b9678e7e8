"""Responses: their truth, their body, their errors."""

from __future__ import annotations

import json
import math

import pytest

from holdfast import HoldfastError
from holdfast.errors import StatusError
from holdfast.rest import ResponseError
from tests.rest.faces import Face
from tests.servers import EchoServer, Receive, Repeat, json_response, response
from tests.servers.fixtures import StartScripted

JSON_TYPES = [
    "application/json",
    "application/json; charset=utf-8",
    "Application/JSON ;x=y",
    "application/problem+json",
    "application/vnd.api+json; version=1",
]
OTHER_TYPES = ["text/plain", "text/json", "application/jsonlines", "application/x+jsonx", None]


def typed(kind: str | None) -> list[tuple[str, str]]:
    """Return headers with a content type, or none."""
    return [] if kind is None else [("Content-Type", kind)]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_success_is_true(face: Face, echo: EchoServer, status: int) -> None:
    """A response with a status of 2xx is true, and returns its body."""
    answer = face.pool(echo.address).call("GET", f"/status/{status}")
    assert answer
    assert answer.status == status
    answer()


@pytest.mark.parametrize("status", [300, 302, 304, 400, 404, 499, 500, 503, 599])
def test_anything_else_is_false_and_raises(face: Face, echo: EchoServer, status: int) -> None:
    """A response with any other status is false, and raises it with reason and decoded body."""
    answer = face.pool(echo.address).call("GET", f"/status/{status}?secret=1")
    assert not answer
    with pytest.raises(ResponseError) as caught:
        answer()
    error = caught.value
    assert isinstance(error, (StatusError, OSError))
    assert isinstance(error, HoldfastError)
    assert (error.status, error.reason) == (answer.status, answer.reason) == (status, error.reason)
    assert error.body == (b"" if status == 304 else json.loads(answer.body))
    assert [attempt.status for attempt in error.attempts] == [status]
    assert str(error).startswith(f"{status} {error.reason}: GET {echo.url}/status/{status} [1 ")
    assert "secret" not in str(error)


def test_status_reason_headers_and_body(face: Face, scripted: StartScripted) -> None:
    """All parts of the response are there as they came, headers under any spelling."""
    head = b"HTTP/1.1 418 Short and stout\r\nX-One: a\r\nContent-Length: 3\r\n\r\n"
    server = scripted([Receive(), head + b"tea"])
    answer = face.pool(server.address).call("GET", "/")
    assert (answer.status, answer.reason, answer.body) == (418, "Short and stout", b"tea")
    assert answer.headers["x-oNE"] == "a"
    assert repr(answer) == "<Response [418 Short and stout]>"
    assert [attempt.endpoint for attempt in answer.attempts] == [server.address]


def test_a_missing_reason_is_the_usual_one(face: Face, scripted: StartScripted) -> None:
    """Where the server gives no reason phrase, it is the standard's."""
    server = scripted([Receive(), b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"])
    assert face.pool(server.address).call("GET", "/").reason == "Not Found"


@pytest.mark.parametrize("kind", JSON_TYPES)
def test_json_is_decoded(face: Face, scripted: StartScripted, kind: str) -> None:
    """A body of any JSON type is returned decoded, and kept as it came."""
    server = scripted([Receive(), response(200, b'{"a": [1, null]}', typed(kind))])
    answer = face.pool(server.address).call("GET", "/")
    assert answer() == {"a": [1, None]}
    assert answer.body == b'{"a": [1, null]}'


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_other_types_are_bytes(face: Face, scripted: StartScripted, kind: str | None) -> None:
    """A body of any other type is returned as it came, though it looks like JSON."""
    server = scripted([Receive(), response(200, b"[1]", typed(kind))])
    assert face.pool(server.address).get("/") == b"[1]"


def test_no_body_is_no_json(face: Face, scripted: StartScripted) -> None:
    """An empty body is empty, whatever its type says."""
    server = scripted([Receive(), response(200, b"", typed("application/json"))])
    assert face.pool(server.address).get("/") == b""


def test_a_compressed_body_is_decoded(face: Face, echo: EchoServer) -> None:
    """A compressed body is the JSON that was compressed."""
    assert face.pool(echo.address).get("/gzip")["path"] == "/gzip"


def test_damaged_json_is_an_error_of_the_value(face: Face, scripted: StartScripted) -> None:
    """A successful body that is not the JSON it says raises ValueError, and can be looked at."""
    server = scripted([Receive(), response(200, b'{"a":', typed("application/json"))])
    answer = face.pool(server.address).call("GET", "/")
    with pytest.raises(ValueError, match="column"):
        answer()
    assert answer
    assert answer.body == b'{"a":'


def test_damaged_json_does_not_hide_the_status(face: Face, scripted: StartScripted) -> None:
    """With an error status, a body that is not the JSON it says is part of the status error."""
    server = scripted([Receive(), response(500, b"{oh", typed("application/json"))])
    with pytest.raises(ResponseError) as caught:
        face.pool(server.address).get("/")
    assert (caught.value.status, caught.value.body) == (500, b"{oh")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0.25", 0.25), ("3", 3.0), ("1e-3", 0.001), ("soon", math.nan), ("", math.nan)],
)
def test_the_servers_time(face: Face, scripted: StartScripted, header: str, seconds: float) -> None:
    """The server's own time is a number of seconds, NaN when it is none."""
    server = scripted([Receive(), json_response(1, 200, [("X-Response-Time", header)])])
    time = face.pool(server.address).call("GET", "/").time
    assert isinstance(time, float)
    assert time == pytest.approx(seconds, nan_ok=True)


def test_no_time_is_not_a_number(face: Face, scripted: StartScripted) -> None:
    """Without the header the server's time is NaN."""
    server = scripted([Repeat([Receive(), json_response(1)])])
    assert math.isnan(face.pool(server.address).call("GET", "/").time)
