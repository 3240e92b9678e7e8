"""Small blocks in memory are answered at once; nobody can tell that from other answers."""

from __future__ import annotations

import dataclasses
import os

import pytest

from holdfast.blocks.server.memory import MemoryVolume
from holdfast.blocks.server.reading import INLINE
from tests.blocks.server.services import QUIET, Running, locator, read_answer, running
from tests.blocks.server.test_connections import head

ID = "X-Request-Id: req-mine"
#: What makes a request one that takes the ordinary way.
ORDINARY = "Connection: keep-alive"


def asked(service: Running, *requests: bytes) -> list[tuple[bytes, bytes]]:
    """Send requests in one piece; returns heads and bodies of the answers."""
    with service.socket() as sock, sock.makefile("rb") as file:
        sock.sendall(b"".join(requests))
        answers = []
        for _ in requests:
            lines = []
            while (line := file.readline()) not in (b"\r\n", b""):
                lines.append(line)
            (length,) = [int(line.split()[1]) for line in lines if line.startswith(b"content-len")]
            answers.append((b"".join(lines), file.read(length)))
        return answers


@pytest.mark.parametrize("size", [1, 4096, INLINE, INLINE + 1])
def test_same_answer(service: Running, size: int) -> None:
    """Answers are the same both ways."""
    data = os.urandom(size)
    service.put(data)
    (plain,) = asked(service, head("GET", f"/{locator(data)}", None, ID))
    (ordinary,) = asked(service, head("GET", f"/{locator(data)}", None, ID, ORDINARY))
    assert plain == ordinary
    assert plain[1] == data
    assert b"x-request-id: req-mine" in plain[0]


def test_in_order(service: Running) -> None:
    """Requests that come together are answered in their order, whichever way each takes."""
    blocks = [os.urandom(size) for size in (10, 2_000_000, 20, 100_000, 30)]
    for data in blocks:
        service.put(data)
    requests = [head("GET", f"/{locator(data)}") for data in blocks]
    answers = asked(service, *requests, head("GET", f"/{locator(b'absent')}"), requests[0])
    assert [body for _, body in answers] == [*blocks, b"no such block\n", blocks[0]]


def test_many_at_a_time(service: Running) -> None:
    """A client that asks for much and reads nothing yet gets it all in the end."""
    data = os.urandom(INLINE)
    service.put(data)
    answers = asked(service, *[head("GET", f"/{locator(data)}")] * 1000)
    assert all(body == data for _, body in answers)


def test_counted(service: Running) -> None:
    """These answers are counted as any."""
    service.put(b"foo")
    service.get(locator(b"foo"))
    asked(service, head("GET", f"/{locator(b'foo')}"))
    metrics = service.request("GET", "/metrics").text
    assert 'holdfast_blocks_requests_total{method="GET",status="200"} 2.0' in metrics
    assert "holdfast_blocks_sent_bytes_total 6.0" in metrics


@pytest.mark.parametrize("given", ["", "a" * 201, "a b", "caf\xe9"])
def test_ids_that_are_not_echoed(service: Running, given: str) -> None:
    """A request's id that no log or header should have is replaced."""
    service.put(b"foo")
    request = head("GET", f"/{locator(b'foo')}")[:-2]
    request += f"X-Request-Id: {given}\r\n".encode("latin-1")
    for more in (b"", ORDINARY.encode() + b"\r\n"):
        ((answer, body),) = asked(service, request + more + b"\r\n")
        assert body == b"foo"
        assert b"x-request-id: req-" in answer


def test_old_clients(service: Running) -> None:
    """A client of HTTP/1.0 gets its answer, and the end of the connection."""
    service.put(b"foo")
    with service.socket() as sock:
        sock.sendall(head("GET", f"/{locator(b'foo')}").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert read_answer(sock)[1] == b"foo"
        assert sock.recv(1) == b""


def test_permission() -> None:
    """Without a signature, a good token and time left, nothing is answered but why."""
    config = dataclasses.replace(QUIET, signing_key="key", tokens=("tok",))
    with running([MemoryVolume()], config) as service:
        signed = service.put(b"foo", "tok").text.strip()
        assert service.get(signed, "tok").body == b"foo"
        for name, token, status in (
            (signed, "other", 403),
            (signed, "", 401),
            (locator(b"foo"), "tok", 400),
            (signed.replace("+A", "+Af")[: len(signed)], "tok", 400),
        ):
            lines = (f"Authorization: Bearer {token}",) if token else ()
            ((answer, body),) = asked(service, head("GET", f"/{name}", None, *lines))
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert body != b"foo"
