"""A request and its response in two steps, and bodies that go to files."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import DeadlineExceeded, InvalidRequest, NetworkError, Truncated
from holdfast.rest import AsyncResource, ResponseError
from tests.rest.faces import Face, Handle
from tests.servers import (
    Close,
    EchoServer,
    Hold,
    Receive,
    SendSlowly,
    Wait,
    json_response,
    pattern,
    response,
    response_head,
)
from tests.servers.fixtures import StartScripted

ONE = json_response(1)


# --- two steps --------------------------------------------------------------------------------


def test_two_steps(face: Face, echo: EchoServer) -> None:
    """A request is sent at once, and its completed response returned when asked for."""
    resource = face.resource(echo.address)
    for number in range(3):
        resource.request("POST", "/x", {"a": number}, {"X-One": "1"}, {"q": [1, 2]})
        echo.wait_for(lambda: echo.request_count == number + 1)  # noqa: B023
        answer = resource.getresponse()
        described = answer()
        assert (described["method"], described["body"]) == ("POST", {"a": number})
        assert (described["query"], described["headers"]["x-one"]) == ({"q": ["1", "2"]}, "1")
        assert [attempt.endpoint for attempt in answer.attempts] == [echo.address]
    assert echo.connection_count == 1


def test_a_head_in_two_steps(face: Face, echo: EchoServer) -> None:
    """The answer to HEAD has no body, and the connection is kept."""
    resource = face.resource(echo.address)
    for _ in range(2):
        resource.request("HEAD", "/bytes/1000")
        answer = resource.getresponse()
        assert (answer.headers["content-length"], answer.body) == ("1000", b"")
    assert echo.connection_count == 1


def test_an_error_status_is_returned(face: Face, echo: EchoServer) -> None:
    """The second step returns any response; only calling it raises."""
    resource = face.resource(echo.address)
    resource.request("GET", "/status/404")
    answer = resource.getresponse()
    assert not answer
    with pytest.raises(ResponseError):
        answer()


def test_no_response_without_a_request(face: Face, echo: EchoServer) -> None:
    """The second step alone is an error, and so is a second second step."""
    resource = face.resource(echo.address)
    with pytest.raises(InvalidRequest, match="request"):
        resource.getresponse()
    resource.request("GET", "/x")
    resource.getresponse()
    with pytest.raises(InvalidRequest, match="request"):
        resource.getresponse()
    assert echo.request_count == 1


def test_no_request_before_the_response(face: Face, echo: EchoServer) -> None:
    """A second request before the first one's response is an error that does no harm."""
    resource = face.resource(echo.address)
    resource.request("GET", "/first")
    with pytest.raises(InvalidRequest, match="getresponse"):
        resource.request("GET", "/second")
    assert resource.getresponse()()["path"] == "/first"
    assert echo.request_count == 1


def test_a_call_between_the_steps(face: Face, echo: EchoServer) -> None:
    """A call between the two steps is made on another connection, and mixes nothing up."""
    resource = face.resource(echo.address)
    resource.request("GET", "/first")
    assert resource.get("/between")["path"] == "/between"
    assert resource.getresponse()()["path"] == "/first"
    assert resource.get("/after")["path"] == "/after"


def test_two_steps_after_a_failure(face: Face, scripted: StartScripted) -> None:
    """A response that does not come raises what went wrong, and the next request is a new one."""
    server = scripted([Receive(), Close()], [Receive(), json_response(1)])
    resource = face.resource(server.address)
    resource.request("GET", "/")
    with pytest.raises(NetworkError, match=server.address) as caught:
        resource.getresponse()
    assert [attempt.endpoint for attempt in caught.value.attempts] == [server.address]
    resource.request("GET", "/")
    assert resource.getresponse()() == 1


def test_the_first_step_fails(face: Face, refusing: tuple[str, int]) -> None:
    """A host that cannot be reached fails the first step, with the attempt."""
    host, port = refusing
    resource = face.resource(host, port)
    for _ in range(2):
        with pytest.raises(OSError, match="refused") as caught:
            resource.request("GET", "/")
        (attempt,) = caught.value.attempts  # type: ignore[attr-defined]
        assert (attempt.endpoint, attempt.status) == (f"{host}:{port}", None)
    with pytest.raises(InvalidRequest):
        resource.getresponse()


