"""The service is killed, the disk is full, and the folder becomes read-only."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.blocks.server.services import Process, locator, md5


async def put(process: Process, data: bytes, killed: asyncio.Event | None = None) -> bool:
    """Put a block; return whether it was acknowledged. Half of it waits until it was killed."""
    try:
        reader, writer = await asyncio.open_connection(*process.address)
    except OSError:
        return False
    try:
        head = f"PUT /{md5(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode())
        if killed is not None:
            writer.write(data[: len(data) // 2])
            await killed.wait()
        writer.write(data)
        await writer.drain()
        answer = await reader.read(20)
        return answer.startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
    finally:
        writer.close()


async def put_and_kill(process: Process, blocks: list[bytes], kill_after: int) -> set[bytes]:
    """Put blocks at once and kill the service in the middle; return what was acknowledged."""
    acknowledged = set()
    killed = asyncio.Event()

    async def one(data: bytes, half: bool) -> None:
        if await put(process, data, killed if half else None):
            acknowledged.add(data)
            if len(acknowledged) == kill_after:
                process.kill()
                killed.set()

    # Some are in the middle, however fast the service is.
    await asyncio.gather(*(one(data, number % 7 == 0) for number, data in enumerate(blocks)))
    return acknowledged


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_killed(tmp_path: Path, count: int) -> None:
    """Whatever was acknowledged before a SIGKILL is there, and whatever is there is whole."""
    sizes = (100, 5000, 70_000, 200_000, 1_100_000)
    blocks = [os.urandom(sizes[number % 5 if number % 10 < 9 else 4]) for number in range(count)]
    process = Process("--data", tmp_path, "--port", "0")
    acknowledged = asyncio.run(put_and_kill(process, blocks, count // 3))
    process.kill()
    assert count // 3 <= len(acknowledged) < count
    for path in tmp_path.glob("[0-9a-f][0-9a-f][0-9a-f]/*"):
        assert md5(path.read_bytes()) == path.name
    with Process("--data", tmp_path, "--port", "0") as service:
        assert os.listdir(tmp_path / "tmp") == []
        for data in blocks:
            answer = service.get(locator(data))
            if answer.status == 200:
                assert answer.body == data
            else:
                assert answer.status == 404
                assert data not in acknowledged
                assert service.put(data).status == 200


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a certain size; skip the test where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, mode: str) -> None:
    """Make a mounted file system read-only (``ro``), or no longer (``rw``)."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


def test_full_disk(tmp_path: Path) -> None:
    """With less than 64 MiB left nothing more is stored, and what is there is served."""
    first, second = os.urandom(10 << 20), os.urandom(10 << 20)
    with (
        mounted(tmp_path / "disk", "80m") as folder,
        Process("--data", folder, "--port", "0") as service,
    ):
        assert service.put(first).status == 200
        assert service.put(second).status == 200  # 70 MiB were left
        for data in (b"foo", os.urandom(2_000_000)):
            assert service.put(data).status == 507
        assert service.put(first).status == 200  # needs no room
        for data in (first, second):
            assert service.get(locator(data)).body == data


@pytest.mark.parametrize("size", [300_000, 5_000_000])
def test_write_fails_for_want_of_room(tmp_path: Path, size: int) -> None:
    """A block for which the room ends while it is written is refused, and leaves nothing."""
    with Process("--data", tmp_path, "--port", "0") as service:
        limit = (200_000, resource.RLIM_INFINITY)
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, limit)
        data = os.urandom(size)
        assert service.put(data).status == 507
        assert service.get(locator(data)).status == 404
        assert service.put(b"foo").status == 200
        assert os.listdir(tmp_path / "tmp") == []


def test_read_only_folder(tmp_path: Path) -> None:
    """When the folder becomes read-only, blocks are served; when it no longer is, stored."""
    large = os.urandom(2_000_000)
    with (
        mounted(tmp_path / "disk", "200m") as folder,
        Process("--data", folder, "--port", "0") as service,
    ):
        assert service.put(b"foo").status == 200
        remount(folder, "ro")
        for data in (b"foo", b"bar", large):
            assert service.put(data).status == 503
        assert service.get(locator(b"foo")).body == b"foo"
        assert service.request("HEAD", f"/{locator(b'foo')}").status == 200
        assert service.request("TOUCH", f"/{locator(b'foo')}").status == 503
        remount(folder, "rw")
        for data in (b"foo", b"bar", large):
            assert service.put(data).status == 200


def test_started_on_a_read_only_folder(tmp_path: Path) -> None:
    """A folder that cannot be written is served, whether it is called read-only or not."""
    with mounted(tmp_path / "disk", "200m") as folder:
        with Process("--data", folder, "--port", "0") as service:
            service.put(b"foo")
        remount(folder, "ro")
        with Process("--data", folder, "--port", "0") as service:
            assert service.get(locator(b"foo")).body == b"foo"
            assert service.put(b"foo").status == 503
        config = tmp_path / "blockd.toml"
        config.write_text(f'[[volume]]\npath = "{folder}"\nread_only = true\n')
        with Process("--config", config, "--port", "0") as service:
            assert service.get(locator(b"foo")).body == b"foo"
            assert service.put(b"foo").status == 503
