"""Blocks are put, read and touched over HTTP."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from holdfast.blocks.locators import BLOCK
from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.memory import MemoryVolume
from tests.blocks.server.services import QUIET, Client, Running, locator, md5, read_answer, running

FOO = "acbd18db4cc2f85cedef654fccc4a4d8"

#: Of each way that blocks go: on the loop, on a thread, and streamed.
SIZES = [1, 3, 16 * 1024, 16 * 1024 + 1, 1 << 20, (1 << 20) + 1, 3_000_000]


def test_put_and_get(service: Running, folder: Path) -> None:
    """A block that was put is a file, and comes back; the answer says where it is kept."""
    answer = service.put(b"foo")
    assert answer.status == 200
    assert answer.text == f"{FOO}+3\n"
    assert answer.headers["X-Keep-Replicas-Stored"] == "1"
    assert answer.headers["X-Keep-Storage-Classes-Confirmed"] == "default=1"
    assert (folder / "acb" / FOO).read_bytes() == b"foo"
    answer = service.get(f"{FOO}+3")
    assert (answer.status, answer.body) == (200, b"foo")
    assert answer.headers["Content-Length"] == "3"
    assert answer.headers["Vary"] == "X-Keep-Signature"


@pytest.mark.parametrize("size", SIZES)
def test_sizes(service: Running, size: int) -> None:
    """A block of any size comes back as it was put, and again when it is put again."""
    data = os.urandom(size)
    for _ in range(2):
        assert service.put(data).text == f"{locator(data)}\n"
        answer = service.get(locator(data))
        assert (answer.status, answer.body == data) == (200, True)
        answer = service.request("HEAD", f"/{locator(data)}")
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(size))


def test_largest(service: Running, folder: Path) -> None:
    """A block may have 64 MiB; one byte more is refused, told or found out."""
    data = bytes(BLOCK)
    assert service.put(data).status == 200
    assert service.get(locator(data)).body == data
    data += b"1"
    assert service.put(data).status == 413

    def pieces() -> object:
        yield data[:-1]
        yield data[-1:]

    assert service.request("PUT", f"/{md5(data)}", pieces()).status == 413
    assert os.listdir(folder / "tmp") == []


def test_head_without_size(service: Running) -> None:
    """HEAD tells the size; GET has to be told it."""
    service.put(b"foo")
    answer = service.request("HEAD", f"/{FOO}")
    assert (answer.status, answer.headers["Content-Length"]) == (200, "3")
    assert service.get(FOO).status == 405


def test_wrong_size(service: Running) -> None:
    """A locator with another size names no block."""
    data = os.urandom(2_000_000)
    service.put(data)
    service.put(b"foo")
    for wrong in (f"{FOO}+2", f"{FOO}+4", f"{md5(data)}+1999999", f"{md5(data)}+3"):
        assert service.get(wrong).status == 404
        assert service.request("HEAD", f"/{wrong}").status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "TOUCH"])
def test_absent(service: Running, method: str) -> None:
    """What was never put is not found."""
    for size in (3, 100_000, 5_000_000):
        assert service.request(method, f"/{FOO}+{size}").status == 404
    assert service.request(method, f"/{FOO}+{BLOCK + 1}").status == 404


def test_empty_block(service: Running, folder: Path) -> None:
    """The empty block is always there, can be put, and is stored nowhere."""
    name = md5(b"")
    assert service.get(f"{name}+0").status == 200
    assert service.request("HEAD", f"/{name}").headers["Content-Length"] == "0"
    answer = service.put(b"")
    assert (answer.status, answer.text) == (200, f"{name}+0\n")
    assert answer.headers["X-Keep-Replicas-Stored"] == "1"
    assert service.request("TOUCH", f"/{name}+0").status == 200
    assert service.request("PUT", f"/{name}", b"foo").status == 400
    assert not (folder / name[:3]).exists()


@pytest.mark.parametrize(
    "path",
    [
        f"/{FOO}+",
        f"/{FOO}+3+",
        f"/{FOO}+3+3",
        f"/{FOO}+3+a",
        f"/{FOO}0",
        f"/{FOO}/..",
        f"/{FOO}%2f..%2f..%2fetc",
        f"/{FOO.upper()}+3",
        f"/{FOO[:31]}",
        f"//{FOO}+3",
        "/../../etc/passwd",
        "/",
        "/nothing",
        "/index/../mounts",
        "/%00",
    ],
)
def test_no_locator(service: Running, path: str) -> None:
    """Whatever is no locator and no known path is a bad request, by every method."""
    for method in ("GET", "PUT", "TOUCH", "DELETE", "POST"):
        answer = service.request(method, path, b"x" if method in ("PUT", "POST") else None)
        assert answer.status == 400, method
        assert answer.text.count("\n") == 1
        assert answer.text.endswith("\n")


def test_unknown_methods(service: Running) -> None:
    """Methods that blocks do not have are bad requests, also the one that stands for TOUCH."""
    service.put(b"foo")
    for method in ("POST", "PATCH", "OPTIONS", "REBIND", "FETCH"):
        assert service.request(method, f"/{FOO}+3").status == 400


def test_put_to_a_locator(service: Running) -> None:
    """A block is put to its hash alone."""
    assert service.request("PUT", f"/{FOO}+3", b"foo").status == 400


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_wrong_hash(service: Running, folder: Path, size: int) -> None:
    """A body that is not what its hash says is refused, and nothing of it stays."""
    assert service.request("PUT", f"/{FOO}", bytes(size)).status == 400
    assert service.get(f"{FOO}+3").status == 404
    assert os.listdir(folder / "tmp") == []


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_body_cut_short(service: Running, folder: Path, size: int) -> None:
    """A body that ends before its length is not stored, and the service goes on."""
    data = os.urandom(size)
    with service.socket() as sock:
        head = f"PUT /{md5(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {size + 1}\r\n\r\n"
        sock.sendall(head.encode() + data)
        sock.shutdown(1)
        assert read_answer(sock) == (b"", b"")
    assert service.get(locator(data)).status == 404
    service.put(b"foo")
    while os.listdir(folder / "tmp"):
        service.get(f"{FOO}+3")


def test_chunked(service: Running) -> None:
    """A body without a length told is stored as well."""
    data = os.urandom(3_000_000)

    def pieces() -> object:
        for start in range(0, len(data), 700_000):
            yield data[start : start + 700_000]

    assert service.request("PUT", f"/{md5(data)}", pieces()).text == f"{locator(data)}\n"
    assert service.get(locator(data)).body == data


@pytest.mark.parametrize("size", [3, 2_000_000])
def test_same_again(service: Running, folder: Path, size: int) -> None:
    """The same block again is not written again, but is as new, and counts."""
    data = os.urandom(size)
    service.put(data)
    path = folder / md5(data)[:3] / md5(data)
    os.utime(path, (1000, 1000))
    before = path.stat()
    answer = service.put(data)
    assert answer.headers["X-Keep-Replicas-Stored"] == "1"
    after = path.stat()
    assert after.st_ino == before.st_ino
    assert after.st_mtime > before.st_mtime


@pytest.mark.parametrize("method", ["TOUCH", "HEAD"])
def test_touch(service: Running, folder: Path, method: str) -> None:
    """TOUCH makes a block as new, reading it does not."""
    service.put(b"foo")
    path = folder / "acb" / FOO
    os.utime(path, (1000, 1000))
    assert service.request(method, f"/{FOO}+3").status == 200
    assert (path.stat().st_mtime > 1000) == (method == "TOUCH")


def test_request_id(service: Running) -> None:
    """Every answer has the request's id, or one of its own."""
    service.put(b"foo")
    headers = {"X-Request-Id": "req-abc"}
    for method, path in (
        ("GET", f"/{FOO}+3"),
        ("GET", f"/{FOO}+4"),
        ("HEAD", f"/{FOO}"),
        ("GET", "/mounts"),
        ("GET", "/nothing"),
        ("TOUCH", f"/{FOO}"),
    ):
        assert service.request(method, path, headers=headers).headers["X-Request-Id"] == "req-abc"
        ids = {service.request(method, path).headers["X-Request-Id"] for _ in range(2)}
        assert len(ids) == 2
        assert all(one.startswith("req-") for one in ids)


