"""Large blocks that were right once are checked part by part before they are sent."""

from __future__ import annotations

import dataclasses
import os
import socket
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.folder_files import Reader
from holdfast.blocks.server.parts import CHUNK, FEW, LARGEST, MEMORY, Parts
from holdfast.blocks.server.sums import Sums
from tests.blocks.server.services import QUIET, Running, locator, md5, read_answer, running
from tests.blocks.server.test_corruption import corrupt, flip

SIZE = 2 * LARGEST + CHUNK + 17


@pytest.fixture(params=[None, -1, 0, 3])
def at_hand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """How many chunks of a block are in memory; None when all are; -1: opening it is a wait."""
    count: int | None = request.param
    if count == -1:
        monkeypatch.setattr(FolderVolume, "open_at_once", lambda *_: None)
    elif count is not None:
        read = Reader.read_at_once

        def read_at_once(reader: Reader, buffer: bytearray) -> bool:
            at = os.lseek(reader._fd, 0, os.SEEK_CUR)
            return at < count * CHUNK and read(reader, buffer)

        monkeypatch.setattr(Reader, "read_at_once", read_at_once)
    return count


def test_right(service: Running, at_hand: int | None) -> None:
    """A block that was read before is sent as the first time."""
    data = os.urandom(SIZE)
    service.put(data)
    for _ in range(3):
        assert service.get(locator(data)).body == data


def test_slow_reader(service: Running) -> None:
    """What the client has not taken yet stays as it was, while the next part is read."""
    data = os.urandom(8 * LARGEST)
    service.put(data)
    assert service.get(locator(data)).body == data
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        sock.settimeout(30)
        sock.connect(service.address)
        sock.sendall(f"GET /{locator(data)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert read_answer(sock)[1] == data


def test_by_many(service: Running) -> None:
    """So it is to many clients at once, too many for the event loop alone."""
    data = os.urandom(SIZE)
    service.put(data)
    assert service.get(locator(data)).body == data
    with ThreadPoolExecutor(4 * FEW) as threads:
        for answer in threads.map(service.get, [locator(data)] * 8 * FEW):
            assert answer.body == data


@pytest.mark.parametrize("chunk", [0, 1, 3, 4, 7, 8, 9])
def test_no_damaged_part_is_sent(
    service: Running, folder: Path, chunk: int, at_hand: int | None
) -> None:
    """Of a block that was damaged since, only parts before the damage leave the service."""
    data = os.urandom(SIZE)
    service.put(data)
    assert service.get(locator(data)).body == data
    flip(folder, data, chunk * CHUNK + 16)
    with service.socket() as sock:
        sock.sendall(f"GET /{locator(data)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, body = read_answer(sock)
    if chunk:
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == data[: len(body)]
        assert len(body) <= chunk * CHUNK
    else:
        assert head.startswith(b"HTTP/1.1 502 ")
    assert corrupt(service) == [md5(data)]
    assert service.get(locator(data)).status == 502
    # It is mended, and found to be.
    service.put(data)
    for _ in range(2):
        assert service.get(locator(data)).body == data
    assert corrupt(service) == []


@pytest.mark.parametrize("cut", [0, 1, CHUNK, 4 * CHUNK + 1])
def test_shorter_since(service: Running, folder: Path, cut: int) -> None:
    """A block that became shorter is not sent, whatever is known of it."""
    data = os.urandom(SIZE)
    service.put(data)
    assert service.get(locator(data)).body == data
    (folder / md5(data)[:3] / md5(data)).write_bytes(data[:cut])
    assert service.get(locator(data)).status == 502


def test_other_copy(tmp_path: Path) -> None:
    """When the beginning of one copy is damaged, another serves at once."""
    data = os.urandom(SIZE)
    volumes = [FolderVolume(tmp_path / name, fsync=False) for name in "ab"]
    with running(volumes, dataclasses.replace(QUIET, copies=2)) as service:
        service.put(data)
        assert service.get(locator(data)).body == data
        first = service.service.mounts.in_order(md5(data))[0]
        assert isinstance(first, FolderVolume)
        flip(first.path, data, 0)
        for _ in range(2):
            assert service.get(locator(data)).body == data
        assert corrupt(service) == [md5(data)]


def test_parts_fit_into_memory() -> None:
    """The more transfers are under way, the smaller are their parts, down to a chunk."""
    parts = Parts()
    sizes = []
    for transfers in range(1, 101):
        parts.begin()
        sizes.append(parts.size)
        assert sizes[-1] % CHUNK == 0
        assert sizes[-1] == CHUNK or 3 * transfers * sizes[-1] <= MEMORY
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (LARGEST, CHUNK)
    for _ in range(99):
        parts.end()
    assert parts.size == LARGEST


def test_those_read_last_are_kept() -> None:
    """What is known has a limit, and what was asked for longest ago goes first."""
    sums = Sums(most=4)
    sums.learn("a", array("Q", [1, 2]))
    sums.learn("b", array("Q", [3]))
    assert sums.get("a") is not None
    sums.learn("c", array("Q", [4, 5]))
    assert (sums.get("a"), sums.get("b")) == (array("Q", [1, 2]), None)
    sums.learn("a", array("Q", [1, 2]))
    sums.forget("c")
    sums.forget("c")
    assert len(sums) == 1
    sums.learn("d", array("Q", range(5)))
    assert len(sums) == 0
