"""A flipped bit is found, never given out as the block, and mended."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from holdfast.blocks.server import reading, storing
from holdfast.blocks.server.folder import FolderVolume
from holdfast.blocks.server.memory import MemoryVolume
from holdfast.blocks.server.volumes import VolumeError
from tests.blocks.server.services import (
    QUIET,
    SYSTEM,
    Running,
    locator,
    md5,
    read_answer,
    running,
)

SIZES = [3, 100_000, 5_000_000]


def flip(folder: Path, data: bytes, place: int = -1) -> None:
    """Flip a bit of a stored block."""
    path = folder / md5(data)[:3] / md5(data)
    bad = bytearray(data)
    bad[place] ^= 1
    path.write_bytes(bad)


def corrupt(service: Running) -> list[str]:
    """Return the hashes that are listed as corrupt."""
    answer = service.request("GET", "/corrupt", token=SYSTEM)
    return [one["hash"] for one in json.loads(answer.body)["corrupt"]]


@pytest.mark.parametrize("size", SIZES)
def test_head(service: Running, folder: Path, size: int) -> None:
    """HEAD finds it."""
    data = os.urandom(size)
    service.put(data)
    flip(folder, data)
    for name in (md5(data), locator(data)):
        assert service.request("HEAD", f"/{name}").status == 502
    assert corrupt(service) == [md5(data)]
    metrics = service.request("GET", "/metrics").text
    assert 'holdfast_blocks_corrupt_total{mount="zzzzz-nyw5e-' in metrics
    assert "holdfast_blocks_corrupt_known 1.0" in metrics


@pytest.mark.parametrize("size", SIZES[:2])
def test_get_small(service: Running, folder: Path, size: int) -> None:
    """GET of a small block finds it before anything is sent."""
    data = os.urandom(size)
    service.put(data)
    flip(folder, data)
    answer = service.get(locator(data))
    assert (answer.status, answer.text) == (502, "the block is corrupt\n")


@pytest.mark.parametrize("place", [0, -1])
def test_get_large(service: Running, folder: Path, place: int) -> None:
    """GET of a large one cuts the answer short; from then on it finds it before."""
    data = os.urandom(SIZES[-1])
    service.put(data)
    flip(folder, data, place)
    with service.socket() as sock:
        sock.sendall(f"GET /{locator(data)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, body = read_answer(sock)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(body) < len(data)
        assert sock.recv(1) == b""
    assert service.get(locator(data)).status == 502
    assert corrupt(service) == [md5(data)]
    assert "holdfast_blocks_cut_short_total 1.0" in service.request("GET", "/metrics").text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", ["shorter", "longer", "nothing"])
def test_other_length(service: Running, folder: Path, size: int, change: str) -> None:
    """A block of another length is corrupt as well, and that is known before it is sent."""
    data = os.urandom(size)
    service.put(data)
    path = folder / md5(data)[:3] / md5(data)
    path.write_bytes({"shorter": data[:-1], "longer": data + b"1", "nothing": b""}[change])
    assert service.get(locator(data)).status == 502
    assert service.request("HEAD", f"/{locator(data)}").status == 502


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_scrub(folder: Path, size: int) -> None:
    """The scrub finds it by itself, and tells."""
    data, good = os.urandom(size), os.urandom(size)
    volume = FolderVolume(folder, fsync=False)
    for one in (data, good):
        with volume.create(md5(one)) as writer:
            writer.write(one)
            writer.commit()
    flip(folder, data)
    config = dataclasses.replace(QUIET, scrub_rate=1e9, scrub_pause=0)
    with running([volume], config) as service:
        while corrupt(service) != [md5(data)]:
            pass
        # When it is mended, the scrub finds that, too.
        (folder / md5(data)[:3] / md5(data)).write_bytes(data)
        while corrupt(service):
            pass
        assert service.get(locator(data)).body == data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", [0, -1])
def test_put_mends(service: Running, folder: Path, size: int, place: int) -> None:
    """Putting the block again replaces the corrupt one."""
    data = os.urandom(size)
    service.put(data)
    flip(folder, data, place)
    service.request("HEAD", f"/{locator(data)}")
    assert service.put(data).status == 200
    assert service.get(locator(data)).body == data
    assert corrupt(service) == []
    (folder / md5(data)[:3] / md5(data)).write_bytes(data + b"longer")
    assert service.put(data).status == 200
    assert service.get(locator(data)).body == data
    assert os.listdir(folder / "tmp") == []


@pytest.mark.parametrize("size", SIZES)
def test_other_copy(tmp_path: Path, size: int) -> None:
    """When one copy is corrupt the other one serves, for a large block from the second time."""
    data = os.urandom(size)
    folders = [tmp_path / "0", tmp_path / "1"]
    volumes = [FolderVolume(folder, fsync=False) for folder in folders]
    with running(volumes, dataclasses.replace(QUIET, copies=2)) as service:
        service.put(data)
        first = service.service.mounts.in_order(md5(data))[0]
        assert isinstance(first, FolderVolume)
        flip(first.path, data)
        if size > reading.WHOLE:
            assert service.request("HEAD", f"/{locator(data)}").status == 200
        for _ in range(2):
            assert service.get(locator(data)).body == data
        assert corrupt(service) == [md5(data)]


def test_failing_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume that cannot read is an error, not an absent block; another one may serve."""
    data = os.urandom(10)
    broken, good = MemoryVolume(), MemoryVolume()

    def fail(*_: object, **__: object) -> None:
        raise VolumeError("input/output error")

    broken.put(md5(data), data)
    monkeypatch.setattr(broken, "open", fail)
    monkeypatch.setattr(broken, "peek", fail)
    with running([broken]) as service:
        assert service.get(locator(data)).status == 503
        assert service.request("HEAD", f"/{locator(data)}").status == 503
        assert "holdfast_blocks_volume_errors_total" in service.request("GET", "/metrics").text
    good.put(md5(data), data)
    with running([broken, good]) as service:
        assert service.get(locator(data)).body == data


@pytest.mark.parametrize("size", SIZES)
def test_another_block_with_the_hash(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A different block with the hash of a stored one is refused, and the stored one stays."""
    data, other = os.urandom(size), os.urandom(size)
    volume = MemoryVolume()
    volume.put(md5(data), data)
    # Nobody can wait for two such blocks to be found by chance, so that one is made.
    real = reading.digest

    def digest(reader: object) -> tuple[str, int]:
        found, length = real(reader)  # type: ignore[arg-type]
        return (md5(other) if found == md5(data) else found), length

    monkeypatch.setattr(storing, "digest", digest)
    volume.put(md5(other), data)
    with running([volume]) as service:
        assert service.put(other).status == 500
        with volume.open(md5(other)) as reader:
            assert reader.read(size) == data