def test_several_volumes(tmp_path: Path) -> None:
    """Blocks are spread over the volumes, and found on every one."""
    volumes = [FolderVolume(tmp_path / str(number), fsync=False) for number in range(3)]
    blocks = [os.urandom(10) for _ in range(60)]
    with running(volumes) as service:
        for data in blocks:
            assert service.put(data).headers["X-Keep-Replicas-Stored"] == "1"
        counts = [len(list(volume.index())) for volume in volumes]
        assert sum(counts) == 60
        assert min(counts) > 5
        for data in blocks:
            assert service.get(locator(data)).body == data
            # It is not put to another one.
            service.put(data)
        assert [len(list(volume.index())) for volume in volumes] == counts


def test_copies() -> None:
    """Each block is kept on as many volumes as configured, or on as many as there are."""
    volumes = [MemoryVolume() for _ in range(3)]
    config = dataclasses.replace(QUIET, copies=2)
    with running(volumes, config) as service:
        for data in (b"foo", os.urandom(3_000_000)):
            answer = service.put(data)
            assert answer.headers["X-Keep-Replicas-Stored"] == "2"
            assert answer.headers["X-Keep-Storage-Classes-Confirmed"] == "default=2"
        assert sum(len(list(volume.index())) for volume in volumes) == 4
        # One that has lost its copy gets a copy again, nobody else does.
        for volume in volumes:
            if list(volume.index(FOO)):
                volume.trash(FOO, 1 << 62, 0)
                break
        assert service.put(b"foo").headers["X-Keep-Replicas-Stored"] == "2"
        assert sum(len(list(volume.index())) for volume in volumes) == 4
    with running([MemoryVolume(), MemoryVolume(read_only=True)], config) as service:
        assert service.put(b"foo").headers["X-Keep-Replicas-Stored"] == "1"
        assert service.put(b"").headers["X-Keep-Replicas-Stored"] == "1"
    with running([MemoryVolume(replication=2), MemoryVolume()], config) as service:
        assert service.put(b"").headers["X-Keep-Replicas-Stored"] in ("2", "3")