@pytest.mark.parametrize("last", [Close(), response(408, b"", [("Connection", "close")])])
def test_two_steps_on_a_stale_connection(face: Face, scripted: StartScripted, last: Any) -> None:
    """A kept connection that the server gives up is replaced in the second step."""
    server = scripted([Receive(), json_response(1), Receive(), last], [Receive(), json_response(2)])
    resource = face.resource(server.address)
    assert resource.get("/") == 1
    resource.request("GET", "/again")
    assert resource.getresponse()() == 2


def test_closing_between_the_steps(face: Face, scripted: StartScripted) -> None:
    """A request whose response nobody asked for goes with the resource."""
    server = scripted([Receive(), Hold()])
    resource = face.resource(server.address)
    resource.request("GET", "/")
    resource.shut()
    face.rest()
    server.wait_for(lambda: server.connection_count == 1 and server.open_connections == 0)
    with pytest.raises(InvalidRequest):
        resource.getresponse()


# --- files ------------------------------------------------------------------------------------


def in_two_steps(resource: Handle, path: str, filename: Any) -> Any:
    """Have a body written by request and getresponse."""
    resource.request("GET", path)
    return resource.getresponse(filename)


def downloaded(resource: Handle, path: str, filename: Any) -> Any:
    """Have a body written by download."""
    return resource.download(path, filename)


WAYS = pytest.mark.parametrize("way", [in_two_steps, downloaded])


@WAYS
@pytest.mark.parametrize("path", ["/bytes/0", "/bytes/10", "/bytes/3000000", "/chunked/300000"])
def test_a_body_goes_to_a_file(
    face: Face, echo: EchoServer, tmp_path: Path, way: Any, path: str
) -> None:
    """A successful body is in the file, the response has all but that, the connection is kept."""
    resource = face.resource(echo.address)
    target = tmp_path / "body"
    target.write_bytes(b"what was there before")
    for name in (str(target), target):
        answer = way(resource, path, name)
        assert (answer.status, answer.body) == (200, b"")
        assert target.read_bytes() == pattern(int(path.rpartition("/")[2]))
        assert os.listdir(tmp_path) == ["body"]
        assert len(answer.attempts) == 1
    assert echo.connection_count == 1


