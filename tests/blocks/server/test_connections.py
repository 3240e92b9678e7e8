"""What happens on a connection: bodies that are asked for, refused, slow, or never come."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from pathlib import Path

import pytest

from holdfast.blocks.server import protocol
from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.memory import MemoryVolume
from tests.blocks.server.services import QUIET, Running, locator, md5, read_answer, running

FOO = "acbd18db4cc2f85cedef654fccc4a4d8"


def head(method: str, path: str, length: int | None = None, *more: str) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("size", [3, 2_000_000])
def test_expect_continue(service: Running, size: int) -> None:
    """A body that waits for our word is asked for, and the connection goes on."""
    data = os.urandom(size)
    with service.socket() as sock:
        for _ in range(2):
            sock.sendall(head("PUT", f"/{md5(data)}", size, "Expect: 100-continue"))
            assert read_answer(sock)[0] == b"HTTP/1.1 100 Continue"
            sock.sendall(data)
            status, body = read_answer(sock)
            assert status.startswith(b"HTTP/1.1 200 ")
            assert body == f"{locator(data)}\n".encode()


def test_expect_refused() -> None:
    """A body that will not be stored is refused before it is sent; then the connection ends."""
    config = dataclasses.replace(QUIET, tokens=("tok",))
    with running([MemoryVolume(capacity=0)], config) as service:
        for size in (3, 60_000_000):
            for token, length, status in (
                ("other", size, b"403"),
                ("tok", size, b"507"),
                ("tok", 70_000_000, b"413"),
            ):
                with service.socket() as sock:
                    more = (f"Authorization: Bearer {token}", "Expect: 100-continue")
                    sock.sendall(head("PUT", f"/{FOO}", length, *more))
                    answer, _ = read_answer(sock)
                    assert answer.startswith(b"HTTP/1.1 " + status)
                    assert b"connection: close" in answer.lower()
                    assert sock.recv(1) == b""


@pytest.mark.parametrize("path", ["/nothing", f"/{FOO}+3", "/mounts"])
def test_refused_body_is_read(service: Running, path: str) -> None:
    """Who sends a body that is refused gets to read why, and no part of it is a request."""
    body = b"GET /mounts HTTP/1.1\r\nHost: x\r\n\r\n" * 100_000
    with service.socket() as sock:
        sock.sendall(head("PUT", path, len(body)))
        sock.sendall(body)
        answer, text = read_answer(sock)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert text.endswith(b"\n")
        assert sock.recv(1) == b""


def test_too_large_is_read(service: Running) -> None:
    """Who sends too much without asking is told so."""
    body = bytes(1 << 20)
    with service.socket() as sock:
        sock.sendall(head("PUT", f"/{FOO}", 65 << 20))
        for _ in range(65):
            sock.sendall(body)
        assert read_answer(sock)[0].startswith(b"HTTP/1.1 413 ")


def test_touch_in_pieces(service: Running) -> None:
    """TOUCH is understood however its bytes come, among other requests."""
    service.put(b"foo")
    request = head("TOUCH", f"/{FOO}+3")
    with service.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in (1, 3, 5, 6, 20):
            sock.sendall(request[:cut])
            # An answer on another connection: the first piece has been read by then.
            service.get(f"{FOO}+3")
            sock.sendall(request[cut:])
            assert read_answer(sock)[0].startswith(b"HTTP/1.1 200 ")
            sock.sendall(head("GET", f"/{FOO}+3"))
            assert read_answer(sock)[1] == b"foo"
        # TRACE begins like it.
        sock.sendall(head("TRACE", f"/{FOO}+3"))
        assert read_answer(sock)[0].startswith(b"HTTP/1.1 400 ")


def test_touch_in_a_body(service: Running) -> None:
    """A body that looks like TOUCH is a body."""
    data = b"TOUCH /" + bytes(30)
    with service.socket() as sock:
        sock.sendall(head("PUT", f"/{md5(data)}", len(data)))
        service.get(f"{FOO}+3")
        sock.sendall(data)
        assert read_answer(sock)[0].startswith(b"HTTP/1.1 200 ")
    assert service.get(locator(data)).body == data


def test_pipelined(service: Running) -> None:
    """Requests that are sent at once are answered one after the other."""
    service.put(b"foo")
    with service.socket() as sock:
        sock.sendall(head("GET", f"/{FOO}+3") * 3)
        answers = b""
        while answers.count(b"foo") < 3:
            answers += sock.recv(65536)
        assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_no_http(service: Running) -> None:
    """What is no HTTP is a bad request."""
    for data in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"NONSENSE / HTTP/1.1\r\n\r\n"):
        with service.socket() as sock:
            sock.sendall(data)
            assert read_answer(sock)[0].startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_stalled_body(tmp_path: Path, size: int) -> None:
    """A body that stops coming is given up, and what it has left is removed."""
    volume = FolderVolume(tmp_path, fsync=False)
    with (
        running([volume], dataclasses.replace(QUIET, idle_timeout=0.2)) as service,
        service.socket() as sock,
    ):
        sock.sendall(head("PUT", f"/{FOO}", size) + bytes(size - 1))
        assert read_answer(sock)[0].startswith(b"HTTP/1.1 408 ")
        assert os.listdir(tmp_path / "tmp") == []
        assert service.put(b"foo").status == 200


def test_stalled_reader(tmp_path: Path) -> None:
    """Who does not read what they asked for is given up."""
    data = bytes(30_000_000)
    volume = FolderVolume(tmp_path, fsync=False)
    with running([volume], dataclasses.replace(QUIET, idle_timeout=0.2)) as service:
        service.put(data)
        with service.socket() as sock:
            sock.sendall(head("GET", f"/{locator(data)}"))
            while service.service.exchanges or not service.service.metrics.sent._value.get():
                service.request("GET", "/_health/ping")
            _, body = read_answer(sock)
            assert len(body) < len(data)


def test_reader_goes_away(service: Running) -> None:
    """A client that goes away in the middle leaves nothing behind."""
    data = bytes(30_000_000)
    service.put(data)
    for _ in range(3):
        with service.socket() as sock:
            sock.sendall(head("GET", f"/{locator(data)}"))
            sock.recv(100)
    while service.service.exchanges:
        pass
    assert service.get(locator(data)).body == data


def test_nothing_is_read_for_a_reader_that_has_gone() -> None:
    """What is left of a block is not read when nobody is there to get it."""
    data = bytes(60_000_000)
    volume = MemoryVolume()
    volume.put(md5(data), data)
    with running([volume]) as service:
        with service.socket() as sock:
            sock.sendall(head("GET", f"/{locator(data)}"))
            sock.recv(100)
        while service.service.exchanges:
            pass
        (sent,) = service.service.metrics.sent.collect()
        assert sent.samples[0].value < len(data) / 2


def test_graceful_stop(tmp_path: Path) -> None:
    """A request that is in progress when the service stops is answered."""
    data = os.urandom(3_000_000)
    volume = FolderVolume(tmp_path, fsync=False)
    service = running([volume])
    server = service.__enter__()
    sock = server.socket()
    sock.sendall(head("PUT", f"/{md5(data)}", len(data)) + data[:-1])
    while not server.service.exchanges:
        pass
    # The rest comes once the service is stopping: nobody is accepted then any more.
    import threading

    def rest() -> None:
        while True:
            try:
                server.socket().close()
            except OSError:
                break
        sock.sendall(data[-1:])

    thread = threading.Thread(target=rest)
    thread.start()
    service.__exit__(None, None, None)
    thread.join()
    assert read_answer(sock)[0].startswith(b"HTTP/1.1 200 ")
    sock.close()
    assert (tmp_path / md5(data)[:3] / md5(data)).read_bytes() == data


ENDLESS = {
    "a head": (b"GET /mounts HTTP/1.1\r\n", b"X: " + b"a" * 1000 + b"\r\n"),
    "a header": (b"GET /mounts HTTP/1.1\r\nX: ", b"a" * 1000),
    "a path": (b"GET /", b"a" * 1000),
    "a trailer": (
        head("PUT", f"/{FOO}", None, "Transfer-Encoding: chunked") + b"0\r\nX: ",
        b"a" * 1000,
    ),
    "an extension of a chunk": (
        head("PUT", f"/{FOO}", None, "Transfer-Encoding: chunked") + b"3;",
        b"a" * 1000,
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_endless(service: Running, what: str) -> None:
    """What is no body has an end, or the connection has."""
    begin, more = ENDLESS[what]
    with service.socket() as sock:
        sock.sendall(begin)
        with contextlib.suppress(ConnectionError):  # it may be over before we are
            for _ in range(100):
                sock.sendall(more * 100)
            while sock.recv(65536):
                pass


@pytest.mark.parametrize("begun", [b"", b"GE", b"TOUC", b"GET /mounts HTTP/1.1\r\nHost"])
def test_head_that_does_not_come(
    service: Running, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """A connection on which nothing is asked is closed, however far the head has come."""
    monkeypatch.setattr(protocol, "HEAD_TIME", 0.05)
    with service.socket() as sock:
        sock.sendall(begun)
        assert sock.recv(1) == b""


def test_next_head_that_does_not_come(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """That also holds for a second request; and a body may take longer than a head."""
    monkeypatch.setattr(protocol, "HEAD_TIME", 0.05)
    with service.socket() as sock:
        sock.sendall(head("PUT", f"/{FOO}", 3, "Expect: 100-continue"))
        assert read_answer(sock)[0] == b"HTTP/1.1 100 Continue"
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(30)
        sock.sendall(b"foo")
        assert read_answer(sock)[0].startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"GET /mou")
        assert sock.recv(1) == b""