def test_storage_classes() -> None:
    """Blocks go to volumes of the classes that are asked for; the answer says which."""
    volumes = [
        MemoryVolume(classes=("default",)),
        MemoryVolume(classes=("fast",)),
        MemoryVolume(classes=("fast", "safe"), replication=2),
    ]
    with running(volumes) as service:

        def put(data: bytes, classes: str) -> tuple[str | None, list[int]]:
            answer = service.put(data, X_Keep_Storage_Classes=classes)
            where = [len(list(volume.index(md5(data)))) for volume in volumes]
            return answer.headers["X-Keep-Storage-Classes-Confirmed"], where

        assert put(b"1", "safe") == ("safe=2", [0, 0, 1])
        assert put(b"2", "default, safe") == ("default=1, safe=2", [1, 0, 1])
        confirmed, where = put(b"3", "fast")
        assert confirmed in ("fast=1", "fast=2")
        assert sum(where) == 1
        assert put(b"4", "") == ("default=1", [1, 0, 0])
        # What is missing is not confirmed.
        assert put(b"5", "default,glacier") == ("default=1", [1, 0, 0])
        assert service.put(b"6", X_Keep_Storage_Classes="glacier").status == 503
        assert service.put(b"6", X_Keep_Storage_Classes="a b").status == 400


def test_full() -> None:
    """A full service says so, before and after other volumes were tried."""
    full = MemoryVolume(capacity=0)
    for data in (b"foo", os.urandom(2_000_000)):
        with running([full, MemoryVolume(capacity=0)]) as service:
            assert service.put(data).status == 507
        with running([full, MemoryVolume()]) as service:
            assert service.put(data).status == 200
        with running([MemoryVolume(read_only=True)]) as service:
            assert service.put(data).status == 503


def test_failing_volume(tmp_path: Path) -> None:
    """A volume that fails is passed over when there is another one, and else is an error."""
    broken = FolderVolume(tmp_path / "broken", fsync=False)
    (tmp_path / "broken" / "tmp").rmdir()
    for data in (b"foo", os.urandom(2_000_000)):
        with running([broken, MemoryVolume()]) as service:
            assert service.put(data).status == 200
            assert service.get(locator(data)).body == data
        broken = FolderVolume(tmp_path / "broken", fsync=False)
        (tmp_path / "broken" / "tmp").rmdir()
        with running([broken]) as service:
            assert service.put(data).status == 503
        broken = FolderVolume(tmp_path / "broken", fsync=False)
        (tmp_path / "broken" / "tmp").rmdir()
    broken.close()


def test_many_clients(service: Running) -> None:
    """Clients that put and get the same and other blocks at once get what they should."""
    common = os.urandom(1_500_000)
    failures: list[object] = []

    def act(client: Client) -> None:
        try:
            for _ in range(3):
                own = os.urandom(1_200_000)
                for data in (common, own):
                    assert client.put(data).status == 200
                    assert client.get(locator(data)).body == data
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=act, args=(service,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
