"""Small blocks in memory are answered at once; nobody can tell that from other answers."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from holdfast.blocks.server import at_once
from holdfast.blocks.server.at_once import AtOnce
from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.blocks.server.reading import INLINE
from holdfast.blocks.server.storing import Storing
from holdfast.blocks.server.volumes import Volume
from tests.blocks.server.services import QUIET, Running, locator, md5, read_answer, running
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


# --- PUT ---


def put_of(data: bytes, *more: str, name: str = "") -> bytes:
    """Return a whole PUT."""
    return head("PUT", f"/{name or md5(data)}", len(data), ID, *more) + data


@pytest.fixture
def puts_at_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note whether each PUT that may be answered at once was."""
    noted: list[bool] = []
    put = AtOnce.put

    def noting(self: AtOnce, path: bytes, headers: Any, data: bytes) -> bytes | None:
        answer = put(self, path, headers, data)
        noted.append(answer is not None)
        return answer

    monkeypatch.setattr(AtOnce, "put", noting)
    monkeypatch.setattr(at_once, "SLOW", 60.0)  # however slow the machine is
    return noted


@pytest.mark.parametrize("size", [1, 4096, INLINE, INLINE + 1])
def test_put_same_answer(service: Running, puts_at_once: list[bool], size: int) -> None:
    """A small block is stored at once, with the answer of the ordinary way."""
    data = os.urandom(size)
    (plain,) = asked(service, put_of(data))
    assert puts_at_once == [True] * (size <= INLINE)
    other = os.urandom(size)
    (ordinary,) = asked(service, put_of(other, ORDINARY))
    assert plain[0] == ordinary[0]
    assert (plain[1], ordinary[1]) == tuple(f"{locator(one)}\n".encode() for one in (data, other))
    assert service.get(locator(data)).body == data
    metrics = service.request("GET", "/metrics").text
    assert 'holdfast_blocks_requests_total{method="PUT",status="200"} 2.0' in metrics
    assert f"holdfast_blocks_received_bytes_total {2.0 * size}" in metrics


def test_put_again(service: Running, puts_at_once: list[bool]) -> None:
    """What is there already is compared, which waits."""
    for _ in range(3):
        assert asked(service, put_of(b"foo"))[0][1] == f"{locator(b'foo')}\n".encode()
    assert puts_at_once == [True, False, False]


def test_puts_in_order(service: Running) -> None:
    """Requests that come together are answered in their order, whichever way each takes."""
    blocks = [os.urandom(size) for size in (10, 2_000_000, 20, 100_000, 30)]
    requests = [request for one in blocks for request in (put_of(one), put_of(one))]
    answers = asked(service, *requests, *[head("GET", f"/{locator(one)}") for one in blocks])
    receipts = [f"{locator(one)}\n".encode() for one in blocks for _ in range(2)]
    assert [body for _, body in answers] == [*receipts, *blocks]


@pytest.mark.parametrize("at", [1, 100, -4096, -4000, -1])
def test_put_in_pieces(service: Running, puts_at_once: list[bool], at: int) -> None:
    """One whose body is not all there yet is an ordinary one."""
    data = os.urandom(4096)
    request = put_of(data)
    with service.socket() as sock:
        sock.sendall(request[:at])
        service.get(locator(b"absent"))  # so that it has come
        sock.sendall(request[at:])
        assert read_answer(sock)[1] == f"{locator(data)}\n".encode()
        assert puts_at_once in ([], [True])
        # And the connection goes on.
        sock.sendall(put_of(b"foo"))
        assert read_answer(sock)[1] == f"{locator(b'foo')}\n".encode()
    assert service.get(locator(data)).body == data


def test_put_that_stops() -> None:
    """One whose body does not come is given up as any."""
    config = dataclasses.replace(QUIET, idle_timeout=0.2)
    with running([MemoryVolume()], config) as service, service.socket() as sock:
        sock.sendall(put_of(b"four")[:-1])
        assert read_answer(sock)[0].startswith(b"HTTP/1.1 408 ")


def test_put_refused() -> None:
    """What is refused is so for the same reason both ways, and nothing of it is stored."""
    config = dataclasses.replace(QUIET, signing_key="key", tokens=("tok",))
    with running([MemoryVolume()], config) as service:
        good = "Authorization: Bearer tok"
        for status, request in (
            (401, put_of(b"foo")),
            (403, put_of(b"foo", "Authorization: Bearer other")),
            (400, put_of(b"foo", good, name="0" * 32)),
            (400, put_of(b"foo", good, name=md5(b"foo").upper())),
            (400, put_of(b"foo", good, "X-Keep-Storage-Classes: a b")),
            (503, put_of(b"foo", good, "X-Keep-Storage-Classes: other")),
        ):
            with service.socket() as sock:
                sock.sendall(request)
                assert read_answer(sock)[0].startswith(b"HTTP/1.1 %d " % status)
        assert list(service.service.mounts.in_order("")[0].index()) == []
        ((_, body),) = asked(service, put_of(b"foo", good))
        assert service.get(body.decode().strip(), "tok").body == b"foo"