@WAYS
def test_a_file_has_the_usual_mode(face: Face, echo: EchoServer, tmp_path: Path, way: Any) -> None:
    """The file has the mode of any file that is opened for writing."""
    other = tmp_path / "other"
    other.touch()
    way(face.resource(echo.address), "/bytes/1", tmp_path / "body")
    assert stat.S_IMODE((tmp_path / "body").stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


@WAYS
def test_a_compressed_body_goes_decoded(
    face: Face, echo: EchoServer, tmp_path: Path, way: Any
) -> None:
    """What is written is the decoded body."""
    way(face.resource(echo.address), "/gzip", tmp_path / "body")
    assert (tmp_path / "body").read_bytes().startswith(b'{"method"')


@pytest.mark.parametrize("status", [404, 500, 302])
@pytest.mark.parametrize("before", [None, b"before"])
def test_an_error_status_leaves_no_file(
    face: Face, echo: EchoServer, tmp_path: Path, status: int, before: bytes | None
) -> None:
    """Without success nothing is written, and the body is that of the response."""
    target = tmp_path / "body"
    if before is not None:
        target.write_bytes(before)
    resource = face.resource(echo.address)
    resource.request("GET", f"/status/{status}")
    answer = resource.getresponse(str(target))
    assert answer.status == status
    assert b'"method"' in answer.body
    with pytest.raises(ResponseError) as caught:
        resource.download(f"/status/{status}", str(target))
    assert caught.value.status == status
    assert caught.value.body["path"] == f"/status/{status}"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([before] if before else [])
    assert echo.connection_count == 1


@WAYS
@pytest.mark.parametrize(
    "answer",
    [
        response_head(200, [("Content-Length", "100000")]) + pattern(70_000),
        response_head(200, [("Content-Length", "100000")]),
        response_head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nabcde\r\n5\r\nab",
        response_head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nabcde\r\n",
    ],
)
def test_a_truncated_body_leaves_no_file(
    face: Face, scripted: StartScripted, tmp_path: Path, way: Any, answer: bytes
) -> None:
    """A body that does not come whole is an error, and the file is as it was before."""
    before = tmp_path / "before"
    before.write_bytes(b"before")
    server = scripted([Receive(), answer, Close()], [Receive(), answer, Close()], [Receive(), ONE])
    resource = face.resource(server.address)
    for target in (before, tmp_path / "new"):
        with pytest.raises(Truncated, match=server.address) as caught:
            way(resource, "/", str(target))
        assert isinstance(caught.value, OSError)
        assert [attempt.endpoint for attempt in caught.value.attempts] == [server.address]
    assert os.listdir(tmp_path) == ["before"]
    assert before.read_bytes() == b"before"
    assert resource.get("/") == 1


@WAYS
def test_no_folder_for_the_file(face: Face, echo: EchoServer, tmp_path: Path, way: Any) -> None:
    """A file that cannot be made raises what the system says, and the resource goes on."""
    resource = face.resource(echo.address)
    with pytest.raises(FileNotFoundError):
        way(resource, "/bytes/1000000", str(tmp_path / "none" / "body"))
    assert resource.get("/x")["path"] == "/x"
    face.rest()
    echo.wait_for(lambda: echo.open_connections == 1)


def test_two_downloads_to_one_file(scripted: StartScripted, tmp_path: Path) -> None:
    """Two downloads to one file at the same time leave the whole of one, whichever is last."""
    second_is_done = threading.Event()
    head = response_head(200, [("Content-Length", "6")])
    slow = scripted([Receive(), head + b"slo", Wait(second_is_done), b"wly"])
    quick = scripted([Receive(), head + b"quick!"])
    target = tmp_path / "body"

    async def race() -> None:
        async with AsyncResource(slow.address) as one, AsyncResource(quick.address) as other:
            first = asyncio.ensure_future(one.download("/", str(target)))
            while not list(tmp_path.iterdir()):  # until the first has begun
                await asyncio.sleep(0)
            await other.download("/", str(target))
            assert target.read_bytes() == b"quick!"
            second_is_done.set()
            await first
            assert target.read_bytes() == b"slowly"

    asyncio.run(race())
    assert os.listdir(tmp_path) == ["body"]


def test_a_cancelled_download(scripted: StartScripted, tmp_path: Path) -> None:
    """A download that is cancelled leaves neither a file nor a connection."""
    server = scripted([Receive(), response_head(200, [("Content-Length", "6")]) + b"slo", Hold()])

    async def cancel() -> None:
        async with AsyncResource(server.address) as resource:
            task = asyncio.ensure_future(resource.download("/", str(tmp_path / "body")))
            while not list(tmp_path.iterdir()):  # until it has begun
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)

    asyncio.run(cancel())
    assert os.listdir(tmp_path) == []
    server.wait_for(lambda: server.open_connections == 0)


@WAYS
def test_a_long_download(face: Face, scripted: StartScripted, tmp_path: Path, way: Any) -> None:
    """The time limit is for each wait of a download, not for the whole of it."""
    head = response_head(200, [("Content-Length", "12")])
    server = scripted([Receive(), head, SendSlowly(b"a long story", chunk=2, interval=0.2)])
    way(face.resource(server.address, timeout=1), "/", tmp_path / "body")
    assert (tmp_path / "body").read_bytes() == b"a long story"


@WAYS
def test_a_stalled_download(face: Face, scripted: StartScripted, tmp_path: Path, way: Any) -> None:
    """A download in which nothing comes for the time limit fails, and leaves no file."""
    head = response_head(200, [("Content-Length", "12")])
    server = scripted([Receive(), head + b"a long", Hold()])
    with pytest.raises(DeadlineExceeded):
        way(face.resource(server.address, timeout=0.1), "/", tmp_path / "body")
    assert os.listdir(tmp_path) == []