def test_only_where_nothing_waits(tmp_path: Path, puts_at_once: list[bool]) -> None:
    """What has to reach the disk is left to threads."""
    for fsync, expected in ((True, []), (False, [True])):
        puts_at_once.clear()
        folder = FolderVolume(tmp_path / str(fsync), fsync=fsync)
        volumes: list[Volume] = [folder, MemoryVolume()]
        with running(volumes, dataclasses.replace(QUIET, copies=2)) as service:
            ((answer, _),) = asked(service, put_of(b"foo"))
            assert b"x-keep-replicas-stored: 2" in answer
            assert puts_at_once == expected


def test_a_volume_that_fails(tmp_path: Path, puts_at_once: list[bool]) -> None:
    """Of several volumes those that work have the block; without any, it is refused."""
    broken = FolderVolume(tmp_path / "broken", fsync=False)
    (tmp_path / "broken" / "tmp").rmdir()
    with running([broken, MemoryVolume()]) as service:
        for data in (b"foo", b"bar", b"baz"):
            assert asked(service, put_of(data))[0][1] == f"{locator(data)}\n".encode()
            assert service.get(locator(data)).body == data
    broken = FolderVolume(tmp_path / "broken", fsync=False)
    (tmp_path / "broken" / "tmp").rmdir()
    with running([broken]) as service:
        assert asked(service, put_of(b"foo"))[0][0].startswith(b"HTTP/1.1 503 ")


def test_slow_ones_are_left_to_threads(
    service: Running, puts_at_once: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a slow one others have the event loop for themselves, a hundred times as long."""
    now = 1000.0
    monkeypatch.setattr(at_once, "perf_counter", lambda: now)

    class Slow(Storing):
        def add(self, data: bytes) -> bool:
            nonlocal now
            now += 100.0
            return super().add(data)

    monkeypatch.setattr(at_once, "Storing", Slow)
    for data, later, noted in ((b"a", 0, 1), (b"b", 0, 1), (b"c", 9999, 1), (b"d", 1, 2)):
        now += later
        assert asked(service, put_of(data))[0][0].startswith(b"HTTP/1.1 200 ")
        assert len(puts_at_once) == noted


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("target", ["http://x", "http://:80:80/", "*", "x"])
def test_put_to_nowhere(service: Running, target: str, split: bool) -> None:
    """A target that is none is refused, however it comes."""
    request = head("PUT", target, 3)
    with service.socket() as sock:
        sock.sendall(request if split else request + b"foo")
        assert read_answer(sock)[0].startswith(b"HTTP/1.1 400 ")


def test_first_storage_classes(service: Running) -> None:
    """Of several headers with storage classes, the first counts both ways."""
    classes = ("X-Keep-Storage-Classes: other", "X-Keep-Storage-Classes: default")
    for more in ((), (ORDINARY,)):
        ((answer, _),) = asked(service, put_of(b"foo", *classes, *more))
        assert answer.startswith(b"HTTP/1.1 503 ")
        data = os.urandom(10)
        ((answer, _),) = asked(service, put_of(data, *reversed(classes), *more))
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_failing_volumes_are_left_to_threads() -> None:
    """After a failure of a volume, which comes both ways, the next ones take the ordinary one."""
    with running([MemoryVolume(capacity=0)]) as service:
        for number in range(5):
            ((answer, _),) = asked(service, put_of(b"%d" % number))
            assert answer.startswith(b"HTTP/1.1 507 ")
        metrics = service.request("GET", "/metrics").text
        (count,) = [
            float(line.split()[1])
            for line in metrics.splitlines()
            if line.startswith("holdfast_blocks_volume_errors_total{")
        ]
        assert count == 6


@pytest.mark.parametrize("length", ["0" * 5000 + "3", "9" * 5000, "9" * 19])
def test_endless_length(service: Running, length: str) -> None:
    """A length of which no number can be made is too long."""
    with service.socket() as sock:
        sock.sendall(
            head("PUT", f"/{md5(b'foo')}")[:-2] + f"Content-Length: {length}\r\n\r\n".encode()
        )
        assert read_answer(sock)[0].split()[1] in (b"413", b"400")
